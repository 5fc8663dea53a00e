//! The lake in a storage: a view is stored on S3, read back by us through `delta('s3://…')`, and by Python.

use crate::harness::{
    PATIENCE, assert_views_equal_batch, eventually, get, produce, sorted, sql, start, stop, write_project,
};
use crate::peer::{Peer, tool};
use crate::process::run;
use rivermere::Assembly;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const PROJECT: &str = "
CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT);

CREATE MATERIALIZED VIEW spent STORED AS DELTA LOCATION 's3://lake/elsewhere/spent on things' AS
SELECT customer, SUM(amount) AS amount FROM orders GROUP BY customer;

CREATE MATERIALIZED VIEW large STORED AS DELTA AS SELECT customer, amount FROM orders WHERE amount > 10;
";

/// Prints the rows of Delta tables as JSON, one line each: `ENDPOINT ID SECRET URL...`
const READ: &str = r#"
import json
import os
import sys

from deltalake import DeltaTable

endpoint, key, secret, *urls = sys.argv[1:]
options = {
    "AWS_ENDPOINT_URL": endpoint,
    "AWS_ACCESS_KEY_ID": key,
    "AWS_SECRET_ACCESS_KEY": secret,
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
for url in urls:
    print(json.dumps(DeltaTable(url, storage_options=options).to_pyarrow_table().to_pylist()))
# Arrow's threads may abort the process while the interpreter takes itself down.
sys.stdout.flush()
os._exit(0)
"#;

/// A service with a bucket `lake`.
fn s3() -> Option<Peer> {
    match std::env::var_os("RIVERMERE_MOTO") {
        Some(moto) => Some(Peer::start("moto", Path::new(&moto))),
        None => Some(Peer::start("versitygw", &tool("RIVERMERE_VERSITYGW")?)),
    }
}

fn write_settings(project: &Path, peer: &Peer) {
    let settings = format!(
        "name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\nstorage = 's3://lake/here'\n\
         [storages.'s3://lake']\nendpoint = '{}'\naccess_key_id = '{}'\nsecret_access_key = '${{file:secret}}'\n",
        peer.told("endpoint"),
        peer.told("access_key_id")
    );
    std::fs::write(project.join("rivermere.toml"), settings).unwrap();
    writeln!(std::fs::File::create(project.join("secret")).unwrap(), "{}", peer.told("secret_access_key")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn views_stored_on_s3_are_read_back_by_us_and_by_python() {
    let Some(peer) = s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), PROJECT);
    write_settings(folder.path(), &peer);
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let order = |customer: &str, amount: i64| format!(r#"{{"customer":"{customer}","amount":{amount}}}"#);
    let orders: Vec<String> = (0..100).map(|n| order(&format!("c{}", n % 7), n)).collect();
    produce(&assembly, "orders", &orders).await;

    let tables = [("spent", "s3://lake/elsewhere/spent on things"), ("large", "s3://lake/here/lake/large")];
    for (view, url) in tables {
        eventually("the table to hold the view", || {
            let served = sql(&assembly, &format!("SELECT * FROM {view}")).ok()?;
            let stored = sql(&assembly, &format!("SELECT * FROM delta('{url}')")).ok()?;
            (served.as_array()?.len() > 5 && sorted(&served) == sorted(&stored)).then_some(())
        })
        .await;
    }
    // A relative place is below the storage's URL.
    let relative = sql(&assembly, "SELECT COUNT(*) AS n FROM delta('lake/large')").unwrap();
    assert_eq!(relative[0]["n"], 89);
    let status = get(&assembly, "/v1/status");
    let places: Vec<_> = status["sinks"].as_array().unwrap().iter().map(|sink| sink["location"].clone()).collect();
    assert!(tables.iter().all(|(_, url)| places.contains(&(*url).into())), "{places:?}");
    assert!(!data.join("lake").exists(), "a table was written beside the storage");
    assert_views_equal_batch(&assembly);
    // Its data files, as files.
    let files = sql(&assembly, "SELECT COUNT(*) AS n FROM parquet('s3://lake/here/lake/large')").unwrap();
    assert_eq!(files[0]["n"], 89, "an appended table has its rows once");
    let elsewhere = "CREATE EXTERNAL TABLE stock (item TEXT, n BIGINT) STORED AS DELTA LOCATION 's3://lake/stock'";
    for statement in [
        elsewhere,
        "CREATE MATERIALIZED VIEW pieces AS SELECT SUM(n) AS n FROM stock",
        "INSERT INTO stock VALUES ('a', 1), ('b', 2)",
        "UPDATE stock SET n = n + 1 WHERE item = 'b'",
        "MERGE INTO stock USING (SELECT 'a' AS item, 5 AS n) AS s ON stock.item = s.item
         WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
    ] {
        sql(&assembly, statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let stock = sql(&assembly, "SELECT item, n FROM stock ORDER BY item").unwrap();
    assert_eq!(stock, serde_json::json!([{"item": "a", "n": 5}, {"item": "b", "n": 3}]));

    let pieces = |assembly: &Assembly| sql(assembly, "SELECT n FROM pieces").unwrap()[0]["n"].as_i64();
    eventually("the view over a table there", || (pieces(&assembly) == Some(8)).then_some(())).await;

    // Stopped and started, it goes on in the same tables.
    stop(assembly).await;
    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&again, "orders", &[order("c0", 1_000), order("new", 5)]).await;
    eventually("the new customer in the table", || {
        let stored = sql(&again, "SELECT customer FROM delta('s3://lake/elsewhere/spent on things')").ok()?;
        (stored.as_array()?.len() == 8).then_some(())
    })
    .await;
    sql(&again, "DELETE FROM stock WHERE item = 'a'").unwrap();
    eventually("the view over a table there", || (pieces(&again) == Some(3)).then_some(())).await;
    let served = tables.map(|(view, _)| sorted(&sql(&again, &format!("SELECT * FROM {view}")).unwrap()));
    stop(again).await;

    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let mut command = Command::new(python);
    command.args(["-c", READ, peer.told("endpoint"), peer.told("access_key_id"), peer.told("secret_access_key")]);
    command.args(tables.map(|(_, url)| url));
    let (status, text) = run(&mut command, PATIENCE);
    assert!(status.success(), "{text}");
    for (line, served) in text.lines().filter(|line| line.starts_with('[')).zip(&served) {
        assert_eq!(&sorted(&serde_json::from_str(line).unwrap()), served);
    }
    assert_eq!(text.lines().filter(|line| line.starts_with('[')).count(), tables.len(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_none_is_refused_where_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), &PROJECT.replace("s3://", "s4://"));
    let problem = start(folder.path(), &folder.path().join("data")).await.err().unwrap().to_string();
    assert!(problem.contains("RM-1110") && problem.contains("'s3'") && problem.contains("'spent'"), "{problem}");

    write_project(folder.path(), "CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT);");
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    let stored = "CREATE MATERIALIZED VIEW v STORED AS DELTA LOCATION 's3://' AS SELECT customer FROM orders";
    let refused = sql(&assembly, stored).unwrap_err().to_string();
    assert!(refused.contains("RM-1111") && refused.contains("s3://bucket/path"), "{refused}");
    let refused = sql(&assembly, "SELECT * FROM delta('hfds://x/y')").unwrap_err().to_string();
    assert!(refused.contains("RM-1110"), "{refused}");
    stop(assembly).await;
}
