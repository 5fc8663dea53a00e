//! Clients that others wrote, against the real binary: four Kafka clients, psql, psycopg, SQLAlchemy and JDBC.

use crate::process::{Process, checkout, run, succeed, tool};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Longest run of one client's script; each of its checks gives up earlier.
const LIMIT: Duration = Duration::from_secs(240);

/// `rivermere run` of a project without statements.
fn empty_project() -> (TempDir, Process) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rivermere.toml"), "name = \"empty\"\n").unwrap();
    let process = Process::start(folder.path(), &folder.path().join("data"), &["run", "."]);
    (folder, process)
}

fn script(program: &Path, words: &[&str], broker: &str) {
    let mut command = Command::new(program);
    command.args(words).arg(broker).current_dir(checkout().join("tests/clients"));
    let (status, text) = run(&mut command, LIMIT);
    assert!(
        status.success() && text.contains(" ok, 0 failed") && !text.contains("\nFAIL "),
        "{command:?}: {status}\n{text}"
    );
}

#[test]
fn kcat() {
    let Some(_) = tool("RIVERMERE_KCAT") else { return };
    let (_folder, process) = empty_project();
    script(Path::new("bash"), &["kcat.sh"], &process.kafka);
}

#[test]
fn confluent_kafka() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let (_folder, process) = empty_project();
    script(&python, &["confluent.py"], &process.kafka);
}

#[test]
fn kafka_python() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let (_folder, process) = empty_project();
    script(&python, &["kafka_python.py"], &process.kafka);
}

#[test]
fn the_java_client_in_each_version() {
    let Some((java, jars)) = tool("RIVERMERE_JAVA").zip(tool("RIVERMERE_KAFKA_JARS")) else { return };
    let mut versions: Vec<_> =
        std::fs::read_dir(&jars).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    versions.sort();
    assert!(versions.len() >= 2, "{versions:?}");
    let (_folder, process) = empty_project();
    for version in versions {
        println!("kafka-clients {}", version.file_name().unwrap().display());
        let jars = format!("{}/*", version.display());
        script(&java, &["-cp", &jars, "JavaClients.java"], &process.kafka);
    }
}

/// A view over a few flights, made by statements.
fn with_a_view() -> (TempDir, Process) {
    let (folder, mut process) = empty_project();
    process.sql(
        "CREATE TABLE departures (flight_id BIGINT NOT NULL, origin TEXT NOT NULL, dep_delay DOUBLE, departed_at TIMESTAMP(3), \
         WATERMARK FOR departed_at AS departed_at - INTERVAL '2' HOUR) \
         WITH ('connector' = 'kafka', 'topic' = 'departures', 'format' = 'json')",
    );
    process.sql(
        "CREATE MATERIALIZED VIEW delays_by_airport AS \
         SELECT origin, window_start, COUNT(*) AS departures, AVG(dep_delay) AS avg_delay \
         FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(departed_at), INTERVAL '1' HOUR)) GROUP BY origin, window_start",
    );
    process.sql(
        "INSERT INTO departures VALUES (1, 'EWR', 2.0, TIMESTAMP '2013-01-01 05:17:00'), \
         (2, 'EWR', 3.0, TIMESTAMP '2013-01-01 05:40:00'), (3, 'JFK', NULL, TIMESTAMP '2013-01-01 05:44:00')",
    );
    process.wait_for("the view", |process| {
        let rows = process.sql("SELECT SUM(departures) AS n FROM delays_by_airport");
        (rows[0]["n"] == Value::from(3)).then_some(())
    });
    (folder, process)
}

/// What psql prints for statements and commands of its own; none may fail.
fn ask(psql: &Path, process: &Process, statements: &[&str]) -> String {
    let mut command = Command::new(psql);
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", &process.pg]).env("PGCONNECT_TIMEOUT", "30");
    statements.iter().for_each(|statement| _ = command.args(["-c", statement]));
    succeed(&mut command, LIMIT)
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in\n{text}"));
}

#[test]
fn psql_lists_whatever_it_can_list() {
    let Some(psql) = tool("RIVERMERE_PSQL") else { return };
    let (_folder, process) = with_a_view();
    for (command, parts) in [
        ("\\d", &["| delays_by_airport | view", "| departures        | table"][..]),
        ("\\d+", &["| delays_by_airport | view", "| departures        | table"]),
        ("\\dt", &["| departures | table"]),
        ("\\dt+", &["| departures | table"]),
        ("\\dv", &["| delays_by_airport | view"]),
        ("\\dv+", &["| delays_by_airport | view"]),
        ("\\dm", &["(0 rows)"]),
        ("\\dtv", &["delays_by_airport", "departures"]),
        ("\\d+ departures", &["Table \"public.departures\"", " dep_delay "]),
        (
            "\\d+ delays_by_airport",
            &["View \"public.delays_by_airport\"", "View definition:", "TUMBLE(TABLE departures"],
        ),
        ("\\sv delays_by_airport", &["TUMBLE(TABLE departures"]),
        ("\\du", &["List of roles", " postgres "]),
        ("\\du+", &["List of roles"]),
        ("\\df", &["List of functions"]),
        ("\\df+", &["List of functions"]),
        ("\\l", &["rivermere"]),
        ("\\l+", &["rivermere"]),
        ("\\dn", &["public"]),
        ("\\dn+", &["public"]),
        ("\\di", &["(0 rows)"]),
        ("\\ds", &["(0 rows)"]),
        ("\\dT", &["List of data types"]),
        ("\\do", &["List of operators"]),
        ("\\db", &["List of tablespaces"]),
        ("\\dp", &["Access privileges"]),
        ("\\dx", &["List of installed extensions"]),
        ("\\dd", &["Object descriptions"]),
        ("\\dL", &["List of languages"]),
        ("\\dL+", &["List of languages"]),
        ("\\dX", &["(0 rows)"]),
        ("\\dO", &["List of collations"]),
        ("\\dconfig", &["List of non-default configuration parameters"]),
        ("\\deu", &["(0 rows)"]),
        ("\\dAc", &["List of operator classes"]),
        ("\\conninfo", &["rivermere"]),
    ] {
        contains(&ask(&psql, &process, &[command]), parts);
    }
}

#[test]
fn psql_shows_values_as_postgres_does_and_prepares() {
    let Some(psql) = tool("RIVERMERE_PSQL") else { return };
    let (_folder, process) = with_a_view();
    let numbers = "SELECT v FROM (VALUES (3.0::float8), ('NaN'), ('-Infinity'), (1e20), (0.00001), (2.5)) AS n(v)";
    contains(
        &ask(&psql, &process, &["\\pset format unaligned", "\\pset tuples_only on", numbers]),
        &["3\nNaN\n-Infinity\n1e+20\n1e-05\n2.5\n"],
    );
    contains(
        &ask(&psql, &process, &["SELECT origin, window_start FROM delays_by_airport ORDER BY origin LIMIT 1"]),
        &[" EWR    | 2013-01-01 05:00:00\n"],
    );
    let prepared = ask(
        &psql,
        &process,
        &["PREPARE busy (bigint) AS SELECT origin FROM delays_by_airport WHERE departures >= $1 AND origin <> $2; \
             EXECUTE busy(2, 'JFK'); EXECUTE busy(1, 'EWR'); DEALLOCATE busy"],
    );
    contains(&prepared, &[" EWR\n(1 row)", " JFK\n(1 row)"]);
    contains(
        &ask(&psql, &process, &["SHOW TABLES", "SHOW TOPICS"]),
        &[" delays_by_airport | view", " departures        | table", "(2 rows)", " departures\n(1 row)"],
    );
}

#[test]
fn jdbc_sees_tables_columns_and_rows() {
    let Some((java, jars)) = tool("RIVERMERE_JAVA").zip(tool("RIVERMERE_JDBC_JARS")) else { return };
    let (_folder, process) = with_a_view();
    let jars = format!("{}/*", jars.display());
    script(&java, &["-cp", &jars, "jdbc/Jdbc.java"], &host_and_port(&process));
}

#[test]
fn sqlalchemy_reflects_and_reads() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let (_folder, process) = with_a_view();
    script(&python, &["reflection.py"], &host_and_port(&process));
}

/// Where Postgres clients connect to.
fn host_and_port(process: &Process) -> String {
    let rest = process.pg.split('@').next_back().unwrap();
    rest.split('/').next().unwrap().to_string()
}

#[test]
fn psql_describes_lists_and_reads() {
    let Some(psql) = tool("RIVERMERE_PSQL") else { return };
    let (_folder, process) = with_a_view();
    let ask = |statements: &[&str]| ask(&psql, &process, statements);
    contains(
        &ask(&["\\d delays_by_airport"]),
        &[
            "View \"public.delays_by_airport\"",
            " origin ",
            " window_start | timestamp without time zone",
            " departures   | bigint",
            " avg_delay    | double precision",
        ],
    );
    contains(&ask(&["\\d"]), &["| delays_by_airport | ", "| departures        | table "]);
    contains(&ask(&["\\dt"]), &["| departures | table "]);
    contains(
        &ask(&["SELECT origin, departures, avg_delay FROM delays_by_airport ORDER BY origin"]),
        &[" EWR    |          2 |       2.5", " JFK    |          1 |          \n", "(2 rows)"],
    );
}

#[test]
fn psycopg_reads_a_view_by_a_prepared_statement() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let (_folder, process) = with_a_view();
    let script = "
import datetime, sys, psycopg
with psycopg.connect(sys.argv[1], connect_timeout=30) as connection:
    query = 'SELECT window_start, departures, avg_delay FROM delays_by_airport WHERE origin = %s AND departures >= %s'
    for binary in (False, True):
        for origin, expected in (('EWR', (2, 2.5)), ('JFK', (1, None)), ('LGA', None)) * 3:
            cursor = connection.cursor(binary=binary)
            row = cursor.execute(query, (origin, 1), prepare=True).fetchone()
            assert row == (expected and (datetime.datetime(2013, 1, 1, 5), *expected)), (origin, row)
    connection.execute('INSERT INTO departures VALUES (%s, %s, %s, %s)', (4, 'LGA', 1.5, datetime.datetime(2013, 1, 1, 5, 50)))
print('done')
";
    let mut command = Command::new(python);
    command.args(["-c", script, &process.pg]);
    assert!(succeed(&mut command, LIMIT).contains("done"));
}
