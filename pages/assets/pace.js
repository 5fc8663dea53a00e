// Work that many events ask for and that is worth doing only every so often.

/**
 * Returns a function to call as often as you like: `work` starts at once when it has rested for `pause_ms`, else when
 * it has; it never runs twice at a time, and the last call is never lost. `.stop()` ends it.
 */
export function paced(work, pause_ms) {
  let timer = 0;
  let running = false;
  let wanted = false;
  let stopped = false;
  let ended_ms = -Infinity;

  const start = async () => {
    timer = 0;
    running = true;
    wanted = false;
    try {
      await work();
    } finally {
      running = false;
      ended_ms = performance.now();
      if (wanted) call();
    }
  };
  const call = () => {
    if (stopped) return;
    wanted = true;
    if (running || timer) return;
    timer = setTimeout(start, Math.max(0, ended_ms + pause_ms - performance.now()));
  };
  call.stop = () => {
    stopped = true;
    clearTimeout(timer);
  };
  return call;
}
