//! Tables that other engines wrote, with the rows that those engines say they have. `RIVERMERE_ACCEPTANCE` names the
//! folder of the data.
//!
//! Of every table that can be read, each version is also reached from the one before by what came and went between.

use crate::expected::{data, same, unpack, value};
use crate::world::text;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use rivermere_delta::{DeltaTable, Location};
use rivermere_store::LocalDisk;
use rivermere_table::{Table, TableError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Entries that cannot be read yet, each with a part of what is said of it. One that could be read fails the test, too.
const NOT_YET: &[(&str, &str)] = &[
    ("basic-with-vacuum-protocol-check-feature", "VacuumProtocolCheck"),
    ("type-widening", "TypeWideningPreview"),
    // A timestamp among the partition values, without a zone: its writer meant that of its session, we take UTC.
    ("data-reader-partition-values", "11:11:11Z"),
];

/// Changes of these kinds are not offered to be read: the change data feed, and the names of files.
const OTHER_KINDS: &[&str] = &["changes", "active-files"];

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_engines_have_the_rows_that_these_say() {
    let Some(data) = data("delta") else { return };
    let catalogue: Value = serde_json::from_slice(&std::fs::read(data.join("catalogue.json")).unwrap()).unwrap();
    let (mut right, mut steps, mut other, mut wrong) = (0, 0, 0, vec![]);
    for entry in catalogue["entries"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let unpacked = unpack(&data.join(entry["file"].as_str().unwrap()));
        let folder = unpacked.path().join(name);
        let not_yet = NOT_YET.iter().find(|(known, _)| *known == name).map(|(_, part)| *part);
        let found = match entry["expect"].as_str().unwrap() {
            kind if OTHER_KINDS.contains(&kind) => {
                other += 1;
                continue;
            }
            "must-fail" => match rows(&folder).await {
                Ok(_) => Err("it must be refused".to_string()),
                Err(_) => Ok(()),
            },
            "rows" => against_parquet(&folder).await,
            "reads" => against_json(&folder, &data.join(entry["expected"].as_str().unwrap())).await,
            kind => Err(format!("'{kind}' is not known")),
        };
        match (found, not_yet) {
            (Ok(()), None) => right += 1,
            (Err(error), Some(part)) if error.contains(part) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{name}: it can be read: take it off the list")),
            (Err(error), _) => wrong.push(format!("{name}: {}", error.chars().take(600).collect::<String>())),
        }
        if entry["expect"] != "must-fail" && not_yet.is_none() {
            match stepwise(&folder).await {
                Ok(count) => steps += count,
                Err(error) => wrong.push(format!("{name}: {}", error.chars().take(600).collect::<String>())),
            }
        }
    }
    println!("{right} right, {} not yet, {other} of other kinds; {steps} steps between versions", NOT_YET.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right > 70 && steps > 30, "{right} tables and {steps} steps are fewer than there were");
}

async fn open(folder: &Path) -> Result<DeltaTable, TableError> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap());
    DeltaTable::open(Location::new(store, "delta".into(), Arc::new(LocalDisk::new()))).await
}

async fn at(table: &DeltaTable, version: Option<i64>) -> Result<Vec<RecordBatch>, String> {
    let provider = table.scan(version).await.map_err(|error| error.to_string())?;
    let frame = SessionContext::new().read_table(provider).map_err(|error| error.to_string())?;
    frame.collect().await.map_err(|error| error.to_string())
}

async fn rows(folder: &Path) -> Result<Vec<RecordBatch>, String> {
    let table = open(folder).await.map_err(|error| error.to_string())?;
    at(&table, None).await
}

/// The columns of `schema` by their names, in its types.
fn shaped(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let shaped = |batch: &RecordBatch| {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let column = batch.column_by_name(field.name()).ok_or(format!("column '{}' is not there", field.name()))?;
            cast(column, field.data_type()).map_err(|error| format!("column '{}': {error}", field.name()))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns).map_err(|error| error.to_string())
    };
    batches.iter().map(shaped).collect()
}

async fn against_parquet(folder: &Path) -> Result<(), String> {
    let found = rows(folder).await?;
    let expected = folder.join("expected");
    let options = ParquetReadOptions::default();
    let session = SessionContext::new();
    let frame = session.read_parquet(expected.to_str().unwrap(), options).await.map_err(|error| error.to_string())?;
    let expected = frame.collect().await.map_err(|error| error.to_string())?;
    let Some(first) = found.first() else {
        let count: usize = expected.iter().map(RecordBatch::num_rows).sum();
        return if count == 0 { Ok(()) } else { Err(format!("it has no rows, and {count} are expected")) };
    };
    let (found, expected) = (text(&found), text(&shaped(&expected, &first.schema())?));
    same(&found, &expected)
}

async fn against_json(folder: &Path, expected: &Path) -> Result<(), String> {
    let found = rows(folder).await?;
    let expected: Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    for read in expected["reads"].as_array().unwrap() {
        if OTHER_KINDS.contains(&read["kind"].as_str().unwrap()) {
            continue;
        }
        let columns: Vec<&str> =
            read["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let mut lines = vec![];
        for batch in &found {
            let picked =
                columns.iter().map(|name| batch.column_by_name(name).cloned().ok_or(format!("no column {name}")));
            let picked = picked.collect::<Result<Vec<_>, _>>()?;
            lines.extend(
                (0..batch.num_rows())
                    .map(|row| Value::Array(picked.iter().map(|column| value(column, row)).collect()).to_string()),
            );
        }
        let mut wanted: Vec<String> = read["rows"].as_array().unwrap().iter().map(ToString::to_string).collect();
        lines.sort();
        wanted.sort();
        same(&lines, &wanted)?;
    }
    Ok(())
}

/// Goes from each version that is still there to the next; tells how many steps that were.
async fn stepwise(folder: &Path) -> Result<usize, String> {
    let told = |error: TableError| error.to_string();
    let table = open(folder).await.map_err(told)?;
    let history = table.history(100).await.map_err(told)?;
    let mut versions: Vec<i64> = history.iter().map(|version| version.version).collect();
    versions.reverse();
    let mut steps = 0;
    let mut before: Option<(i64, SchemaRef, BTreeMap<String, i64>)> = None;
    for version in versions {
        // A version whose files were cleaned up cannot be read; the newest has been.
        let Ok(batches) = at(&table, Some(version)).await else { continue };
        let provider = table.scan(Some(version)).await.map_err(told)?;
        let columns = provider.schema();
        let columns = Arc::new(Schema::new(columns.fields().iter().map(|field| plain(field)).collect::<Vec<_>>()));
        let mut after = BTreeMap::new();
        for row in text(&shaped(&batches, &columns)?) {
            *after.entry(row).or_insert(0) += 1;
        }
        // Columns that came or went in between make other rows, which is for the reader to notice.
        if let Some((from, schema, mut sum)) = before.take()
            && schema == columns
        {
            let changes = table.changes(Some(from), version, &columns).await.map_err(told)?;
            let changes: Vec<_> = changes.try_collect().await.map_err(told)?;
            for part in &changes {
                for row in 0..part.num_rows() {
                    let shown = text(&shaped(&[part.batch().slice(row, 1)], &columns)?).remove(0);
                    *sum.entry(shown).or_insert(0) += part.weight(row);
                }
            }
            sum.retain(|_, count| *count != 0);
            if sum != after {
                return Err(format!("the changes from version {from} to {version} lead elsewhere"));
            }
            steps += 1;
        }
        before = Some((version, columns, after));
    }
    Ok(steps)
}

/// A field as the table has it, whatever the scan wraps it in.
fn plain(field: &arrow::datatypes::Field) -> arrow::datatypes::Field {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    arrow::datatypes::Field::new(field.name(), data_type, true)
}
