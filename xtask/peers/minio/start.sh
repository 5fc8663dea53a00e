#!/usr/bin/env bash
# MinIO: S3 over a folder, on loopback, in the foreground. It checks signatures and honours conditional writes.
# usage: start.sh PROGRAM [PORT] [FOLDER]
# Prints `READY minio HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

program="$1"
place "${@:2}"
# A folder below the root is a bucket. CI mode: a small disk, and one that is the system's own, will do.
mkdir -p "$folder/buckets/lake"

HOME="$folder" MINIO_ROOT_USER=rivermere MINIO_ROOT_PASSWORD=not-a-secret MINIO_UPDATE=off MINIO_BROWSER=off MINIO_CI_CD=1 \
  "$program" server --quiet --address "127.0.0.1:$port" "$folder/buckets" >&2 &
nodes+=($!)
listens minio
until python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' \
  "http://127.0.0.1:$port/minio/health/ready" 2>/dev/null; do
  alive minio
  sleep 0.1
done
echo "READY minio 127.0.0.1:$port endpoint=http://127.0.0.1:$port" \
  "access_key_id=rivermere secret_access_key=not-a-secret region=us-east-1"
wait "${nodes[0]}"
