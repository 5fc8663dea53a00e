//! The manifest of an epoch: one file decides state, source positions, watermarks and sinks together.

use crate::source::{DeadLetter, PartitionPosition};
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
