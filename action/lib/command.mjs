// From inputs to the command line of kiln. Pure: what has to be written to files is returned.

/**
 * @typedef {object} Command
 * @property {string[]} args the arguments of kiln
 * @property {string} context the build context, as it was given to kiln
 * @property {Record<string, string>} env variables of kiln beside those of this process
 * @property {{path: string, value: string}[]} files secrets that are to be written before
 * @property {{from: string, to: string}[]} copies files that are to be copied before
 * @property {string[]} masked values that must not be seen
 * @property {string[]} warnings what has no effect, in words
 */

/** Inputs that say something of one build. */
const OF_BUILDS = [
  ...['add-hosts', 'annotations', 'attests', 'build-args', 'build-contexts', 'cgroup-parent', 'config', 'context', 'file'],
  ...['labels', 'network', 'no-cache-filters', 'outputs', 'secret-envs', 'secret-files', 'secrets', 'shm-size', 'ssh'],
  ...['tags', 'target', 'ulimit'],
];

/**
 * What the inputs ask for: a build, or the targets of bake files.
 *
 * @param {ReturnType<import('./inputs.mjs').readInputs>} inputs
 * @param {Record<string, string | undefined>} env
 * @param {Parameters<typeof buildCommand>[2]} place
 * @returns {Command}
 */
export function commandOf(inputs, env, place) {
  const isBake = inputs.bake || inputs.files.length > 0 || inputs.targets.length > 0;
  return isBake ? bakeCommand(inputs, place) : buildCommand(inputs, env, place);
}

/**
 * The targets of bake files that the inputs ask for.
 *
 * @param {ReturnType<import('./inputs.mjs').readInputs>} inputs
 * @param {{path: (name: string) => string}} place
 * @returns {Command}
 */
export function bakeCommand(inputs, place) {
  const args = ['bake', '--progress=plain'];
  const given = OF_BUILDS.filter((name) => inputs[name].length > 0);
  const warnings = given.map((name) => `input \`${name}\`: it has no effect with bake files; say it there, or with \`set\``);
  warnings.push(...withoutEffect(inputs));

  const each = (flag, values) => values.forEach((value) => args.push(flag, value));
  each('--file', inputs.files.map((file) => file.replace(/^cwd:\/\//, '')));
  each('--var', inputs.vars);
  if (inputs.platforms.length > 0) args.push('--set', `*.platform=${inputs.platforms.join(',')}`);
  for (const name of ['cache-from', 'cache-to']) {
    // All that are given take the place of what the files say.
    each('--set', inputs[name].map((value) => `*.${name}=${value}`));
  }
  each('--set', inputs.set);
  for (const name of ['load', 'push', 'no-cache', 'pull']) {
    if (inputs[name]) args.push(`--${name}`);
  }
  each('--allow', inputs.allow);
  for (const name of ['provenance', 'sbom']) {
    if (inputs[name]) args.push(`--${name}=${inputs[name]}`);
  }
  if (inputs.twin) args.push('--twin', inputs.twin);
  if (inputs.call) args.push('--call', inputs.call);
  else args.push('--metadata-file', place.path('metadata.json'));
  args.push('--', ...inputs.targets);
  return { args, context: '.', env: {}, files: [], copies: [], masked: [], warnings };
}

/**
 * The build that the inputs ask for.
 *
 * @param {ReturnType<import('./inputs.mjs').readInputs>} inputs
 * @param {Record<string, string | undefined>} env the variables of the process
 * @param {{path: (name: string) => string, hasSettings: (context: string) => boolean, isFile: (path: string) => boolean}} place
 *   `path` names files in a folder of this run; the others look at the checkout
 * @returns {Command}
 */
export function buildCommand(inputs, env, place) {
  const args = ['build', '--progress=plain'];
  const [warnings, files, copies, masked] = [[], [], [], []];
  const git = gitContext(env);
  const filled = (value) => value.replaceAll(/\{\{\s*defaultContext\s*\}\}/g, () => git);
  const context = filled(inputs.context) || '.';
  const contexts = inputs['build-contexts'].map(filled);

  const each = (flag, values) => values.forEach((value) => args.push(flag, value));
  const single = (flag, value) => value && args.push(flag, value);
  const on = (flag, value) => value && args.push(flag);

  single('--config', inputs.config);
  single('--file', dockerfile(inputs, context, place));
  single('--target', inputs.target);
  single('--platform', inputs.platforms.join(','));
  each('--build-arg', inputs['build-args']);
  each('--build-context', contexts);
  each('--set', inputs.set);

  const secret = (input, index, use) => {
    const entry = inputs[input][index];
    const equals = entry.indexOf('=');
    const [id, value] = [entry.slice(0, equals), entry.slice(equals + 1)];
    if (equals < 1 || value === '') {
      // The entry is not shown: the secret may be in it.
      warnings.push(`input \`${input}\`: entry ${index + 1} is no ID=VALUE, or its value is empty; it is left out`);
    } else {
      args.push('--secret', use(id, value));
    }
  };
  inputs['secret-envs'].forEach((_, index) => secret('secret-envs', index, (id, name) => field({ id, env: name })));
  inputs.secrets.forEach((_, index) =>
    secret('secrets', index, (id, value) => {
      const path = place.path(`secret-${index}`);
      masked.push(value);
      files.push({ path, value });
      return field({ id, src: path });
    }),
  );
  inputs['secret-files'].forEach((_, index) =>
    secret('secret-files', index, (id, from) => {
      const to = place.path(`secret-file-${index}`);
      copies.push({ from, to });
      return field({ id, src: to });
    }),
  );

  each('--ssh', inputs.ssh);
  each('--tag', inputs.tags);
  each('--label', inputs.labels);
  each('--annotation', inputs.annotations);
  each('--output', inputs.outputs);
  on('--load', inputs.load);
  on('--push', inputs.push);
  each('--cache-from', inputs['cache-from']);
  each('--cache-to', inputs['cache-to']);
  on('--no-cache', inputs['no-cache']);
  each('--no-cache-filter', inputs['no-cache-filters']);
  on('--pull', inputs.pull);
  single('--network', inputs.network);
  each('--add-host', inputs['add-hosts']);
  single('--shm-size', inputs['shm-size']);
  each('--ulimit', inputs.ulimit);
  single('--cgroup-parent', inputs['cgroup-parent']);
  each('--allow', inputs.allow);
  each('--attest', inputs.attests);
  for (const name of ['provenance', 'sbom']) {
    if (inputs[name]) args.push(`--${name}=${inputs[name]}`);
  }
  single('--twin', inputs.twin);
  args.push(...verification(inputs.verify));
  single('--call', inputs.call);
  if (!inputs.call) {
    args.push('--metadata-file', place.path('metadata.json'), '--iidfile', place.path('iid'));
  }
  warnings.push(...withoutEffect(inputs));
  // What begins like an option is none.
  args.push('--', context);

  const remote = [context, ...contexts.map((named) => named.slice(named.indexOf('=') + 1))];
  const credentials = gitCredentials(remote, inputs['github-token'], env);
  masked.push(...credentials.masked);
  return { args, context, env: credentials.env, files, copies, masked, warnings };
}

/**
 * The repository at the commit of the event, as a build context. Requests to merge are known by their ref alone.
 *
 * @param {Record<string, string | undefined>} env
 */
export function gitContext(env) {
  const { GITHUB_REF: ref = '', GITHUB_SHA: sha = '' } = env;
  const at = sha && !ref.startsWith('refs/pull/') ? sha : ref;
  return `${server(env)}/${env.GITHUB_REPOSITORY ?? ''}.git#${at}`;
}

/** What is accepted for the sake of docker's actions, in words. */
function withoutEffect({ builder }) {
  return builder ? [`input \`builder\`: \`${builder}\` has no effect: kiln has no builders`] : [];
}

/** Whether a context is a folder of this machine. */
export function isLocal(context) {
  return context !== '-' && !/^([a-z][a-z0-9+.-]*:\/\/|git@|github\.com\/)/i.test(context);
}

function server(env) {
  return env.GITHUB_SERVER_URL || 'https://github.com';
}

/** The Dockerfile: without settings for kiln, one in the context is meant, as with build-push-action. */
function dockerfile(inputs, context, place) {
  if (inputs.file || inputs.config || !isLocal(context)) return inputs.file;
  if (inputs.set.some((setting) => /^(build\.recipe|project\.)/.test(setting)) || place.hasSettings(context)) return '';
  const file = context === '.' ? 'Dockerfile' : `${context.replace(/\/+$/, '')}/Dockerfile`;
  return place.isFile(file) ? file : '';
}

/** What the artifacts are tried with. */
function verification(verify) {
  if (['', 'true', 'True', 'TRUE'].includes(verify)) return [];
  if (['false', 'False', 'FALSE'].includes(verify)) return ['--no-verify'];
  return ['--set', `verify.run=${verify}`];
}

/** Fields as buildx writes them. */
function field(fields) {
  const one = ([name, value]) => {
    const text = `${name}=${value}`;
    return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return Object.entries(fields).map(one).join(',');
}

/** What lets git read private repositories of the server that the event is of. */
function gitCredentials(contexts, token, env) {
  const base = `${server(env)}/`;
  if (!token || !contexts.some((context) => context.startsWith(base))) return { env: {}, masked: [] };
  const basic = Buffer.from(`x-access-token:${token}`).toString('base64');
  const count = Number.parseInt(env.GIT_CONFIG_COUNT ?? '0', 10) || 0;
  return {
    env: {
      GIT_CONFIG_COUNT: String(count + 1),
      [`GIT_CONFIG_KEY_${count}`]: `http.${base}.extraheader`,
      [`GIT_CONFIG_VALUE_${count}`]: `AUTHORIZATION: basic ${basic}`,
    },
    masked: [token, basic],
  };
}
