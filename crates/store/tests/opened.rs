//! Opening storages in tests.

use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_store::{Environment, LocalDisk, Storage, StorageError, StorageOptions};
use std::sync::Arc;

pub fn doors() -> Doors {
    Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::from_os()), disk: Arc::new(LocalDisk::new()) }
}

/// With options alone: nothing of this machine's environment.
pub fn open(url: &str, options: &[(&str, &str)]) -> Result<Storage, StorageError> {
    let options = StorageOptions::from_iter(options.iter().copied());
    Storage::open(url, &options, &doors(), &Environment::default())
}
