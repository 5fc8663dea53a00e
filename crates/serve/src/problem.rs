//! What can go wrong in this room, and how it is told over each protocol.

use crate::{ChangeIdError, ProblemKind, SqlProblem};
use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use rivermere_base::Code;
use std::time::Duration;

/// An error of the serving room. The text starts with its stable code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    #[error("RM-6001: there is nothing at '{path}'")]
    NoSuchPath { path: String },
    #[error("RM-6002: there is no view '{view}'")]
    NoSuchView { view: String, similar: Option<String> },
    #[error("RM-6003: '{name}' is neither a column of '{view}' nor a parameter")]
    NoSuchParameter { name: String, view: String, similar: Option<String> },
    #[error("RM-6004: '{value}' is no {wanted} for '{name}'")]
    WrongValue { name: String, value: String, wanted: String },
    #[error("RM-6005: the format '{format}' is not offered")]
    NoSuchFormat { format: String },
    #[error("RM-6006: the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("RM-6007: the content type '{found}' is not accepted here")]
    WrongContentType { found: String, wanted: &'static str },
    #[error("RM-6008: the body is not what was expected at line {line}, column {column}: {reason}")]
    WrongBody { line: usize, column: usize, reason: String },
    #[error("RM-6009: the Host header '{host}' does not name this machine")]
    ForeignHost { host: String },
    #[error("RM-6010: a page of another site ('{origin}') may not do this")]
    ForeignOrigin { origin: String },
    #[error("RM-6011: {what} in use: {limit} at most")]
    Busy { what: &'static str, limit: usize },
    #[error(transparent)]
    ChangeId(#[from] ChangeIdError),
    #[error("RM-6013: {method} is not possible at '{path}'")]
    WrongMethod { method: String, path: String },
    #[error("RM-6014: the result has more than {limit} rows")]
    TooManyRows { limit: usize },
    #[error("RM-6015: the view '{view}' has more than {limit} rows, too many to push")]
    ViewTooLarge { view: String, limit: usize },
    #[error("RM-6016: the statement did not finish within {0:?}")]
    TimedOut(Duration),
    #[error("RM-6017: column '{column}' of type {data_type} cannot be written as CSV")]
    NotForCsv { column: String, data_type: String },
    #[error("RM-6018: rows cannot be written: {0}")]
    Rows(#[from] ArrowError),
    #[error("{0}")]
    Statement(#[from] SqlProblem),
    #[error("RM-6021: a listener failed: {0}")]
    Listener(#[source] std::io::Error),
    #[error(
        "RM-6022: refusing to listen on {0}: only addresses of this machine are served until there is authentication"
    )]
    NotLoopback(std::net::SocketAddr),
    #[error("RM-6023: the threads for statements cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    #[error("RM-6024: the catalog for Postgres clients cannot be set up: {0}")]
    Catalog(#[source] Box<DataFusionError>),
    #[error("RM-6025: the process is ending")]
    Ending,
}

impl ServeError {
    /// The stable code at the start of the text.
    pub fn code(&self) -> String {
        self.to_string().split(':').next().unwrap_or_default().to_owned()
    }

    /// The text without its code.
    pub fn message(&self) -> String {
        let text = self.to_string();
        text.split_once(": ").map_or(text.clone(), |(_, message)| message.to_owned())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSuchPath { .. } => "the resources are /v1/views, /v1/views/NAME, /v1/views/NAME/changes, /v1/sql, \
                /v1/topics/NAME/records, /v1/status, /v1/dashboards, /metrics, /healthz and /readyz"
                .into(),
            Self::NoSuchView { similar: Some(similar), .. } => format!("did you mean '{similar}'?"),
            Self::NoSuchView { similar: None, .. } => "GET /v1/views lists all views".into(),
            Self::NoSuchParameter { similar: Some(similar), .. } => format!("did you mean '{similar}'?"),
            Self::NoSuchParameter { similar: None, .. } => {
                "parameters are 'limit', 'order', 'format' and the names of columns".into()
            }
            Self::NoSuchFormat { .. } => {
                "json, ndjson and csv are: as format=…, or as application/json, application/x-ndjson or text/csv in Accept"
                    .into()
            }
            Self::BodyTooLarge { .. } => "send it in several requests".into(),
            Self::WrongContentType { wanted, .. } => format!("send the header Content-Type: {wanted}"),
            Self::ForeignHost { .. } => "use http://127.0.0.1 or http://localhost".into(),
            Self::ForeignOrigin { .. } => "only pages served by this address may send statements and records".into(),
            Self::Busy { .. } => "try again in a moment".into(),
            Self::ChangeId(_) => "leave the id out to start with the whole view".into(),
            Self::TooManyRows { .. } => "add a LIMIT or a WHERE clause, or read it in parts".into(),
            Self::ViewTooLarge { .. } => {
                "push a smaller view made from it, or read it with GET /v1/views/NAME?limit=…".into()
            }
            Self::TimedOut(_) => "ask for fewer rows, or keep the answer up to date as a materialized view".into(),
            Self::NotForCsv { .. } => "ask for json or ndjson".into(),
            Self::Statement(problem) => return problem.hint.clone(),
            Self::NotLoopback(_) => "use 127.0.0.1 or [::1]".into(),
            _ => return None,
        };
        Some(hint)
    }

    pub(crate) fn kind(&self) -> ProblemKind {
        match self {
            Self::NoSuchPath { .. } | Self::NoSuchView { .. } => ProblemKind::NotFound,
            Self::Busy { .. } | Self::Ending => ProblemKind::Unavailable,
            Self::WrongValue { .. } => ProblemKind::Data,
            Self::Statement(problem) => problem.kind,
            Self::Rows(_) | Self::Listener(_) | Self::Threads(_) | Self::Catalog(_) => ProblemKind::Internal,
            _ => ProblemKind::Invalid,
        }
    }
}

/// The name nearest to a mistyped one, when one is near enough to be meant.
pub(crate) fn similar<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Distance is quadratic in the length, and nobody mistypes a name of a thousand letters.
    if wanted.len() > 200 {
        return None;
    }
    let folded = wanted.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(folded.chars().count()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}

/// DataFusion's errors in our words: kind, code and the part of the text that helps.
pub(crate) fn from_datafusion(error: &DataFusionError) -> SqlProblem {
    let root = error.find_root();
    if let DataFusionError::External(inner) = root {
        if let Some(problem) = inner.downcast_ref::<SqlProblem>() {
            return problem.clone();
        }
        if let Some(ServeError::Statement(problem)) = inner.downcast_ref::<ServeError>() {
            return problem.clone();
        }
    }
    let (kind, code) = match root {
        DataFusionError::SQL(..) => (ProblemKind::Syntax, 6030),
        DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }) => {
            (ProblemKind::NotFound, 6031)
        }
        DataFusionError::Plan(text) if text.contains("not found") => (ProblemKind::NotFound, 6031),
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::Configuration(_) => {
            (ProblemKind::Invalid, 6032)
        }
        DataFusionError::NotImplemented(_) => (ProblemKind::Unsupported, 6033),
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => (ProblemKind::Data, 6034),
        DataFusionError::ResourcesExhausted(_) => (ProblemKind::Unavailable, 6035),
        _ => (ProblemKind::Internal, 6036),
    };
    SqlProblem::new(Code(code), root.message().trim().to_owned()).with_kind(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_guessed_and_a_foreign_one_is_not() {
        let known = ["delays_by_airport", "flights", "carriers"];
        assert_eq!(similar("delay_by_airport", known).as_deref(), Some("delays_by_airport"));
        assert_eq!(similar("Flight", known).as_deref(), Some("flights"));
        assert_eq!(similar("weather", known), None);
        assert_eq!(similar(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn code_and_message_are_apart() {
        let error = ServeError::NoSuchView { view: "a: b".into(), similar: None };
        assert_eq!(error.code(), "RM-6002");
        assert_eq!(error.message(), "there is no view 'a: b'");
        let problem = ServeError::from(SqlProblem::new(Code(3007), "line 1: no table 'x'"));
        assert_eq!((problem.code().as_str(), problem.message().as_str()), ("RM-3007", "line 1: no table 'x'"));
    }
}
