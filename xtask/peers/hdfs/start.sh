#!/usr/bin/env bash
# HDFS of Apache Hadoop: one name node and one data node on loopback, in the foreground.
# usage: start.sh JARS [PORT] [FOLDER]
# Prints `READY hdfs HOST:PORT NAME=VALUE...` when a client can write. Any user may write to /lake, nobody but its owner to
# /kept, and clients are believed who they say they are.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node.sh"

jars="$1"
place "${@:2}"
web="$(free_port)"
# The jars lack the web pages; the servers want their folders.
mkdir -p "$folder/conf" "$folder/pages/webapps/hdfs" "$folder/pages/webapps/datanode"

properties() {
  echo '<configuration>'
  while [ $# -gt 0 ]; do
    echo "<property><name>$1</name><value>$2</value></property>"
    shift 2
  done
  echo '</configuration>'
}
properties \
  fs.defaultFS "hdfs://127.0.0.1:$port" \
  hadoop.tmp.dir "$folder/tmp" >"$folder/conf/core-site.xml"
# The name service `lake` is for clients: the same name node by another name.
properties \
  dfs.replication 1 \
  dfs.namenode.name.dir "file://$folder/names" \
  dfs.datanode.data.dir "file://$folder/blocks" \
  dfs.namenode.rpc-bind-host 127.0.0.1 \
  dfs.namenode.http-address "127.0.0.1:$web" \
  dfs.namenode.secondary.http-address 127.0.0.1:0 \
  dfs.namenode.safemode.extension 0 \
  dfs.namenode.fs-limits.min-block-size 1024 \
  dfs.namenode.datanode.registration.ip-hostname-check false \
  dfs.datanode.address 127.0.0.1:0 \
  dfs.datanode.http.address 127.0.0.1:0 \
  dfs.datanode.ipc.address 127.0.0.1:0 \
  dfs.datanode.hostname 127.0.0.1 \
  dfs.blocksize 4194304 \
  dfs.ha.namenodes.lake one \
  dfs.namenode.rpc-address.lake.one "127.0.0.1:$port" >"$folder/conf/hdfs-site.xml"
cat >"$folder/conf/log4j.properties" <<'END'
log4j.rootLogger=WARN,c
log4j.appender.c=org.apache.log4j.ConsoleAppender
log4j.appender.c.target=System.err
log4j.appender.c.layout=org.apache.log4j.PatternLayout
log4j.appender.c.layout.ConversionPattern=%d %p %c{1}: %m%n
END

java=(java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true
      --add-opens=java.base/java.lang=ALL-UNNAMED -cp "$folder/conf:$folder/pages:$jars/*")
export HADOOP_USER_NAME=hdfs

package=org.apache.hadoop.hdfs.server
[ -d "$folder/names/current" ] || "${java[@]}" "$package.namenode.NameNode" -format -force -nonInteractive >&2
"${java[@]}" "$package.namenode.NameNode" >&2 &
nodes+=($!)
"${java[@]}" "$package.datanode.DataNode" >&2 &
nodes+=($!)

says() { python3 -c '
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=2) as answer:
    sys.exit(0 if sys.argv[2] in answer.read().decode() else 1)' "http://127.0.0.1:$web$1" "$2" 2>/dev/null; }
until says "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState" '"NumLiveDataNodes" : 1'; do
  alive "a node of HDFS"
  sleep 0.2
done
change() { python3 -c '
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="PUT")).close()' "http://127.0.0.1:$web/webhdfs/v1$1&user.name=hdfs"; }
until says "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState" '"FSState" : "Operational"'; do sleep 0.2; done
change "/lake?op=MKDIRS&permission=777"
change "/lake?op=SETPERMISSION&permission=777"
change "/kept?op=MKDIRS&permission=700"
echo "READY hdfs 127.0.0.1:$port endpoint=hdfs://127.0.0.1:$port config_dir=$folder/conf"
wait -n "${nodes[@]}"
