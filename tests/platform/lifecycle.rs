//! Views that come, fail to come, go and come again while the platform runs.

use crate::harness::{
    assert_views_equal_batch, eventually, flush, get, produce, sorted, sql, start, stop, write_project,
};
use rivermere::Assembly;
use std::path::Path;

async fn settled(assembly: &Assembly) {
    eventually("the platform to settle", || assembly.is_settled().then_some(())).await;
    flush(assembly).await;
}

/// The lookup file of the demo, under the name that the table wants.
fn put_carriers(project: &Path) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../projects/flights/data/airlines.parquet");
    std::fs::copy(file, project.join("carriers.parquet")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_could_not_be_made_leaves_nothing_and_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE flights (id BIGINT NOT NULL, carrier TEXT);
         CREATE TABLE carriers (carrier TEXT NOT NULL, name TEXT)
         WITH ('connector' = 'file', 'path' = 'carriers.parquet');",
    );
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&assembly, "flights", &[r#"{"id":1,"carrier":"UA"}"#.into(), r#"{"id":2,"carrier":"AA"}"#.into()]).await;
    let create = "CREATE MATERIALIZED VIEW named STORED AS DELTA AS
                  SELECT f.id, c.name FROM flights f JOIN carriers c ON f.carrier = c.carrier";
    let error = sql(&assembly, create).unwrap_err().to_string();
    assert!(error.contains("carriers.parquet"), "{error}");
    assert_eq!(get(&assembly, "/v1/views").as_array().unwrap().len(), 0);
    produce(&assembly, "flights", &[r#"{"id":3,"carrier":"B6"}"#.into()]).await;

    put_carriers(folder.path());
    sql(&assembly, create).unwrap();
    produce(&assembly, "flights", &[r#"{"id":4,"carrier":"DL"}"#.into()]).await;
    settled(&assembly).await;
    let rows = sql(&assembly, "SELECT * FROM named").unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4, "{rows}");
    assert_views_equal_batch(&assembly);
    let stored = sql(&assembly, "SELECT * FROM delta('lake/named')").unwrap();
    assert_eq!(sorted(&rows), sorted(&stored));
    stop(assembly).await;

    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    settled(&again).await;
    assert_eq!(sorted(&sql(&again, "SELECT * FROM named").unwrap()), sorted(&rows));
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_a_dropped_view_is_not_written_by_the_next_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&assembly, "orders", &[r#"{"id":1,"item":"a"}"#.into(), r#"{"id":2,"item":"b"}"#.into()]).await;
    sql(&assembly, "CREATE MATERIALIZED VIEW items STORED AS DELTA AS SELECT id, item FROM orders").unwrap();
    settled(&assembly).await;
    let stored = |assembly: &Assembly, place: &str| {
        sql(assembly, &format!("SELECT COUNT(*) AS n FROM delta('{place}')")).unwrap()[0]["n"].clone()
    };
    assert_eq!(stored(&assembly, "lake/items"), 2);
    sql(&assembly, "DROP MATERIALIZED VIEW items").unwrap();

    sql(&assembly, "CREATE MATERIALIZED VIEW items STORED AS DELTA AS SELECT id, item FROM orders").unwrap();
    let message =
        eventually("the refusal", || get(&assembly, "/v1/status")["message"].as_str().map(str::to_owned)).await;
    assert!(message.contains("RM-5001") && message.contains("earlier view 'items'"), "{message}");
    assert_eq!(stored(&assembly, "lake/items"), 2, "what the first view wrote is left alone");
    sql(&assembly, "DROP MATERIALIZED VIEW items").unwrap();

    let elsewhere = "CREATE MATERIALIZED VIEW items STORED AS DELTA LOCATION 'lake/again' AS
                     SELECT id, item FROM orders WHERE id > 1";
    sql(&assembly, elsewhere).unwrap();
    settled(&assembly).await;
    assert_eq!(stored(&assembly, "lake/again"), 1);
    stop(assembly).await;
    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&again, "orders", &[r#"{"id":3,"item":"c"}"#.into()]).await;
    settled(&again).await;
    assert_eq!(stored(&again, "lake/again"), 2);
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_taken_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL);");
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    produce(&assembly, "orders", &[r#"{"id":1}"#.into()]).await;
    sql(&assembly, "CREATE MATERIALIZED VIEW a STORED AS DELTA LOCATION 'lake/100% #1/a b' AS SELECT id FROM orders")
        .unwrap();
    settled(&assembly).await;
    assert!(folder.path().join("data/lake/100% #1/a b/_delta_log").is_dir());
    let rows = sql(&assembly, "SELECT * FROM delta('lake/100% #1/a b')").unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let up = "CREATE MATERIALIZED VIEW b STORED AS DELTA LOCATION '../b' AS SELECT id FROM orders";
    let error = sql(&assembly, up).unwrap_err().to_string();
    assert!(error.contains("RM-1111"), "{error}");
    stop(assembly).await;
}
