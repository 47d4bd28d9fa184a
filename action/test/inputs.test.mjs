import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { KINDS, readInputs } from '../lib/inputs.mjs';

const manifest = readFileSync(new URL('../../action.yml', import.meta.url), 'utf8');

/** The names in a section of action.yml, which is written one way only. */
function names(section) {
  const text = new RegExp(`^${section}:\\n((?:(?:  .*|)\\n)+)`, 'm').exec(manifest)[1];
  return [...text.matchAll(/^ {2}([a-z-]+):$/gm)].map((match) => match[1]);
}

test('action.yml has the inputs that are read, and no others', () => {
  const declared = names('inputs');
  assert.ok(declared.length > 40, declared.join());
  assert.deepEqual([...declared].sort(), Object.keys(KINDS).sort());
});

test('action.yml has the outputs that are set, and no others', () => {
  const main = readFileSync(new URL('../main.mjs', import.meta.url), 'utf8');
  const set = [...main.matchAll(/runner\.output\('([a-z]+)'/g)].map((match) => match[1]);
  assert.deepEqual(names('outputs').sort(), [...new Set(set)].sort());
});

test('inputs are trimmed and read by their kind', () => {
  const inputs = readInputs({
    INPUT_TAGS: ' a:1,b:2\nc:3 ',
    'INPUT_BUILD-ARGS': 'A=1,2\nB=3',
    INPUT_PUSH: 'true',
    INPUT_LOAD: 'FALSE',
    INPUT_CONTEXT: ' sub ',
  });
  assert.deepEqual(inputs.tags, ['a:1', 'b:2', 'c:3']);
  assert.deepEqual(inputs['build-args'], ['A=1,2', 'B=3']);
  assert.equal(inputs.push, true);
  assert.equal(inputs.load, false);
  assert.equal(inputs['no-cache'], false);
  assert.equal(inputs.context, 'sub');
  assert.equal(inputs.file, '');
});

test('an input that is wrong is named', () => {
  assert.throws(() => readInputs({ INPUT_PUSH: 'yes' }), /input `push`: `yes` is no boolean; write true or false/);
  assert.throws(() => readInputs({ INPUT_TAGS: 'a\n"b' }), /input `tags`: line 2 has a quote/);
});
