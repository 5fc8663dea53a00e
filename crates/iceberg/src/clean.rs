//! Snapshots that are no longer kept, and files that no snapshot needs: `VACUUM`, asked and unasked.
//!
//! Iceberg spec, "Snapshot Retention Policy".

use crate::files::Manifests;
use crate::place::{Found, Place, number_of};
use crate::produce::{self, Outcome};
use crate::table::number;
use chrono::Utc;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::TableUpdate;
use object_store::Error;
use object_store::path::Path;
use rivermere_table::{Clean, TableError};
use std::collections::{BTreeSet, HashSet};

/// By this property = false nothing of a table is removed: others may stand on its files.
pub(crate) const GC: &str = "gc.enabled";
const CLEANING: &str = "removing files that nothing needs";
/// Properties of the table, with what they are when they are left out.
pub(crate) const MAX_AGE: (&str, i64) = ("history.expire.max-snapshot-age-ms", 5 * 24 * 3_600_000);
const MIN_KEPT: (&str, i64) = ("history.expire.min-snapshots-to-keep", 1);
const METADATA_KEPT: (&str, i64) = ("write.metadata.previous-versions-max", 100);

/// How long snapshots are kept, and how many of them.
pub(crate) struct Retention {
    pub(crate) age_ms: i64,
    /// More than that many are not kept, however young they are.
    pub(crate) most: usize,
}

impl Retention {
    /// What the table says for itself.
    pub(crate) fn of(found: &Found) -> Self {
        Self { age_ms: property(found, MAX_AGE), most: usize::MAX }
    }

    /// The same for a table of ours that does not say: a commit every few seconds makes more snapshots than metadata can name.
    pub(crate) fn of_a_stream(found: &Found, most: usize) -> Self {
        let said = found.metadata.table.properties().contains_key(MAX_AGE.0);
        Self { most: if said { usize::MAX } else { most }, ..Self::of(found) }
    }
}

fn property(found: &Found, (name, default): (&str, i64)) -> i64 {
    found.metadata.table.properties().get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a clean-up did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub(crate) snapshots: u64,
    pub(crate) files: u64,
}

/// Forgets snapshots, and removes the files that they alone name; with everything, also those that nothing ever named.
///
/// # Errors
/// [`TableError::Conflict`] when another writer was quicker: nothing has been removed then.
pub(crate) async fn clean(
    place: &Place,
    found: &Found,
    manifests: &Manifests,
    retention: &Retention,
    what: &Clean,
) -> Result<Cleaned, TableError> {
    let table = &found.metadata.table;
    let now = Utc::now().timestamp_millis();
    let since = now.saturating_sub(retention.age_ms);
    // The line of the newest snapshot, newest first.
    let mut line = vec![];
    let mut next = table.current_snapshot();
    while let Some(snapshot) = next {
        line.push(snapshot.snapshot_id());
        next = snapshot.parent_snapshot_id().and_then(|parent| table.snapshot_by_id(parent));
        if line.len() > table.snapshots().len() {
            break;
        }
    }
    let least = usize::try_from(property(found, MIN_KEPT)).unwrap_or(1).max(1);
    let mut pinned: HashSet<i64> =
        found.metadata.refs.values().copied().chain(line.iter().take(least).copied()).collect();
    pinned.extend(
        table
            .snapshots()
            .filter(|snapshot| what.needed.contains(&number(snapshot)) || what.needed.contains(&snapshot.snapshot_id()))
            .map(|snapshot| snapshot.snapshot_id()),
    );
    let many: HashSet<i64> = line.iter().skip(retention.most).copied().collect();
    let (mut kept, mut gone) = (vec![], vec![]);
    for snapshot in table.snapshots() {
        let id = snapshot.snapshot_id();
        let is_young = snapshot.timestamp_ms() >= since && !many.contains(&id);
        if pinned.contains(&id) || is_young { kept.push(snapshot.clone()) } else { gone.push(snapshot.clone()) }
    }
    let mut named = BTreeSet::new();
    for snapshot in &kept {
        manifests.reach(place, found, snapshot, &mut named).await?;
    }
    let mut files = BTreeSet::new();
    // Figures about snapshots, which are in files of their own.
    let paths = found.paths(place);
    let of_kept = |id: i64| kept.iter().any(|snapshot| snapshot.snapshot_id() == id);
    let figures = table.statistics_iter().map(|figures| (figures.snapshot_id, &figures.statistics_path));
    let figures = figures.chain(table.partition_statistics_iter().map(|of| (of.snapshot_id, &of.statistics_path)));
    for (_, name) in figures.filter(|(id, _)| of_kept(*id)) {
        named.insert(paths.find(name)?);
    }
    for snapshot in &gone {
        match manifests.reach(place, found, snapshot, &mut files).await {
            // What cannot be read any more has nothing that could be removed by its name.
            Ok(()) | Err(TableError::Storage { .. } | TableError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    files.retain(|file| !named.contains(file));
    let last_metadata = found.number.saturating_sub(u64::try_from(property(found, METADATA_KEPT)).unwrap_or(100));
    stray(place, found, what.everything.then_some(since), last_metadata, &named, &mut files).await?;
    let cleaned = Cleaned { snapshots: gone.len() as u64, files: files.len() as u64 };
    if what.dry_run {
        return Ok(cleaned);
    }
    if !gone.is_empty() {
        let snapshot_ids = gone.iter().map(|snapshot| snapshot.snapshot_id()).collect();
        match produce::publish(place, found, vec![TableUpdate::RemoveSnapshots { snapshot_ids }]).await? {
            Outcome::Committed(newest) => {
                // A catalog takes snapshots of other branches meanwhile, which may stand on what goes.
                let known = |id: i64| found.metadata.table.snapshot_by_id(id).is_some();
                let mut spared = BTreeSet::new();
                for snapshot in newest.metadata.table.snapshots().filter(|snapshot| !known(snapshot.snapshot_id())) {
                    manifests.reach(place, &newest, snapshot, &mut spared).await?;
                }
                files.retain(|file| !spared.contains(file));
            }
            Outcome::Lost => return Err(TableError::Conflict { location: place.location.to_string(), attempts: 1 }),
        }
    }
    let locations = futures::stream::iter(files).map(Ok).boxed();
    let deleted = place.location.store().delete_stream(locations).map(|deleted| match deleted {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    });
    let failed = |error: Error| TableError::storage(CLEANING, place.location.to_string(), error);
    deleted.try_collect::<()>().await.map_err(failed)?;
    Ok(cleaned)
}

/// Old files of metadata, and, of before `since`, files that no snapshot names.
async fn stray(
    place: &Place,
    found: &Found,
    since: Option<i64>,
    last_metadata: u64,
    named: &BTreeSet<Path>,
    files: &mut BTreeSet<Path>,
) -> Result<(), TableError> {
    let failed = |error: Error| TableError::storage(CLEANING, place.location.to_string(), error);
    let metadata = place.folder.clone().join("metadata");
    // Without `since` only metadata is looked at: its folder is the smaller one.
    let folder = if since.is_some() { &place.folder } else { &metadata };
    let mut listed = place.location.store().list(Some(folder));
    while let Some(file) = listed.try_next().await.map_err(failed)? {
        let number = file.location.filename().and_then(number_of);
        let is_old = number.is_some_and(|number| number < last_metadata && place.is_metadata(&file.location, number));
        let below = |folder: &str| file.location.prefix_matches(&place.folder.clone().join(folder));
        let is_ours = below("data") || below("metadata");
        let is_part = number.is_none() && file.location.filename() != Some("version-hint.text");
        let unnamed = since.is_some_and(|since| {
            is_ours && is_part && file.last_modified.timestamp_millis() < since && !named.contains(&file.location)
        });
        if is_old || unnamed {
            files.insert(file.location);
        }
    }
    files.remove(&found.file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IcebergTable;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::SessionContext;
    use object_store::memory::InMemory;
    use rivermere_store::LocalDisk;
    use rivermere_table::{EditableTable as _, Location, Table as _, TableSpec, Verb};
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_keeps_so_many_snapshots_and_a_table_that_says_how_long_keeps_those() {
        for (properties, left) in [(vec![], 2), (vec![(MAX_AGE.0.to_string(), MAX_AGE.1.to_string())], 5)] {
            let place = Location::new(Arc::new(InMemory::new()), "t".into(), Arc::new(LocalDisk::new()));
            let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]));
            let spec = TableSpec { schema, partitioned_by: vec![], properties };
            let table = IcebergTable::create(place, &spec).await.unwrap();
            let session = SessionContext::new();
            for key in 0..5 {
                let row = session.sql(&format!("SELECT CAST({key} AS BIGINT) AS key")).await.unwrap();
                let row = Verb::Append(row.into_unoptimized_plan());
                table.apply(&session.state(), key, &format!("{key}"), row).await.unwrap();
            }
            let found = table.place().newest().await.unwrap();
            let retention = Retention::of_a_stream(&found, 2);
            let cleaned = clean(table.place(), &found, table.manifests(), &retention, &Clean::default()).await.unwrap();
            assert_eq!(cleaned.snapshots, 5 - left);
            assert_eq!(table.history(9).await.unwrap().len() as u64, left);
        }
    }
}
