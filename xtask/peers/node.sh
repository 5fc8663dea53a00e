# What every peer's start.sh does the same way; it is sourced, after `set -euo pipefail`.

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# place [PORT] [FOLDER]: sets `port` (a free one for 0 or none) and `folder` (a temporary one that is removed at the end).
place() {
  port="${1:-0}"
  [ "$port" != 0 ] || port="$(free_port)"
  if [ $# -ge 2 ]; then
    folder="$2"
  else
    folder="$(mktemp -d)"
    scratch="$folder"
  fi
  mkdir -p "$folder"
}

# Processes to stop with this one: `nodes+=($!)` after each is started.
nodes=()
stop() {
  trap - TERM INT EXIT
  for node in ${nodes[@]+"${nodes[@]}"}; do
    kill "$node" 2>/dev/null || true
  done
  for node in ${nodes[@]+"${nodes[@]}"}; do
    wait "$node" 2>/dev/null || true
  done
  if [ -n "${scratch:-}" ]; then rm -rf "$scratch"; fi
}
trap 'stop; exit 0' TERM INT
trap stop EXIT

# alive NAME: ends with an error when a node has ended already.
alive() {
  for node in "${nodes[@]}"; do
    kill -0 "$node" 2>/dev/null || { echo "error: $1 ended before it was ready" >&2; exit 1; }
  done
}

# listens NAME: waits until `port` takes connections.
listens() {
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    alive "$1"
    sleep 0.1
  done
  # And not somebody else, who took the port while it started.
  alive "$1"
}
