import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = mkdtempSync(join(tmpdir(), 'kiln-action-'));
after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;

/** Stands in for kiln: notes what it is called with, writes what it is asked for, and has a history of one build. */
const KILN = `#!/bin/sh
echo "$@" >> "$FAKE/calls"
env > "$FAKE/env"
case $1 in
  --version) echo "kiln 1.2.3" ;;
  build)
    while [ $# -gt 0 ]; do
      case $1 in
        --metadata-file) echo '{"buildx.build.ref":"kiln/kiln/b7","containerimage.digest":"sha256:d"}' > "$2" ;;
        --iidfile) printf 'sha256:i' > "$2" ;;
        --secret) file=\${2#*src=}; cat "$file" > "$FAKE/secret"; stat -c %a "$file" > "$FAKE/mode" ;;
      esac
      shift
    done
    exit $FAKE_CODE ;;
  history) echo '{"id":"b7","started":'$FAKE_STARTED',"targets":[{"platform":"linux/amd64","artifacts":[{"path":"dist/p","size":1,"sha256":"aa"}]}]}' ;;
  report) [ -z "$FAKE_NO_REPORT" ] || { echo "no such command" >&2; exit 2; }; echo "## built $5" ;;
esac
`;

/** Runs the action in a checkout of its own. */
function step(inputs, variables = {}) {
  const folder = join(root, String((count += 1)));
  for (const name of ['bin', 'checkout/app', 'temp', 'fake']) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'bin/kiln'), KILN, { mode: 0o755 });
  writeFileSync(join(folder, 'checkout/kiln.toml'), '');
  const file = (name) => join(folder, name);
  const env = {
    PATH: `${file('bin')}:${process.env.PATH}`,
    GITHUB_WORKSPACE: file('checkout'),
    RUNNER_TEMP: file('temp'),
    FAKE: file('fake'),
    FAKE_CODE: '0',
    FAKE_STARTED: '9999999999999',
    INPUT_SUMMARY: 'true',
    ...variables,
  };
  for (const name of ['OUTPUT', 'STATE', 'PATH', 'STEP_SUMMARY']) {
    env[`GITHUB_${name}`] = file(name);
    writeFileSync(file(name), '');
  }
  for (const [name, value] of Object.entries(inputs)) env[`INPUT_${name.toUpperCase()}`] = value;
  const main = fileURLToPath(new URL('../main.mjs', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [main], { env, encoding: 'utf8' });
  const read = (name) => (existsSync(file(name)) ? readFileSync(file(name), 'utf8') : undefined);
  const outputs = Object.fromEntries(
    [...read('OUTPUT').matchAll(/^([a-z]+)<<(\S+)\n([\s\S]*?)\n\2$/gm)].map(([, name, , value]) => [name, value]),
  );
  const left = readdirSync(file('temp'));
  return { status, stdout, stderr, outputs, read, left, file };
}

test('a build has its outputs and its summary, and leaves nothing', () => {
  const { status, stdout, stderr, outputs, read, left } = step({ secrets: 'A=b=c', platforms: 'linux/amd64' });
  assert.equal(status, 0, stdout + stderr);
  const [, build, history, report] = read('fake/calls').split('\n');
  assert.match(build, /^build --progress=plain --platform linux\/amd64 --secret id=A,src=\S+ --metadata-file \S+ --iidfile \S+ -- \.$/);
  assert.equal(history, 'history show last --json --path .');
  assert.equal(report, 'report --markdown --path . b7');
  assert.deepEqual([read('fake/secret'), read('fake/mode')], ['b=c', '600\n']);
  assert.ok(stdout.startsWith('using ') && stdout.includes('::add-mask::b=c\n'), stdout);
  assert.deepEqual(JSON.parse(outputs.artifacts), [{ path: 'dist/p', platform: 'linux/amd64', size: 1, sha256: 'aa' }]);
  const { files, build: id, digest, imageid } = outputs;
  assert.deepEqual({ files, id, digest, imageid }, { files: 'dist/p', id: 'b7', digest: 'sha256:d', imageid: 'sha256:i' });
  assert.equal(read('STEP_SUMMARY'), '## built b7\n');
  assert.deepEqual(left, []);
  assert.match(read('STATE'), /^folder<<kiln_/);
  assert.ok(!/^INPUT_/m.test(read('fake/env')), 'secrets are in no environment');
});

test('a build that failed has them, too', () => {
  const { status, stdout, outputs, read, left } = step({ secrets: 'A=b' }, { FAKE_CODE: '8' });
  assert.equal(status, 8);
  assert.match(stdout, /kiln ended with exit code 8: some platforms were built, others failed/);
  assert.equal(outputs.build, 'b7');
  assert.equal(read('STEP_SUMMARY'), '## built b7\n');
  assert.deepEqual(left, []);
});

test('without a report there is a warning, and without a record of its own none of another', () => {
  const without = step({}, { FAKE_NO_REPORT: '1' });
  assert.equal(without.status, 0);
  assert.match(without.stdout, /::warning title=kiln::there is no summary of this build: no such command/);
  const older = step({}, { FAKE_STARTED: '5' });
  assert.equal(older.outputs.artifacts, '[]');
  assert.equal(older.read('STEP_SUMMARY'), '');
});

test('paths are relative to the working directory, those of artifacts to the checkout', () => {
  const { status, outputs, read } = step({ 'working-directory': 'app', 'secret-files': 'A=token' });
  assert.equal(status, 1);
  assert.equal(read('fake/calls'), '--version\n');
  assert.deepEqual(outputs, {});
  assert.equal(step({ 'working-directory': 'app' }).outputs.files, 'app/dist/p');
});

test('kiln can be installed for later steps alone, or asked instead of building', () => {
  const installed = step({ 'install-only': 'true' });
  assert.deepEqual([installed.status, installed.read('fake/calls')], [0, '--version\n']);
  const asked = step({ call: 'check' });
  assert.equal(asked.status, 0);
  assert.match(asked.read('fake/calls'), /^--version\nbuild --progress=plain --call check -- \.\n$/);
  assert.deepEqual(asked.outputs, {});
});

test('what is wrong is one error', () => {
  const { status, stdout, left } = step({ 'working-directory': 'gone' });
  assert.equal(status, 1);
  assert.match(stdout, /^::error title=kiln::input `working-directory`: \S+gone does not exist\n$/);
  assert.deepEqual(left, []);
  const unsaid = step({ 'secret-files': 'A=gone' });
  assert.match(unsaid.stdout, /::error title=kiln::input `secret-files`: \S+gone does not exist/);
  assert.deepEqual(unsaid.left, []);
});
