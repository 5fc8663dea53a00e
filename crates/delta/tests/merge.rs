use crate::vectors::{marked, marking};
use crate::verbs::{MARKED, pairs};
use crate::world::*;
use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use rivermere_base::{Changes, Epoch, Rng as _, SeededRng};
use rivermere_table::{SinkSpec, StagedEpoch, TableError, TableSink};
use std::sync::Arc;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_deletes_and_null_keys_end_in_the_final_state() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a +2=b +null=n +3=c")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c", "null=n"]);
    let done = sink.commit(vec![epoch(2, "-1=a +1=x -null=n +null=m"), epoch(3, "-2=b -1=x +1=y +4=d")]).await.unwrap();
    assert_eq!((done.rows_inserted, done.rows_deleted), (3, 3));
    assert_eq!(rows(&store).await, ["1=y", "3=c", "4=d", "null=m"]);
    sink.commit(vec![epoch(4, "-1=y -3=c -4=d -null=m")]).await.unwrap();
    assert!(rows(&store).await.is_empty());
    sink.commit(vec![epoch(5, "+1=z")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_changes_nothing() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a"), epoch(2, "-1=a +1=b")]).await.unwrap();
    let sink = open(&store, merge()).await.unwrap();
    let replay = sink.commit(vec![epoch(1, "+1=a"), epoch(2, "-1=a +1=b")]).await.unwrap();
    assert_eq!((replay.epochs_skipped, replay.files_added), (2, 0));
    assert_eq!(rows(&store).await, ["1=b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_of_one_key_are_refused_and_nothing_is_written() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    let error = sink.commit(vec![epoch(1, "+1=a +1=b")]).await.unwrap_err();
    assert!(matches!(error, TableError::NotAKey { .. }), "{error}");
    assert_eq!(sink.committed().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_with_a_changed_key_are_rewritten_until_there_are_many_small_ones() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    for number in 1..=8_u64 {
        let done = sink.commit(vec![epoch(number, &format!("+{number}=a"))]).await.unwrap();
        assert_eq!(done.files_removed, 0);
    }
    let update = sink.commit(vec![epoch(9, "-3=a +3=b")]).await.unwrap();
    assert_eq!((update.files_removed, update.files_added), (1, 1));
    sink.commit(vec![epoch(10, "+9=a")]).await.unwrap();
    let compacting = sink.commit(vec![epoch(11, "+10=a")]).await.unwrap();
    assert_eq!((compacting.files_removed, compacting.files_added), (9, 1));
    assert_eq!(rows(&store).await.len(), 10);
    assert_eq!(files(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_leave_the_same_rows_as_a_map() {
    let checkpoints = SinkSpec { properties: pairs(&[MARKED[0], ("delta.checkpointInterval", "3")]), ..merge() };
    for (spec, keys, changes) in [(merge(), 40, 30), (marking(), 100, 12), (checkpoints, 100, 12)] {
        let store = memory();
        let sink = open(&store, spec).await.unwrap();
        let mut model = std::collections::BTreeMap::<i64, u64>::new();
        let rng = SeededRng::new(42);
        let below = |limit: u64| rng.next_u64() % limit;
        let mut saw_marks = false;
        for number in 1..=25_u64 {
            let mut text = String::new();
            // A large file first, which small changes then mark rows of.
            for _ in 0..below(if number == 1 { 200 } else { changes }) {
                let key = below(keys) as i64;
                if let Some(old) = model.remove(&key) {
                    text.push_str(&format!("-{key}={old} "));
                }
                if below(3) > 0 {
                    let value = below(1000);
                    model.insert(key, value);
                    text.push_str(&format!("+{key}={value} "));
                }
            }
            sink.commit(vec![epoch(number, &text)]).await.unwrap();
            let mut expected = model.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
            expected.sort();
            assert_eq!(rows(&store).await, expected, "epoch {number}");
            saw_marks |= marked(&store).await.values().any(|marks| *marks > 0);
        }
        assert_eq!(saw_marks, keys == 100);
    }
}

fn many(keys: impl Iterator<Item = i64>, value: &str, weight: i64) -> Changes {
    let keys = keys.collect::<Int64Array>();
    let values = StringViewArray::from_iter_values(std::iter::repeat_n(value, arrow::array::Array::len(&keys)));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap();
    let weights = Int64Array::from_value(weight, batch.num_rows());
    Changes::with_weights(batch, weights).unwrap()
}

/// The size that a busy view has: prints its times for `--nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_updates_in_a_hundred_thousand_rows() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    let load = Instant::now();
    sink.commit(vec![StagedEpoch { epoch: Epoch(1), changes: vec![many(0..100_000, "old", 1)] }]).await.unwrap();
    let load = load.elapsed();
    let update = Instant::now();
    let old = many((0..2_000).map(|key| key * 50), "old", -1);
    let new = many((0..2_000).map(|key| key * 50), "new", 1);
    let done = sink.commit(vec![StagedEpoch { epoch: Epoch(2), changes: vec![old, new] }]).await.unwrap();
    println!("100,000 rows loaded in {load:?}, 2,000 of them merged in {:?}", update.elapsed());
    assert_eq!((done.rows_inserted, done.rows_deleted), (2_000, 2_000));
    let rows = rows(&store).await;
    assert_eq!(rows.len(), 100_000);
    assert_eq!(rows.iter().filter(|row| row.ends_with("=new")).count(), 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nothing_needs_are_removed_unasked() {
    let no_wait = ("delta.deletedFileRetentionDuration".to_string(), "interval 0 hours".to_string());
    let left = ("rivermere.autoVacuum".to_string(), "false".to_string());
    for (properties, removes) in [(vec![no_wait.clone()], true), (vec![no_wait, left], false)] {
        let store = memory();
        let spec = || SinkSpec { properties: properties.clone(), ..merge() };
        let mut removed = 0;
        let mut last = 0;
        // Started again now and then: the versions at which it looks are the same.
        for start in 0..6 {
            let sink = open(&store, spec()).await.unwrap();
            for number in start * 50 + 1..=start * 50 + 50 {
                let change = if last == 0 { "+1=1".to_string() } else { format!("-1={last} +1={number}") };
                sink.commit(vec![epoch(number, &change)]).await.unwrap();
                last = number;
                removed += sink.maintain(&[200]).await.unwrap().files_removed;
            }
        }
        assert_eq!(rows(&store).await, ["1=300"]);
        assert_eq!(rows_at(&store, Some(200)).await, ["1=200"], "a version that was asked for");
        if removes {
            // Of versions 2 to 256 each replaced a file; that of version 200 is read on from, so that it goes on from there.
            assert!((190..=256).contains(&removed), "{removed} removed");
            let provider = rivermere_delta::DeltaTable::open(location(&store)).await.unwrap();
            let provider = rivermere_table::Table::scan(&provider, Some(100)).await.unwrap();
            let session = datafusion::prelude::SessionContext::new();
            session.read_table(provider).unwrap().collect().await.expect_err("its file is gone");
        } else {
            assert_eq!((removed, rows_at(&store, Some(100)).await), (0, vec!["1=100".to_string()]));
        }
    }
}
