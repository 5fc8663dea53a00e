//! Where rows come from: topics, files and tables of the lake.

mod file;
mod lake;
mod topic;

pub use file::read_file;
pub use lake::{LakePosition, LakeReader, Lakes, OpenTable};
pub use topic::{DeadLetter, PartitionPosition, TopicReader, lateness_field};

use arrow::array::RecordBatch;

/// One row as a JSON object, for dead letters.
pub(crate) fn row_as_json(batch: &RecordBatch, row: usize) -> String {
    let mut out = vec![];
    let mut writer = arrow::json::writer::LineDelimitedWriter::new(&mut out);
    let written = writer.write(&batch.slice(row, 1)).and_then(|()| writer.finish());
    match written {
        Ok(()) => String::from_utf8_lossy(&out).trim_end().to_string(),
        Err(_) => "{}".to_string(),
    }
}
