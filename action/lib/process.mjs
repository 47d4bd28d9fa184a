// Other programs.

import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The path of a program, as a shell finds it. */
export function which(name, env) {
  for (const folder of (env.PATH ?? '').split(delimiter).filter(Boolean)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

/**
 * Runs a program to its end.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {{env: object, cwd?: string, quiet?: boolean}} options `quiet`: its output is returned, not shown
 * @returns {Promise<{code: number | null, signal: string | null, stdout: string, stderr: string}>}
 */
export function run(program, args, { env, cwd, quiet = false }) {
  return new Promise((resolve, reject) => {
    const stdio = quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'];
    const child = spawn(program, args, { env, cwd, stdio });
    // The runner asks this process alone to end; kiln wants to clean up after itself.
    const pass = (signal) => child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM'];
    signals.forEach((signal) => process.on(signal, pass));
    const texts = { stdout: [], stderr: [] };
    for (const name of Object.keys(texts)) child[name]?.on('data', (bytes) => texts[name].push(bytes));
    const end = () => signals.forEach((signal) => process.off(signal, pass));
    child.on('error', (error) => {
      end();
      reject(new Error(`cannot run ${program}: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      end();
      const text = (name) => Buffer.concat(texts[name]).toString('utf8');
      resolve({ code, signal, stdout: text('stdout'), stderr: text('stderr') });
    });
  });
}

/** A command line as one would type it. */
export function shown(words) {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
}
