#!/usr/bin/env bash
# moto: an emulation of AWS, on loopback, in the foreground. Its S3 honours conditional writes and accepts any signature.
# usage: start.sh PROGRAM [PORT] [FOLDER]
# Prints `READY moto HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`.
set -euo pipefail

program="$1"
port="${2:-0}"
[ "$port" != 0 ] || port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"

node=""
stop() {
  trap - TERM INT EXIT
  if [ -n "$node" ]; then
    kill "$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
  fi
}
trap 'stop; exit 0' TERM INT
trap stop EXIT

"$program" -H 127.0.0.1 -p "$port" >&2 &
node=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$node" 2>/dev/null || { echo "error: moto ended before it was ready" >&2; exit 1; }
  sleep 0.1
done
# Any signature will do.
python3 - "$port" <<'END'
import sys
import urllib.request

signature = "AWS4-HMAC-SHA256 Credential=rivermere/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
url = f"http://127.0.0.1:{sys.argv[1]}/lake"
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers={"Authorization": signature})).close()
END
echo "READY moto 127.0.0.1:$port endpoint=http://127.0.0.1:$port" \
  "access_key_id=rivermere secret_access_key=not-a-secret region=us-east-1"
wait "$node"
