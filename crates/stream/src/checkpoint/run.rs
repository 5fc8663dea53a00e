//! A run: state entries of all operators that changed in one epoch, or in several that were merged.
//!
//! An Arrow IPC file (LZ4) with the columns node, key, value; no value means that the entry is gone. Where runs name an
//! entry several times, the last one counts.

use super::manifest::RunRecord;
use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// Entries of one record batch.
const BATCH_ENTRIES: usize = 64 * 1024;
/// Bytes of keys and values of one record batch: what a run needs in memory beside its compressed bytes.
const BATCH_BYTES: usize = 8 << 20;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("node", DataType::Utf8, false),
        Field::new("key", DataType::Binary, false),
        Field::new("value", DataType::Binary, true),
    ]))
}

/// Writes a run, batch by batch.
pub(crate) struct RunBuilder {
    nodes: StringBuilder,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    held: usize,
    bytes: usize,
    file: Option<FileWriter<Vec<u8>>>,
    /// The first failure; it is told at the end.
    failed: Option<ArrowError>,
}

impl RunBuilder {
    pub(crate) fn new() -> Self {
        Self {
            nodes: StringBuilder::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            held: 0,
            bytes: 0,
            file: None,
            failed: None,
        }
    }

    pub(crate) fn add(&mut self, node: &str, key: &[u8], value: Option<&[u8]>) {
        self.nodes.append_value(node);
        self.keys.append_value(key);
        self.values.append_option(value);
        self.held += 1;
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        if self.held >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.write()
        {
            self.failed = Some(error);
        }
    }

    fn write(&mut self) -> Result<(), ArrowError> {
        if self.held == 0 {
            return Ok(());
        }
        (self.held, self.bytes) = (0, 0);
        let columns = vec![
            Arc::new(self.nodes.finish()) as ArrayRef,
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
        ];
        let batch = RecordBatch::try_new(schema(), columns)?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
                none.insert(FileWriter::try_new_with_options(vec![], &schema(), options)?)
            }
        };
        file.write(&batch)
    }

    /// The file's bytes; nothing when no entry was added.
    pub(crate) fn finish(mut self) -> Result<Option<Vec<u8>>> {
        self.flush();
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        Ok(self.file.map(FileWriter::into_inner).transpose()?)
    }
}

/// Visits the newest entry of each key once, removals too, in the order of the runs; `runs` are oldest first. Reads
/// each run twice and holds 24 bytes an entry meanwhile, not the entry itself.
pub(crate) fn read_newest(
    runs: &[RunRecord],
    read: impl Fn(&str) -> Result<Vec<u8>>,
    mut visit: impl FnMut(&str, &[u8], Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    let mut newest: HashMap<u128, u64, foldhash::fast::RandomState> = HashMap::default();
    let mut number = 0;
    for run in runs {
        read_run(&run.file, read(&run.file)?, |node, key, _| {
            number += 1;
            newest.insert(identity(node, key), number);
            Ok(())
        })?;
    }
    number = 0;
    for run in runs {
        read_run(&run.file, read(&run.file)?, |node, key, value| {
            number += 1;
            if newest.get(&identity(node, key)) == Some(&number) { visit(node, key, value) } else { Ok(()) }
        })?;
    }
    Ok(())
}

/// 128 bits that stand for a key of a node.
fn identity(node: &str, key: &[u8]) -> u128 {
    xxh3_128_with_seed(key, xxh3_64(node.as_bytes()))
}

/// Visits every entry of a run, in the order they were added.
fn read_run(file: &str, data: Vec<u8>, mut visit: impl FnMut(&str, &[u8], Option<&[u8]>) -> Result<()>) -> Result<()> {
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
    #[test]
    fn of_several_runs_the_newest_entry_of_each_key_is_visited_once_in_their_order() {
        let mut files = HashMap::new();
        let mut write = |file: &str, entries: &[(&str, &str, Option<&str>)]| {
            let mut run = RunBuilder::new();
            for (node, key, value) in entries {
                run.add(node, key.as_bytes(), value.map(str::as_bytes));
            }
            files.insert(file.to_string(), run.finish().unwrap().unwrap());
            RunRecord { file: file.into(), bytes: 1 }
        };
        let runs = [
            write("1", &[("a", "z", Some("old")), ("a", "y", Some("kept")), ("b", "z", Some("other node"))]),
            write("2", &[("a", "x", Some("twice")), ("a", "z", None), ("a", "x", Some("last"))]),
        ];
        let mut seen = vec![];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        read_newest(
            &runs,
            |file| Ok(files[file].clone()),
            |node, key, value| {
                seen.push(format!("{node} {} {:?}", text(key), value.map(text)));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, ["a y Some(\"kept\")", "b z Some(\"other node\")", "a z None", "a x Some(\"last\")"]);
    }

    #[test]
    fn a_run_of_many_batches_is_read_whole() {
        let mut run = RunBuilder::new();
        let many = BATCH_ENTRIES as u32 * 2 + 7;
        (0..many).for_each(|number| run.add("n", &number.to_be_bytes(), Some(&[1])));
        let data = run.finish().unwrap().unwrap();
        let mut next = 0u32;
        read_run("x", data, |_, key, _| {
            assert_eq!(key, next.to_be_bytes());
            next += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(next, many);
        assert!(RunBuilder::new().finish().unwrap().is_none());
    }
}
