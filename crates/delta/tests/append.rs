use crate::world::*;
use rivermere_base::Epoch;
use rivermere_table::{TableError, TableSink};

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_read_back_and_the_marker_follows() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    assert_eq!(sink.committed().await.unwrap(), None);
    let first = sink.commit(vec![epoch(1, "+1=a +2=b")]).await.unwrap();
    assert_eq!((first.epoch, first.rows_inserted, first.files_added), (Epoch(1), 2, 1));
    let both = sink.commit(vec![epoch(2, "+1=a"), epoch(3, "+null=c")]).await.unwrap();
    assert_eq!((both.epoch, both.version, both.rows_inserted), (Epoch(3), first.version + 1, 2));
    assert_eq!(sink.committed().await.unwrap(), Some(Epoch(3)));
    assert_eq!(rows(&store).await, ["1=a", "1=a", "2=b", "null=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_after_reopening_adds_nothing() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a"), epoch(2, "+2=b")]).await.unwrap();
    drop(sink);
    let sink = open(&store, append()).await.unwrap();
    assert_eq!(sink.committed().await.unwrap(), Some(Epoch(2)));
    let replay = sink.commit(vec![epoch(1, "+1=a"), epoch(2, "+2=b")]).await.unwrap();
    assert_eq!((replay.epoch, replay.epochs_skipped, replay.rows_inserted), (Epoch(2), 2, 0));
    let partly = sink.commit(vec![epoch(2, "+2=b"), epoch(3, "+3=c")]).await.unwrap();
    assert_eq!((partly.epochs_skipped, partly.rows_inserted), (1, 1));
    assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_taken_back_before_the_commit_never_appear() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a +2=b"), epoch(2, "-1=a +1=c")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=c", "2=b"]);
    let error = sink.commit(vec![epoch(3, "-1=c")]).await.unwrap_err();
    assert!(matches!(error, TableError::Retraction { rows: 1, .. }), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(sink.committed().await.unwrap(), Some(Epoch(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_without_rows_moves_the_marker() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    let done = sink.commit(vec![epoch(7, "+1=a -1=a")]).await.unwrap();
    assert_eq!((done.epoch, done.files_added), (Epoch(7), 0));
    assert_eq!(open(&store, append()).await.unwrap().committed().await.unwrap(), Some(Epoch(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_out_of_order_are_refused() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    let error = sink.commit(vec![epoch(2, "+1=a"), epoch(1, "+1=a")]).await.unwrap_err();
    assert!(matches!(error, TableError::InvalidSpec { .. }), "{error}");
    assert_eq!(sink.commit(Vec::new()).await.unwrap().epoch, Epoch(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_is_found_behind_a_checkpoint() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    for number in 1..=105 {
        sink.commit(vec![epoch(number, "+1=a")]).await.unwrap();
    }
    let log = object_store::path::Path::from("lake/totals/_delta_log");
    let listed = store.list_with_delimiter(Some(&log)).await.unwrap().objects;
    assert!(listed.iter().any(|file| file.location.as_ref().ends_with(".checkpoint.parquet")));
    assert!(listed.iter().any(|file| file.location.as_ref().ends_with("00000000000000000000.json")), "log is kept");
    assert_eq!(open(&store, append()).await.unwrap().committed().await.unwrap(), Some(Epoch(105)));
    assert_eq!(rows(&store).await.len(), 105);
}
