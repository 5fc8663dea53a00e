//! Tables that Spark wrote, with the rows that other readers say they have. `RIVERMERE_ACCEPTANCE` names the folder of the data.
//!
//! Of every table, each version is also reached from the one before by what came and went between.

use crate::expected::{data, same, unpack, value};
use crate::tables::{changed, collect};
use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use rivermere_base::Changes;
use rivermere_hudi::HudiTable;
use rivermere_store::LocalDisk;
use rivermere_table::{Location, Table};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Tables whose base files are no Parquet: what is said of them.
const REFUSED: [(&str, &str); 3] = [
    ("cow_v9_lance_nonpartitioned", "base files in LANCE"),
    ("cow_v9_lance_txns_simple", "base files in LANCE"),
    ("cow_v9_trips_lance", "base files in LANCE"),
];

async fn open(folder: &Path) -> Result<HudiTable, String> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder.parent().unwrap()).unwrap());
    let inside = folder.file_name().unwrap().to_str().unwrap();
    let location = Location::new(store, inside.into(), Arc::new(LocalDisk::new()));
    HudiTable::open(location).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_engines_have_the_rows_that_these_say() {
    let Some(data) = data("hudi") else { return };
    let catalogue: Value = serde_json::from_slice(&std::fs::read(data.join("catalogue.json")).unwrap()).unwrap();
    let (mut right, mut refused, mut steps, mut wrong) = (0, 0, 0, vec![]);
    for entry in catalogue["entries"].as_array().unwrap() {
        let text = |name: &str| entry[name].as_str().unwrap();
        let unpacked = unpack(&data.join(text("file")));
        let folder = unpacked.path().join(text("folder"));
        let expected: Value = serde_json::from_slice(&std::fs::read(data.join(text("expected"))).unwrap()).unwrap();
        let named = REFUSED.iter().find(|(name, _)| *name == text("name"));
        let found = match (check(&folder, &expected).await, named) {
            (Ok(()), None) => stepwise(&folder).await.map(|count| steps += count).map(|()| right += 1),
            (Ok(()), Some(_)) => Err("it was not refused".to_owned()),
            (Err(error), Some((_, feature))) if error.contains(feature) => {
                refused += 1;
                Ok(())
            }
            (Err(error), _) => Err(error),
        };
        if let Err(error) = found {
            wrong.push(format!("{}: {}", text("name"), error.chars().take(700).collect::<String>()));
        }
    }
    println!("{right} tables right, {refused} refused, {steps} steps between versions");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right >= 28 && steps > 60, "{right} tables and {steps} steps are fewer than there were");
}

async fn check(folder: &Path, expected: &Value) -> Result<(), String> {
    let table = open(folder).await?;
    let provider = table.scan(None).await.map_err(|error| error.to_string())?;
    let frame = SessionContext::new().read_table(provider).map_err(|error| error.to_string())?;
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    let columns = expected["columns"].as_array().unwrap();
    let mut lines = vec![];
    for batch in &batches {
        let column =
            |name: &Value| batch.column_by_name(name.as_str().unwrap()).cloned().ok_or(format!("no column {name}"));
        let picked = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let line = |row| Value::Array(picked.iter().map(|column| value(column, row)).collect()).to_string();
        lines.extend((0..batch.num_rows()).map(line));
    }
    let mut wanted: Vec<String> = expected["rows"].as_array().unwrap().iter().map(ToString::to_string).collect();
    lines.sort();
    wanted.sort();
    same(&lines, &wanted)
}

/// Goes from each version to the next, and from the first to the last; tells how many steps that were.
async fn stepwise(folder: &Path) -> Result<usize, String> {
    let table = open(folder).await?;
    let mut versions: Vec<i64> = table.history(100).await.unwrap().iter().map(|version| version.version).collect();
    versions.reverse();
    let mut read: Vec<(i64, SchemaRef, Vec<String>)> = vec![];
    for version in versions {
        let provider = table.scan(Some(version)).await.map_err(|error| error.to_string())?;
        let columns = provider.schema();
        // Of old versions files may have been cleaned up.
        if let Ok(rows) = collect(provider).await {
            read.push((version, columns, rows));
        }
    }
    let mut steps = 0;
    let last = read.len().saturating_sub(1);
    let pairs = (0..last).map(|at| (at, at + 1)).chain((last > 1).then_some((0, last)));
    for (from, to) in pairs {
        let ((from, _, old), (to, columns, new)) = (&read[from], &read[to]);
        let changes = table.changes(Some(*from), *to, columns).await.map_err(|error| error.to_string())?;
        let changes: Vec<Changes> = changes.try_collect().await.map_err(|error| error.to_string())?;
        same(&changed(old.clone(), &changes), new).map_err(|error| format!("{from} to {to}: {error}"))?;
        steps += 1;
    }
    Ok(steps)
}
