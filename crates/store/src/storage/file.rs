//! The machine's disk.
//!
//! Create-only puts end in a rename that refuses to replace, on any file system; updates are safe among the stores of one
//! process.

use crate::DiskStore;
use object_store::ObjectStore;
use rivermere_base::Disk;
use std::sync::Arc;

/// Everything below the root: the address's path is absolute.
pub(super) fn open(disk: Arc<dyn Disk>) -> Arc<dyn ObjectStore> {
    Arc::new(DiskStore::new(disk, "/"))
}
