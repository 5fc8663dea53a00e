// From rows to the lines and bars of a chart. Pure: rows in, arrays out.

import { timeOf } from './format.js';

export const MAX_SERIES = 6;

/**
 * `panel`: `{x, y: [..], series, limit}` ->
 * `{ scale: 'time'|'number'|'name', xs, series: [{label, values}], dropped }`:
 * xs ascend (names keep the order of the rows), values are null where a series has no row; `limit` keeps the last xs.
 */
export function pivot(rows, panel) {
  rows = newest(rows, panel);
  const y = panel.y?.length > 0 ? panel.y : [numericColumn(rows, panel)].filter(Boolean);
  const scale = scaleOf(rows, panel.x);
  const at = new Map();
  const labels = new Map();
  rows.forEach((row, index) => {
    const x = position(row[panel.x], scale, panel.x ? undefined : index);
    if (x === undefined || Number.isNaN(x)) return;
    const cells = at.get(x) ?? new Map();
    at.set(x, cells);
    for (const column of y) {
      const value = Number(row[column] ?? NaN);
      if (!Number.isFinite(value)) continue;
      const label = labelOf(row, column, panel, y);
      labels.set(label, true);
      cells.set(label, value);
    }
  });
  let xs = [...at.keys()];
  if (scale !== 'name') xs.sort((a, b) => a - b);
  if (panel.limit > 0) xs = scale === 'name' ? xs.slice(0, panel.limit) : xs.slice(-panel.limit);
  const names = panel.series ? [...labels.keys()].sort() : [...labels.keys()];
  return {
    scale,
    xs,
    series: names.slice(0, MAX_SERIES).map((label) => ({ label, values: xs.map((x) => at.get(x).get(label) ?? null) })),
    dropped: Math.max(0, names.length - MAX_SERIES),
  };
}

/**
 * Of a long view only the rows that can be seen, before anything costly happens to each: timestamps of one view are
 * written alike, so as text they sort like the times they stand for.
 */
function newest(rows, { x, limit }) {
  if (!(limit > 0) || rows.length <= limit || scaleOf(rows, x) !== 'time') return rows;
  const seen = [...new Set(rows.map((row) => row[x]))].filter((value) => typeof value === 'string');
  if (seen.length <= limit || seen.some((value) => value.length !== seen[0].length)) return rows;
  const first = seen.sort().at(-limit);
  return rows.filter((row) => row[x] >= first);
}

/** The columns of rows whose writer may leave null cells out. */
export function columnsOf(rows) {
  const names = new Set();
  for (const row of rows) for (const name of Object.keys(row)) names.add(name);
  return [...names];
}

function labelOf(row, column, panel, y) {
  if (!panel.series) return column;
  const name = String(row[panel.series] ?? 'none');
  return y.length > 1 ? `${name} ${column}` : name;
}

function scaleOf(rows, column) {
  const values = rows
    .slice(0, 100)
    .map((row) => row[column])
    .filter((value) => value !== null && value !== undefined);
  if (!column || values.every((value) => typeof value === 'number')) return 'number';
  return values.every((value) => Number.isFinite(timeOf(value))) ? 'time' : 'name';
}

function position(value, scale, index) {
  if (index !== undefined) return index;
  if (value === null || value === undefined) return undefined;
  if (scale === 'time') return timeOf(value);
  return scale === 'number' ? value : String(value);
}

function numericColumn(rows, panel) {
  return columnsOf(rows.slice(0, 20)).find(
    (name) => name !== panel.x && rows.some((row) => typeof row[name] === 'number'),
  );
}
