//! Staged output: the net change of one stored view in one epoch, as an Arrow IPC file whose last column is the weight.

use crate::error::{Result, StreamError};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use rivermere_base::{Changes, Disk, OpenMode};
use std::path::Path;
use std::sync::Arc;

const WEIGHT: &str = "_weight";

pub(crate) fn encode_staged(schema: &SchemaRef, changes: &[Changes]) -> Result<Vec<u8>> {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = FileWriter::try_new_with_options(vec![], &schema, options)?;
    for change in changes {
        let mut columns = change.batch().columns().to_vec();
        columns.push(Arc::new(change.weight_array()) as ArrayRef);
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    Ok(writer.into_inner()?)
}

/// The changes of one staged file.
///
/// # Errors
/// When the file is missing or damaged.
pub fn read_staged(disk: &dyn Disk, path: &Path) -> Result<Vec<Changes>> {
    let damaged = |message: String| StreamError::Damaged { path: path.to_path_buf(), message };
    let file = disk.open(path, OpenMode::Read).map_err(StreamError::disk("cannot read", path))?;
    let mut data = vec![0; file.len().map_err(StreamError::disk("cannot read", path))? as usize];
    file.read_exact_at(&mut data, 0).map_err(StreamError::disk("cannot read", path))?;
    let reader = FileReader::try_new(std::io::Cursor::new(data), None).map_err(|error| damaged(error.to_string()))?;
    let mut changes = vec![];
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        let width = batch.num_columns().checked_sub(1).ok_or_else(|| damaged("it has no columns".into()))?;
        let weights =
            batch.column(width).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("it has no weights".into()))?;
        let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
        if weights.values().iter().all(|weight| *weight == 1) {
            changes.push(Changes::inserts(rows));
        } else {
            changes.push(Changes::with_weights(rows, weights.clone())?);
        }
    }
    Ok(changes)
}
