// The dashboards of the project, as its files say. They are asked for again every few seconds, so a saved file shows
// up by itself; a stream would take one of the six connections a browser allows.

import { byId, el } from './dom.js';
import { getJson } from './http.js';
import { Panel } from './panel.js';

const LOOK_AGAIN_MS = 3000;

export class Dashboards {
  #views;
  #shown = '';
  #list = [];
  #chosen = null;
  #panels = [];

  constructor(views) {
    this.#views = views;
    setInterval(() => {
      if (!document.hidden) this.load();
    }, LOOK_AGAIN_MS);
  }

  async load() {
    let list;
    try {
      list = await getJson('v1/dashboards');
    } catch (error) {
      if (this.#shown === '')
        byId('dashboard').replaceChildren(el('p', { class: 'notice' }, `${error.message} ${error.hint}`));
      return;
    }
    const text = JSON.stringify(list);
    if (text === this.#shown) return;
    this.#shown = text;
    this.#list = list;
    if (!list.some((entry) => entry.name === this.#chosen)) this.#chosen = list[0]?.name ?? null;
    this.#draw();
  }

  #draw() {
    for (const panel of this.#panels) panel.destroy();
    this.#panels = [];
    this.#drawTabs();
    const dashboard = this.#list.find((entry) => entry.name === this.#chosen);
    const place = byId('dashboard');
    if (!dashboard) {
      place.replaceChildren(
        el(
          'p',
          { class: 'notice' },
          'No dashboard yet. Save one as ',
          el('code', {}, 'dashboards/NAME.yaml'),
          ' in the project: it appears here at once.',
        ),
      );
      return;
    }
    // Panels that copy a view come first to the few streams; the others then share them.
    const panels = (dashboard.panels ?? []).map((panel) => ({ panel, view: null }));
    for (const entry of panels.toSorted((a, b) => Boolean(a.panel.query) - Boolean(b.panel.query))) {
      entry.view = new Panel(entry.panel, this.#views);
      this.#panels.push(entry.view);
    }
    const heading =
      this.#list.length === 1 && dashboard.title ? el('p', { class: 'dashboard-title' }, dashboard.title) : null;
    place.replaceChildren(
      ...[
        heading,
        el(
          'div',
          { class: 'grid' },
          panels.map((entry) => entry.view.root),
        ),
      ].filter(Boolean),
    );
  }

  #drawTabs() {
    const tabs = byId('dashboard-tabs');
    tabs.hidden = this.#list.length < 2;
    const place = byId('dashboard');
    if (tabs.hidden) {
      place.removeAttribute('role');
      tabs.replaceChildren();
      return;
    }
    place.setAttribute('role', 'tabpanel');
    const choose = (name) => {
      this.#chosen = name;
      this.#draw();
      tabs.querySelector('[aria-selected="true"]').focus();
    };
    const move = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const at = this.#list.findIndex((entry) => entry.name === this.#chosen);
      choose(this.#list[(at + step + this.#list.length) % this.#list.length].name);
    };
    tabs.replaceChildren(
      ...this.#list.map((entry) => {
        const selected = entry.name === this.#chosen;
        return el(
          'button',
          {
            type: 'button',
            role: 'tab',
            'aria-selected': String(selected),
            'aria-controls': 'dashboard',
            tabindex: selected ? 0 : -1,
            onclick: () => choose(entry.name),
            onkeydown: move,
          },
          entry.title ?? entry.name,
        );
      }),
    );
  }
}
