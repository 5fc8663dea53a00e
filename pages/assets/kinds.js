// The kinds of nodes a pipeline has: a word, a glyph and a colour for each, the same in every place.

import { svg } from './dom.js';

const glyphs = {
  topic: 'M3 5h14M3 10h14M3 15h9',
  source: 'M3 10h9M9 6l4 4-4 4M16 4v12',
  file: 'M5 3h6l4 4v10H5zM11 3v4h4',
  view: 'M2 8c4 0 4 4 8 4s4-4 8-4M2 13c4 0 4 4 8 4s4-4 8-4',
  sink: 'M4 5c0-3 12-3 12 0v10c0 3-12 3-12 0zM4 5c0 3 12 3 12 0',
};

export const kinds = ['topic', 'source', 'file', 'view', 'sink'];

export function glyph(kind) {
  return svg(
    'svg',
    { class: 'glyph', viewBox: '0 0 20 20', width: 16, height: 16, 'aria-hidden': 'true' },
    svg('path', { d: glyphs[kind] ?? 'M4 4h12v12H4z' }),
  );
}
