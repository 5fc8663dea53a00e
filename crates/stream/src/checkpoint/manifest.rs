//! The manifest of an epoch: one file decides state, source positions, watermarks and sinks together.

use crate::source::{DeadLetter, LakePosition, PartitionPosition};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rivermere_base::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Version of the layout of everything under `state/`.
pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Made with the first manifest: names this pipeline's life in every table that it writes.
    pub incarnation: Uuid,
    pub generation: u64,
    pub epoch: Epoch,
    /// Wall clock, milliseconds since 1970-01-01 UTC.
    pub written_ms: i64,
    pub objects: Vec<ObjectRecord>,
    /// Partitions of each table's topic.
    pub positions: BTreeMap<String, Vec<PartitionPosition>>,
    /// Of the tables of the lake that views read.
    #[serde(default)]
    pub lakes: BTreeMap<String, LakePosition>,
    /// Oldest first; an entry of a later run replaces that of an earlier one.
    pub runs: Vec<RunRecord>,
    pub sinks: Vec<SinkRecord>,
    /// To be appended to their topics with this epoch as marker.
    pub dead_letters: Vec<DeadLetter>,
    /// Rows and records left out so far, by object.
    pub late: BTreeMap<String, u64>,
    pub dead: BTreeMap<String, u64>,
}

/// A table or view that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    pub name: String,
    /// `table`, `external` or `view`.
    pub kind: String,
    pub text: String,
    /// Of a view: its state fits plans of this fingerprint only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Made by a statement and not by a file of the project.
    #[serde(default)]
    pub ad_hoc: bool,
    /// Of a table of the lake: its columns when it was last opened, so that a start does not hang on whether it can be
    /// reached. The schema message of an Arrow IPC stream, in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
}

impl ObjectRecord {
    /// Columns as they are kept.
    pub(crate) fn keep_columns(schema: &Schema) -> Option<String> {
        let mut bytes = vec![];
        // Into memory, which does not fail; without them only an unreachable table would be missed.
        StreamWriter::try_new(&mut bytes, schema).ok()?;
        Some(BASE64_STANDARD.encode(bytes))
    }

    /// The columns that are kept, if any can be read.
    pub fn columns(&self) -> Option<SchemaRef> {
        let bytes = BASE64_STANDARD.decode(self.columns.as_ref()?).ok()?;
        Some(StreamReader::try_new(bytes.as_slice(), None).ok()?.schema())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// File name under `runs/`.
    pub file: String,
    pub bytes: u64,
}

/// Output of one stored view that its table may not have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkRecord {
    pub view: String,
    /// The first epoch that the view may have output in.
    #[serde(default)]
    pub since: Epoch,
    /// Sealed epochs that the table has not confirmed, oldest first: their files are under `staged/<view>/`.
    pub staged: Vec<Epoch>,
    /// The newest epoch that the table is known to hold.
    pub confirmed: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, TimeUnit};

    #[test]
    fn columns_are_kept_with_all_that_they_are() {
        let item = Field::new("element", DataType::Decimal128(10, 2), true);
        let schema = Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new_list("prices", item, true),
        ]);
        let record = ObjectRecord {
            name: "t".into(),
            kind: "external".into(),
            text: String::new(),
            fingerprint: None,
            ad_hoc: true,
            columns: ObjectRecord::keep_columns(&schema),
        };
        let read: ObjectRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(read.columns().unwrap().as_ref(), &schema);
        assert_eq!(ObjectRecord { columns: Some("no base 64".into()), ..record }.columns(), None);
    }
}
