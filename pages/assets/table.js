// A table that is patched in place: cells that did not change are not touched, those that did light up.

import { el, flash, setText } from './dom.js';
import { cell, hasFraction, title } from './format.js';
import { columnsOf } from './pivot.js';

export class Table {
  #columns = '';
  #head = el('tr');
  #before = new Set();
  #body = el('tbody');
  #options;

  /**
   * `format(value, fraction)` makes text of a cell (`fraction`: others of its column have decimals), `header(name)` of a
   * column; `bars` names the columns that carry the `unit`, and a bar as long as their share of the column's largest
   * value; `live` lets changed cells light up.
   */
  constructor({ format = cell, header = title, bars = [], unit, live = true, label } = {}) {
    this.#options = { format, header, bars, unit, live };
    this.root = el('table', { class: 'data', 'aria-label': label }, el('thead', {}, this.#head), this.#body);
  }

  update(rows, columns = columnsOf(rows)) {
    const { format, header, bars, unit, live } = this.#options;
    const numeric = columns.map((name) => isNumeric(rows, name));
    const shape = JSON.stringify([columns, numeric]);
    const fresh = shape !== this.#columns;
    if (fresh) {
      this.#columns = shape;
      this.#head.replaceChildren(
        ...columns.map((name, i) =>
          el(
            'th',
            { scope: 'col', class: numeric[i] && 'number' },
            unit && bars.includes(name) ? `${header(name)} (${unit})` : header(name),
          ),
        ),
      );
      this.#body.replaceChildren();
    }
    const fractions = columns.map((name, i) => numeric[i] && hasFraction(rows.map((row) => row[name])));
    const tops = new Map(bars.map((name) => [name, Math.max(0, ...rows.map((row) => Number(row[name]) || 0))]));
    // A row that only moved is not news; and where most rows are new, light would say nothing.
    const texts = live ? rows.map((row) => JSON.stringify(row)) : [];
    const news = texts.map((text) => !this.#before.has(text));
    const lit = !fresh && news.filter(Boolean).length <= rows.length / 2;
    this.#before = new Set(texts);
    while (this.#body.rows.length > rows.length) this.#body.deleteRow(-1);
    rows.forEach((row, index) => {
      const known = index < this.#body.rows.length;
      const line = known
        ? this.#body.rows[index]
        : this.#body.appendChild(
            el(
              'tr',
              {},
              columns.map((name, i) => el('td', { class: cellClass(numeric[i], tops.has(name)) })),
            ),
          );
      columns.forEach((name, i) => {
        const value = row[name];
        const td = line.cells[i];
        td.classList.toggle('null', value === null || value === undefined);
        const changed = setText(td, format(value, fractions[i]));
        if (changed && known && lit && news[index]) flash(td);
        if (tops.has(name)) td.style.setProperty('--share', `${share(value, tops.get(name))}%`);
      });
    });
  }
}

function cellClass(numeric, bar) {
  return [numeric && 'number', bar && 'bar-cell'].filter(Boolean).join(' ') || undefined;
}

function share(value, top) {
  return top > 0 ? Math.max(0, Math.min(100, ((Number(value) || 0) / top) * 100)) : 0;
}

function isNumeric(rows, name) {
  let any = false;
  for (const row of rows) {
    const value = row[name];
    if (value === null || value === undefined) continue;
    // A long integer arrives as text, see http.js.
    if (typeof value !== 'number' && !/^-?\d{16,}$/.test(value)) return false;
    any = true;
  }
  return any;
}
