#!/usr/bin/env bash
# OCI's Object Storage in memory, on loopback, in the foreground; see object_storage.py.
# usage: start.sh PYTHON [PORT] [FOLDER]
# Prints `READY oci HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`, in the namespace `ns`.
set -euo pipefail

python="$1"
if [ $# -ge 3 ]; then
  folder="$3"
else
  folder="$(mktemp -d)"
  scratch="$folder"
fi

node=""
stop() {
  trap - TERM INT EXIT
  if [ -n "$node" ]; then
    kill "$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
  fi
  if [ -n "${scratch:-}" ]; then rm -rf "$scratch"; fi
}
trap 'stop; exit 0' TERM INT
trap stop EXIT

# Port 0 takes a free one; the program tells which.
"$python" "$(dirname "$0")/object_storage.py" "${2:-0}" "$folder" &
node=$!
wait "$node"
