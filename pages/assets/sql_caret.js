// The line of a statement that an error is about, with a caret under the place. Pure text.

/**
 * `error`: `{message, line, column}`; without numbers of their own they are looked for in the message ("line 2,
 * column 8", "file.sql:2:8"). Undefined when there is no place, or the message shows the line itself.
 */
export function caret(error, sql) {
  if (/^[\s|]*\^+\s*$/m.test(error.message ?? '')) return undefined;
  const found =
    /line:?\s+(\d+)\D{1,12}col(?:umn)?:?\s+(\d+)/i.exec(error.message ?? '') ??
    /:(\d+):(\d+)/.exec(error.message ?? '');
  const line = Number(error.line ?? found?.[1]);
  const column = Number(error.column ?? found?.[2]);
  const text = sql.split('\n')[line - 1];
  if (text === undefined || !(column >= 1) || column > text.length + 1) return undefined;
  const number = `${line} | `;
  // Tabs stay tabs, so the caret stays below its character.
  const indent = text.slice(0, column - 1).replace(/[^\t]/g, ' ');
  return `${number}${text}\n${' '.repeat(number.length)}${indent}^`;
}
