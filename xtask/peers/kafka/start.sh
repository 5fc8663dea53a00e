#!/usr/bin/env bash
# One real Apache Kafka node, broker and controller in one process, on loopback, in the foreground.
# usage: start.sh JARS [PORT] [FOLDER]
# Prints `READY kafka 127.0.0.1:PORT` when a client can connect. A signal stops the node.
set -euo pipefail

jars="$1"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port="${2:-0}"
[ "$port" != 0 ] || port="$(free_port)"
controller="$(free_port)"
if [ $# -ge 3 ]; then
  folder="$3"
else
  folder="$(mktemp -d)"
  scratch="$folder"
fi
mkdir -p "$folder"

cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/log
num.partitions=1
auto.create.topics.enable=true
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
END

cat >"$folder/log4j2.yaml" <<END
Configuration:
  Appenders: { Console: { name: out, target: SYSTEM_ERR, PatternLayout: { pattern: "%d %p %m (%c)%n" } } }
  Loggers: { Root: { level: WARN, AppenderRef: { ref: out } } }
END

java=(java -Xms256m "-Xmx${KAFKA_HEAP:-1g}" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true
      "-Dlog4j2.configurationFile=$folder/log4j2.yaml" -cp "$jars/*")
# A node keeps the controller's port in its configuration, not in its data: a folder can be started again.
[ -e "$folder/log/meta.properties" ] || "${java[@]}" kafka.tools.StorageTool format \
  --cluster-id AAAAAAAAAAAAAAAAAAAAAg --config "$folder/server.properties" --ignore-formatted >&2

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

"${java[@]}" kafka.Kafka "$folder/server.properties" >&2 &
node=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$node" 2>/dev/null || { echo "error: Kafka ended before it was ready" >&2; exit 1; }
  sleep 0.2
done
echo "READY kafka 127.0.0.1:$port"
wait "$node"
