//! What every storage promises to the lake above it.

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result, UpdateVersion,
};
use rivermere_store::{Scheme, Storage};
use std::sync::Arc;

/// Where storages differ.
#[derive(Clone, Copy)]
pub struct Promises {
    /// An object is replaced only while it has a certain tag.
    pub update: bool,
    /// Objects are stamped with the time of this machine.
    pub wall_clock: bool,
    /// Bytes of one part of an upload; the simulated disk keeps every version of everything.
    pub part: usize,
    /// Objects in a long listing: more than two pages of S3 and OCI, which have 1,000 on each.
    pub many: usize,
}

impl Promises {
    pub const ALL: Self = Self { update: true, wall_clock: true, part: 6 << 20, many: 2_100 };
}

/// Writers that want to create the same object.
const RACERS: usize = 16;

/// Objects below a prefix of their own.
struct World {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl World {
    fn path(&self, inner: &str) -> Path {
        Path::parse(format!("{}/{inner}", self.root)).unwrap()
    }

    async fn put(&self, inner: &str, data: &str) {
        let payload = PutPayload::from(data.to_owned());
        self.store.put(&self.path(inner), payload).await.unwrap_or_else(|error| panic!("put {inner}: {error}"));
    }

    async fn create(&self, inner: &str, data: String) -> Result<()> {
        self.store.put_opts(&self.path(inner), data.into(), PutMode::Create.into()).await.map(drop)
    }

    async fn get(&self, inner: &str) -> Option<String> {
        match self.store.get(&self.path(inner)).await {
            Ok(found) => Some(String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("get {inner}: {error}"),
        }
    }

    /// Inner paths of what is below `inner`, sorted.
    async fn list(&self, inner: &str) -> Vec<String> {
        let found: Vec<_> = self.store.list(Some(&self.path(inner))).try_collect().await.unwrap();
        let mut found: Vec<_> = found.iter().map(|object| self.inner(&object.location)).collect();
        found.sort();
        found
    }

    fn inner(&self, path: &Path) -> String {
        path.as_ref().strip_prefix(self.root.as_ref()).unwrap().trim_start_matches('/').to_owned()
    }
}

/// Runs the whole contract below the storage's path, which must be empty.
pub async fn assert_contract(storage: &Storage, promises: Promises) {
    let world = World { store: storage.store(), root: storage.path().clone() };
    storage.prove_create_only(crate::opened::doors().rng.as_ref()).await.unwrap();
    assert_eq!(world.list("").await, [""; 0], "a proof leaves something behind");
    objects_are_put_got_replaced_and_removed(&world, promises.wall_clock).await;
    what_is_missing_is_not_found(&world).await;
    ranges_are_read_from_start_middle_and_end(&world).await;
    names_are_kept_as_they_are(&world).await;
    listings_know_folders(&world).await;
    long_listings_are_whole(&world, promises.many).await;
    one_of_many_creators_wins(&world).await;
    if promises.update {
        a_stale_writer_does_not_replace(&world).await;
    } else {
        an_update_is_refused_by_name(&world).await;
    }
    copies_and_renames(&world).await;
    large_objects_arrive_in_parts(&world, promises.part).await;
    an_aborted_upload_leaves_nothing(&world, promises.part).await;
    assert_eq!(format!("{storage:?}"), format!("Storage({storage})"));
    if storage.scheme() != Scheme::File {
        assert_eq!(format!("{:?}", world.store), format!("Guarded({storage})"), "clients print their credentials");
    }
}

async fn objects_are_put_got_replaced_and_removed(world: &World, wall_clock: bool) {
    world.put("plain/a", "one").await;
    assert_eq!(world.get("plain/a").await.as_deref(), Some("one"));
    world.put("plain/a", "two and more").await;
    assert_eq!(world.get("plain/a").await.as_deref(), Some("two and more"));
    world.put("plain/empty", "").await;
    assert_eq!(world.get("plain/empty").await.as_deref(), Some(""));
    let head = world.store.head(&world.path("plain/a")).await.unwrap();
    assert_eq!((head.size, head.location.clone()), (12, world.path("plain/a")));
    let age = chrono::Utc::now() - head.last_modified;
    assert!(age.num_minutes().abs() < 10 || !wall_clock, "{age}");
    assert!(head.e_tag.is_some());
    world.store.delete(&world.path("plain/a")).await.unwrap();
    assert_eq!(world.get("plain/a").await, None);
    assert_eq!(world.list("plain").await, ["plain/empty"]);
}

async fn what_is_missing_is_not_found(world: &World) {
    let missing = world.path("missing/a");
    let is_not_found = |error: &Error| matches!(error, Error::NotFound { .. });
    assert!(is_not_found(&world.store.get(&missing).await.unwrap_err()));
    assert!(is_not_found(&world.store.head(&missing).await.unwrap_err()));
    assert!(is_not_found(&world.store.get_range(&missing, 0..1).await.unwrap_err()));
    assert!(is_not_found(&world.store.copy(&missing, &world.path("missing/b")).await.unwrap_err()));
    // S3 does not tell whether there was anything to remove.
    if let Err(error) = world.store.delete(&missing).await {
        assert!(is_not_found(&error), "{error}");
    }
    assert_eq!(world.list("missing").await, [""; 0]);
    // A folder is not an object.
    world.put("missing/folder/a", "x").await;
    assert!(is_not_found(&world.store.get(&world.path("missing/folder")).await.unwrap_err()));
}

async fn ranges_are_read_from_start_middle_and_end(world: &World) {
    world.put("ranges", "0123456789").await;
    let path = world.path("ranges");
    assert_eq!(world.store.get_range(&path, 2..5).await.unwrap(), "234");
    let ranges = [0..1, 9..10, 4..6];
    assert_eq!(world.store.get_ranges(&path, &ranges).await.unwrap(), ["0", "9", "45"]);
    for (range, expected) in [(GetRange::Suffix(3), "789"), (GetRange::Offset(7), "789"), ((8..100).into(), "89")] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let found = world.store.get_opts(&path, options).await.unwrap();
        assert_eq!(found.meta.size, 10);
        assert_eq!(found.bytes().await.unwrap(), expected);
    }
    world.store.get_range(&path, 10..11).await.unwrap_err();
}

async fn names_are_kept_as_they_are(world: &World) {
    let names = ["day=a b/x", "per%20cent/100%", "grüße/日本", "a+b&c=d/e", "q?x", "hash#tag", "dots.../..x", "~tilde"];
    for name in names {
        world.put(&format!("names/{name}"), name).await;
    }
    for name in names {
        assert_eq!(world.get(&format!("names/{name}")).await.as_deref(), Some(name), "{name}");
    }
    let mut expected = names.map(|name| format!("names/{name}"));
    expected.sort();
    assert_eq!(world.list("names").await, expected);
    let level = world.store.list_with_delimiter(Some(&world.path("names"))).await.unwrap();
    let mut folders: Vec<_> = level.common_prefixes.iter().map(|prefix| world.inner(prefix)).collect();
    folders.sort();
    let expected = ["names/a+b&c=d", "names/day=a b", "names/dots...", "names/grüße", "names/per%20cent"];
    assert_eq!(folders, expected);
    let all: Vec<_> = names.iter().map(|name| Ok(world.path(&format!("names/{name}")))).collect();
    let removed: Vec<_> =
        world.store.delete_stream(futures::stream::iter(all).boxed()).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(removed.len(), names.len());
    assert_eq!(world.list("names").await, [""; 0]);
}

async fn listings_know_folders(world: &World) {
    for name in ["list/a", "list/b/1", "list/b/2", "list/b/c/3", "list/bb/4"] {
        world.put(name, "x").await;
    }
    assert_eq!(world.list("list/b").await, ["list/b/1", "list/b/2", "list/b/c/3"]);
    let level = world.store.list_with_delimiter(Some(&world.path("list"))).await.unwrap();
    let mut folders: Vec<_> = level.common_prefixes.iter().map(|prefix| world.inner(prefix)).collect();
    folders.sort();
    assert_eq!(folders, ["list/b", "list/bb"]);
    let objects: Vec<_> = level.objects.iter().map(|object| world.inner(&object.location)).collect();
    assert_eq!(objects, ["list/a"]);
    // What is a prefix of names, but no folder, has nothing below it.
    assert_eq!(world.list("lis").await, [""; 0]);
    let after = world.path("list/b/2");
    let later: Vec<_> = world.store.list_with_offset(Some(&world.path("list")), &after).try_collect().await.unwrap();
    let mut later: Vec<_> = later.iter().map(|object| world.inner(&object.location)).collect();
    later.sort();
    assert_eq!(later, ["list/b/c/3", "list/bb/4"]);
}

async fn long_listings_are_whole(world: &World, many: usize) {
    let names: Vec<_> = (0..many).map(|n| format!("many/{n:05}")).collect();
    let puts = futures::stream::iter(&names).map(|name| world.put(name, "x")).buffer_unordered(32);
    puts.collect::<()>().await;
    assert_eq!(world.list("many").await, names);
    let level = world.store.list_with_delimiter(Some(&world.path("many"))).await.unwrap();
    assert_eq!(level.objects.len(), many);
}

async fn one_of_many_creators_wins(world: &World) {
    for round in 0..5 {
        let name = format!("create/{round}.json");
        let outcomes = join_all((0..RACERS).map(|racer| world.create(&name, format!("racer {racer}")))).await;
        let winners: Vec<_> = (0..RACERS).filter(|racer| outcomes[*racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(world.get(&name).await, Some(format!("racer {}", winners[0])));
        for lost in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(lost, Error::AlreadyExists { .. }), "{lost:?}");
        }
    }
    let late = world.create("create/0.json", "late".to_owned()).await.unwrap_err();
    assert!(matches!(late, Error::AlreadyExists { .. }), "{late:?}");
    assert_eq!(world.list("create").await.len(), 5, "a race leaves something behind");
}

async fn a_stale_writer_does_not_replace(world: &World) {
    let path = world.path("update");
    let update = |tag: Option<String>, data: &'static str| {
        let version = UpdateVersion { e_tag: tag, version: None };
        world.store.put_opts(&path, data.into(), PutMode::Update(version).into())
    };
    let first = world.store.put(&path, "1".into()).await.unwrap().e_tag;
    assert!(first.is_some());
    let second = update(first.clone(), "2").await.unwrap().e_tag;
    assert_ne!(first, second);
    let stale = update(first, "3").await.unwrap_err();
    assert!(matches!(stale, Error::Precondition { .. }), "{stale:?}");
    assert_eq!(world.get("update").await.as_deref(), Some("2"));
    update(second.clone(), "4").await.unwrap();
    world.store.delete(&path).await.unwrap();
    let gone = update(second, "5").await.unwrap_err();
    assert!(matches!(gone, Error::Precondition { .. }), "{gone:?}");
    assert_eq!(world.get("update").await, None);
}

async fn an_update_is_refused_by_name(world: &World) {
    world.put("update", "1").await;
    let version = UpdateVersion { e_tag: Some("x".to_owned()), version: None };
    let options = PutOptions::from(PutMode::Update(version));
    let refused = world.store.put_opts(&world.path("update"), "2".into(), options).await.unwrap_err();
    assert!(matches!(refused, Error::NotImplemented { .. } | Error::NotSupported { .. }), "{refused:?}");
    assert_eq!(world.get("update").await.as_deref(), Some("1"));
}

async fn copies_and_renames(world: &World) {
    world.put("copy/a", "a").await;
    world.put("copy/b", "b").await;
    let [a, b, c, d] = ["copy/a", "copy/b", "copy/deep er/c%", "copy/d"].map(|name| world.path(name));
    world.store.copy(&a, &c).await.unwrap();
    assert_eq!(world.get("copy/deep er/c%").await.as_deref(), Some("a"));
    world.store.copy(&b, &c).await.unwrap();
    assert_eq!(world.get("copy/deep er/c%").await.as_deref(), Some("b"));
    let there = world.store.copy_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(there, Error::AlreadyExists { .. }), "{there:?}");
    world.store.copy_if_not_exists(&a, &d).await.unwrap();
    assert_eq!(world.get("copy/d").await.as_deref(), Some("a"));
    let there = world.store.rename_if_not_exists(&d, &b).await.unwrap_err();
    assert!(matches!(there, Error::AlreadyExists { .. }), "{there:?}");
    assert_eq!(world.get("copy/b").await.as_deref(), Some("b"));
    let new = world.path("copy/new/e");
    world.store.rename_if_not_exists(&d, &new).await.unwrap();
    assert_eq!((world.get("copy/d").await, world.get("copy/new/e").await.as_deref()), (None, Some("a")));
    world.store.rename(&new, &b).await.unwrap();
    assert_eq!((world.get("copy/new/e").await, world.get("copy/b").await.as_deref()), (None, Some("a")));
    assert_eq!(world.list("copy").await, ["copy/a", "copy/b", "copy/deep er/c%"]);
}

async fn large_objects_arrive_in_parts(world: &World, part: usize) {
    // Parts that arrive in parallel, the last one short.
    let bytes = |n: u8| PutPayload::from(vec![n; part]);
    let mut upload = world.store.put_multipart(&world.path("large/parts")).await.unwrap();
    let parts = [upload.put_part(bytes(1)), upload.put_part(bytes(2)), upload.put_part(vec![3; 5].into())];
    for done in join_all(parts).await {
        done.unwrap();
    }
    assert_eq!(world.get("large/parts").await, None, "it is seen before it is complete");
    upload.complete().await.unwrap();
    let found = world.store.get(&world.path("large/parts")).await.unwrap().bytes().await.unwrap();
    assert_eq!(found.len(), 2 * part + 5);
    assert!(found[..part].iter().all(|b| *b == 1) && found[part..2 * part].iter().all(|b| *b == 2));
    assert_eq!(&found[2 * part..], [3; 5]);

    // One put of more than one request should hold.
    let data: Vec<u8> = (0..7 * part as u32).map(|n| (n >> 8) as u8 ^ n as u8).collect();
    world.store.put(&world.path("large/put"), data.clone().into()).await.unwrap();
    let found = world.store.get(&world.path("large/put")).await.unwrap().bytes().await.unwrap();
    assert!(found == data, "{} bytes came back different", data.len());
    let range = 6 * part..6 * part + 100;
    let far = world.store.get_range(&world.path("large/put"), range.start as u64..range.end as u64).await.unwrap();
    assert_eq!(far, data[range]);
}

async fn an_aborted_upload_leaves_nothing(world: &World, part: usize) {
    let mut upload = world.store.put_multipart(&world.path("aborted/a")).await.unwrap();
    upload.put_part(vec![1; part].into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(world.get("aborted/a").await, None);
    assert_eq!(world.list("aborted").await, [""; 0]);
}

/// A caller with wrong credentials is told so, without them.
pub async fn assert_refused(storage: &Storage, secret: &str) {
    let path = storage.path().clone().join("a");
    let put = storage.store().put(&path, "x".into()).await.unwrap_err();
    let get = storage.store().get(&path).await.unwrap_err();
    for error in [put, get] {
        assert!(matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    let error = storage.prove_create_only(crate::opened::doors().rng.as_ref()).await.unwrap_err();
    assert!(error.to_string().starts_with("RM-1118"), "{error}");
    assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
}
