use crate::world::*;
use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use rivermere_base::{Changes, Epoch};
use rivermere_table::{StagedEpoch, TableError, TableSink};
use std::sync::Arc;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_one_upload_part_is_whole() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    // Random text: a file of well over 10 MiB, the size of one part, however well it is compressed.
    let mut random = 1_u64;
    let mut value = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random
    };
    let parts = (0..100_i64).map(|part| {
        let keys = (part * 10_000..(part + 1) * 10_000).collect::<Int64Array>();
        let values =
            (0..10_000).map(|_| Some(format!("{:016x}{:016x}", value(), value()))).collect::<StringViewArray>();
        Changes::inserts(RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap())
    });
    let staged = StagedEpoch { epoch: Epoch(1), changes: parts.collect() };
    let done = sink.commit(vec![staged]).await.unwrap();
    assert_eq!(done.rows_inserted, 1_000_000);
    let rows = rows(&store).await;
    assert_eq!(rows.len(), 1_000_000);
    assert!(rows.iter().all(|row| row.split_once('=').is_some_and(|(_, value)| value.len() == 32)));
}
