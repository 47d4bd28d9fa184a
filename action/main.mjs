// The action: one step that builds with kiln what setup-qemu, setup-buildx and build-push-action would.

import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { commandOf, isLocal } from './lib/command.mjs';
import { readInputs } from './lib/inputs.mjs';
import { install } from './lib/install.mjs';
import { artifacts, ending, ofMetadata, recordOf } from './lib/outputs.mjs';
import { run, shown } from './lib/process.mjs';
import { Runner } from './lib/runner.mjs';

const runner = new Runner(process.env);
let folder;
try {
  process.exitCode = await main();
} catch (error) {
  runner.error(error.message);
  process.exitCode = 1;
} finally {
  if (folder) rmSync(folder, { recursive: true, force: true });
}

/** The exit code. */
async function main() {
  const { env } = runner;
  const inputs = readInputs(env);
  const workspace = resolve(env.GITHUB_WORKSPACE || '.');
  const here = resolve(workspace, inputs['working-directory']);
  if (!existsSync(here)) throw new Error(`input \`working-directory\`: ${here} does not exist`);
  // Inputs that are paths are relative to it.
  process.chdir(here);
  const kiln = await install(inputs, runner, { own: ownVersion() });
  if (inputs['install-only']) return 0;

  folder = mkdtempSync(join(env.RUNNER_TEMP || tmpdir(), 'kiln-'));
  // Should this process be killed, the end of the job removes it.
  runner.state('folder', folder);
  const place = { path: (name) => join(folder, name), hasSettings, isFile };
  const command = commandOf(inputs, env, place);
  command.masked.forEach((value) => runner.mask(value));
  command.warnings.forEach((text) => runner.warning(text));
  for (const { path, value } of command.files) writeFileSync(path, value, { mode: 0o600 });
  for (const { from, to } of command.copies) {
    if (!isFile(from)) throw new Error(`input \`secret-files\`: ${resolve(from)} does not exist`);
    copyFileSync(from, to);
    chmodSync(to, 0o600);
  }
  runner.info(`$ ${shown(['kiln', ...command.args])}`);
  const began = Date.now();
  const ended = await run(kiln, command.args, { env: childEnv(command.env) });
  if (!inputs.call) await tell(inputs, kiln, command.context, { place, workspace, began });
  if (ended.code === 0) return 0;
  // kiln itself has annotated the place of a failure.
  if (ended.signal) runner.error(ending(ended));
  else runner.info(ending(ended));
  return ended.code ?? 1;
}

/** Outputs and summary, also of a build that failed. Nothing here makes a build fail that did not. */
async function tell(inputs, kiln, context, { place, workspace, began }) {
  const read = (name) => (isFile(place.path(name)) ? readFileSync(place.path(name), 'utf8') : undefined);
  let build = '';
  const metadata = read('metadata.json');
  if (metadata !== undefined) {
    const known = ofMetadata(metadata);
    build = known.build;
    runner.output('metadata', known.metadata);
    runner.output('digest', known.digest);
  }
  runner.output('imageid', (read('iid') ?? '').trim());
  const record = isLocal(context) ? await lastRecord(kiln, context, began) : undefined;
  build = record?.id ?? build;
  const made = record ? artifacts(record, resolve(context), workspace) : [];
  runner.output('artifacts', JSON.stringify(made));
  runner.output('files', made.map((artifact) => artifact.path).join('\n'));
  runner.output('build', build);
  if (made.length > 0) {
    runner.group('artifacts', made.map(({ path, size, sha256 }) => `${sha256 ?? '-'.padEnd(64)}  ${path} (${size} bytes)`));
  }
  if (inputs.summary && record) await summarize(kiln, context, record.id);
}

/** The record of the build, if it came as far as to have one. */
async function lastRecord(kiln, context, began) {
  const args = ['history', 'show', 'last', '--json', '--path', context];
  const { code, stdout, stderr } = await run(kiln, args, { env: childEnv(), quiet: true });
  try {
    return code === 0 ? recordOf(stdout, began) : undefined;
  } catch (error) {
    runner.warning(`the record of this build cannot be read: ${error.message}: ${stderr.trim()}`);
    return undefined;
  }
}

async function summarize(kiln, context, build) {
  const args = ['report', '--markdown', '--path', context, build];
  const { code, stdout, stderr } = await run(kiln, args, { env: childEnv(), quiet: true });
  if (code === 0) runner.summary(stdout);
  else runner.warning(`there is no summary of this build: ${stderr.trim().split('\n')[0]}`);
}

/** What kiln sees of the environment: all but the inputs, in which secrets may be. */
function childEnv(more = {}) {
  const entries = Object.entries(process.env).filter(([name]) => !/^(INPUT|STATE)_/.test(name));
  return { ...Object.fromEntries(entries), ...more };
}

/** The version of kiln that was made of the same commit as this action. */
function ownVersion() {
  const manifest = readFileSync(fileURLToPath(new URL('../Cargo.toml', import.meta.url)), 'utf8');
  return /^version = "(.+)"$/m.exec(manifest)[1];
}

function isFile(path) {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Whether a folder says how kiln should build it. */
function hasSettings(context) {
  if (isFile(join(context, 'kiln.toml'))) return true;
  const project = join(context, 'pyproject.toml');
  return isFile(project) && /^\s*\[\s*tool\s*\.\s*kiln\s*[\].]/m.test(readFileSync(project, 'utf8'));
}
