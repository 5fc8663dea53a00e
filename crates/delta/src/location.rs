//! The log of a table's place.

use crate::ordered::Ordered;
use deltalake_core::logstore::{LogStore, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use rivermere_table::{Location, TableError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// The Delta log of a place.
///
/// Its URL is made up and used by no other place, because sessions look stores up by scheme and host: a `file:` URL would
/// lead them past our store to the machine's own file system. It reaches no file but the first commit's history entry; paths
/// inside a table are relative.
pub(crate) fn log_store(location: &Location) -> Result<Arc<dyn LogStore>, TableError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let url = Url::parse(&format!("rivermere://table-{number}/"))
        .map_err(|error| TableError::storage("naming the store", location.to_string(), error))?;
    let store = PrefixStore::new(Ordered(location.store().clone()), location.path().clone());
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    Ok(default_logstore(store.clone(), store, &url, &StorageConfig::default()))
}
