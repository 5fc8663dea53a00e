//! `rivermere test` on real projects: one that passes, one that fails with a difference, crashes, and what is wrong.

use crate::process::{Ended, run};
use crate::snapshot;
use std::path::{Path, PathBuf};

const SQL: &str = "\
CREATE TABLE orders (id BIGINT NOT NULL, country TEXT, amount DOUBLE);
CREATE MATERIALIZED VIEW turnover STORED AS DELTA AS
SELECT country, COUNT(*) AS orders, SUM(amount) AS amount FROM orders GROUP BY country;
";

/// A project with one file of tests.
fn project(tests: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    std::fs::write(folder.path().join("orders/sql/tables.sql"), SQL).unwrap();
    std::fs::create_dir(folder.path().join("orders/tests")).unwrap();
    std::fs::write(folder.path().join("orders/tests/turnover.yaml"), tests).unwrap();
    folder
}

fn test(folder: &Path, words: &[&str]) -> Ended {
    run(folder, &[&["test"], words].concat())
}

/// Times of this machine are in no snapshot.
fn timeless(text: &str) -> String {
    let mut shown = String::new();
    for (index, part) in text.split(" s").enumerate() {
        if index > 0 {
            shown.push_str(" s");
        }
        let digits = part.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.');
        shown.push_str(digits);
        if digits.len() < part.len() {
            shown.push('N');
        }
    }
    shown
}

fn flights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projects/flights")
}

#[test]
fn the_tests_of_the_flights_pass() {
    let flights = flights();
    let out = test(&flights, &[]).good();
    print!("{out}");
    assert!(out.contains(" passed, 0 failed in "), "{out}");
    assert!(!flights.join("data/log").exists() && !flights.join("data/lake").exists(), "nothing is written");
}

#[test]
fn a_difference_is_a_table_and_the_exit_code_is_1() {
    let folder = project(
        "tests:\n\
         - name: good, with a crash\n\
         \x20 given:\n\
         \x20   - {into: orders, rows: [{id: 1, country: NZ, amount: 12.5}]}\n\
         \x20   - crash: after_manifest_put\n\
         \x20 expect: {turnover: [{country: NZ, orders: 1}]}\n\
         - name: bad\n\
         \x20 given:\n\
         \x20   - into: orders\n\
         \x20     rows:\n\
         \x20       - {id: 1, country: NZ, amount: 12.5}\n\
         \x20       - {id: 2, country: AU, amount: 1}\n\
         \x20       - {id: many, country: AU, amount: 2}\n\
         \x20 expect:\n\
         \x20   turnover:\n\
         \x20     - {country: NZ, orders: 2, amount: 12.5}\n\
         \x20     - {country: FR, orders: 1, amount: 1}\n",
    );
    let ended = test(folder.path(), &["orders"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    snapshot::check("test_difference", &timeless(&ended.out));
    assert_eq!(ended.err, "error: RM-7160: 1 test failed\n");
    assert!(!folder.path().join("orders/data").exists(), "nothing is written");

    let ended = test(folder.path(), &["orders", "--output", "json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let verdicts: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&verdicts[0]["passed"], &verdicts[0]["crashes"]), (&true.into(), &1.into()));
    let finding = &verdicts[1]["findings"][0];
    assert_eq!(finding["place"], "tests/turnover.yaml:15");
    assert_eq!(finding["difference"]["changed"][0]["found"]["orders"], 1);
    assert_eq!(finding["difference"]["missing"][0]["country"], "FR");

    let out = test(folder.path(), &["orders/tests/turnover.yaml", "--filter", "good"]).good();
    assert!(out.starts_with("ok      good, with a crash (") && out.contains("1 passed, 0 failed"), "{out}");
}

#[test]
fn a_crash_that_nothing_passes_tests_nothing() {
    let folder = project(
        "given:\n- {into: orders, rows: [{id: 1, country: NZ}]}\n- crash: after_dead_letter_append\n\
         expect: {turnover: [{country: NZ, orders: 1}]}\n",
    );
    let ended = test(folder.path(), &["orders"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let message = "tests/turnover.yaml:3: nothing passed the crash point after_dead_letter_append after this";
    assert!(ended.out.contains(message), "{}", ended.out);
}

#[test]
fn tables_of_a_storage_stay_on_the_simulated_disk() {
    let folder = project("given:\n- {into: orders, rows: [{id: 1}]}\nexpect: {turnover: [{orders: 1}]}\n");
    let sql = SQL.replace("STORED AS DELTA", "STORED AS DELTA LOCATION 's3://nobody/turnover'");
    std::fs::write(folder.path().join("orders/sql/tables.sql"), sql).unwrap();
    std::fs::write(folder.path().join("orders/rivermere.toml"), "name = 'orders'\nstorage = '/nowhere'\n").unwrap();
    let out = test(folder.path(), &["orders"]).good();
    assert!(out.contains("1 passed, 0 failed"), "{out}");
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place() {
    let folder = project("given:\n- {into: ordres, rows: [{id: 1}]}\nexpect: {turnover: []}\n");
    std::fs::write(folder.path().join("orders/tests/view.yaml"), "expect:\n  turnovr: []\n").unwrap();
    let told = test(folder.path(), &["orders"]).bad(1);
    snapshot::check("test_mistakes", &told);
}

#[test]
fn no_tests_are_told_with_the_next_step() {
    let folder = project("expect: {turnover: []}\n");
    let told = test(folder.path(), &["orders", "--filter", "nothing"]).bad(1);
    assert!(
        told.contains("no test of orders has 'nothing' in its name") && told.contains("they are: turnover"),
        "{told}"
    );
    std::fs::remove_dir_all(folder.path().join("orders/tests")).unwrap();
    let told = test(folder.path(), &["orders"]).bad(1);
    snapshot::check("test_none", &told);
    let told = test(folder.path(), &["elsewhere"]).bad(1);
    assert!(told.contains("elsewhere is no project"), "{told}");
    let told = test(folder.path(), &["elsewhere.yaml"]).bad(1);
    assert!(told.contains("there is no file elsewhere.yaml"), "{told}");
    test(folder.path(), &["orders", "--fliter", "x"]).bad(2);
}

#[test]
#[ignore = "part of the full run"]
fn a_crash_everywhere_changes_nothing() {
    let folder = project(
        "given:\n- into: orders\n  rows: [{id: 1, country: NZ, amount: 12.5}, {id: 2, country: AU}]\n  raw: broken\n\
         - {into: orders, rows: [{id: 3, country: NZ, amount: 2}]}\n\
         expect:\n  turnover: [{country: NZ, orders: 2, amount: 14.5}, {country: AU, orders: 1, amount: null}]\n\
         \x20 dead_letters: {orders: 1}\n",
    );
    let out = test(folder.path(), &["orders", "--crash-everywhere"]).good();
    print!("{out}");
    let runs = out.split(" runs)").next().and_then(|text| text.rsplit(' ').next()).and_then(|runs| runs.parse().ok());
    assert!(runs.is_some_and(|runs: u32| runs > 30), "{out}");
}
