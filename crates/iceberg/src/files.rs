//! The files of a snapshot, and which deletes are about which of them.
//!
//! Iceberg spec, "Scan Planning" and "Delete Formats".

use crate::manifests::{Content, DataFile, Manifest, read_list, read_manifest};
use crate::place::{Found, Place};
use datafusion::common::ScalarValue;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{Snapshot, TableMetadata};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use rivermere_table::TableError;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Manifests that are read at a time.
const MANIFESTS_AT_ONCE: usize = 8;
/// The column of position deletes that names their data file, whose bounds may say that it is the only one.
pub(crate) const FILE_PATH: i32 = 2_147_483_546;

/// A data file with the deletes that are about it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) file: Arc<DataFile>,
    pub(crate) deletes: Vec<Arc<DataFile>>,
}

impl Planned {
    /// The deletes that are about this file alone.
    pub(crate) fn own_deletes(&self) -> impl Iterator<Item = &Arc<DataFile>> {
        self.deletes.iter().filter(|delete| delete.content == Content::PositionDeletes && only_file(delete).is_some())
    }

    /// What tells its deletes from those of another snapshot.
    pub(crate) fn deletes_identity(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.deletes.iter().map(|file| file.identity()).collect();
        all.sort_unstable();
        all
    }
}

/// Manifests that were read: they never change.
#[derive(Default)]
pub(crate) struct Manifests(Mutex<HashMap<Known, Arc<Vec<Arc<DataFile>>>>>);

/// A manifest, read with the types of a schema.
type Known = (String, i32);

impl Manifests {
    /// The data files of a snapshot; none without one.
    pub(crate) async fn plan(
        &self,
        place: &Place,
        found: &Found,
        snapshot: Option<&Snapshot>,
    ) -> Result<Vec<Planned>, TableError> {
        let Some(snapshot) = snapshot else { return Ok(vec![]) };
        let files = self.files(place, found, snapshot).await?;
        Ok(planned(&found.metadata.table, files.iter().flat_map(|(_, files)| files.iter())))
    }

    /// Adds every file that a snapshot stands on: its list, its manifests, and the files that these name.
    pub(crate) async fn reach(
        &self,
        place: &Place,
        found: &Found,
        snapshot: &Snapshot,
        reached: &mut BTreeSet<Path>,
    ) -> Result<(), TableError> {
        let paths = found.paths(place);
        if !snapshot.manifest_list().is_empty() {
            reached.insert(paths.find(snapshot.manifest_list())?);
        }
        for (manifest, files) in self.files(place, found, snapshot).await? {
            reached.insert(paths.find(&manifest)?);
            for file in files.iter() {
                reached.insert(paths.find(&file.name)?);
            }
        }
        Ok(())
    }

    async fn files(
        &self,
        place: &Place,
        found: &Found,
        snapshot: &Snapshot,
    ) -> Result<Vec<(String, Arc<Vec<Arc<DataFile>>>)>, TableError> {
        let paths = found.paths(place);
        let location = place.location.to_string();
        let read = async |name: &str| {
            let file = paths.find(name)?;
            let read = async { place.location.store().get(&file).await?.bytes().await };
            read.await.map_err(|error| TableError::storage("reading the list of files", location.clone(), error))
        };
        let damaged = |file: &str, reason: String| TableError::Damaged {
            location: location.clone(),
            file: file.to_owned(),
            reason,
        };
        let listed = match found.metadata.manifests.get(&snapshot.snapshot_id()) {
            Some(named) => named
                .iter()
                .map(|path| Manifest { path: path.clone(), spec_id: 0, sequence: 0, snapshot: snapshot.snapshot_id() })
                .collect(),
            None => {
                let name = snapshot.manifest_list();
                read_list(&read(name).await?).map_err(|reason| damaged(name, reason))?
            }
        };
        let mut known = self.0.lock().await;
        let schema = found.metadata.table.current_schema_id();
        let one = async |manifest: Manifest| {
            if let Some(files) = known.get(&(manifest.path.clone(), schema)) {
                return Ok((manifest.path, files.clone()));
            }
            let bytes = read(&manifest.path).await?;
            let files = read_manifest(&bytes, &manifest, &found.metadata.table);
            let files = files.map_err(|reason| damaged(&manifest.path, reason))?;
            Ok::<_, TableError>((manifest.path, Arc::new(files.into_iter().map(Arc::new).collect())))
        };
        let files: Vec<(String, Arc<Vec<Arc<DataFile>>>)> =
            futures::stream::iter(listed.into_iter().map(one)).buffered(MANIFESTS_AT_ONCE).try_collect().await?;
        let all = files.clone();
        // Those of this snapshot are the ones that the next one most likely has.
        *known = files.into_iter().map(|(path, files)| ((path, schema), files)).collect();
        Ok(all)
    }
}

/// A partition as what compares by value.
type Group<'a> = (i32, &'a [Option<ScalarValue>]);

fn planned<'a>(table: &TableMetadata, files: impl Iterator<Item = &'a Arc<DataFile>>) -> Vec<Planned> {
    let (mut data, mut of_one, mut of_partition, mut of_all) =
        (vec![], HashMap::<&str, Vec<_>>::new(), HashMap::<Group<'_>, Vec<_>>::new(), vec![]);
    for file in files {
        let unpartitioned = || {
            let spec = table.partition_spec_by_id(file.spec_id);
            spec.is_none_or(|spec| spec.is_unpartitioned())
        };
        match file.content {
            Content::Data => data.push(file),
            Content::PositionDeletes => match only_file(file) {
                Some(name) => of_one.entry(name).or_default().push(file),
                None => of_partition.entry((file.spec_id, &file.partition)).or_default().push(file),
            },
            Content::EqualityDeletes if unpartitioned() => of_all.push(file),
            Content::EqualityDeletes => {
                of_partition.entry((file.spec_id, &file.partition)).or_default().push(file);
            }
        }
    }
    let plan = |file: &Arc<DataFile>| {
        let about = of_one.get(file.name.as_str()).into_iter().flatten();
        let group = of_partition.get(&(file.spec_id, file.partition.as_slice())).into_iter().flatten();
        let counts = |delete: &&&Arc<DataFile>| match delete.content {
            Content::EqualityDeletes => delete.sequence > file.sequence,
            _ => delete.sequence >= file.sequence,
        };
        let mut deletes: Vec<Arc<DataFile>> =
            about.chain(group).chain(&of_all).filter(counts).map(|delete| (*delete).clone()).collect();
        // A deletion vector has all positions: files of them are of before.
        if deletes.iter().any(|delete| delete.range.is_some()) {
            deletes.retain(|delete| delete.content == Content::EqualityDeletes || delete.range.is_some());
        }
        Planned { file: (*file).clone(), deletes }
    };
    data.into_iter().map(plan).collect()
}

/// The data file that all positions of a file are about, when that is said.
fn only_file(file: &DataFile) -> Option<&str> {
    if let Some(name) = &file.referenced {
        return Some(name);
    }
    // Bounds of text may be cut off; a whole name ends as names of data files do.
    let (lower, upper) = (file.lower.get(&FILE_PATH)?, file.upper.get(&FILE_PATH)?);
    let name = std::str::from_utf8(lower).ok().filter(|_| lower == upper)?;
    name.to_ascii_lowercase().ends_with(".parquet").then_some(name)
}
