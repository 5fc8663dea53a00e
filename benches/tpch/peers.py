"""The queries by DuckDB and by Spark: peers.py ENGINE FORMAT TABLES QUERIES RUNS [SPARK]

TABLES is a folder with a table in each folder of it, QUERIES a file of JSON with the text of each query by its number.
Says a line of JSON for each run: its query, seconds of wall clock and of CPU, and the rows. The first is a warm-up.

DuckDB reads the data files of the tables and not their logs or manifests: its extensions for both formats come from a
server of their own and are not installed with it. All files of the tables are in their newest version, so the rows are
the same, and it has less to do.
"""

import glob
import json
import os
import sys
import time


def duckdb_engine(format, tables):
    import duckdb

    connection = duckdb.connect()
    for name in os.listdir(tables):
        files = glob.glob(f"{tables}/{name}/**/*.parquet", recursive=True)
        files = [file for file in files if "/_delta_log/" not in file]
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files!r})")
    return lambda text: connection.execute(text).fetchall(), time.process_time


def spark_engine(format, tables, installed):
    from spark import Spark

    spark = Spark(installed, format, os.path.dirname(tables))
    for name in os.listdir(tables):
        of = f"delta.`{tables}/{name}`" if format == "delta" else f"lake.{os.path.basename(tables)}.{name}"
        spark.sql(f"CREATE TEMPORARY VIEW {name} AS SELECT * FROM {of}")
    return lambda text: [list(row) for row in spark.sql(text).collect()], spark.cpu_seconds


def main():
    engine, format, tables, queries, runs, *more = sys.argv[1:]
    run, cpu = duckdb_engine(format, tables) if engine == "duckdb" else spark_engine(format, tables, *more)
    for number, text in json.load(open(queries)).items():
        for _ in range(1 + int(runs)):
            wall, used = time.monotonic(), cpu()
            rows = run(text)
            took = {"wall": time.monotonic() - wall, "cpu": cpu() - used}
            print(json.dumps({"query": int(number), **took, "rows": rows}, default=str), flush=True)


main()
