// The live page of a running process, in a real headless Chromium.
//
//   node page_test.mjs BASE_URL OUT_DIR
//
// The process must be fed while this runs: one check waits for a number to change. Prints `ok NAME` or `FAIL NAME …`
// for each check, leaves four screenshots in OUT_DIR, and exits 1 when a check failed (2: it could not start).
// The browser is $CHROMIUM, else /usr/bin/chromium.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { lowContrast } from './contrast.mjs';

const LEAST_CONTRAST = 4.5;
const WAIT_MS = 20_000;
const MAX_TABS = 250;
const sizes = { wide: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };

const [base, out, ...rest] = process.argv.slice(2);
if (!base || !out || rest.length > 0) {
  console.error('usage: node page_test.mjs BASE_URL OUT_DIR');
  process.exit(2);
}
const origin = new URL(base).origin;
mkdirSync(out, { recursive: true });

const browser = await chromium
  .launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    // The page asks for nothing outside; the browser itself should not either.
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  .catch((error) => {
    console.error(`cannot start the browser: ${error.message}\nInstall Chromium or set CHROMIUM to its path.`);
    process.exit(2);
  });

let failed = 0;
async function check(name, run) {
  try {
    const note = await run();
    console.log(`ok ${name}${note ? ` (${note})` : ''}`);
  } catch (error) {
    failed += 1;
    console.log(
      `FAIL ${name}: ${String(error.message ?? error)
        .split('\n')
        .slice(0, 3)
        .join(' | ')}`,
    );
  }
}
function expect(condition, message) {
  if (!condition) throw new Error(message);
}

const strangers = [];
const complaints = [];
/** A page whose requests and complaints are kept; `expectsRefusal` is set while a statement is meant to fail. */
let expectsRefusal = false;
async function open(options) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.origin !== origin) strangers.push(request.url());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    // The browser itself reports every answer of 4xx; the one that was asked for is no complaint.
    if (expectsRefusal && /Failed to load resource.*40[04]/.test(message.text())) return;
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  await page.goto(base);
  await page.locator('#state[data-state="running"]').waitFor();
  await page.locator('.node').first().waitFor();
  await page.locator('.panel .value, .panel canvas, .panel table, .panel .figure').first().waitFor();
  return page;
}

const page = await open({ viewport: sizes.wide, colorScheme: 'light' }).catch((error) => {
  console.log(`FAIL the page opens and shows the project running: ${error.message.split('\n')[0]}`);
  process.exit(1);
});
console.log('ok the page opens and shows the project running');

await check('a number in a panel changes without a reload', async () => {
  await page.evaluate(() => {
    window.unloaded = false;
  });
  const figures = () =>
    [...document.querySelectorAll('#dashboard .value, #dashboard .figure, #dashboard .legend b')].map(
      (node) => node.textContent,
    );
  await page.waitForFunction(() => document.querySelector('#dashboard .value')?.textContent.match(/\d/));
  const before = await page.evaluate(figures);
  expect(
    before.some((text) => /\d/.test(text)),
    'no panel shows a number',
  );
  const changed = await page.waitForFunction(
    ({ old, selector }) => {
      const now = [...document.querySelectorAll(selector)].map((node) => node.textContent);
      const at = now.findIndex((text, i) => /\d/.test(text) && old[i] !== undefined && text !== old[i]);
      return at >= 0 ? `${old[at]} became ${now[at]}` : null;
    },
    { old: before, selector: '#dashboard .value, #dashboard .figure, #dashboard .legend b' },
  );
  expect(await page.evaluate(() => window.unloaded === false), 'the page was loaded again');
  return changed.jsonValue();
});

await check('the pipeline picture has topics, views, edges and rates', async () => {
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.node .rate')].some((node) => parseFloat(node.textContent) > 0),
  );
  const seen = await page.evaluate(() => ({
    kinds: [...document.querySelectorAll('.node')].map((node) => node.dataset.kind),
    rates: [...document.querySelectorAll('.node:not([data-kind="file"]) .rate')].map((node) => node.textContent),
    edges: document.querySelectorAll('.edge').length,
    busy: document.querySelectorAll('.edge.busy').length,
  }));
  for (const kind of ['topic', 'view']) expect(seen.kinds.includes(kind), `no ${kind} among ${seen.kinds}`);
  expect(
    seen.rates.every((text) => /^[\d.,]+[KMB]?\/s$/.test(text)),
    `a rate that is none: ${seen.rates}`,
  );
  expect(seen.edges > 0 && seen.busy > 0, `${seen.edges} edges, ${seen.busy} with flow`);
  return `${seen.kinds.length} nodes, ${seen.edges} edges`;
});

await check('a node opens its details by keyboard and gives the focus back', async () => {
  const node = page.locator('.node[data-kind="view"]').first();
  await node.focus();
  await page.keyboard.press('Enter');
  const dialog = page.locator('#inspector[open]');
  await dialog.waitFor();
  const text = await dialog.innerText();
  for (const word of ['Rows', 'Columns', 'Statement']) expect(text.includes(word), `no "${word}" in the details`);
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' }).catch(() => {});
  expect(await node.evaluate((element) => element === document.activeElement), 'the focus went elsewhere');
});

await check('SQL shows rows', async () => {
  await page.fill('#sql-text', "SELECT 1 AS one, 'x' AS two");
  await page.click('#sql-run');
  await page.locator('#sql-result td').first().waitFor();
  const cells = await page.locator('#sql-result th, #sql-result td').allInnerTexts();
  expect(JSON.stringify(cells) === JSON.stringify(['one', 'two', '1', 'x']), `shown: ${cells}`);
  expect(/^1 row in/.test(await page.innerText('#sql-outcome')), await page.innerText('#sql-outcome'));
});

await check('a relation is one click away', async () => {
  const name = await page.locator('#relations button').first().innerText();
  await page.locator('#relations button').first().click();
  await page.waitForFunction(
    (relation) =>
      document.querySelector('#sql-text').value.includes(relation) &&
      document.querySelectorAll('#sql-result tbody tr').length > 1,
    name,
  );
  return name;
});

await check('the result downloads as CSV', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#sql-csv')]);
  const lines = readFileSync(await download.path(), 'utf8')
    .trim()
    .split('\r\n');
  const head = await page.locator('#sql-result th').allInnerTexts();
  expect(lines[0] === head.join(','), `first line ${lines[0]}`);
  expect(lines.length > 1, 'no rows');
});

await check('bad SQL shows the problem, and the next good statement clears it', async () => {
  expectsRefusal = true;
  await page.fill('#sql-text', 'SELECT nothing_like_this FROM nowhere_at_all');
  await page.press('#sql-text', 'Control+Enter');
  await page.locator('#sql-problem:not([hidden])').waitFor();
  const text = await page.innerText('#sql-problem');
  expect(/RM-\d{4}/.test(text) && /nowhere_at_all|nothing_like_this/.test(text), `shown: ${text}`);
  await page.fill('#sql-text', 'SELECT 2 AS two');
  await page.press('#sql-text', 'Control+Enter');
  await page.locator('#sql-problem').waitFor({ state: 'hidden' });
  expectsRefusal = false;
  return text.split('\n')[0];
});

await check('the history survives a reload', async () => {
  await page.reload();
  await page.click('#sql-history-menu summary');
  const list = await page.locator('#sql-history button').allInnerTexts();
  expect(list[0] === 'SELECT 2 AS two' && list.includes("SELECT 1 AS one, 'x' AS two"), `kept: ${list}`);
  expect(!list.some((text) => text.includes('nowhere_at_all')), 'a failed statement was kept');
  await page.keyboard.press('Escape');
});

await check('the keyboard alone reaches the SQL box and runs a statement', async () => {
  await page.locator('.panel .value, .panel canvas').first().waitFor();
  await page.evaluate(() => {
    document.activeElement?.blur();
    scrollTo(0, 0);
    getSelection().removeAllRanges();
  });
  await page.mouse.click(2, 2);
  let tabs = 0;
  for (; tabs < MAX_TABS; tabs += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      return {
        id: element.id,
        tag: element.tagName,
        shown: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        name: element.outerHTML.slice(0, 80),
      };
    });
    expect(focus.tag === 'BODY' || focus.shown, `the focus cannot be seen on ${focus.name}`);
    if (focus.id === 'sql-text') break;
  }
  expect(tabs < MAX_TABS, `${MAX_TABS} tabs did not reach it`);
  await page.keyboard.press('Control+A');
  await page.keyboard.type('SELECT 42 AS answer');
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction(() => document.querySelector('#sql-result td')?.textContent === '42');
  await page.keyboard.press('Tab');
  expect((await page.evaluate(() => document.activeElement.id)) !== 'sql-text', 'Tab stays in the box');
  return `${tabs + 1} tabs`;
});

await check('every view lists addresses that answer', async () => {
  const links = await page
    .locator('#view-list a')
    .evaluateAll((list) => list.map((a) => a.href).filter((href) => !href.endsWith('/changes')));
  expect(links.length >= 3, `${links.length} links`);
  for (const link of links) {
    const response = await page.request.get(link);
    expect(response.ok(), `${link}: ${response.status()}`);
  }
  return `${links.length} addresses`;
});

await check('the theme button switches, and the choice is kept', async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.click('#theme');
  const dark = await ground();
  expect(light !== dark, `still ${dark}`);
  await page.reload();
  expect((await ground()) === dark, 'forgotten after a reload');
  await page.click('#theme');
});

await check('the banner comes and goes with the server', async () => {
  await page.context().setOffline(true);
  // An open stream may outlive the switch; a new page load would not be the same test, so the streams are reopened.
  await page.evaluate(() => {
    const hidden = (value) => Object.defineProperty(document, 'hidden', { value, configurable: true });
    hidden(true);
    document.dispatchEvent(new Event('visibilitychange'));
    hidden(false);
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.locator('#banner:not([hidden])').waitFor();
  await page.context().setOffline(false);
  await page.locator('#banner').waitFor({ state: 'hidden' });
  await page.locator('#state[data-state="running"]').waitFor();
});
// What the browser says about a server that is away is not a fault of the page.
for (let i = complaints.length - 1; i >= 0; i -= 1) {
  if (/ERR_INTERNET_DISCONNECTED|ERR_NETWORK/.test(complaints[i])) complaints.splice(i, 1);
}
await page.context().close();

await check('with reduced motion nothing in the picture moves', async () => {
  const still = await open({ viewport: sizes.wide, reducedMotion: 'reduce' });
  await still.locator('.edge.busy').first().waitFor();
  const moving = await still.evaluate(
    () =>
      document
        .getAnimations()
        .filter(
          (animation) => animation.playState === 'running' && animation.effect.getTiming().iterations === Infinity,
        ).length,
  );
  await still.context().close();
  expect(moving === 0, `${moving} animations`);
});

for (const [size, viewport] of Object.entries(sizes)) {
  for (const colorScheme of ['light', 'dark']) {
    const name = `${size}-${colorScheme}`;
    const shown = await open({ viewport, colorScheme });
    expectsRefusal = true;
    // Both answers of the SQL box are part of the picture: first the problem, then the rows.
    await shown.fill('#sql-text', 'SELECT nothing_like_this FROM nowhere_at_all');
    await shown.press('#sql-text', 'Control+Enter');
    await shown
      .locator('#sql-problem:not([hidden])')
      .waitFor()
      .catch(() => {});
    expectsRefusal = false;
    await check(`${name}: contrast of all text is at least ${LEAST_CONTRAST}:1`, async () => {
      const { checked, failures } = await shown.evaluate(lowContrast, { least: LEAST_CONTRAST, within: 'body' });
      expect(checked > 50, `only ${checked} texts found`);
      expect(
        failures.length === 0,
        failures
          .slice(0, 5)
          .map((one) => `"${one.text}" ${one.ratio} (${one.where})`)
          .join('; '),
      );
      return `${checked} texts`;
    });
    await check(`${name}: contrast in the details of a node`, async () => {
      await shown.locator('.node[data-kind="view"]').first().click();
      await shown.locator('#inspector[open]').waitFor();
      const { checked, failures } = await shown.evaluate(lowContrast, { least: LEAST_CONTRAST, within: '#inspector' });
      await shown.keyboard.press('Escape');
      expect(checked > 10, `only ${checked} texts found`);
      expect(
        failures.length === 0,
        failures
          .slice(0, 5)
          .map((one) => `"${one.text}" ${one.ratio} (${one.where})`)
          .join('; '),
      );
    });
    await check(`${name}: no horizontal scroll`, async () => {
      await shown.locator('#relations button').first().click();
      await shown.locator('#sql-result td').first().waitFor();
      const { wide, room } = await shown.evaluate(() => ({
        wide: document.documentElement.scrollWidth,
        room: document.documentElement.clientWidth,
      }));
      expect(wide <= room, `${wide} px in ${room}`);
      const cut = await shown.evaluate(() =>
        [...document.querySelectorAll('.node, .panel, .facts dd, h1, h2, h3')]
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
          .map((element) => element.className || element.tagName),
      );
      expect(cut.length === 0, `outside of the window: ${cut.slice(0, 5)}`);
    });
    await shown.evaluate(() => {
      document.activeElement?.blur();
      scrollTo({ top: 0, behavior: 'instant' });
    });
    await shown.screenshot({ path: join(out, `${name}.png`), fullPage: true });
    await shown.context().close();
  }
}

await check('no complaint in the console', () =>
  expect(complaints.length === 0, [...new Set(complaints)].slice(0, 3).join('; ')),
);
await check('no request leaves the origin', () => expect(strangers.length === 0, strangers.slice(0, 3).join(' ')));

await browser.close();
console.log(failed === 0 ? 'all checks passed' : `${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
