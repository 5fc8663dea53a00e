//! Wrong command lines and wrong projects: what is wrong, where, what to do next; nothing on stdout.

use crate::process::{rivermere, run, run_with};
use crate::snapshot;
use std::net::TcpListener;
use std::path::Path;

/// The folder of the test's project, named as in the snapshots.
fn tidy(text: &str, folder: &Path) -> String {
    text.replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn wrong_command_lines_end_with_2_and_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("no_word", &[] as &[&str]),
        ("unknown_word", &["rnu"]),
        ("unknown_verb", &["topic", "lsit"]),
        ("unknown_option", &["run", "--htpp", "8080"]),
        ("bad_port", &["run", "--http", "80800"]),
        ("not_loopback", &["run", "--kafka", "0.0.0.0:9092"]),
        ("bad_output", &["status", "--output", "jsn"]),
        ("bad_topic_name", &["topic", "create", "a/b"]),
        ("bad_offset", &["topic", "consume", "t", "--from", "start"]),
        ("bad_speed", &["demo", "--speed", "fast"]),
        ("bad_url", &["status", "--url", "ftp://127.0.0.1"]),
        ("two_sources", &["sql", "-c", "SELECT 1", "-f", "x.sql"]),
        ("no_name", &["init", ".."]),
    ] {
        snapshot::check(&format!("usage_{name}"), &run(folder.path(), words).bad(2));
    }
}

#[test]
fn the_environment_is_checked_like_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let told = run_with(rivermere(folder.path()).arg("run").env("RIVERMERE_PG", "10.0.0.1:5433"), b"").bad(2);
    assert!(told.contains("10.0.0.1 can be reached from other machines"), "{told}");
    let told = run_with(rivermere(folder.path()).arg("check").env("RIVERMERE_CRASH_AT", "lunch"), b"").bad(2);
    assert!(told.contains("RIVERMERE_CRASH_AT='lunch' names no crash point"), "{told}");
}

#[test]
fn nothing_to_run_and_nothing_that_runs_are_told_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("no_project", &["run", "missing"] as &[&str]),
        ("no_project_to_check", &["check", "missing"]),
        ("nothing_runs_sql", &["sql", "-c", "SELECT 1"]),
        ("nothing_runs_status", &["status", "flights"]),
        ("nothing_runs_topic", &["topic", "list"]),
        ("no_file", &["sql", "-f", "missing.sql"]),
        ("no_broker", &["topic", "list", "--kafka", "127.0.0.1:1"]),
        ("no_process", &["status", "--url", "http://127.0.0.1:1"]),
    ] {
        snapshot::check(&format!("missing_{name}"), &run(folder.path(), words).bad(1));
    }
}

#[test]
fn a_folder_with_something_in_it_is_not_made_a_project() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    let told = run(folder.path(), &["init", "orders"]).bad(1);
    assert!(told.contains("orders is there already and not empty"), "{told}");
    assert!(told.contains("`rivermere run orders`"), "{told}");
}

/// A project with a mistake, and what `check` and `run` say about it.
fn check_project(name: &str, file: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    std::fs::write(folder.path().join("orders").join(file), text).unwrap();
    let told = run(folder.path(), &["check", "orders"]).bad(1);
    snapshot::check(&format!("project_{name}"), &tidy(&told, folder.path()));
    run(folder.path(), &["run", "orders", "--http", "0", "--kafka", "0", "--pg", "0"]).bad(1);
    assert!(!folder.path().join("orders/data/log").exists(), "nothing is started");
}

#[test]
fn mistakes_of_a_project_are_told_with_their_place() {
    check_project("unknown_key", "rivermere.toml", "name = 'orders'\nlisteners.htpt = '8080'\n");
    check_project("syntax", "sql/tables.sql", "CREATE TABLE a (\n  id BIGINT,,\n);\n");
    let unknown_column = "CREATE TABLE a (id BIGINT, amount DOUBLE);\n\
        CREATE MATERIALIZED VIEW b AS\nSELECT id, amout FROM a;\n\
        CREATE MATERIALIZED VIEW c AS SELECT id FROM b;\n\
        CREATE MATERIALIZED VIEW d AS SELECT di FROM a;\n";
    check_project("two_mistakes_and_a_consequence", "sql/tables.sql", unknown_column);
}

#[test]
fn a_table_of_the_lake_that_is_not_there_is_told_unless_its_columns_are_given() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    let write = |columns: &str| {
        let text = format!(
            "CREATE EXTERNAL TABLE stock {columns} STORED AS DELTA LOCATION 'lake/stcok';\n\
             CREATE MATERIALIZED VIEW pieces AS SELECT SUM(n) AS n FROM stock;\n"
        );
        std::fs::write(folder.path().join("orders/sql/lake.sql"), text).unwrap();
    };
    write("");
    let told = run(folder.path(), &["check", "orders"]).bad(1);
    for part in ["RM-5014", "lake/stcok", "CREATE EXTERNAL TABLE stock", "give its columns", "1 problem"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    write("(n BIGINT)");
    let told = run(folder.path(), &["check", "orders"]).good();
    assert!(told.contains("table stock (delta table at lake/stcok)") && told.contains("changing"), "{told}");
    assert!(!folder.path().join("orders/data").exists(), "nothing is made");
}

#[test]
fn an_address_in_the_project_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    let file = folder.path().join("orders/rivermere.toml");
    std::fs::write(file, "name = 'orders'\nlisteners.http = '0.0.0.0:80'\n").unwrap();
    let told = run(folder.path(), &["run", "orders"]).bad(1);
    assert!(told.contains("orders/rivermere.toml: listeners.http: 0.0.0.0 can be reached"), "{told}");
}

#[test]
fn a_taken_port_is_told_with_its_holder_and_flag() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["init", "orders"]).good();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    // Whoever asks what it is gets no answer, at once.
    std::thread::spawn(move || {
        for connection in held.incoming() {
            drop(connection);
        }
    });
    for (flag, what) in [("http", "HTTP"), ("kafka", "Kafka"), ("pg", "Postgres")] {
        let ports = ["http", "kafka", "pg"].map(|other| {
            let port = if other == flag { address.port() } else { 0 };
            format!("--{other}={port}")
        });
        let words: Vec<&str> = ["run", "orders"].into_iter().chain(ports.iter().map(String::as_str)).collect();
        let told = run(folder.path(), &words).bad(1);
        assert!(told.contains(&format!("{address} for {what} is taken by ")), "{told}");
        if cfg!(target_os = "linux") {
            assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        }
        assert!(told.contains(&format!("--{flag} 0 takes a free port")), "{told}");
    }
}
