"""Appends and upserts by Spark: peer.py INSTALLED FORMAT FOLDER SOURCES [NAME=VALUE ...]

Makes `FOLDER/table` with those properties, appends the rows of SOURCES/append-*.parquet, a commit for each file, then
upserts those of SOURCES/upsert-*.parquet. Says a line of JSON for both phases.
"""

import glob
import json
import os
import sys
import time

from spark import Spark

COLUMNS = "key BIGINT, name STRING, amount DOUBLE"
MERGE = """MERGE INTO {table} AS t USING changed AS s ON t.key = s.key
WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"""
WARM_UP = 2


class Table:
    def __init__(self, spark, format, folder, properties):
        self.spark, self.format, self.folder = spark, format, folder
        given = [pair.split("=", 1) for pair in properties]
        if format == "delta":
            self.name = f"delta.`{folder}`"
        elif format == "iceberg":
            self.name = "lake." + ".".join(f"`{part}`" for part in folder.rsplit("/", 2)[1:])
        else:
            self.name = os.path.basename(folder)
            given += [("primaryKey", "key"), ("type", "cow")]
        told = ", ".join(f"'{name}' = '{value}'" for name, value in given)
        place = f"LOCATION '{folder}'" if format == "hudi" else ""
        spark.sql(
            f"CREATE TABLE {self.name} ({COLUMNS}) USING {format} {place} "
            + (f"TBLPROPERTIES ({told})" if told else "")
        )

    def write(self, rows, operation):
        """Hudi has an operation of its own for both, which is faster than its SQL."""
        writer = rows.write.format("hudi").mode("append").option("hoodie.datasource.write.operation", operation)
        writer.option("hoodie.table.name", self.name).option("hoodie.datasource.write.recordkey.field", "key").option(
            "hoodie.datasource.write.partitionpath.field", ""
        ).option(
            "hoodie.datasource.write.keygenerator.class", "org.apache.hudi.keygen.NonpartitionedKeyGenerator"
        ).save(self.folder)

    def append(self, rows):
        if self.format == "hudi":
            return self.write(rows, "bulk_insert")
        rows.createOrReplaceTempView("added")
        self.spark.sql(f"INSERT INTO {self.name} SELECT * FROM added")

    def upsert(self, rows):
        if self.format == "hudi":
            return self.write(rows, "upsert")
        rows.createOrReplaceTempView("changed")
        self.spark.sql(MERGE.format(table=self.name))


def size(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def main():
    installed, format, folder, sources, *properties = sys.argv[1:]
    spark = Spark(installed, format, os.path.dirname(folder))
    phases = {"append": Table.append, "upsert": Table.upsert}
    files = {phase: sorted(glob.glob(f"{sources}/{phase}-*.parquet")) for phase in phases}
    for place, most in [(folder + "/warm_up", WARM_UP), (folder + "/table", None)]:
        table = Table(spark, format, place, properties)
        for phase, act in phases.items():
            before, took, used = size(place), 0, 0
            for file in files[phase][:most]:
                rows = spark.session.read.parquet(file).coalesce(1).cache()
                rows.count()
                wall, cpu = time.monotonic(), spark.cpu_seconds()
                act(table, rows)
                took, used = took + time.monotonic() - wall, used + spark.cpu_seconds() - cpu
                rows.unpersist()
            if most is None:
                written = size(place) - before
                print(json.dumps({"phase": phase, "wall": took, "cpu": used, "written": written}), flush=True)


main()
