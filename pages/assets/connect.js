// How other programs reach this process: one line to copy for each open door.

import { byId, el } from './dom.js';

export class Connect {
  #shown = '';

  onStatus(status) {
    const { http, kafka, pg } = status.addresses ?? {};
    const lines = [
      pg && ['Postgres wire', `psql ${pg}`],
      kafka && ['Kafka protocol', `kcat -b ${kafka} -L`],
      http && ['HTTP', `curl ${http}/v1/views`],
    ].filter(Boolean);
    const text = JSON.stringify([lines, status.version]);
    if (text === this.#shown) return;
    this.#shown = text;
    byId('connect').replaceChildren(
      ...lines.map(([label, command]) =>
        el('li', {}, el('span', {}, label), el('code', { tabindex: 0 }, command), copyButton(label, command)),
      ),
    );
    byId('about').textContent = `Rivermere ${status.version ?? ''}`;
  }
}

function copyButton(label, command) {
  // Browsers lend the clipboard only to secure pages: over plain HTTP from another machine there is no button.
  if (!navigator.clipboard) return null;
  const button = el('button', { type: 'button', class: 'quiet', 'aria-label': `Copy the ${label} command` }, 'Copy');
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Not allowed';
    }
    setTimeout(() => {
      button.textContent = 'Copy';
    }, 1500);
  });
  return button;
}
