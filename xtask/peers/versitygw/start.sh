#!/usr/bin/env bash
# versitygw: S3 over a folder, on loopback, in the foreground. It checks signatures and honours conditional writes.
# usage: start.sh PROGRAM [PORT] [FOLDER]
# Prints `READY versitygw HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`.
set -euo pipefail

program="$1"
port="${2:-0}"
[ "$port" != 0 ] || port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
if [ $# -ge 3 ]; then
  folder="$3"
else
  folder="$(mktemp -d)"
  scratch="$folder"
fi
# A folder below the root is a bucket. Folders that begin with a dot are the gateway's own.
mkdir -p "$folder/buckets/lake"

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

ROOT_ACCESS_KEY=rivermere ROOT_SECRET_KEY=not-a-secret "$program" --port "127.0.0.1:$port" --region us-east-1 \
  posix "$folder/buckets" >&2 &
node=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$node" 2>/dev/null || { echo "error: versitygw ended before it was ready" >&2; exit 1; }
  sleep 0.1
done
echo "READY versitygw 127.0.0.1:$port endpoint=http://127.0.0.1:$port" \
  "access_key_id=rivermere secret_access_key=not-a-secret region=us-east-1"
wait "$node"
