//! Views into tables of the lake: `cargo xtask bench lake`.
//!
//! One table of `LAKE_ROWS` rows (1,000,000) on the real disk, filled by appends of `LAKE_APPEND` rows (100,000) a commit,
//! then `LAKE_COMMITS` commits (10) of `LAKE_UPSERTS` rows each (1,000) with random keys, half of which are there. For each
//! format: our sink writing files anew, and marking rows where it does that (deletion vectors, position deletes); Spark with
//! the format's own package, both ways too; for Delta also the library below us with its own writer and `MERGE` (delta-rs).
//! Each is read back by us at the end, and all must hold the same rows.
//!
//! Times are wall clock and CPU seconds of the whole process, all threads. Spark has the rows of each commit in memory before
//! its clock starts, as we have, and has done the same to another table before.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use deltalake_core::kernel::engine::arrow_conversion::TryFromArrow as _;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use rivermere_base::{Changes, Epoch, Rng as _, SeededRng};
use rivermere_benches::clock::process_cpu;
use rivermere_benches::machine::size;
use rivermere_benches::peer::{installed, lines, script};
use rivermere_delta::{DeltaSink, DeltaTable};
use rivermere_hudi::{HudiSink, HudiTable};
use rivermere_iceberg::{IcebergSink, IcebergTable};
use rivermere_store::{DiskStore, LocalDisk};
use rivermere_table::{Adopt, Location, SinkId, SinkMode, SinkSpec, StagedEpoch, Table, TableSink};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Delta,
    Iceberg,
    Hudi,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Iceberg => "iceberg",
            Self::Hudi => "hudi",
        }
    }

    /// The properties of a table whose rows are marked. We write no logs of Hudi.
    fn marked(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Delta => &[("delta.enableDeletionVectors", "true")],
            Self::Iceberg => &[("write.merge.mode", "merge-on-read")],
            Self::Hudi => &[],
        }
    }

    async fn sink(self, location: Location, spec: SinkSpec) -> Outcome<Arc<dyn TableSink>> {
        Ok(match self {
            Self::Delta => Arc::new(DeltaSink::open(location, spec).await?),
            Self::Iceberg => Arc::new(IcebergSink::open(location, spec).await?),
            Self::Hudi => Arc::new(HudiSink::open(location, spec).await?),
        })
    }

    async fn table(self, location: Location) -> Outcome<Arc<dyn Table>> {
        Ok(match self {
            Self::Delta => Arc::new(DeltaTable::open(location).await?),
            Self::Iceberg => Arc::new(IcebergTable::open(location).await?),
            Self::Hudi => Arc::new(HudiTable::open(location).await?),
        })
    }
}

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
    rows: String,
}

#[derive(Clone, Copy, Default)]
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
        "{:<26} {:>14} {:>8} {:>14} {:>8} {:>12}",
        "", "append row/s", "CPU s", "upsert row/s", "CPU s", "MB written"
    );
    let sources = tempfile::tempdir()?;
    write_sources(&plan, sources.path())?;
    let mut all: Vec<(String, Took)> = vec![];
    for format in [Format::Delta, Format::Iceberg, Format::Hudi] {
        let mut ways = vec![("files anew", &[][..])];
        if !format.marked().is_empty() {
            ways.push(("rows marked", format.marked()));
        }
        for (way, properties) in &ways {
            let took = runtime.block_on(ours(&plan, format, properties))?;
            all.push((format!("{}: ours, {way}", format.name()), took));
            print(&plan, &all);
        }
        if format == Format::Delta {
            all.push(("delta: delta-rs, MERGE".to_owned(), runtime.block_on(theirs(&plan))?));
            print(&plan, &all);
        }
        for (way, properties) in &ways {
            let took = runtime.block_on(spark(format, properties, sources.path()))?;
            all.push((format!("{}: Spark, {way}", format.name()), took));
            print(&plan, &all);
        }
    }
    match all.iter().find(|(_, took)| took.rows != all[0].1.rows) {
        None => println!("all hold the same rows: {}", all[0].1.rows),
        Some((name, took)) => return Err(format!("{name} holds {}, not {}", took.rows, all[0].1.rows).into()),
    }
    Ok(())
}

fn print(plan: &Plan, all: &[(String, Took)]) {
    let Some((name, took)) = all.last() else { return };
    let upserts = plan.commits * plan.upserts;
    println!(
        "{name:<26} {:>14.0} {:>8.2} {:>14.0} {:>8.2} {:>12.1}",
        plan.rows as f64 / took.fill.wall.as_secs_f64(),
        took.fill.cpu.as_secs_f64(),
        upserts as f64 / took.upsert.wall.as_secs_f64(),
        took.upsert.cpu.as_secs_f64(),
        took.written as f64 / 1e6,
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

/// The rows of each commit in a file, for engines that are no part of this process.
fn write_sources(plan: &Plan, folder: &Path) -> Outcome<()> {
    let write = |name: String, rows: &RecordBatch| -> Outcome<()> {
        let mut writer = ArrowWriter::try_new(File::create(folder.join(name))?, rows.schema(), None)?;
        writer.write(rows)?;
        writer.close()?;
        Ok(())
    };
    for (number, rows) in fill(plan).enumerate() {
        write(format!("append-{number:05}.parquet"), &rows?)?;
    }
    for (round, keys) in (1..).zip(upserts(plan)) {
        write(format!("upsert-{round:05}.parquet"), &batch(keys.keys().copied(), round)?)?;
    }
    Ok(())
}

fn location(folder: &Path) -> Location {
    let disk = Arc::new(LocalDisk::new());
    let shown = folder.join("table").display().to_string();
    Location::new(Arc::new(DiskStore::new(disk.clone(), folder)), "table".into(), disk).named(shown)
}

async fn spark(format: Format, properties: &[(&str, &str)], sources: &Path) -> Outcome<Took> {
    let folder = tempfile::tempdir()?;
    let peer = installed(if format == Format::Hudi { "RIVERMERE_SPARK_HUDI" } else { "RIVERMERE_SPARK" })?;
    let mut command = script(&peer.join("python/bin/python"), "lake/peer.py");
    command.arg(&peer).arg(format.name()).arg(folder.path()).arg(sources);
    command.args(properties.iter().map(|(name, value)| format!("{name}={value}")));
    let mut clocks = [Clock::default(); 2];
    let mut written = 0;
    lines(command, |said| {
        let seconds = |name: &str| Duration::from_secs_f64(said[name].as_f64().unwrap_or_default());
        let clock = &mut clocks[usize::from(said["phase"] == "upsert")];
        *clock = Clock { wall: seconds("wall"), cpu: seconds("cpu") };
        written = said["written"].as_u64().unwrap_or_default();
    })?;
    let [fill, upsert] = clocks;
    Ok(Took { fill, upsert, written, rows: sum(format, location(folder.path())).await? })
}

async fn ours(plan: &Plan, format: Format, properties: &[(&str, &str)]) -> Outcome<Took> {
    let folder = tempfile::tempdir()?;
    let location = location(folder.path());
    let spec = |mode| SinkSpec {
        sink_id: SinkId::new("rivermere/bench/view").expect("three parts"),
        schema: schema(),
        mode,
        adopt: Adopt::Refuse,
        properties: properties.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
        since: Epoch(0),
    };
    let sink = format.sink(location.clone(), spec(SinkMode::Append)).await?;
    let mut epoch = 0;
    let start = Start::now();
    for rows in fill(plan) {
        epoch += 1;
        sink.commit(vec![StagedEpoch { epoch: Epoch(epoch), changes: vec![Changes::inserts(rows?)] }]).await?;
    }
    let fill = start.elapsed();
    let before = size(folder.path());
    let sink = format.sink(location.clone(), spec(SinkMode::Merge { key: vec!["key".into()] })).await?;
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
    let written = size(folder.path()).saturating_sub(before);
    Ok(Took { fill, upsert, written, rows: sum(format, location).await? })
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
    Ok(Took { fill, upsert, written, rows: sum(Format::Delta, location(folder.path())).await? })
}

/// The rows in one line.
async fn sum(format: Format, location: Location) -> Outcome<String> {
    let table = format.table(location).await?;
    let session = SessionContext::new();
    session.register_table("t", table.scan(None).await?)?;
    let sql = "SELECT COUNT(*), COUNT(DISTINCT key), SUM(key), SUM(amount), SUM(LENGTH(name)), MAX(name) FROM t";
    let shown = arrow::util::pretty::pretty_format_batches(&session.sql(sql).await?.collect().await?)?.to_string();
    Ok(shown.lines().nth(3).unwrap_or_default().to_string())
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
