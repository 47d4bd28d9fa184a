import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { Runner, defused, entry } from '../lib/runner.mjs';

const folder = mkdtempSync(join(tmpdir(), 'kiln-action-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function runner(variables = {}) {
  const written = [];
  return [new Runner(variables, (text) => written.push(text)), () => written.join('')];
}

test('values cannot end before their end', () => {
  const evil = 'x\nEOF\ndigest<<EOF\nsha256:evil';
  const text = entry('name', evil);
  const [, end] = /^name<<(\S+)\n/.exec(text);
  assert.equal(text, `name<<${end}\n${evil}\n${end}\n`);
  assert.notEqual(end, /<<(\S+)/.exec(entry('name', evil))[1]);
  assert.throws(() => entry('name', 'a\nmark\nb', 'mark'), /mark of its end/);
});

test('commands are escaped, and text is none', () => {
  const [to, written] = runner();
  to.warning('50%\n::error::x');
  to.error('a\r');
  to.info('::set-output name=x::y ##[error]z');
  to.group('t\n::x', ['  ::add-mask::a']);
  assert.equal(
    written(),
    '::warning title=kiln::50%25%0A::error::x\n::error title=kiln::a%0D\n: :set-output name=x::y ## [error]z\n' +
      '::group::t%0A::x\n  : :add-mask::a\n::endgroup::\n',
  );
  assert.equal(defused('a :: b\n::c'), 'a :: b\n: :c');
});

test('every line of a secret is hidden', () => {
  const [to, written] = runner();
  to.mask('one\r\ntwo\n\nthree');
  to.mask('single');
  assert.equal(
    written(),
    '::add-mask::one%0D%0Atwo%0A%0Athree\n::add-mask::one\n::add-mask::two\n::add-mask::three\n::add-mask::single\n',
  );
});

test('files of the runner are appended to, and a summary that is too large is left out', () => {
  const file = join(folder, 'summary');
  writeFileSync(file, '# before\n');
  const [to, written] = runner({ GITHUB_STEP_SUMMARY: file });
  to.summary('# mine');
  to.summary('x'.repeat(1024 * 1024));
  assert.equal(readFileSync(file, 'utf8'), '# before\n# mine\n');
  assert.match(written(), /^::warning .*left out/);
  // A runner without the file is none of ours.
  to.output('a', 'b');
});

test('a folder of programs counts for this step, too', () => {
  const file = join(folder, 'path');
  const variables = { GITHUB_PATH: file, PATH: '/bin' };
  runner(variables)[0].path('/tools');
  assert.equal(readFileSync(file, 'utf8'), '/tools\n');
  assert.equal(variables.PATH, '/tools:/bin');
});
