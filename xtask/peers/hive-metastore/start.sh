#!/usr/bin/env bash
# The metastore of Apache Hive, its database in memory, on loopback, in the foreground.
# usage: start.sh JARS [PORT] [FOLDER]
# Prints `READY hive-metastore HOST:PORT NAME=VALUE...` when a client can ask it. Nobody has to say who they are. Tables
# without a location are in the folder; tables at another storage can be entered, whether or not anything is there.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

jars="$1"
place "${@:2}"
java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true \
  -Dderby.stream.error.file=/dev/null \
  --add-opens=java.base/java.lang=ALL-UNNAMED -cp "$jars/*" \
  "$(dirname "${BASH_SOURCE[0]}")/Metastore.java" "$port" "$folder" >&2 &
nodes+=($!)
listens hive-metastore
echo "READY hive-metastore 127.0.0.1:$port endpoint=thrift://127.0.0.1:$port folder=$folder"
wait "${nodes[0]}"
