//! Tables that other engines wrote, at every snapshot that is expected, with the rows that these engines say they have.
//! `RIVERMERE_ACCEPTANCE` names the folder of the data.
//!
//! Of every table, each snapshot is also reached from the one before by what came and went between.

use crate::expected::{data, same, unpack, value};
use crate::tables::{changed, collect};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use rivermere_base::Changes;
use rivermere_iceberg::IcebergTable;
use rivermere_store::LocalDisk;
use rivermere_table::{Location, Table};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

async fn open(folder: &Path, metadata: &str) -> Result<IcebergTable, String> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap());
    let location = Location::new(store, format!("metadata/{metadata}").into(), Arc::new(LocalDisk::new()));
    IcebergTable::open(location).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_engines_have_the_rows_that_these_say() {
    let Some(data) = data("iceberg") else { return };
    let catalogue: Value = serde_json::from_slice(&std::fs::read(data.join("catalogue.json")).unwrap()).unwrap();
    let (mut right, mut reads, mut steps, mut wrong) = (0, 0, 0, vec![]);
    for entry in catalogue["entries"].as_array().unwrap() {
        let text = |name: &str| entry[name].as_str().unwrap();
        let unpacked = unpack(&data.join(text("file")));
        let folder = unpacked.path().join(text("table"));
        let expected: Value = serde_json::from_slice(&std::fs::read(data.join(text("expected"))).unwrap()).unwrap();
        let mut found = Ok(());
        for read in expected["reads"].as_array().unwrap() {
            reads += 1;
            let what = format!("{} at {}", read["metadata"], read["snapshot_id"]);
            found = found.and(check(&folder, read).await.map_err(|error| format!("{what}: {error}")));
        }
        let newest = text("metadata");
        let walked = stepwise(&folder, newest).await;
        match (found, walked) {
            (Ok(()), Ok(count)) => {
                right += 1;
                steps += count;
            }
            (found, walked) => {
                let error = found.err().or(walked.err()).unwrap_or_default();
                wrong.push(format!("{}: {}", text("name"), error.chars().take(500).collect::<String>()));
            }
        }
    }
    println!("{right} tables right, {reads} reads, {steps} steps between snapshots");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right >= 24 && steps > 8, "{right} tables and {steps} steps are fewer than there were");
}

async fn check(folder: &Path, read: &Value) -> Result<(), String> {
    let table = open(folder, read["metadata"].as_str().unwrap()).await?;
    let provider = table.scan(read["snapshot_id"].as_i64()).await.map_err(|error| error.to_string())?;
    let session = SessionContext::new();
    let frame = session.read_table(provider).map_err(|error| error.to_string())?;
    let frame = match read["filter"].as_str() {
        Some(filter) => {
            let filter = frame.parse_sql_expr(filter).map_err(|error| error.to_string())?;
            frame.filter(filter).map_err(|error| error.to_string())?
        }
        None => frame,
    };
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if let Some(count) = read["count"].as_u64().filter(|count| *count != rows as u64) {
        return Err(format!("{rows} rows, not {count}"));
    }
    if let Some(aggregates) = read["aggregates"].as_object() {
        return aggregates.iter().try_for_each(|(name, wanted)| aggregate(&batches, name, wanted));
    }
    let Some(columns) = read["columns"].as_array() else { return Ok(()) };
    let mut lines = vec![];
    for batch in &batches {
        let column =
            |name: &Value| batch.column_by_name(name.as_str().unwrap()).cloned().ok_or(format!("no column {name}"));
        let picked = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let line = |row| Value::Array(picked.iter().map(|column| value(column, row)).collect()).to_string();
        lines.extend((0..batch.num_rows()).map(line));
    }
    let mut wanted: Vec<String> = read["rows"].as_array().unwrap().iter().map(ToString::to_string).collect();
    lines.sort();
    wanted.sort();
    same(&lines, &wanted)
}

fn aggregate(batches: &[RecordBatch], name: &str, wanted: &Value) -> Result<(), String> {
    // A column that the table has dropped is all null to one of the readers that the expectations come from.
    if wanted["non_null"] == 0 && batches.iter().all(|batch| batch.column_by_name(name).is_none()) {
        return Ok(());
    }
    let columns = batches.iter().map(|batch| batch.column_by_name(name).ok_or(format!("no column {name}")));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let there: usize = columns.iter().map(|column| column.len() - column.null_count()).sum();
    let values = columns.iter().flat_map(|column| (0..column.len()).map(move |row| value(column, row)));
    let values: Vec<Value> = values.filter(|value| !value.is_null()).collect();
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let by = |one: &&Value, other: &&Value| match (number(one), number(other)) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => one.to_string().cmp(&other.to_string()),
    };
    let sum: i128 = values.iter().filter_map(Value::as_i64).map(i128::from).sum();
    let found = json!({
        "non_null": there,
        "min": values.iter().min_by(by),
        "max": values.iter().max_by(by),
        "sum": i64::try_from(sum).ok(),
    });
    for part in ["non_null", "min", "max"] {
        if wanted.get(part).is_some_and(|wanted| *wanted != found[part]) {
            return Err(format!("{part} of {name} is {}, not {}", found[part], wanted[part]));
        }
    }
    match wanted["sum"].as_i64() {
        Some(wanted) if found["sum"] != wanted => Err(format!("the sum of {name} is {}, not {wanted}", found["sum"])),
        _ => Ok(()),
    }
}

/// Goes from each snapshot that can still be read to the next; tells how many steps that were.
async fn stepwise(folder: &Path, metadata: &str) -> Result<usize, String> {
    let table = open(folder, metadata).await?;
    let mut versions: Vec<i64> = table.history(100).await.unwrap().iter().map(|version| version.version).collect();
    versions.reverse();
    let (mut before, mut steps): (Option<(i64, SchemaRef, Vec<String>)>, _) = (None, 0);
    for version in versions {
        let Ok(provider) = table.scan(Some(version)).await else { continue };
        let columns = provider.schema();
        let Ok(rows) = collect(provider).await else { continue };
        if let Some((from, schema, old)) = before.take().filter(|(_, schema, _)| *schema == columns) {
            match table.changes(Some(from), version, &schema).await {
                Err(error) if error.to_string().contains("another column of that name") => {}
                changes => {
                    let changes = changes.map_err(|error| error.to_string())?;
                    let changes: Vec<Changes> = changes.try_collect().await.map_err(|error| error.to_string())?;
                    same(&changed(old, &changes), &rows).map_err(|error| format!("{from} to {version}: {error}"))?;
                    steps += 1;
                }
            }
        }
        before = Some((version, columns, rows));
    }
    Ok(steps)
}
