// What is to be told of a build: from kiln's own files and records to the outputs of the action. Pure.

import { isAbsolute, join, relative } from 'node:path';

/** What kiln's exit codes mean; README.md has the same. */
const CODES = {
  1: 'a step of the build failed, or a check found something',
  2: 'the command line is wrong',
  3: 'settings, Dockerfile, or a file that they name are wrong',
  4: 'the daemon or a registry cannot be used, or lacks an image or room',
  5: 'a platform cannot run on the daemon',
  6: 'an artifact is wrong, or its run in a clean image failed',
  7: 'a file of the runner cannot be read or written',
  8: 'some platforms were built, others failed',
  130: 'it was stopped',
};

/** How a run of kiln ended, in words. */
export function ending({ code, signal }) {
  if (signal) return `kiln was ended by ${signal}`;
  return `kiln ended with exit code ${code}${CODES[code] ? `: ${CODES[code]}` : ''}`;
}

/**
 * What `--metadata-file` has.
 *
 * @param {string} text
 * @returns {{metadata: string, digest: string, build: string}}
 */
export function ofMetadata(text) {
  const document = JSON.parse(text);
  // Of bake files there are facts of each target, by its name.
  const all = document['buildx.build.ref'] === undefined ? Object.values(document) : [document];
  return {
    metadata: JSON.stringify(document, undefined, 2),
    digest: (all.length === 1 && all[0]['containerimage.digest']) || '',
    build: (all[0]?.['buildx.build.ref'] ?? '').split('/').pop(),
  };
}

/**
 * The record of this build, if the last one is of this build.
 *
 * @param {string} text the JSON of `kiln history show last --json`
 * @param {number} began milliseconds since 1970
 */
export function recordOf(text, began) {
  const record = JSON.parse(text);
  return record.started >= began ? record : undefined;
}

/**
 * The artifacts of a record, with paths relative to the checkout where they lie below it.
 *
 * @param {object} record
 * @param {string} project the folder that the record's paths are relative to
 * @param {string} workspace the checkout
 * @returns {{path: string, platform: string, size: number, sha256: string | null}[]}
 */
export function artifacts(record, project, workspace) {
  const named = (path) => {
    const full = isAbsolute(path) ? path : join(project, path);
    const inside = relative(workspace, full);
    return inside.startsWith('..') || isAbsolute(inside) ? full : inside;
  };
  return (record.targets ?? []).flatMap((target) =>
    (target.artifacts ?? []).map(({ path, size, sha256 }) => ({
      path: named(path),
      platform: target.platform,
      size,
      sha256: sha256 ?? null,
    })),
  );
}
