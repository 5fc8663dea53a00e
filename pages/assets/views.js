// What the page knows about views, and who wants to hear when one changes.
//
// A watcher of *rows* gets the view through its change stream. A watcher of *changes* (a panel with its own query)
// only needs to know that something moved: it shares a stream that is open anyway, else the status, once a second,
// tells. Streams are counted, because a browser allows six connections to one origin; big views are not copied into
// the page at all, their watchers ask for the rows they show.

import { getJson, viewPath } from './http.js';
import { Rows } from './rows.js';
import { Stream } from './stream.js';

const MAX_STREAMS = 2;
const MAX_STREAMED_ROWS = 50_000;

export class Views {
  #infos = new Map();
  #feeds = new Map();
  #watchers = new Map();
  #seen = new Map();
  #listeners = new Set();
  #loading = null;

  /** Asks for the list again; a second call while one is under way shares it. */
  load() {
    this.#loading ??= getJson('v1/views')
      .then((list) => {
        this.#infos = new Map(list.map((info) => [info.name, info]));
        for (const listener of this.#listeners) listener(this.list());
        this.#greetNewViews();
      })
      .finally(() => {
        this.#loading = null;
      });
    return this.#loading;
  }

  list() {
    return [...this.#infos.values()];
  }

  info(name) {
    return this.#infos.get(name);
  }

  onList(listener) {
    this.#listeners.add(listener);
    if (this.#infos.size > 0) listener(this.list());
  }

  /**
   * Calls `changed(event)` when the view changes; returns a function that ends it. With `rows` true and a view small
   * enough, `event.rows()` gives all rows; otherwise it is missing and the watcher asks for what it needs.
   */
  watch(name, { rows = false }, changed) {
    const watcher = { rows, changed };
    const all = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, all.add(watcher));
    const feed = this.#feeds.get(name) ?? (rows ? this.#openFeed(name) : undefined);
    if (feed ? feed.ready : this.#canAsk(name, watcher)) changed(this.#event(name));
    return () => {
      all.delete(watcher);
      if (![...all].some((other) => other.rows)) this.#closeFeed(name);
    };
  }

  /** Tells the watchers of views without a stream what the status says. */
  onStatus(status) {
    for (const [name, watchers] of this.#watchers) {
      if (watchers.size === 0 || this.#feeds.has(name)) continue;
      const node = status.nodes?.find(
        (candidate) => candidate.kind === 'view' && (candidate.id === name || candidate.label === name),
      );
      const now = node ? { rows: node.rows, moving: node.rate > 0 } : { rows: status.step, moving: false };
      const before = this.#seen.get(name);
      this.#seen.set(name, now);
      // One more look after the rate fell to zero: the last change may be younger than the last look.
      if (before && before.rows === now.rows && !before.moving && !now.moving) continue;
      for (const watcher of watchers) if (this.#canAsk(name, watcher)) watcher.changed({});
    }
  }

  /** Nobody asks for the rows of a view that is not there (yet); a query may well read something else. */
  #canAsk(name, watcher) {
    return !watcher.rows || this.#infos.size === 0 || this.#infos.has(name);
  }

  /** Watchers that came before their view. */
  #greetNewViews() {
    for (const [name, watchers] of this.#watchers) {
      if (!this.#infos.has(name) || this.#feeds.has(name)) continue;
      const waiting = [...watchers].filter((watcher) => watcher.rows);
      if (waiting.length > 0 && !this.#openFeed(name)) for (const watcher of waiting) watcher.changed({});
    }
  }

  #openFeed(name) {
    if (this.#infos.size > 0 && !this.#infos.has(name)) return undefined;
    if (this.#feeds.size >= MAX_STREAMS || (this.info(name)?.rows ?? 0) > MAX_STREAMED_ROWS) return undefined;
    const feed = { rows: new Rows(this.info(name)?.key), ready: false, at_ms: undefined, stream: null };
    const tell = (at_ms) => {
      feed.ready = true;
      feed.at_ms = at_ms;
      if (feed.rows.size > MAX_STREAMED_ROWS) this.#closeFeed(name);
      for (const watcher of this.#watchers.get(name) ?? []) watcher.changed(this.#event(name));
    };
    feed.stream = new Stream(viewPath(name, '/changes'), {
      reset: (data) => {
        feed.rows.reset(data.rows ?? []);
        tell(undefined);
      },
      changes: (data) => {
        feed.rows.apply(data);
        tell(data.at_ms);
      },
    });
    this.#feeds.set(name, feed);
    return feed;
  }

  #event(name) {
    const feed = this.#feeds.get(name);
    return feed ? { rows: () => feed.rows.all(), at_ms: feed.at_ms } : {};
  }

  #closeFeed(name) {
    this.#feeds.get(name)?.stream.close();
    this.#feeds.delete(name);
  }
}
