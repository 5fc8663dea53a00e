//! TPC-H over tables of the lake: `cargo xtask bench tpch [-- --scale 1 --runs 3]`.
//!
//! The eight tables are made by `tpchgen-cli` as one Parquet file each, and written by our own SQL (`CREATE EXTERNAL TABLE`,
//! `INSERT INTO … SELECT * FROM parquet('…')`) as Delta and as Iceberg tables. Then the 22 queries, with the substitution
//! parameters of the specification's validation runs, one after the other: by a whole platform in this process, asked by
//! HTTP, by DuckDB and by Spark, each once to warm up and `--runs` times that count. All must give the same rows.
//!
//! Times are medians: of wall clock, and of CPU time of the engine's whole process, all threads.
//!
//! `--formats delta,iceberg`, `--engines duckdb,spark` and `--queries 1,6` leave things out; `--folder` keeps data and tables
//! in a folder, and takes them from there the next time.

use rivermere_benches::clock::process_cpu;
use rivermere_benches::machine::{need_disk, size};
use rivermere_benches::options::Options;
use rivermere_benches::peer::{installed, lines, script};
use rivermere_benches::platform::Platform;
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const TABLES: &str = include_str!("sql/tables.sql");
const FORMATS: [&str; 2] = ["delta", "iceberg"];
const ENGINES: [&str; 2] = ["duckdb", "spark"];
/// Of the files as they are made, of the tables of one format, and of what engines spill.
const BYTES_PER_SCALE: f64 = 1.2e9;

/// The text of each query, by its number.
fn queries(scale: f64) -> BTreeMap<u64, String> {
    let texts = [
        include_str!("sql/q1.sql"),
        include_str!("sql/q2.sql"),
        include_str!("sql/q3.sql"),
        include_str!("sql/q4.sql"),
        include_str!("sql/q5.sql"),
        include_str!("sql/q6.sql"),
        include_str!("sql/q7.sql"),
        include_str!("sql/q8.sql"),
        include_str!("sql/q9.sql"),
        include_str!("sql/q10.sql"),
        include_str!("sql/q11.sql"),
        include_str!("sql/q12.sql"),
        include_str!("sql/q13.sql"),
        include_str!("sql/q14.sql"),
        include_str!("sql/q15.sql"),
        include_str!("sql/q16.sql"),
        include_str!("sql/q17.sql"),
        include_str!("sql/q18.sql"),
        include_str!("sql/q19.sql"),
        include_str!("sql/q20.sql"),
        include_str!("sql/q21.sql"),
        include_str!("sql/q22.sql"),
    ];
    let fraction = format!("{:.10}", 0.0001 / scale);
    (1..).zip(texts.map(|text| text.replace("{fraction}", &fraction))).collect()
}

/// What an engine took for a query, and what it answered.
#[derive(Default)]
struct Answer {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    rows: Vec<Vec<Value>>,
}

impl Answer {
    /// Medians of wall clock and CPU, in seconds, without the warm-up.
    fn median(&self) -> (f64, f64) {
        let of = |times: &[f64]| {
            let mut counted = times.get(1..).unwrap_or_default().to_vec();
            counted.sort_by(f64::total_cmp);
            counted.get(counted.len() / 2).copied().unwrap_or(f64::NAN)
        };
        (of(&self.wall), of(&self.cpu))
    }
}

type Answers = BTreeMap<u64, Answer>;

fn main() -> Outcome<()> {
    let options = Options::read(&["scale", "runs", "formats", "engines", "queries", "folder"])?;
    let scale: f64 = options.get("scale", 1.0)?;
    let runs: usize = options.get("runs", 3)?;
    let formats = options.some_of("formats", &FORMATS)?;
    let engines = options.some_of("engines", &ENGINES)?;
    let mut queries = queries(scale);
    let wanted: String = options.get("queries", String::new())?;
    if !wanted.is_empty() {
        let wanted: Vec<u64> = wanted.split(',').map(str::parse).collect::<Result<_, _>>()?;
        queries.retain(|number, _| wanted.contains(number));
    }
    let (own, given) = (tempfile::tempdir()?, options.get("folder", String::new())?);
    let folder = if given.is_empty() { own.path() } else { Path::new(&given) };
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let made = folder.join("made");
    if !made.exists() {
        need_disk(&folder, (scale * BYTES_PER_SCALE * formats.len() as f64).max(1e8) as u64)?;
        let tools = installed("RIVERMERE_DUCKDB")?;
        let mut make = Command::new(tools.with_file_name("tpchgen-cli"));
        make.args(["parquet", "--scale-factor", &scale.to_string(), "--output-dir"]).arg(&made);
        let start = Instant::now();
        if !make.status()?.success() {
            return Err("the data could not be made".into());
        }
        println!("data: {:.2} GB in {:.1} s", size(&made) as f64 / 1e9, start.elapsed().as_secs_f64());
    }
    let texts = folder.join("queries.json");
    std::fs::write(&texts, serde_json::to_vec(&queries)?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    for format in formats {
        let tables = folder.join(format);
        let ours = runtime.block_on(ours(&folder, format, &queries, runs))?;
        let mut all = vec![("ours", ours)];
        for engine in &engines {
            all.push((engine, theirs(engine, format, &tables, &texts, runs)?));
        }
        print(format, scale, &all);
        same(&all)?;
    }
    Ok(())
}

async fn ours(folder: &Path, format: &str, queries: &BTreeMap<u64, String>, runs: usize) -> Outcome<Answers> {
    let is_there = folder.join(format).join("lineitem").exists();
    let data = tempfile::tempdir()?;
    let platform = Platform::start(data.path()).await?;
    let tables = folder.join(format);
    let text = TABLES.replace("{format}", format).replace("{folder}", &tables.display().to_string());
    let answers = tokio::task::block_in_place(|| {
        let (start, cpu) = (Instant::now(), process_cpu());
        platform.sql(&text)?;
        if !is_there {
            let mut rows = 0;
            for table in ["region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem"] {
                let file = folder.join(format!("made/{table}.parquet"));
                let said = platform.sql(&format!("INSERT INTO {table} SELECT * FROM parquet('{}')", file.display()))?;
                rows += said.first().and_then(|said| said["rows"].as_u64()).ok_or("an INSERT that says no rows")?;
            }
            let (took, cpu) = (start.elapsed().as_secs_f64(), (process_cpu() - cpu).as_secs_f64());
            let (bytes, speed) = (size(&tables) as f64 / 1e9, rows as f64 / took / 1e6);
            println!(
                "{format}: {rows} rows written in {took:.1} s, {cpu:.1} s of CPU, {speed:.2} M rows/s, {bytes:.2} GB"
            );
        }
        let mut answers = Answers::new();
        for (number, text) in queries {
            let answer = answers.entry(*number).or_default();
            for _ in 0..=runs {
                let (start, cpu) = (Instant::now(), process_cpu());
                let rows = platform.sql(text)?;
                answer.wall.push(start.elapsed().as_secs_f64());
                answer.cpu.push((process_cpu() - cpu).as_secs_f64());
                answer.rows = rows.into_iter().map(values).collect();
            }
        }
        Ok::<_, Box<dyn Error>>(answers)
    })?;
    platform.stop().await?;
    Ok(answers)
}

fn values(row: Value) -> Vec<Value> {
    match row {
        Value::Object(fields) => fields.into_iter().map(|(_, value)| value).collect(),
        Value::Array(values) => values,
        other => vec![other],
    }
}

fn theirs(engine: &str, format: &str, tables: &Path, queries: &Path, runs: usize) -> Outcome<Answers> {
    let duckdb = installed("RIVERMERE_DUCKDB")?;
    let mut command = match engine {
        "duckdb" => script(&duckdb, "tpch/peers.py"),
        _ => script(&installed("RIVERMERE_SPARK")?.join("python/bin/python"), "tpch/peers.py"),
    };
    command.args([engine, format]).arg(tables).arg(queries).arg(runs.to_string());
    if engine == "spark" {
        command.arg(installed("RIVERMERE_SPARK")?);
    }
    let mut answers = Answers::new();
    lines(command, |said| {
        let Some(number) = said["query"].as_u64() else { return };
        let answer = answers.entry(number).or_default();
        answer.wall.extend(said["wall"].as_f64());
        answer.cpu.extend(said["cpu"].as_f64());
        answer.rows = said["rows"].as_array().into_iter().flatten().cloned().map(values).collect();
    })?;
    Ok(answers)
}

fn print(format: &str, scale: f64, all: &[(&str, Answers)]) {
    println!("\n{format}, scale factor {scale}: seconds of wall clock (CPU), and how many times ours");
    print!("{:<6}", "query");
    all.iter().for_each(|(engine, _)| print!(" {engine:>18} {:>6}", ""));
    println!();
    let line = |name: &str, times: Vec<(f64, f64)>| {
        print!("{name:<6}");
        let own = times.first().map_or(f64::NAN, |(wall, _)| *wall);
        for (at, (wall, cpu)) in times.iter().enumerate() {
            let cell = format!("{wall:.3} ({cpu:.3})");
            let ratio = if at == 0 { String::new() } else { format!("{:.2}", wall / own) };
            print!(" {cell:>18} {ratio:>6}");
        }
        println!();
    };
    let Some((_, first)) = all.first() else { return };
    let of = |answers: &Answers, number: &u64| answers.get(number).map_or((f64::NAN, f64::NAN), Answer::median);
    for number in first.keys() {
        line(&format!("q{number}"), all.iter().map(|(_, answers)| of(answers, number)).collect());
    }
    let sum = |answers: &Answers| {
        let times = first.keys().map(|number| of(answers, number));
        times.fold((0.0, 0.0), |sum, (wall, cpu)| (sum.0 + wall, sum.1 + cpu))
    };
    line("total", all.iter().map(|(_, answers)| sum(answers)).collect());
}

/// Fails when an engine answers something else than the first.
fn same(all: &[(&str, Answers)]) -> Outcome<()> {
    let Some(((first, ours), others)) = all.split_first() else { return Ok(()) };
    let mut different = vec![];
    for (number, answer) in ours {
        let own = comparable(&answer.rows);
        for (engine, answers) in others {
            let rows = answers.get(number).map_or_else(Vec::new, |answer| comparable(&answer.rows));
            let differ = |(one, other): &(&Vec<Cell>, &Vec<Cell>)| {
                one.len() != other.len() || !one.iter().zip(*other).all(|(one, other)| one.is_close(other))
            };
            if own.len() != rows.len() {
                different.push(format!("q{number}: {first} {} rows, {engine} {}", own.len(), rows.len()));
            } else if let Some((one, other)) = own.iter().zip(&rows).find(differ) {
                different.push(format!("q{number}: {first} {one:?}, {engine} {other:?}"));
            }
        }
    }
    match different.is_empty() {
        true => Ok(println!("the same rows by all: {} queries", ours.len())),
        false => Err(different.join("\n").into()),
    }
}

/// A value as engines have it in common: a decimal may be a number or a text, an average a decimal or a float.
#[derive(Debug)]
enum Cell {
    Number(f64),
    Text(String),
}

impl Cell {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => match text.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => Self::Text(text.trim_end_matches("T00:00:00").trim_end_matches(" 00:00:00").to_owned()),
            },
            other => Self::Text(other.to_string()),
        }
    }

    /// To six digits, which is what the least exact of them keeps of an average.
    fn is_close(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => {
                (one - other).abs() <= 1e-6 * one.abs().max(other.abs()).max(1.0)
            }
            (Self::Text(one), Self::Text(other)) => one == other,
            _ => false,
        }
    }

    fn key(&self) -> String {
        match self {
            Self::Number(number) => format!("{number:.2}"),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Rows in one order: which of two with the same place in a query's own comes first is no engine's to say.
fn comparable(rows: &[Vec<Value>]) -> Vec<Vec<Cell>> {
    let mut rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().map(Cell::of).collect()).collect();
    rows.sort_by_cached_key(|row| row.iter().map(Cell::key).collect::<Vec<_>>());
    rows
}
