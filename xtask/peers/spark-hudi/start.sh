#!/usr/bin/env bash
# A PySpark prompt with Hudi, in the folder of the tables: start.sh INSTALLED [PORT] [FOLDER]; the port is not used. What Spark
# keeps for itself is not left in the folder.
set -euo pipefail
installed="$1"
cd "${3:-.}"
# Spark looks for itself, and for Python, on the path.
export PATH="$installed/python/bin:$PATH" PYSPARK_PYTHON="$installed/python/bin/python" SPARK_LOCAL_IP=127.0.0.1
own="$(mktemp -d)"
trap 'rm -rf "$own"' EXIT
"$installed/python/bin/pyspark" --master 'local[2]' --jars "$(echo "$installed"/jars/*.jar | tr ' ' ',')" \
  --conf spark.ui.enabled=false --conf spark.sql.session.timeZone=UTC \
  --driver-java-options "-Dderby.system.home=$own" --conf "spark.sql.warehouse.dir=$own/warehouse" \
  --conf spark.serializer=org.apache.spark.serializer.KryoSerializer \
  --conf spark.kryo.registrator=org.apache.spark.HoodieSparkKryoRegistrar \
  --conf spark.sql.extensions=org.apache.spark.sql.hudi.HoodieSparkSessionExtension \
  --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.hudi.catalog.HoodieCatalog
