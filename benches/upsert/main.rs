//! An upsert larger than the memory it may take: `cargo xtask bench upsert [-- --gb 10]`.
//!
//! A table and a table of changes, of rows of 80 bytes (a key, 64 letters that hardly compress, an amount); the changes are
//! `--gb` gigabytes as they are in memory, the table is half as much, and all its keys are among them. Then one statement,
//! `MERGE INTO … WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *`, in a process of its own, whose peak of
//! resident memory is the figure. The rows that are there afterwards are counted and summed.
//!
//! The process is stopped when it has `--stop-at-gb` (8) resident, and the bench fails, since others use the machine too. It
//! fails also above `--limit-gb` (2).

use rivermere_benches::clock::process_cpu;
use rivermere_benches::machine::{need_disk, peak_bytes, size};
use rivermere_benches::options::Options;
use rivermere_benches::platform::Platform;
use std::error::Error;
use std::path::Path;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const FORMATS: [&str; 2] = ["delta", "iceberg"];
const ROW_BYTES: f64 = 80.0;
/// Rows of one INSERT of those that make the tables.
const MADE_AT_ONCE: u64 = 5_000_000;
/// Of the changes, the table before and after, and what is spilled on the way, for each byte of the changes.
const DISK_FACTOR: f64 = 3.0;
const WATCHED_EVERY: Duration = Duration::from_millis(20);

fn main() -> Outcome<()> {
    let options = Options::read(&["gb", "formats", "limit-gb", "stop-at-gb", "step", "folder"])?;
    let gigabytes: f64 = options.get("gb", 10.0)?;
    let limit: f64 = options.get("limit-gb", 2.0)?;
    let stop_at: f64 = options.get("stop-at-gb", 8.0)?;
    let formats = options.some_of("formats", &FORMATS)?;
    let rows = (gigabytes * 1e9 / ROW_BYTES) as u64 / 2 * 2;
    let (step, folder): (String, String) = (options.get("step", String::new())?, options.get("folder", String::new())?);
    if !step.is_empty() {
        std::thread::spawn(move || watch(stop_at));
        let format = formats.first().ok_or("a step of one format")?;
        return tokio::runtime::Runtime::new()?.block_on(run(&step, format, Path::new(&folder), rows));
    }
    let mut broken = vec![];
    for format in formats {
        let folder = tempfile::tempdir()?;
        need_disk(folder.path(), (gigabytes * 1e9 * DISK_FACTOR) as u64)?;
        println!("{format}: {rows} changes, {gigabytes} GB, into {} rows", rows / 2);
        for step in ["make", "merge", "check"] {
            let mut own = Command::new(std::env::current_exe()?);
            own.args(["--step", step, "--formats", format, "--gb", &gigabytes.to_string()]);
            own.args(["--stop-at-gb", &stop_at.to_string(), "--folder"]).arg(folder.path());
            let output = own.stderr(std::process::Stdio::inherit()).output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            print!("{said}");
            if !output.status.success() {
                broken.push(format!("{format}: {step} failed"));
                break;
            }
            let peak = |line: &str| line.split_once("peak ")?.1.split(' ').next()?.parse::<f64>().ok();
            match said.lines().rev().find_map(peak) {
                Some(peak) if step != "merge" || peak <= limit => {}
                _ => broken.push(format!("{format}: more than {limit} GB")),
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ").into()) }
}

/// Ends the process before it takes the machine down.
fn watch(stop_at: f64) {
    while peak_bytes() as f64 / 1e9 <= stop_at {
        std::thread::sleep(WATCHED_EVERY);
    }
    println!("stopped: more than {stop_at} GB resident");
    exit(1);
}

async fn run(step: &str, format: &str, folder: &Path, rows: u64) -> Outcome<()> {
    let platform = Platform::start(&folder.join("data")).await?;
    let (start, cpu) = (Instant::now(), process_cpu());
    tokio::task::block_in_place(|| {
        for (table, place) in [("whole", "table"), ("changes", "changes")] {
            platform.sql(&format!(
                "CREATE EXTERNAL TABLE IF NOT EXISTS {table} (key BIGINT, name TEXT, amount DOUBLE) \
                 STORED AS {format} LOCATION '{}'",
                folder.join(place).display()
            ))?;
        }
        match step {
            "make" => make(&platform, rows),
            "merge" => platform
                .sql(
                    "MERGE INTO whole AS t USING changes AS s ON t.key = s.key \
                     WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
                )
                .map(drop),
            _ => check(&platform, rows),
        }
    })?;
    println!(
        "{format}: {step:<6} {:>7.1} s, {:>7.1} s of CPU, peak {:.2} GB resident; {:.1} GB on the disk",
        start.elapsed().as_secs_f64(),
        (process_cpu() - cpu).as_secs_f64(),
        peak_bytes() as f64 / 1e9,
        size(folder) as f64 / 1e9
    );
    platform.stop().await
}

/// Keys of the table are the even ones, in order; changes come in another order, so that they go everywhere.
fn make(platform: &Platform, rows: u64) -> Outcome<()> {
    let mut first = 0;
    while first < rows {
        let next = (first + MADE_AT_ONCE).min(rows);
        let series = format!("generate_series({first}, {})", next - 1);
        // A permutation of the keys: the factor has no divisor in common with any number of rows below it, being prime.
        platform.sql(&format!(
            "INSERT INTO changes SELECT key, md5(CAST(key AS TEXT)) || md5(CAST(-key AS TEXT)), 2.0 * key \
             FROM (SELECT (value * 2147483647) % {rows} AS key FROM {series})"
        ))?;
        platform.sql(&format!(
            "INSERT INTO whole SELECT value, md5('old ' || value) || md5('older ' || value), 1.0 * value \
             FROM {series} WHERE value % 2 = 0"
        ))?;
        first = next;
    }
    Ok(())
}

fn check(platform: &Platform, rows: u64) -> Outcome<()> {
    let found = platform.sql(
        "SELECT COUNT(*) AS rows, SUM(key) AS keys, \
         SUM(CASE WHEN amount = 2.0 * key AND name = md5(CAST(key AS TEXT)) || md5(CAST(-key AS TEXT)) THEN 1 ELSE 0 END) \
         AS good FROM whole",
    )?;
    let number = |name: &str| found.first().and_then(|row| row[name].as_u64());
    let wanted = [Some(rows), Some(rows * (rows - 1) / 2), Some(rows)];
    match [number("rows"), number("keys"), number("good")] == wanted {
        true => Ok(()),
        false => Err(format!("{found:?}, not {wanted:?}").into()),
    }
}
