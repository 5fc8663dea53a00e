//! What this room must know of the platform, and nothing more.
//!
//! The assembly implements [`Platform`]; tests implement it over a fixed table. Everything here is a value or a cheap
//! handle: no method blocks, except that the futures of [`Platform::sql`] and [`Platform::append`] wait for the disk.

use crate::Dashboard;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use rivermere_base::{Changes, Code};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::broadcast;

/// The running platform as this room sees it.
pub trait Platform: Send + Sync + 'static {
    /// All maintained views.
    fn views(&self) -> Vec<ViewInfo>;

    /// The view at the last finished step; `None` when there is no such view. Cheap: a few reference counts.
    fn snapshot(&self, view: &str) -> Option<Snapshot>;

    /// The changes of a view after a moment that the caller knows, or from the whole view on; `None` when there is no
    /// such view. There is no gap and no overlap between [`ChangeFeed::start`] and [`ChangeFeed::rx`].
    fn changes(&self, view: &str, after: Option<ChangeId>) -> Option<ChangeFeed>;

    /// The pipeline at this moment.
    fn status(&self) -> Status;

    /// The project's dashboards as they are on disk now.
    fn dashboards(&self) -> Vec<Dashboard>;

    /// A fresh session over the catalog: topics (read to the high watermark), views, lake tables. It is used for one
    /// statement, so that it sees what exists at that moment.
    fn session(&self) -> SessionContext;

    /// Runs any statement: the one door for whatever changes something.
    fn sql(&self, text: String) -> BoxFuture<'static, Result<SqlOutput, SqlProblem>>;

    /// Appends records to one partition of a topic. Resolves to the partition and the offset of the first record, after
    /// the records are durable.
    fn append(&self, topic: String, values: Vec<Bytes>) -> BoxFuture<'static, Result<(i32, i64), SqlProblem>>;

    /// The Iceberg tables, as a REST catalog has them: names as an array, or a table as `LoadTableResult`.
    fn iceberg(&self, ask: CatalogAsk) -> BoxFuture<'static, Result<Value, CatalogRefusal>>;
}

/// What is asked of the catalog of Iceberg tables.
#[derive(Clone, Debug)]
pub enum CatalogAsk {
    Tables,
    Load(String),
    /// The `CreateTableRequest` as it came.
    Create(Bytes),
    /// A table, and the `CommitTableRequest` as it came.
    Commit(String, Bytes),
    /// A table's name is to be forgotten. Its files stay.
    Drop(String),
}

/// Why the catalog does not do what is asked, with a text for people.
#[derive(Clone, Debug)]
pub enum CatalogRefusal {
    NoNamespace(String),
    NoTable(String),
    /// There is something of that name.
    Exists(String),
    Invalid(String),
    Forbidden(String),
    /// What a commit requires is not so any more.
    Conflict(String),
    /// Whether a commit was made is not known.
    Unknown(String),
    Failed(String),
}

/// A moment in the life of the change feed: written `generation.epoch.step`, ordered in time.
///
/// Steps restart with each process, so the generation, counted up at each start, comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId {
    pub generation: u64,
    pub epoch: u64,
    pub step: u64,
}

/// A text that is no [`ChangeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RM-6012: '{0}' is no id of a change: expected 'generation.epoch.step', for example '1.12.3456'")]
pub struct ChangeIdError(String);

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.generation, self.epoch, self.step)
    }
}

impl FromStr for ChangeId {
    type Err = ChangeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: Option<&str>| {
            // `u64::from_str` takes a leading plus, which no id of ours has.
            part.filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).and_then(|part| part.parse().ok())
        };
        let mut parts = text.split('.');
        match (number(parts.next()), number(parts.next()), number(parts.next()), parts.next()) {
            (Some(generation), Some(epoch), Some(step), None) => Ok(Self { generation, epoch, step }),
            _ => Err(ChangeIdError(text.chars().take(80).collect())),
        }
    }
}

/// One view in `GET /v1/views`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewInfo {
    pub name: String,
    pub columns: Vec<ColumnInfo>,
    /// Columns that tell rows apart; empty when the plan has no key.
    pub key: Vec<String>,
    pub epoch: u64,
    pub rows: u64,
    /// Whether rows are only ever inserted.
    pub append_only: bool,
    /// The table format it is stored in.
    pub stored_as: Option<String>,
    /// The text it was made with.
    pub sql: String,
}

/// One column in `GET /v1/views`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    pub name: String,
    /// The Arrow type's name.
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
}

/// A view at the end of one step.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub schema: SchemaRef,
    /// A row that is there twice is written twice.
    pub batches: Vec<RecordBatch>,
    /// The last step it contains.
    pub id: ChangeId,
}

impl Snapshot {
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// What one step did to a view.
#[derive(Clone, Debug)]
pub struct ViewChange {
    pub id: ChangeId,
    /// Wall clock at the step's end, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    pub changes: Changes,
}

/// A view's changes from a known moment on.
#[derive(Debug)]
pub struct ChangeFeed {
    pub start: FeedStart,
    /// Everything after `start`. A receiver that lags behind the buffer starts over with a reset.
    pub rx: broadcast::Receiver<Arc<ViewChange>>,
}

/// Where a [`ChangeFeed`] starts.
#[derive(Clone, Debug)]
pub enum FeedStart {
    /// All steps after the moment asked for; it was still in the buffer.
    Resumed(Vec<Arc<ViewChange>>),
    /// The whole view.
    Reset(Snapshot),
}

/// The answer of [`Platform::sql`].
#[derive(Clone, Debug)]
pub struct SqlOutput {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// Why a statement or an append was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct SqlProblem {
    pub kind: ProblemKind,
    pub code: Code,
    /// What and where, without the code.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl SqlProblem {
    /// A problem of kind [`ProblemKind::Invalid`].
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Invalid, code, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn with_kind(mut self, kind: ProblemKind) -> Self {
        self.kind = kind;
        self
    }
}

/// The kind of a problem: what HTTP's status and PostgreSQL's SQLSTATE are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The text does not parse.
    Syntax,
    /// It parses, but asks for something that cannot be.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// It makes something that exists already.
    AlreadyExists,
    /// It is understood and not built.
    Unsupported,
    /// A value does not fit: division by zero, out of range, wrong type.
    Data,
    /// The platform is starting, stopping or overloaded: ask again.
    Unavailable,
    /// Our fault, or the disk's.
    Internal,
}

/// The state of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Restoring or bootstrapping; not yet answering for all views.
    Starting,
    Running,
    Stopping,
    /// The pipeline has stopped on an error; what is kept is still served.
    Failed,
}

/// `GET /v1/status`: what one process does at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The project's name.
    pub name: String,
    pub state: RunState,
    /// Why the state is what it is, when there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub version: String,
    pub uptime_ms: u64,
    pub generation: u64,
    pub epoch: u64,
    pub step: u64,
    /// Records that are in topics and not yet in views.
    pub lag: u64,
    pub rss_bytes: u64,
    pub addresses: Addresses,
    pub nodes: Vec<NodeStatus>,
    /// Pairs of node ids in the direction of the data.
    pub edges: Vec<(String, String)>,
    pub sinks: Vec<SinkStatus>,
    pub watermarks: Vec<WatermarkStatus>,
}

/// Where the process listens; a listener that is off has no address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg: Option<String>,
}

/// One box of the pipeline's picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub id: String,
    pub kind: NodeKind,
    pub label: String,
    /// Records or changes per second, over the last seconds.
    pub rate: f64,
    pub rows: u64,
    pub lag: u64,
    /// Rows that came after their window was closed.
    pub late: u64,
    /// Records in the dead-letter topic.
    pub dead: u64,
    #[serde(default)]
    pub detail: String,
}

/// What a [`NodeStatus`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Topic,
    Source,
    View,
    Sink,
    File,
}

impl NodeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Source => "source",
            Self::View => "view",
            Self::Sink => "sink",
            Self::File => "file",
        }
    }
}

/// How far a stored view has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    pub id: String,
    pub view: String,
    pub format: String,
    pub staged_epoch: u64,
    pub confirmed_epoch: u64,
    pub location: String,
}

/// How far event time has come in one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkStatus {
    pub table: String,
    pub column: String,
    /// ISO 8601; `None` before the first row.
    pub watermark: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_id_reads_back_what_it_writes() {
        let id = ChangeId { generation: 3, epoch: 0, step: u64::MAX };
        assert_eq!(id.to_string().parse::<ChangeId>(), Ok(id));
    }

    #[test]
    fn texts_that_are_no_change_id_are_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "+1.2.3", "1.2.-3", "1..3", "1.2.99999999999999999999"] {
            assert!(text.parse::<ChangeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn later_moments_are_greater() {
        let id = |generation, epoch, step| ChangeId { generation, epoch, step };
        assert!(id(1, 9, 9) < id(2, 0, 0) && id(1, 1, 9) < id(1, 2, 0) && id(1, 1, 1) < id(1, 1, 2));
    }
}
