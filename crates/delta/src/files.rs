//! Data files: Parquet, compressed, with the statistics that readers prune by.

use crate::deferred::Deferred;
use crate::handle::Handle;
use crate::mapping::Physical;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::Add;
use deltalake_core::operations::get_num_idx_cols_and_stats_columns;
use deltalake_core::parquet::basic::{Compression, ZstdLevel};
use deltalake_core::parquet::file::properties::WriterProperties;
use deltalake_core::table::state::DeltaTableState;
use rivermere_table::TableError;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Files are closed at about this size. A merge rewrites whole files, so they are smaller than a batch engine's.
pub(crate) const TARGET_FILE_BYTES: NonZeroU64 = NonZeroU64::MIN.saturating_add(32 * 1024 * 1024 - 1);
/// Below this a file counts as small.
pub(crate) const SMALL_FILE_BYTES: i64 = TARGET_FILE_BYTES.get() as i64 / 8;
/// Rows of a row group at most; the writer holds one row group in memory.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Rows handed to the encoder at once.
const WRITE_ROWS: usize = 8192;
const WRITING: &str = "writing a data file";

/// Writes rows of the table's schema into new files that no version names yet.
pub(crate) struct Files<'a> {
    handle: &'a Handle,
    store: Deferred,
    writer: DeltaWriter,
    /// Of the files.
    schema: SchemaRef,
    pub(crate) rows: u64,
}

impl<'a> Files<'a> {
    /// Files of about `target` bytes, for batches of `schema`, whose columns are the table's.
    ///
    /// # Errors
    /// For a table with column mapping inside structs.
    pub(crate) fn new(
        handle: &'a Handle,
        state: &DeltaTableState,
        schema: &SchemaRef,
        target: NonZeroU64,
    ) -> Result<Self, TableError> {
        let physical = Physical::of(handle, state, schema)?;
        let (indexed, columns) = get_num_idx_cols_and_stats_columns(Some(state.table_config()), HashMap::new());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(concat!("rivermere version ", env!("CARGO_PKG_VERSION")).to_string())
            .build();
        let config = WriterConfig::new(
            physical.schema.clone(),
            physical.partition_columns.clone(),
            Some(properties),
            Some(target),
            Some(WRITE_ROWS),
            indexed,
            columns.map(|columns| columns.into_iter().map(|column| physical.name(column)).collect()),
        );
        let store = Deferred::new(handle.log_store.object_store(None));
        let writer = DeltaWriter::new(Arc::new(store.clone()), config);
        Ok(Self { handle, writer, store, schema: physical.schema, rows: 0 })
    }

    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        // The columns are the same ones, under the names that they have in files.
        let batch = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec()).map_err(|source| {
            TableError::Value { what: "a row".into(), location: self.handle.location.to_string(), source }
        })?;
        self.writer.write(&batch).await.map_err(|error| self.handle.error(WRITING, error))?;
        failures(self.handle, &self.store)
    }

    /// The files, complete and durable.
    pub(crate) async fn close(self) -> Result<Vec<Add>, TableError> {
        let adds = self.writer.close().await.map_err(|error| self.handle.error(WRITING, error))?;
        failures(self.handle, &self.store)?;
        Ok(adds)
    }

    /// Gives up; parts of files that are still uploading are dropped, complete ones are left to VACUUM.
    pub(crate) async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(location = %self.handle.location, %error, "an unfinished data file was left behind");
        }
    }
}

fn failures(handle: &Handle, store: &Deferred) -> Result<(), TableError> {
    store.outcome().map_err(|error| TableError::storage(WRITING, handle.location.to_string(), error))
}
