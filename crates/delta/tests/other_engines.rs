use crate::world::*;
use deltalake_core::protocol::SaveMode;
use object_store::ObjectStore;
use rivermere_base::Epoch;
use rivermere_table::TableSink;
use std::sync::Arc;

async fn append_by_another(store: &Arc<dyn ObjectStore>, text: &str) {
    let batch = changes(text).batch().clone();
    // It gives up when a file was rewritten in the meantime, although it reads none.
    while library_table(store).await.write([batch.clone()]).with_save_mode(SaveMode::Append).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_another_engine_do_not_hide_the_marker() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a")]).await.unwrap();
    for _ in 0..3 {
        append_by_another(&store, "+9=foreign").await;
    }
    // The running sink and a new one both see it, and neither repeats epoch 1.
    for sink in [&sink, &open(&store, append()).await.unwrap()] {
        assert_eq!(sink.committed().await.unwrap(), Some(Epoch(1)));
        assert_eq!(sink.commit(vec![epoch(1, "+1=a")]).await.unwrap().epochs_skipped, 1);
    }
    sink.commit(vec![epoch(2, "+2=b")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "2=b", "9=foreign", "9=foreign", "9=foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_follows_a_compaction_by_another_engine() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    for number in 1..=4_u64 {
        sink.commit(vec![epoch(number, &format!("+{number}=a"))]).await.unwrap();
    }
    library_table(&store).await.optimize().await.unwrap();
    assert_eq!(files(&store).await, 1);
    sink.commit(vec![epoch(5, "-2=a +2=b")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "2=b", "3=a", "4=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_of_one_view_write_every_epoch_once() {
    let store = memory();
    let left = open(&store, append()).await.unwrap();
    let right = open(&store, append()).await.unwrap();
    for number in 1..=10 {
        let epochs = || vec![epoch(number, &format!("+{number}=a"))];
        let (left, right) = tokio::join!(left.commit(epochs()), right.commit(epochs()));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!(left.rows_inserted + right.rows_inserted, 1, "epoch {number}");
    }
    assert_eq!(rows(&store).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_and_a_foreign_writer_at_the_same_time_lose_nothing() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a +2=a")]).await.unwrap();
    let mut conflicts = 0;
    for number in 2..=9_u64 {
        let text = format!("-1={} +1={number}", if number == 2 { "a".to_string() } else { (number - 1).to_string() });
        let (done, ()) = tokio::join!(sink.commit(vec![epoch(number, &text)]), append_by_another(&store, "+9=foreign"));
        conflicts += done.unwrap().conflicts;
    }
    println!("{conflicts} conflicts with another writer");
    let mut expected = vec!["1=9".to_string(), "2=a".to_string()];
    expected.extend(std::iter::repeat_n("9=foreign".to_string(), 8));
    assert_eq!(rows(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_of_another_engine_stops_the_sink_before_it_is_broken() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a")]).await.unwrap();
    library_table(&store).await.add_constraint().with_constraint("positive", "key > 0").await.unwrap();
    let error = sink.commit(vec![epoch(2, "+-5=b")]).await.unwrap_err();
    assert!(error.to_string().contains("RM-5007") && error.to_string().contains("positive"), "{error}");
}
