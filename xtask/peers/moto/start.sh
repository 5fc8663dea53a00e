#!/usr/bin/env bash
# moto: an emulation of AWS, on loopback, in the foreground. Its S3 honours conditional writes and accepts any signature.
# usage: start.sh PROGRAM [PORT] [FOLDER]
# Prints `READY moto HOST:PORT NAME=VALUE...` when a client can connect. There is one bucket, `lake`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

program="$1"
place "${@:2}"

"$program" -H 127.0.0.1 -p "$port" >&2 &
nodes+=($!)
listens moto
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
wait "${nodes[0]}"
