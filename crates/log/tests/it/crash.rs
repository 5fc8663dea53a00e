//! Crashes, full disks and failing disks at every place: what was acknowledged is there once and in order, what was not
//! is there whole or not at all.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use rivermere_base::{CrashPoint, PartitionId, TopicName};
use rivermere_log::{Log, LogError, LogOptions, TopicOptions};
use rivermere_sim::World;

use crate::support::{batch, topic, values};

const DIR: &str = "/log";
const PARTITIONS: i32 = 2;

const POINTS: &[CrashPoint] = &[
    CrashPoint::BeforeWalCreate,
    CrashPoint::AfterWalCreate,
    CrashPoint::BeforeWalWrite,
    CrashPoint::AfterWalWrite,
    CrashPoint::AfterWalSync,
    CrashPoint::BeforeSegmentWrite,
    CrashPoint::AfterSegmentWrite,
    CrashPoint::AfterSegmentSync,
    CrashPoint::BeforeLogSnapshotWrite,
    CrashPoint::AfterLogSnapshotWrite,
    CrashPoint::AfterLogSnapshotSync,
    CrashPoint::AfterLogSnapshotRename,
    CrashPoint::AfterWalRecycle,
];

/// What a producer knows: what it sent, what was acknowledged, and the last acknowledged marker.
#[derive(Default)]
struct Producer {
    sent: usize,
    acknowledged: BTreeSet<usize>,
    marker: usize,
    errors: Vec<LogError>,
}

impl Producer {
    /// Sends `count` units of one or three records, every third one with a marker. Goes on after errors.
    fn produce(&mut self, log: &Log, count: usize) {
        let flights = topic("flights");
        let options = TopicOptions { partitions: PARTITIONS, ..TopicOptions::default() };
        match log.create_topic(&flights, options) {
            Ok(_) | Err(LogError::AlreadyExists { .. }) => {}
            Err(error) => return self.errors.push(error),
        }
        for _ in 0..count {
            let unit = self.sent;
            self.sent += 1;
            let done = if unit % 3 == 0 {
                // One record in each partition, and the marker that says so.
                let entry = |partition| (flights.clone(), PartitionId(partition), value(unit));
                let entries = (0..PARTITIONS).map(entry).collect();
                let marker = ("sink".to_owned(), Bytes::from(unit.to_string()));
                log.append_atomic(entries, Some(marker)).wait().map(drop)
            } else {
                log.append(&flights, PartitionId(unit as i32 % PARTITIONS), value(unit)).wait().map(drop)
            };
            match done {
                Ok(()) => {
                    self.acknowledged.insert(unit);
                    self.marker = if unit % 3 == 0 { unit } else { self.marker };
                }
                Err(error) => self.errors.push(error),
            }
        }
    }

    /// Compares the log with what the producer knows.
    fn check(&self, log: &Log, story: &str) {
        let flights = topic("flights");
        if log.topic(&flights).is_none() {
            assert!(self.acknowledged.is_empty(), "{story}: the topic is lost");
            return;
        }
        let found: Vec<Vec<usize>> = (0..PARTITIONS).map(|partition| units(log, &flights, partition)).collect();
        for (partition, found) in found.iter().enumerate() {
            assert!(found.is_sorted_by(|a, b| a < b), "{story}: doubled or out of order: {found:?}");
            for unit in &self.acknowledged {
                let here = unit % 3 == 0 || unit % PARTITIONS as usize == partition;
                assert!(!here || found.contains(unit), "{story}: unit {unit} is lost: {found:?}");
            }
        }
        let atomic = |found: &Vec<usize>| found.iter().copied().filter(|unit| unit % 3 == 0).collect::<Vec<_>>();
        assert_eq!(atomic(&found[0]), atomic(&found[1]), "{story}: an atomic append is there in part");
        let marker = log.marker("sink").map(|bytes| std::str::from_utf8(&bytes).unwrap().parse::<usize>().unwrap());
        assert_eq!(marker, atomic(&found[0]).last().copied(), "{story}: the marker is not of the last atomic append");
        assert!(marker.unwrap_or(0) >= self.marker, "{story}: the marker went back");
    }
}

fn value(unit: usize) -> Bytes {
    batch(&[&format!("{unit} {}", "x".repeat(unit % 40))])
}

fn units(log: &Log, topic: &TopicName, partition: i32) -> Vec<usize> {
    let number = |value: String| value.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    values(log, topic, partition).into_iter().map(number).collect()
}

fn open(world: &World) -> Result<Log, LogError> {
    Log::open(world.doors(), Path::new(DIR), LogOptions::tiny())
}

/// Runs until something arranged goes wrong, restarts without it, checks, goes on, restarts, checks.
fn story(seed: u64, story: &str, arrange: impl Fn(&World)) -> bool {
    let mut producer = Producer::default();
    let world = World::new(seed);
    arrange(&world);
    if let Ok(log) = open(&world) {
        producer.produce(&log, 60);
    }
    let happened = world.disk.is_crashed() || !producer.errors.is_empty();
    world.disk.clear_faults();
    let mut world = if seed % 2 == 0 { world.reboot() } else { world.reboot_strict() };
    // The second life ends without a goodbye too.
    for life in ["second", "third"] {
        let log = open(&world).unwrap_or_else(|error| panic!("{story}: the {life} life does not begin: {error}"));
        producer.check(&log, story);
        let errors = producer.errors.len();
        producer.produce(&log, 20);
        assert_eq!(producer.errors.len(), errors, "{story}: the {life} life works");
        producer.check(&log, story);
        world.disk.crash_now();
        drop(log);
        world = world.reboot();
    }
    producer.check(&open(&world).expect("the last life begins"), story);
    happened
}

#[test]
fn a_crash_at_every_named_point_loses_and_doubles_nothing() {
    for point in POINTS {
        let mut nth = 1;
        for round in 0..6 {
            let seed = nth * 31 + round;
            let reached =
                story(seed, &format!("{} hit {nth} seed {seed}", point.name()), |world| world.disk.arm(*point, nth));
            assert!(reached || nth > 1, "{} is never reached", point.name());
            nth += 1 + round;
        }
    }
}

#[test]
fn a_crash_before_every_change_of_the_disk_loses_and_doubles_nothing() {
    let mut nth = 1;
    while story(nth, &format!("crash before change {nth}"), |world| world.disk.crash_at_mutation(nth)) {
        nth += 1 + nth / 40;
        assert!(nth < 5000, "the workload ends");
    }
    assert!(nth > 60, "only {nth} changes");
}

#[test]
fn a_full_disk_at_any_write_is_told_and_loses_nothing() {
    for sticky in [false, true] {
        let mut nth = 1;
        while nth < 150 {
            story(nth, &format!("disk full at change {nth}, for good: {sticky}"), |world| {
                world.disk.fail_write_at(nth, ErrorKind::StorageFull, sticky);
            });
            nth += 1 + nth / 20;
        }
    }
}

#[test]
fn a_failing_disk_stops_writes_and_loses_nothing() {
    let mut nth = 1;
    while nth < 150 {
        story(nth, &format!("write error at change {nth}"), |world| {
            world.disk.fail_write_at(nth, ErrorKind::Other, false);
        });
        nth += 1 + nth / 20;
    }
}
