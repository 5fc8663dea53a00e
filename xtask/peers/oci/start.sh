#!/usr/bin/env bash
# OCI's Object Storage in memory, on loopback, in the foreground; see object_storage.py.
# usage: start.sh PYTHON [PORT] [FOLDER]
# Prints `READY oci HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`, in the namespace `ns`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

python="$1"
place "${@:2}"

# Port 0 takes a free one; the program tells which.
"$python" "$(dirname "$0")/object_storage.py" "${2:-0}" "$folder" &
nodes+=($!)
wait "${nodes[0]}"
