//! Tables of the lake by statements: made, changed, looked after, and kept over a restart.

use crate::harness::{PATIENCE, eventually, flush, ok, produce, refused, sorted, start, stop, write_project};
use crate::process::{succeed, tool};
use rivermere::Assembly;
use serde_json::{Value, json};
use std::process::Command;

#[track_caller]
fn holds(assembly: &Assembly, query: &str, rows: Value) {
    assert_eq!(sorted(&ok(assembly, query)), sorted(&rows), "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_changed_and_read_at_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT, amount DOUBLE);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(
        &assembly,
        "CREATE EXTERNAL TABLE stock (item TEXT NOT NULL, n BIGINT, place TEXT) STORED AS DELTA \
         PARTITIONED BY (place) LOCATION 'lake/stock'",
    );
    let inserted = ok(&assembly, "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A'), ('oil', 7, 'B')");
    assert_eq!(inserted[0]["rows"], 3, "{inserted}");
    // Columns in another order, one left out, and a value that is cast.
    ok(&assembly, "INSERT INTO stock (n, item) SELECT CAST(2 AS INT), 'rice'");
    holds(
        &assembly,
        "SELECT item, n, place FROM stock WHERE n < 6",
        json!([
            {"item": "tea", "n": 3, "place": "A"}, {"item": "salt", "n": 5, "place": "A"},
            {"item": "rice", "n": 2, "place": null}
        ]),
    );
    assert_eq!(ok(&assembly, "UPDATE stock SET n = stock.n + 10, place = 'C' WHERE stock.place = 'A'")[0]["rows"], 2);
    assert_eq!(ok(&assembly, "DELETE FROM stock AS s WHERE s.N > 14")[0]["rows"], 1);
    // A join with what lives in a topic, in one statement.
    ok(&assembly, "INSERT INTO orders VALUES (1, 'tea', 4.0), (2, 'bread', 1.0), (3, 'oil', 100.0)");
    let merged = ok(
        &assembly,
        "MERGE INTO stock AS s USING (SELECT item, CAST(amount AS BIGINT) AS sold FROM orders) AS o ON s.item = o.item
         WHEN MATCHED AND s.n - o.sold <= 0 THEN DELETE
         WHEN MATCHED THEN UPDATE SET n = s.n - o.sold
         WHEN NOT MATCHED THEN INSERT (item, n) VALUES (o.item, 0 - o.sold)",
    );
    assert_eq!(
        (&merged[0]["rows_deleted"], &merged[0]["rows_updated"], &merged[0]["rows_inserted"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let now = json!([
        {"item": "tea", "n": 9, "place": "C"}, {"item": "rice", "n": 2, "place": null},
        {"item": "bread", "n": -1, "place": null}
    ]);
    holds(&assembly, "SELECT * FROM stock", now.clone());
    holds(&assembly, "SELECT * FROM delta('lake/stock')", now.clone());

    // Every version can be read, by name, by place, by number and by time.
    holds(&assembly, "SELECT COUNT(*) AS n FROM stock VERSION AS OF 1", json!([{"n": 3}]));
    holds(&assembly, "SELECT COUNT(*) AS n FROM delta('lake/stock', 2)", json!([{"n": 4}]));
    holds(&assembly, "SELECT COUNT(*) AS n FROM delta('lake/stock', '2200-01-01 00:00:00')", json!([{"n": 3}]));
    holds(&assembly, "SELECT COUNT(*) AS n FROM stock TIMESTAMP AS OF '2200-01-01 00:00:00'", json!([{"n": 3}]));
    holds(
        &assembly,
        "SELECT a.item FROM stock a JOIN stock VERSION AS OF 1 b ON a.item = b.item WHERE b.n = 3",
        json!([{"item": "tea"}]),
    );
    let error = refused(&assembly, "SELECT * FROM stock TIMESTAMP AS OF '2001-01-01'");
    assert!(error.contains("RM-5018"), "{error}");
    let error = refused(&assembly, "SELECT * FROM stock VERSION AS OF 99");
    assert!(error.contains("RM-5015"), "{error}");
    let history = ok(&assembly, "DESCRIBE HISTORY stock");
    let operations: Vec<&str> =
        history.as_array().unwrap().iter().map(|row| row["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["MERGE", "DELETE", "UPDATE", "WRITE", "WRITE", "CREATE TABLE"]);
    assert_eq!(ok(&assembly, "DESCRIBE HISTORY delta('lake/stock') LIMIT 1")[0]["version"], 5);

    // What each of them changed; an update is a row less and a row more.
    let changed = "SELECT item, n, _change_type AS what, _commit_version AS v FROM table_changes('stock', 3, 4)";
    holds(
        &assembly,
        changed,
        json!([
            {"item": "tea", "n": 3, "what": "delete", "v": 3}, {"item": "tea", "n": 13, "what": "insert", "v": 3},
            {"item": "salt", "n": 5, "what": "delete", "v": 3}, {"item": "salt", "n": 15, "what": "insert", "v": 3},
            {"item": "salt", "n": 15, "what": "delete", "v": 4}
        ]),
    );
    holds(
        &assembly,
        "SELECT SUM(CASE _change_type WHEN 'insert' THEN n ELSE -n END) AS n, COUNT(_commit_timestamp) = COUNT(*) AS timed
         FROM table_changes('lake/stock', 0)",
        json!([{"n": 10, "timed": true}]),
    );
    holds(
        &assembly,
        "SELECT COUNT(*) AS n FROM table_changes('stock', '2001-01-01', '2200-01-01') WHERE _commit_version = 1",
        json!([{"n": 3}]),
    );
    let error = refused(&assembly, "SELECT * FROM table_changes('stock', 4, 3)");
    assert!(error.contains("RM-3107"), "{error}");
    let error = refused(&assembly, "SELECT * FROM table_changes('stock')");
    assert!(error.contains("RM-3102"), "{error}");
    let error = refused(&assembly, "SELECT * FROM table_changes('nothing', 1)");
    assert!(error.contains("RM-5014"), "{error}");
    ok(&assembly, "OPTIMIZE stock");
    ok(&assembly, "ALTER TABLE stock ADD COLUMN seen TIMESTAMP");
    // A column that came later is null before.
    holds(
        &assembly,
        "SELECT item, seen FROM table_changes('stock', 4) WHERE _change_type = 'insert'",
        json!([{"item": "tea", "seen": null}, {"item": "bread", "seen": null}]),
    );
    ok(&assembly, "ALTER TABLE stock ADD CONSTRAINT named CHECK (item <> '')");
    let error = refused(&assembly, "INSERT INTO stock (item) VALUES ('')");
    assert!(error.contains("RM-5017") && error.contains("named"), "{error}");
    ok(&assembly, "ALTER TABLE stock DROP CONSTRAINT named");
    ok(&assembly, "UPDATE stock SET seen = TIMESTAMP '2026-01-01 10:00:00' WHERE item = 'tea'");
    let before = |time: &str| ok(&assembly, &format!("UPDATE stock SET n = n WHERE seen < {time}"))[0]["rows"].clone();
    assert_eq!(before("TIMESTAMP '2026-01-01 10:00:00'"), 0);
    assert_eq!(before("TIMESTAMP '2026-01-01 10:00:00.000001'"), 1);
    assert_eq!(before("'2026-01-01 11:00:00'"), 1);
    assert_eq!(before("now() + INTERVAL '1' DAY"), 1);
    // It reads what it replaces.
    ok(&assembly, "INSERT OVERWRITE stock SELECT item, n + 1, place, seen FROM stock");
    holds(&assembly, "SELECT SUM(n) AS n FROM stock", json!([{"n": 13}]));
    ok(&assembly, "VACUUM stock DRY RUN");
    ok(&assembly, "RESTORE TABLE stock TO VERSION AS OF 1");
    holds(&assembly, "SELECT COUNT(*) AS n, SUM(n) AS total FROM stock", json!([{"n": 3, "total": 15}]));
    ok(&assembly, "INSERT OVERWRITE stock SELECT 'only', 1, 'Z'");
    stop(assembly).await;

    // A name made by a statement is there again.
    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    holds(&again, "SELECT item FROM stock", json!([{"item": "only"}]));
    assert!(ok(&again, "SHOW TABLES").as_array().unwrap().contains(&json!({"name": "stock", "kind": "lake table"})));
    assert_eq!(ok(&again, "DESCRIBE stock")[0]["column_name"], "item");
    ok(&again, "DROP TABLE stock");
    let error = refused(&again, "SELECT * FROM stock");
    assert!(error.contains("RM-3002"), "{error}");
    // The table itself stays, and can be named again.
    ok(&again, "CREATE EXTERNAL TABLE goods STORED AS DELTA LOCATION 'lake/stock'");
    holds(&again, "SELECT item FROM goods", json!([{"item": "only"}]));
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_before_anything_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT);
         CREATE EXTERNAL TABLE stock (item TEXT NOT NULL, n BIGINT) STORED AS DELTA LOCATION 'lake/stock';
         CREATE MATERIALIZED VIEW items STORED AS DELTA AS SELECT item, COUNT(*) AS n FROM orders GROUP BY item;",
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&assembly, "orders", &[r#"{"id":1,"item":"a"}"#.into()]).await;
    eventually("the view", || assembly.is_settled().then_some(())).await;
    flush(&assembly).await;
    ok(&assembly, "INSERT INTO stock VALUES ('a', 1)");
    for (text, parts) in [
        ("DELETE FROM items WHERE n = 1", &["RM-7026", "its rows come from its query"][..]),
        ("DELETE FROM delta('lake/items')", &["RM-7026", "'items' is a view"]),
        ("RESTORE items TO VERSION AS OF 0", &["RM-7026"]),
        ("DELETE FROM orders", &["RM-7029", "CREATE EXTERNAL TABLE"]),
        ("DELETE FROM stok", &["RM-3002", "did you mean 'stock'?"]),
        ("UPDATE stock SET n = 1, n = 2", &["RM-3006", "'n' is named twice"]),
        ("INSERT INTO stock (item, item) VALUES ('a', 'b')", &["RM-3006"]),
        ("DELETE FROM stock VERSION AS OF 0 WHERE n = 1", &["RM-3001", "the newest version"]),
        ("UPDATE stock SET m = 1", &["RM-3002", "did you mean 'n'?"]),
        ("DELETE FROM stock WHERE m = 1", &["m"]),
        ("DELETE FROM stock WHERE item IN (SELECT item FROM orders)", &["RM-3001", "MERGE INTO"]),
        ("INSERT INTO stock (n) VALUES (1)", &["RM-7027", "'item' may not be null"]),
        ("INSERT INTO stock VALUES ('a')", &["RM-7027", "1 values for the 2 columns"]),
        ("INSERT INTO stock VALUES ('a', 'b')", &["b"]),
        ("INSERT OVERWRITE orders VALUES (1, 'a')", &["RM-7026"]),
        (
            "MERGE INTO stock USING (SELECT 1 AS x) AS s ON stock.n = s.x WHEN MATCHED THEN UPDATE SET *",
            &["no column 'item'"],
        ),
        ("ALTER TABLE stock RENAME COLUMN n TO item", &["RM-5017", "'item' is there already"]),
        ("ALTER TABLE stock ALTER COLUMN n TYPE INT", &["RM-5017", "not every value"]),
        ("ALTER TABLE stock ADD COLUMN n BIGINT", &["RM-3006"]),
        ("VACUUM stock RETAIN 0 HOURS", &["RM-5017", "VACUUM"]),
        ("OPTIMIZE stock ZORDER BY (m)", &["RM-3002"]),
        ("OPTIMIZE stock WHERE n > 1", &["RM-5017", "not partitioned by 'n'"]),
        ("CREATE EXTERNAL TABLE nothing STORED AS DELTA LOCATION 'lake/nothing'", &["RM-5014", "give its columns"]),
        ("CREATE EXTERNAL TABLE stock STORED AS DELTA LOCATION 'lake/stock'", &["RM-3006"]),
        (
            "CREATE EXTERNAL TABLE other (x INT) STORED AS DELTA LOCATION 'lake/stock'",
            &["RM-7028", "leave the columns out"],
        ),
        ("CREATE EXTERNAL TABLE other STORED AS PAIMON LOCATION 'lake/stock'", &["RM-3004"]),
        ("CREATE EXTERNAL TABLE other STORED AS HUDI LOCATION 'lake/stock'", &["RM-5020"]),
        ("CREATE TABLE stock (id INT)", &["RM-3006"]),
        ("DROP TABLE stock", &["RM-7025"]),
        ("SELECT * FROM orders VERSION AS OF 1", &["RM-3104"]),
        ("CREATE MATERIALIZED VIEW v AS SELECT item FROM delta('lake/stock')", &["RM-3005", "table of the lake"]),
    ] {
        let error = refused(&assembly, text);
        for part in parts {
            assert!(error.contains(part), "{text}: no {part:?} in {error}");
        }
    }
    holds(&assembly, "SELECT * FROM stock", json!([{"item": "a", "n": 1}]));
    holds(&assembly, "SELECT * FROM delta('lake/items')", json!([{"item": "a", "n": 1}]));
    // A view's table is looked after like any other, and read at its versions.
    ok(&assembly, "OPTIMIZE items");
    ok(&assembly, "VACUUM items DRY RUN");
    assert!(!ok(&assembly, "DESCRIBE HISTORY items").as_array().unwrap().is_empty());
    holds(&assembly, "SELECT * FROM items VERSION AS OF 0", json!([]));
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_without_a_definition() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL);");
    let files = folder.path().join("a folder 100%");
    std::fs::create_dir_all(&files).unwrap();
    for (name, text) in [
        ("one.csv", "id,item,price\n1,tea,2.5\n2,\"a, b\",\n"),
        ("two.csv", "id,item,price\n3,oil,7\n"),
        ("plain.txt", "1;tea\n2;oil\n"),
        ("some.json", "{\"id\": 1, \"tags\": {\"a\": true}}\n{\"id\": 2}\n"),
    ] {
        std::fs::write(files.join(name), text).unwrap();
    }
    let planes = crate::process::checkout().join("projects/flights/data/planes.parquet");
    std::fs::copy(planes, files.join("planes.parquet")).unwrap();
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    let expected = json!([
        {"id": 1, "item": "tea", "price": 2.5}, {"id": 2, "item": "a, b", "price": null},
        {"id": 3, "item": "oil", "price": 7.0}
    ]);
    holds(&assembly, "SELECT * FROM csv('a folder 100%')", expected);
    holds(&assembly, "SELECT SUM(id) AS n FROM csv('a folder 100%/one.csv') WHERE price IS NULL", json!([{"n": 2}]));
    holds(
        &assembly,
        "SELECT * FROM csv('a folder 100%/plain.txt', header => 'false', delimiter => ';')",
        json!([{"column_1": 1, "column_2": "tea"}, {"column_1": 2, "column_2": "oil"}]),
    );
    holds(&assembly, "SELECT id FROM json('a folder 100%/some.json') WHERE tags['a'] IS NULL", json!([{"id": 2}]));
    let absolute = files.display();
    holds(&assembly, &format!("SELECT COUNT(*) AS n FROM parquet('{absolute}')"), json!([{"n": 3322}]));
    for (text, parts) in [
        ("SELECT * FROM parquet('a folder 100%/nothing.parquet')", &["RM-3106", "nothing.parquet"][..]),
        ("SELECT * FROM csv('a folder 100%', delimeter => ';')", &["RM-3105", "delimeter", "delimiter"]),
        ("SELECT * FROM json('../x')", &["RM-1111"]),
        ("SELECT * FROM parquet('a folder 100%/one.csv')", &["one.csv"]),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM parquet('a folder 100%')",
            &["RM-3005", "cannot read files", "'connector' = 'file'"],
        ),
    ] {
        let error = refused(&assembly, text);
        parts.iter().for_each(|part| assert!(error.contains(part), "{text}: no {part:?} in {error}"));
    }
    stop(assembly).await;
}

const PYTHON: &str = "
import os, sys
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
table = DeltaTable(sys.argv[1])
print(sorted(f\"{row['item']}={row['n']}\" for row in table.to_pyarrow_table().to_pylist()))
write_deltalake(table, pa.table({'item': ['python'], 'n': pa.array([9], pa.int64())}), mode='append')
table.delete(\"item = 'b'\")
sys.stdout.flush()
os._exit(0)
";

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_what_statements_left_and_they_read_what_it_wrote() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL);");
    let place = folder.path().join("outside/stock");
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    let shown = place.display();
    ok(&assembly, &format!("CREATE EXTERNAL TABLE stock (item TEXT, n BIGINT) STORED AS DELTA LOCATION '{shown}'"));
    ok(&assembly, "INSERT INTO stock VALUES ('a', 1), ('b', 2), ('c', 3)");
    ok(&assembly, "UPDATE stock SET n = 10 WHERE item = 'a'");
    ok(&assembly, "DELETE FROM stock WHERE item = 'c'");
    ok(&assembly, "OPTIMIZE stock");
    let mut command = Command::new(python);
    command.args(["-c", PYTHON]).arg(&place);
    assert_eq!(succeed(&mut command, PATIENCE), "['a=10', 'b=2']\n");
    holds(&assembly, "SELECT * FROM stock", json!([{"item": "a", "n": 10}, {"item": "python", "n": 9}]));
    stop(assembly).await;
}

/// A platform with a view that is stored, and its folder.
async fn kept(settings: &str) -> (tempfile::TempDir, Assembly) {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT);
         CREATE MATERIALIZED VIEW kept STORED AS DELTA AS SELECT id, item FROM orders;",
    );
    std::fs::write(folder.path().join("rivermere.toml"), format!("name = \"test\"\n{settings}")).unwrap();
    let assembly = start(folder.path(), &folder.path().join("data")).await;
    (folder, assembly.unwrap_or_else(|problem| panic!("{problem}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_holds_nothing_of_its_view_yet_has_a_history() {
    let (_folder, assembly) = kept("commit_interval_s = 3600\n").await;
    // Whether it was made in the meantime or not.
    let history = ok(&assembly, "DESCRIBE HISTORY kept");
    let made = history.as_array().unwrap();
    assert!(made.is_empty() || made.len() == 1 && made[0]["operation"] == "CREATE TABLE", "{history}");
    ok(&assembly, "INSERT INTO orders VALUES (1, 'tea')");
    flush(&assembly).await;
    assert_eq!(ok(&assembly, "DESCRIBE HISTORY kept LIMIT 1")[0]["version"], 1);
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_of_a_stored_view_are_put_together_unasked() {
    let (_folder, assembly) = kept("commit_interval_s = 0\nepoch_interval_ms = 20\n").await;
    let mut ids = 0;
    let history = eventually("the upkeep", || {
        ids += 1;
        ok(&assembly, &format!("INSERT INTO orders VALUES ({ids}, 'tea')"));
        let history = ok(&assembly, "DESCRIBE HISTORY kept");
        let rows = history.as_array()?;
        rows.iter().any(|row| row["operation"] == "OPTIMIZE").then(|| rows.len())
    })
    .await;
    assert!(history > 16, "{history}");
    flush(&assembly).await;
    holds(
        &assembly,
        "SELECT COUNT(*) AS n, SUM(id) AS s FROM delta('lake/kept')",
        json!([{"n": ids, "s": ids * (ids + 1) / 2}]),
    );
    stop(assembly).await;
}
