import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';

import { install } from '../lib/install.mjs';
import { Runner } from '../lib/runner.mjs';

const folder = mkdtempSync(join(tmpdir(), 'kiln-action-'));
/** What the server has, by path. */
const files = new Map();
const asked = [];
const server = createServer((request, response) => {
  asked.push(request.url);
  const body = files.get(request.url);
  response.writeHead(body === undefined ? 404 : 200);
  response.end(body);
});
let url;

before(async () => {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A program that says that it is a version of kiln. */
function program(path, version) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\necho "kiln ${version}"\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Puts a release on the server. */
function release(version, { says = version, sums } = {}) {
  const staged = join(folder, `release-${version}`);
  program(join(staged, 'kiln'), says);
  const name = `kiln-${version}-linux-x86_64.tar.gz`;
  execFileSync('tar', ['-czf', join(staged, name), '-C', staged, 'kiln']);
  const bytes = readFileSync(join(staged, name));
  const digest = createHash('sha256').update(bytes).digest('hex');
  files.set(`/o/kiln/releases/download/v${version}/${name}`, bytes);
  files.set(`/o/kiln/releases/download/v${version}/SHA256SUMS`, sums ?? `${'0'.repeat(64)}  other\n${digest} *${name}\n`);
}

function world(name, path = '/usr/bin:/bin') {
  const env = {
    PATH: path,
    GITHUB_SERVER_URL: url,
    GITHUB_ACTION_REPOSITORY: 'o/kiln',
    RUNNER_TOOL_CACHE: join(folder, name),
    GITHUB_PATH: join(folder, `${name}.path`),
  };
  const written = [];
  return { env, written, runner: new Runner(env, (text) => written.push(text)) };
}

const FACTS = { own: '9.0.0', arch: 'x64', platform: 'linux' };
const NONE = { binary: '', version: '' };

test('the kiln that is named is used', async () => {
  const { runner, env } = world('named');
  const path = program(join(folder, 'mine/kiln'), '1.2.3');
  assert.equal(await install({ binary: path, version: '' }, runner, FACTS), path);
  assert.equal(readFileSync(env.GITHUB_PATH, 'utf8'), `${dirname(path)}\n`);
  await assert.rejects(install({ binary: join(folder, 'gone'), version: '' }, runner, FACTS), /`binary`: .*gone does not exist/);
  const other = join(folder, 'mine/other');
  writeFileSync(other, '#!/bin/sh\necho no; exit 3\n', { mode: 0o755 });
  await assert.rejects(install({ binary: other, version: '' }, runner, FACTS), /is no kiln that runs here: no/);
});

test('a kiln in the PATH is used if its version is not another', async () => {
  const path = program(join(folder, 'path/kiln'), '1.2.3');
  const { runner } = world('inpath', `${dirname(path)}:/usr/bin:/bin`);
  assert.equal(await install(NONE, runner, FACTS), path);
  assert.equal(await install({ binary: '', version: 'v1.2.3' }, runner, FACTS), path);
  release('2.0.0');
  const got = await install({ binary: '', version: '2.0.0' }, runner, FACTS);
  assert.equal(got, join(folder, 'inpath/kiln/2.0.0/x86_64/kiln'));
});

test('a release is installed once, and found by later steps', async () => {
  release('9.0.0');
  const { runner, env, written } = world('tools');
  const path = await install(NONE, runner, FACTS);
  assert.equal(path, join(env.RUNNER_TOOL_CACHE, 'kiln/9.0.0/x86_64/kiln'));
  assert.equal(execFileSync(path, { encoding: 'utf8' }), 'kiln 9.0.0\n');
  assert.equal(readFileSync(env.GITHUB_PATH, 'utf8'), `${dirname(path)}\n`);
  assert.match(written.join(''), /installed kiln 9\.0\.0 from http/);
  const before = asked.length;
  const again = world('tools');
  assert.equal(await install(NONE, again.runner, FACTS), path);
  assert.equal(asked.length, before);
});

test('what is not what it should be is not installed', async () => {
  const rejected = async (version, words) => {
    const { runner, env } = world(`bad-${version}`);
    await assert.rejects(install({ binary: '', version }, runner, FACTS), (error) => {
      assert.match(error.message, new RegExp(`^kiln ${version} cannot be installed: .*${words}.*hint: .*\`binary\``));
      return true;
    });
    assert.deepEqual(readdirSync(join(env.RUNNER_TOOL_CACHE, 'kiln', version)), []);
  };
  release('3.0.0', { sums: `${'1'.repeat(64)}  kiln-3.0.0-linux-x86_64.tar.gz\n` });
  await rejected('3.0.0', 'SHA256SUMS says 1111');
  release('3.0.1', { sums: `${'1'.repeat(64)}  xkiln-3.0.1-linux-x86_64.tar.gz\n` });
  await rejected('3.0.1', 'does not name');
  await rejected('3.0.2', 'releases/download/v3.0.2/SHA256SUMS: .*404');
});

test('what cannot be is told', async () => {
  const { runner } = world('errors');
  await assert.rejects(install({ binary: '', version: 'latest' }, runner, FACTS), /`latest` is no version; write one such as 9/);
  await assert.rejects(install({ binary: '', version: '../x' }, runner, FACTS), /is no version/);
  await assert.rejects(install(NONE, runner, { ...FACTS, platform: 'win32' }), /no release of kiln for this runner \(win32/);
  await assert.rejects(install(NONE, runner, { ...FACTS, arch: 'riscv64' }), /no release of kiln for this runner/);
});
