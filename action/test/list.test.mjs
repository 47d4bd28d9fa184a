import assert from 'node:assert/strict';
import { test } from 'node:test';

import { list, records } from '../lib/list.mjs';

test('records are lines, fields stand between commas', () => {
  const cases = [
    ['', []],
    ['a', [['a']]],
    ['a,b\nc', [['a', 'b'], ['c']]],
    ['a\r\nb\rc\n', [['a'], ['b'], ['c']]],
    ['\n\na\n\n', [['a']]],
    ['a,', [['a', '']]],
    ['"a,b",c', [['a,b', 'c']]],
    ['"a\nb"', [['a\nb']]],
    ['"say ""x"""', [['say "x"']]],
    ['""', [['']]],
    ['a "b" c', [['a "b" c']]],
    ['"a" b,c', [['"a" b', 'c']]],
    ['key="a b"', [['key="a b"']]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(records(text), expected, JSON.stringify(text));
  assert.deepEqual(records('"a,b"', { quotes: false }), [['"a', 'b"']]);
  assert.throws(() => records('x\n"a'), /line 2 has a quote that is not closed/);
});

test('items are fields, or lines where items hold commas', () => {
  assert.deepEqual(list('linux/amd64, linux/arm64\nlinux/386\n'), ['linux/amd64', 'linux/arm64', 'linux/386']);
  assert.deepEqual(list('"a,b"'), ['a', 'b']);
  const lines = { commas: false };
  assert.deepEqual(list('type=gha,mode=max\n  type=local,src=x  \n', lines), ['type=gha,mode=max', 'type=local,src=x']);
  assert.deepEqual(list('"A=1,2"\nB="x y"', lines), ['A=1,2', 'B="x y"']);
  assert.deepEqual(list('"KEY=one\ntwo"', lines), ['KEY=one\ntwo']);
  assert.deepEqual(list('type=local,"dest=a b"', { commas: false, quotes: false }), ['type=local,"dest=a b"']);
  // There are no comments, as in build-push-action.
  assert.deepEqual(list('# a\nb', lines), ['# a', 'b']);
  assert.deepEqual(list(' \n , \n'), []);
});
