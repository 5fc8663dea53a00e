//! Storages behind one URL: the local disk, S3 and what speaks its protocol, Azure, HDFS, OCI Object Storage.
//!
//! [`Storage::open`] takes a URL, options and the environment, and gives an `object_store` with the path inside it. The
//! contract is the same for all: a put is durable when it returns, `PutMode::Create` never replaces an object (a table's
//! commit stands on it; [`Storage::prove_create_only`] asks the storage itself), an object that is missing is
//! `Error::NotFound`, and a listing sees every put that returned before it began. One file per scheme says how its
//! storage keeps that contract and where its credentials come from.
//!
//! Every storage over a network has at most `max_connections` requests at a time, repeats those that failed for a reason
//! that may pass with growing pauses until a deadline, reads neighbouring ranges at once, and writes large objects in
//! parts.

mod address;
mod asking;
mod atomic;
mod azure;
mod catalog;
mod endpoint;
mod environment;
mod error;
mod file;
mod guarded;
mod hdfs;
mod ini;
mod metastore;
mod oci;
mod options;
mod percent;
mod retry;
mod s3;
mod storages;

pub use address::Scheme;
pub use asking::{Answer, NoAnswer};
pub use catalog::{CatalogService, CatalogTable, message};
pub use environment::Environment;
pub use error::StorageError;
pub use metastore::{Described, Exchanged, MetastoreColumn, MetastoreTable, NewTable};
pub use options::StorageOptions;
pub use percent::encoded;
pub use storages::{InCatalog, Storages};

use address::Address;
use guarded::Guarded;
use object_store::ObjectStore;
use object_store::path::Path;
use options::Limits;
use rivermere_base::Doors;
use std::fmt;
use std::sync::Arc;

/// A place in a storage.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    path: Path,
    scheme: Scheme,
    shown: Arc<str>,
}

impl Storage {
    /// Opens the place that `url` names. No request is made yet: credentials and bucket are tried by the first one.
    ///
    /// ```
    /// use rivermere_base::{Doors, SeededRng, SystemClock};
    /// use rivermere_store::{Environment, LocalDisk, Storage, StorageOptions};
    /// use std::sync::Arc;
    ///
    /// let disk = Arc::new(LocalDisk::new());
    /// let doors = Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::from_os()), disk };
    /// let key = [("access_key_id", "someone"), ("secret_access_key", "hunter2")];
    /// let options = StorageOptions::from_iter(key);
    /// let lake = Storage::open("s3://bucket/lake", &options, &doors, &Environment::of_process()).unwrap();
    /// assert_eq!(lake.path().as_ref(), "lake");
    /// assert!(!format!("{lake:?}").contains("hunter2"));
    /// ```
    ///
    /// # Errors
    /// When the scheme, the form of the URL, an option or the credentials cannot be used.
    pub fn open(
        url: &str,
        options: &StorageOptions,
        doors: &Doors,
        environment: &Environment,
    ) -> Result<Self, StorageError> {
        let address = Address::parse(url)?;
        options.check(address.scheme)?;
        let limits = Limits::of(options)?;
        let disk = doors.disk.as_ref();
        let store = match address.scheme {
            Scheme::File => file::open(doors.disk.clone()),
            Scheme::S3 => s3::open(&address, options, limits, disk, environment)?,
            Scheme::Azure => azure::open(&address, options, limits, disk, environment)?,
            Scheme::Oci => oci::open(&address, options, limits, doors, environment)?,
            Scheme::Hdfs => hdfs::open(&address, options, limits, doors.rng.clone(), environment)?,
        };
        let shown: Arc<str> = address.shown.into();
        let store = match address.scheme {
            Scheme::File => store,
            _ => Arc::new(Guarded::new(store, limits.connections, shown.clone())),
        };
        Ok(Self { store, path: address.path, scheme: address.scheme, shown })
    }

    /// Another place in the same bucket, through the same client.
    fn elsewhere(&self, address: Address) -> Self {
        Self { store: self.store.clone(), path: address.path, scheme: address.scheme, shown: address.shown.into() }
    }

    /// Whether a text is meant as the URL of a storage, rather than as a file's path. It may be a wrong one.
    pub fn is_url(text: &str) -> bool {
        address::is_url(text)
    }

    /// The whole bucket, container or file system; [`path`](Self::path) is where in it the URL leads.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// The path of the URL, inside [`store`](Self::store).
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
}

/// The URL.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

/// The URL alone: clients print their credentials.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.shown)
    }
}
