// Runs inside the page: the contrast of every visible text with what is behind it, after WCAG 2.2 (1.4.3).

/** The texts inside `within` below `least`, as `[{ text, ratio, where }]`; `checked` says how many were looked at. */
export function lowContrast({ least, within }) {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const cache = new Map();
  // Computed colours come in many notations; the canvas knows them all.
  const parse = (color) => {
    if (!cache.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      cache.set(color, { r, g, b, a: a / 255 });
    }
    return cache.get(color);
  };
  const over = (top, below, opacity = 1) => {
    const a = top.a * opacity;
    return {
      r: top.r * a + below.r * (1 - a),
      g: top.g * a + below.g * (1 - a),
      b: top.b * a + below.b * (1 - a),
      a: 1,
    };
  };
  const luminance = ({ r, g, b }) => {
    const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  /** All the colours that may be behind the text of an element: a gradient gives one for each of its stops. */
  const grounds = (element) => {
    const chain = [];
    for (let at = element; at; at = at.parentElement) chain.unshift(at);
    let found = [{ r: 255, g: 255, b: 255, a: 1 }];
    for (const at of chain) {
      const style = getComputedStyle(at);
      found = found.map((ground) => over(parse(style.backgroundColor), ground));
      const stops = style.backgroundImage.match(/(?:rgba?|color|oklab|oklch|lab|lch)\([^()]*\)/g) ?? [];
      found = found.flatMap((ground) => [ground, ...stops.map((stop) => over(parse(stop), ground))]);
    }
    return found;
  };
  const failures = [];
  let checked = 0;
  const walker = document.createTreeWalker(document.querySelector(within), NodeFilter.SHOW_TEXT);
  const elements = new Set();
  while (walker.nextNode()) {
    if (walker.currentNode.textContent.trim()) elements.add(walker.currentNode.parentElement);
  }
  for (const element of elements) {
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const seen = element.checkVisibility({ checkVisibilityCSS: true }) && box.width > 1 && box.height > 1;
    if (!seen || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'OPTION'].includes(element.tagName)) continue;
    checked += 1;
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const worst = Math.min(
      ...grounds(element).map((ground) => ratio(over(parse(style.color), ground, opacity), ground)),
    );
    if (worst < least) {
      const where = [element.tagName.toLowerCase(), ...element.classList].join('.');
      failures.push({ text: element.textContent.trim().slice(0, 40), ratio: Math.round(worst * 100) / 100, where });
    }
  }
  return { checked, failures };
}
