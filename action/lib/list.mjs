// Lists in inputs, read as docker/build-push-action reads them: CSV of which a record is a line, and, for most inputs, a
// field is an item, too. There are no comments. Pure.

/**
 * The records of a text, each a list of fields. A quoted field may hold commas, line ends and doubled quotes; quotes inside
 * of an unquoted field are characters like others, and so is everything of a quoted field that goes on after its end.
 *
 * @param {string} text
 * @param {{quotes?: boolean}} options
 * @returns {string[][]}
 */
export function records(text, { quotes = true } = {}) {
  const all = [];
  let record = [];
  let at = 0;
  const lineEnd = (index) => (text.startsWith('\r\n', index) ? 2 : text[index] === '\n' || text[index] === '\r' ? 1 : 0);
  const isEnd = (index) => index >= text.length || text[index] === ',' || lineEnd(index) > 0;
  while (at <= text.length) {
    let field = '';
    let quoted = false;
    if (quotes && text[at] === '"') {
      const [value, end] = quotedField(text, at);
      if (isEnd(end)) {
        quoted = true;
        field = value;
      } else {
        // It was no quoted field after all.
        field = `"${value}"`;
      }
      at = end;
    }
    while (!isEnd(at)) field += text[at++];
    record.push(field);
    if (text[at] === ',') {
      at += 1;
      continue;
    }
    const isEmptyLine = record.length === 1 && field === '' && !quoted;
    if (!isEmptyLine) all.push(record);
    record = [];
    at += lineEnd(at) || 1;
  }
  return all;
}

/** The value of the quoted field that begins at `start`, and the place after it. */
function quotedField(text, start) {
  let value = '';
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] !== '"') value += text[at];
    else if (text[at + 1] === '"') value += text[(at += 1)];
    else return [value, at + 1];
  }
  const line = text.slice(0, start).split('\n').length;
  throw new Error(`line ${line} has a quote that is not closed; write it twice if it is meant as a character`);
}

/**
 * The items of a list.
 *
 * @param {string} text
 * @param {{commas?: boolean, quotes?: boolean}} options `commas`: they separate items, too
 * @returns {string[]}
 */
export function list(text, { commas = true, quotes = true } = {}) {
  const items = [];
  for (const record of records(text, { quotes })) {
    if (!commas) items.push(record.join(','));
    else if (record.length === 1) items.push(...record[0].split(','));
    else items.push(...record);
  }
  return items.map((item) => item.trim()).filter((item) => item !== '');
}
