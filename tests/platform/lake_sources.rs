//! Views over tables of the lake: they follow whatever writes the table, and are the batch answer over its newest version.

use crate::harness::{PATIENCE, eventually, flush, ok, produce, refused, sorted, start, stop, write_project};
use crate::process::{Process, succeed, tool};
use rivermere::Assembly;
use rivermere_base::{Rng, SeededRng};
use serde_json::{Value, json};
use std::process::Command;

/// Waits until the view has the rows that its query has in batch.
#[track_caller]
fn follows(assembly: &Assembly, view: &str) -> impl Future<Output = Value> {
    let read = move || {
        let (live, batch) = (ok(assembly, &format!("SELECT * FROM {view}")), format!("SELECT * FROM batch('{view}')"));
        (sorted(&live) == sorted(&ok(assembly, &batch))).then_some(live)
    };
    eventually("the view", read)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_the_batch_answer_whatever_is_done_to_the_table() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE prices (item TEXT NOT NULL, price DOUBLE);
         CREATE EXTERNAL TABLE stock (id BIGINT, item TEXT, n BIGINT, note TEXT) STORED AS DELTA
             PARTITIONED BY (item) LOCATION 'lake/stock';
         CREATE MATERIALIZED VIEW totals STORED AS DELTA AS
             SELECT item, COUNT(*) AS rows, SUM(n) AS n, MAX(note) AS newest FROM stock GROUP BY item;
         CREATE MATERIALIZED VIEW everything AS SELECT COUNT(*) AS rows FROM stock;
         CREATE MATERIALIZED VIEW valued AS
             SELECT s.id, s.n * p.price AS value FROM stock s LEFT JOIN prices p ON s.item = p.item;
         CREATE MATERIALIZED VIEW largest AS
             SELECT * FROM (SELECT id, n, ROW_NUMBER() OVER (PARTITION BY item ORDER BY n DESC, id) AS place FROM stock)
             WHERE place <= 2;",
    );
    let data = folder.path().join("data");
    let mut assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&assembly, "prices", &[r#"{"item":"tea","price":2.5}"#.into(), r#"{"item":"oil","price":9}"#.into()]).await;
    let rng = SeededRng::new(7);
    let below = |limit: u64| rng.next_u64() % limit;
    let item = || ["tea", "oil", "salt"][below(3) as usize];
    for round in 0..24 {
        let statement = match below(9) {
            0..=2 => format!("INSERT INTO stock VALUES ({}, '{}', {}, 'r{round}')", below(20), item(), below(9)),
            3 => format!("INSERT INTO stock SELECT id + 20, item, n, note FROM stock WHERE item = '{}'", item()),
            4 => format!("UPDATE stock SET n = n + {}, item = '{}' WHERE id % 3 = {}", below(5), item(), below(3)),
            5 => format!("DELETE FROM stock WHERE id % 5 = {}", below(5)),
            6 => "OPTIMIZE stock".to_string(),
            7 => {
                let newest = ok(&assembly, "DESCRIBE HISTORY stock LIMIT 1")[0]["version"].as_u64().unwrap();
                format!("RESTORE TABLE stock TO VERSION AS OF {}", below(newest.max(1)).min(newest.saturating_sub(1)))
            }
            _ => format!(
                "MERGE INTO stock AS s USING (SELECT {} AS id, '{}' AS item) AS o ON s.id = o.id
                 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, item, n) VALUES (o.id, o.item, 1)",
                below(20),
                item()
            ),
        };
        ok(&assembly, &statement);
        for view in ["totals", "everything", "valued", "largest"] {
            follows(&assembly, view).await;
        }
        if round % 8 == 7 {
            // What is done while nobody looks is found at the next start.
            stop(assembly).await;
            assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
        }
    }
    flush(&assembly).await;
    let stored = eventually("the stored view", || {
        let (stored, live) =
            (ok(&assembly, "SELECT * FROM delta('lake/totals')"), ok(&assembly, "SELECT * FROM totals"));
        (sorted(&stored) == sorted(&live)).then_some(stored)
    });
    assert!(!stored.await.as_array().unwrap().is_empty(), "the last rounds left nothing to compare");
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_made_over_a_table_that_has_rows_and_other_views_already() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE unused (id BIGINT);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "CREATE EXTERNAL TABLE t (a BIGINT, b TEXT, c DOUBLE) STORED AS DELTA LOCATION 'lake/t'");
    ok(
        &assembly,
        "INSERT INTO t SELECT value, CASE WHEN value % 2 = 0 THEN 'even' END, 1.5 FROM generate_series(1, 50000)",
    );
    // The answer of the statement comes when the rows are there.
    ok(&assembly, "CREATE MATERIALIZED VIEW sums AS SELECT b, SUM(a) AS a FROM t GROUP BY b");
    assert_eq!(ok(&assembly, "SELECT SUM(a) AS a FROM sums"), json!([{"a": 1_250_025_000_i64}]));
    // Another column than the first view needed.
    ok(&assembly, "CREATE MATERIALIZED VIEW more AS SELECT b, SUM(c) AS c FROM t GROUP BY b");
    assert_eq!(ok(&assembly, "SELECT SUM(c) AS c FROM more"), json!([{"c": 75000.0}]));
    ok(&assembly, "CREATE MATERIALIZED VIEW over AS SELECT COUNT(*) AS n FROM sums");
    ok(&assembly, "INSERT INTO t VALUES (1, 'third', 2.0)");
    for view in ["sums", "more", "over"] {
        follows(&assembly, view).await;
    }
    assert_eq!(ok(&assembly, "SELECT n FROM over"), json!([{"n": 3}]));
    let plan = ok(&assembly, "EXPLAIN STREAMING SELECT b, SUM(a) FROM t GROUP BY b").to_string();
    assert!(plan.contains("changing"), "{plan}");

    let error = refused(&assembly, "DROP TABLE t");
    assert!(error.contains("RM-7024") && error.contains("more"), "{error}");
    for view in ["over", "sums", "more"] {
        ok(&assembly, &format!("DROP MATERIALIZED VIEW {view}"));
    }
    ok(&assembly, "INSERT INTO t VALUES (2, 'fourth', 2.0)");
    ok(&assembly, "CREATE MATERIALIZED VIEW sums AS SELECT b, COUNT(*) AS n FROM t GROUP BY b");
    assert_eq!(ok(&assembly, "SELECT COUNT(*) AS n FROM sums"), json!([{"n": 4}]));
    ok(&assembly, "DROP MATERIALIZED VIEW sums");
    ok(&assembly, "DROP TABLE t");
    let error = refused(&assembly, "CREATE MATERIALIZED VIEW v AS SELECT * FROM t");
    assert!(error.contains("RM-3002"), "{error}");
    let error = refused(&assembly, "CREATE MATERIALIZED VIEW v AS SELECT * FROM delta('lake/t')");
    assert!(error.contains("RM-3005") && error.contains("CREATE EXTERNAL TABLE"), "{error}");
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_not_stored_in_the_table_that_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE EXTERNAL TABLE t (a BIGINT) STORED AS DELTA LOCATION 'lake/t/';
         CREATE MATERIALIZED VIEW between AS SELECT a, COUNT(*) AS n FROM t GROUP BY a;",
    );
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let whole = format!("file://{}", data.join("lake/t").display());
    for (text, table) in [
        ("CREATE MATERIALIZED VIEW v STORED AS DELTA LOCATION 'lake/t' AS SELECT a, n FROM between".to_string(), "'t'"),
        (format!("CREATE MATERIALIZED VIEW v STORED AS DELTA LOCATION '{whole}' AS SELECT DISTINCT a FROM t"), "'t'"),
    ] {
        let error = refused(&assembly, &text);
        assert!(error.contains("RM-7032") && error.contains(table), "{text}: {error}");
    }
    ok(&assembly, "CREATE MATERIALIZED VIEW v STORED AS DELTA AS SELECT a, n FROM between");
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_cleaned_up_or_made_anew_is_told_of_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT);
         CREATE EXTERNAL TABLE t (a BIGINT) STORED AS DELTA LOCATION 'lake/t';
         CREATE MATERIALIZED VIEW v AS SELECT SUM(a) AS a FROM t;
         CREATE MATERIALIZED VIEW w AS SELECT COUNT(*) AS n FROM orders;",
    );
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO t VALUES (1), (2)");
    follows(&assembly, "v").await;
    flush(&assembly).await;
    stop(assembly).await;
    std::fs::remove_dir_all(data.join("lake/t")).unwrap();

    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO t VALUES (5)");
    ok(&assembly, "INSERT INTO t VALUES (6)");
    let told = eventually("the message", || {
        let status = assembly.status();
        // Before the second statement the new table has no such version, and that is what is told.
        status.message.filter(|message| message.contains("another table is at its place now"))
    });
    let told = told.await;
    assert!(told.contains("RM-4012") && told.contains("lake/t"), "{told}");
    // The view stays at what it had, and is not settled; the others go on.
    assert_eq!(ok(&assembly, "SELECT a FROM v"), json!([{"a": 3}]));
    assert!(!assembly.is_settled());
    produce(&assembly, "orders", &[r#"{"id":1}"#.into()]).await;
    eventually("the other view", || (ok(&assembly, "SELECT n FROM w") == json!([{"n": 1}])).then_some(())).await;
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_reached_holds_up_no_start_and_is_followed_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT);
         CREATE EXTERNAL TABLE t STORED AS DELTA LOCATION 'lake/t';
         CREATE MATERIALIZED VIEW v AS SELECT b, SUM(a) AS a FROM t GROUP BY b;",
    );
    let data = folder.path().join("data");
    // Without columns, a view needs the table once.
    let problem = start(folder.path(), &data).await.err().unwrap().to_string();
    assert!(problem.contains("RM-3005") && problem.contains("give its columns"), "{problem}");
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT);");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "CREATE EXTERNAL TABLE t (a BIGINT, b TEXT) STORED AS DELTA LOCATION 'lake/t'");
    ok(&assembly, "CREATE MATERIALIZED VIEW v AS SELECT b, SUM(a) AS a FROM t GROUP BY b");
    ok(&assembly, "INSERT INTO t VALUES (1, 'x'), (2, 'x')");
    follows(&assembly, "v").await;
    stop(assembly).await;
    let away = folder.path().join("away");
    std::fs::rename(data.join("lake/t"), &away).unwrap();

    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(ok(&assembly, "SELECT a FROM v"), json!([{"a": 3}]));
    let told = || assembly.status().message.filter(|message| message.contains("RM-4012"));
    eventually("the message", told).await;
    std::fs::rename(&away, data.join("lake/t")).unwrap();
    ok(&assembly, "INSERT INTO t VALUES (4, 'x')");
    eventually("the row", || (ok(&assembly, "SELECT a FROM v") == json!([{"a": 7}])).then_some(())).await;
    eventually("the message to go", || told().is_none().then_some(())).await;
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_added_hold_up_no_start_and_a_table_made_anew_meanwhile_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT);
         CREATE EXTERNAL TABLE t (a BIGINT) STORED AS DELTA LOCATION 'lake/t';
         CREATE MATERIALIZED VIEW v AS SELECT * FROM t;",
    );
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO t VALUES (1)");
    follows(&assembly, "v").await;
    ok(&assembly, "ALTER TABLE t ADD COLUMN b TEXT");
    ok(&assembly, "INSERT INTO t VALUES (2, 'x')");
    eventually("the row", || (ok(&assembly, "SELECT SUM(a) AS a FROM v") == json!([{"a": 3}])).then_some(())).await;
    stop(assembly).await;

    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO t VALUES (3, 'y')");
    eventually("the row", || (ok(&assembly, "SELECT SUM(a) AS a FROM v") == json!([{"a": 6}])).then_some(())).await;
    std::fs::remove_dir_all(data.join("lake/t")).unwrap();
    ok(&assembly, "CREATE EXTERNAL TABLE anew (a BIGINT) STORED AS DELTA LOCATION 'lake/t'");
    for _ in 0..6 {
        ok(&assembly, "INSERT INTO anew VALUES (100)");
    }
    let told = || assembly.status().message.filter(|message| message.contains("another table is at its place"));
    eventually("the message", told).await;
    assert_eq!(ok(&assembly, "SELECT SUM(a) AS a FROM v"), json!([{"a": 6}]));
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_python_commits_is_followed_with_its_types() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("theirs");
    let write = |mode: &str, rows: &str| {
        let code = "
import sys, os, datetime, deltalake, pyarrow as pa
schema = pa.schema([('id', pa.int32()), ('at', pa.timestamp('us', 'UTC')), ('price', pa.decimal128(10, 2)), ('tags', pa.list_(pa.string()))])
rows = [dict(id=i, at=datetime.datetime(2026, 1, 1, i, tzinfo=datetime.timezone.utc), price=i, tags=['t%d' % i, None]) for i in eval(sys.argv[3])]
deltalake.write_deltalake(sys.argv[1], pa.Table.from_pylist(rows, schema), mode=sys.argv[2])
sys.stdout.flush(); os._exit(0)";
        succeed(Command::new(&python).args(["-c", code]).arg(&table).args([mode, rows]), PATIENCE);
    };
    write("append", "[1, 2, 3]");
    write_project(
        folder.path(),
        &format!(
            "CREATE EXTERNAL TABLE theirs STORED AS DELTA LOCATION '{}';
             CREATE MATERIALIZED VIEW v AS SELECT date_trunc('day', at) AS day, SUM(price) AS price, COUNT(*) AS n FROM theirs GROUP BY 1;
             CREATE MATERIALIZED VIEW tags AS SELECT id, tags FROM theirs;",
            table.display()
        ),
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(follows(&assembly, "v").await[0]["n"], 3);
    write("append", "[3, 4]");
    eventually("the append", || (ok(&assembly, "SELECT n FROM v") == json!([{"n": 5}])).then_some(())).await;
    write("overwrite", "[7]");
    eventually("the overwrite", || (ok(&assembly, "SELECT n FROM v") == json!([{"n": 1}])).then_some(())).await;
    follows(&assembly, "v").await;
    assert_eq!(follows(&assembly, "tags").await, json!([{"id": 7, "tags": ["t7", null]}]));
    stop(assembly).await;
}

#[test]
fn a_clean_up_spares_what_a_view_reads_on_from_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    write_project(
        &project,
        "CREATE EXTERNAL TABLE stock (id BIGINT, n BIGINT) STORED AS DELTA LOCATION 'lake/stock'
             TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours');",
    );
    // What a view has read is in no manifest for an hour, but for the moment at which it is made.
    std::fs::write(project.join("rivermere.toml"), "name = 'test'\nepoch_interval_ms = 3600000\n").unwrap();
    let data = folder.path().join("data");
    let words = ["run", project.to_str().unwrap()];
    let mut process = Process::start(folder.path(), &data, &words);
    process.sql("INSERT INTO stock VALUES (1, 1), (2, 2), (3, 3)");
    process.sql("CREATE MATERIALIZED VIEW total AS SELECT COUNT(*) AS rows, SUM(n) AS n FROM stock");
    for statement in ["UPDATE stock SET n = n + 10 WHERE id = 1", "DELETE FROM stock WHERE id = 2", "OPTIMIZE stock"] {
        process.sql(statement);
    }
    let total = json!([{ "rows": 2, "n": 14 }]);
    let read = |process: &Process| (process.sql("SELECT rows, n FROM total") == total).then_some(());
    process.wait_for("the view", read);
    process.sql("VACUUM stock FULL RETAIN 0 HOURS");
    process.kill();
    let mut process = Process::start(folder.path(), &data, &words);
    process.wait_for("the view after the crash", read);
    assert_eq!(process.status()["warnings"], Value::Null);
    process.sql("INSERT INTO stock VALUES (4, 100)");
    process.wait_for("what came after", |process| {
        (process.sql("SELECT rows, n FROM total") == json!([{ "rows": 3, "n": 114 }])).then_some(())
    });
}
