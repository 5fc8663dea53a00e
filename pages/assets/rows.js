// The rows of one view, kept equal to the server's by its change stream: first the whole view, then what was deleted
// and inserted by each step.

export class Rows {
  #byKey = new Map();
  #key;

  /** `key`: the columns that identify a row; without any, the whole row does, and may be there several times. */
  constructor(key = []) {
    this.#key = key;
  }

  get size() {
    return this.#byKey.size;
  }

  reset(rows) {
    this.#byKey.clear();
    for (const row of rows) this.#insert(row);
  }

  /** Deletions first: an updated row is the old one deleted and the new one inserted under the same key. */
  apply({ inserted = [], deleted = [] }) {
    for (const row of deleted) this.#delete(row);
    for (const row of inserted) this.#insert(row);
  }

  all() {
    if (this.#key.length > 0) return Array.from(this.#byKey.values(), (entry) => entry.row);
    return Array.from(this.#byKey.values()).flatMap((entry) => Array(entry.times).fill(entry.row));
  }

  #insert(row) {
    const key = this.#keyOf(row);
    const entry = this.#byKey.get(key);
    if (entry) {
      entry.row = row;
      if (this.#key.length === 0) entry.times += 1;
    } else {
      this.#byKey.set(key, { row, times: 1 });
    }
  }

  #delete(row) {
    const key = this.#keyOf(row);
    const entry = this.#byKey.get(key);
    if (!entry) return;
    if (entry.times > 1) entry.times -= 1;
    else this.#byKey.delete(key);
  }

  #keyOf(row) {
    return JSON.stringify(this.#key.length > 0 ? this.#key.map((column) => row[column]) : Object.values(row));
  }
}
