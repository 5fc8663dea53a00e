//! Views into Delta tables: `cargo xtask bench lake`.
//!
//! One table of `LAKE_ROWS` rows (1,000,000) on the real disk, filled by appends of `LAKE_APPEND` rows (100,000) a commit,
//! then `LAKE_COMMITS` commits (10) of `LAKE_UPSERTS` rows each (1,000) with random keys, half of which are there. Three
//! ways: our sink writing files anew, our sink marking rows in deletion vectors, and the library's own writer and `MERGE`
//! (delta-rs, the peer). Each is read back at the end, and all must hold the same rows.
//!
//! Times are CPU seconds of the whole process, all threads; wall time beside it.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use deltalake_core::kernel::engine::arrow_conversion::TryFromArrow as _;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use rivermere_base::{Changes, Epoch, Rng as _, SeededRng};
use rivermere_benches::clock::process_cpu;
use rivermere_delta::{DeltaSink, DeltaTable, Location};
use rivermere_store::{DiskStore, LocalDisk};
use rivermere_table::{Adopt, SinkId, SinkMode, SinkSpec, StagedEpoch, Table as _, TableSink as _};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MARKED: (&str, &str) = ("delta.enableDeletionVectors", "true");

struct Plan {
    rows: i64,
    append: i64,
    commits: u64,
    upserts: u64,
}

/// What one way took, and a sum by which its rows are compared with those of the others.
struct Took {
    fill: Clock,
    upsert: Clock,
    /// Bytes of the table's folder that the upserts added.
    written: u64,
    files: u64,
    rows: String,
}

#[derive(Clone, Copy)]
struct Clock {
    wall: Duration,
    cpu: Duration,
}

fn main() -> Outcome<()> {
    let setting = |name: &str, usual: i64| {
        std::env::var(name).map_or(Ok(usual), |text| text.parse()).map_err(|error| format!("{name}: {error}"))
    };
    let plan = Plan {
        rows: setting("LAKE_ROWS", 1_000_000)?,
        append: setting("LAKE_APPEND", 100_000)?,
        commits: setting("LAKE_COMMITS", 10)?.unsigned_abs(),
        upserts: setting("LAKE_UPSERTS", 1_000)?.unsigned_abs(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    println!(
        "{} rows by {} a commit; then {} commits of {} upserts",
        plan.rows, plan.append, plan.commits, plan.upserts
    );
    println!(
        "{:<26} {:>12} {:>10} {:>12} {:>10} {:>10} {:>8}",
        "", "append row/s", "CPU s", "upsert row/s", "CPU s", "MB written", "files"
    );
    let mut all = vec![];
    for (name, way) in [("ours, files anew", None), ("ours, rows marked", Some(MARKED))] {
        all.push((name, runtime.block_on(ours(&plan, way))?));
        print(&plan, name, &all);
    }
    all.push(("delta-rs, MERGE", runtime.block_on(theirs(&plan))?));
    print(&plan, "delta-rs, MERGE", &all);
    match all.iter().find(|(_, took)| took.rows != all[0].1.rows) {
        None => println!("all hold the same rows: {}", all[0].1.rows),
        Some((name, took)) => return Err(format!("{name} holds {}, not {}", took.rows, all[0].1.rows).into()),
    }
    Ok(())
}

fn print(plan: &Plan, name: &str, all: &[(&str, Took)]) {
    let Some((_, took)) = all.last() else { return };
    let upserts = plan.commits * plan.upserts;
    println!(
        "{name:<26} {:>12.0} {:>10.2} {:>12.0} {:>10.2} {:>10.1} {:>8}",
        plan.rows as f64 / took.fill.wall.as_secs_f64(),
        took.fill.cpu.as_secs_f64(),
        upserts as f64 / took.upsert.wall.as_secs_f64(),
        took.upsert.cpu.as_secs_f64(),
        took.written as f64 / 1e6,
        took.files
    );
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
    ]))
}

fn batch(keys: impl Iterator<Item = i64> + Clone, round: u64) -> Outcome<RecordBatch> {
    let names: StringArray =
        keys.clone().map(|key| Some(format!("customer {:06} of round {round}", key % 50_000))).collect();
    let amounts: Float64Array = keys.clone().map(|key| Some(key as f64 * 0.5 + round as f64)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(keys.collect::<Int64Array>()), Arc::new(names), Arc::new(amounts)];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn fill(plan: &Plan) -> impl Iterator<Item = Outcome<RecordBatch>> {
    let (rows, append) = (plan.rows, plan.append);
    (0..rows).step_by(append as usize).map(move |first| batch(first..(first + append).min(rows), 0))
}

/// For each commit, the keys with the round that they were last written in, none when they are new.
fn upserts(plan: &Plan) -> Vec<BTreeMap<i64, Option<u64>>> {
    let rng = SeededRng::new(1);
    let mut newest = BTreeMap::<i64, u64>::new();
    let commit = |round: u64| {
        let mut these = BTreeMap::new();
        while (these.len() as u64) < plan.upserts {
            let key = (rng.next_u64() % (2 * plan.rows.unsigned_abs())) as i64;
            these.entry(key).or_insert_with(|| newest.get(&key).copied().or((key < plan.rows).then_some(0)));
        }
        newest.extend(these.keys().map(|key| (*key, round)));
        these
    };
    (1..=plan.commits).map(commit).collect()
}

async fn ours(plan: &Plan, property: Option<(&str, &str)>) -> Outcome<Took> {
    let folder = tempfile::tempdir()?;
    let disk = Arc::new(LocalDisk::new());
    let store = Arc::new(DiskStore::new(disk.clone(), folder.path()));
    let location = Location::new(store, "table".into(), disk);
    let spec = |mode| SinkSpec {
        sink_id: SinkId::new("rivermere/bench/view").expect("three parts"),
        schema: schema(),
        mode,
        adopt: Adopt::Refuse,
        properties: property.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
        since: Epoch(0),
    };
    let sink = DeltaSink::open(location.clone(), spec(SinkMode::Append)).await?;
    let mut epoch = 0;
    let start = Start::now();
    for rows in fill(plan) {
        epoch += 1;
        sink.commit(vec![StagedEpoch { epoch: Epoch(epoch), changes: vec![Changes::inserts(rows?)] }]).await?;
    }
    let fill = start.elapsed();
    let before = size(folder.path());
    let sink = DeltaSink::open(location.clone(), spec(SinkMode::Merge { key: vec!["key".into()] })).await?;
    let start = Start::now();
    for (round, keys) in (1..).zip(upserts(plan)) {
        epoch += 1;
        let mut changes = vec![];
        for was in 0..round {
            let old = keys.iter().filter(|(_, last)| **last == Some(was)).map(|(key, _)| *key);
            let old = batch(old, was)?;
            let weights = Int64Array::from_value(-1, old.num_rows());
            changes.push(Changes::with_weights(old, weights)?);
        }
        changes.push(Changes::inserts(batch(keys.keys().copied(), round)?));
        sink.commit(vec![StagedEpoch { epoch: Epoch(epoch), changes }]).await?;
    }
    let upsert = start.elapsed();
    let (written, files) = (size(folder.path()).saturating_sub(before), data_files(&location).await?);
    Ok(Took { fill, upsert, written, files, rows: sum(&location).await? })
}

async fn theirs(plan: &Plan) -> Outcome<Took> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("table");
    std::fs::create_dir_all(&place)?;
    let columns = deltalake_core::kernel::StructType::try_from_arrow(schema().as_ref())?;
    let url = url::Url::from_directory_path(&place).map_err(|()| "a path that is none")?;
    let mut table = CreateBuilder::new().with_location(url.as_str()).with_columns(columns.into_fields()).await?;
    let start = Start::now();
    for rows in fill(plan) {
        table = table.write(vec![rows?]).with_save_mode(SaveMode::Append).await?;
    }
    let fill = start.elapsed();
    let before = size(folder.path());
    let session = SessionContext::new();
    let start = Start::now();
    for (round, keys) in (1..).zip(upserts(plan)) {
        let source = session.read_batch(batch(keys.keys().copied(), round)?)?;
        let merged = table
            .merge(source, "t.key = s.key")
            .with_target_alias("t")
            .with_source_alias("s")
            .when_matched_update(|update| update.update("name", "s.name").update("amount", "s.amount"))?
            .when_not_matched_insert(|insert| {
                insert.set("key", "s.key").set("name", "s.name").set("amount", "s.amount")
            })?
            .await?;
        table = merged.0;
    }
    let upsert = start.elapsed();
    let written = size(folder.path()).saturating_sub(before);
    let disk = Arc::new(LocalDisk::new());
    let location = Location::new(Arc::new(DiskStore::new(disk.clone(), folder.path())), "table".into(), disk);
    Ok(Took { fill, upsert, written, files: data_files(&location).await?, rows: sum(&location).await? })
}

/// The rows in one line.
async fn sum(location: &Location) -> Outcome<String> {
    let table = DeltaTable::open(location.clone()).await?;
    let session = SessionContext::new();
    session.register_table("t", table.scan(None).await?)?;
    let sql = "SELECT COUNT(*), COUNT(DISTINCT key), SUM(key), SUM(amount), SUM(LENGTH(name)), MAX(name) FROM t";
    let shown = arrow::util::pretty::pretty_format_batches(&session.sql(sql).await?.collect().await?)?.to_string();
    Ok(shown.lines().nth(3).unwrap_or_default().to_string())
}

/// How many data files the newest version has.
async fn data_files(location: &Location) -> Outcome<u64> {
    let table = DeltaTable::open(location.clone()).await?;
    let session = SessionContext::new();
    let plan = table.scan(None).await?.scan(&session.state(), None, &[], None).await?;
    let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
    Ok(shown.matches(".parquet").count() as u64)
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

struct Start {
    wall: Instant,
    cpu: Duration,
}

impl Start {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu() }
    }

    fn elapsed(&self) -> Clock {
        Clock { wall: self.wall.elapsed(), cpu: process_cpu().saturating_sub(self.cpu) }
    }
}
