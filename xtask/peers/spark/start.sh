#!/usr/bin/env bash
# A PySpark prompt with Delta, in the folder of the tables: start.sh INSTALLED [PORT] [FOLDER]; the port is not used.
set -euo pipefail
installed="$1"
cd "${3:-.}"
# Spark looks for itself, and for Python, on the path.
export PATH="$installed/python/bin:$PATH" PYSPARK_PYTHON="$installed/python/bin/python" SPARK_LOCAL_IP=127.0.0.1
exec "$installed/python/bin/pyspark" --master 'local[2]' --jars "$(echo "$installed"/jars/*.jar | tr ' ' ',')" \
  --conf spark.ui.enabled=false --conf spark.sql.session.timeZone=UTC \
  --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \
  --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog
