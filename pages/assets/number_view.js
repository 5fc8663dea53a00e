// One large number, with the line of where it came from.

import { el, flash, setText, svg } from './dom.js';
import { number, timeOf } from './format.js';
import { columnsOf } from './pivot.js';

const HISTORY = 120;
// A young history starts at the right; from this many values on it fills the width.
const SPAN = 24;

export class NumberView {
  #panel;
  #history = [];
  #value = el('span', { class: 'value' }, '–');
  #line = svg('path', { class: 'trend-line' });
  #area = svg('path', { class: 'trend-area' });

  constructor(panel) {
    this.#panel = panel;
    this.root = el(
      'div',
      { class: 'big-number' },
      el('p', {}, this.#value, panel.unit && el('span', { class: 'unit' }, panel.unit)),
      svg('svg', { class: 'trend', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, this.#area, this.#line),
    );
  }

  update(rows) {
    const column =
      this.#panel.y?.[0] ?? columnsOf(rows).find((name) => rows.some((row) => typeof row[name] === 'number'));
    if (rows.length === 0 || column === undefined) return;
    // With an x the rows are the history; without, the page remembers what it saw.
    const { x } = this.#panel;
    const order = (row) => (typeof row[x] === 'number' ? row[x] : timeOf(row[x]));
    const last = x ? rows.toSorted((a, b) => order(a) - order(b)) : rows;
    const value = Number(last.at(x ? -1 : 0)[column] ?? NaN);
    if (x)
      this.#history = last
        .map((row) => Number(row[column] ?? NaN))
        .filter(Number.isFinite)
        .slice(-HISTORY);
    else if (Number.isFinite(value)) this.#history.push(value);
    if (this.#history.length > HISTORY) this.#history.shift();
    if (setText(this.#value, number(value))) flash(this.#value);
    this.#draw();
  }

  #draw() {
    const values = this.#history;
    if (values.length < 2) return;
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const height = high - low || 1;
    const width = Math.max(SPAN, values.length) - 1;
    const start = width - values.length + 1;
    this.#line.ownerSVGElement.setAttribute('viewBox', `0 0 ${width} 40`);
    const points = values.map(
      (value, i) => `${start + i} ${(high === low ? 20 : 37 - ((value - low) / height) * 34).toFixed(1)}`,
    );
    this.#line.setAttribute('d', `M${points.join('L')}`);
    this.#area.setAttribute('d', `M${start} 40L${points.join('L')}L${width} 40z`);
  }
}
