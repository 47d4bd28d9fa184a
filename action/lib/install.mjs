// The kiln program: one that is there, or that of a release.

import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

import { run, which } from './process.mjs';

/** Names of architectures in releases: those of kiln's own programs. */
const ARCHITECTURES = { x64: 'x86_64', arm64: 'arm64' };

/**
 * The path of the program that is to be used.
 *
 * @param {{binary: string, version: string}} inputs
 * @param {import('./runner.mjs').Runner} runner
 * @param {{own: string, arch?: string, platform?: string}} facts `own`: the version that the action belongs to
 */
export async function install(inputs, runner, { own, arch = process.arch, platform = process.platform }) {
  const { env } = runner;
  if (inputs.binary) {
    const path = resolve(inputs.binary);
    if (!existsSync(path)) {
      throw new Error(`input \`binary\`: ${path} does not exist`);
    }
    await version(path, env);
    // It may have another name than later steps will call it by.
    if (basename(path) === 'kiln') runner.path(dirname(path));
    return path;
  }
  const wanted = inputs.version.replace(/^v/, '');
  if (wanted && !/^\d+\.\d+\.\d+([-+.][0-9A-Za-z.-]+)?$/.test(wanted)) {
    throw new Error(`input \`version\`: \`${inputs.version}\` is no version; write one such as ${own}`);
  }
  const there = which('kiln', env);
  if (there) {
    const found = await version(there, env).catch(() => undefined);
    if (found && (!wanted || found === wanted)) {
      runner.info(`using ${there}, version ${found}`);
      return there;
    }
    runner.info(`not using ${there}: it is ${found ? `version ${found}` : 'no kiln that runs'}`);
  }
  const path = await release(wanted || own, runner, { arch, platform });
  runner.path(dirname(path));
  return path;
}

/** The version that a program says it has. */
export async function version(path, env) {
  const { code, stdout, stderr } = await run(path, ['--version'], { env, quiet: true });
  const found = /^kiln (\S+)/.exec(stdout);
  if (code !== 0 || !found) {
    throw new Error(`${path} is no kiln that runs here: ${(stderr || stdout).trim().split('\n')[0]}`);
  }
  return found[1];
}

/** The program of a release, from the folder of tools or from the server. */
async function release(wanted, runner, machine) {
  const { env } = runner;
  const arch = ARCHITECTURES[machine.arch];
  if (machine.platform !== 'linux' || !arch) {
    throw new Error(
      `there is no release of kiln for this runner (${machine.platform}, ${machine.arch}); ` +
        'use a Linux runner, or name a kiln with the input `binary`',
    );
  }
  const tools = env.RUNNER_TOOL_CACHE || join(tmpdir(), 'kiln-tools');
  const folder = join(tools, 'kiln', wanted, arch);
  const [path, mark] = [join(folder, 'kiln'), `${folder}.complete`];
  if (existsSync(mark) && existsSync(path)) {
    runner.info(`using kiln ${wanted} from the runner's tools`);
    return path;
  }
  const repository = env.GITHUB_ACTION_REPOSITORY || env.GITHUB_REPOSITORY;
  const base = `${env.GITHUB_SERVER_URL || 'https://github.com'}/${repository}/releases/download/v${wanted}`;
  const name = `kiln-${wanted}-linux-${arch}.tar.gz`;
  mkdirSync(dirname(folder), { recursive: true });
  // Beside its place, so that it gets there by a rename.
  const staged = mkdtempSync(join(dirname(folder), '.new-'));
  try {
    await download(`${base}/SHA256SUMS`, join(staged, 'SHA256SUMS'), env);
    await download(`${base}/${name}`, join(staged, name), env);
    verify(join(staged, name), readFileSync(join(staged, 'SHA256SUMS'), 'utf8'));
    const unpacked = join(staged, 'unpacked');
    mkdirSync(unpacked);
    await must('tar', ['-xzf', join(staged, name), '-C', unpacked, '--no-same-owner'], env);
    const program = [join(unpacked, 'kiln'), join(unpacked, name.slice(0, -'.tar.gz'.length), 'kiln')].find(existsSync);
    if (!program) throw new Error(`${base}/${name} holds no program kiln`);
    chmodSync(program, 0o755);
    await version(program, env);
    rmSync(folder, { recursive: true, force: true });
    renameSync(dirname(program), folder);
    writeFileSync(mark, '');
  } catch (error) {
    throw new Error(
      `kiln ${wanted} cannot be installed: ${error.message}; hint: name another version with the input \`version\`, ` +
        'or a kiln of your own with the input `binary`, or put one into the PATH in a step before',
    );
  } finally {
    rmSync(staged, { recursive: true, force: true });
  }
  runner.info(`installed kiln ${wanted} from ${base}`);
  return path;
}

/** Fails unless the file has the digest that the list has for its name. */
export function verify(file, sums) {
  const name = basename(file);
  const line = sums.split('\n').find((text) => text.replace(/^[0-9a-f]{64} [ *]/i, '') === name && text !== name);
  if (!line) throw new Error(`SHA256SUMS does not name ${name}`);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (line.slice(0, 64).toLowerCase() !== digest) {
    throw new Error(`${name} has the SHA-256 ${digest}, and SHA256SUMS says ${line.slice(0, 64)}`);
  }
}

/** curl knows of proxies, certificates and retries what Node does not, and every runner has it. */
async function download(url, file, env) {
  const limits = ['--retry', '3', '--connect-timeout', '20', '--max-time', '600'];
  await must('curl', ['--fail', '--silent', '--show-error', '--location', ...limits, '--output', file, url], env, url);
}

async function must(program, args, env, what = args.join(' ')) {
  const { code, stderr } = await run(program, args, { env, quiet: true });
  if (code !== 0) throw new Error(`${what}: ${stderr.trim().split('\n').pop() || `${program} ended with ${code}`}`);
}
