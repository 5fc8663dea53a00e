// Numbers, times and durations as people read them. Event times carry no zone: they are shown as they were written.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const significant = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/**
 * A value for a panel: at most one decimal for everyday sizes, three digits for small ones. `fraction` asks for the
 * decimal even on a whole number, because its neighbours have one.
 */
export function number(value, fraction = false) {
  if (!Number.isFinite(value)) return '–';
  if (Number.isInteger(value)) return (fraction ? oneDigit : whole).format(value);
  return Math.abs(value) < 1 && value !== 0 ? significant.format(value) : oneDigit.format(value);
}

/** Whether any of these values needs decimals, so that all of a column get them. */
export function hasFraction(values) {
  return values.some((value) => typeof value === 'number' && !Number.isInteger(value));
}

/** Counts: 27,004; from a million on 1.2M. */
export function count(value) {
  if (!Number.isFinite(value)) return '–';
  return Math.abs(value) < 1e6 ? whole.format(value) : short.format(value);
}

/** Events per second, with a decimal only where it tells something. */
export function rate(value) {
  if (!Number.isFinite(value) || value <= 0) return '0';
  if (value < 10) return oneDigit.format(value);
  return value < 1e5 ? whole.format(value) : short.format(value);
}

export function bytes(value) {
  if (!Number.isFinite(value)) return '–';
  return value < 1e9 ? `${whole.format(value / 1e6)} MB` : `${oneDigit.format(value / 1e9)} GB`;
}

export function duration(ms) {
  if (!Number.isFinite(ms)) return '–';
  const seconds = Math.floor(ms / 1000);
  const [d, h, m, s] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
    seconds % 60,
  ];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s} s` : `${s} s`;
}

const timestamp = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/;
const date = /^\d{4}-\d\d-\d\d$/;

/** Milliseconds of an ISO timestamp or date, or NaN. Without a zone it is read as UTC, and shown as UTC: no shift. */
export function timeOf(value) {
  if (typeof value !== 'string') return NaN;
  const parts = timestamp.exec(value);
  if (parts) return Date.parse(`${value.replace(' ', 'T')}${parts[8] ? '' : 'Z'}`);
  return date.test(value) ? Date.parse(`${value}T00:00:00Z`) : NaN;
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `4 Jan 05:00`, with the year when asked for and seconds when there are any. */
export function moment(ms, { year = false } = {}) {
  if (!Number.isFinite(ms)) return '–';
  const at = new Date(ms);
  const two = (n) => String(n).padStart(2, '0');
  const seconds = at.getUTCSeconds() ? `:${two(at.getUTCSeconds())}` : '';
  const day = `${at.getUTCDate()} ${months[at.getUTCMonth()]}${year ? ` ${at.getUTCFullYear()}` : ''}`;
  return `${day} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds}`;
}

/** A cell of a panel: numbers and times made readable, all else as it is. */
export function cell(value, fraction = false) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return number(value, fraction);
  if (typeof value === 'object') return JSON.stringify(value);
  const at = timeOf(value);
  return Number.isFinite(at) ? moment(at) : String(value);
}

/** A cell of a query result: exactly the value, because here people look for the digits. */
export function exact(value) {
  if (value === null || value === undefined) return 'null';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** `window_start` -> `Window start`. */
export function title(name) {
  const words = String(name).replaceAll('_', ' ').trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
