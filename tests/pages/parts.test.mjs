// The parts of the page that are arithmetic: `npm test` needs no browser and no package.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cell, duration, moment, number, rate, timeOf } from '../../pages/assets/format.js';
import { layout } from '../../pages/assets/pipeline_layout.js';
import { MAX_SERIES, columnsOf, pivot } from '../../pages/assets/pivot.js';
import { Rows } from '../../pages/assets/rows.js';
import { caret } from '../../pages/assets/sql_caret.js';

test('an update in a keyed view replaces the row, whatever the order of its two halves', () => {
  const rows = new Rows(['origin']);
  rows.reset([
    { origin: 'JFK', n: 1 },
    { origin: 'LGA', n: 5 },
  ]);
  rows.apply({ inserted: [{ origin: 'JFK', n: 2 }], deleted: [{ origin: 'JFK', n: 1 }] });
  assert.deepEqual(rows.all(), [
    { origin: 'LGA', n: 5 },
    { origin: 'JFK', n: 2 },
  ]);
});

test('equal rows of a view without key are counted, not merged', () => {
  const rows = new Rows();
  rows.reset([{ a: 1 }, { a: 1 }]);
  rows.apply({ deleted: [{ a: 1 }] });
  assert.deepEqual(rows.all(), [{ a: 1 }]);
  rows.apply({ deleted: [{ a: 1 }, { a: 7 }] });
  assert.equal(rows.size, 0);
});

test('a reset forgets what was there', () => {
  const rows = new Rows(['a']);
  rows.reset([{ a: 1 }]);
  rows.reset([{ a: 2 }]);
  assert.deepEqual(rows.all(), [{ a: 2 }]);
});

test('a line per value of the series column, on one ascending time axis, the latest kept', () => {
  const row = (origin, hour, v) => ({ origin, at: `2013-01-01T0${hour}:00:00`, v });
  const { scale, xs, series } = pivot([row('LGA', 3, 30), row('EWR', 1, 10), row('EWR', 3, 31), row('EWR', 2, 20)], {
    x: 'at',
    y: ['v'],
    series: 'origin',
    limit: 2,
  });
  assert.equal(scale, 'time');
  assert.deepEqual(xs, [Date.UTC(2013, 0, 1, 2), Date.UTC(2013, 0, 1, 3)]);
  assert.deepEqual(series, [
    { label: 'EWR', values: [20, 31] },
    { label: 'LGA', values: [null, 30] },
  ]);
});

test('names keep the order of the rows, nulls draw nothing, too many series are counted', () => {
  assert.deepEqual(
    pivot(
      [
        { c: 'snow', d: 3 },
        { c: 'clear', d: null },
      ],
      { x: 'c', y: ['d'] },
    ).series,
    [{ label: 'd', values: [3, null] }],
  );
  const rows = Array.from({ length: MAX_SERIES + 3 }, (_, i) => ({ x: 1, s: `s${i}`, y: i }));
  assert.equal(pivot(rows, { x: 'x', y: ['y'], series: 's' }).dropped, 3);
  assert.deepEqual(pivot([], { x: 'x', y: ['y'] }).xs, []);
});

test('columns are found even when the writer leaves nulls out', () => {
  assert.deepEqual(columnsOf([{ a: 1 }, { a: 2, b: 3 }]), ['a', 'b']);
});

const nodes = (...ids) => ids.map((id) => ({ id, kind: 'view' }));

test('the wide picture keeps every node inside, apart from each other, and flows left to right', () => {
  const edges = [
    ['a', 'c'],
    ['b', 'c'],
    ['c', 'd'],
    ['a', 'd'],
    ['c', 'e'],
    ['b', 'e'],
  ];
  const { boxes, paths, height, narrow } = layout(nodes('a', 'b', 'c', 'd', 'e'), edges, 1200);
  assert.equal(narrow, false);
  const list = [...boxes.values()];
  for (const box of list) {
    assert.ok(box.x >= 0 && box.x + box.width <= 1200 && box.y >= 0 && box.y + box.height <= height);
    for (const other of list) {
      const apart =
        box === other ||
        box.x + box.width <= other.x ||
        other.x + other.width <= box.x ||
        box.y + box.height <= other.y ||
        other.y + other.height <= box.y;
      assert.ok(apart, 'two nodes overlap');
    }
  }
  for (const [from, to] of edges) assert.ok(boxes.get(from).x < boxes.get(to).x);
  assert.equal(paths.length, edges.length);
});

test('the narrow picture is one column in flow order that fits a phone', () => {
  const edges = [
    ['a', 'c'],
    ['b', 'c'],
    ['c', 'd'],
  ];
  const { boxes, narrow } = layout(nodes('d', 'c', 'b', 'a'), edges, 330);
  assert.equal(narrow, true);
  for (const [from, to] of edges) assert.ok(boxes.get(from).y < boxes.get(to).y);
  for (const box of boxes.values()) assert.ok(box.x > 0 && box.x + box.width <= 330 && box.width > 200);
});

test('a cycle, an unknown node, a doubled edge or nothing at all still give a picture', () => {
  assert.equal(
    layout(
      nodes('a', 'b'),
      [
        ['a', 'b'],
        ['b', 'a'],
        ['a', 'a'],
        ['a', 'x'],
        ['a', 'b'],
      ],
      900,
    ).paths.length,
    2,
  );
  assert.equal(
    layout(
      nodes('a', 'b'),
      [
        ['a', 'b'],
        ['b', 'a'],
      ],
      300,
    ).boxes.size,
    2,
  );
  assert.equal(layout([], [], 900).boxes.size, 0);
});

test('the caret stands under the column that the message or the error names', () => {
  assert.equal(caret({ message: 'syntax error at line 2, column 3' }, 'SELECT\n  x'), '2 |   x\n      ^');
  assert.equal(caret({ message: 'no', line: 1, column: 1 }, 'x'), '1 | x\n    ^');
  assert.equal(caret({ message: 'q.sql:1:2: no' }, 'ab'), '1 | ab\n     ^');
});

test('no caret without a place, outside of the text, or when the message has its own', () => {
  assert.equal(caret({ message: 'no' }, 'x'), undefined);
  assert.equal(caret({ message: 'line 9, column 1' }, 'x'), undefined);
  assert.equal(caret({ message: 'line 1, column 1\nx\n^' }, 'x'), undefined);
  assert.equal(caret({ message: 'no\n  --> query:1:1\n  |\n1 | x\n  | ^' }, 'x'), undefined);
});

test('event times are shown as written, whatever the zone of the browser', () => {
  assert.equal(moment(timeOf('2013-01-04T05:00:00')), '4 Jan 05:00');
  assert.equal(moment(timeOf('2013-01-04T05:00:00.000Z'), { year: true }), '4 Jan 2013 05:00');
  assert.ok(Number.isNaN(timeOf('JFK')) && Number.isNaN(timeOf('12345')) && Number.isNaN(timeOf(7)));
});

test('numbers, rates and durations for people', () => {
  assert.deepEqual(
    [number(27004), number(12.345), number(0.01234), number(3, true), number(NaN)],
    ['27,004', '12.3', '0.0123', '3.0', '–'],
  );
  assert.deepEqual([rate(0), rate(3.21), rate(1234.5), rate(undefined)], ['0', '3.2', '1,235', '0']);
  assert.deepEqual(
    [duration(59_000), duration(61_000), duration(3_600_000), duration(90_000_000)],
    ['59 s', '1 min 1 s', '1 h 0 min', '1 d 1 h'],
  );
  assert.deepEqual([cell(null), cell({ a: 1 }), cell('x')], ['', '{"a":1}', 'x']);
});
