//! The store's promises on the real and on the simulated disk, and what a crash leaves.

use super::*;
use crate::LocalDisk;
use futures::StreamExt;
use futures::TryStreamExt;
use object_store::{GetRange, ObjectStoreExt, PutMode, UpdateVersion};
use rivermere_base::CrashPoint;
use rivermere_sim::SimDisk;

/// Runs a check on a store of each kind of disk.
async fn on_both<F: Future<Output = ()>>(check: impl Fn(DiskStore) -> F) {
    let folder = tempfile::tempdir().unwrap();
    check(DiskStore::new(Arc::new(LocalDisk::new()), folder.path().join("root"))).await;
    check(DiskStore::new(Arc::new(SimDisk::new(1)), "/root")).await;
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

async fn put(store: &DiskStore, location: &str, data: &str) -> PutResult {
    store.put(&path(location), data.to_owned().into()).await.unwrap()
}

async fn put_mode(store: &DiskStore, location: &str, data: &str, mode: PutMode) -> Result<PutResult> {
    store.put_opts(&path(location), data.to_owned().into(), mode.into()).await
}

async fn get(store: &DiskStore, location: &str) -> Option<String> {
    match store.get(&path(location)).await {
        Ok(found) => Some(String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn listed(store: &DiskStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(path);
    store.list(prefix.as_ref()).map_ok(|object| object.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn an_object_is_read_back_whole_and_in_ranges() {
    on_both(|store| async move {
        let put = put(&store, "a/b/c", "0123456789").await;
        assert_eq!(get(&store, "a/b/c").await.as_deref(), Some("0123456789"));
        let c = path("a/b/c");
        let head = store.head(&c).await.unwrap();
        assert_eq!((head.size, head.e_tag, head.location), (10, put.e_tag, c.clone()));
        assert_eq!(store.get_range(&c, 2..4).await.unwrap(), "23");
        assert_eq!(store.get_ranges(&c, &[0..1, 9..10, 3..20]).await.unwrap(), ["0", "9", "3456789"]);
        assert!(store.get_ranges(&c, &[10..11]).await.is_err());
        assert!(store.get_range(&c, 10..11).await.is_err());
        let ranged = |range| GetOptions { range: Some(range), ..GetOptions::default() };
        let last = store.get_opts(&c, ranged(GetRange::Suffix(3))).await.unwrap();
        assert_eq!((last.range.clone(), last.bytes().await.unwrap()), (7..10, Bytes::from("789")));
        let from = store.get_opts(&c, ranged(GetRange::Offset(8))).await.unwrap();
        assert_eq!(from.bytes().await.unwrap(), "89");
        let head = store.get_opts(&c, GetOptions { head: true, ..GetOptions::default() }).await.unwrap();
        assert_eq!(head.into_stream().count().await, 0);
    })
    .await;
}

#[tokio::test]
async fn large_and_empty_objects_are_streamed() {
    on_both(|store| async move {
        let data: String = (0..400_000).map(|n| format!("{n:07}")).collect();
        put(&store, "large", &data).await;
        assert_eq!(get(&store, "large").await, Some(data));
        put(&store, "empty", "").await;
        assert_eq!(get(&store, "empty").await.as_deref(), Some(""));
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_not_found() {
    on_both(|store| async move {
        put(&store, "a/b", "x").await;
        for missing in ["x", "x/y", "a", "a/b/c"] {
            assert_eq!(get(&store, missing).await, None, "{missing}");
            assert!(matches!(store.head(&path(missing)).await, Err(Error::NotFound { .. })), "{missing}");
            assert!(store.rename(&path(missing), &path("z")).await.is_err(), "{missing}");
            assert!(matches!(store.copy(&path(missing), &path("z")).await, Err(Error::NotFound { .. })), "{missing}");
        }
        assert!(matches!(store.delete(&path("x")).await, Err(Error::NotFound { .. })));
        assert_eq!(listed(&store, Some("x")).await, [""; 0]);
        assert_eq!(listed(&store, Some("a/b")).await, [""; 0], "an object is no prefix");
    })
    .await;
}

#[tokio::test]
async fn create_never_replaces() {
    on_both(|store| async move {
        put_mode(&store, "log/1", "first", PutMode::Create).await.unwrap();
        let error = put_mode(&store, "log/1", "second", PutMode::Create).await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(get(&store, "log/1").await.as_deref(), Some("first"));
        put(&store, "b", "b").await;
        assert!(matches!(store.copy_if_not_exists(&path("b"), &path("log/1")).await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(
            store.rename_if_not_exists(&path("b"), &path("log/1")).await,
            Err(Error::AlreadyExists { .. })
        ));
        assert_eq!(listed(&store, None).await, ["b", "log/1"], "nothing stays behind");
    })
    .await;
}

#[tokio::test]
async fn of_many_creators_one_wins() {
    on_both(|store| async move {
        let attempts = (0..16).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { put_mode(&store, "log/1", &n.to_string(), PutMode::Create).await.map(|_| n) })
        });
        let won: Vec<_> =
            futures::future::join_all(attempts).await.into_iter().filter_map(|done| done.unwrap().ok()).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(get(&store, "log/1").await, Some(won[0].to_string()));
    })
    .await;
}

#[tokio::test]
async fn update_replaces_only_the_version_it_names() {
    on_both(|store| async move {
        let version = |put: &PutResult| PutMode::Update(UpdateVersion::from(put.clone()));
        let first = put(&store, "a", "1").await;
        let second = put_mode(&store, "a", "2", version(&first)).await.unwrap();
        assert_ne!(first.e_tag, second.e_tag, "the same length at the same time");
        let error = put_mode(&store, "a", "3", version(&first)).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert_eq!(get(&store, "a").await.as_deref(), Some("2"));
        let error = put_mode(&store, "missing", "3", version(&second)).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
        assert_eq!(get(&store, "missing").await, None);
    })
    .await;
}

#[tokio::test]
async fn updates_of_many_writers_are_all_counted() {
    on_both(|store| async move {
        put(&store, "count", "0").await;
        let writers = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 5 {
                    let found = store.get(&path("count")).await.unwrap();
                    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: None };
                    let count: u32 = std::str::from_utf8(&found.bytes().await.unwrap()).unwrap().parse().unwrap();
                    match put_mode(&store, "count", &(count + 1).to_string(), PutMode::Update(version)).await {
                        Ok(_) => done += 1,
                        Err(Error::Precondition { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        futures::future::join_all(writers).await.into_iter().for_each(|done| done.unwrap());
        assert_eq!(get(&store, "count").await.as_deref(), Some("20"));
    })
    .await;
}

#[tokio::test]
async fn conditions_of_reading() {
    on_both(|store| async move {
        let tag = put(&store, "a", "1").await.e_tag;
        let a = path("a");
        let matching = GetOptions { if_match: tag.clone(), ..GetOptions::default() };
        assert!(store.get_opts(&a, matching).await.is_ok());
        let other = GetOptions { if_match: Some("other".into()), ..GetOptions::default() };
        assert!(matches!(store.get_opts(&a, other).await, Err(Error::Precondition { .. })));
        let changed = GetOptions { if_none_match: tag, ..GetOptions::default() };
        assert!(matches!(store.get_opts(&a, changed).await, Err(Error::NotModified { .. })));
    })
    .await;
}

#[tokio::test]
async fn objects_are_listed_in_order_with_and_without_levels() {
    on_both(|store| async move {
        for name in ["b", "a/2", "a/1", "a.b", "a/c/d", "aa"] {
            put(&store, name, name).await;
        }
        assert_eq!(listed(&store, None).await, ["a.b", "a/1", "a/2", "a/c/d", "aa", "b"]);
        assert_eq!(listed(&store, Some("a")).await, ["a/1", "a/2", "a/c/d"]);
        let after: Vec<_> =
            store.list_with_offset(None, &path("a/2")).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
        assert_eq!(after, ["a/c/d", "aa", "b"]);
        let level = store.list_with_delimiter(Some(&path("a"))).await.unwrap();
        assert_eq!(level.common_prefixes, [path("a/c")]);
        assert_eq!(level.objects.iter().map(|o| o.location.as_ref()).collect::<Vec<_>>(), ["a/1", "a/2"]);
        assert_eq!(store.list_with_delimiter(None).await.unwrap().common_prefixes, [path("a")]);
    })
    .await;
}

#[tokio::test]
async fn paths_are_file_names_as_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::new(Arc::new(LocalDisk::new()), folder.path());
    let other = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let names =
        ["day=a%20b/x", "day=2013-01-01 00%3A00/x", "é/x y", "p=__HIVE_DEFAULT_PARTITION__/#a", "100%/x", "q?=1&/x"];
    for name in names {
        put(&store, name, name).await;
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), name);
        assert_eq!(other.get(&path(name)).await.unwrap().bytes().await.unwrap(), name, "{name}");
    }
    let mut expected = names.to_vec();
    expected.sort();
    assert_eq!(listed(&store, None).await, expected);
    let mut theirs: Vec<_> = other.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
    theirs.sort();
    assert_eq!(theirs, expected);
    other.put(&path("by=them%2F/x"), "theirs".into()).await.unwrap();
    assert_eq!(get(&store, "by=them%2F/x").await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn files_being_written_are_no_objects() {
    on_both(|store| async move {
        let mut upload = store.put_multipart(&path("a/b")).await.unwrap();
        upload.put_part("x".into()).await.unwrap();
        assert_eq!(listed(&store, None).await, [""; 0]);
        assert!(store.list_with_delimiter(Some(&path("a"))).await.unwrap().objects.is_empty());
        for refused in ["a/b#1", "a#22"] {
            assert!(matches!(store.put(&path(refused), "x".into()).await, Err(Error::Generic { .. })));
            assert!(store.get(&path(refused)).await.is_err());
        }
        assert!(store.put(&Path::default(), "x".into()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_upload_appears_whole_when_it_is_complete() {
    on_both(|store| async move {
        put(&store, "a", "old").await;
        let mut upload = store.put_multipart(&path("a")).await.unwrap();
        let (one, two) = (upload.put_part("one ".into()), upload.put_part("two".into()));
        two.await.unwrap();
        one.await.unwrap();
        assert_eq!(get(&store, "a").await.as_deref(), Some("old"));
        let done = upload.complete().await.unwrap();
        assert_eq!(get(&store, "a").await.as_deref(), Some("one two"));
        assert_eq!(store.head(&path("a")).await.unwrap().e_tag, done.e_tag);
        assert!(upload.complete().await.is_err() && upload.put_part("x".into()).await.is_err());
        let mut upload = store.put_multipart(&path("b")).await.unwrap();
        upload.put_part("x".into()).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(listed(&store, None).await, ["a"]);
        assert_eq!(store.root.disk.read_dir(&store.root.folder).unwrap().len(), 1, "an aborted upload leaves nothing");
    })
    .await;
}

#[tokio::test]
async fn copies_renames_and_removals() {
    on_both(|store| async move {
        let data = "x".repeat(3 << 20);
        put(&store, "a", &data).await;
        put(&store, "c/d", "old").await;
        store.copy(&path("a"), &path("c/d")).await.unwrap();
        assert_eq!(get(&store, "c/d").await.as_ref(), Some(&data));
        store.copy_if_not_exists(&path("a"), &path("e")).await.unwrap();
        store.rename(&path("a"), &path("f/g")).await.unwrap();
        store.rename_if_not_exists(&path("e"), &path("f/h")).await.unwrap();
        assert_eq!(listed(&store, None).await, ["c/d", "f/g", "f/h"]);
        let all = store.list(None).map_ok(|object| object.location).boxed();
        assert_eq!(store.delete_stream(all).try_collect::<Vec<_>>().await.unwrap().len(), 3);
        assert_eq!(listed(&store, None).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn attributes_are_refused_rather_than_lost() {
    let store = DiskStore::new(Arc::new(SimDisk::new(1)), "/");
    let attributes = [(object_store::Attribute::ContentType, "text/plain")].into_iter().collect();
    let options = PutOptions { attributes, ..PutOptions::default() };
    assert!(matches!(store.put_opts(&path("a"), "x".into(), options).await, Err(Error::NotImplemented { .. })));
}

/// Crashes at every mutation of `action` and checks what each crash leaves, with the seed's choice of what survives.
async fn crash_everywhere<F: Future<Output = Result<()>>>(
    prepare: impl AsyncFn(&DiskStore),
    action: impl Fn(DiskStore) -> F,
    check: impl AsyncFn(&DiskStore, bool),
) {
    for mutation in 1.. {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let store = DiskStore::new(Arc::new(disk.clone()), "/root");
            prepare(&store).await;
            disk.crash_at_mutation(mutation);
            let done = action(store).await;
            let crashed = disk.is_crashed();
            assert!(done.is_ok() || crashed);
            check(&DiskStore::new(Arc::new(disk.reboot()), "/root"), done.is_ok()).await;
            if !crashed {
                assert!(mutation > 3, "the action changed nothing");
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_crash_leaves_the_old_or_the_new_object_and_the_new_one_once_it_was_acknowledged() {
    let long = "new".repeat(1000);
    crash_everywhere(
        async |store| drop(put(store, "a/b", "old").await),
        |store| {
            let long = long.clone();
            async move { store.put(&path("a/b"), long.into()).await.map(drop) }
        },
        async |store, acknowledged| {
            let found = get(store, "a/b").await.unwrap();
            assert!(found == long || (!acknowledged && found == "old"), "{acknowledged} {found}");
            assert_eq!(listed(store, None).await, ["a/b"]);
            put(store, "a/b", "again").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_crash_leaves_a_whole_created_object_or_none() {
    crash_everywhere(
        async |_| {},
        |store| async move { put_mode(&store, "log/1", "commit", PutMode::Create).await.map(drop) },
        async |store, acknowledged| {
            let found = get(store, "log/1").await;
            assert!(
                found.as_deref() == Some("commit") || (!acknowledged && found.is_none()),
                "{acknowledged} {found:?}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_crash_leaves_a_renamed_object_at_one_place() {
    crash_everywhere(
        async |store| drop(put(store, "a/1", "x").await),
        |store| async move { store.rename_if_not_exists(&path("a/1"), &path("b/1")).await },
        async |store, acknowledged| {
            let (old, new) = (get(store, "a/1").await, get(store, "b/1").await);
            assert_ne!(old.is_some(), new.is_some());
            assert!(new.is_some() || !acknowledged);
        },
    )
    .await;
}

#[tokio::test]
async fn every_crash_point_of_the_store_is_reached() {
    let disk = SimDisk::new(1);
    put(&DiskStore::new(Arc::new(disk.clone()), "/"), "a", "x").await;
    let points = [
        CrashPoint::BeforeObjectWrite,
        CrashPoint::AfterObjectWrite,
        CrashPoint::AfterObjectSync,
        CrashPoint::AfterObjectRename,
    ];
    assert_eq!(disk.hits(), points.map(|point| (point, 1)).into());
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_nothing_visible() {
    for nth in 1..6 {
        let disk = SimDisk::new(nth);
        let store = DiskStore::new(Arc::new(disk.clone()), "/");
        disk.fail_write_at(nth, std::io::ErrorKind::StorageFull, true);
        assert!(store.put(&path("a/b"), "x".into()).await.is_err(), "{nth}");
        disk.clear_faults();
        assert!(listed(&store, None).await.len() <= 1);
        put(&store, "a/b", "y").await;
        assert_eq!(get(&store, "a/b").await.as_deref(), Some("y"));
    }
}
