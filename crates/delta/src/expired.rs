//! What nothing needs any more, as the log tells it: data files and deletion vectors that were removed long enough ago.
//!
//! The entries are read on from where the last clean-up came to. Checkpoints forget removals once their time is over, so a
//! clean-up that reads these alone leaves files behind for ever.

use crate::handle::{Handle, is_same_in_a_log};
use deltalake_core::kernel::{LogicalFileView, StorageType};
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use rivermere_table::TableError;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

/// The application whose transaction is the last version that was cleaned up.
pub(crate) const CLEANED: &str = "rivermere.vacuum";

/// Log entries that are read at a time.
const ENTRIES_AT_ONCE: usize = 16;
const READING: &str = "looking for files that nothing needs";

/// Files that can go.
pub(crate) struct Expired {
    pub(crate) files: BTreeSet<Path>,
    /// The last version whose removals are all among them, or were cleaned up before; the one before the first when there
    /// is none.
    pub(crate) until: Option<u64>,
    /// Versions that were looked at for that.
    pub(crate) covered: u64,
    /// Versions whose removals are too young.
    pub(crate) younger: u64,
}

/// Removed before `since_ms` (milliseconds since 1970-01-01 UTC), and named neither by `state`, nor by the versions
/// `needed`, nor by a younger removal. At most the removals of about `most` files are looked at.
pub(crate) async fn expired(
    handle: &Handle,
    state: &DeltaTableState,
    since_ms: i64,
    needed: &[u64],
    most: usize,
) -> Result<Expired, TableError> {
    let cleaned = state.transaction_version(handle.log_store.as_ref(), CLEANED).await;
    let cleaned =
        cleaned.map_err(|error| handle.error(READING, error))?.and_then(|version| u64::try_from(version).ok());
    let first = match cleaned {
        Some(version) => version + 1,
        None => oldest_entry(handle).await?,
    };
    let names = Names::default();
    let entries = (first..=state.version()).map(|version| async move {
        let entry = handle.log_store.read_commit_entry(version).await;
        entry.map(|entry| (version, entry)).map_err(|error| handle.error(READING, error))
    });
    let mut entries = futures::stream::iter(entries).buffered(ENTRIES_AT_ONCE);
    let mut removed: Vec<(u64, Name)> = vec![];
    let mut young = HashSet::new();
    let (mut until, mut covered, mut younger) = (first.checked_sub(1), 0, 0);
    let mut old = true;
    while let Some((version, entry)) = entries.try_next().await? {
        let removals = removals(entry.as_deref().unwrap_or_default());
        let is_old = |removal: &Removal| removal.deletion_timestamp.unwrap_or_default() < since_ms;
        old = old && removals.iter().all(is_old) && removed.len() < most;
        let named = removals.into_iter().flat_map(|removal| removal.names());
        if old {
            removed.extend(named.map(|name| (version, name)));
            (until, covered) = (Some(version), covered + 1);
        } else {
            young.extend(named.map(|name| names.number(&name)));
            younger += 1;
        }
    }
    let mut read_on = HashSet::new();
    for version in needed {
        let state = handle.load(Some(*version)).await?;
        state.log_data().iter().for_each(|file| names.add(&mut read_on, &file));
    }
    let mut active = HashSet::new();
    state.log_data().iter().for_each(|file| names.add(&mut active, &file));
    let mut files = BTreeSet::new();
    for (version, name) in removed {
        let number = names.number(&name);
        if active.contains(&number) || young.contains(&number) {
            continue;
        }
        if read_on.contains(&number) {
            // It is looked at again when nobody reads on from there.
            covered -= until.map_or(0, |until| until.saturating_sub(version) + 1).min(covered);
            until = version.checked_sub(1);
            break;
        }
        files.extend(name.path());
    }
    Ok(Expired { files, until, covered, younger })
}

/// The oldest version whose log entry is there.
async fn oldest_entry(handle: &Handle) -> Result<u64, TableError> {
    let failed = |error| TableError::storage(READING, handle.location.to_string(), error);
    let store = handle.log_store.object_store(None);
    let mut files = store.list(Some(handle.log_store.log_path()));
    let mut oldest = None;
    while let Some(file) = files.try_next().await.map_err(failed)? {
        let version = file.location.filename().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
        oldest = [oldest, version].into_iter().flatten().min();
    }
    Ok(oldest.unwrap_or_default())
}

/// A file of a table, as its log calls it.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum Name {
    /// With what is special in URLs encoded.
    Data(String),
    /// A file of deletion vectors: a prefix, and an id.
    Vectors(String),
}

impl Name {
    /// Where it is in the table's folder; nothing for what is elsewhere, or is told in more ways than one.
    fn path(&self) -> Option<Path> {
        match self {
            Self::Data(name) if url::Url::parse(name).is_ok() || !is_same_in_a_log(name) => None,
            Self::Data(name) => Path::from_url_path(name).ok(),
            Self::Vectors(name) => {
                let (prefix, id) = name.split_at_checked(name.len().checked_sub(20)?)?;
                let id = uuid::Uuid::from_slice(&z85::decode(id).ok()?).ok()?;
                let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                Path::parse(format!("{folder}deletion_vector_{id}.bin")).ok()
            }
        }
    }
}

/// Names as numbers: two names with one number spare a file, no more.
#[derive(Default)]
struct Names(RandomState);

impl Names {
    /// A data file is the same however its writer encoded its name.
    fn number(&self, name: &Name) -> u64 {
        match (name, name.path()) {
            (Name::Data(_), Some(path)) => self.0.hash_one(path.as_ref()),
            (name, _) => self.0.hash_one(name),
        }
    }

    fn add(&self, numbers: &mut HashSet<u64>, file: &LogicalFileView) {
        // What the library tells is decoded.
        let path = file.path();
        let decoded: &str = path.as_ref();
        numbers.insert(self.0.hash_one(decoded));
        numbers.insert(self.0.hash_one(Path::from(decoded).as_ref()));
        numbers.insert(self.number(&Name::Data(path.into_owned())));
        let vector = file.deletion_vector_descriptor();
        if let Some(vector) = vector.filter(|vector| vector.storage_type == StorageType::UuidRelativePath) {
            numbers.insert(self.number(&Name::Vectors(vector.path_or_inline_dv)));
        }
    }
}

#[derive(Deserialize)]
struct Line {
    remove: Option<Removal>,
}

/// PROTOCOL.md, "Add File and Remove File".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    path: String,
    deletion_timestamp: Option<i64>,
    deletion_vector: Option<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    storage_type: String,
    path_or_inline_dv: String,
}

impl Removal {
    fn names(self) -> impl Iterator<Item = Name> {
        let vector = self.deletion_vector.filter(|vector| vector.storage_type == "u");
        [Some(Name::Data(self.path)), vector.map(|vector| Name::Vectors(vector.path_or_inline_dv))]
            .into_iter()
            .flatten()
    }
}

fn removals(entry: &[u8]) -> Vec<Removal> {
    let lines = entry.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()?.remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_places_in_the_folder_or_left_alone() {
        let data = |name: &str| Name::Data(name.into()).path().map(String::from);
        assert_eq!(data("city=a%20b/part-1.parquet").as_deref(), Some("city=a b/part-1.parquet"));
        assert_eq!((data("s3://elsewhere/x.parquet"), data("city=Zürich/x.parquet")), (None, None));
        // The example of PROTOCOL.md, "Deletion Vector Descriptor Schema".
        let vectors = |name: &str| Name::Vectors(name.into()).path().map(String::from);
        let known = "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";
        assert_eq!(vectors("ab^-aqEH.-t@S}K{vb[*k^").as_deref(), Some(known));
        assert_eq!((vectors("short"), vectors("xxxxxxxxxxxxxxxxxxx")), (None, None));
    }

    #[test]
    fn removals_are_read_and_other_actions_passed_over() {
        let entry = br#"{"commitInfo":{"timestamp":1}}
{"remove":{"path":"a","deletionTimestamp":5,"dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":1}}}
{"add":{"path":"b"}}
{"remove":{"path":"c","dataChange":true}}
"#;
        let names: Vec<Name> = removals(entry).into_iter().flat_map(Removal::names).collect();
        assert_eq!(names, [Name::Data("a".into()), Name::Vectors("x".into()), Name::Data("c".into())]);
    }
}
