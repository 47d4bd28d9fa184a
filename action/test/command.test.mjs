import assert from 'node:assert/strict';
import { test } from 'node:test';

import { buildCommand, commandOf, gitContext, isLocal } from '../lib/command.mjs';
import { readInputs } from '../lib/inputs.mjs';

const EVENT = { GITHUB_REPOSITORY: 'o/r', GITHUB_REF: 'refs/heads/main', GITHUB_SHA: 'abc' };

function command(inputs, { settings = false, files = [], env = EVENT } = {}) {
  const variables = Object.entries(inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]);
  const place = { path: (name) => `/t/${name}`, hasSettings: () => settings, isFile: (path) => files.includes(path) };
  return buildCommand(readInputs(Object.fromEntries(variables)), env, place);
}

const always = ['--metadata-file', '/t/metadata.json', '--iidfile', '/t/iid'];

test('without inputs the project in the checkout is built', () => {
  assert.deepEqual(command({}, { settings: true }).args, ['build', '--progress=plain', ...always, '--', '.']);
});

test('the build of the guide', () => {
  const { args, files, warnings } = command({
    context: '.',
    file: './Dockerfile.build',
    platforms: 'linux/arm64,linux/386',
    target: 'export',
    'build-args': 'ARCH=arm64\nENABLE_LTO=no',
    'cache-from': 'type=gha,scope=build-arm64',
    'cache-to': 'type=gha,mode=max,scope=build-arm64',
    outputs: 'type=local,dest=.',
  });
  const expected = [
    ...['build', '--progress=plain', '--file', './Dockerfile.build', '--target', 'export'],
    ...['--platform', 'linux/arm64,linux/386', '--build-arg', 'ARCH=arm64', '--build-arg', 'ENABLE_LTO=no'],
    ...['--output', 'type=local,dest=.', '--cache-from', 'type=gha,scope=build-arm64'],
    ...['--cache-to', 'type=gha,mode=max,scope=build-arm64', ...always, '--', '.'],
  ];
  assert.deepEqual(args, expected);
  assert.deepEqual([files, warnings], [[], []]);
});

test('every input that is a plain option becomes that option', () => {
  const { args } = command({
    'add-hosts': 'a:1.2.3.4',
    allow: 'network.host',
    annotations: 'a=b,c',
    attests: 'type=sbom,generator=x',
    'build-contexts': 'base=../b',
    call: '',
    'cgroup-parent': '/g',
    config: 'k.toml',
    labels: 'x=y',
    load: 'true',
    network: 'none',
    'no-cache': 'true',
    'no-cache-filters': 'a,b',
    provenance: 'mode=max',
    pull: 'true',
    push: 'true',
    sbom: 'false',
    set: 'nuitka.lto=no\nproject.data=["a=b","c=d"]',
    'shm-size': '1g',
    ssh: 'default,x=/s',
    tags: 'a:1',
    twin: 'off',
    ulimit: 'nofile=1:2',
    verify: 'false',
  });
  const text = args.join(' ');
  for (const words of [
    '--add-host a:1.2.3.4', '--allow network.host', '--annotation a=b,c', '--attest type=sbom,generator=x',
    '--build-context base=../b', '--cgroup-parent /g', '--config k.toml', '--label x=y', '--load', '--network none',
    '--no-cache', '--no-cache-filter a --no-cache-filter b', '--provenance=mode=max', '--pull', '--push', '--sbom=false',
    '--set nuitka.lto=no', '--set project.data=["a=b","c=d"]', '--shm-size 1g', '--ssh default --ssh x=/s', '--tag a:1',
    '--twin off', '--ulimit nofile=1:2', '--no-verify',
  ]) {
    assert.ok(` ${text} `.includes(` ${words} `), words);
  }
});

test('secrets go through files, and are in no argument', () => {
  const { args, files, copies, masked, warnings } = command({
    secrets: 'TOKEN=s3cret=,x\n"KEY=-----BEGIN\nline two\n-----END"\nEMPTY=\n=x',
    'secret-envs': 'A=VARIABLE',
    'secret-files': 'F=./file,1',
  });
  assert.deepEqual(files, [
    { path: '/t/secret-0', value: 's3cret=,x' },
    { path: '/t/secret-1', value: '-----BEGIN\nline two\n-----END' },
  ]);
  assert.deepEqual(masked, files.map((file) => file.value));
  assert.deepEqual(copies, [{ from: './file,1', to: '/t/secret-file-0' }]);
  const secrets = args.filter((_, index) => args[index - 1] === '--secret');
  assert.deepEqual(secrets, [
    'id=A,env=VARIABLE', 'id=TOKEN,src=/t/secret-0', 'id=KEY,src=/t/secret-1', 'id=F,src=/t/secret-file-0',
  ]);
  assert.deepEqual(warnings, [
    'input `secrets`: entry 3 is no ID=VALUE, or its value is empty; it is left out',
    'input `secrets`: entry 4 is no ID=VALUE, or its value is empty; it is left out',
  ]);
});

test('without settings for kiln the Dockerfile of the context is meant', () => {
  const file = (inputs, place) => {
    const { args } = command(inputs, place);
    return args.includes('--file') ? args[args.indexOf('--file') + 1] : undefined;
  };
  assert.equal(file({}, { files: ['Dockerfile'] }), 'Dockerfile');
  assert.equal(file({ context: 'sub/' }, { files: ['sub/Dockerfile'] }), 'sub/Dockerfile');
  assert.equal(file({}, { files: ['Dockerfile'], settings: true }), undefined);
  assert.equal(file({ set: 'build.recipe=debian' }, { files: ['Dockerfile'] }), undefined);
  assert.equal(file({ config: 'k.toml' }, { files: ['Dockerfile'] }), undefined);
  assert.equal(file({ file: 'x' }, { files: ['Dockerfile'] }), 'x');
  assert.equal(file({}), undefined);
});

test('bake files are built with kiln bake', () => {
  const bake = (inputs) => {
    const variables = Object.entries(inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]);
    return commandOf(readInputs(Object.fromEntries(variables)), EVENT, { path: (name) => `/t/${name}` });
  };
  const { args, context, warnings } = bake({
    files: './docker-bake.hcl\ncwd://meta.json',
    targets: 'app, docs',
    vars: 'TAG=v1,2',
    set: '*.args.A=1',
    platforms: 'linux/amd64,linux/arm64',
    'cache-from': 'type=gha\ntype=local,src=c',
    'cache-to': 'type=gha,mode=max',
    push: 'true',
    pull: 'true',
    provenance: 'false',
    twin: 'off',
  });
  const expected = [
    ...['bake', '--progress=plain', '--file', './docker-bake.hcl', '--file', 'meta.json', '--var', 'TAG=v1,2'],
    ...['--set', '*.platform=linux/amd64,linux/arm64', '--set', '*.cache-from=type=gha'],
    ...['--set', '*.cache-from=type=local,src=c', '--set', '*.cache-to=type=gha,mode=max', '--set', '*.args.A=1'],
    ...['--push', '--pull', '--provenance=false', '--twin', 'off', '--metadata-file', '/t/metadata.json'],
    ...['--', 'app', 'docs'],
  ];
  assert.deepEqual([args, context, warnings], [expected, '.', []]);
  // Without either there is a word for it, and what has no meaning is said.
  const other = bake({ bake: 'true', tags: 'a', call: 'check' });
  assert.deepEqual(other.args, ['bake', '--progress=plain', '--call', 'check', '--']);
  assert.deepEqual(other.warnings, ['input `tags`: it has no effect with bake files; say it there, or with `set`']);
  assert.equal(bake({ bake: 'false', file: 'D' }).args[0], 'build');
});

test('contexts may be the commit of the event', () => {
  assert.equal(gitContext(EVENT), 'https://github.com/o/r.git#abc');
  const request = { ...EVENT, GITHUB_REF: 'refs/pull/3/merge', GITHUB_SERVER_URL: 'https://git.example.org' };
  assert.equal(gitContext(request), 'https://git.example.org/o/r.git#refs/pull/3/merge');
  const { args, env, masked } = command({ context: '{{defaultContext}}:docker', 'github-token': 'tok' });
  assert.equal(args.at(-1), 'https://github.com/o/r.git#abc:docker');
  const basic = Buffer.from('x-access-token:tok').toString('base64');
  assert.deepEqual(env, {
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'http.https://github.com/.extraheader',
    GIT_CONFIG_VALUE_0: `AUTHORIZATION: basic ${basic}`,
  });
  assert.deepEqual(masked, ['tok', basic]);
  // The token goes nowhere else.
  assert.deepEqual(command({ context: 'https://elsewhere.example/o/r.git', 'github-token': 'tok' }).env, {});
  assert.deepEqual(command({ 'github-token': 'tok' }).env, {});
});

test('folders are told from what lies elsewhere', () => {
  for (const context of ['.', 'sub', '/a/b', '../x', 'git']) assert.ok(isLocal(context), context);
  for (const context of ['https://x/y.git', 'git@github.com:a/b', 'ssh://x', 'github.com/a/b', '-']) {
    assert.ok(!isLocal(context), context);
  }
});

test('what has no effect is said, what begins like an option is none', () => {
  const { args, warnings } = command({ builder: 'x', context: '--help', verify: '--version', call: 'check' });
  assert.deepEqual(warnings, ['input `builder`: `x` has no effect: kiln has no builders']);
  assert.deepEqual(args.slice(-6), ['--set', 'verify.run=--version', '--call', 'check', '--', '--help']);
});
