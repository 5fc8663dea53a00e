// One panel of a dashboard: where its rows come from, how often, and which picture shows them.

import { BarView } from './bar_view.js';
import { el, setText } from './dom.js';
import { count, timeOf } from './format.js';
import { getJson, runSql, viewPath } from './http.js';
import { NumberView } from './number_view.js';
import { paced } from './pace.js';
import { uPlot } from './packages.js';
import { Plot } from './plot.js';
import { Table } from './table.js';

const QUERY_PAUSE_MS = 500;
const DRAW_PAUSE_MS = 80;
const DEFAULT_ROWS = 50;

export class Panel {
  #panel;
  #views;
  #view = null;
  #kind = '';
  #asTable = false;
  #rows = [];
  #event = {};
  #end = [];
  #near = true;
  #body = el('div', { class: 'panel-body' }, el('p', { class: 'waiting' }, 'Waiting for rows …'));
  #stamp = el('span', { class: 'stamp' });
  #problem = el('p', { class: 'panel-problem', role: 'status', hidden: true });
  #toggle = el(
    'button',
    { type: 'button', class: 'quiet', 'aria-pressed': 'false', onclick: () => this.#switch() },
    'Table',
  );

  constructor(panel, views) {
    this.#panel = { ...panel, y: [panel.y ?? []].flat() };
    this.#views = views;
    const title = el('h3', {}, panel.title ?? panel.view);
    if (panel.unit && panel.chart !== 'number' && panel.chart !== 'table')
      title.append(el('span', { class: 'unit' }, panel.unit));
    this.root = el(
      'article',
      { class: 'panel card', 'data-chart': panel.chart, 'data-width': Math.min(3, Math.max(1, panel.width || 1)) },
      el('div', { class: 'panel-head' }, title, this.#stamp, this.#toggle),
      this.#problem,
      this.#body,
    );
    this.#toggle.hidden = true;

    const draw = paced(() => this.#draw(), DRAW_PAUSE_MS);
    const ask = paced(() => this.#ask(), QUERY_PAUSE_MS);
    this.#end.push(draw.stop, ask.stop);
    const refresh = () => (!panel.query && this.#event.rows ? draw() : ask());
    // A panel outside of the window keeps its first picture until it comes near: no queries for nobody.
    const observer = new IntersectionObserver(
      ([entry]) => {
        const came = entry.isIntersecting && !this.#near;
        this.#near = entry.isIntersecting;
        if (came) refresh();
      },
      { rootMargin: '150px' },
    );
    observer.observe(this.root);
    this.#end.push(() => observer.disconnect());
    if (panel.view) {
      if (views.list().length > 0 && !views.info(panel.view)) this.#fail(`There is no view "${panel.view}".`);
      this.#end.push(
        views.watch(panel.view, { rows: !panel.query }, (event) => {
          this.#event = event;
          if (this.#near || !this.#view) refresh();
        }),
      );
    } else {
      ask();
    }
  }

  destroy() {
    for (const end of this.#end) end();
    this.#view?.destroy?.();
  }

  async #ask() {
    if (document.hidden) return;
    try {
      const { query, view } = this.#panel;
      this.#rows = query ? await runSql(query) : await getJson(viewPath(view, this.#parameters()));
      this.#problem.hidden = true;
      this.#show(undefined);
    } catch (error) {
      // The rows on the screen stay: old numbers with a note beat an empty panel.
      // A server that is away is the banner's news, once for all panels.
      if (!error.unreachable) this.#fail([error.message, error.hint].filter(Boolean).join(' '));
    }
  }

  #fail(text) {
    setText(this.#problem, text);
    this.#problem.hidden = false;
  }

  /** A view too large for the page: only its newest x values, or its first rows. */
  #parameters() {
    const { x, limit, chart, series } = this.#panel;
    const rows = (limit || DEFAULT_ROWS) * (series ? 8 : 1);
    const newest = x && (chart === 'line' || chart === 'bar' || chart === 'number');
    return `?limit=${rows}${newest ? `&order=-${encodeURIComponent(x)}` : ''}`;
  }

  #draw() {
    if (!this.#event.rows) return;
    this.#rows = this.#event.rows();
    this.#problem.hidden = true;
    this.#show(this.#event.at_ms);
  }

  #show(at_ms) {
    const kind = this.#choose();
    if (!kind) return;
    if (kind !== this.#kind) {
      this.#view?.destroy?.();
      this.#kind = kind;
      this.#view = make(kind, this.#panel);
      const scrolls = kind === 'table';
      this.#body.replaceChildren(
        scrolls
          ? el(
              'div',
              { class: 'scroller', role: 'region', tabindex: 0, 'aria-label': this.#panel.title },
              this.#view.root,
            )
          : this.#view.root,
      );
    }
    if (kind === 'table') this.#view.update(this.#tableRows(), this.#columns());
    else this.#view.update(this.#rows);
    if (at_ms) setText(this.#stamp, `live, ${count(Math.max(0, Date.now() - at_ms))} ms`);
    this.#stamp.title = at_ms ? 'From the step that made the change to this panel' : '';
  }

  #choose() {
    if (this.#rows.length === 0) return this.#kind;
    const { chart } = this.#panel;
    let kind = chart;
    if (chart === 'bar' && isOrdered(this.#rows, this.#panel.x)) kind = 'bars-over-time';
    if (!uPlot && (kind === 'line' || kind === 'bars-over-time')) kind = 'table';
    if (!['number', 'line', 'bar', 'bars-over-time'].includes(kind)) kind = 'table';
    this.#toggle.hidden = kind === 'number' || kind === 'table';
    return this.#asTable ? 'table' : kind;
  }

  #switch() {
    this.#asTable = !this.#asTable;
    this.#toggle.setAttribute('aria-pressed', String(this.#asTable));
    this.#show(this.#event.at_ms);
  }

  #tableRows() {
    const { query, x, limit } = this.#panel;
    const rows = query ? this.#rows : sorted(this.#rows, x, this.#views.info(this.#panel.view)?.key ?? []);
    return rows.slice(0, limit || DEFAULT_ROWS);
  }

  #columns() {
    if (this.#panel.query) return undefined;
    return this.#views.info(this.#panel.view)?.columns.map((column) => column.name);
  }
}

function make(kind, panel) {
  if (kind === 'number') return new NumberView(panel);
  if (kind === 'line') return new Plot(panel, 'line');
  if (kind === 'bars-over-time') return new Plot(panel, 'bar');
  if (kind === 'bar') return new BarView(panel);
  return new Table({ bars: panel.y, unit: panel.unit, label: panel.title });
}

function isOrdered(rows, x) {
  const value = rows.find((row) => row[x] !== null && row[x] !== undefined)?.[x];
  return Number.isFinite(timeOf(value));
}

/** The rows of a view have no order of their own: newest x first, else by key. */
function sorted(rows, x, key) {
  if (x) return rows.toSorted((a, b) => compare(b[x], a[x]));
  return rows.toSorted((a, b) => key.reduce((result, column) => result || compare(a[column], b[column]), 0));
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return a < b ? -1 : 1;
}
