//! The process dies, or the storage fails, at every single write of the protocol; a new process commits the same epochs
//! again. Whatever happened, each row is there once.

use crate::vectors::{marking, marking_epochs};
use crate::world::*;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use rivermere_base::CrashPoint;
use rivermere_delta::{DeltaSink, Location};
use rivermere_sim::{BreakingStore, Failure, SimDisk};
use rivermere_table::{SinkSpec, StagedEpoch, TableError, TableSink};
use std::sync::Arc;

/// Opens the sink and commits all; the answer of each is what a caller acts on.
async fn run(store: Arc<dyn ObjectStore>, spec: &SinkSpec, epochs: &[StagedEpoch]) -> Result<(), TableError> {
    let sink = open(&store, spec.clone()).await?;
    for staged in epochs.chunks(2) {
        sink.commit(staged.to_vec()).await?;
    }
    Ok(())
}

async fn survives(spec: SinkSpec, epochs: Vec<StagedEpoch>, expected: &[&str]) {
    for failure in [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full] {
        let mut points = 0;
        loop {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let breaking = BreakingStore::new(&store, points, failure);
            let first = run(breaking.clone(), &spec, &epochs).await;
            if let Err(error) = &first {
                assert!(error.is_retryable(), "{failure:?} at write {points}: {error}");
                assert!(failure != Failure::Full || matches!(error, TableError::Full { .. }), "{error}");
            }
            run(store.clone(), &spec, &epochs).await.unwrap();
            assert_eq!(rows(&store).await, expected, "{failure:?} at write {points}");
            if !breaking.has_broken() {
                break;
            }
            points += 1;
        }
        println!("{failure:?}: {points} points");
        assert!(points >= 5, "{points} points");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_survive_a_failure_at_every_write() {
    let epochs = vec![epoch(1, "+1=a"), epoch(2, "+2=b"), epoch(3, "+1=a +3=c")];
    survives(append(), epochs, &["1=a", "1=a", "2=b", "3=c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_survive_a_failure_at_every_write() {
    let epochs = vec![epoch(1, "+1=a +2=b"), epoch(2, "-1=a +1=c"), epoch(3, "-2=b +3=d"), epoch(4, "-1=c +1=e")];
    survives(merge(), epochs, &["1=e", "3=d"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_survive_a_failure_at_every_write() {
    survives(marking(), marking_epochs(), &["1=e", "3=d", "5=x", "6=y", "7=z"]).await;
}

/// Sixteen small files are there; the epochs after them find upkeep to do.
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_survives_a_failure_at_every_write() {
    let epochs: Vec<StagedEpoch> = (1..=20).map(|number| epoch(number, &format!("+{number}=a"))).collect();
    let mut expected: Vec<String> = (1..=20).map(|number| format!("{number}=a")).collect();
    expected.sort();
    async fn one_by_one(store: &Arc<dyn ObjectStore>, epochs: &[StagedEpoch]) -> Result<u64, TableError> {
        let sink = open(store, append()).await?;
        let mut put_together = 0;
        for staged in epochs {
            sink.commit(vec![staged.clone()]).await?;
            put_together += sink.maintain(&[]).await?.files_compacted;
        }
        Ok(put_together)
    }
    for failure in [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full] {
        let mut points = 0;
        loop {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            assert_eq!(one_by_one(&store, &epochs[..16]).await.unwrap(), 0);
            let breaking = BreakingStore::new(&store, points, failure);
            let first = one_by_one(&(breaking.clone() as Arc<dyn ObjectStore>), &epochs[16..]).await;
            one_by_one(&store, &epochs[16..]).await.unwrap();
            assert_eq!(rows(&store).await, expected, "{failure:?} at write {points}");
            if !breaking.has_broken() {
                assert_eq!(first.unwrap(), 17);
                assert_eq!(files(&store).await, 4);
                break;
            }
            points += 1;
        }
        assert!(points >= 8, "{points} points");
    }
}

/// The same process goes on after an answer was lost and the look-up failed as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_and_a_failed_look_up_do_not_publish_twice() {
    let mut undecided = 0;
    for (spec, expected) in [(append(), ["1=a", "2=b"]), (merge(), ["1=a", "2=b"])] {
        for writes in 0..6 {
            for reads in 0..12 {
                let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                open(&store, spec.clone()).await.unwrap();
                let breaking = BreakingStore::with_blind_read(&store, writes, Failure::LostAnswer, reads);
                let sink = open(&(breaking as Arc<dyn ObjectStore>), spec.clone()).await.unwrap();
                for staged in [epoch(1, "+1=a"), epoch(2, "+2=b")] {
                    while let Err(error) = sink.commit(vec![staged.clone()]).await {
                        assert!(error.is_retryable(), "{error}");
                        undecided += u64::from(matches!(error, TableError::Undecided { .. }));
                    }
                }
                assert_eq!(rows(&store).await, expected, "write {writes}, then read {reads}");
            }
        }
    }
    assert!(undecided > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_points_surround_each_commit_that_happens() {
    let disk = SimDisk::new(1);
    let location = Location::new(memory(), Path::from("lake/totals"), Arc::new(disk.clone()));
    let sink = DeltaSink::open(location, append()).await.unwrap();
    assert!(disk.hits().is_empty());
    for _ in 0..2 {
        sink.commit(vec![epoch(1, "+1=a")]).await.unwrap();
    }
    assert_eq!(disk.hits().get(&CrashPoint::BeforeSinkCommit), Some(&2));
    assert_eq!(disk.hits().get(&CrashPoint::AfterSinkCommit), Some(&1), "the replay commits nothing");
}
