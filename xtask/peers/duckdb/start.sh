#!/usr/bin/env bash
# A Python prompt with DuckDB as `sql`, in the folder of the files: start.sh PYTHON [PORT] [FOLDER]; the port is not used.
set -euo pipefail
cd "${3:-.}"
exec "$1" -i -c 'from duckdb import sql'
