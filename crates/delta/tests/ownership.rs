use crate::world::*;
use deltalake_core::protocol::SaveMode;
use object_store::ObjectStore;
use rivermere_base::Epoch;
use rivermere_table::{Adopt, SinkId, SinkSpec, TableError, TableSink};
use std::sync::Arc;

fn of(sink: &str, adopt: Adopt) -> SinkSpec {
    SinkSpec { sink_id: SinkId::new(sink).unwrap(), adopt, ..append() }
}

async fn written_by_another_incarnation() -> Arc<dyn ObjectStore> {
    let store = memory();
    let sink = open(&store, of(THEIRS, Adopt::Refuse)).await.unwrap();
    sink.commit(vec![epoch(5, "+1=theirs")]).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn another_incarnation_is_refused_with_both_ways_out() {
    let store = written_by_another_incarnation().await;
    let error = open(&store, of(OURS, Adopt::Refuse)).await.err().unwrap();
    let message = error.to_string();
    assert!(matches!(error, TableError::Foreign { .. }), "{message}");
    for part in ["RM-5001", "--adopt", "--overwrite", THEIRS, OURS, "lake/totals"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_of_another_incarnation_is_refused_too() {
    let store = memory();
    open(&store, of(THEIRS, Adopt::Refuse)).await.unwrap();
    assert!(matches!(open(&store, of(OURS, Adopt::Refuse)).await.err(), Some(TableError::Foreign { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn adopting_keeps_the_rows_and_starts_at_epoch_zero() {
    let store = written_by_another_incarnation().await;
    let sink = open(&store, of(OURS, Adopt::Adopt)).await.unwrap();
    assert_eq!(sink.committed().await.unwrap(), None);
    sink.commit(vec![epoch(1, "+2=ours")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=theirs", "2=ours"]);
    // From now on it is ours, whatever the option says, and no longer theirs.
    let again = open(&store, of(OURS, Adopt::Overwrite)).await.unwrap();
    assert_eq!(again.committed().await.unwrap(), Some(Epoch(1)));
    assert_eq!(rows(&store).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_replaces_rows_and_columns_and_keeps_old_versions() {
    let store = memory();
    library_write(&store, "other", 3).await;
    assert!(matches!(open(&store, append()).await.err(), Some(TableError::Foreign { .. })));
    let adopted = open(&store, of(OURS, Adopt::Adopt)).await.err().unwrap();
    assert!(matches!(adopted, TableError::SchemaMismatch { .. }), "{adopted}");
    let sink = open(&store, of(OURS, Adopt::Overwrite)).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a"]);
    assert_eq!(rows_at(&store, Some(0)).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_that_is_nobodys_is_taken() {
    let store = memory();
    library_write(&store, "key", 0).await;
    let spec =
        SinkSpec { schema: Arc::new(arrow::datatypes::Schema::new(vec![schema().field(0).clone()])), ..append() };
    open(&store, spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_replaced_under_a_running_sink_stops_it() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    sink.commit(vec![epoch(1, "+1=a")]).await.unwrap();
    let log = object_store::path::Path::from("lake/totals");
    use futures::TryStreamExt as _;
    use object_store::ObjectStoreExt as _;
    for file in store.list(Some(&log)).try_collect::<Vec<_>>().await.unwrap() {
        store.delete(&file.location).await.unwrap();
    }
    let error = sink.commit(vec![epoch(2, "+2=b")]).await.unwrap_err();
    assert!(error.to_string().contains("RM-50"), "{error}");
}

/// A table of one integer column, written by the library.
pub async fn library_write(store: &Arc<dyn ObjectStore>, column: &str, count: i64) {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    let url = url::Url::parse("memory:///lake/totals").unwrap();
    let table = deltalake_core::DeltaTableBuilder::from_url(url.clone())
        .unwrap()
        .with_storage_backend(store.clone(), url)
        .build()
        .unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Int64, true)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new((0..count).collect::<Int64Array>())]).unwrap();
    if count == 0 {
        use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
        let columns: deltalake_core::kernel::StructType = schema.as_ref().try_into_kernel().unwrap();
        table.create().with_columns(columns.into_fields()).await.unwrap();
    } else {
        table.write([rows]).with_save_mode(SaveMode::ErrorIfExists).await.unwrap();
    }
}
