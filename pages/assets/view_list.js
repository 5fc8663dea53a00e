// Every view with the addresses it can be read at.

import { byId, el, setText } from './dom.js';
import { count } from './format.js';
import { viewPath } from './http.js';

export class ViewList {
  #rows = new Map();

  /** `query(name)` is called when somebody wants to see the rows. */
  constructor(views, query) {
    views.onList((list) => {
      this.#rows.clear();
      byId('view-list').replaceChildren(
        ...(list.length > 0
          ? list.map((info) => this.#item(info, query))
          : [el('li', { class: 'waiting' }, 'No view yet: CREATE MATERIALIZED VIEW makes one.')]),
      );
    });
  }

  onStatus(status) {
    for (const node of status.nodes ?? []) {
      const shown = node.kind === 'view' && this.#rows.get(node.label);
      if (shown) setText(shown, `${count(node.rows)} rows`);
    }
  }

  #item(info, query) {
    const rows = el('span', {}, `${count(info.rows)} rows`);
    this.#rows.set(info.name, rows);
    const facts = [
      rows,
      info.key?.length > 0 && el('span', {}, `key ${info.key.join(', ')}`),
      info.append_only && el('span', {}, 'append only'),
      info.stored_as && el('span', { class: 'tag' }, info.stored_as),
    ];
    return el(
      'li',
      { class: 'card' },
      el(
        'div',
        { class: 'view-name' },
        el('button', { type: 'button', class: 'link', onclick: () => query(info.name) }, info.name),
        el('p', { class: 'view-facts' }, facts),
      ),
      el('p', { class: 'view-columns' }, (info.columns ?? []).map((column) => column.name).join(', ')),
      el(
        'ul',
        { class: 'links', 'aria-label': `Addresses of ${info.name}` },
        ['json', 'csv', 'ndjson'].map((format) =>
          link(info.name, format.toUpperCase(), viewPath(info.name, `?limit=1000&format=${format}`)),
        ),
        link(info.name, 'Changes', viewPath(info.name, '/changes')),
      ),
    );
  }
}

function link(name, text, href) {
  return el('li', {}, el('a', { href, 'aria-label': `${text} of ${name}` }, text));
}
