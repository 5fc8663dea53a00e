//! `kill -9`, again and again: of the demo, and of a pipeline that upserts into tables without an end. Afterwards no record
//! is lost or doubled, and views, batch answers and lake tables agree.

use crate::harness::{agent, sorted, write_project};
use crate::lake::assert_tables_equal_views;
use crate::process::Process;
use rivermere_base::{Rng, SeededRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Records of the year.
const TOPICS: [(&str, u64); 3] = [("departures", 336_776), ("arrivals", 328_063), ("weather", 26_115)];
const KILLS: usize = 10;
const SEED: u64 = 0x5eed_f11e;
/// Views with so many rows are compared by the platform itself, not over HTTP.
const LARGE: u64 = 100_000;

/// Records in each of the year's topics.
fn records(status: &Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().unwrap();
    let rows = |topic: &str| {
        nodes
            .iter()
            .find(|node| node["kind"] == "topic" && node["label"] == topic)
            .map_or(0, |node| node["rows"].as_u64().unwrap())
    };
    TOPICS.iter().map(|(topic, _)| rows(topic)).collect()
}

fn is_settled(status: &Value) -> bool {
    let sinks = status["sinks"].as_array().unwrap();
    status["lag"] == 0 && !sinks.is_empty() && sinks.iter().all(|sink| sink["staged_epoch"] == sink["confirmed_epoch"])
}

#[test]
fn killed_ten_times_the_demo_ends_where_it_would_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || Process::start(folder.path(), &data, &["demo", "flights", "--speed", "max"]);
    let rng = SeededRng::new(SEED);
    let begin = Instant::now();
    println!("seed {SEED:#x}");
    let mut before = 0;
    for number in 1..=KILLS {
        let demo = start();
        let ready = begin.elapsed();
        let moment = Duration::from_millis(500 + rng.next_u64() % 2_000);
        std::thread::sleep(moment);
        let status = demo.status();
        let told: u64 = records(&status).iter().sum();
        demo.kill();
        println!(
            "kill {number} {moment:?} after the start (ready at {ready:.2?}): {told} records, generation {}, epoch {}, lag {}",
            status["generation"], status["epoch"], status["lag"]
        );
        assert!(told >= before, "{before} records were there before");
        before = told;
    }

    let mut demo = start();
    let whole: Vec<u64> = TOPICS.iter().map(|(_, records)| *records).collect();
    let status = demo.wait_for("the end of the year", |demo| {
        let status = demo.status();
        (records(&status) == whole && is_settled(&status)).then_some(status)
    });
    println!("settled after {:.1?}: epoch {}, sinks {}", begin.elapsed(), status["epoch"], status["sinks"]);

    tables_equal_views(&demo, &status);
    no_record_is_lost_or_doubled(&demo);
    views_equal_batch(&demo);
    assert_eq!(records(&demo.status()), whole);
    println!("all compared after {:.1?}", begin.elapsed());
}

fn no_record_is_lost_or_doubled(demo: &Process) {
    // Each airport has the hour in which summer time ended twice.
    let identities =
        [("flight_id", 336_776), ("flight_id", 328_063), ("origin || CAST(time_hour AS VARCHAR)", 26_115 - 3)];
    for ((topic, records), (identity, different)) in TOPICS.iter().zip(identities) {
        let rows =
            demo.sql(&format!("SELECT COUNT(*) AS records, COUNT(DISTINCT {identity}) AS different FROM {topic}"));
        println!("{topic}: {rows}");
        assert_eq!((&rows[0]["records"], &rows[0]["different"]), (&(*records).into(), &different.into()), "{topic}");
    }
}

fn views_equal_batch(demo: &Process) {
    for view in demo.get("/v1/views").as_array().unwrap() {
        let (name, rows) = (view["name"].as_str().unwrap(), view["rows"].as_u64().unwrap());
        assert!(rows > 0, "{name} is empty");
        let start = Instant::now();
        if rows < LARGE {
            let stream = demo.sql(&format!("SELECT * FROM {name}"));
            let batch = demo.sql(&format!("SELECT * FROM batch('{name}')"));
            assert_eq!(stream.as_array().unwrap().len() as u64, rows, "{name}");
            assert_equal(&sorted(&stream), &sorted(&batch), name);
        } else {
            large_view_equals_batch(demo, name, rows);
        }
        println!("{name}: {rows} rows, as in the batch answer ({:.1?})", start.elapsed());
    }
}

/// Both sides have as many rows, no row twice, and no row that the other has not.
fn large_view_equals_batch(demo: &Process, name: &str, rows: u64) {
    let sums = |from: &str| {
        demo.sql(&format!(
            "SELECT COUNT(*) AS n, COUNT(DISTINCT flight_id) AS flights, SUM(flight_id) AS ids, SUM(dep_delay) AS delay, \
             SUM(distance) AS distance, SUM(plane_year) AS years, SUM(plane_seats) AS seats FROM {from}"
        ))
    };
    let stream = sums(name);
    assert_eq!((stream[0]["n"].as_u64(), stream[0]["flights"].as_u64()), (Some(rows), Some(rows)), "{name}: {stream}");
    assert_eq!(stream, sums(&format!("batch('{name}')")), "{name}");
    for (one, other) in [(name.to_string(), format!("batch('{name}')")), (format!("batch('{name}')"), name.to_string())]
    {
        let more =
            demo.number(&format!("SELECT COUNT(*) AS n FROM (SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other})"));
        assert_eq!(more, 0, "rows of {one} that are not in {other}");
    }
}

/// Shows the first difference only.
fn assert_equal(stream: &[String], batch: &[String], name: &str) {
    let different = stream.iter().zip(batch).find(|(stream, batch)| stream != batch);
    assert_eq!(different, None, "{name}");
    assert_eq!(stream.len(), batch.len(), "{name}");
}

fn tables_equal_views(demo: &Process, status: &Value) {
    let sinks = status["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), 2, "{status}");
    for sink in sinks {
        let view = sink["view"].as_str().unwrap();
        let (served, stored) =
            (format!("SELECT COUNT(*) AS n FROM {view}"), format!("SELECT COUNT(*) AS n FROM delta('lake/{view}')"));
        assert_eq!(demo.number(&stored), demo.number(&served), "{view} and its table");
    }
    assert_tables_equal_views(demo, status);
}

const UPSERTS: &str = "
CREATE TABLE payments (id BIGINT NOT NULL, account BIGINT, amount BIGINT);

CREATE MATERIALIZED VIEW anew STORED AS DELTA AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW marked STORED AS DELTA TBLPROPERTIES ('delta.enableDeletionVectors' = 'true') AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW added STORED AS DELTA AS SELECT id, amount FROM payments WHERE amount > 900;

CREATE MATERIALIZED VIEW iceberg_totals STORED AS ICEBERG AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW iceberg_marked STORED AS ICEBERG
TBLPROPERTIES ('format-version' = '3', 'write.merge.mode' = 'merge-on-read') AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW hudi_totals STORED AS HUDI AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW hudi_merged STORED AS HUDI TBLPROPERTIES ('type' = 'mor') AS
SELECT account, COUNT(*) AS payments, SUM(amount) AS amount FROM payments GROUP BY account;

CREATE MATERIALIZED VIEW iceberg_added STORED AS ICEBERG AS SELECT id, amount FROM payments WHERE amount > 900;
";

/// Sends payments until it is told to end, each one with an id of its own, again where no answer came.
struct Customers {
    http: Arc<Mutex<String>>,
    end: Arc<AtomicBool>,
    /// Payments that were acknowledged.
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Customers {
    const AT_ONCE: u64 = 200;

    fn start() -> Self {
        let (http, end, sent) = (Arc::new(Mutex::new(String::new())), Arc::default(), Arc::<AtomicU64>::default());
        let customers = (http.clone(), Arc::<AtomicBool>::clone(&end), sent.clone());
        let thread = std::thread::spawn(move || {
            let (http, end, sent) = customers;
            let rng = SeededRng::new(SEED);
            while !end.load(Ordering::SeqCst) {
                let first = sent.load(Ordering::SeqCst);
                let payment = |id| {
                    let (account, amount) = (rng.next_u64() % 500, rng.next_u64() % 1_000);
                    json!({ "id": id, "account": account, "amount": amount }).to_string()
                };
                let body: String = (first..first + Self::AT_ONCE).map(|id| payment(id) + "\n").collect();
                let url = format!("{}/v1/topics/payments/records", http.lock().unwrap());
                let sending = agent().post(&url).content_type("application/x-ndjson").send(body);
                if sending.is_ok_and(|response| response.status().is_success()) {
                    sent.store(first + Self::AT_ONCE, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { http, end, sent, thread }
    }

    fn go_to(&self, process: &Process) {
        self.http.lock().unwrap().clone_from(&process.http);
    }

    /// Every payment whose id is below was acknowledged; some may have arrived more than once.
    fn stop(self) -> u64 {
        self.end.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

fn upserts_survive(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    write_project(&project, UPSERTS);
    let settings = "name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\n";
    std::fs::write(project.join("rivermere.toml"), settings).unwrap();
    let data = folder.path().join("data");
    let start = || Process::start(folder.path(), &data, &["run", project.to_str().unwrap()]);
    let rng = SeededRng::new(SEED);
    let customers = Customers::start();
    for number in 1..=kills {
        let process = start();
        customers.go_to(&process);
        std::thread::sleep(Duration::from_millis(100 + rng.next_u64() % 1_500));
        let sent = customers.sent.load(Ordering::SeqCst);
        process.kill();
        println!("kill {number} of {kills}: {sent} payments");
    }
    let mut process = start();
    customers.go_to(&process);
    let before = customers.sent.load(Ordering::SeqCst);
    process
        .wait_for("payments after the last kill", |_| (customers.sent.load(Ordering::SeqCst) > before).then_some(()));
    let sent = customers.stop();
    process.wait_for("all that was sent in the tables", |process| {
        let status = process.status();
        (process.number("SELECT COUNT(DISTINCT id) AS n FROM payments") == sent && is_settled(&status)).then_some(())
    });
    let records = process.number("SELECT COUNT(*) AS n FROM payments");
    println!("{sent} payments in {records} records");
    for (view, format) in [
        ("anew", "delta"),
        ("marked", "delta"),
        ("added", "delta"),
        ("iceberg_totals", "iceberg"),
        ("iceberg_marked", "iceberg"),
        ("hudi_totals", "hudi"),
        ("hudi_merged", "hudi"),
        ("iceberg_added", "iceberg"),
    ] {
        let read = |from: String| sorted(&process.sql(&format!("SELECT * FROM {from}")));
        let live = read(view.into());
        assert_equal(&live, &read(format!("batch('{view}')")), view);
        assert_equal(&live, &read(format!("{format}('lake/{view}')")), view);
        let history = process.sql(&format!("DESCRIBE HISTORY {view}"));
        println!("{view}: {} rows, {} versions", live.len(), history.as_array().unwrap().len());
    }
    assert_eq!(process.number("SELECT SUM(payments) AS n FROM anew"), records);
}

#[test]
fn killed_five_times_upserted_tables_are_the_views() {
    upserts_survive(5);
}

#[test]
#[ignore = "part of the full run"]
fn killed_a_hundred_times_upserted_tables_are_the_views() {
    upserts_survive(100);
}
