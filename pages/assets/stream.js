// One server-sent event stream that outlives restarts of the server and sleeps while nobody looks.
//
// The browser's own EventSource resumes with Last-Event-ID after a broken connection, but gives up for good when the
// server answers with anything but an event stream (a proxy's 502, for example); then this opens it anew. A browser
// allows six connections to one origin over HTTP/1.1 for all its tabs together, so a hidden tab gives its own back.

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15000;

export class Stream {
  #source = null;
  #timer = 0;
  #retry_ms = FIRST_RETRY_MS;
  #closed = false;

  /** `handlers`: event name -> function of the parsed data; `onState` is told 'open' and 'lost'. */
  constructor(path, handlers, onState = () => {}) {
    this.path = path;
    this.handlers = handlers;
    this.onState = onState;
    document.addEventListener('visibilitychange', this.#visibility);
    if (!document.hidden) this.#open();
  }

  close() {
    this.#closed = true;
    document.removeEventListener('visibilitychange', this.#visibility);
    this.#stop();
  }

  #visibility = () => {
    if (document.hidden) this.#stop();
    else if (!this.#source && !this.#closed) this.#open();
  };

  #stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    this.#stop();
    const source = new EventSource(this.path);
    this.#source = source;
    source.onopen = () => {
      this.#retry_ms = FIRST_RETRY_MS;
      this.onState('open');
    };
    source.onerror = () => {
      this.onState('lost');
      if (source.readyState !== EventSource.CLOSED) return;
      this.#stop();
      this.#timer = setTimeout(() => this.#open(), this.#retry_ms);
      this.#retry_ms = Math.min(this.#retry_ms * 2, LONGEST_RETRY_MS);
    };
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        let data;
        try {
          data = JSON.parse(event.data);
        } catch {
          return;
        }
        handle(data);
      });
    }
  }
}
