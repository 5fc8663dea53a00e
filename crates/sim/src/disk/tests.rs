//! Each promise of the `Disk` door, and each way of losing what was not promised.

use super::*;
use std::collections::BTreeSet;
use std::io::ErrorKind;

fn create(disk: &SimDisk, path: &str, data: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(Path::new(path), OpenMode::Write).unwrap();
    file.write_all_at(data, 0).unwrap();
    file
}

/// A file whose name and contents are durable.
fn keep(disk: &SimDisk, path: &str, data: &[u8]) {
    create(disk, path, data).sync_data().unwrap();
    disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
}

fn read(disk: &SimDisk, path: &str) -> Option<String> {
    match disk.read(Path::new(path)) {
        Ok(bytes) => Some(String::from_utf8(bytes).unwrap()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            None
        }
    }
}

/// Every outcome that `check` sees over many seeds.
fn outcomes<T: Ord>(prepare: impl Fn(&SimDisk), check: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..60)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            prepare(&disk);
            check(&disk.reboot())
        })
        .collect()
}

#[test]
fn synced_contents_under_a_synced_name_survive() {
    let disk = SimDisk::new(1);
    keep(&disk, "/a", b"kept");
    assert_eq!(read(&disk.reboot(), "/a").as_deref(), Some("kept"));
}

#[test]
fn synced_contents_under_an_unsynced_name_are_lost_or_not() {
    let found = outcomes(|disk| create(disk, "/a", b"x").sync_data().unwrap(), |disk| read(disk, "/a"));
    assert_eq!(found, [None, Some("x".to_owned())].into());
}

#[test]
fn unsynced_contents_under_a_synced_name_are_lost_or_not() {
    let prepare = |disk: &SimDisk| {
        create(disk, "/a", b"x");
        disk.sync_dir(Path::new("/")).unwrap();
    };
    let found = outcomes(prepare, |disk| read(disk, "/a"));
    assert_eq!(found, ["", "\0", "x"].map(|text| Some(text.to_owned())).into());
}

#[test]
fn a_strict_reboot_keeps_nothing_unsynced() {
    let disk = SimDisk::new(1);
    keep(&disk, "/a", b"old");
    create(&disk, "/a", b"new");
    create(&disk, "/b", b"b");
    disk.rename(Path::new("/a"), Path::new("/c")).unwrap();
    let disk = disk.reboot_strict();
    assert_eq!(["/a", "/b", "/c"].map(|path| read(&disk, path)), [Some("old".to_owned()), None, None]);
}

#[test]
fn an_unsynced_rename_happened_or_did_not_and_nothing_between() {
    let prepare = |disk: &SimDisk| {
        keep(disk, "/new", b"new");
        keep(disk, "/old", b"old");
        disk.rename(Path::new("/new"), Path::new("/old")).unwrap();
    };
    let found = outcomes(prepare, |disk| (read(disk, "/new"), read(disk, "/old")));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found, [(text("new"), text("old")), (None, text("new"))].into());
}

#[test]
fn syncing_the_target_folder_of_a_rename_makes_it_whole() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/from")).unwrap();
    disk.create_dir_all(Path::new("/to")).unwrap();
    create(&disk, "/from/a", b"a").sync_data().unwrap();
    disk.rename(Path::new("/from/a"), Path::new("/to/a")).unwrap();
    disk.sync_dir(Path::new("/to")).unwrap();
    let disk = disk.reboot_strict();
    assert_eq!((read(&disk, "/from/a"), read(&disk, "/to/a")), (None, Some("a".to_owned())));
}

#[test]
fn an_unsynced_removal_is_lost_or_not() {
    let prepare = |disk: &SimDisk| {
        keep(disk, "/a", b"a");
        disk.remove_file(Path::new("/a")).unwrap();
    };
    assert_eq!(outcomes(prepare, |disk| read(disk, "/a").is_some()), [false, true].into());
}

#[test]
fn a_name_never_skips_back_over_an_earlier_change_of_it() {
    let prepare = |disk: &SimDisk| {
        keep(disk, "/a", b"1");
        disk.remove_file(Path::new("/a")).unwrap();
        create(disk, "/a", b"2").sync_data().unwrap();
        disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    };
    let found = outcomes(prepare, |disk| (read(disk, "/a"), read(disk, "/b")));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found, [(text("1"), None), (None, None), (text("2"), None), (None, text("2"))].into());
}

#[test]
fn folders_are_durable_when_made() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/a/b/c")).unwrap();
    disk.create_dir_all(Path::new("/a/b/c")).unwrap();
    assert!(disk.reboot_strict().metadata(Path::new("/a/b/c")).unwrap().is_dir);
}

#[test]
fn removing_a_folder_may_stop_anywhere() {
    let prepare = |disk: &SimDisk| {
        disk.create_dir_all(Path::new("/d")).unwrap();
        keep(disk, "/d/1", b"1");
        keep(disk, "/d/2", b"2");
        disk.remove_dir_all(Path::new("/d")).unwrap();
        assert_eq!(disk.read_dir(Path::new("/d")).unwrap_err().kind(), ErrorKind::NotFound);
    };
    let found = outcomes(prepare, |disk| disk.read_dir(Path::new("/d")).map(|entries| entries.len()).ok());
    assert_eq!(found, [None, Some(0), Some(1), Some(2)].into());
}

#[test]
fn nothing_works_after_a_crash() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a", b"a");
    disk.crash_now();
    assert!(disk.is_crashed());
    assert!(file.write_all_at(b"b", 0).is_err() && file.sync_data().is_err() && file.len().is_err());
    assert!(file.read_exact_at(&mut [0], 0).is_err() && file.set_len(0).is_err());
    let (a, b) = (Path::new("/a"), Path::new("/b"));
    assert!(disk.open(a, OpenMode::Read).is_err() && disk.open(b, OpenMode::Write).is_err());
    assert!(disk.create_dir_all(b).is_err() && disk.read_dir(Path::new("/")).is_err() && disk.metadata(a).is_err());
    assert!(disk.rename(a, b).is_err() && disk.rename_new(a, b).is_err() && disk.remove_file(a).is_err());
    assert!(disk.remove_dir_all(a).is_err() && disk.sync_dir(Path::new("/")).is_err());
    let error = disk.read(a).unwrap_err();
    assert!(error.to_string().contains("has crashed"), "{error}");
}

#[test]
fn an_armed_point_crashes_at_its_nth_hit_and_hits_are_counted() {
    let disk = SimDisk::new(1);
    disk.arm(CrashPoint::AfterWalSync, 2);
    disk.crash_point(CrashPoint::AfterWalSync);
    disk.crash_point(CrashPoint::AfterWalWrite);
    assert!(!disk.is_crashed());
    disk.crash_point(CrashPoint::AfterWalSync);
    assert!(disk.is_crashed());
    disk.crash_point(CrashPoint::AfterWalSync);
    assert_eq!(disk.hits(), [(CrashPoint::AfterWalSync, 2), (CrashPoint::AfterWalWrite, 1)].into());
}

#[test]
fn a_crash_at_a_mutation_comes_before_its_effect() {
    let disk = SimDisk::new(1);
    keep(&disk, "/a", b"old");
    disk.crash_at_mutation(3);
    let file = create(&disk, "/a", b"new");
    assert!(file.sync_data().is_err());
    assert_eq!(read(&disk.reboot_strict(), "/a").as_deref(), Some("old"));
}

#[test]
fn a_fault_hits_one_mutation_or_all_later_ones() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a", b"a");
    disk.fail_write_at(2, ErrorKind::StorageFull, false);
    file.write_all_at(b"b", 0).unwrap();
    assert_eq!(file.write_all_at(b"c", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"d", 0).unwrap();
    disk.fail_write_at(1, ErrorKind::StorageFull, true);
    for _ in 0..3 {
        assert_eq!(file.set_len(0).unwrap_err().kind(), ErrorKind::StorageFull);
    }
    assert_eq!(read(&disk, "/a").as_deref(), Some("d"), "reading a full disk works");
    disk.clear_faults();
    file.set_len(0).unwrap();
}

#[test]
fn a_failed_write_leaves_some_first_part() {
    let lengths: BTreeSet<u64> = (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
            disk.fail_write_at(1, ErrorKind::StorageFull, false);
            file.write_all_at(b"abc", 0).unwrap_err();
            file.len().unwrap()
        })
        .collect();
    assert_eq!(lengths, [0, 1, 2, 3].into());
}

#[test]
fn operations_are_counted() {
    let disk = SimDisk::new(1);
    keep(&disk, "/a", b"abc");
    disk.metadata(Path::new("/a")).unwrap();
    let expected = Operations { reads: 1, mutations: 4, syncs: 2, bytes_written: 3 };
    assert_eq!(disk.operations(), expected);
}

#[test]
fn the_same_seed_loses_the_same() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        for name in 0..20 {
            create(&disk, &format!("/{name}"), &[name; 3000]);
        }
        let disk = disk.reboot();
        let entries = disk.read_dir(Path::new("/")).unwrap();
        entries.iter().map(|entry| disk.read(&entry.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a", b"a");
    disk.remove_file(Path::new("/a")).unwrap();
    file.write_all_at(b"b", 1).unwrap();
    assert_eq!(file.len().unwrap(), 2);
    assert_eq!(read(&disk, "/a"), None);
}

#[test]
fn misuse_is_refused_as_a_real_disk_refuses_it() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/d/e")).unwrap();
    create(&disk, "/a", b"a");
    let [a, b, d, inside] = ["/a", "/b", "/d", "/d/e/f"].map(Path::new);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(disk.open(a, OpenMode::CreateNew).map(drop)), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open(b, OpenMode::Read).map(drop)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open(d, OpenMode::Write).map(drop)), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.open(Path::new("/x/y"), OpenMode::Write).map(drop)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open(Path::new("/a/y"), OpenMode::Write).map(drop)), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.open(Path::new("/d/../a"), OpenMode::Read).map(drop)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create_dir_all(a)), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename(b, a)), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(a, d)), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.rename(d, a)), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename(d, inside)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.rename_new(a, a)), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.remove_file(d)), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove_dir_all(a)), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.sync_dir(a)), ErrorKind::NotADirectory);
    let reader = disk.open(a, OpenMode::Read).unwrap();
    assert_eq!(kind(reader.write_all_at(b"x", 0)), ErrorKind::PermissionDenied);
}
