// Requests to the process that served this page. Addresses are relative, so a path prefix in front of it just works.

/** An answer that was not a success: `code`, `message` and `hint` as the platform gave them;
 *  `unreachable` when there was none. */
export class Problem extends Error {
  constructor({ code = '', message, hint = '', line, column, unreachable = false }) {
    super(message);
    Object.assign(this, { code, hint, line, column, unreachable });
  }
}

export async function getJson(path) {
  return answer(() => fetch(path, { headers: { accept: 'application/json' } }));
}

/** Runs one statement; the answer is an array of objects. */
export async function runSql(sql, signal) {
  return answer(() =>
    fetch('v1/sql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ sql }),
      signal,
    }),
  );
}

export function viewPath(name, suffix = '') {
  return `v1/views/${encodeURIComponent(name)}${suffix}`;
}

/** Integers that a JavaScript number cannot hold stay text, digit by digit; browsers too old for that round them. */
function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) =>
    typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? context.source
      : value,
  );
}

async function answer(request) {
  let response;
  try {
    response = await request();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({
      message: 'The server cannot be reached.',
      hint: 'The page tries again by itself.',
      unreachable: true,
    });
  }
  const text = await response.text();
  let body;
  try {
    body = parse(text);
  } catch {
    if (response.ok) throw new Problem({ message: 'The answer is not JSON.', hint: text.slice(0, 200) });
  }
  if (response.ok) return body;
  throw new Problem(body?.error ?? { message: `${response.status} ${response.statusText}`, hint: text.slice(0, 200) });
}
