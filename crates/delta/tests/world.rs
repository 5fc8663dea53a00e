//! What the tests share: a place, rows as short text, and stores that break on purpose.

use crate::tables::collect;
pub use crate::tables::text;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use rivermere_base::{Changes, Epoch};
use rivermere_delta::{DeltaSink, DeltaTable, Location};
use rivermere_store::LocalDisk;
use rivermere_table::{Adopt, SinkId, SinkMode, SinkSpec, StagedEpoch, Table, TableError};
use std::sync::Arc;

pub const OURS: &str = "rivermere/11111111-1111-4111-8111-111111111111/totals";
pub const THEIRS: &str = "rivermere/22222222-2222-4222-8222-222222222222/totals";

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn location(store: &Arc<dyn ObjectStore>) -> Location {
    Location::new(store.clone(), Path::from("lake/totals"), Arc::new(LocalDisk::new()))
}

/// Columns `key` (nullable) and `value`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Utf8View, false),
    ]))
}

pub fn append() -> SinkSpec {
    SinkSpec {
        sink_id: SinkId::new(OURS).unwrap(),
        schema: schema(),
        mode: SinkMode::Append,
        adopt: Adopt::Refuse,
        properties: vec![],
        since: Epoch(0),
    }
}

pub fn merge() -> SinkSpec {
    SinkSpec { mode: SinkMode::Merge { key: vec!["key".to_string()] }, ..append() }
}

pub async fn open(store: &Arc<dyn ObjectStore>, spec: SinkSpec) -> Result<DeltaSink, TableError> {
    DeltaSink::open(location(store), spec).await
}

/// Rows from text: `"+1=a -2=b +null=c"`.
pub fn changes(text: &str) -> Changes {
    let mut keys = Vec::new();
    let mut values = Vec::new();
    let mut weights = Vec::new();
    for row in text.split_whitespace() {
        let (key, value) = row[1..].split_once('=').unwrap();
        keys.push(key.parse::<i64>().ok());
        values.push(value.to_string());
        weights.push(if row.starts_with('-') { -1 } else { 1 });
    }
    let values = StringArray::from(values);
    let values = arrow::compute::cast(&values, &DataType::Utf8View).unwrap();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(keys)), values]).unwrap();
    Changes::with_weights(batch, Int64Array::from(weights)).unwrap()
}

pub fn epoch(number: u64, text: &str) -> StagedEpoch {
    StagedEpoch { epoch: Epoch(number), changes: vec![changes(text)] }
}

/// The table's rows as sorted text, read by a session of its own.
pub async fn rows(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    rows_at(store, None).await
}

pub async fn rows_at(store: &Arc<dyn ObjectStore>, version: Option<i64>) -> Vec<String> {
    let table = DeltaTable::open(location(store)).await.unwrap();
    collect(table.scan(version).await.unwrap()).await.unwrap()
}

/// How many files the newest version has.
pub async fn files(store: &Arc<dyn ObjectStore>) -> usize {
    let table = library_table(store).await;
    table.snapshot().unwrap().log_data().num_files()
}

/// The table opened by the library directly, as any other writer in this language would.
pub async fn library_table(store: &Arc<dyn ObjectStore>) -> deltalake_core::DeltaTable {
    let url = url::Url::parse("memory:///lake/totals").unwrap();
    deltalake_core::DeltaTableBuilder::from_url(url.clone())
        .unwrap()
        .with_storage_backend(store.clone(), url)
        .load()
        .await
        .unwrap()
}
