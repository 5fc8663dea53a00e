//! Statements while the platform runs, over HTTP.

use crate::harness::{assert_views_equal_batch, eventually, get, sql, start, stop, write_project};

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_views_made_by_statements_catch_up_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT, amount DOUBLE);");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let inserted =
        sql(&assembly, "INSERT INTO orders VALUES (1, 'tea', 2.5), (2, 'tea', 3.5), (3, 'salt', 1.0)").unwrap();
    assert_eq!(inserted[0]["rows"], 3);
    sql(&assembly, "CREATE MATERIALIZED VIEW by_item AS SELECT item, COUNT(*) AS n, SUM(amount) AS total FROM orders GROUP BY item").unwrap();
    let rows = sql(&assembly, "SELECT * FROM by_item ORDER BY item").unwrap();
    assert_eq!(rows[1]["n"], 2, "the new view holds what was there before: {rows}");
    sql(&assembly, "CREATE MATERIALIZED VIEW big AS SELECT item FROM by_item WHERE total > 5").unwrap();
    sql(&assembly, "INSERT INTO orders (id, item, amount) SELECT 4, 'salt', 9.0").unwrap();
    eventually("the view on the view", || {
        let rows = sql(&assembly, "SELECT item FROM big ORDER BY item").ok()?;
        (rows.as_array()?.len() == 2).then_some(())
    })
    .await;
    assert_views_equal_batch(&assembly);
    let plan = sql(&assembly, "EXPLAIN STREAMING SELECT item, COUNT(*) FROM orders GROUP BY item").unwrap();
    assert!(plan.to_string().contains("state unbounded"), "{plan}");
    let refused = sql(&assembly, "DROP MATERIALIZED VIEW by_item").unwrap_err();
    assert!(refused.to_string().contains("is read by big"), "{refused}");
    stop(assembly).await;

    let again = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(get(&again, "/v1/views").as_array().unwrap().len(), 2);
    sql(&again, "DROP MATERIALIZED VIEW big").unwrap();
    sql(&again, "DROP MATERIALIZED VIEW by_item").unwrap();
    sql(&again, "CREATE MATERIALIZED VIEW by_item AS SELECT item, MAX(amount) AS total FROM orders GROUP BY item")
        .unwrap();
    let rows = sql(&again, "SELECT total FROM by_item WHERE item = 'salt'").unwrap();
    assert_eq!(rows[0]["total"], 9.0);
    stop(again).await;
    let third = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    assert_views_equal_batch(&third);
    stop(third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_place_and_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT);");
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    for (statement, expected) in [
        ("SELECT itme FROM orders", "did you mean 'item'?"),
        ("SELECT id,\n  itme FROM orders", "query:2:3"),
        ("SELECT item\n  FROM ordrs", "query:2:8"),
        ("SELECT item FROM ordrs", "did you mean 'orders'?"),
        ("SELECT lwer(item) FROM orders", "did you mean 'lower'?"),
        ("SELECT id, lwer(item) FROM orders", "query:1:12"),
        ("SELECT id, item FROM orders GROUP BY id", "query:1:12"),
        ("SELECT item FROM orders WHERE id = TRUE AND item + 1 > 0", "query:1:"),
        ("EXPLAIN SELECT itme FROM orders", "query:1:16"),
        ("INSERT INTO orders SELECT itme, 'x' FROM orders", "query:1:27"),
        ("SELEC 1", "did you mean 'SELECT'?"),
        ("INSERT INTO ordres VALUES (1, 'x')", "did you mean 'orders'?"),
        ("INSERT INTO orders VALUES (1)", "1 values for the 2 columns"),
        ("CREATE MATERIALIZED VIEW v AS SELECT item FROM orders LIMIT 3", "LIMIT without ORDER BY"),
        ("CREATE TABLE orders (id INT)", "defined twice"),
        ("DROP TABLE orders", "defined by the project's files"),
    ] {
        let error = sql(&assembly, statement).expect_err(statement).to_string();
        assert!(error.contains(expected), "{statement}: {error}");
    }
    let second = start(folder.path(), &folder.path().join("data")).await.err().expect("the folder is in use");
    assert!(second.to_string().contains("is in use by process"), "{second}");
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn show_tables_lists_what_a_select_can_name() {
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT) WITH ('topic' = 'orders-v1');
         CREATE MATERIALIZED VIEW items AS SELECT item FROM orders;",
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    let shown = sql(&assembly, "SHOW TABLES").unwrap();
    let expected = serde_json::json!([
        {"name": "items", "kind": "view"},
        {"name": "orders", "kind": "table"},
        {"name": "orders-v1", "kind": "topic"}
    ]);
    assert_eq!(shown, expected);
    for row in expected.as_array().unwrap() {
        sql(&assembly, &format!("SELECT * FROM \"{}\"", row["name"].as_str().unwrap())).unwrap();
    }
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_view_is_refused_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let table = "CREATE TABLE orders (id BIGINT NOT NULL, item TEXT);\n";
    let view = |condition: &str| {
        format!("{table}CREATE MATERIALIZED VIEW v AS SELECT item FROM orders WHERE id > {condition};")
    };
    write_project(folder.path(), &view("3"));
    let data = folder.path().join("data");
    stop(start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"))).await;
    write_project(folder.path(), &view("4"));
    let problem = start(folder.path(), &data).await.err().expect("its state does not fit").to_string();
    assert!(problem.contains("RM-4006") && problem.contains("'v'"), "{problem}");
}
