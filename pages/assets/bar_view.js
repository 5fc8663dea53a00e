// Horizontal bars for named things: the name, the bar from a common zero, the number itself. Needs no chart package.

import { el, flash, setText } from './dom.js';
import { hasFraction, number } from './format.js';
import { legend } from './legend.js';
import { pivot } from './pivot.js';

const MAX_BARS = 24;
// Bars spread over the height of their panel, but a few do not drift apart.
const LARGEST_BAR_PX = 44;

export class BarView {
  #panel;
  #list = el('ul', { class: 'bars' });
  #legend = el('div');
  #rows = new Map();

  constructor(panel) {
    this.#panel = panel;
    this.root = el('div', { class: 'bar-view' }, this.#legend, this.#list);
  }

  update(rows) {
    const { xs, series } = pivot(rows, { ...this.#panel, limit: Math.min(this.#panel.limit || MAX_BARS, MAX_BARS) });
    const all = series.flatMap((line) => line.values).filter((value) => value !== null);
    const low = Math.min(0, ...all);
    const span = Math.max(0, ...all) - low || 1;
    const percent = (value) => ((value - low) / span) * 100;
    if (series.length > 1) this.#legend.replaceChildren(legend(series.map((line) => ({ label: line.label }))));

    const shape = JSON.stringify([xs, series.length]);
    if (shape !== this.#list.dataset.shape) {
      this.#list.dataset.shape = shape;
      this.#list.style.maxHeight = `${xs.length * Math.max(1, series.length) * LARGEST_BAR_PX}px`;
      const before = this.#rows;
      this.#rows = new Map(
        xs.map((x) => [x, before.get(x)?.bars.length === series.length ? before.get(x) : row(x, series.length)]),
      );
      this.#list.replaceChildren(...Array.from(this.#rows.values(), (entry) => entry.root));
    }
    xs.forEach((x, index) => {
      const { bars } = this.#rows.get(x);
      series.forEach((line, i) => {
        const fraction = hasFraction(line.values);
        const value = line.values[index];
        const { fill, text } = bars[i];
        fill.style.left = `${percent(Math.min(0, value ?? 0))}%`;
        fill.style.width = `${percent(Math.max(0, value ?? 0)) - percent(Math.min(0, value ?? 0))}%`;
        fill.style.setProperty('--mark', `var(--series-${series.length > 1 ? i + 1 : 1})`);
        const unit = this.#panel.unit ? ` ${this.#panel.unit}` : '';
        if (setText(text, value === null ? '–' : `${number(value, fraction)}${unit}`)) flash(text);
      });
    });
  }
}

function row(name, count) {
  const bars = Array.from({ length: count }, () => ({
    fill: el('span', { class: 'fill' }),
    text: el('span', { class: 'figure' }),
  }));
  const root = el(
    'li',
    {},
    el('span', { class: 'bar-name', title: name }, name),
    el(
      'span',
      { class: 'bar-lines' },
      bars.map(({ fill, text }) => el('span', { class: 'bar-line' }, el('span', { class: 'track' }, fill), text)),
    ),
  );
  return { root, bars };
}
