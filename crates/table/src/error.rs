//! Everything that can go wrong between a view and its table.

use rivermere_base::Epoch;
use std::error::Error;
use std::io;

/// Why a table was not opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    #[error(
        "RM-5001: the table at '{location}' was not written by this pipeline ({found}). Start with --adopt to keep its \
         rows and write on from there, with --overwrite to replace them, or give the view another LOCATION"
    )]
    Foreign { location: String, found: String },

    #[error(
        "RM-5002: view '{view}' takes back {rows} row(s) that were published, but its table only accepts new rows; \
         declare a key so that it is merged, or use EMIT ON WINDOW CLOSE"
    )]
    Retraction { view: String, rows: u64 },

    #[error(
        "RM-5003: ({key}) is not a key of view '{view}': {keys} value(s) of it have more than one row, so merging would \
         lose rows; choose columns that identify a row"
    )]
    NotAKey { view: String, key: String, keys: u64 },

    #[error("RM-5004: column '{column}' has type {data_type}, which {format} tables cannot hold: {hint}")]
    UnsupportedType { column: String, data_type: String, format: &'static str, hint: &'static str },

    #[error("RM-5005: '{column}' cannot be a column name in {format} tables ({reason}): give it a name with AS")]
    UnsupportedName { column: String, format: &'static str, reason: String },

    #[error("RM-5006: the table at '{location}' does not fit the view: {reason}")]
    SchemaMismatch { location: String, reason: String },

    #[error("RM-5007: the table at '{location}' uses {feature}, which is not supported here yet; {hint}")]
    UnsupportedFeature { location: String, feature: String, hint: &'static str },

    #[error(
        "RM-5008: other writers changed the table at '{location}' during each of {attempts} attempts to commit; it is \
         tried again"
    )]
    Conflict { location: String, attempts: u64 },

    #[error(
        "RM-5009: it is not known whether epoch {epoch} reached the table at '{location}' ({reason}); the table is asked \
         before anything is written again"
    )]
    Undecided { location: String, epoch: Epoch, reason: String },

    #[error("RM-5010: {action} at '{location}' failed: {source}")]
    Storage { action: &'static str, location: String, source: Box<dyn Error + Send + Sync> },

    #[error("RM-5011: no space left for the table at '{location}' ({action}): free some, it is tried again")]
    Full { action: &'static str, location: String },

    #[error("RM-5012: {reason}")]
    InvalidSpec { reason: String },

    #[error("RM-5013: {what} cannot be stored in the table at '{location}': {source}")]
    Value { what: String, location: String, source: arrow::error::ArrowError },

    #[error(
        "RM-5021: the table at '{location}' has no version named '{name}'{}",
        if known.is_empty() { ": its versions have numbers".to_owned() } else { format!(", but {known}") }
    )]
    MissingName {
        location: String,
        name: String,
        /// The names that there are.
        known: String,
    },

    #[error("RM-5014: there is no table at '{location}'")]
    Missing { location: String },

    #[error("RM-5020: at '{location}' there is no {wanted} table, but one of {found}: write {found} in its place")]
    OtherFormat { location: String, wanted: &'static str, found: &'static str },

    #[error("RM-5016: no table is written at '{location}': {reason}")]
    UnfitStorage { location: String, reason: String },

    #[error("RM-5017: {verb} cannot be done to the table at '{location}': {reason}")]
    Verb { location: String, verb: &'static str, reason: String },

    #[error(
        "RM-5018: the table at '{location}' has no version of that time; the oldest that it remembers is of {oldest}"
    )]
    MissingTime { location: String, oldest: String },

    #[error(
        "RM-5019: the file '{file}' of the table at '{location}' is damaged: {reason}. Older versions can be read if they do \
         not need it; restore it, or go back to one of them"
    )]
    Damaged { location: String, file: String, reason: String },

    #[error("RM-5015: the table at '{location}' has no version {version}, or forgot it; the newest is {newest}")]
    MissingVersion { location: String, version: i64, newest: i64 },
}

impl TableError {
    /// An error of the storage below; tells a full disk apart from the rest.
    pub fn storage(
        action: &'static str,
        location: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let location = location.into();
        if is_full(source.as_ref()) {
            Self::Full { action, location }
        } else {
            Self::Storage { action, location, source }
        }
    }

    /// Whether the same call can succeed later without anybody changing the view, its options or its table.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Undecided { .. } | Self::Storage { .. } | Self::Full { .. })
    }
}

/// Whether any error below is "no space left" or "quota exceeded".
fn is_full(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return true;
            }
            // `io::Error::source` skips the error that it wraps, and that one may be another `io::Error`.
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
                continue;
            }
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_below_other_errors() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = io::Error::other(io::Error::other(full));
        assert!(matches!(TableError::storage("writing", "t", wrapped), TableError::Full { .. }));
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(TableError::storage("writing", "t", other), TableError::Storage { .. }));
    }
}
