#!/usr/bin/env bash
# versitygw: S3 over a folder, on loopback, in the foreground. It checks signatures and honours conditional writes.
# usage: start.sh PROGRAM [PORT] [FOLDER]
# Prints `READY versitygw HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

program="$1"
place "${@:2}"
# A folder below the root is a bucket. Folders that begin with a dot are the gateway's own.
mkdir -p "$folder/buckets/lake"

ROOT_ACCESS_KEY=rivermere ROOT_SECRET_KEY=not-a-secret "$program" --port "127.0.0.1:$port" --region us-east-1 \
  posix "$folder/buckets" >&2 &
nodes+=($!)
listens versitygw
echo "READY versitygw 127.0.0.1:$port endpoint=http://127.0.0.1:$port" \
  "access_key_id=rivermere secret_access_key=not-a-secret region=us-east-1"
wait "${nodes[0]}"
