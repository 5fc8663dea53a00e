// Making elements without markup strings: text is always text, so no value from data can become an element.

/**
 * `el('a', { class: 'x', href: '#', onclick: f, 'aria-label': 'y' }, 'text', child)`.
 * Properties that start with `on` become listeners, `undefined`, `null` and `false` are left out.
 */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for elements of a picture. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text only when it differs: an untouched node costs no layout and keeps a selection. True when it did. */
export function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

const CALM_MS = 1500;
const changed = new WeakMap();

/**
 * Lets an element whose text changed light up once. What changes all the time is seen without it, so only a change
 * after a while of rest does; and none for those who asked for less motion.
 */
export function flash(node) {
  const rested = performance.now() - (changed.get(node) ?? -Infinity) > CALM_MS;
  changed.set(node, performance.now());
  if (!rested || reducedMotion.matches) return;
  node.animate(
    { boxShadow: ['inset 0 0 0 99px var(--flash)', 'inset 0 0 0 99px transparent'] },
    { duration: 900, easing: 'ease-out' },
  );
}

export const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}
