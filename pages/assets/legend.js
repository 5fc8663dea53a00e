// What the colours mean. With `toggle` each entry is a button that hides or shows its line.

import { el } from './dom.js';

/** `entries`: `[{label, hidden, value}]`; `value` is an element that the caller keeps up to date. */
export function legend(entries, toggle) {
  return el(
    'ul',
    { class: 'legend' },
    entries.map((entry, index) => {
      const swatch = el('span', { class: 'swatch' });
      swatch.style.setProperty('--mark', `var(--series-${index + 1})`);
      const parts = [swatch, el('span', {}, entry.label), entry.value];
      return el(
        'li',
        {},
        toggle
          ? el(
              'button',
              {
                type: 'button',
                'aria-pressed': String(!entry.hidden),
                title: 'Hide or show',
                onclick: () => toggle(entry.label),
              },
              parts,
            )
          : parts,
      );
    }),
  );
}
