//! Where a table's newest metadata is.
//!
//! Tables of a file system ("Commit Protocol: File System Tables") have `metadata/v<N>.metadata.json`, which is put only
//! when there is none; those of a catalog have `metadata/<N>-<uuid>.metadata.json`, of which the newest by its number is
//! taken where there is no catalog to be asked.

use crate::metadata::{self, Metadata};
use crate::paths::Paths;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};
use rivermere_table::{Location, TableError};
use std::sync::Arc;
use tokio::sync::Mutex;

const LOOKING: &str = "looking for the newest metadata";
const ENDING: &str = ".metadata.json";
const FOLDER: &str = "metadata";

/// A table's folder, or one file of metadata.
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) folder: Path,
    fixed: Option<Path>,
    newest: Mutex<Option<Arc<Found>>>,
}

/// Metadata and its file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) file: Path,
    pub(crate) metadata: Metadata,
}

impl Found {
    /// How metadata calls the table's files.
    pub(crate) fn paths(&self, place: &Place) -> Paths {
        Paths::new(&place.location, &place.folder, self.metadata.table.location())
    }
}

impl Place {
    /// The folder of a table, or, when its name ends in `.metadata.json`, the table as that file says.
    pub(crate) fn new(location: Location) -> Self {
        let path = location.path().clone();
        let (folder, fixed) = match path.filename().is_some_and(|name| name.contains(ENDING)) {
            true => {
                let parts: Vec<_> = path.parts().collect();
                (parts.iter().take(parts.len().saturating_sub(2)).cloned().collect(), Some(path))
            }
            false => (path, None),
        };
        Self { location, folder, fixed, newest: Mutex::new(None) }
    }

    pub(crate) fn file(&self, number: u64) -> Path {
        self.folder.clone().join(FOLDER).join(format!("v{number}{ENDING}"))
    }

    fn failed(&self, error: Error) -> TableError {
        TableError::storage(LOOKING, self.location.to_string(), error)
    }

    /// The newest metadata, read once for as long as it is the newest.
    ///
    /// # Errors
    /// [`TableError::Missing`] when there is no table.
    pub(crate) async fn newest(&self) -> Result<Arc<Found>, TableError> {
        let mut newest = self.newest.lock().await;
        if let (Some(known), true) = (&*newest, self.fixed.is_some()) {
            return Ok(known.clone());
        }
        let (number, file) = match (&self.fixed, &*newest) {
            (Some(fixed), _) => (0, fixed.clone()),
            // The next one of a file system's table has a name that is known.
            (None, Some(known)) if known.file == self.file(known.number) => {
                let mut number = known.number;
                while self.exists(&self.file(number + 1)).await? {
                    number += 1;
                }
                (number, self.file(number))
            }
            (None, _) => self.look().await?,
        };
        if let Some(known) = newest.as_ref().filter(|known| known.file == file) {
            return Ok(known.clone());
        }
        let read = async { self.location.store().get(&file).await?.bytes().await };
        let bytes = read.await.map_err(|error| match error {
            Error::NotFound { .. } => TableError::Missing { location: self.location.to_string() },
            error => self.failed(error),
        })?;
        let metadata = metadata::read(&bytes, &self.location.to_string(), file.as_ref())?;
        let found = Arc::new(Found { number, file, metadata });
        *newest = Some(found.clone());
        Ok(found)
    }

    async fn exists(&self, file: &Path) -> Result<bool, TableError> {
        match self.location.store().head(file).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn look(&self) -> Result<(u64, Path), TableError> {
        let folder = self.folder.clone().join(FOLDER);
        let mut files = self.location.store().list(Some(&folder));
        let mut newest = None;
        while let Some(file) = files.try_next().await.map_err(|error| self.failed(error))? {
            let number = file.location.filename().and_then(number_of);
            let key = number.map(|number| (number, file.last_modified, file.location));
            newest = newest.max(key);
        }
        match newest {
            Some((number, _, file)) => Ok((number, file)),
            None => Err(TableError::Missing { location: self.location.to_string() }),
        }
    }
}

/// Of `v12.metadata.json`, `v12.gz.metadata.json`, `00012-<uuid>.metadata.json` and the like.
fn number_of(name: &str) -> Option<u64> {
    let (stem, _) = name.split_once(ENDING)?;
    let stem = stem.strip_suffix(".gz").unwrap_or(stem);
    match stem.strip_prefix('v') {
        Some(number) => number.parse().ok(),
        None => stem.split_once('-')?.0.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_metadata_files_are_known() {
        assert_eq!(number_of("v12.metadata.json"), Some(12));
        assert_eq!(number_of("v3.gz.metadata.json"), Some(3));
        assert_eq!(number_of("v3.metadata.json.gz"), Some(3));
        assert_eq!(number_of("00012-43fda1f4-1c96-4376-ad16-91beb71d0759.metadata.json"), Some(12));
        assert_eq!(
            (number_of("v1-m0.avro"), number_of("version-hint.text"), number_of("x.metadata.json")),
            (None, None, None)
        );
    }
}
