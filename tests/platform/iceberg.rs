//! Iceberg tables in the platform: views stored in them, made and changed by statements, followed by views, read by Python.

use crate::harness::{
    PATIENCE, assert_views_equal_batch, eventually, ok, produce, refused, sorted, sql, start, stop, write_project,
};
use crate::process::{succeed, tool};
use rivermere::Assembly;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The files below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path.display().to_string()),
        }
    }
    files
}

const PROJECT: &str = "
CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT, at TIMESTAMP);

CREATE MATERIALIZED VIEW spent STORED AS ICEBERG AS
SELECT customer, SUM(amount) AS amount, MAX(at) AS last FROM orders GROUP BY customer;

CREATE MATERIALIZED VIEW large STORED AS ICEBERG LOCATION 'lake/the large ones' AS
SELECT customer, amount FROM orders WHERE amount > 10;
";

/// Prints the rows of Iceberg tables as JSON, one line each.
const READ: &str = r#"
import glob, json, os, sys
from pyiceberg.table import StaticTable

def newest(folder):
    name = lambda file: int(os.path.basename(file).split(".")[0][1:])
    return max(glob.glob(folder + "/metadata/v*.metadata.json"), key=name)

for folder in sys.argv[1:]:
    rows = StaticTable.from_metadata("file://" + newest(folder)).scan().to_arrow().to_pylist()
    print("ROWS " + json.dumps(rows, default=lambda value: value.isoformat()))
# Arrow's threads may abort the process while the interpreter takes itself down.
sys.stdout.flush()
os._exit(0)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn views_are_stored_in_iceberg_tables_and_read_back_by_us_and_by_python() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), PROJECT);
    std::fs::write(
        folder.path().join("rivermere.toml"),
        "name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    let order = |n: i64| {
        let time = format!("2026-01-01T00:00:{:02}", n % 60);
        json!({ "customer": format!("c{}", n % 7), "amount": n % 50, "at": time }).to_string()
    };
    let tables = [("spent", "lake/spent"), ("large", "lake/the large ones")];
    let stored_as_served = async |assembly: &Assembly, rows: usize| {
        for (view, place) in tables {
            eventually("the table to hold the view", || {
                let served = ok(assembly, &format!("SELECT * FROM {view}"));
                let stored = sql(assembly, &format!("SELECT * FROM iceberg('{place}')")).ok()?;
                (view != "large" || served.as_array()?.len() == rows).then_some(())?;
                (!served.as_array()?.is_empty() && sorted(&served) == sorted(&stored)).then_some(())
            })
            .await;
        }
    };
    let mut sent = 0;
    // Three runs, so that a start finds its marker; the small files of many commits are put together meanwhile.
    for _ in 0..3 {
        let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
        for _ in 0..10 {
            let orders: Vec<String> = (sent..sent + 20).map(order).collect();
            sent += 20;
            produce(&assembly, "orders", &orders).await;
            // Commit by commit, and not by a flush, which puts off the upkeep.
            stored_as_served(&assembly, (0..sent).filter(|n| n % 50 > 10).count()).await;
        }
        assert_views_equal_batch(&assembly);
        stop(assembly).await;
    }
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let history = ok(&assembly, "DESCRIBE HISTORY large");
    let operations: Vec<&str> =
        history.as_array().unwrap().iter().map(|version| version["operation"].as_str().unwrap()).collect();
    assert!(operations.contains(&"APPEND") && operations.contains(&"REPLACE"), "{operations:?}");
    let error = refused(&assembly, "DELETE FROM large");
    assert!(error.contains("RM-7026"), "{error}");
    let served: Vec<_> = tables.iter().map(|(view, _)| ok(&assembly, &format!("SELECT * FROM {view}"))).collect();
    stop(assembly).await;

    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let mut command = Command::new(python);
    command.args(["-c", READ]).args(tables.map(|(_, place)| data.join(place)));
    let said = succeed(&mut command, PATIENCE);
    let rows: Vec<Value> =
        said.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("ROWS ")?).ok()).collect();
    assert_eq!(rows.len(), 2, "{said}");
    let count = |rows: &Value| rows.as_array().unwrap().len();
    assert_eq!((count(&rows[0]), count(&rows[1])), (count(&served[0]), count(&served[1])));
    let key = |rows: &Value, columns: &[&str]| {
        let line = |row: &Value| columns.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>().join(" ");
        let mut lines: Vec<String> = rows.as_array().unwrap().iter().map(line).collect();
        lines.sort();
        lines
    };
    for (read, served) in rows.iter().zip(&served) {
        assert_eq!(key(read, &["customer", "amount"]), key(served, &["customer", "amount"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iceberg_table_is_made_changed_followed_and_read_at_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE prices (item TEXT NOT NULL, price DOUBLE);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    for statement in [
        "CREATE EXTERNAL TABLE stock (item TEXT NOT NULL, n INT, place TEXT) STORED AS ICEBERG \
         PARTITIONED BY (place) LOCATION 'lake/stock'",
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
    holds("SELECT COUNT(*) AS n FROM stock VERSION AS OF 1", json!([{"n": 3}]));
    holds("SELECT COUNT(*) AS n FROM stock VERSION AS OF '1'", json!([{"n": 3}]));
    holds("SELECT COUNT(*) AS n FROM iceberg('lake/stock', 2)", json!([{"n": 4}]));
    holds("SELECT COUNT(*) AS n FROM iceberg('lake/stock', timestamp => '2200-01-01 00:00:00')", json!([{"n": 3}]));
    // A snapshot by the id that engines of Iceberg call it by.
    let history = ok(&assembly, "DESCRIBE HISTORY stock");
    let first = history.as_array().unwrap().last().unwrap();
    let parameters: Value = serde_json::from_str(first["parameters"].as_str().unwrap()).unwrap();
    let id = parameters["snapshot-id"].as_str().unwrap();
    holds(&format!("SELECT COUNT(*) AS n FROM stock VERSION AS OF {id}"), json!([{"n": 3}]));
    let changes = ok(&assembly, "SELECT item, _change_type AS kind FROM table_changes('stock', 3, 4)");
    let expected = json!([
        {"item": "tea", "kind": "delete"}, {"item": "salt", "kind": "delete"}, {"item": "tea", "kind": "insert"},
        {"item": "salt", "kind": "insert"}, {"item": "oil", "kind": "delete"}
    ]);
    assert_eq!(sorted(&changes), sorted(&expected));
    for statement in [
        "ALTER TABLE stock ALTER COLUMN n TYPE BIGINT",
        "ALTER TABLE stock RENAME COLUMN n TO pieces",
        "ALTER TABLE stock ADD COLUMN note TEXT",
        "INSERT INTO stock VALUES ('pepper', 5000000000, 'B', 'hot')",
    ] {
        ok(&assembly, statement);
    }
    holds(
        "SELECT item, pieces, note FROM stock WHERE pieces > 13",
        json!([{"item": "salt", "pieces": 15, "note": null}, {"item": "pepper", "pieces": 5_000_000_000_i64, "note": "hot"}]),
    );
    let merged = ok(
        &assembly,
        "MERGE INTO stock AS s USING (VALUES ('pepper', 7), ('cloves', 2)) AS d (item, pieces) ON s.item = d.item
         WHEN MATCHED THEN UPDATE SET pieces = d.pieces WHEN NOT MATCHED THEN INSERT (item, pieces) VALUES (d.item, d.pieces)",
    );
    assert_eq!((&merged[0]["rows_updated"], &merged[0]["rows_inserted"]), (&json!(1), &json!(1)), "{merged}");
    holds("SELECT SUM(pieces) AS n FROM stock WHERE item IN ('pepper', 'cloves')", json!([{"n": 9}]));
    ok(&assembly, "RESTORE TABLE stock TO VERSION AS OF 4");
    holds("SELECT COUNT(*) AS n FROM stock", json!([{"n": 3}]));
    for (statement, said) in [
        (
            "MERGE INTO stock USING (VALUES ('tea'), ('tea')) AS s (item) ON stock.item = s.item \
             WHEN MATCHED THEN UPDATE SET place = 'B'",
            "RM-5017",
        ),
        ("VACUUM stock RETAIN 1 HOURS", "RM-5017"),
        ("OPTIMIZE stock ZORDER BY (item)", "RM-5017"),
        ("ALTER TABLE stock ADD CONSTRAINT named CHECK (item > '')", "RM-5017"),
        ("CREATE EXTERNAL TABLE other STORED AS ICEBERG LOCATION 'lake/nothing'", "RM-5014"),
        ("CREATE EXTERNAL TABLE other STORED AS DELTA LOCATION 'lake/stock'", "RM-5020"),
        ("CREATE EXTERNAL TABLE other (x INT) STORED AS DELTA LOCATION 'lake/stock'", "RM-5020"),
        ("SELECT * FROM delta('lake/stock')", "one of iceberg"),
        ("DELETE FROM stock WHERE nothing = 1", "nothing"),
        ("SELECT * FROM iceberg('lake/stock', 99)", "RM-5015"),
    ] {
        let error = refused(&assembly, statement);
        assert!(error.contains(said), "{statement}: {error}");
    }
    // Partitions of what functions make of columns; filters over the columns themselves leave files out all the same.
    for statement in [
        "CREATE EXTERNAL TABLE visits (id BIGINT, name TEXT, at TIMESTAMP, price DECIMAL(9, 2)) STORED AS ICEBERG \
         PARTITIONED BY (days(at), bucket(4, id), truncate(2, name)) LOCATION 'lake/visits'",
        "INSERT INTO visits SELECT value, 'name ' || value, \
         arrow_cast(1767211200000000 + value * 3600000000, 'Timestamp(Microsecond, None)'), value / 4.0 FROM generate_series(0, 39)",
        "INSERT INTO visits VALUES (NULL, NULL, NULL, NULL)",
        "UPDATE visits SET price = 0 - price WHERE id < 2",
    ] {
        ok(&assembly, statement);
    }
    holds(
        "SELECT COUNT(*) AS n, SUM(id) AS ids FROM visits WHERE at >= TIMESTAMP '2026-01-01 00:00:00' AND id <> 10",
        json!([{"n": 35, "ids": 764}]),
    );
    holds("SELECT id FROM visits WHERE name = 'name 7' OR id IS NULL", json!([{"id": 7}, {"id": null}]));
    holds("SELECT CAST(SUM(price) AS DOUBLE) AS n FROM visits", json!([{"n": 194.5}]));
    let folders = walk(&data.join("lake/visits/data"));
    assert!(folders.iter().any(|file| file.contains("at_day=2026-01-01/id_bucket=")), "{folders:?}");
    let error = refused(
        &assembly,
        "CREATE EXTERNAL TABLE o (a INT) STORED AS ICEBERG PARTITIONED BY (bukket(4, a)) LOCATION 'x'",
    );
    assert!(error.contains("bucket(n, column)"), "{error}");
    let by_days = "CREATE EXTERNAL TABLE o (a TIMESTAMP) STORED AS DELTA PARTITIONED BY (days(a)) LOCATION 'x'";
    let error = refused(&assembly, by_days);
    assert!(error.contains("use Iceberg"), "{error}");
    // A damaged file is named; others go on.
    let metadata = std::fs::read_dir(data.join("lake/stock/metadata")).unwrap();
    let lists = metadata
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("snap-"));
    lists.for_each(|file| std::fs::write(file, "no avro").unwrap());
    let error = refused(&assembly, "SELECT * FROM stock");
    assert!(error.contains("RM-5019") && error.contains("snap-") && error.contains("stock"), "{error}");
    stop(assembly).await;
}

/// What PyIceberg does through our catalog: `URI`
const CATALOG: &str = r#"
import os, sys
import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError, TableAlreadyExistsError

catalog = RestCatalog("rivermere", uri=sys.argv[1])
assert catalog.list_namespaces() == [("public",)], catalog.list_namespaces()
assert sorted(catalog.list_tables("public")) == [("public", "stock"), ("public", "totals")], catalog.list_tables("public")
assert catalog.table_exists("public.stock") and not catalog.table_exists("public.nothing")
try:
    catalog.load_table("public.nothing")
    raise SystemExit("it is not there")
except NoSuchTableError:
    pass
stock = catalog.load_table("public.stock")
print("ROWS", sorted((row["item"], row["n"]) for row in stock.scan().to_arrow().to_pylist()))
# Two clients with the same table: the second's append is worked out anew over the first's.
other = catalog.load_table("public.stock")
schema = stock.schema().as_arrow()
row = lambda item, n: pa.Table.from_pylist([{"item": item, "n": n, "place": "P"}], schema=schema)
stock.append(row("python", 1))
other.append(row("snake", 2))
stock.refresh()
stock.delete("item = 'tea'")
stock.upsert(row("snake", 40), join_cols=["item"])
stock.manage_snapshots().create_tag(stock.current_snapshot().snapshot_id, "audit").commit()
with stock.update_schema() as update:
    update.rename_column("n", "pieces")
# Tables are made, at once and by a transaction, and dropped.
catalog.create_namespace_if_not_exists("public")
columns = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("tags", pa.list_(pa.string()))])
rows = lambda *ids: pa.Table.from_pylist([{"id": id, "at": None, "tags": ["a"]} for id in ids], schema=columns)
made = catalog.create_table("public.made", schema=columns, properties={"format-version": "2", "owner": "python"})
made.append(rows(1, 2))
with catalog.create_table_transaction("public.staged", schema=columns) as transaction:
    transaction.append(rows(3))
try:
    catalog.create_table("public.made", schema=columns)
    raise SystemExit("it was made twice")
except TableAlreadyExistsError:
    pass
catalog.create_table("public.gone", schema=columns)
catalog.drop_table("public.gone")
assert not catalog.table_exists("public.gone") and catalog.table_exists("public.staged")
print("OWNER", catalog.load_table("public.made").properties["owner"])
totals = catalog.load_table("public.totals")
try:
    totals.append(totals.scan().to_arrow())
    raise SystemExit("a view's rows were added to")
except ForbiddenError:
    pass
sys.stdout.flush()
os._exit(0)
"#;

/// What Spark does through our catalog: `INSTALLED URI`
const SPARK_CATALOG: &str = r#"
import glob, sys
from pyspark.sql import SparkSession
spark = (SparkSession.builder.master("local[2]").config("spark.jars", ",".join(glob.glob(sys.argv[1] + "/jars/*.jar")))
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
    .config("spark.sql.catalog.rivermere", "org.apache.iceberg.spark.SparkCatalog")
    .config("spark.sql.catalog.rivermere.type", "rest")
    .config("spark.sql.catalog.rivermere.uri", sys.argv[2]).getOrCreate())
print("TABLES", sorted(row.tableName for row in spark.sql("SHOW TABLES IN rivermere.public").collect()))
t = "rivermere.public.stock"
print("ROWS", sorted((row.item, row.n) for row in spark.table(t).collect()))
spark.sql(f"INSERT INTO {t} VALUES ('spark', 1, 'P'), ('shell', 2, 'P')")
spark.sql(f"MERGE INTO {t} USING (SELECT 'spark' AS item, 40 AS n) s ON {t}.item = s.item WHEN MATCHED THEN UPDATE SET n = s.n")
spark.sql(f"DELETE FROM {t} WHERE item = 'tea'")
spark.sql(f"ALTER TABLE {t} RENAME COLUMN n TO pieces")
made = "rivermere.public.by_spark"
spark.sql(f"CREATE TABLE {made} (id INT, at TIMESTAMP, item STRING) USING iceberg PARTITIONED BY (days(at), bucket(4, id))")
spark.sql(f"INSERT INTO {made} VALUES (1, TIMESTAMP '2026-01-01 00:00:00', 'a'), (2, TIMESTAMP '2026-01-02 00:00:00', 'b')")
spark.sql(f"CREATE TABLE rivermere.public.as_select USING iceberg TBLPROPERTIES ('format-version' = '3') AS SELECT id + 10 AS id FROM {made}")
spark.sql("CREATE TABLE rivermere.public.gone (id INT) USING iceberg")
spark.sql("DROP TABLE rivermere.public.gone")
print("MADE", sorted(row.tableName for row in spark.sql("SHOW TABLES IN rivermere.public").collect()))
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn spark_finds_tables_in_our_catalog_and_commits_through_it() {
    let Some(installed) = tool("RIVERMERE_SPARK") else { return };
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG LOCATION 'lake/stock';
         CREATE MATERIALIZED VIEW totals AS SELECT place, COUNT(*) AS rows FROM stock GROUP BY place;",
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A')");
    let uri = format!("{}/iceberg", assembly.addresses().http.unwrap());
    let mut command = Command::new(installed.join("python/bin/python"));
    command.args(["-c", SPARK_CATALOG]).arg(&installed).arg(&uri).env("SPARK_LOCAL_IP", "127.0.0.1");
    let said = tokio::task::spawn_blocking(move || succeed(&mut command, PATIENCE)).await.unwrap();
    assert!(said.contains("TABLES ['stock']") && said.contains("ROWS [('salt', 5), ('tea', 3)]"), "{said}");
    assert!(said.contains("MADE ['as_select', 'by_spark', 'stock']"), "{said}");
    assert_eq!(ok(&assembly, "SELECT SUM(id) AS n FROM as_select"), json!([{"n": 23}]));
    ok(&assembly, "INSERT INTO by_spark VALUES (3, TIMESTAMP '2026-01-02 01:00:00', 'c')");
    assert_eq!(ok(&assembly, "SELECT COUNT(*) AS n FROM by_spark WHERE item > 'a'"), json!([{"n": 2}]));
    let rows = ok(&assembly, "SELECT item, pieces FROM stock");
    let expected =
        json!([{"item": "salt", "pieces": 5}, {"item": "spark", "pieces": 40}, {"item": "shell", "pieces": 2}]);
    assert_eq!(sorted(&rows), sorted(&expected));
    let totals = json!([{"place": "A", "rows": 1}, {"place": "P", "rows": 2}]);
    eventually("the view over what Spark did", || {
        (sorted(&ok(&assembly, "SELECT * FROM totals")) == sorted(&totals)).then_some(())
    })
    .await;
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_finds_tables_in_our_catalog_and_commits_through_it() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE prices (item TEXT NOT NULL, price DOUBLE);
         CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG LOCATION 'lake/stock';
         CREATE EXTERNAL TABLE other (item TEXT) STORED AS DELTA LOCATION 'lake/other';
         CREATE MATERIALIZED VIEW totals STORED AS ICEBERG AS
             SELECT place, COUNT(*) AS rows FROM stock GROUP BY place;",
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A')");
    eventually("the view", || {
        // In its table, too, which Python looks for.
        let stored = sql(&assembly, "SELECT * FROM iceberg('lake/totals')").ok()?;
        (stored == json!([{"place": "A", "rows": 2}])).then_some(())
    })
    .await;
    let uri = format!("{}/iceberg", assembly.addresses().http.unwrap());
    let mut command = Command::new(python);
    command.args(["-c", CATALOG, &uri]);
    let said = tokio::task::spawn_blocking(move || succeed(&mut command, PATIENCE)).await.unwrap();
    assert!(said.contains("ROWS [('salt', 5), ('tea', 3)]"), "{said}");
    let rows = ok(&assembly, "SELECT item, pieces, place FROM stock");
    let expected = json!([
        {"item": "salt", "pieces": 5, "place": "A"}, {"item": "python", "pieces": 1, "place": "P"},
        {"item": "snake", "pieces": 40, "place": "P"}
    ]);
    assert_eq!(sorted(&rows), sorted(&expected));
    let totals = json!([{"place": "A", "rows": 1}, {"place": "P", "rows": 2}]);
    eventually("the view over what Python did", || {
        (sorted(&ok(&assembly, "SELECT * FROM totals")) == sorted(&totals)).then_some(())
    })
    .await;
    // By the name that Python gave a snapshot, under the names that columns had then.
    ok(&assembly, "INSERT INTO stock VALUES ('later', 1, 'L')");
    for tagged in ["stock VERSION AS OF 'audit'", "iceberg('lake/stock', version => 'audit')"] {
        assert_eq!(ok(&assembly, &format!("SELECT SUM(n) AS n FROM {tagged}")), json!([{"n": 46}]), "{tagged}");
    }
    let error = refused(&assembly, "SELECT * FROM stock VERSION AS OF 'audits'");
    assert!(error.contains("RM-5021") && error.contains("audit, main"), "{error}");
    assert!(refused(&assembly, "SELECT * FROM other VERSION AS OF 'audit'").contains("RM-5021"));
    ok(&assembly, "RESTORE TABLE stock TO VERSION AS OF 'audit'");
    // Ours again, over Python's; also in the tables that Python made, before a restart and after it.
    assert!(said.contains("OWNER python"), "{said}");
    ok(&assembly, "INSERT INTO staged VALUES (4, TIMESTAMP '2026-01-01 00:00:00', ['b', 'c'])");
    ok(&assembly, "CREATE MATERIALIZED VIEW highest AS SELECT MAX(id) AS id FROM made");
    ok(&assembly, "UPDATE stock SET pieces = pieces + 1 WHERE place = 'P'");
    let sum = ok(&assembly, "SELECT SUM(pieces) AS n FROM stock");
    assert_eq!(sum, json!([{"n": 48}]));
    stop(assembly).await;
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&assembly, "INSERT INTO made VALUES (9, NULL, NULL)");
    eventually("the view over a table that Python made", || {
        (ok(&assembly, "SELECT id FROM highest") == json!([{"id": 9}])).then_some(())
    })
    .await;
    let staged = ok(&assembly, "SELECT id, tags FROM staged ORDER BY id");
    assert_eq!(staged, json!([{"id": 3, "tags": ["a"]}, {"id": 4, "tags": ["b", "c"]}]));
    assert!(refused(&assembly, "SELECT * FROM gone").contains("RM-3002"));
    stop(assembly).await;
}
