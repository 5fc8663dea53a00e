//! Lake tables read by an implementation that is not ours: the `deltalake` package of Python.

use crate::harness::PATIENCE;
use crate::process::{Process, run, tool};
use serde_json::Value;
use std::process::Command;

/// Compares tables with the views that they store: `URL (VIEW FOLDER)...`
const SCRIPT: &str = r#"
import io
import json
import os
import sys
import urllib.request

import pyarrow as pa
import pyarrow.json
from deltalake import DeltaTable


def served(url, view, schema):
    body = json.dumps({"sql": f'SELECT * FROM "{view}"'}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/sql", body, headers)) as response:
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        return pyarrow.json.read_json(io.BytesIO(response.read()), parse_options=options)


def ordered(table):
    return table.sort_by([(name, "ascending") for name in sorted(table.column_names)]).combine_chunks()


url, *pairs = sys.argv[1:]
failed = 0
for view, folder in zip(pairs[::2], pairs[1::2], strict=True):
    stored = DeltaTable(folder).to_pyarrow_table()
    # JSON has no nullability, and plain strings.
    fields = [(f.name, pa.string() if pa.types.is_string_view(f.type) or pa.types.is_large_string(f.type) else f.type) for f in stored.schema]
    stored = stored.cast(pa.schema(fields))
    there = served(url, view, stored.schema).select(stored.column_names)
    if stored.num_rows != there.num_rows:
        failed += 1
        print(f"FAIL {view}: {stored.num_rows} rows in the table, {there.num_rows} in the view")
    elif not ordered(stored).equals(ordered(there)):
        failed += 1
        rows = zip(ordered(stored).to_pylist(), ordered(there).to_pylist())
        print(f"FAIL {view}: table and view differ, first in {next(pair for pair in rows if pair[0] != pair[1])}")
    else:
        print(f"ok {view}: {stored.num_rows} rows, the same in the table and in the view")
# Arrow's threads may abort the process while the interpreter takes itself down.
sys.stdout.flush()
os._exit(1 if failed else 0)
"#;

/// Every table of a status holds the rows of its view, each as often.
pub fn assert_tables_equal_views(process: &Process, status: &Value) {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, &process.http]);
    for sink in status["sinks"].as_array().unwrap() {
        command.arg(sink["view"].as_str().unwrap()).arg(sink["location"].as_str().unwrap());
    }
    let (status, text) = run(&mut command, 2 * PATIENCE);
    assert!(status.success(), "{text}");
}
