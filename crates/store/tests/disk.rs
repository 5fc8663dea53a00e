//! The disk, the real one and the simulated one.

use crate::contract::{Promises, assert_contract};
use crate::opened::doors;
use rivermere_base::Doors;
use rivermere_sim::SimDisk;
use rivermere_store::{Environment, Storage, StorageOptions};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/lake", folder.path().display());
    let storage = Storage::open(&url, &StorageOptions::default(), &doors(), &Environment::default()).unwrap();
    assert_contract(&storage, Promises::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_disk_keeps_the_contract() {
    let doors = Doors { disk: Arc::new(SimDisk::new(7)), ..doors() };
    let storage = Storage::open("file:///lake", &StorageOptions::default(), &doors, &Environment::default()).unwrap();
    let promises = Promises { wall_clock: false, part: 10_000, many: 100, ..Promises::ALL };
    assert_contract(&storage, promises).await;
}
