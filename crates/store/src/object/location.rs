//! Locations to files and back, and errors of the disk as errors of the store.

use chrono::DateTime;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use rivermere_base::{Disk, DiskMetadata};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of this store in errors.
const STORE: &str = "DiskStore";

/// The folder that holds the objects.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
}

impl Root {
    /// The file of an object.
    pub(super) fn file(&self, location: &Path) -> Result<PathBuf> {
        match location.filename() {
            Some(name) if !is_staged(name) => Ok(self.below(location)),
            _ => Err(generic(format!("'{location}' is not the path of an object"))),
        }
    }

    /// The folder of a prefix. A location has neither `.` nor `..` nor empty segments, so it stays below the root.
    pub(super) fn below(&self, location: &Path) -> PathBuf {
        self.folder.join(location.as_ref())
    }
}

/// Whether a file of this name is being written.
pub(super) fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, id)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What the store tells about a file.
pub(super) fn meta(location: Path, found: &DiskMetadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_millis(found.modified_ms).unwrap_or_default(),
        size: found.len,
        e_tag: Some(tag(found)),
        version: None,
    }
}

/// The tag of a version.
pub(super) fn tag(found: &DiskMetadata) -> String {
    format!("{:x}-{:x}", found.modified_ms, found.len)
}

/// Whether the error means that there is no such object: a file where a folder should be is none either.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// An error of the disk about an object.
pub(super) fn failed(location: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| {
        let path = location.to_string();
        match error.kind() {
            _ if is_missing(&error) => Error::NotFound { path, source: error.into() },
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
            io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: error.into() },
            _ => generic(error),
        }
    }
}

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_behind_the_first_hash_marks_a_file_being_written() {
        for staged in ["a#1", "#0", "part.parquet#123"] {
            assert!(is_staged(staged), "{staged}");
        }
        for object in ["a", "a#", "a#b", "a#1b", "a#b#1"] {
            assert!(!is_staged(object), "{object}");
        }
    }
}
