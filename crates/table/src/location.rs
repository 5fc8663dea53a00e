//! Where a table lives, and the doors to it.

use object_store::ObjectStore;
use object_store::path::Path;
use rivermere_base::{Disk, Rng as _, SeededRng};
use std::fmt;
use std::sync::Arc;
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

    /// The same place, named `shown` in messages: its whole path, or its URL.
    #[must_use]
    pub fn named(mut self, shown: impl Into<Arc<str>>) -> Self {
        self.shown = shown.into();
        self
    }

    /// The store that has the table, and other things.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The table's folder in the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is asked for crash points.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// For the name of a file that nobody else writes.
    pub fn new_id(&self) -> Uuid {
        self.ids.uuid()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}
