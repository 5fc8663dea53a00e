//! What was acknowledged is there after any end of the process; what was not is there whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rivermere_base::{Offset, PartitionId};
use rivermere_log::{Log, LogError, LogOptions};

use crate::support::*;

#[test]
fn an_append_is_read_back_before_and_after_a_clean_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogOptions::tiny());
    let flights = create(&log, "flights", 2);
    let mut expect = Vec::new();
    for round in 0..200 {
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        assert_eq!(append(&log, &flights, 0, &[&one, &two]).unwrap(), round * 2);
        expect.extend([one, two]);
    }
    append(&log, &flights, 1, &["other"]).unwrap();
    assert_eq!(values(&log, &flights, 0), expect);
    log.close().unwrap();
    assert!(matches!(append(&log, &flights, 0, &["late"]), Err(LogError::Closed)));
    drop(log);

    let log = open(dir.path(), LogOptions::tiny());
    assert_eq!(log.metrics().frames_recovered, 0, "a clean end leaves nothing to recover");
    assert_eq!(values(&log, &flights, 0), expect);
    assert_eq!(values(&log, &flights, 1), ["other"]);
    assert_eq!(append(&log, &flights, 0, &["next"]).unwrap(), 400);
    let wal_files = fs::read_dir(dir.path().join("wal")).unwrap().count();
    assert!(wal_files <= 4, "{wal_files} write-ahead files are kept");
}

#[test]
fn markers_and_their_records_are_one_unit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogOptions::tiny());
    let (a, b) = (create(&log, "a", 1), create(&log, "b", 1));
    let entries = vec![
        (a.clone(), PartitionId(0), batch(&["1", "2"])),
        (b.clone(), PartitionId(0), batch(&["3"])),
        (a.clone(), PartitionId(0), batch(&["4"])),
    ];
    let appended = log.append_atomic(entries, Some(("sink".into(), Bytes::from_static(b"epoch 1")))).wait().unwrap();
    assert_eq!(appended.iter().map(|one| one.base_offset.0).collect::<Vec<_>>(), [0, 0, 2]);
    let bad = vec![(a.clone(), PartitionId(0), batch(&["5"])), (b.clone(), PartitionId(9), batch(&["6"]))];
    assert!(log.append_atomic(bad, Some(("sink".into(), Bytes::from_static(b"epoch 2")))).wait().is_err());
    drop(log);
    let log = open(dir.path(), LogOptions::tiny());
    assert_eq!(log.marker("sink").unwrap(), "epoch 1");
    assert_eq!(
        (values(&log, &a, 0), values(&log, &b, 0)),
        (vec!["1".into(), "2".into(), "4".into()], vec!["3".into()])
    );
}

/// A folder as a killed process leaves it: nothing closed, no last checkpoint.
fn killed(options: &LogOptions, write: impl Fn(&Log)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir.path().join("live"), options.clone());
    write(&log);
    let copy = dir.path().join("copy");
    copy_dir(&dir.path().join("live"), &copy);
    (dir, copy)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to)
        } else {
            drop(fs::copy(entry.path(), to))
        }
    }
}

/// Position, length and LSN of each frame of a write-ahead file.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut out) = (32, Vec::new());
    while bytes.get(at..at + 4) == Some(b"RMF1") {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        out.push((at, length));
        at += length;
    }
    out
}

fn only_wal(dir: &Path) -> PathBuf {
    dir.join("wal/00000000000000000001.wal")
}

#[test]
fn a_cut_at_every_byte_of_the_last_frame_loses_that_frame_only() {
    let options = LogOptions { wal_first_file_bytes: 1 << 16, ..LogOptions::default() };
    let (_dir, copy) = killed(&options, |log| {
        let flights = create(log, "flights", 1);
        append(log, &flights, 0, &["one"]).unwrap();
        append(log, &flights, 0, &["two"]).unwrap();
        append(log, &flights, 0, &["three"]).unwrap();
    });
    let whole = fs::read(only_wal(&copy)).unwrap();
    let (at, length) = *frames(&whole).last().unwrap();
    for cut in 0..length {
        let mut torn = whole.clone();
        torn[at + cut..].fill(0);
        fs::remove_dir_all(&copy.join("topics")).unwrap();
        fs::write(only_wal(&copy), &torn).unwrap();
        let log = open(&copy, options.clone());
        // The last bytes of the frame may be zeros anyway; then nothing was torn.
        let expect: &[&str] =
            if torn[..at + length] == whole[..at + length] { &["one", "two", "three"] } else { &["one", "two"] };
        assert_eq!(values(&log, &topic("flights"), 0), expect, "cut at {cut}");
        append(&log, &topic("flights"), 0, &["again"]).unwrap();
        assert_eq!(values(&log, &topic("flights"), 0).last().unwrap(), "again");
        drop(log);
        fs::remove_dir_all(copy.join("meta")).unwrap();
        fs::remove_dir_all(copy.join("wal")).unwrap();
        fs::create_dir_all(copy.join("wal")).unwrap();
    }
}

#[test]
fn damage_before_a_whole_frame_is_refused_at_every_byte() {
    let options = LogOptions { wal_first_file_bytes: 1 << 16, ..LogOptions::default() };
    let (_dir, copy) = killed(&options, |log| {
        let flights = create(log, "flights", 1);
        append(log, &flights, 0, &["one"]).unwrap();
        append(log, &flights, 0, &["two"]).unwrap();
    });
    let whole = fs::read(only_wal(&copy)).unwrap();
    let all = frames(&whole);
    let (at, length) = all[all.len() - 2];
    for byte in at..at + length {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x40;
        fs::write(only_wal(&copy), &damaged).unwrap();
        let refused = Log::open(local(), &copy, options.clone());
        assert!(matches!(refused, Err(LogError::Corrupt { .. })), "byte {byte}: {refused:?}");
    }
}

#[test]
fn a_log_without_power_comes_back_whole_across_all_file_borders() {
    let mut world = rivermere_sim::World::new(11);
    let open = |world: &rivermere_sim::World| Log::open(world.doors(), Path::new("/log"), LogOptions::tiny()).unwrap();
    let log = open(&world);
    let flights = create(&log, "flights", 3);
    for round in 0..150 {
        append(&log, &flights, round % 3, &[&format!("value {round}")]).unwrap();
    }
    for _ in 0..2 {
        world.disk.crash_now();
        world = world.reboot();
        let log = open(&world);
        let mut all: Vec<_> = (0..3).flat_map(|partition| values(&log, &flights, partition)).collect();
        all.sort_by_key(|value| value["value ".len()..].parse::<i32>().unwrap());
        assert_eq!(all, (0..150).map(|round| format!("value {round}")).collect::<Vec<_>>());
    }
}

#[test]
fn topics_are_created_once_deleted_with_their_files_and_can_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogOptions::tiny());
    let flights = create(&log, "flights", 1);
    append(&log, &flights, 0, &["old"]).unwrap();
    assert!(matches!(log.create_topic(&flights, Default::default()), Err(LogError::AlreadyExists { .. })));
    let id = log.topic(&flights).unwrap().id;
    log.delete_topic(&flights).unwrap();
    assert!(matches!(log.read(&flights, PartitionId(0), Offset(0), 1), Err(LogError::UnknownTopic { .. })));
    create(&log, "flights", 1);
    assert_ne!(log.topic(&flights).unwrap().id, id);
    append(&log, &flights, 0, &["new"]).unwrap();
    drop(log);
    let log = open(dir.path(), LogOptions::tiny());
    assert_eq!(values(&log, &flights, 0), ["new"]);
    assert!(!dir.path().join("topics").join(id.to_string()).exists());
}

#[test]
fn offsets_are_found_by_time_in_memory_and_in_segments() {
    let dir = tempfile::tempdir().unwrap();
    let flights = topic("flights");
    let at = |log: &Log, ms| log.offset_at(&flights, PartitionId(0), ms).unwrap().map(|(offset, _)| offset.0);
    let check = |log: &Log| {
        assert_eq!((at(log, 0), at(log, 1000), at(log, 1001), at(log, 2490)), (Some(0), Some(0), Some(1), Some(149)));
        assert_eq!(at(log, 2491), None);
        assert_eq!(log.offset_of_newest(&flights, PartitionId(0)).unwrap(), Some((Offset(149), 2490)));
    };
    let log = open(dir.path(), LogOptions::tiny());
    create(&log, "flights", 1);
    for n in 0..150 {
        let record = rivermere_log::records::Record { timestamp_ms: 1000 + n * 10, ..Default::default() };
        let batch = rivermere_log::records::encode(&[record], Default::default()).unwrap();
        log.append(&flights, PartitionId(0), batch).wait().unwrap();
    }
    check(&log);
    drop(log);
    check(&open(dir.path(), LogOptions::tiny()));
}
