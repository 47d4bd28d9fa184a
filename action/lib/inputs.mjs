// The inputs of the action: which there are, and how each is read. `action.yml` has the same names. Pure.

import { list } from './list.mjs';

/** A list whose items may hold commas. */
const LINES = { commas: false };

/** How each input is read. */
export const KINDS = {
  // As in docker/build-push-action.
  'add-hosts': listed(),
  allow: listed(),
  annotations: listed(LINES),
  attests: listed(LINES),
  'build-args': listed(LINES),
  'build-contexts': listed(LINES),
  builder: text,
  'cache-from': listed(LINES),
  'cache-to': listed(LINES),
  call: text,
  'cgroup-parent': text,
  context: text,
  file: text,
  'github-token': text,
  labels: listed(LINES),
  load: truth,
  network: text,
  'no-cache': truth,
  'no-cache-filters': listed(),
  outputs: listed({ commas: false, quotes: false }),
  platforms: listed(),
  provenance: text,
  pull: truth,
  push: truth,
  sbom: text,
  'secret-envs': listed(),
  'secret-files': listed(LINES),
  secrets: listed(LINES),
  'shm-size': text,
  ssh: listed(),
  tags: listed(),
  target: text,
  ulimit: listed(LINES),
  // As in docker/bake-action.
  bake: truth,
  files: listed(),
  targets: listed(),
  vars: listed(LINES),
  // Ours.
  binary: text,
  config: text,
  'install-only': truth,
  set: listed(LINES),
  summary: truth,
  twin: text,
  verify: text,
  version: text,
  'working-directory': text,
};

/**
 * All inputs, by their names.
 *
 * @param {Record<string, string | undefined>} env the variables of the process
 */
export function readInputs(env) {
  const inputs = {};
  for (const [name, read] of Object.entries(KINDS)) {
    const value = env[`INPUT_${name.toUpperCase()}`] ?? '';
    try {
      inputs[name] = read(value.trim());
    } catch (error) {
      throw new Error(`input \`${name}\`: ${error.message}`);
    }
  }
  return inputs;
}

function text(value) {
  return value;
}

function listed(options) {
  return (value) => list(value, options);
}

/** A boolean of YAML 1.2, as the runner's toolkit reads it; what is not given is false. */
function truth(value) {
  if (['true', 'True', 'TRUE'].includes(value)) return true;
  if (['', 'false', 'False', 'FALSE'].includes(value)) return false;
  throw new Error(`\`${value}\` is no boolean; write true or false`);
}
