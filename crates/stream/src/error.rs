//! What can go wrong while streaming.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use rivermere_sql::{ExternalTable, SqlError};
use rivermere_table::TableError;
use std::path::PathBuf;

/// Errors of the stream engine. None is about one row: such rows go to the dead letters and the pipeline goes on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0}")]
    Sql(Box<SqlError>),
    #[error("RM-4001: view '{view}': {message}")]
    Operator { view: String, message: String },
    #[error("RM-4002: {0}")]
    Arrow(#[from] ArrowError),
    #[error("RM-4003: {}", .0.strip_backtrace())]
    Plan(Box<DataFusionError>),
    #[error("RM-4004: {action} {}: {source}. Nothing acknowledged is lost; free space or repair the disk and start again", path.display())]
    Disk { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("RM-4005: {} is damaged: {message}. Restore it from a copy, or start over with another --data folder", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error(
        "RM-4006: view '{view}' has changed since it was started (its state no longer fits). Give the new version another name, or start over with another --data folder"
    )]
    Changed { view: String },
    #[error(
        "RM-4007: another process has taken over this data folder (epoch {epoch} is already written); this one stops"
    )]
    Fenced { epoch: u64 },
    #[error(
        "RM-4008: topic '{topic}' partition {partition} ends at offset {end}, before position {position} of the last checkpoint. Restore the log, or start over with another --data folder"
    )]
    LogBehind { topic: String, partition: i32, end: i64, position: i64 },
    #[error("{0}")]
    Log(#[from] rivermere_log::LogError),
    #[error("RM-4009: topic '{topic}': {message}")]
    Records { topic: String, message: String },
    #[error("RM-4010: table '{table}': {message}")]
    File { table: String, message: String },
    #[error("RM-4011: the engine has stopped: {0}")]
    Stopped(String),
    #[error("RM-4012: the table '{table}' at '{location}' cannot be read: {message}")]
    Lake { table: String, location: String, message: String },
}

impl From<SqlError> for StreamError {
    fn from(error: SqlError) -> Self {
        Self::Sql(Box::new(error))
    }
}

impl From<DataFusionError> for StreamError {
    fn from(error: DataFusionError) -> Self {
        Self::Plan(Box::new(error))
    }
}

impl StreamError {
    pub(crate) fn lake(table: &ExternalTable, error: &TableError) -> Self {
        Self::Lake { table: table.name.clone(), location: table.place.location.clone(), message: error.to_string() }
    }

    pub(crate) fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}

pub type Result<T, E = StreamError> = std::result::Result<T, E>;
