// Colours for SQL that is only shown. A reader of words, not a parser: what it does not know stays plain.

import { el } from './dom.js';

const token = /(--[^\n]*|\/\*[\s\S]*?\*\/)|('(?:[^']|'')*')|(\b\d+(?:\.\d+)?\b)|([A-Za-z_][A-Za-z0-9_]*)|[\s\S]/g;
const keywords = new Set(
  `select from where group by having order limit offset join left right full inner outer cross on using
  as with union all distinct case when then else end and or not in is null like between exists over partition rows range
  create or replace materialized view table sink alert source stored location values insert into interval cast asc desc
  tumble hop cumulate session descriptor watermark for emit change window close every primary key unnest lateral
  filter true false`.split(/\s+/),
);

/** A list of text and spans to append. */
export function highlight(sql) {
  const parts = [];
  for (const [text, comment, string, digits, word] of sql.matchAll(token)) {
    if (comment) parts.push(el('span', { class: 'sql-comment' }, text));
    else if (string) parts.push(el('span', { class: 'sql-string' }, text));
    else if (digits) parts.push(el('span', { class: 'sql-number' }, text));
    else if (word && keywords.has(word.toLowerCase())) parts.push(el('span', { class: 'sql-keyword' }, text));
    else parts.push(text);
  }
  return parts;
}
