//! Where a table lives, and the doors to it.

use crate::ordered::Ordered;
use deltalake_core::logstore::{LogStore, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use rivermere_base::{Disk, Rng as _, SeededRng};
use rivermere_table::TableError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;
use uuid::Uuid;

/// A folder of an object store.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    path: Path,
    disk: Arc<dyn Disk>,
    shown: Arc<str>,
    ids: Arc<SeededRng>,
}

impl Location {
    /// The table at `path` in `store`. `disk` is asked for crash points only; the bytes go through `store`.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, disk: Arc<dyn Disk>) -> Self {
        let shown = path.as_ref().into();
        // Names of files must be new whatever a test's seed is: the store outlives a process and its doors.
        Self { store, path, disk, shown, ids: Arc::new(SeededRng::from_os()) }
    }

    /// The same place, named `shown` in messages.
    #[must_use]
    pub fn named(mut self, shown: impl Into<Arc<str>>) -> Self {
        self.shown = shown.into();
        self
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// For the name of a file that nobody else writes.
    pub(crate) fn new_id(&self) -> Uuid {
        self.ids.uuid()
    }

    /// The Delta log of this place.
    ///
    /// Its URL is made up and used by no other place, because sessions look stores up by scheme and host: a `file:` URL
    /// would lead them past our store to the machine's own file system. It reaches no file but the first commit's
    /// history entry; paths inside a table are relative.
    pub(crate) fn log_store(&self) -> Result<Arc<dyn LogStore>, TableError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let url = Url::parse(&format!("rivermere://table-{number}/"))
            .map_err(|error| TableError::storage("naming the store", self.shown.as_ref(), error))?;
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Ordered(self.store.clone()), self.path.clone()));
        Ok(default_logstore(store.clone(), store, &url, &StorageConfig::default()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}
