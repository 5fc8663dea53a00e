"""How the Python scripts of this folder say what they found: `ok WHAT` or `FAIL WHAT: WHY`, one line each."""

import os
import sys
import time

# Unique to this run, so that a broker can be driven more than once.
RUN = f"{os.getpid()}-{time.time_ns() % 1_000_000:06d}"

# No check waits longer for a broker that does not answer.
SECONDS = 40

_passed, _failed = 0, 0


def check(what, function):
    """Runs one check. It fails by raising; what it returns is not looked at."""
    global _passed, _failed
    start = time.monotonic()
    try:
        function()
    except Exception as error:  # Whatever a client raises is the finding.
        _failed += 1
        print(f"FAIL {what}: {type(error).__name__}: {' '.join(str(error).split())[:400]}", flush=True)
    else:
        _passed += 1
        print(f"ok {what} ({time.monotonic() - start:.2f} s)", flush=True)


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"expected {str(expected)[:150]}, got {str(actual)[:150]}")


def deadline():
    """A function that says whether there is time left."""
    end = time.monotonic() + SECONDS
    return lambda: time.monotonic() < end


def broker():
    if len(sys.argv) != 2 or ":" not in sys.argv[1]:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT")
    return sys.argv[1]


def finish():
    print(f"{_passed} ok, {_failed} failed")
    sys.exit(1 if _failed else 0)
