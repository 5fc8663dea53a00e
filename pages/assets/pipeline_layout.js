// Where the nodes and edges of the pipeline picture go. Pure arithmetic: no element, no browser.
//
// Wide: layers from left to right (the classic layered drawing: longest path gives the layer, long edges get a
// placeholder in each layer they pass, sweeps by the mean of the neighbours lower the crossings).
// Narrow: one column of rows in flow order, and beside it a lane for each node that feeds others, as on a metro map.

const NODE_HEIGHT = 60;
const NODE_MAX_WIDTH = 212;
const NODE_MIN_WIDTH = 146;
const COLUMN_GAP = 46;
const ROW_GAP = 14;
const PASSAGE_HEIGHT = 10;
const PADDING = 4;

const ROW_HEIGHT = 56;
const NARROW_GAP = 10;
const LANE_WIDTH = 9;
const LANE_MARGIN = 12;

/**
 * `nodes`: `[{id, kind}]`, `edges`: `[[from, to]]`, `width` in px ->
 * `{ boxes: Map id -> {x, y, width, height}, paths: [{from, to, d, arrow}], height, narrow }`.
 */
export function layout(nodes, edges, width) {
  const graph = clean(nodes, edges);
  const layer = layersOf(nodes, graph);
  const columns = order(nodes, graph, layer);
  const gaps = COLUMN_GAP * (columns.length - 1);
  const nodeWidth = Math.min(NODE_MAX_WIDTH, (width - gaps - 2 * PADDING) / Math.max(1, columns.length));
  return nodeWidth >= NODE_MIN_WIDTH ? wide(columns, graph, nodeWidth, width) : narrow(columns, graph, width);
}

/** Edges between nodes that exist, once each, none from a node to itself. */
function clean(nodes, edges) {
  const known = new Set(nodes.map((node) => node.id));
  const seen = new Set();
  const links = [];
  for (const [from, to] of edges) {
    const name = JSON.stringify([from, to]);
    if (from === to || seen.has(name) || !known.has(from) || !known.has(to)) continue;
    seen.add(name);
    links.push({ from, to });
  }
  return { links };
}

/** Longest path from the inputs; files move right up to their first reader, sinks to the last layer. */
function layersOf(nodes, { links }) {
  const layer = new Map(nodes.map((node) => [node.id, 0]));
  // As many rounds as nodes settle every acyclic graph; a cycle, which should not be, just stops there.
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const { from, to } of links) {
      if (layer.get(to) > layer.get(from)) continue;
      layer.set(to, Math.min(layer.get(from) + 1, nodes.length - 1));
      moved = true;
    }
    if (!moved) break;
  }
  const last = Math.max(0, ...layer.values());
  for (const { id, kind } of nodes) {
    const readers = links.filter((link) => link.from === id).map((link) => layer.get(link.to));
    if (kind === 'file' && readers.length > 0) layer.set(id, Math.max(layer.get(id), Math.min(...readers) - 1));
    if (kind === 'sink' && readers.length === 0) layer.set(id, last);
  }
  // An empty layer (possible after the moves) would be a hole in the picture.
  const used = [...new Set(layer.values())].sort((a, b) => a - b);
  return new Map([...layer].map(([id, value]) => [id, used.indexOf(value)]));
}

/** Columns of `{id, passage}`, each in drawing order; every link learns the passages it goes through. */
function order(nodes, { links }, layer) {
  const columns = [];
  const put = (index, item) => (columns[index] ??= []).push(item);
  const items = new Map();
  for (const { id } of nodes) {
    const item = { id, passage: false, before: [], after: [] };
    items.set(id, item);
    put(layer.get(id), item);
  }
  for (const link of links) {
    link.chain = [items.get(link.from)];
    for (let index = layer.get(link.from) + 1; index < layer.get(link.to); index += 1) {
      const item = { id: null, passage: true, before: [], after: [] };
      put(index, item);
      link.chain.push(item);
    }
    link.chain.push(items.get(link.to));
    for (let i = 1; i < link.chain.length; i += 1) {
      link.chain[i - 1].after.push(link.chain[i]);
      link.chain[i].before.push(link.chain[i - 1]);
    }
  }
  const rank = () =>
    columns.forEach((column) =>
      column.forEach((item, index) => {
        item.rank = index / column.length;
      }),
    );
  rank();
  for (let sweep = 0; sweep < 12; sweep += 1) {
    const side = sweep % 2 === 0 ? 'before' : 'after';
    for (const column of sweep % 2 === 0 ? columns : columns.toReversed()) {
      for (const item of column) item.weight = mean(item[side].map((other) => other.rank)) ?? item.rank;
      column.sort((a, b) => a.weight - b.weight);
      column.forEach((item, index) => {
        item.rank = index / column.length;
      });
    }
  }
  return columns;
}

function wide(columns, { links }, nodeWidth, width) {
  const heightOf = (item) => (item.passage ? PASSAGE_HEIGHT : NODE_HEIGHT);
  const stack = (column) => column.reduce((sum, item) => sum + heightOf(item) + ROW_GAP, -ROW_GAP);
  const inner = Math.max(...columns.map(stack), NODE_HEIGHT);
  const height = inner + 2 * PADDING;
  for (const column of columns) {
    let y = PADDING + (inner - stack(column)) / 2;
    for (const item of column) {
      item.y = y + heightOf(item) / 2;
      y += heightOf(item) + ROW_GAP;
    }
  }
  // Pull every node towards the middle of its neighbours, never through its own neighbours in the column.
  for (let sweep = 0; sweep < 10; sweep += 1) {
    const side = sweep % 2 === 0 ? 'before' : 'after';
    for (const column of columns) {
      const wish = column.map((item) => mean(item[side].map((other) => other.y)) ?? item.y);
      let floor = PADDING;
      column.forEach((item, i) => {
        const half = heightOf(item) / 2;
        item.y = Math.max(wish[i], floor + half);
        floor = item.y + half + ROW_GAP;
      });
      let ceiling = height - PADDING;
      for (const item of column.toReversed()) {
        const half = heightOf(item) / 2;
        item.y = Math.min(item.y, ceiling - half);
        ceiling = item.y - half - ROW_GAP;
      }
    }
  }
  const pitch = columns.length > 1 ? (width - 2 * PADDING - nodeWidth) / (columns.length - 1) : 0;
  columns.forEach((column, index) =>
    column.forEach((item) => {
      item.x = PADDING + index * pitch;
    }),
  );

  const boxes = new Map();
  for (const item of columns.flat()) {
    if (!item.passage)
      boxes.set(item.id, { x: item.x, y: item.y - NODE_HEIGHT / 2, width: nodeWidth, height: NODE_HEIGHT });
  }
  const entries = ports(links, (link) => link.chain.at(-2).y);
  const paths = links.map((link) => {
    const [start, ...rest] = link.chain;
    let d = `M${round(start.x + nodeWidth)} ${round(start.y)}`;
    let [x, y] = [start.x + nodeWidth, start.y];
    let end = null;
    rest.forEach((item) => {
      const target = item.passage ? item.y : item.y + entries.get(link) * 11;
      const bend = Math.max(18, (item.x - x) * 0.5);
      d += `C${round(x + bend)} ${round(y)} ${round(item.x - bend)} ${round(target)} ${round(item.x)} ${round(target)}`;
      [x, y] = [item.x, target];
      end = { x, y };
      if (item.passage) {
        x += nodeWidth;
        d += `H${round(x)}`;
      }
    });
    return { from: link.from, to: link.to, d, arrow: arrow(end.x, end.y) };
  });
  return { boxes, paths, height, narrow: false };
}

function narrow(columns, { links }, width) {
  const items = inFlowOrder(columns, links);
  const row = new Map(items.map((item, index) => [item.id, index]));
  const middle = (id) => PADDING + row.get(id) * (ROW_HEIGHT + NARROW_GAP) + ROW_HEIGHT / 2;

  // One lane per feeding node; a lane is free again below the last node it reaches. Short lanes run close to the rows.
  const reach = new Map();
  for (const { from, to } of links) reach.set(from, Math.max(reach.get(from) ?? 0, row.get(to)));
  const spans = [...reach].map(([id, end]) => ({
    id,
    start: Math.min(row.get(id), end),
    end: Math.max(row.get(id), end),
  }));
  spans.sort((a, b) => a.end - a.start - (b.end - b.start) || a.start - b.start);
  const lanes = [];
  const laneOf = new Map();
  for (const span of spans) {
    let lane = lanes.findIndex((taken) => taken.every((other) => other.end <= span.start || span.end <= other.start));
    if (lane < 0) lane = lanes.push([]) - 1;
    lanes[lane].push(span);
    laneOf.set(span.id, lane);
  }
  const left = PADDING + LANE_MARGIN + lanes.length * LANE_WIDTH;
  const boxes = new Map();
  for (const { id } of items) {
    boxes.set(id, { x: left, y: middle(id) - ROW_HEIGHT / 2, width: width - left - PADDING, height: ROW_HEIGHT });
  }
  const entries = ports(links, (link) => laneOf.get(link.from));
  const paths = links.map((link) => {
    const x = left - LANE_MARGIN - laneOf.get(link.from) * LANE_WIDTH;
    const start = middle(link.from) + ROW_HEIGHT / 2 - 14;
    const end = middle(link.to) - 8 + entries.get(link) * 8;
    const down = Math.sign(end - start) || 1;
    const r = Math.min(7, left - x, Math.abs(end - start) / 2);
    const d =
      `M${left} ${round(start)}H${round(x + r)}Q${round(x)} ${round(start)} ${round(x)} ${round(start + down * r)}` +
      `V${round(end - down * r)}Q${round(x)} ${round(end)} ${round(x + r)} ${round(end)}H${round(left)}`;
    return { from: link.from, to: link.to, d, arrow: arrow(left, end) };
  });
  const height = 2 * PADDING + items.length * (ROW_HEIGHT + NARROW_GAP) - NARROW_GAP;
  return { boxes, paths, height, narrow: true };
}

/** Every node right after what it needs, so that lanes stay short: from each end of the flow back to its inputs. */
function inFlowOrder(columns, links) {
  const items = columns.flat().filter((item) => !item.passage);
  const feeders = byTarget(links);
  const feeding = new Set(links.map((link) => link.from));
  const byId = new Map(items.map((item) => [item.id, item]));
  const placed = new Set();
  const visit = (id) => {
    if (placed.has(id)) return;
    placed.add(id);
    for (const link of feeders.get(id) ?? []) visit(link.from);
    ordered.push(byId.get(id));
  };
  const ordered = [];
  for (const item of items) if (!feeding.has(item.id)) visit(item.id);
  for (const item of items) visit(item.id);
  return ordered;
}

/** Spreads the edges that end at one node around its middle: link -> -1 … 1, ordered by where they come from. */
function ports(links, origin) {
  const offsets = new Map();
  for (const [, group] of byTarget(links)) {
    const sorted = group.toSorted((a, b) => origin(a) - origin(b));
    sorted.forEach((link, index) => offsets.set(link, sorted.length > 1 ? (index / (sorted.length - 1)) * 2 - 1 : 0));
  }
  return offsets;
}

function byTarget(links) {
  const groups = new Map();
  for (const link of links) groups.set(link.to, [...(groups.get(link.to) ?? []), link]);
  return groups;
}

function arrow(x, y) {
  return `M${round(x - 6)} ${round(y - 4)}L${round(x)} ${round(y)}L${round(x - 6)} ${round(y + 4)}z`;
}

function mean(values) {
  return values.length > 0 ? values.reduce((sum, value) => sum + value, 0) / values.length : undefined;
}

function round(value) {
  return Math.round(value * 10) / 10;
}
