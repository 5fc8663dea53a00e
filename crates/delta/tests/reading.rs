use crate::world::*;
use datafusion::prelude::SessionContext;
use rivermere_delta::DeltaTable;
use rivermere_table::{Table, TableError, TableSink};

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_history_are_read() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a +2=b")]).await.unwrap();
    sink.commit(vec![epoch(2, "-1=a")]).await.unwrap();
    let table = DeltaTable::open(location(&store)).await.unwrap();
    assert_eq!(table.version().await.unwrap(), 2);
    assert_eq!(rows_at(&store, Some(1)).await, ["1=a", "2=b"]);
    assert_eq!(rows_at(&store, Some(0)).await, Vec::<String>::new());
    assert_eq!(rows(&store).await, ["2=b"]);
    let history = table.history(2).await.unwrap();
    let history = history.iter().map(|v| (v.version, v.operation.as_deref().unwrap_or(""))).collect::<Vec<_>>();
    assert_eq!(history, [(2, "STREAMING UPDATE"), (1, "STREAMING UPDATE")]);
    for missing in [3, -1] {
        let error = table.scan(Some(missing)).await.err().unwrap();
        assert!(matches!(error, TableError::MissingVersion { newest: 2, .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_of_different_stores_are_joined_in_one_session() {
    let (left, right) = (memory(), memory());
    for (store, text) in [(&left, "+1=a +2=b"), (&right, "+2=x +3=y")] {
        open(store, append()).await.unwrap().commit(vec![epoch(1, text)]).await.unwrap();
    }
    let session = SessionContext::new();
    for (name, store) in [("l", &left), ("r", &right)] {
        let table = DeltaTable::open(location(store)).await.unwrap();
        session.register_table(name, table.scan(None).await.unwrap()).unwrap();
    }
    let joined = session.sql("select l.value, r.value as other from l join r on l.key = r.key where l.key > 1").await;
    assert_eq!(text(&joined.unwrap().collect().await.unwrap()), ["b=x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_a_table_says_so() {
    let error = DeltaTable::open(location(&memory())).await.err().unwrap();
    assert!(matches!(error, TableError::Missing { .. }), "{error}");
}
