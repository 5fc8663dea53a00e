//! A project that runs, and every word that talks to it.

use crate::process::{Ended, Running, rivermere, run, run_with};
use std::path::Path;
use std::process::Stdio;

const ORDERS: &str = "\
CREATE TABLE orders (id BIGINT NOT NULL, country TEXT, amount DOUBLE);
CREATE MATERIALIZED VIEW turnover AS
SELECT country, COUNT(*) AS orders, SUM(amount) AS amount FROM orders GROUP BY country;
";

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    std::fs::write(folder.path().join("orders/sql/tables.sql"), ORDERS).unwrap();
    folder
}

fn produce(folder: &Path, words: &[&str], lines: &str) -> Ended {
    let words = ["topic", "--project", "orders", "produce"].iter().chain(words);
    run_with(rivermere(folder).args(words), lines.as_bytes())
}

fn sql(folder: &Path, words: &[&str]) -> Ended {
    run(folder, &[&["sql", "orders"], words].concat())
}

#[test]
fn a_new_project_runs_and_every_word_finds_it() {
    let folder = project();
    let at = folder.path();
    let running = Running::start(at, &["orders"]);

    let status = run(at, &["status", "orders", "--output", "json"]).good();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["name"], &status["state"]), (&"orders".into(), &"running".into()));
    assert_eq!(status["addresses"]["http"], running.address("page"));
    assert!(run(at, &["status", "orders"]).good().starts_with("orders: running for "));

    let lines = "{\"id\":1,\"country\":\"NZ\",\"amount\":12.5}\n\n{\"id\":2,\"country\":\"NZ\",\"amount\":2}\n";
    assert_eq!(produce(at, &["orders"], lines).err, "produced 2 records to orders\n");
    let row = "{\"country\":\"NZ\",\"orders\":2,\"amount\":14.5}";
    running.wait_for_change("turnover", row);
    let json = sql(at, &["-c", "SELECT * FROM turnover", "--output", "json"]).good();
    assert_eq!(json, format!("[{row}]\n"));
    let csv = sql(at, &["-c", "SELECT * FROM turnover;", "--output", "csv"]).good();
    assert_eq!(csv, "country,orders,amount\nNZ,2,14.5\n");
    let table = " country | orders | amount\n---------+--------+--------\n NZ      |      2 |   14.5\n(1 row)\n";
    assert_eq!(sql(at, &["-c", "SELECT * FROM turnover"]).good(), table);
    let piped = run_with(rivermere(at).args(["sql", "--url", running.address("page")]), b"SELECT * FROM turnover");
    assert_eq!(piped.good(), table);

    // The command of the last line works as it is, from anywhere.
    let command = running.introduction.lines().last().unwrap().strip_prefix("try: ").unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command]).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(run_with(&mut shell, b"").good(), table);

    let ended = running.end(libc::SIGINT);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.ends_with("stopped\n"), "{ended:?}");
    let told = run(at, &["status", "orders"]).bad(1);
    assert!(told.contains("nothing is running on orders/data"), "{told}");
}

#[test]
fn topics_are_made_written_and_read() {
    let folder = project();
    let at = folder.path();
    let running = Running::start(at, &["orders"]);
    let kafka = running.address("kafka").to_owned();
    let topic = |words: &[&str]| run(at, &[&["topic", "--kafka", kafka.as_str()], words].concat());

    assert_eq!(topic(&["create", "prices", "--partitions", "3"]).good(), "created prices\n");
    assert_eq!(topic(&["create", "prices", "--if-not-exists"]).good(), "prices is there already\n");
    let told = topic(&["create", "prices"]).bad(1);
    assert!(told.contains("the topic 'prices' is there already"), "{told}");
    let listed = topic(&["list", "--output", "json"]).good();
    assert_eq!(listed, "[{\"name\":\"orders\",\"partitions\":1},{\"name\":\"prices\",\"partitions\":3}]\n");

    let keyed = ["prices", "--key-separator", ":", "--tombstones"];
    assert_eq!(produce(at, &keyed, "NZ:1\nAU:2\nNZ:\n").err, "produced 3 records to prices\n");
    let described = topic(&["describe", "prices", "--output", "json"]).good();
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let records: u64 =
        described["partitions"].as_array().unwrap().iter().map(|row| row["records"].as_u64().unwrap()).sum();
    assert_eq!(records, 3);

    let read = topic(&["consume", "prices", "--until-end", "--format", "json"]).good();
    let mut rows: Vec<serde_json::Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by_key(|row| (row["key"].to_string(), row["offset"].as_i64()));
    let pairs: Vec<_> = rows.iter().map(|row| (row["key"].as_str().unwrap(), row["value"].to_string())).collect();
    assert_eq!(pairs, [("AU", "2".into()), ("NZ", "1".into()), ("NZ", "null".into())]);
    assert_eq!(rows[1]["partition"], rows[2]["partition"], "a key stays in its partition");

    assert_eq!(produce(at, &["orders"], "one\ntwo\nthree").err, "produced 3 records to orders\n");
    assert_eq!(topic(&["consume", "orders", "--max", "2"]).good(), "one\ntwo\n");
    assert_eq!(topic(&["consume", "orders", "--from", "2", "--until-end"]).good(), "three\n");
    assert_eq!(topic(&["consume", "orders", "--from", "end", "--until-end"]).good(), "");
    let told = topic(&["consume", "orders", "--from", "4"]).bad(1);
    assert!(told.contains("has offsets 0 to 3, and 4 is none of them"), "{told}");
    let told = topic(&["consume", "order"]).bad(1);
    assert!(told.contains("there is no topic 'order'") && told.contains("did you mean 'orders'?"), "{told}");
    let told = produce(at, &["prices", "--key-separator", ":"], "NZ:3\nAU\nNZ:4\n");
    assert_eq!(told.code, 1);
    assert!(told.err.contains("line 2 has no ':'") && told.err.contains("produced 1 record to prices"), "{told:?}");
    let told = produce(at, &["prices", "--partition", "3"], "x");
    assert!(told.err.contains("'prices' has no partition 3") && told.err.contains("are 0 to 2"), "{told:?}");
}

#[test]
fn a_wrong_statement_is_pointed_at_and_ends_a_script() {
    let folder = project();
    let _running = Running::start(folder.path(), &["orders"]);
    let told = sql(folder.path(), &["-c", "SELECT id,\n  amout FROM orders"]).bad(1);
    assert!(told.contains("2 |   amout FROM orders\n  |   ^"), "{told}");
    assert!(told.contains("did you mean 'amount'?"), "{told}");
    let script = sql(folder.path(), &["-c", "SELECT 1 AS a;\nSELECT x;\nSELECT 2 AS b", "--output", "csv"]);
    assert_eq!((script.code, script.out.as_str()), (1, "a\n1\n"), "{script:?}");
    assert!(script.err.contains("in command, statement at line 2"), "{script:?}");
    let told = sql(folder.path(), &["-c", " ; "]).bad(1);
    assert!(told.contains("there is no statement"), "{told}");
}

#[test]
fn the_folder_of_a_running_project_is_not_opened_twice() {
    let folder = project();
    let running = Running::start(folder.path(), &["orders"]);
    let told = run(folder.path(), &["run", "orders", "--http", "0", "--kafka", "0", "--pg", "0"]).bad(1);
    assert!(told.contains(&format!("is in use by process {}", running.id())), "{told}");
    assert_eq!(running.end(libc::SIGTERM).code, 0);
    Running::start(folder.path(), &["orders"]);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = project();
    let at = folder.path();
    let running = Running::start(at, &["orders"]);
    assert_eq!(produce(at, &["orders"], "{\"id\":1,\"country\":\"NZ\",\"amount\":1}").code, 0);
    running.end(libc::SIGKILL);
    // The file that it left behind names nobody.
    let told = run(at, &["status", "orders"]).bad(1);
    assert!(told.contains("nothing is running"), "{told}");
    let running = Running::start(at, &["orders"]);
    running.wait_for_change("turnover", "{\"country\":\"NZ\",\"orders\":1,\"amount\":1.0}");
}

#[test]
fn statements_start_a_project_that_does_not_run_and_stop_it() {
    let folder = project();
    let at = folder.path();
    let running = Running::start(at, &["orders"]);
    assert_eq!(produce(at, &["orders"], "{\"id\":1,\"country\":\"NZ\",\"amount\":1}").code, 0);
    running.end(libc::SIGKILL);
    let inserted = sql(at, &["-c", "INSERT INTO orders VALUES (2, 'AU', 2.0)", "--output", "json"]);
    assert!(inserted.err.contains("nothing runs on orders/data: started for this"), "{inserted:?}");
    inserted.good();
    let asked = sql(at, &["-c", "SELECT country, orders FROM turnover ORDER BY 1", "--output", "csv"]);
    assert_eq!(asked.good(), "country,orders\nAU,1\nNZ,1\n");
    let told = run(at, &["status", "orders"]).bad(1);
    assert!(told.contains("nothing is running on orders/data"), "{told}");
}

#[test]
fn a_reader_that_goes_away_ends_a_word_quietly() {
    let folder = project();
    let at = folder.path();
    let _running = Running::start(at, &["orders"]);
    let statement = "SELECT a.value, b.value FROM generate_series(1, 700) a, generate_series(1, 700) b";
    let mut shell = std::process::Command::new("bash");
    let line = "set -o pipefail; \"$1\" sql orders -c \"$2\" --output csv | head -n 1";
    shell.args(["-c", line, "bash", env!("CARGO_BIN_EXE_rivermere"), statement]);
    shell.current_dir(at).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RIVERMERE_URL");
    let ended = run_with(&mut shell, b"");
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
}

#[test]
fn a_single_file_is_a_project_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.sql"), ORDERS).unwrap();
    let running = Running::start(folder.path(), &["orders.sql", "--data", "kept"]);
    let status = run(folder.path(), &["status", "--data", "kept", "--output", "json"]).good();
    assert!(status.contains(running.address("page")), "{status}");
    assert_eq!(running.end(libc::SIGINT).code, 0);
    assert!(folder.path().join("kept/log").is_dir());
}
