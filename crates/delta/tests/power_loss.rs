//! The same protocol on the simulated disk: the power fails at every operation that changes the disk, and what was not
//! synced is lost, or survives in part.

use crate::vectors::{marking, marking_epochs};
use crate::world::*;
use object_store::ObjectStore;
use object_store::path::Path;
use rivermere_base::{CrashPoint, Epoch};
use rivermere_delta::{DeltaSink, Location};
use rivermere_sim::SimDisk;
use rivermere_store::DiskStore;
use rivermere_table::{SinkSpec, StagedEpoch, TableError, TableSink};
use std::io::ErrorKind;
use std::sync::Arc;

fn store_on(disk: &SimDisk) -> Arc<dyn ObjectStore> {
    Arc::new(DiskStore::new(Arc::new(disk.clone()), "/data"))
}

async fn open_on(disk: &SimDisk, spec: &SinkSpec) -> Result<DeltaSink, TableError> {
    let location = Location::new(store_on(disk), Path::from("lake/totals"), Arc::new(disk.clone()));
    DeltaSink::open(location, spec.clone()).await
}

/// Commits two epochs at a time; returns the last one that was confirmed, and why it stopped.
async fn run(disk: &SimDisk, spec: &SinkSpec, epochs: &[StagedEpoch]) -> (Epoch, Result<(), TableError>) {
    let mut confirmed = Epoch(0);
    let sink = match open_on(disk, spec).await {
        Ok(sink) => sink,
        Err(error) => return (confirmed, Err(error)),
    };
    for staged in epochs.chunks(2) {
        match sink.commit(staged.to_vec()).await {
            Ok(committed) => confirmed = committed.epoch,
            Err(error) => return (confirmed, Err(error)),
        }
    }
    (confirmed, Ok(()))
}

fn cases() -> [(SinkSpec, Vec<StagedEpoch>, &'static [&'static str]); 3] {
    [
        (append(), vec![epoch(1, "+1=a"), epoch(2, "+2=b"), epoch(3, "+1=a +3=c")], &["1=a", "1=a", "2=b", "3=c"]),
        (
            merge(),
            vec![epoch(1, "+1=a +2=b"), epoch(2, "-1=a +1=c"), epoch(3, "-2=b +3=d"), epoch(4, "-1=c +1=e")],
            &["1=e", "3=d"],
        ),
        (marking(), marking_epochs(), &["1=e", "3=d", "5=x", "6=y", "7=z"]),
    ]
}

/// After the crash: what was confirmed is there, and going on ends as if nothing had happened.
async fn recovers(crashed: &SimDisk, strict: bool, confirmed: Epoch, case: &(SinkSpec, Vec<StagedEpoch>, &[&str])) {
    let (spec, epochs, expected) = case;
    let disk = if strict { crashed.reboot_strict() } else { crashed.reboot() };
    let sink = open_on(&disk, spec).await.unwrap();
    assert!(sink.committed().await.unwrap().unwrap_or_default() >= confirmed, "epoch {confirmed} was confirmed");
    run(&disk, spec, epochs).await.1.unwrap();
    assert_eq!(rows(&store_on(&disk)).await, *expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_at_every_change_of_the_disk_loses_and_repeats_nothing() {
    for case in cases() {
        for strict in [true, false] {
            let mut changes = 0;
            loop {
                changes += 1;
                let disk = SimDisk::new(changes);
                disk.crash_at_mutation(changes);
                let (confirmed, _) = run(&disk, &case.0, &case.1).await;
                if !disk.is_crashed() {
                    break;
                }
                recovers(&disk, strict, confirmed, &case).await;
            }
            println!("{:?}, strict {strict}: {} places", case.0.mode, changes - 1);
            assert!(changes > 20, "{changes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_every_named_point_loses_and_repeats_nothing() {
    use CrashPoint::*;
    let points =
        [BeforeSinkCommit, BeforeObjectWrite, AfterObjectWrite, AfterObjectSync, AfterObjectRename, AfterSinkCommit];
    for case in cases() {
        for point in points {
            let mut hit = 0;
            loop {
                hit += 1;
                let disk = SimDisk::new(hit);
                disk.arm(point, hit);
                let (confirmed, _) = run(&disk, &case.0, &case.1).await;
                if !disk.is_crashed() {
                    break;
                }
                recovers(&disk, true, confirmed, &case).await;
            }
            assert!(hit > 1, "{point:?} was never reached");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_while_stops_nothing_for_good() {
    for (spec, epochs, expected) in cases() {
        let mut full = 0;
        for change in 1.. {
            let disk = SimDisk::new(change);
            let sink = open_on(&disk, &spec).await.unwrap();
            disk.fail_write_at(change, ErrorKind::StorageFull, true);
            let mut failed = false;
            for staged in epochs.chunks(2) {
                if let Err(error) = sink.commit(staged.to_vec()).await {
                    assert!(matches!(error, TableError::Full { .. }), "{error}");
                    failed = true;
                    disk.clear_faults();
                    sink.commit(staged.to_vec()).await.unwrap();
                }
            }
            assert_eq!(rows(&store_on(&disk)).await, expected, "full from change {change} on");
            if !failed {
                break;
            }
            full += 1;
        }
        assert!(full > 5, "{full}");
    }
}
