// Everything known about one node of the pipeline, in a dialog: numbers that keep moving, schema, statement.
// A modal <dialog> brings focus, Escape and the way back to the node with it.

import { byId, el, setText } from './dom.js';
import { count, moment, rate, timeOf } from './format.js';
import { glyph } from './kinds.js';
import { highlight } from './sql_highlight.js';

export class Inspector {
  #dialog = byId('inspector');
  #views;
  #query;
  #status = null;
  #id = null;
  #values = new Map();

  /** `query(name)` is called when somebody wants to see the rows of a relation. */
  constructor(views, query) {
    this.#views = views;
    this.#query = query;
    this.#dialog.addEventListener('close', () => {
      this.#id = null;
    });
    // A click on the backdrop is a click on the dialog itself, outside of its content.
    this.#dialog.addEventListener('click', (event) => {
      if (event.target === this.#dialog) this.#dialog.close();
    });
  }

  open(id) {
    const node = this.#node(id);
    if (!node) return;
    this.#id = id;
    const info = node.kind === 'view' || node.kind === 'sink' ? this.#views.info(this.#viewOf(node)) : undefined;
    this.#values.clear();
    const facts = el('dl', { class: 'node-facts' });
    for (const [label, value] of this.#facts(node)) {
      const shown = el('dd', {}, value);
      this.#values.set(label, shown);
      facts.append(el('div', {}, el('dt', {}, label), shown));
    }
    this.#dialog.replaceChildren(
      el(
        'div',
        { class: 'inspector-body' },
        el(
          'div',
          { class: 'inspector-head', 'data-kind': node.kind },
          glyph(node.kind),
          el('h2', { id: 'inspector-title' }, node.label, ' ', el('small', {}, node.kind)),
          el(
            'button',
            { type: 'button', class: 'icon-button', 'aria-label': 'Close', onclick: () => this.#dialog.close() },
            '✕',
          ),
        ),
        facts,
        node.kind !== 'sink' &&
          el('p', {}, el('button', { type: 'button', onclick: () => this.#ask(node.label) }, 'Show rows in SQL')),
        info?.columns?.length > 0 && schema(info),
        info?.sql &&
          el(
            'section',
            {},
            el('h3', {}, 'Statement'),
            el(
              'pre',
              { class: 'statement', tabindex: 0, role: 'region', 'aria-label': 'Statement' },
              ...highlight(info.sql),
            ),
          ),
      ),
    );
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  onStatus(status) {
    this.#status = status;
    const node = this.#id && this.#node(this.#id);
    if (!node) return;
    for (const [label, value] of this.#facts(node)) {
      const shown = this.#values.get(label);
      if (shown) setText(shown, value);
    }
  }

  #ask(name) {
    this.#dialog.close();
    this.#query(name);
  }

  #node(id) {
    return this.#status?.nodes?.find((node) => node.id === id);
  }

  #viewOf(node) {
    return node.kind === 'sink' ? (this.#sink(node)?.view ?? node.label) : node.label;
  }

  #sink(node) {
    const sinks = this.#status?.sinks ?? [];
    return sinks.find((sink) => sink.id === node.id) ?? sinks.find((sink) => sink.view === node.label);
  }

  #facts(node) {
    const facts = [];
    if (node.kind !== 'file') facts.push(['Rate', `${rate(node.rate)} per second`]);
    facts.push(['Rows', count(node.rows)]);
    if (node.kind === 'topic' || node.kind === 'source') facts.push(['Lag', count(node.lag)]);
    if (node.kind === 'source' || node.late > 0) facts.push(['Late rows', count(node.late)]);
    if (node.kind === 'source' || node.dead > 0) facts.push(['Dead letters', count(node.dead)]);
    for (const entry of this.#status?.watermarks ?? []) {
      if (entry.table !== node.label || (node.kind !== 'source' && node.kind !== 'view')) continue;
      facts.push([`Watermark of ${entry.column}`, moment(timeOf(entry.watermark), { year: true })]);
    }
    const sink = node.kind === 'sink' ? this.#sink(node) : undefined;
    if (sink) {
      facts.push(
        ['Format', sink.format],
        ['Confirmed epoch', count(sink.confirmed_epoch)],
        ['Staged epoch', count(sink.staged_epoch)],
      );
      if (sink.location) facts.push(['Location', sink.location]);
    }
    const info = node.kind === 'view' ? this.#views.info(node.label) : undefined;
    if (info) {
      facts.push(['Key', info.key?.length > 0 ? info.key.join(', ') : 'none']);
      facts.push(['Changes', info.append_only ? 'only appended' : 'updated and deleted too']);
      if (info.stored_as) facts.push(['Stored as', info.stored_as]);
    }
    if (node.detail) facts.push(['Detail', node.detail]);
    return facts;
  }
}

function schema(info) {
  return el(
    'section',
    {},
    el('h3', {}, 'Columns'),
    el(
      'table',
      { class: 'schema' },
      el(
        'thead',
        {},
        el(
          'tr',
          {},
          el('th', { scope: 'col' }, 'Name'),
          el('th', { scope: 'col' }, 'Type'),
          el('th', { scope: 'col' }, 'Null'),
        ),
      ),
      el(
        'tbody',
        {},
        info.columns.map((column) =>
          el(
            'tr',
            {},
            el('td', {}, column.name),
            el('td', {}, column.type),
            el('td', {}, column.nullable ? 'yes' : 'no'),
          ),
        ),
      ),
    ),
  );
}
