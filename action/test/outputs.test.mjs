import assert from 'node:assert/strict';
import { test } from 'node:test';

import { artifacts, ending, ofMetadata, recordOf } from '../lib/outputs.mjs';
import { shown } from '../lib/process.mjs';

test('metadata has the digest and the id of the build', () => {
  const document = { 'buildx.build.ref': 'kiln/kiln/b1', 'containerimage.digest': 'sha256:d' };
  const { metadata, digest, build } = ofMetadata(JSON.stringify(document));
  assert.deepEqual([JSON.parse(metadata), digest, build], [document, 'sha256:d', 'b1']);
  assert.deepEqual(ofMetadata('{}'), { metadata: '{}', digest: '', build: '' });
  // Of bake files there is a digest if there is one target.
  const { digest: one, build: of } = ofMetadata(JSON.stringify({ app: document }));
  assert.deepEqual([one, of], ['sha256:d', 'b1']);
  const { digest: none, build: ofBoth } = ofMetadata(JSON.stringify({ app: document, docs: document }));
  assert.deepEqual([none, ofBoth], ['', 'b1']);
});

test('artifacts have the paths that the next step sees', () => {
  const target = (platform, artifacts) => ({ platform, artifacts });
  const record = {
    targets: [
      target('linux/amd64', [{ path: 'dist/a', size: 3, sha256: 'aa' }, { path: '/elsewhere/b', size: 4 }]),
      { platform: 'linux/386' },
    ],
  };
  assert.deepEqual(artifacts(record, '/w/sub', '/w'), [
    { path: 'sub/dist/a', platform: 'linux/amd64', size: 3, sha256: 'aa' },
    { path: '/elsewhere/b', platform: 'linux/amd64', size: 4, sha256: null },
  ]);
});

test('the record of an earlier build is not taken for this one', () => {
  assert.equal(recordOf('{"started":999}', 1000), undefined);
  assert.equal(recordOf('{"started":1000,"id":"b"}', 1000).id, 'b');
});

test('an ending is told in words', () => {
  assert.equal(ending({ code: 6 }), 'kiln ended with exit code 6: an artifact is wrong, or its run in a clean image failed');
  assert.equal(ending({ code: 99 }), 'kiln ended with exit code 99');
  assert.equal(ending({ code: null, signal: 'SIGKILL' }), 'kiln was ended by SIGKILL');
});

test('command lines are shown as one would type them', () => {
  assert.equal(shown(['kiln', 'build', "it's", 'a b', '']), "kiln build 'it'\\''s' 'a b' ''");
});
