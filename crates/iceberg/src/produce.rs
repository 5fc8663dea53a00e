//! The snapshot producer: files that are added and files that go become one snapshot, and that one commit.
//!
//! Iceberg spec, "Snapshots", "Manifest Lists", "Manifests", and "Commit Protocol: File System Tables". Manifests and their
//! list are written under names that nobody else has; what makes them a snapshot is the next file of metadata, which is put
//! only where there is none.

use crate::edits::Edited;
use crate::metastore;
use crate::place::{Found, Keeper, Place};
use crate::removal::Deletes;
use crate::storage::file_io;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, FormatVersion, MAIN_BRANCH, ManifestContentType, ManifestEntry,
    ManifestFile, ManifestList, ManifestListWriter, ManifestWriter, ManifestWriterBuilder, Operation, PartitionSpec,
    SchemaRef, Snapshot, SnapshotReference, SnapshotSummaryCollector, Summary, TableMetadata,
};
use iceberg::{Error, TableUpdate};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use rivermere_table::TableError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

const WRITING: &str = "writing a snapshot";
/// A sequence number that is that of the commit, whichever it will be.
const INHERITED: i64 = -1;

/// What becomes a snapshot.
#[derive(Clone, Default)]
pub(crate) struct Change {
    pub(crate) operation: Operation,
    pub(crate) added: Vec<DataFile>,
    /// Names of data files that go.
    pub(crate) removed: HashSet<String>,
    pub(crate) deletes: Deletes,
    /// What the snapshot says of itself.
    pub(crate) summary: BTreeMap<String, String>,
    /// Properties that the table has from then on.
    pub(crate) properties: BTreeMap<String, String>,
    /// What the files that are added are partitioned by.
    pub(crate) spec_id: i32,
    /// Changes of the table before the snapshot, in the same commit.
    pub(crate) updates: Vec<TableUpdate>,
}

impl Change {
    /// Nothing yet, for files that are written over `found`.
    pub(crate) fn of(found: &Found) -> Self {
        Self { spec_id: found.metadata.table.default_partition_spec_id(), ..Self::default() }
    }

    /// Files and deletes that take the place of others.
    pub(crate) fn with(found: &Found, edited: Edited) -> Self {
        let Edited { added, removed, deletes, rows: _ } = edited;
        Self { added, removed, deletes, ..Self::of(found) }
    }
}

/// What a commit came to.
pub(crate) enum Outcome {
    Committed(Arc<Found>),
    /// Another one took its place.
    Lost,
}

/// Makes a snapshot over `found` the newest.
///
/// # Errors
/// When a file that goes is not there any more, [`TableError::Conflict`].
pub(crate) async fn commit(place: &Place, found: &Found, change: Change) -> Result<Outcome, TableError> {
    let failed = |error: Error| TableError::storage(WRITING, place.location.to_string(), error);
    let io = file_io(place.location.store(), &found.paths(place));
    let mut updates = change.updates.clone();
    let mut builder = found.metadata.table.as_ref().clone().into_builder(None);
    for update in updates.clone() {
        builder = update.apply(builder).map_err(failed)?;
    }
    let table = if updates.is_empty() {
        found.metadata.table.clone()
    } else {
        Arc::new(builder.build().map_err(failed)?.metadata)
    };
    let (snapshot, properties) = match snapshot(place, &table, &io, change).await {
        Ok(made) => made,
        Err(Produce::Library(error)) => return Err(failed(error)),
        Err(Produce::Gone) => {
            return Err(TableError::Conflict { location: place.location.to_string(), attempts: 1 });
        }
    };
    let reference = SnapshotReference::new(snapshot.snapshot_id(), found.metadata.retention.clone());
    updates.push(TableUpdate::AddSnapshot { snapshot });
    updates.push(TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.to_owned(), reference });
    if !properties.is_empty() {
        updates.push(TableUpdate::SetProperties { updates: properties.into_iter().collect() });
    }
    publish(place, found, updates).await
}

/// Puts the metadata that follows `found`, unless it is there; has it put where a catalog does that.
pub(crate) async fn publish(place: &Place, found: &Found, updates: Vec<TableUpdate>) -> Result<Outcome, TableError> {
    if let Some(Keeper::Rest(entry)) = place.catalog() {
        return match entry.commit(found, &updates).await? {
            Some(loaded) => Ok(Outcome::Committed(place.answered(loaded).await?)),
            None => Ok(Outcome::Lost),
        };
    }
    let failed = |error: Error| TableError::storage(WRITING, place.location.to_string(), error);
    let before = match place.catalog() {
        Some(_) => found.name_in_catalog().to_owned(),
        None => found.name(),
    };
    let mut builder = found.metadata.table.as_ref().clone().into_builder(Some(before));
    for update in updates {
        builder = update.apply(builder).map_err(failed)?;
    }
    let next = builder.build().map_err(failed)?.metadata;
    if let Some(Keeper::Metastore(table)) = place.catalog() {
        return metastore::commit(place, table, found, &next).await;
    }
    put(place, found.number + 1, &next).await
}

/// Puts metadata as version `number`, unless it is there.
pub(crate) async fn put(place: &Place, number: u64, metadata: &TableMetadata) -> Result<Outcome, TableError> {
    let failed = |error: object_store::Error| TableError::storage(WRITING, place.location.to_string(), error);
    let text = serde_json::to_vec(metadata)
        .map_err(|error| TableError::storage(WRITING, place.location.to_string(), error))?;
    let file = place.file(number);
    if !place.may_follow(number).await? {
        return Ok(Outcome::Lost);
    }
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let store = place.location.store();
    match store.put_opts(&file, text.clone().into(), options).await {
        Ok(_) => {}
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            // It may be ours, of an attempt of the store's client whose answer was lost.
            let there = async { store.get(&file).await?.bytes().await };
            if there.await.map_err(failed)? != text {
                return Ok(Outcome::Lost);
            }
        }
        Err(error) => return Err(failed(error)),
    }
    // A hint for readers who do not list; what counts is what is there.
    let hint: Path = place.folder.clone().join("metadata").join("version-hint.text");
    if let Err(error) = store.put(&hint, number.to_string().into_bytes().into()).await {
        tracing::debug!(location = %place.location, %error, "the version hint was not written");
    }
    Ok(Outcome::Committed(place.newest().await?))
}

enum Produce {
    Library(Error),
    Gone,
}

impl From<Error> for Produce {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

async fn snapshot(
    place: &Place,
    metadata: &TableMetadata,
    io: &FileIO,
    change: Change,
) -> Result<(Snapshot, BTreeMap<String, String>), Produce> {
    let parent = metadata.current_snapshot().cloned();
    let new = New {
        io,
        metadata,
        version: metadata.format_version(),
        // Positive, and random: nobody else has it.
        id: i64::try_from(place.location.new_id().as_u128() >> 65).unwrap_or(i64::MAX),
        commit: place.location.new_id(),
    };
    let mut summary = SnapshotSummaryCollector::default();
    let mut manifests = vec![];
    if !change.added.is_empty() {
        let spec = metadata.default_partition_spec();
        if spec.spec_id() != change.spec_id {
            return Err(Produce::Gone);
        }
        let schema = metadata.current_schema();
        let mut writer = new.writer(0, ManifestContentType::Data, schema.clone(), spec.as_ref().clone())?;
        for file in change.added {
            summary.add_file(&file, schema.clone(), spec.clone());
            writer.add_file(file, INHERITED)?;
        }
        manifests.push(writer.write_manifest_file().await?);
    }
    let mut by_spec: BTreeMap<i32, Vec<DataFile>> = BTreeMap::new();
    for (spec_id, file) in change.deletes.added {
        by_spec.entry(spec_id).or_default().push(file);
    }
    for (spec_id, files) in by_spec {
        let Some(spec) = metadata.partition_spec_by_id(spec_id) else { return Err(Produce::Gone) };
        // One that has all that an older spec is of: columns may have been dropped since.
        let has_all =
            |schema: &&SchemaRef| spec.fields().iter().all(|field| schema.field_by_id(field.source_id).is_some());
        let current = metadata.current_schema();
        let schema = Some(current).filter(has_all).or_else(|| metadata.schemas_iter().find(has_all)).unwrap_or(current);
        let content = ManifestContentType::Deletes;
        let mut writer = new.writer(manifests.len(), content, schema.clone(), spec.as_ref().clone())?;
        for file in files {
            summary.add_file(&file, schema.clone(), spec.clone());
            writer.add_file(file, INHERITED)?;
        }
        manifests.push(writer.write_manifest_file().await?);
    }
    let mut missing = Missing { data: change.removed, deletes: change.deletes.removed };
    if let Some(parent) = &parent {
        let bytes = io.new_input(parent.manifest_list())?.read().await?;
        let listed: Vec<ManifestFile> =
            ManifestList::parse_with_version(&bytes, new.version)?.consume_entries().into_iter().collect();
        for manifest in listed {
            if !manifest.has_added_files() && !manifest.has_existing_files() {
                continue;
            }
            let number = manifests.len();
            manifests.push(match new.without(&manifest, number, &mut missing, &mut summary).await? {
                Some(rewritten) => rewritten,
                None => manifest,
            });
        }
    }
    if !missing.is_empty() {
        return Err(Produce::Gone);
    }
    let location = metadata.location().trim_end_matches('/');
    let list = format!("{location}/metadata/snap-{}-1-{}.avro", new.id, new.commit);
    let sequence = metadata.next_sequence_number();
    let output = io.new_output(&list)?.writer().await?;
    let parent_id = parent.as_ref().map(|parent| parent.snapshot_id());
    let first_row = metadata.next_row_id();
    let mut writer = match new.version {
        FormatVersion::V1 => ManifestListWriter::v1(output, new.id, parent_id),
        FormatVersion::V2 => ManifestListWriter::v2(output, new.id, parent_id, sequence),
        FormatVersion::V3 => ManifestListWriter::v3(output, new.id, parent_id, sequence, Some(first_row)),
    };
    writer.add_manifests(manifests.into_iter())?;
    let next_row = writer.next_row_id();
    writer.close().await?;
    let mut told = summary.build();
    told.extend(change.summary);
    told.insert("engine-name".into(), "rivermere".into());
    told.insert("engine-version".into(), env!("CARGO_PKG_VERSION").into());
    totals(&mut told, parent.as_ref().map(|parent| parent.summary()));
    let builder = Snapshot::builder()
        .with_snapshot_id(new.id)
        .with_parent_snapshot_id(parent_id)
        .with_sequence_number(sequence)
        .with_timestamp_ms(chrono::Utc::now().timestamp_millis().max(metadata.last_updated_ms()))
        .with_manifest_list(list)
        .with_summary(Summary { operation: change.operation, additional_properties: told })
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match next_row {
        Some(next) => builder.with_row_range(first_row, next - first_row).build(),
        None => builder.build(),
    };
    Ok((snapshot, change.properties))
}

/// Files that go and were not found yet.
struct Missing {
    data: HashSet<String>,
    /// With where they begin in their files.
    deletes: HashSet<(String, u64)>,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.deletes.is_empty()
    }

    fn identity(entry: &ManifestEntry) -> (String, u64) {
        let offset = entry.data_file().content_offset().and_then(|offset| u64::try_from(offset).ok());
        (entry.file_path().to_owned(), offset.unwrap_or_default())
    }

    fn has(&self, entry: &ManifestEntry) -> bool {
        match entry.content_type() {
            DataContentType::Data => self.data.contains(entry.file_path()),
            _ => self.deletes.contains(&Self::identity(entry)),
        }
    }

    fn remove(&mut self, entry: &ManifestEntry) -> bool {
        match entry.content_type() {
            DataContentType::Data => self.data.remove(entry.file_path()),
            _ => self.deletes.remove(&Self::identity(entry)),
        }
    }
}

/// A snapshot that is being made.
struct New<'a> {
    io: &'a FileIO,
    metadata: &'a TableMetadata,
    version: FormatVersion,
    id: i64,
    commit: Uuid,
}

impl New<'_> {
    fn writer(
        &self,
        number: usize,
        content: ManifestContentType,
        schema: SchemaRef,
        spec: PartitionSpec,
    ) -> Result<ManifestWriter, Error> {
        let location = self.metadata.location().trim_end_matches('/');
        let name = format!("{location}/metadata/{}-m{number}.avro", self.commit);
        let builder = ManifestWriterBuilder::new(self.io.new_output(name)?, Some(self.id), schema, spec);
        Ok(match (self.version, content) {
            (FormatVersion::V1, _) => builder.build_v1(),
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        })
    }

    /// A manifest without the files that go, written anew under its own schema and spec; nothing when it names none of them.
    async fn without(
        &self,
        manifest: &ManifestFile,
        number: usize,
        missing: &mut Missing,
        summary: &mut SnapshotSummaryCollector,
    ) -> Result<Option<ManifestFile>, Produce> {
        let is_asked = match manifest.content {
            ManifestContentType::Data => !missing.data.is_empty(),
            ManifestContentType::Deletes => !missing.deletes.is_empty(),
        };
        if !is_asked {
            return Ok(None);
        }
        // Loaded, and not parsed: that gives entries the sequence numbers that they inherit.
        let (entries, written) = manifest.load_manifest(self.io).await?.into_parts();
        let live: Vec<_> = entries.into_iter().filter(|entry| entry.is_alive()).collect();
        if !live.iter().any(|entry| missing.has(entry)) {
            return Ok(None);
        }
        let spec = Arc::new(written.partition_spec.clone());
        let mut writer = self.writer(number, written.content, written.schema.clone(), written.partition_spec)?;
        let mut next_row = manifest.first_row_id.and_then(|id| i64::try_from(id).ok());
        for entry in live {
            let file = match self.version {
                FormatVersion::V3 => with_row_id(&entry, spec.spec_id(), &mut next_row)?,
                _ => entry.data_file().clone(),
            };
            let sequence = entry.sequence_number().unwrap_or_default();
            if missing.remove(&entry) {
                summary.remove_file(&file, written.schema.clone(), spec.clone());
                writer.add_delete_file(file, sequence, entry.file_sequence_number)?;
            } else {
                let snapshot = entry.snapshot_id().unwrap_or_default();
                writer.add_existing_file(file, snapshot, sequence, entry.file_sequence_number)?;
            }
        }
        Ok(Some(writer.write_manifest_file().await?))
    }
}

/// "Row Lineage": an entry without a first row id has that of its manifest and the rows before it, which the library does not
/// work out; a manifest that is written anew says it, or rows would get other ids.
fn with_row_id(entry: &ManifestEntry, spec_id: i32, next: &mut Option<i64>) -> Result<DataFile, Produce> {
    let old = entry.data_file();
    let (None, Some(first)) = (old.first_row_id(), *next) else { return Ok(old.clone()) };
    *next = i64::try_from(old.record_count()).ok().and_then(|rows| first.checked_add(rows));
    let mut file = DataFileBuilder::default();
    file.content(old.content_type())
        .file_path(old.file_path().to_owned())
        .file_format(old.file_format())
        .partition(old.partition().clone())
        .record_count(old.record_count())
        .file_size_in_bytes(old.file_size_in_bytes())
        .column_sizes(old.column_sizes().clone())
        .value_counts(old.value_counts().clone())
        .null_value_counts(old.null_value_counts().clone())
        .nan_value_counts(old.nan_value_counts().clone())
        .lower_bounds(old.lower_bounds().clone())
        .upper_bounds(old.upper_bounds().clone())
        .key_metadata(old.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(old.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(old.equality_ids())
        .first_row_id(Some(first))
        .partition_spec_id(spec_id)
        .referenced_data_file(old.referenced_data_file())
        .content_offset(old.content_offset())
        .content_size_in_bytes(old.content_size_in_bytes());
    if let Some(order) = old.sort_order_id() {
        file.sort_order_id(order);
    }
    file.build().map_err(|error| Produce::Library(Error::new(iceberg::ErrorKind::Unexpected, error.to_string())))
}

/// What a snapshot says of the whole table.
fn totals(told: &mut HashMap<String, String>, parent: Option<&Summary>) {
    for (total, added, removed) in [
        ("total-data-files", "added-data-files", "deleted-data-files"),
        ("total-delete-files", "added-delete-files", "removed-delete-files"),
        ("total-records", "added-records", "deleted-records"),
        ("total-files-size", "added-files-size", "removed-files-size"),
        ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
        ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
    ] {
        let number = |of: &HashMap<String, String>, key: &str| of.get(key).and_then(|text| text.parse::<i64>().ok());
        let before = match parent {
            Some(parent) => number(&parent.additional_properties, total),
            None => Some(0),
        };
        // What the parent did not say is not made up.
        let Some(before) = before else { continue };
        let now = before + number(told, added).unwrap_or_default() - number(told, removed).unwrap_or_default();
        told.insert(total.to_owned(), now.to_string());
    }
}
