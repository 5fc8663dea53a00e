//! What the tests share: a place, and rows as short text.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
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

pub async fn collect(provider: Arc<dyn TableProvider>) -> Result<Vec<String>, String> {
    let frame = SessionContext::new().read_table(provider).map_err(|error| error.to_string())?;
    Ok(text(&frame.collect().await.map_err(|error| error.to_string())?))
}

pub fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = vec![];
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join("="));
        }
    }
    lines.sort();
    lines
}
