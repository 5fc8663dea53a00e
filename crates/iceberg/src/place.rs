//! Where a table's newest metadata is.
//!
//! Tables of a file system ("Commit Protocol: File System Tables") have `metadata/v<N>.metadata.json`, which is put only
//! when there is none; those of a catalog have `metadata/<N>-<uuid>.metadata.json`, of which the newest by its number is
//! taken where there is no catalog to be asked.

use crate::metadata::{self, Metadata};
use crate::metastore;
use crate::paths::Paths;
use crate::rest::{Entry, Loaded, Locate};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};
use rivermere_store::{Described, MetastoreTable};
use rivermere_table::{Location, TableError};
use std::sync::Arc;
use tokio::sync::Mutex;

const LOOKING: &str = "looking for the newest metadata";
const ENDING: &str = ".metadata.json";
const FOLDER: &str = "metadata";

/// A catalog's entry that says which metadata is the newest.
#[derive(Clone, Debug)]
pub(crate) enum Keeper {
    /// Hands it out, and makes commits.
    Rest(Entry),
    /// Names its file.
    Metastore(MetastoreTable),
}

/// A table's folder, or one file of metadata.
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) folder: Path,
    fixed: Option<Path>,
    /// Who says which metadata is the newest, where a catalog does.
    catalog: Option<Keeper>,
    newest: Mutex<Option<Arc<Found>>>,
}

/// Metadata and its file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) file: Path,
    pub(crate) metadata: Metadata,
    /// What tells the file from another one of its name, of a table that was made anew.
    written: Written,
    /// The metastore's entry that named it.
    pub(crate) described: Option<Arc<Described>>,
}

type Written = (DateTime<Utc>, Option<String>);

impl Found {
    /// The file as metadata calls it.
    pub(crate) fn name(&self) -> String {
        let folder = self.metadata.table.location().trim_end_matches('/');
        format!("{folder}/{FOLDER}/{}", self.file.filename().unwrap_or_default())
    }

    /// The file as the catalog calls it.
    pub(crate) fn name_in_catalog(&self) -> &str {
        self.written.1.as_deref().unwrap_or_default()
    }

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
        Self { location, folder, fixed, catalog: None, newest: Mutex::new(None) }
    }

    /// The folder of a table of a catalog.
    pub(crate) fn of_catalog(location: Location, catalog: Keeper) -> Self {
        let folder = location.path().clone();
        Self { location, folder, fixed: None, catalog: Some(catalog), newest: Mutex::new(None) }
    }

    pub(crate) fn catalog(&self) -> Option<&Keeper> {
        self.catalog.as_ref()
    }

    /// What a catalog has answered, as the newest metadata.
    pub(crate) async fn answered(&self, loaded: Loaded) -> Result<Arc<Found>, TableError> {
        let mut newest = self.newest.lock().await;
        match known(&newest, &loaded.file) {
            Some(known) => Ok(known),
            None => self.take(&mut newest, loaded.file, loaded.metadata.get().as_bytes(), None),
        }
    }

    /// The metadata in the file that a metastore names, as the newest.
    pub(crate) async fn pointed(&self, described: Described) -> Result<Arc<Found>, TableError> {
        let mut newest = self.newest.lock().await;
        let name = described.metadata.clone().unwrap_or_default();
        if let Some(found) = known(&newest, &name) {
            // The entry may have changed in something else, over which the next commit is made.
            let found = Arc::new(Found { described: Some(Arc::new(described)), ..(*found).clone() });
            *newest = Some(found.clone());
            return Ok(found);
        }
        let theirs = newest.as_ref().map_or("", |known| known.metadata.table.location());
        let file = Paths::new(&self.location, &self.folder, theirs).find(&name)?;
        let read = async { self.location.store().get(&file).await?.bytes().await };
        let bytes = read.await.map_err(|error| self.failed(error))?;
        self.take(&mut newest, name, &bytes, Some(Arc::new(described)))
    }

    /// The table of a metastore: its folder is where its metadata says, wherever the metastore's entry has it.
    pub(crate) async fn of_metastore(table: MetastoreTable, locate: &Locate) -> Result<Self, TableError> {
        let described = metastore::described(&table).await?;
        let name = described.metadata.clone().unwrap_or_default();
        let file = locate(&name)?;
        let failed = |error: Error| TableError::storage(LOOKING, table.to_string(), error);
        let read = async { file.store().get(file.path()).await?.bytes().await };
        let bytes = read.await.map_err(failed)?;
        let metadata = metadata::read(&bytes, &table.to_string(), &name)?;
        let place = Self::of_catalog(locate(metadata.table.location())?, Keeper::Metastore(table));
        place.take(&mut *place.newest.lock().await, name, &bytes, Some(Arc::new(described)))?;
        Ok(place)
    }

    fn take(
        &self,
        newest: &mut Option<Arc<Found>>,
        name: String,
        bytes: &[u8],
        described: Option<Arc<Described>>,
    ) -> Result<Arc<Found>, TableError> {
        let metadata = metadata::read(bytes, &self.location.to_string(), &name)?;
        let moved = newest.as_ref().is_some_and(|known| known.metadata.table.location() != metadata.table.location());
        if moved {
            // Names of files would be those of the new folder, and the files in the old one.
            let reason = format!("it was moved to '{}': start again", metadata.table.location());
            return Err(TableError::UnfitStorage { location: self.location.to_string(), reason });
        }
        let file = Paths::new(&self.location, &self.folder, metadata.table.location()).find(&name)?;
        let number = file.filename().and_then(number_of).unwrap_or_default();
        let written = (DateTime::UNIX_EPOCH, Some(name));
        let found = Arc::new(Found { number, file, metadata, written, described });
        *newest = Some(found.clone());
        Ok(found)
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
        match &self.catalog {
            Some(Keeper::Rest(entry)) => return self.answered(entry.load().await?).await,
            Some(Keeper::Metastore(table)) => return self.pointed(metastore::described(table).await?).await,
            None => {}
        }
        let mut newest = self.newest.lock().await;
        if let (Some(known), true) = (&*newest, self.fixed.is_some()) {
            return Ok(known.clone());
        }
        let (number, file) = match (&self.fixed, &*newest) {
            (Some(fixed), _) => (0, fixed.clone()),
            // The next one of a file system's table has a name that is known.
            (None, Some(known)) if known.file == self.file(known.number) => {
                let mut number = known.number;
                while self.written(&self.file(number + 1)).await?.is_some() {
                    number += 1;
                }
                if number > known.number {
                    (number, self.file(number))
                } else {
                    // Metadata that is long outdated is removed, and a table may be made anew: whoever saw it last would wait
                    // for its successor for ever. Others may write what comes next compressed.
                    let is_there = self.written(&known.file).await?.as_ref() == Some(&known.written);
                    if is_there && self.written(&self.packed(number + 1)).await?.is_none() {
                        return Ok(known.clone());
                    }
                    self.look().await?
                }
            }
            (None, _) => self.look().await?,
        };
        if let Some(known) = newest.as_ref().filter(|known| known.file == file)
            && self.written(&file).await?.as_ref() == Some(&known.written)
        {
            return Ok(known.clone());
        }
        let read = async {
            let answer = self.location.store().get(&file).await?;
            let written = (answer.meta.last_modified, answer.meta.e_tag.clone());
            Ok((answer.bytes().await?, written))
        };
        let (bytes, written) = read.await.map_err(|error| match error {
            Error::NotFound { .. } => TableError::Missing { location: self.location.to_string() },
            error => self.failed(error),
        })?;
        let metadata = metadata::read(&bytes, &self.location.to_string(), file.as_ref())?;
        let found = Arc::new(Found { number, file, metadata, written, described: None });
        *newest = Some(found.clone());
        Ok(found)
    }

    /// Whether a file is metadata of a number of this table's: of those that it once had, or that was not taken.
    pub(crate) fn is_metadata(&self, file: &Path, number: u64) -> bool {
        match &self.catalog {
            None => *file == self.file(number),
            // Of a REST catalog's, that catalog removes it.
            Some(Keeper::Rest(_)) => false,
            Some(Keeper::Metastore(_)) => {
                let folder = self.folder.clone().join(FOLDER);
                file.prefix_matches(&folder) && file.filename().is_some_and(|name| !name.starts_with('v'))
            }
        }
    }

    /// Why nothing is written to the table, if so.
    pub(crate) fn unwritable(&self, found: &Found) -> Option<&'static str> {
        if self.fixed.is_some() {
            return Some("it is opened as one file of its metadata says, and changed by the name of its folder");
        }
        if !found.metadata.manifests.is_empty() {
            return Some("its snapshots name manifests, as version 1 once had it, and no lists of them");
        }
        if self.catalog.is_some() || found.file == self.file(found.number) {
            return None;
        }
        match found.file.filename().is_some_and(|name| name.starts_with('v')) {
            true => Some(
                "its metadata is compressed, which is read and not written: set write.metadata.compression-codec to none \
                 with the engine that writes it",
            ),
            false => Some(
                "a catalog says which of its metadata is the newest, so it is changed through that alone: name it by its \
                 catalog, as iceberg+https://host/namespace.table or glue://region/database.table",
            ),
        }
    }

    /// As writers name it that compress metadata.
    fn packed(&self, number: u64) -> Path {
        self.folder.clone().join(FOLDER).join(format!("v{number}.gz{ENDING}"))
    }

    /// Whether metadata may be put as that of a number: what it follows is there, and nobody has put it compressed.
    pub(crate) async fn may_follow(&self, number: u64) -> Result<bool, TableError> {
        let before = number.checked_sub(1).filter(|before| *before > 0);
        let follows = match before {
            Some(before) => self.written(&self.file(before)).await?.is_some(),
            None => true,
        };
        Ok(follows && self.written(&self.packed(number)).await?.is_none())
    }

    async fn written(&self, file: &Path) -> Result<Option<Written>, TableError> {
        match self.location.store().head(file).await {
            Ok(meta) => Ok(Some((meta.last_modified, meta.e_tag))),
            Err(Error::NotFound { .. }) => Ok(None),
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

/// What is known, when it is of a catalog's file.
fn known(newest: &Option<Arc<Found>>, file: &str) -> Option<Arc<Found>> {
    newest.as_ref().filter(|known| known.name_in_catalog() == file).cloned()
}

/// Of `v12.metadata.json`, `v12.gz.metadata.json`, `00012-<uuid>.metadata.json` and the like.
pub(crate) fn number_of(name: &str) -> Option<u64> {
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
