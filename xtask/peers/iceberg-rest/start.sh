#!/usr/bin/env bash
# Iceberg's own REST catalog, over SQLite, with its tables in a folder of the disk, on loopback, in the foreground.
# usage: start.sh JARS [PORT] [FOLDER]
# Prints `READY iceberg-rest HOST:PORT NAME=VALUE...` when a client can ask it. Nobody needs a token.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

jars="$1"
place "${@:2}"
java -Xmx256m -XX:+UseSerialGC --add-opens=java.base/java.lang=ALL-UNNAMED -cp "$jars/*" \
  "$(dirname "${BASH_SOURCE[0]}")/Catalog.java" "$port" "$folder" >&2 &
nodes+=($!)
listens iceberg-rest
echo "READY iceberg-rest 127.0.0.1:$port endpoint=http://127.0.0.1:$port folder=$folder"
wait "${nodes[0]}"
