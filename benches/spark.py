"""Spark for the benchmarks: as many threads as the machine has processors, and memory so that it need not spill.

The default of 200 partitions after a shuffle is for clusters: with as many as there are threads, twice, it is several
times as fast here.
"""

import glob
import os
import tempfile

EXTENSIONS = {
    "delta": {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
    },
    "iceberg": {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.type": "hadoop",
    },
    "hudi": {
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.kryo.registrator": "org.apache.spark.HoodieSparkKryoRegistrar",
        "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.hudi.catalog.HoodieCatalog",
    },
}


class Spark:
    """A session over the tables of one format; those of Iceberg are `lake.FOLDER.NAME` below `warehouse`."""

    def __init__(self, installed, format, warehouse, memory="8g"):
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        # What it keeps for itself is not left behind.
        self.own = tempfile.TemporaryDirectory()
        from pyspark.sql import SparkSession

        threads = len(os.sched_getaffinity(0))
        builder = SparkSession.builder.master(f"local[{threads}]").config("spark.driver.memory", memory)
        for name, value in {
            "spark.jars": ",".join(glob.glob(installed + "/jars/*.jar")),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": str(2 * threads),
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={self.own.name}",
            "spark.sql.warehouse.dir": self.own.name + "/warehouse",
            "spark.sql.catalog.lake.warehouse": warehouse,
            "spark.log.level": "ERROR",
            **EXTENSIONS[format],
        }.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.pid = self.session._jvm.java.lang.ProcessHandle.current().pid()

    def sql(self, text):
        return self.session.sql(text)

    def cpu_seconds(self):
        """User and system time of the JVM, in ticks of 10 ms."""
        fields = open(f"/proc/{self.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
