//! `kill -9` of the demo, ten times: afterwards no record is lost or doubled, and views, batch answers and lake tables
//! agree.

use crate::harness::sorted;
use crate::lake::assert_tables_equal_views;
use crate::process::Process;
use rivermere_base::{Rng, SeededRng};
use serde_json::Value;
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
