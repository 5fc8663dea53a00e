//! A table over a file: read once, when its first view starts.

use crate::error::{Result, StreamError};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rivermere_base::{Changes, Disk};
use rivermere_sql::{LATENESS_COLUMN, TableDefinition};
use std::path::Path;
use std::sync::Arc;

/// Largest file that is read.
const FILE_LIMIT_BYTES: u64 = 4 << 30;

/// All rows of a Parquet file as insertions, with the columns of `schema` (which may end in the lateness).
///
/// # Errors
/// When the file is missing, is no Parquet, or lacks a column.
pub fn read_file(disk: &dyn Disk, path: &Path, table: &TableDefinition, schema: &SchemaRef) -> Result<Vec<Changes>> {
    let failed = |message: String| StreamError::File { table: table.name.clone(), message };
    let shown = path.display();
    let len = disk.metadata(path).map_err(|error| failed(format!("cannot open {shown}: {error}")))?.len;
    if len > FILE_LIMIT_BYTES {
        return Err(failed(format!("{shown} has {len} bytes; at most {FILE_LIMIT_BYTES} are read as a table")));
    }
    let data = disk.read(path).map_err(|error| failed(format!("cannot read {shown}: {error}")))?;
    let unreadable = |error: String| failed(format!("{shown} is no readable Parquet file: {error}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(data))
        .and_then(|builder| builder.with_batch_size(32 * 1024).build())
        .map_err(|error| unreadable(error.to_string()))?;
    let mut changes = vec![];
    for batch in reader {
        let batch = batch.map_err(|error| unreadable(error.to_string()))?;
        let columns = schema
            .fields()
            .iter()
            .map(|field| -> Result<ArrayRef> {
                if field.name() == LATENESS_COLUMN {
                    return Ok(Arc::new(Int64Array::from_value(i64::MIN, batch.num_rows())));
                }
                let column = batch.column_by_name(field.name()).ok_or_else(|| {
                    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
                    failed(format!("{shown} has no column '{}'; it has {}", field.name(), names.join(", ")))
                })?;
                cast(column, field.data_type())
                    .map_err(|error| failed(format!("column '{}' of {shown}: {error}", field.name())))
            })
            .collect::<Result<Vec<_>>>()?;
        changes.push(Changes::inserts(RecordBatch::try_new(schema.clone(), columns)?));
    }
    Ok(changes)
}
