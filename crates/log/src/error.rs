//! What can go wrong in the log, each with a stable code (`RM-2nnn`), the place, and what to do next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rivermere_base::{Offset, PartitionId, TopicName};

use crate::records::RecordsError;

/// An error of the log. Cloneable, because one failed commit fails every append in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file operation failed outside the write path.
    #[error("RM-2001: {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// Files contradict each other or their checksums.
    #[error("RM-2002: {path} is damaged: {detail}; restore the folder from a copy, or move it away to start empty", path = path.display())]
    Corrupt { path: PathBuf, detail: String },
    #[error("RM-2003: there is no topic '{topic}'; create it first")]
    UnknownTopic { topic: String },
    #[error("RM-2004: topic '{topic}' has no partition {partition}")]
    UnknownPartition { topic: TopicName, partition: PartitionId },
    #[error("RM-2005: topic '{topic}' exists already")]
    AlreadyExists { topic: TopicName },
    #[error("RM-2006: offset {offset} of {topic}/{partition} is outside {start}..={high_watermark}")]
    OffsetOutOfRange { topic: TopicName, partition: PartitionId, offset: Offset, start: Offset, high_watermark: Offset },
    /// The bytes to append are not acceptable record batches.
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("RM-2008: {bytes} bytes exceed the limit of {limit} ({what})")]
    TooLarge { what: &'static str, bytes: usize, limit: usize },
    /// An idempotent producer skipped or repeated sequence numbers that are no longer known.
    #[error("RM-2009: producer {producer_id} sent sequence {sequence} to {topic}/{partition}, expected {expected}")]
    OutOfOrderSequence { topic: TopicName, partition: PartitionId, producer_id: i64, sequence: i32, expected: i32 },
    #[error("RM-2010: producer {producer_id} has epoch {epoch} but a newer epoch {current} is known; start it anew")]
    ProducerFenced { producer_id: i64, epoch: i16, current: i16 },
    /// The disk is full. What was acknowledged is safe; the append was not made.
    #[error("RM-2011: no space left for {path}; free some and try again", path = path.display())]
    Full { path: PathBuf },
    #[error("RM-2012: the log is closed")]
    Closed,
    /// A write or fsync failed, so the state on disk is unknown. Reading goes on; writing needs a restart.
    #[error("RM-2013: the log stopped accepting writes: {cause}; what was acknowledged is safe, restart to recover")]
    Poisoned { cause: String },
    #[error("RM-2014: {what}")]
    Invalid { what: String },
    /// More is queued than the log may hold in memory.
    #[error("RM-2015: {queued} bytes wait to be written; slow down and try again")]
    Busy { queued: usize },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) {
            return LogError::Full { path };
        }
        LogError::Io { action, path, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        LogError::Corrupt { path: path.into(), detail: detail.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        LogError::Invalid { what: what.into() }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
