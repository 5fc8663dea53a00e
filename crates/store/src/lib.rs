//! Storage: the machine's disk behind the [`Disk`](rivermere_base::Disk) door, and the object stores that tables are
//! written through.
//!
//! - [`LocalDisk`] is the real disk: positional I/O, fdatasync, folder fsync, a lock file that says who holds it.
//! - [`DiskStore`] is an `object_store` over any `Disk`, so that table writers run on the simulated disk too.
//! - [`Storage`] is a place in any storage that a URL names: the disk, S3, Azure, HDFS, OCI. [`Storages`] opens all of a process.
//!
//! This is the only room that knows how bytes reach a medium. Everything durable here is durable when the call returns
//! and says so in its documentation.
//!
//! ```
//! use rivermere_base::{Disk, OpenMode};
//! use rivermere_store::LocalDisk;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let disk = LocalDisk::new();
//! let file = disk.open(&folder.path().join("a"), OpenMode::CreateNew).unwrap();
//! file.write_all_at(b"hello", 0).unwrap();
//! file.sync_data().unwrap();
//! disk.sync_dir(folder.path()).unwrap();
//! assert_eq!(disk.read(&folder.path().join("a")).unwrap(), b"hello");
//! ```

mod crash;
mod local;
mod lock;
mod object;
mod removal;
mod storage;

pub use crash::{CRASH_AT_VARIABLE, CrashPlanError, arm_crash_from_environment};
pub use local::LocalDisk;
pub use lock::{Lock, LockError};
pub use object::DiskStore;
pub use storage::{
    Answer, CatalogService, CatalogTable, Described, Environment, Exchanged, InCatalog, MetastoreColumn,
    MetastoreTable, NewTable, NoAnswer, Scheme, Storage, StorageError, StorageOptions, Storages, encoded, message,
};
