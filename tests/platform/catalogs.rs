//! Tables of Iceberg REST catalogs: our own, served by another platform, and Iceberg's reference server.

use crate::harness::{PATIENCE, eventually, produce, sorted, sql, start, stop, write_project};
use crate::peer::{Peer, tool};
use crate::process::succeed;
use rivermere::Assembly;
use serde_json::{Value, json};
use std::process::Command;

fn ok(assembly: &Assembly, text: &str) -> Value {
    sql(assembly, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(assembly: &Assembly, text: &str) -> String {
    sql(assembly, text).map_or_else(|error| error.to_string(), |rows| panic!("{text}: {rows}"))
}

async fn holds(assembly: &Assembly, query: &str, rows: Value) {
    // A view's table is made with its first commit.
    eventually(query, || (sorted(&sql(assembly, query).ok()?) == sorted(&rows)).then_some(())).await;
}

const TOTALS: &str = "SELECT place, COUNT(*) AS rows, SUM(n) AS n FROM stock GROUP BY place";

/// One platform serves its tables; another reads them, changes them and follows them. Both change one row at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_platforms_catalog_is_read_changed_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = (folder.path().join("server"), folder.path().join("client"));
    std::fs::create_dir_all(&server).unwrap();
    std::fs::create_dir_all(&client).unwrap();
    write_project(
        &server,
        "CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG PARTITIONED BY (place)
         LOCATION 'lake/stock';",
    );
    let server = start(&server, &server.join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&server, "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A')");
    let place = format!("iceberg+{}/iceberg/public.stock", server.addresses().http.unwrap());
    write_project(
        &client,
        &format!(
            "CREATE EXTERNAL TABLE stock STORED AS ICEBERG LOCATION '{place}';
             CREATE MATERIALIZED VIEW totals AS {TOTALS};"
        ),
    );
    let client = start(&client, &client.join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    holds(&client, "SELECT * FROM totals", json!([{"place": "A", "rows": 2, "n": 8}])).await;
    ok(&client, "INSERT INTO stock VALUES ('oil', 7, 'B')");
    ok(&client, "UPDATE stock SET n = n + 10 WHERE item = 'tea'");
    ok(&client, "DELETE FROM stock WHERE item = 'salt'");
    let rows = json!([{"item": "tea", "n": 13, "place": "A"}, {"item": "oil", "n": 7, "place": "B"}]);
    holds(&server, "SELECT item, n, place FROM stock", rows.clone()).await;
    holds(&client, "SELECT item, n, place FROM stock", rows).await;
    ok(&server, "ALTER TABLE stock ADD COLUMN note TEXT");
    ok(&server, "INSERT INTO stock VALUES ('rice', 1, 'B', 'new')");
    let totals = json!([{"place": "A", "rows": 1, "n": 13}, {"place": "B", "rows": 2, "n": 8}]);
    holds(&client, "SELECT * FROM totals", totals).await;
    holds(&client, "SELECT COUNT(*) AS n FROM stock VERSION AS OF 1", json!([{"n": 2}])).await;
    holds(&client, &format!("SELECT note FROM iceberg('{place}') WHERE item = 'rice'"), json!([{"note": "new"}])).await;
    // Whoever is slower does it again.
    std::thread::scope(|scope| {
        for assembly in [&server, &client] {
            scope.spawn(move || {
                for _ in 0..5 {
                    ok(assembly, "UPDATE stock SET n = n + 1 WHERE item = 'oil'");
                }
            });
        }
    });
    holds(&client, "SELECT n FROM stock WHERE item = 'oil'", json!([{"n": 17}])).await;
    ok(&client, "OPTIMIZE stock");
    holds(&server, "SELECT COUNT(*) AS n FROM stock", json!([{"n": 3}])).await;
    let base = place.trim_end_matches("public.stock");
    for (place, said) in [
        (format!("{base}public.nothing"), "RM-5014"),
        (format!("{base}stock"), "names no table in a namespace"),
        (place.replace("iceberg+http:", "iceberg+ftp:"), "http or https"),
    ] {
        let error = refused(&client, &format!("SELECT * FROM iceberg('{place}')"));
        assert!(error.contains(said), "{place}: {error}");
    }
    stop(client).await;
    stop(server).await;
}

/// What PyIceberg does in the same catalog: `URI`
const PYTHON: &str = r#"
import os, sys
import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog

catalog = RestCatalog("reference", uri=sys.argv[1])
stock = catalog.load_table("sales.stock")
print("ROWS", sorted((row["item"], row["n"]) for row in stock.scan().to_arrow().to_pylist()))
print("TOTALS", sorted((row["customer"], row["n"]) for row in catalog.load_table("sales.counts").scan().to_arrow().to_pylist()))
stock.append(pa.Table.from_pylist([{"item": "python", "n": 1, "place": "P"}], schema=stock.schema().as_arrow()))
stock.refresh()
stock.delete("item = 'tea'")
sys.stdout.flush()
os._exit(0)
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn tables_of_icebergs_own_catalog_are_made_changed_followed_and_hold_views() {
    let Some(jars) = tool("RIVERMERE_ICEBERG_REST") else { return };
    let catalog = Peer::start("iceberg-rest", &jars);
    let uri = catalog.told("endpoint").to_owned();
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        &format!(
            "CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT);
             CREATE MATERIALIZED VIEW counts STORED AS ICEBERG LOCATION 'iceberg+{uri}/sales.counts' AS
                 SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer;"
        ),
    );
    std::fs::write(
        folder.path().join("rivermere.toml"),
        "name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    let order = |customer: &str| json!({ "customer": customer, "amount": 1 }).to_string();
    // Twice, so that the second start finds its marker.
    for round in 1..=2 {
        let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
        for _ in 0..5 {
            produce(&assembly, "orders", &[order("a"), order("b"), order("a")]).await;
        }
        let rows = json!([{"customer": "a", "n": 10 * round}, {"customer": "b", "n": 5 * round}]);
        holds(&assembly, &format!("SELECT * FROM iceberg('iceberg+{uri}/sales.counts')"), rows).await;
        stop(assembly).await;
    }
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    for statement in [
        &*format!(
            "CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG PARTITIONED BY (place)
             LOCATION 'iceberg+{uri}/sales.stock' TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')"
        ),
        "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A'), ('oil', 7, 'A'), ('rice', 1, 'B')",
        "UPDATE stock SET n = n + 10 WHERE place = 'B'",
        "DELETE FROM stock WHERE item = 'salt'",
    ] {
        ok(&assembly, statement);
    }
    ok(&assembly, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS}"));
    let python = tool("RIVERMERE_PYTHON").expect("it is set up with the others");
    let mut command = Command::new(python);
    command.args(["-c", PYTHON, &uri]);
    let said = tokio::task::spawn_blocking(move || succeed(&mut command, PATIENCE)).await.unwrap();
    assert!(said.contains("ROWS [('oil', 7), ('rice', 11), ('tea', 3)]"), "{said}");
    assert!(said.contains("TOTALS [('a', 20), ('b', 10)]"), "{said}");
    let totals = json!([
        {"place": "A", "rows": 1, "n": 7}, {"place": "B", "rows": 1, "n": 11}, {"place": "P", "rows": 1, "n": 1}
    ]);
    holds(&assembly, "SELECT * FROM totals", totals).await;
    ok(&assembly, "ALTER TABLE stock RENAME COLUMN n TO pieces");
    ok(&assembly, "OPTIMIZE stock");
    ok(&assembly, "VACUUM stock");
    holds(&assembly, "SELECT SUM(pieces) AS n FROM stock", json!([{"n": 19}])).await;
    let error = refused(&assembly, &format!("SELECT * FROM iceberg('iceberg+{uri}/sales.nothing')"));
    assert!(error.contains("RM-5014"), "{error}");
    stop(assembly).await;
}
