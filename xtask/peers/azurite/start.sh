#!/usr/bin/env bash
# Azurite: Azure's Blob service over a folder, on loopback, in the foreground. It has no Data Lake endpoint.
# usage: start.sh MODULES [PORT] [FOLDER]
# Prints `READY azurite HOST:PORT NAME=VALUE...` when a client can connect. There is one container, `lake`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

modules="$1"
place "${@:2}"
account=devstoreaccount1
# The key that every installation of the emulator has.
key="Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

node "$modules/azurite/dist/src/blob/main.js" --blobHost 127.0.0.1 --blobPort "$port" --location "$folder" \
  --skipApiVersionCheck --disableTelemetry --silent >&2 &
nodes+=($!)
listens Azurite
# https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key
python3 - "$port" "$account" "$key" <<'END'
import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.request

port, account, key = sys.argv[1:]
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
lines = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
text = "PUT" + "\n" * 12 + lines + f"/{account}/{account}/lake\nrestype:container"
digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
headers["Content-Length"] = "0"
url = f"http://127.0.0.1:{port}/{account}/lake?restype=container"
request = urllib.request.Request(url, method="PUT", headers=headers)
try:
    urllib.request.urlopen(request).close()
except urllib.error.HTTPError as error:
    if error.code != 409:  # A folder that was used before has it.
        raise
END
echo "READY azurite 127.0.0.1:$port endpoint=http://127.0.0.1:$port/$account account=$account account_key=$key"
wait "${nodes[0]}"
