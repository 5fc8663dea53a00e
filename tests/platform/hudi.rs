//! Hudi tables in the platform: views stored in them, made and changed by statements, followed by views, read by Python.

use crate::harness::{
    PATIENCE, assert_views_equal_batch, eventually, ok, produce, refused, sorted, sql, start, stop, write_project,
};
use crate::process::{succeed, tool};
use rivermere::Assembly;
use serde_json::{Value, json};
use std::process::Command;

const PROJECT: &str = "
CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT, at TIMESTAMP);

CREATE MATERIALIZED VIEW spent STORED AS HUDI AS
SELECT customer, SUM(amount) AS amount, MAX(CAST(at AS DATE)) AS last FROM orders GROUP BY customer;

CREATE MATERIALIZED VIEW large STORED AS HUDI LOCATION 'lake/large' AS
SELECT customer, amount FROM orders WHERE amount > 10;
";

/// Prints the rows of Hudi tables as JSON, one line each: the newest, and at an instant where one is named behind the folder.
const READ: &str = r#"
import json, os, sys
from hudi import HudiReadOptions, HudiTableBuilder
import pyarrow

for place in sys.argv[1:]:
    folder, _, instant = place.partition("@")
    table = HudiTableBuilder.from_base_uri(folder).build()
    options = HudiReadOptions()
    batches = table.read(options.with_as_of_timestamp(instant) if instant else options)
    rows = pyarrow.Table.from_batches(batches).to_pylist() if batches else []
    rows = [{k: v for k, v in row.items() if not k.startswith("_hoodie")} for row in rows]
    print("ROWS " + json.dumps(rows, default=lambda value: value.isoformat()))
sys.stdout.flush()
os._exit(0)
"#;

/// What Python's `hudi` reads, table by table.
fn read_by_python(places: &[String]) -> Option<Vec<Value>> {
    let mut command = Command::new(tool("RIVERMERE_PYTHON")?);
    command.args(["-c", READ]).args(places);
    let said = succeed(&mut command, PATIENCE);
    Some(said.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("ROWS ")?).ok()).collect())
}

fn cells(rows: &Value, columns: &[&str]) -> Vec<String> {
    let line = |row: &Value| columns.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = rows.as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_stored_in_hudi_tables_and_read_back_by_us_and_by_python() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), PROJECT);
    let settings = "name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\n";
    std::fs::write(folder.path().join("rivermere.toml"), settings).unwrap();
    let data = folder.path().join("data");
    let order = |n: i64| {
        let time = format!("2026-01-01T00:00:{:02}", n % 60);
        json!({ "customer": format!("c{}", n % 7), "amount": n % 50, "at": time }).to_string()
    };
    let tables = [("spent", "lake/spent"), ("large", "lake/large")];
    let mut sent = 0;
    // Three runs, so that a start finds its marker; the small files of many commits are put together meanwhile.
    for _ in 0..3 {
        let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
        for _ in 0..10 {
            let orders: Vec<String> = (sent..sent + 20).map(order).collect();
            sent += 20;
            produce(&assembly, "orders", &orders).await;
            for (view, place) in tables {
                // Commit by commit, and not by a flush, which puts off the upkeep.
                eventually("the table to hold the view", || {
                    let served = ok(&assembly, &format!("SELECT * FROM {view}"));
                    let stored = sql(&assembly, &format!("SELECT * FROM hudi('{place}')")).ok()?;
                    let rows = (0..sent).filter(|n| n % 50 > 10).count();
                    (view != "large" || served.as_array()?.len() == rows).then_some(())?;
                    (!served.as_array()?.is_empty() && sorted(&served) == sorted(&stored)).then_some(())
                })
                .await;
            }
        }
        assert_views_equal_batch(&assembly);
        stop(assembly).await;
    }
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let history = ok(&assembly, "DESCRIBE HISTORY large");
    let operations: Vec<&str> =
        history.as_array().unwrap().iter().map(|version| version["operation"].as_str().unwrap()).collect();
    assert!(operations.contains(&"INSERT") && operations.contains(&"CLUSTER"), "{operations:?}");
    let error = refused(&assembly, "DELETE FROM large");
    assert!(error.contains("RM-7026"), "{error}");
    let served = tables.map(|(view, _)| ok(&assembly, &format!("SELECT * FROM {view}")));
    stop(assembly).await;
    let places = tables.map(|(_, place)| data.join(place).display().to_string());
    let Some(read) = read_by_python(&places) else { return };
    assert_eq!(read.len(), 2);
    for (read, served) in read.iter().zip(&served) {
        assert_eq!(cells(read, &["customer", "amount"]), cells(served, &["customer", "amount"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hudi_table_is_made_changed_followed_and_read_at_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE prices (item TEXT NOT NULL, price DOUBLE);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    for statement in [
        "CREATE EXTERNAL TABLE stock (item TEXT NOT NULL, n INT, place TEXT) STORED AS HUDI \
         PARTITIONED BY (place) LOCATION 'lake/stock' TBLPROPERTIES ('primaryKey' = 'item')",
        "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A'), ('oil', 7, 'B')",
        "CREATE MATERIALIZED VIEW totals AS SELECT place, COUNT(*) AS rows, SUM(n) AS n FROM stock GROUP BY place",
        "INSERT INTO stock (n, item) SELECT 2, 'rice'",
        "UPDATE stock SET n = n + 10 WHERE place = 'A'",
        "DELETE FROM stock WHERE item = 'oil'",
        "OPTIMIZE stock",
    ] {
        ok(&assembly, statement);
    }
    let follows = async |assembly: &Assembly| {
        eventually("the view", || {
            let (live, batch) = (ok(assembly, "SELECT * FROM totals"), ok(assembly, "SELECT * FROM batch('totals')"));
            (sorted(&live) == sorted(&batch)).then_some(live)
        })
        .await
    };
    let now = json!([{"place": "A", "rows": 2, "n": 28}, {"place": null, "rows": 1, "n": 2}]);
    assert_eq!(sorted(&follows(&assembly).await), sorted(&now));
    let holds = |query: &str, rows: Value| assert_eq!(sorted(&ok(&assembly, query)), sorted(&rows), "{query}");
    holds("SELECT item FROM stock WHERE n > 13", json!([{"item": "salt"}]));
    let history = ok(&assembly, "DESCRIBE HISTORY stock");
    let versions: Vec<i64> =
        history.as_array().unwrap().iter().rev().map(|version| version["version"].as_i64().unwrap()).collect();
    holds(&format!("SELECT COUNT(*) AS n FROM stock VERSION AS OF {}", versions[0]), json!([{"n": 3}]));
    holds(&format!("SELECT COUNT(*) AS n FROM hudi('lake/stock', {})", versions[1]), json!([{"n": 4}]));
    holds("SELECT COUNT(*) AS n FROM hudi('lake/stock', timestamp => '2200-01-01 00:00:00')", json!([{"n": 3}]));
    // An instant by the time that engines of Hudi call it by.
    let parameters: Value = serde_json::from_str(history[4]["parameters"].as_str().unwrap()).unwrap();
    let instant = parameters["instant"].as_str().unwrap().to_owned();
    holds(&format!("SELECT COUNT(*) AS n FROM stock VERSION AS OF {instant}"), json!([{"n": 3}]));
    let changes =
        format!("SELECT item, _change_type AS kind FROM table_changes('stock', {}, {})", versions[2], versions[3]);
    let expected = json!([
        {"item": "tea", "kind": "delete"}, {"item": "salt", "kind": "delete"}, {"item": "tea", "kind": "insert"},
        {"item": "salt", "kind": "insert"}, {"item": "oil", "kind": "delete"}
    ]);
    holds(&changes, expected);
    for statement in [
        "ALTER TABLE stock ALTER COLUMN n TYPE BIGINT",
        "ALTER TABLE stock ADD COLUMN note TEXT",
        "INSERT INTO stock VALUES ('pepper', 5000000000, 'B', 'hot')",
    ] {
        ok(&assembly, statement);
    }
    holds(
        "SELECT item, n, note FROM stock WHERE n > 13",
        json!([{"item": "salt", "n": 15, "note": null}, {"item": "pepper", "n": 5_000_000_000_i64, "note": "hot"}]),
    );
    let merged = ok(
        &assembly,
        "MERGE INTO stock AS s USING (VALUES ('pepper', 7), ('cloves', 2)) AS d (item, n) ON s.item = d.item
         WHEN MATCHED THEN UPDATE SET n = d.n WHEN NOT MATCHED THEN INSERT (item, n) VALUES (d.item, d.n)",
    );
    assert_eq!((&merged[0]["rows_updated"], &merged[0]["rows_inserted"]), (&json!(1), &json!(1)), "{merged}");
    holds("SELECT SUM(n) AS n FROM stock WHERE item IN ('pepper', 'cloves')", json!([{"n": 9}]));
    let served = ok(&assembly, "SELECT item, n FROM stock");
    let place = data.join("lake/stock").display().to_string();
    if let Some(read) = read_by_python(&[place.clone(), format!("{place}@{instant}")]) {
        assert_eq!(cells(&read[0], &["item", "n"]), cells(&served, &["item", "n"]));
        assert_eq!(read[1].as_array().unwrap().len(), 3, "{}", read[1]);
    }
    ok(&assembly, &format!("RESTORE TABLE stock TO VERSION AS OF {}", versions[3]));
    holds("SELECT COUNT(*) AS n FROM stock", json!([{"n": 3}]));
    for (statement, said) in [
        (
            "MERGE INTO stock USING (VALUES ('tea'), ('tea')) AS s (item) ON stock.item = s.item \
             WHEN MATCHED THEN UPDATE SET place = 'B'",
            "RM-5017",
        ),
        ("ALTER TABLE stock RENAME COLUMN n TO pieces", "by their names"),
        ("VACUUM stock RETAIN 1 HOURS", "hoodie.clean.hours.retained"),
        ("CREATE EXTERNAL TABLE other STORED AS HUDI LOCATION 'lake/nothing'", "RM-5014"),
        ("CREATE EXTERNAL TABLE other STORED AS DELTA LOCATION 'lake/stock'", "RM-5020"),
        ("SELECT * FROM iceberg('lake/stock')", "one of hudi"),
        ("DELETE FROM stock WHERE nothing = 1", "nothing"),
        ("SELECT * FROM hudi('lake/stock', 99)", "RM-5015"),
        (
            "CREATE EXTERNAL TABLE o (a TIMESTAMP) STORED AS HUDI PARTITIONED BY (days(a)) LOCATION 'x'",
            "partitioned by columns",
        ),
    ] {
        let error = refused(&assembly, statement);
        assert!(error.contains(said), "{statement}: {error}");
    }
    stop(assembly).await;
}
