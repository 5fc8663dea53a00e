// The picture of the pipeline: nodes are buttons (so the keyboard reaches them), edges an SVG behind them.
// Structure is drawn when it or the width changes; once a second only numbers and the speed of the flow are touched.

import { byId, el, reducedMotion, setText, svg } from './dom.js';
import { count, rate } from './format.js';
import { glyph, kinds } from './kinds.js';
import { layout } from './pipeline_layout.js';

const HISTORY = 60;
const DASH_PX = 14;

export class Pipeline {
  #root = byId('picture');
  #open;
  #status = null;
  #drawn = '';
  #nodes = new Map();
  #edges = [];
  #history = new Map();

  /** `open(id)` is called when a node is chosen. */
  constructor(open) {
    this.#open = open;
    new ResizeObserver(() => this.#draw()).observe(this.#root);
    // An animation nobody sees still costs every frame.
    new IntersectionObserver(([entry]) => {
      this.#root.classList.toggle('away', !entry.isIntersecting);
      this.#flow();
    }).observe(this.#root);
    reducedMotion.addEventListener('change', () => this.#flow());
  }

  onStatus(status) {
    this.#status = status;
    for (const node of status.nodes ?? []) {
      const history = this.#history.get(node.id) ?? [];
      history.push(node.rate || 0);
      if (history.length > HISTORY) history.shift();
      this.#history.set(node.id, history);
    }
    this.#draw();
    this.#refresh();
  }

  #draw() {
    if (!this.#status) return;
    const { nodes = [], edges = [] } = this.#status;
    const style = getComputedStyle(this.#root);
    const width = this.#root.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const shape = JSON.stringify([width, nodes.map((node) => [node.id, node.kind, node.label]), edges]);
    if (shape === this.#drawn || width <= 0) return;
    this.#drawn = shape;

    const focused = document.activeElement?.dataset?.node;
    if (nodes.length === 0) {
      this.#root.replaceChildren(
        el(
          'p',
          { class: 'waiting' },
          'Nothing flows yet: CREATE TABLE reads a topic, CREATE MATERIALIZED VIEW keeps an answer.',
        ),
      );
      this.#nodes.clear();
      this.#edges = [];
      return;
    }
    const { boxes, paths, height, narrow } = layout(nodes, edges, width);
    const kindOf = new Map(nodes.map((node) => [node.id, node.kind]));
    const picture = svg('svg', { class: 'edges', width, height, 'aria-hidden': 'true' });
    this.#edges = paths.map(({ from, to, d, arrow }) => {
      const group = svg('g', { class: 'edge', 'data-kind': kindOf.get(from) });
      const flow = svg('path', { class: 'flow', d });
      group.append(svg('path', { class: 'bed', d }), flow, svg('path', { class: 'arrow', d: arrow }));
      picture.append(group);
      return { from, to, group, flow, animation: null };
    });
    const stage = el('div', { class: narrow ? 'stage narrow' : 'stage' }, picture);
    stage.style.height = `${height}px`;
    this.#nodes.clear();
    // Reading and tab order follow the flow: column by column, or row by row.
    const inOrder = nodes
      .filter((node) => boxes.has(node.id))
      .toSorted((a, b) => {
        const [p, q] = [boxes.get(a.id), boxes.get(b.id)];
        return p.x - q.x || p.y - q.y;
      });
    for (const node of inOrder) {
      const view = this.#node(node, boxes.get(node.id));
      this.#nodes.set(node.id, view);
      stage.append(view.button);
    }
    this.#root.replaceChildren(stage);
    byId('kinds').replaceChildren(
      ...kinds
        .filter((kind) => nodes.some((node) => node.kind === kind))
        .map((kind) => el('li', { 'data-kind': kind }, glyph(kind), kind)),
    );
    if (focused) this.#nodes.get(focused)?.button.focus({ preventScroll: true });
    this.#refresh();
  }

  #node(node, box) {
    const view = {
      rate: el('span', { class: 'rate' }),
      more: el('span', { class: 'more' }),
      alarm: el('span', { class: 'alarm', hidden: true }),
      spark: svg('path'),
    };
    view.button = el(
      'button',
      {
        class: 'node',
        type: 'button',
        'data-kind': node.kind,
        'data-node': node.id,
        'aria-haspopup': 'dialog',
        title: node.label,
        onclick: () => this.#open(node.id),
        onmouseenter: () => this.#highlight(node.id),
        onmouseleave: () => this.#highlight(null),
        onfocus: () => this.#highlight(node.id),
        onblur: () => this.#highlight(null),
      },
      svg(
        'svg',
        { class: 'spark', viewBox: `0 0 ${HISTORY - 1} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        view.spark,
      ),
      el(
        'span',
        { class: 'name' },
        glyph(node.kind),
        el('span', { class: 'away-from-eyes' }, `${node.kind} `),
        el('b', {}, node.label),
        view.alarm,
      ),
      el('span', { class: 'numbers' }, view.rate, view.more),
    );
    Object.assign(view.button.style, {
      left: `${box.x}px`,
      top: `${box.y}px`,
      width: `${box.width}px`,
      height: `${box.height}px`,
    });
    return view;
  }

  #refresh() {
    const { nodes = [], sinks = [] } = this.#status;
    for (const node of nodes) {
      const view = this.#nodes.get(node.id);
      if (!view) continue;
      setText(view.rate, node.kind === 'file' ? 'read once' : `${rate(node.rate)}/s`);
      setText(view.more, more(node, sinks));
      // Room for one: broken records weigh more than late ones. The dialog has both.
      const alarm = node.dead > 0 ? `${count(node.dead)} dead` : node.late > 0 ? `${count(node.late)} late` : '';
      setText(view.alarm, alarm);
      view.alarm.hidden = !alarm;
      view.spark.setAttribute('d', spark(this.#history.get(node.id) ?? []));
    }
    this.#flow();
  }

  /** Dots move along an edge as fast as its source is busy: on a log scale, since rates span five powers of ten. */
  #flow() {
    const rates = new Map((this.#status?.nodes ?? []).map((node) => [node.id, node.rate || 0]));
    const still = reducedMotion.matches || this.#root.classList.contains('away');
    for (const edge of this.#edges) {
      const busy = rates.get(edge.from) > 0;
      const power = busy ? Math.log10(1 + rates.get(edge.from)) : 0;
      edge.group.classList.toggle('busy', busy);
      edge.flow.style.strokeWidth = `${2 + Math.min(2.5, power * 0.5)}px`;
      if (still || !busy) {
        edge.animation?.pause();
        continue;
      }
      edge.animation ??= edge.flow.animate(
        { strokeDashoffset: [`${DASH_PX}px`, '0px'] },
        { duration: 1000, iterations: Infinity },
      );
      // Not the duration: changing that would make every dot jump.
      edge.animation.updatePlaybackRate((10 + 16 * power) / DASH_PX);
      edge.animation.play();
    }
  }

  #highlight(id) {
    const near = id ? related(id, this.#edges) : null;
    this.#root.classList.toggle('focused', Boolean(near));
    for (const [name, view] of this.#nodes) view.button.classList.toggle('near', Boolean(near?.has(name)));
    for (const edge of this.#edges)
      edge.group.classList.toggle('near', Boolean(near?.has(edge.from) && near.has(edge.to)));
  }
}

function more(node, sinks) {
  if (node.kind === 'sink') {
    const sink =
      sinks.find((candidate) => candidate.id === node.id) ?? sinks.find((candidate) => candidate.view === node.label);
    if (sink) return `${sink.format} · epoch ${count(sink.confirmed_epoch)}`;
  }
  if (node.lag > 0) return `lag ${count(node.lag)}`;
  return Number.isFinite(node.rows) ? `${count(node.rows)} rows` : '';
}

/** All that a node is made from, and all that is made from it. */
function related(id, edges) {
  const found = new Set([id]);
  for (const [here, there] of [
    ['from', 'to'],
    ['to', 'from'],
  ]) {
    const queue = [id];
    const seen = new Set(queue);
    while (queue.length > 0) {
      const at = queue.pop();
      for (const edge of edges) {
        if (edge[here] !== at || seen.has(edge[there])) continue;
        seen.add(edge[there]);
        found.add(edge[there]);
        queue.push(edge[there]);
      }
    }
  }
  return found;
}

function spark(history) {
  const top = Math.max(...history, 0);
  if (history.length < 2 || top <= 0) return '';
  const start = HISTORY - history.length;
  const points = history.map((value, i) => `${start + i} ${(20 - (value / top) * 17).toFixed(1)}`);
  return `M${start} 20L${points.join('L')}L${HISTORY - 1} 20z`;
}
