#!/usr/bin/env bash
# One real Apache Kafka node, broker and controller in one process, on loopback, in the foreground.
# usage: start.sh JARS [PORT] [FOLDER]
# Prints `READY kafka 127.0.0.1:PORT` when a client can connect. A signal stops the node.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

jars="$1"
controller="$(free_port)"
place "${@:2}"

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

"${java[@]}" kafka.Kafka "$folder/server.properties" >&2 &
nodes+=($!)
listens Kafka
echo "READY kafka 127.0.0.1:$port"
wait "${nodes[0]}"
