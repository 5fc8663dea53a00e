// Light or dark: the system decides until the button does; the choice is kept in this browser.

import { byId, svg } from './dom.js';

const KEY = 'rivermere.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set();

/** Calls `listener` after the colours changed: canvases must be drawn again. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The colour a custom property stands for right now, as a canvas understands it. */
export function color(property) {
  probe.style.color = `var(${property})`;
  return getComputedStyle(probe).color;
}

export function startTheme() {
  document.body.append(probe);
  const button = byId('theme');
  button.append(icon());
  apply(stored());
  button.addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    // Back at what the system says: follow it again.
    const choice = (next === 'dark') === system.matches ? null : next;
    keep(choice);
    apply(choice);
  });
  system.addEventListener('change', () => apply(stored()));
}

const probe = document.createElement('span');
probe.hidden = true;

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : system.matches;
}

function apply(choice) {
  if (choice) document.documentElement.dataset.theme = choice;
  else delete document.documentElement.dataset.theme;
  const label = `Switch to the ${isDark() ? 'light' : 'dark'} theme`;
  byId('theme').setAttribute('aria-label', label);
  byId('theme').title = label;
  for (const listener of listeners) listener();
}

// Storage may be forbidden (private windows, policies); the page then just forgets.
function stored() {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : null;
  } catch {
    return null;
  }
}

function keep(choice) {
  try {
    if (choice) localStorage.setItem(KEY, choice);
    else localStorage.removeItem(KEY);
  } catch {
    /* see stored() */
  }
}

function icon() {
  return svg(
    'svg',
    { viewBox: '0 0 20 20', width: 20, height: 20, 'aria-hidden': 'true' },
    svg('circle', { cx: 10, cy: 10, r: 7, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6 }),
    svg('path', { d: 'M10 3a7 7 0 0 1 0 14z', fill: 'currentColor' }),
  );
}
