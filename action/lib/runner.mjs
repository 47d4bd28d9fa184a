// What an action tells the runner: commands on standard output, and files that it reads afterwards.
// Source: docs.github.com, "Workflow commands for GitHub Actions".

import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, statSync } from 'node:fs';
import { delimiter } from 'node:path';

/** Bytes of a summary that the service takes. */
const MOST_SUMMARY = 1024 * 1024;

/** @param {string} text */
export function data(text) {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

/** @param {string} text */
export function property(text) {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}

/** Text that the runner takes for no command: one begins a line with `::`, or has `##[` anywhere. */
export function defused(text) {
  return text.replaceAll('##[', '## [').replaceAll(/^(\s*):(?=:)/gm, '$1: ');
}

/** An entry of a file of the runner. Nobody can guess the line that ends the value. */
export function entry(name, value, end = `kiln_${randomUUID()}`) {
  if (name.includes(end) || value.includes(end)) throw new Error(`the value of ${name} holds the mark of its end`);
  return `${name}<<${end}\n${value}\n${end}\n`;
}

/** The runner. */
export class Runner {
  /**
   * @param {Record<string, string | undefined>} env
   * @param {(text: string) => void} write
   */
  constructor(env, write = (text) => process.stdout.write(text)) {
    this.env = env;
    this.write = write;
  }

  /** A line for people. */
  info(text) {
    this.write(`${defused(text)}\n`);
  }

  warning(text) {
    this.write(`::warning title=kiln::${data(text)}\n`);
  }

  error(text) {
    this.write(`::error title=kiln::${data(text)}\n`);
  }

  /** Lines of a group. */
  group(title, lines) {
    this.write(`::group::${data(title)}\n`);
    lines.forEach((line) => this.info(line));
    this.write('::endgroup::\n');
  }

  /** Hides a value, and each of its lines, from then on. */
  mask(value) {
    for (const part of new Set([value, ...value.split(/\r?\n/)])) {
      if (part.trim() !== '') this.write(`::add-mask::${data(part)}\n`);
    }
  }

  output(name, value) {
    this.append('GITHUB_OUTPUT', entry(name, value));
  }

  /** Keeps a value for the step's end. */
  state(name, value) {
    this.append('GITHUB_STATE', entry(name, value));
  }

  /** A folder in which later steps find programs, as does this one. */
  path(folder) {
    this.append('GITHUB_PATH', `${folder}\n`);
    this.env.PATH = `${folder}${delimiter}${this.env.PATH ?? ''}`;
  }

  /** Adds to the job's summary; says so where it does not fit. */
  summary(markdown) {
    const file = this.env.GITHUB_STEP_SUMMARY;
    const there = file && existsSync(file) ? statSync(file).size : 0;
    if (there + Buffer.byteLength(markdown) > MOST_SUMMARY) {
      this.warning('the summary of this build is larger than the service takes, and left out');
    } else {
      this.append('GITHUB_STEP_SUMMARY', markdown.endsWith('\n') ? markdown : `${markdown}\n`);
    }
  }

  append(variable, text) {
    const file = this.env[variable];
    if (file) appendFileSync(file, text);
  }
}
