//! Real clients: psql (from `RIVERMERE_PSQL` or the path) and psycopg (of the Python in `RIVERMERE_PYTHON`).

use crate::running::Running;
use std::process::{Command, Output};

/// psql without its user's settings, one statement after the other; `None` when there is no psql.
fn psql(running: &Running, statements: &[&str]) -> Option<String> {
    let program = std::env::var("RIVERMERE_PSQL").unwrap_or_else(|_| "psql".into());
    let url = format!("postgresql://rivermere@{}/rivermere", running.postgres);
    let mut command = Command::new(&program);
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=0", &url]).env("PGCONNECT_TIMEOUT", "30");
    for statement in statements {
        command.args(["-c", statement]);
    }
    match command.output() {
        Ok(output) => Some(both(&output)),
        Err(error) if std::env::var_os("RIVERMERE_PSQL").is_none() => {
            println!("skipped: there is no psql ({error}); RIVERMERE_PSQL names one");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn psql_reads_a_view_and_lists_what_there_is() {
    let running = Running::start();
    let Some(text) = psql(&running, &["select name, total, share, at from totals order by name"]) else { return };
    contains(&text, &[" name | total | share | ", " zero |     0 |       | 1970-01-01 00:00:00"]);
    let Some(text) = psql(&running, &["\\d"]) else { return };
    contains(&text, &["| departures | table ", "| many       | view  ", "| totals     | view  "]);
    let Some(text) = psql(&running, &["\\dt"]) else { return };
    contains(&text, &["| departures | table "]);
    assert!(!text.contains("totals"), "{text}");
    let Some(text) = psql(&running, &["\\dv"]) else { return };
    contains(&text, &["| totals | view "]);
    assert!(!text.contains("departures"), "{text}");
}

#[test]
fn psql_describes_a_view() {
    let running = Running::start();
    let Some(text) = psql(&running, &["\\d totals"]) else { return };
    contains(&text, &["View \"public.totals\"", " name   | text ", " total  | bigint ", " share  | double precision "]);
    contains(&text, &[" at     | timestamp without time zone"]);
    let Some(text) = psql(&running, &["\\d departures"]) else { return };
    contains(&text, &["Table \"public.departures\"", " value  | text "]);
}

#[test]
fn psql_sees_a_new_view_at_once_and_errors_with_their_hint() {
    let running = Running::start();
    let made = "create materialized view made stored as delta as select 1";
    let Some(text) = psql(&running, &[made, "select total from made", "\\d made", "selct 1"]) else { return };
    contains(&text, &["     7\n", "View \"public.made\"", "ERROR:  RM-3001: line 1", "HINT:  did you mean 'SELECT'?"]);
}

#[test]
fn what_psql_asks_for_its_own_commands_is_answered() {
    let running = Running::start();
    for statement in ["\\l", "\\dn", "\\df", "\\du", "\\dT", "\\di", "\\conninfo", "\\dm", "\\ds", "\\d+ totals"] {
        let Some(text) = psql(&running, &[statement]) else { return };
        assert!(!text.contains("ERROR"), "{statement}\n{text}");
    }
}

#[test]
fn psycopg_reads_a_view_with_parameters_and_cursors() {
    let Some(python) = std::env::var_os("RIVERMERE_PYTHON") else {
        println!("skipped: RIVERMERE_PYTHON names no Python with psycopg");
        return;
    };
    let running = Running::start();
    let script = r#"
import datetime, sys, psycopg
url = sys.argv[1]
with psycopg.connect(url) as connection:
    rows = connection.execute("select * from totals order by name").fetchall()
    assert rows[0] == ("a", 1, 0.25, datetime.datetime(1970, 1, 1, 1)), rows
    assert rows[2][2] is None, rows
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        cursor.execute("select name, share, at from totals where total >= %s and name <> %s", (2, "zero"))
        assert cursor.fetchall() == [("b", 0.5, datetime.datetime(1970, 1, 1, 2))]
        assert [column.name for column in cursor.description] == ["name", "share", "at"]
    for turn in range(10):
        got = connection.execute("select total from totals where name = %s", ("b",), prepare=True).fetchone()
        assert got == (2,), got
    with connection.cursor(name="large") as cursor:
        cursor.itersize = 700
        cursor.execute("select name from many order by name")
        assert sum(1 for row in cursor) == 3000
    connection.execute("insert into departures values (%s, %s)", (1, "it's"))
connection = psycopg.connect(url, autocommit=True)
try:
    connection.execute("selct 1")
    raise SystemExit("no error")
except psycopg.errors.SyntaxError as error:
    assert "RM-3001" in str(error) and error.diag.message_hint == "did you mean 'SELECT'?", error
with connection.pipeline():
    first, second = connection.execute("select 1"), connection.execute("select %s::int8", (2,))
    assert (first.fetchone(), second.fetchone()) == ((1,), (2,))
print("done")
"#;
    let url = format!("postgresql://rivermere@{}/rivermere?connect_timeout=30", running.postgres);
    let output = Command::new(python).args(["-c", script, &url]).output().unwrap();
    assert!(output.status.success() && both(&output).contains("done"), "{}", both(&output));
    assert_eq!(*running.memory.statements.lock(), ["insert into departures values (1, 'it''s')", "selct 1"]);
}
