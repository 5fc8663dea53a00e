// The top of the page: what runs, how fast, how far behind; and the banner while the server is away.

import { byId, el, setText } from './dom.js';
import { bytes, count, duration, moment, rate, timeOf } from './format.js';

// The status comes once a second; this much silence means that nobody is there, whatever the connection says.
const SILENCE_MS = 5000;

export class Header {
  #facts = new Map();
  #heard_ms = 0;
  #lost = false;
  #age = el('span', { 'aria-hidden': 'true' });

  constructor() {
    for (const [id, label] of [
      ['rate', 'Events per second'],
      ['lag', 'Lag'],
      ['time', 'Event time'],
      ['epoch', 'Epoch'],
      ['uptime', 'Uptime'],
      ['memory', 'Memory'],
    ]) {
      const value = el('dd', { id: `fact-${id}` }, '–');
      byId('facts').append(el('div', {}, el('dt', {}, label), value));
      this.#facts.set(id, value);
    }
    setInterval(() => this.#watch(), 1000);
  }

  onStatus(status) {
    this.#heard_ms = performance.now();
    this.#lost = false;
    // A pipeline that stopped still serves what it has: say why the numbers stand still.
    const stopped = status.state === 'failed' ? `The pipeline has stopped. ${status.message ?? ''}` : '';
    if (stopped) setText(byId('banner'), stopped);
    byId('banner').hidden = !stopped;
    byId('banner').dataset.state = status.state ?? 'running';
    setText(byId('project'), status.name ?? 'Rivermere');
    document.title = `${status.name ?? 'Rivermere'} · Rivermere`;
    this.#state(status.state ?? 'running');
    this.#set('rate', rate(inputRate(status.nodes ?? [])));
    this.#set('lag', count(status.lag));
    this.#set('time', moment(latestWatermark(status.watermarks ?? []), { year: true }));
    this.#set('epoch', count(status.epoch));
    this.#set('uptime', duration(status.uptime_ms));
    this.#set('memory', bytes(status.rss_bytes));
  }

  /** The status stream broke. The banner waits a moment: most breaks end before anyone could read it. */
  onLost() {
    this.#lost = true;
  }

  onOpen() {
    this.#heard_ms = performance.now();
  }

  #watch() {
    if (document.hidden) {
      this.#heard_ms = performance.now();
      return;
    }
    const silent_ms = performance.now() - this.#heard_ms;
    if (!this.#lost && silent_ms < SILENCE_MS) return;
    if (silent_ms < 1500) return;
    const banner = byId('banner');
    // The age is for the eye only: read aloud every second it would drown everything else.
    setText(this.#age, `What you see is ${Math.round(silent_ms / 1000)} s old.`);
    if (!this.#age.isConnected) banner.replaceChildren('Connection lost, trying again … ', this.#age);
    banner.hidden = false;
    this.#state('reconnecting');
  }

  #state(state) {
    byId('state').dataset.state = state;
    setText(byId('state'), state);
  }

  #set(id, text) {
    setText(this.#facts.get(id), text);
  }
}

/** Events enter through topics; a project without any counts what its sources read. */
function inputRate(nodes) {
  const kind = nodes.some((node) => node.kind === 'topic') ? 'topic' : 'source';
  return nodes
    .filter((node) => node.kind === kind && !node.label?.endsWith('.dlq'))
    .reduce((sum, node) => sum + (node.rate || 0), 0);
}

function latestWatermark(watermarks) {
  const times = watermarks.map((entry) => timeOf(entry.watermark)).filter(Number.isFinite);
  return times.length > 0 ? Math.max(...times) : NaN;
}
