// The SQL box: a statement, its rows or its problem, what was asked before, and the relations there are to ask.

import { byId, el } from './dom.js';
import { count, exact } from './format.js';
import { runSql } from './http.js';
import { columnsOf } from './pivot.js';
import { caret } from './sql_caret.js';
import { Table } from './table.js';

const SHOWN_ROWS = 500;
const KEPT = 30;
const KEY = 'rivermere.sql';

export class SqlBox {
  #text = byId('sql-text');
  #outcome = byId('sql-outcome');
  #problem = byId('sql-problem');
  #result = byId('sql-result');
  #rows = [];
  #running = null;
  #views = [];
  #tables = [];

  constructor(views) {
    byId('sql-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.run();
    });
    this.#text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.run();
    });
    byId('sql-csv').addEventListener('click', () => download(this.#rows));
    views.onList((list) => {
      this.#views = list;
      this.#relations();
    });
    this.#history();
    this.#text.value = history()[0] ?? '';
  }

  /** Puts a look at one relation into the box and runs it. */
  show(name) {
    this.#text.value = `SELECT * FROM ${identifier(name)} LIMIT 100`;
    byId('sql').scrollIntoView({ block: 'start' });
    this.#text.focus({ preventScroll: true });
    this.run();
  }

  async run() {
    const sql = this.#text.value.trim();
    if (!sql) {
      this.#fail({ message: 'There is no statement yet.', hint: 'Write one, or choose a relation.' }, sql);
      return;
    }
    // A second run replaces the first: its answer would only overwrite the newer one.
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    this.#outcome.textContent = 'Running …';
    const started = performance.now();
    try {
      const rows = await runSql(sql, running.signal);
      remember(sql);
      this.#history();
      this.#succeed(Array.isArray(rows) ? rows : [rows], performance.now() - started);
    } catch (error) {
      if (error.name !== 'AbortError') this.#fail(error, this.#text.value);
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }

  #succeed(rows, took_ms) {
    this.#rows = rows;
    this.#problem.hidden = true;
    byId('sql-csv').disabled = rows.length === 0;
    const shown = rows.slice(0, SHOWN_ROWS);
    const first = rows.length > SHOWN_ROWS ? `, the first ${SHOWN_ROWS} shown (the download has all)` : '';
    const many = rows.length === 1 ? '1 row' : `${count(rows.length)} rows`;
    this.#outcome.textContent = `${many} in ${Math.max(1, Math.round(took_ms))} ms${first}`;
    this.#result.hidden = rows.length === 0;
    const table = new Table({ format: exact, header: String, live: false, label: 'Result' });
    table.update(shown, columnsOf(shown));
    this.#result.replaceChildren(table.root);
    this.#result.scrollTop = 0;
  }

  #fail(error, sql) {
    this.#rows = [];
    byId('sql-csv').disabled = true;
    this.#outcome.textContent = '';
    this.#result.hidden = true;
    const place = caret(error, sql);
    // The first line says what; more lines show where, drawn with characters that must stay below each other.
    const [message, ...lines] = String(error.message).split('\n');
    this.#problem.replaceChildren(
      ...[
        el(
          'p',
          {},
          error.code && el('code', {}, error.code),
          error.code && ' ',
          el('span', { class: 'problem-message' }, message),
        ),
        lines.length > 0 && el('pre', {}, lines.join('\n')),
        place && el('pre', {}, place),
        error.hint && el('p', { class: 'problem-hint' }, error.hint),
      ].filter(Boolean),
    );
    this.#problem.hidden = false;
  }

  /** Tables are known by what the pipeline reads: its sources and files; views by the list of views. */
  onStatus(status) {
    const tables = (status.nodes ?? [])
      .filter((node) => node.kind === 'source' || node.kind === 'file')
      .map(({ label, kind }) => ({ name: label, note: kind }));
    if (JSON.stringify(tables) === JSON.stringify(this.#tables)) return;
    this.#tables = tables;
    this.#relations();
  }

  #relations() {
    const views = this.#views.map((info) => ({
      name: info.name,
      note: (info.columns ?? []).map((column) => column.name).join(', '),
    }));
    const seen = new Set();
    const all = [...views, ...this.#tables].filter(({ name }) => !seen.has(name) && seen.add(name));
    byId('relations').replaceChildren(
      ...all.map(({ name, note }) =>
        el(
          'li',
          {},
          el('button', { type: 'button', title: `SELECT * FROM ${name}`, onclick: () => this.show(name) }, name),
          el('small', {}, note),
        ),
      ),
    );
    if (all.length === 0) byId('relations').append(el('li', { class: 'hint' }, 'none yet'));
  }

  #history() {
    const menu = byId('sql-history-menu');
    const list = history();
    menu.hidden = list.length === 0;
    byId('sql-history').replaceChildren(
      ...list.map((sql) =>
        el(
          'button',
          {
            type: 'button',
            onclick: () => {
              this.#text.value = sql;
              menu.open = false;
              this.#text.focus();
            },
          },
          sql,
        ),
      ),
    );
    menu.onkeydown = (event) => {
      if (event.key !== 'Escape' || !menu.open) return;
      menu.open = false;
      menu.querySelector('summary').focus();
    };
  }
}

/** Names that are not plain lower-case words need quotes. */
function identifier(name) {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

function history() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(list) ? list.filter((entry) => typeof entry === 'string') : [];
  } catch {
    return [];
  }
}

function remember(sql) {
  try {
    localStorage.setItem(KEY, JSON.stringify([sql, ...history().filter((entry) => entry !== sql)].slice(0, KEPT)));
  } catch {
    /* storage is forbidden or full: the history is a comfort, not a duty */
  }
}

function download(rows) {
  const columns = columnsOf(rows);
  const field = (value) => {
    if (value === null || value === undefined) return '';
    const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.map(field), ...rows.map((row) => columns.map((name) => field(row[name])))].map((line) =>
    line.join(','),
  );
  const address = URL.createObjectURL(new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv' }));
  el('a', { href: address, download: 'result.csv' }).click();
  URL.revokeObjectURL(address);
}
