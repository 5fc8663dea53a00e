//! Planning a query over a table of many files: `cargo xtask bench planning [-- --files 100000]`.
//!
//! The table is made by our own SQL: `INSERT`s of 1,000 rows each into 1,000 partitions, so that every row is a file of its
//! own with its entry in the log or in a manifest; all of them are real, and small. Then a query for one row by its `id`,
//! which is not what the table is partitioned by: it is the bounds of all files that say which one to read.
//!
//! Measured are the first open in this process, planning over the table that is open (median of 5), and the whole query as
//! a user asks it, by HTTP (median of 5). Times are wall clock and CPU seconds of the process.

use arrow::array::RecordBatch;
use datafusion::prelude::{SessionConfig, SessionContext};
use rivermere_benches::clock::process_cpu;
use rivermere_benches::machine::{files, need_disk, peak_bytes};
use rivermere_benches::options::Options;
use rivermere_benches::platform::Platform;
use rivermere_delta::DeltaTable;
use rivermere_iceberg::IcebergTable;
use rivermere_store::{DiskStore, LocalDisk};
use rivermere_table::{Location, Table};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const FORMATS: [&str; 2] = ["delta", "iceberg"];
const PARTITIONS: u64 = 1_000;
/// A block of the file system for the data, and an entry.
const BYTES_PER_FILE: u64 = 8_192;
const RUNS: u64 = 5;

fn main() -> Outcome<()> {
    let options = Options::read(&["files", "formats"])?;
    let count: u64 = options.get("files", 100_000)?;
    let runtime = tokio::runtime::Runtime::new()?;
    for format in options.some_of("formats", &FORMATS)? {
        let folder = tempfile::tempdir()?;
        need_disk(folder.path(), count * BYTES_PER_FILE)?;
        runtime.block_on(measure(format, count, folder.path()))?;
    }
    Ok(())
}

async fn measure(format: &str, count: u64, folder: &Path) -> Outcome<()> {
    let platform = Platform::start(&folder.join("data")).await?;
    let place = folder.join("table");
    tokio::task::block_in_place(|| make(&platform, format, &place, count))?;

    let disk = Arc::new(LocalDisk::new());
    let location = Location::new(Arc::new(DiskStore::new(disk.clone(), folder)), "table".into(), disk);
    let clock = Clock::start();
    let table: Arc<dyn Table> = match format {
        "delta" => Arc::new(DeltaTable::open(location).await?),
        _ => Arc::new(IcebergTable::open(location).await?),
    };
    let rows = planned(&table, 1, count, true).await?;
    clock.print(format, "first open and plan");
    check(&rows)?;
    let mut plans = vec![];
    for run in 0..RUNS {
        let clock = Clock::start();
        planned(&table, 2 + run, count, false).await?;
        plans.push(clock.stop());
    }
    Clock::print_median(plans, format, "plan, open already");
    tokio::task::block_in_place(|| {
        let mut asked = vec![];
        for run in 0..RUNS {
            let id = id(10 + run, count);
            let clock = Clock::start();
            let rows = platform.sql(&format!("SELECT id, name FROM many WHERE id = {id}"))?;
            asked.push(clock.stop());
            if rows.len() != 1 || rows[0]["name"] != format!("name {id}") {
                return Err(format!("row {id} is {rows:?}").into());
            }
        }
        Clock::print_median(asked, format, "whole query by HTTP");
        Ok::<_, Box<dyn Error>>(())
    })?;
    println!("{format}: {:.0} MB resident at most", peak_bytes() as f64 / 1e6);
    platform.stop().await
}

fn make(platform: &Platform, format: &str, place: &Path, count: u64) -> Outcome<()> {
    let clock = Clock::start();
    platform.sql(&format!(
        "CREATE EXTERNAL TABLE many (part INT, id BIGINT, name TEXT) STORED AS {format} PARTITIONED BY (part) LOCATION '{}'",
        place.display()
    ))?;
    let mut first = 0;
    while first < count {
        let next = (first + PARTITIONS).min(count);
        platform.sql(&format!(
            "INSERT INTO many SELECT value - {first}, value, 'name ' || value FROM generate_series({first}, {})",
            next - 1
        ))?;
        first = next;
    }
    clock.print(format, "making the table");
    let found = files(place, ".parquet").iter().filter(|file| !file.to_string_lossy().contains("_delta_log")).count();
    match found as u64 == count {
        true => Ok(()),
        false => Err(format!("{found} files, not {count}").into()),
    }
}

/// Somewhere in the table.
fn id(run: u64, count: u64) -> u64 {
    run * 7_919 % count
}

/// Plans a query, and runs it when it is to be seen that the plan is right.
async fn planned(table: &Arc<dyn Table>, run: u64, count: u64, is_run: bool) -> Outcome<Vec<RecordBatch>> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_table("many", table.scan(None).await?)?;
    let query = session.sql(&format!("SELECT id, name FROM many WHERE id = {}", id(run, count))).await?;
    let plan = query.create_physical_plan().await?;
    match is_run {
        true => Ok(datafusion::physical_plan::collect(plan, session.task_ctx()).await?),
        false => Ok(vec![]),
    }
}

fn check(rows: &[RecordBatch]) -> Outcome<()> {
    match rows.iter().map(RecordBatch::num_rows).sum() {
        1_usize => Ok(()),
        other => Err(format!("{other} rows of one id").into()),
    }
}

struct Clock {
    wall: Instant,
    cpu: f64,
    took: (f64, f64),
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu().as_secs_f64(), took: (0.0, 0.0) }
    }

    fn stop(mut self) -> Self {
        self.took = (self.wall.elapsed().as_secs_f64(), process_cpu().as_secs_f64() - self.cpu);
        self
    }

    fn print(self, format: &str, what: &str) {
        Self::print_median(vec![self.stop()], format, what);
    }

    fn print_median(clocks: Vec<Self>, format: &str, what: &str) {
        let mut took: Vec<(f64, f64)> = clocks.into_iter().map(|clock| clock.took).collect();
        took.sort_by(|one, other| one.0.total_cmp(&other.0));
        let Some((wall, cpu)) = took.get(took.len() / 2) else { return };
        println!("{format:<8} {what:<22} {wall:>9.3} s {cpu:>9.3} s of CPU");
    }
}
