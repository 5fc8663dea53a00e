//! What the tests share: a place, and the rows there.

use crate::tables::collect;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use rivermere_iceberg::IcebergTable;
use rivermere_store::LocalDisk;
use rivermere_table::{Location, Table};
use std::sync::Arc;

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn location(store: &Arc<dyn ObjectStore>) -> Location {
    Location::new(store.clone(), Path::from("lake/totals"), Arc::new(LocalDisk::new()))
}

/// The table's rows as sorted text, read by whoever opens it now.
pub async fn rows(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    rows_at(store, None).await
}

pub async fn rows_at(store: &Arc<dyn ObjectStore>, version: Option<i64>) -> Vec<String> {
    let table = IcebergTable::open(location(store)).await.unwrap();
    collect(table.scan(version).await.unwrap()).await.unwrap()
}
