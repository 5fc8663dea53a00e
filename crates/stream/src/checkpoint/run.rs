//! A run: state entries of all operators that changed in one epoch, or in several that were merged.
//!
//! An Arrow IPC file (LZ4) with the columns node, key, value; no value means that the entry is gone.

use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

/// Entries of one record batch.
const BATCH_ENTRIES: usize = 64 * 1024;
/// Bytes of keys and values of one record batch; Arrow's offsets end at 2 GiB.
const BATCH_BYTES: usize = 64 << 20;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("node", DataType::Utf8, false),
        Field::new("key", DataType::Binary, false),
        Field::new("value", DataType::Binary, true),
    ]))
}

pub(crate) struct RunBuilder {
    nodes: StringBuilder,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    held: usize,
    bytes: usize,
    batches: Vec<RecordBatch>,
    failed: Option<StreamError>,
    entries: u64,
}

impl RunBuilder {
    pub(crate) fn new() -> Self {
        Self {
            nodes: StringBuilder::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            held: 0,
            bytes: 0,
            batches: vec![],
            failed: None,
            entries: 0,
        }
    }

    pub(crate) fn add(&mut self, node: &str, key: &[u8], value: Option<&[u8]>) {
        self.nodes.append_value(node);
        self.keys.append_value(key);
        self.values.append_option(value);
        self.held += 1;
        self.entries += 1;
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        if self.held >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.held == 0 {
            return;
        }
        (self.held, self.bytes) = (0, 0);
        let columns = vec![
            Arc::new(self.nodes.finish()) as ArrayRef,
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
        ];
        match RecordBatch::try_new(schema(), columns) {
            Ok(batch) => self.batches.push(batch),
            Err(error) => self.failed = Some(error.into()),
        }
    }

    /// The file's bytes; nothing when no entry was added.
    pub(crate) fn finish(mut self) -> Result<Option<Vec<u8>>> {
        self.flush();
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.entries == 0 {
            return Ok(None);
        }
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = FileWriter::try_new_with_options(vec![], &schema(), options)?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        Ok(Some(writer.into_inner()?))
    }
}

/// Visits every entry of a run, in the order they were added.
pub(crate) fn read_run(
    file: &str,
    data: Vec<u8>,
    mut visit: impl FnMut(&str, &[u8], Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    let damaged = |message: String| StreamError::Damaged { path: PathBuf::from(file), message };
    let reader = FileReader::try_new(Cursor::new(data), None).map_err(|error| damaged(error.to_string()))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        let columns = (batch.num_columns() == 3).then(|| {
            Some((
                batch.column(0).as_string_opt::<i32>()?,
                batch.column(1).as_binary_opt::<i32>()?,
                batch.column(2).as_binary_opt::<i32>()?,
            ))
        });
        let Some(Some((nodes, keys, values))) = columns else {
            return Err(damaged("its columns are not those of a run".into()));
        };
        for row in 0..batch.num_rows() {
            visit(nodes.value(row), keys.value(row), values.is_valid(row).then(|| values.value(row)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order_with_removals() {
        let mut run = RunBuilder::new();
        run.add("a/0", b"k", Some(b"v"));
        run.add("b/1", b"", None);
        run.add("a/0", b"k", None);
        let data = run.finish().unwrap().unwrap();
        let mut seen = vec![];
        read_run("x", data, |node, key, value| {
            seen.push((node.to_string(), key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                ("a/0".to_string(), b"k".to_vec(), Some(b"v".to_vec())),
                ("b/1".to_string(), vec![], None),
                ("a/0".to_string(), b"k".to_vec(), None)
            ]
        );
        assert!(read_run("x", b"not a run".to_vec(), |_, _, _| Ok(())).is_err());
    }
}
