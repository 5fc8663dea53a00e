// Lines, and stacked bars, over time or numbers. Draws on a canvas with uPlot; everything that is text for people
// (legend, latest values, tooltip) is HTML beside it. The same rows are a table away for those who cannot see a canvas.

import { el, flash, setText } from './dom.js';
import { count, hasFraction, moment, number } from './format.js';
import { legend } from './legend.js';
import { uPlot } from './packages.js';
import { pivot } from './pivot.js';
import { color, onTheme } from './theme.js';

const HEIGHT = 236;
const DAY_MS = 86_400_000;
const FONT = '12px ui-sans-serif, system-ui, sans-serif';

export class Plot {
  #panel;
  #kind;
  #plot = null;
  #data = null;
  #shape = '';
  #hidden = new Set();
  #latest = [];
  #legend = el('div', { class: 'legend-place' });
  #canvas = el('div', { class: 'canvas', role: 'img', tabindex: 0 });
  #tip = el('div', { class: 'tip', hidden: true });
  #quiet;
  #observer;

  /** `kind`: 'line' or 'bar'. */
  constructor(panel, kind) {
    this.#panel = panel;
    this.#kind = kind;
    this.root = el('div', { class: 'plot' }, this.#legend, this.#canvas);
    this.#quiet = onTheme(() => this.#rebuild());
    this.#observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width > 0 && this.#plot?.width !== width)
        this.#plot ? this.#plot.setSize({ width, height: HEIGHT }) : this.#rebuild();
    });
    this.#observer.observe(this.#canvas);
    this.#canvas.addEventListener('keydown', (event) => this.#key(event));
    this.#canvas.addEventListener('blur', () => this.#plot?.setCursor({ left: -10, top: -10 }));
  }

  destroy() {
    this.#quiet();
    this.#observer.disconnect();
    this.#plot?.destroy();
  }

  update(rows) {
    this.#data = pivot(rows, this.#panel);
    const shape = JSON.stringify([this.#data.scale, this.#data.series.map((line) => line.label)]);
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#rebuild();
    } else {
      this.#plot?.setData(this.#aligned());
    }
    this.#tell();
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    const width = Math.floor(this.#canvas.clientWidth);
    if (!this.#data || this.#data.series.length === 0 || width <= 0) return;
    this.#drawLegend();
    this.#plot = new uPlot(this.#options(width), this.#aligned(), this.#canvas);
    this.#plot.over.append(this.#tip);
    this.#tell();
  }

  #visible() {
    return this.#data.series.map((line, index) => ({ ...line, index })).filter((line) => !this.#hidden.has(line.label));
  }

  /** Stacked: each series drawn up to the sum of itself and those below, the highest first so the lower cover it. */
  #aligned() {
    const lines = this.#visible();
    if (this.#kind !== 'bar') return [this.#data.xs, ...lines.map((line) => line.values)];
    const sums = this.#data.xs.map(() => 0);
    const stacked = lines.map((line) => line.values.map((value, i) => (value === null ? null : (sums[i] += value))));
    return [this.#data.xs, ...stacked.toReversed()];
  }

  #options(width) {
    const lines = this.#kind === 'bar' ? this.#visible().toReversed() : this.#visible();
    const time = this.#data.scale === 'time';
    const ink = color('--muted');
    const grid = { stroke: color('--grid'), width: 1 };
    return {
      width,
      height: HEIGHT,
      ms: 1,
      tzDate: (ts) => uPlot.tzDate(new Date(ts), 'Etc/UTC'),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: {
        x: { time, range: this.#kind === 'bar' ? (u, low, high) => pad(u.data[0], low, high) : undefined },
        y: { range: (u, low, high) => range(low, high) },
      },
      axes: [
        {
          stroke: ink,
          grid: { show: false },
          ticks: { ...grid, size: 4 },
          font: FONT,
          size: 42,
          space: 64,
          gap: 6,
          values: time ? times : (u, splits) => splits.map(count),
        },
        {
          stroke: ink,
          grid,
          ticks: { show: false },
          font: FONT,
          gap: 8,
          space: 36,
          size: (u, values) => 16 + Math.max(18, ...(values ?? []).map((value) => value.length * 6.6)),
          values: (u, splits) => splits.map((value) => number(value)),
        },
      ],
      series: [{}, ...lines.map((line) => this.#seriesOptions(line))],
      hooks: { setCursor: [(u) => this.#point(u)] },
    };
  }

  #seriesOptions(line) {
    const stroke = color(`--series-${line.index + 1}`);
    if (this.#kind === 'bar') {
      return {
        label: line.label,
        stroke,
        fill: stroke,
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.78, 44], radius: 0 }),
      };
    }
    const alone = this.#data.series.length === 1;
    return {
      label: line.label,
      stroke,
      width: 2,
      spanGaps: true,
      fill: alone ? color('--series-area') : undefined,
      points: { show: this.#data.xs.length < 2, size: 6 },
    };
  }

  #drawLegend() {
    const { series, dropped } = this.#data;
    this.#latest = series.map(() => el('b'));
    this.#legend.replaceChildren();
    if (series.length > 1) {
      const toggle = (label) => {
        if (!this.#hidden.delete(label)) this.#hidden.add(label);
        const at = [...this.#legend.querySelectorAll('button')].indexOf(document.activeElement);
        this.#rebuild();
        this.#legend.querySelectorAll('button')[at]?.focus();
      };
      this.#legend.append(
        legend(
          series.map((line, i) => ({
            label: line.label,
            hidden: this.#hidden.has(line.label),
            value: this.#latest[i],
          })),
          toggle,
        ),
      );
    }
    if (dropped > 0) this.#legend.append(el('p', { class: 'hint' }, `${dropped} more not shown`));
  }

  /** Latest values in the legend, and the same in words for the image. */
  #tell() {
    const { series } = this.#data;
    const unit = this.#panel.unit ? ` ${this.#panel.unit}` : '';
    const words = series.map((line, i) => {
      const value = line.values.findLast((candidate) => candidate !== null);
      const text = value === undefined ? '–' : number(value, hasFraction(line.values));
      if (this.#latest[i] && setText(this.#latest[i], text)) flash(this.#latest[i]);
      return `${line.label} ${text}${unit}`;
    });
    const kind = this.#kind === 'bar' ? 'Bar chart' : 'Line chart';
    this.#canvas.setAttribute('aria-label', `${kind}: ${this.#panel.title}. Latest: ${words.join(', ')}.`);
  }

  #point(u) {
    const { idx } = u.cursor;
    this.#tip.hidden = idx === null || idx === undefined || u.cursor.left < 0;
    if (this.#tip.hidden) return;
    const { xs, scale } = this.#data;
    const unit = this.#panel.unit ? ` ${this.#panel.unit}` : '';
    const lines = this.#visible().filter((line) => line.values[idx] !== null && line.values[idx] !== undefined);
    if (this.#kind === 'line') lines.sort((a, b) => b.values[idx] - a.values[idx]);
    const when = scale === 'time' ? moment(xs[idx]) : number(xs[idx]);
    this.#tip.replaceChildren(
      el('strong', {}, when),
      ...lines.map((line) => {
        const swatch = el('span', { class: 'swatch' });
        swatch.style.setProperty('--mark', `var(--series-${line.index + 1})`);
        return el(
          'span',
          { class: 'tip-line' },
          swatch,
          el('span', {}, line.label),
          el('b', {}, `${number(line.values[idx], hasFraction(line.values))}${unit}`),
        );
      }),
    );
    const left = u.valToPos(xs[idx], 'x');
    const room = u.over.clientWidth;
    const width = this.#tip.offsetWidth;
    this.#tip.style.left = `${left + 14 + width > room ? Math.max(0, left - width - 14) : left + 14}px`;
    this.#tip.style.top = '4px';
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const u = this.#plot;
    if (!step || !u || this.#data.xs.length === 0) return;
    event.preventDefault();
    const last = this.#data.xs.length - 1;
    const at =
      u.cursor.left < 0 || u.cursor.idx === null || u.cursor.idx === undefined
        ? step > 0
          ? 0
          : last
        : Math.min(last, Math.max(0, u.cursor.idx + step));
    u.setCursor({ left: u.valToPos(this.#data.xs[at], 'x'), top: 20 });
  }
}

/** Half a bar of room on both sides. */
function pad(xs, low, high) {
  const step = xs.length > 1 ? (high - low) / (xs.length - 1) : 1;
  return [low - step * 0.6, high + step * 0.6];
}

/** Zero is on the axis unless all values are far from it; a little room above. */
function range(low, high) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  const bottom = low > 0 && low < high * 0.8 ? 0 : low;
  const room = (high - bottom || Math.abs(high) || 1) * 0.08;
  return [bottom === 0 ? 0 : bottom - room, high + room];
}

function times(u, splits, axis, space, step) {
  let day = '';
  return splits.map((at) => {
    const [today, clock] = moment(at)
      .match(/^(.+) (\S+)$/)
      .slice(1);
    const first = today !== day;
    day = today;
    if (step >= DAY_MS) return today;
    return first ? `${clock}\n${today}` : clock;
  });
}
