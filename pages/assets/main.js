// The wiring of the page: one status stream, told to every part.

import { Connect } from './connect.js';
import { Dashboards } from './dashboards.js';
import { Header } from './header.js';
import { Inspector } from './inspector.js';
import { Pipeline } from './pipeline.js';
import { SqlBox } from './sql_box.js';
import { Stream } from './stream.js';
import { startTheme } from './theme.js';
import { ViewList } from './view_list.js';
import { Views } from './views.js';

startTheme();
const views = new Views();
const sql = new SqlBox(views);
const query = (name) => sql.show(name);
const inspector = new Inspector(views, query);
const header = new Header();
const dashboards = new Dashboards(views);
const parts = [
  header,
  new Pipeline((id) => inspector.open(id)),
  inspector,
  views,
  sql,
  new ViewList(views, query),
  new Connect(),
];

// What was asked for at the start may be answered differently by another process, or after a view was made or dropped.
let known = '';
async function ask(status) {
  const nodes = (status.nodes ?? []).filter((node) => node.kind === 'view').map((node) => node.id);
  const now = JSON.stringify([status.generation, nodes]);
  if (now === known) return;
  known = now;
  try {
    await views.load();
  } catch {
    known = '';
    return;
  }
  await dashboards.load();
}

new Stream(
  'v1/status/stream',
  {
    status: (status) => {
      for (const part of parts) part.onStatus(status);
      ask(status);
    },
  },
  (state) => (state === 'open' ? header.onOpen() : header.onLost()),
);
