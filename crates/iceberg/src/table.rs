//! Reading.

use crate::feed;
use crate::files::{Manifests, Planned};
use crate::place::{Found, Keeper, Place};
use crate::reading::Reading;
use crate::rest::{Entry, Loaded, Locate};
use crate::scan::DataFiles;
use crate::types::{arrow_type, columns};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::TableProvider;
use futures::StreamExt as _;
use iceberg::spec::{NestedFieldRef, Schema, Snapshot, SnapshotRef};
use rivermere_store::InCatalog;
use rivermere_table::{Location, PieceScan, RowChanges, Table, TableError, TableVersion};
use serde_json::json;
use std::sync::Arc;

/// An Iceberg table, written by whomever.
///
/// A *version* is the sequence number of a snapshot, or its id, by which engines of Iceberg call it; the two cannot be mistaken
/// for each other, since ids are large. A snapshot of format version 1, which has no sequence number, is known by its time, in
/// milliseconds since 1970-01-01 UTC. A table without a snapshot is at version 0.
pub struct IcebergTable {
    place: Place,
    manifests: Manifests,
}

/// A snapshot with what reads it.
struct Version {
    found: Arc<Found>,
    snapshot: Option<SnapshotRef>,
}

impl Version {
    fn number(&self) -> i64 {
        self.snapshot.as_deref().map_or(0, number)
    }

    /// Columns of an older snapshot are those of its time.
    fn schema(&self) -> Arc<Schema> {
        let table = &self.found.metadata.table;
        let own = self.snapshot.as_ref().and_then(|snapshot| table.schema_by_id(snapshot.schema_id()?));
        own.unwrap_or(table.current_schema()).clone()
    }
}

/// What a snapshot is called in SQL.
pub(crate) fn number(snapshot: &Snapshot) -> i64 {
    match snapshot.sequence_number() {
        0 => snapshot.timestamp_ms(),
        sequence => sequence,
    }
}

impl IcebergTable {
    /// The table in a folder, or as one file of metadata says, when the name of the place ends in `.metadata.json`.
    ///
    /// # Errors
    /// [`TableError::Missing`] when there is no table, [`TableError::UnsupportedFeature`] for what is not known here.
    pub async fn open(location: Location) -> Result<Self, TableError> {
        let place = Place::new(location);
        place.newest().await?;
        Ok(Self { place, manifests: Manifests::default() })
    }

    /// The table of a catalog; `locate` finds the storage of its files.
    ///
    /// # Errors
    /// [`TableError::Missing`] when the catalog has no such table, [`TableError::UnsupportedFeature`] for what is not known here.
    pub async fn open_in(catalog: InCatalog, locate: &Locate) -> Result<Self, TableError> {
        match catalog {
            InCatalog::Rest(table) => {
                let entry = Entry::new(table);
                let loaded = entry.load().await?;
                Self::loaded(entry, loaded, locate).await
            }
            InCatalog::Metastore(table) => {
                let place = Place::of_metastore(table, locate).await?;
                Ok(Self { place, manifests: Manifests::default() })
            }
        }
    }

    pub(crate) async fn loaded(entry: Entry, loaded: Loaded, locate: &Locate) -> Result<Self, TableError> {
        let place = Place::of_catalog(locate(&loaded.location)?, Keeper::Rest(entry));
        place.answered(loaded).await?;
        Ok(Self { place, manifests: Manifests::default() })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// The data files of the newest snapshot.
    pub(crate) async fn planned(&self, found: &Found) -> Result<Vec<Planned>, TableError> {
        self.manifests.plan(&self.place, found, found.metadata.table.current_snapshot().map(AsRef::as_ref)).await
    }

    /// The id of a version's snapshot; none for the table without one.
    pub(crate) async fn snapshot_id(&self, version: i64) -> Result<Option<i64>, TableError> {
        Ok(self.at(version).await?.snapshot.map(|snapshot| snapshot.snapshot_id()))
    }

    async fn newest(&self) -> Result<Version, TableError> {
        let found = self.place.newest().await?;
        let snapshot = found.metadata.table.current_snapshot().cloned();
        Ok(Version { found, snapshot })
    }

    async fn at(&self, version: i64) -> Result<Version, TableError> {
        let newest = self.newest().await?;
        let missing = || TableError::MissingVersion {
            location: self.place.location.to_string(),
            version,
            newest: newest.number(),
        };
        if version == 0 {
            return Ok(Version { found: newest.found, snapshot: None });
        }
        let table = &newest.found.metadata.table;
        // Numbers first: positions of views are always numbers, whatever ids a writer gives.
        let by_number = table.snapshots().find(|snapshot| number(snapshot) == version);
        let snapshot = by_number.or_else(|| table.snapshot_by_id(version)).cloned().ok_or_else(missing)?;
        Ok(Version { found: newest.found.clone(), snapshot: Some(snapshot) })
    }

    async fn plan(&self, version: &Version) -> Result<Vec<Planned>, TableError> {
        self.manifests.plan(&self.place, &version.found, version.snapshot.as_deref()).await
    }

    /// Whoever has read an older snapshot has read columns by their names: none may have become another one since.
    fn same_columns(&self, before: &Schema, fields: &[NestedFieldRef]) -> Result<(), TableError> {
        let was =
            |field: &NestedFieldRef| before.as_struct().fields().iter().find(|was| was.name == field.name).cloned();
        let other = fields.iter().find(|field| was(field).is_some_and(|was| was.id != field.id));
        match other {
            None => Ok(()),
            Some(field) => Err(TableError::SchemaMismatch {
                location: self.place.location.to_string(),
                reason: format!("'{}' is another column of that name now", field.name),
            }),
        }
    }

    /// The columns of a schema that are asked for by their names in it.
    fn fields(&self, schema: &Schema, wanted: &SchemaRef) -> Result<Vec<NestedFieldRef>, TableError> {
        let mismatch =
            |reason: String| TableError::SchemaMismatch { location: self.place.location.to_string(), reason };
        let field = |field: &arrow::datatypes::FieldRef| {
            let mut own = schema.as_struct().fields().iter().filter(|own| own.name == *field.name());
            let own = own.next().ok_or_else(|| mismatch(format!("column '{}' is gone", field.name())))?;
            let found = arrow_type(&own.field_type, false);
            match found.equals_datatype(field.data_type()) {
                true => Ok(own.clone()),
                false => Err(mismatch(format!("column '{}' is {found} now, not {}", field.name(), field.data_type()))),
            }
        };
        wanted.fields().iter().map(field).collect()
    }
}

#[async_trait]
impl Table for IcebergTable {
    async fn schema(&self) -> Result<SchemaRef, TableError> {
        Ok(columns(self.newest().await?.found.metadata.table.current_schema()))
    }

    async fn version(&self) -> Result<i64, TableError> {
        Ok(self.newest().await?.number())
    }

    async fn version_at(&self, time_ms: i64) -> Result<i64, TableError> {
        let newest = self.newest().await?;
        let table = &newest.found.metadata.table;
        let log = table.history();
        let was = log.iter().rev().find(|entry| entry.timestamp_ms() <= time_ms);
        if let Some(snapshot) = was.and_then(|entry| table.snapshot_by_id(entry.snapshot_id)) {
            return Ok(number(snapshot));
        }
        let oldest = log.first().and_then(|entry| DateTime::from_timestamp_millis(entry.timestamp_ms()));
        Err(TableError::MissingTime {
            location: self.place.location.to_string(),
            oldest: oldest.map_or("an unknown time".into(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()),
        })
    }

    async fn version_named(&self, name: &str) -> Result<i64, TableError> {
        let found = self.place.newest().await?;
        let table = &found.metadata.table;
        let named = found.metadata.refs.get(name).and_then(|id| table.snapshot_by_id(*id));
        named.map(|snapshot| number(snapshot)).ok_or_else(|| TableError::MissingName {
            location: self.place.location.to_string(),
            name: name.to_owned(),
            known: found.metadata.refs.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    async fn history(&self, limit: usize) -> Result<Vec<TableVersion>, TableError> {
        let newest = self.newest().await?;
        let table = &newest.found.metadata.table;
        let told = |entry: &iceberg::spec::SnapshotLog| {
            let snapshot = table.snapshot_by_id(entry.snapshot_id)?;
            let summary = &snapshot.summary().additional_properties;
            let mut parameters = json!({ "snapshot-id": snapshot.snapshot_id().to_string() });
            let mut all: Vec<_> = summary.iter().collect();
            all.sort_unstable();
            for (name, value) in all {
                parameters[name] = json!(value);
            }
            let engine = match (summary.get("engine-name"), summary.get("engine-version")) {
                (Some(name), Some(version)) => Some(format!("{name} {version}")),
                (name, _) => name.cloned(),
            };
            Some(TableVersion {
                version: number(snapshot),
                committed_ms: Some(entry.timestamp_ms()),
                operation: Some(snapshot.summary().operation.as_str().to_uppercase()),
                parameters: Some(parameters.to_string()),
                engine,
            })
        };
        Ok(table.history().iter().rev().filter_map(told).take(limit).collect())
    }

    async fn scan(&self, version: Option<i64>) -> Result<Arc<dyn TableProvider>, TableError> {
        let (at, schema) = match version {
            None => {
                let newest = self.newest().await?;
                let schema = newest.found.metadata.table.current_schema().clone();
                (newest, schema)
            }
            Some(version) => {
                let at = self.at(version).await?;
                let schema = at.schema();
                (at, schema)
            }
        };
        let files = self.plan(&at).await?;
        let reading = Reading::new(&self.place, &at.found);
        let fields = schema.as_struct().fields().to_vec();
        let reader = Arc::new(DataFiles { reading, fields });
        Ok(Arc::new(PieceScan { reader, schema: columns(&schema), pieces: files }))
    }

    async fn id(&self, _version: i64) -> Result<String, TableError> {
        Ok(self.newest().await?.found.metadata.table.uuid().to_string())
    }

    async fn names_in(&self, version: i64, to: i64, columns: &SchemaRef) -> Result<Vec<Option<String>>, TableError> {
        let (there, here) = (self.at(version).await?.schema(), self.at(to).await?.schema());
        let name = |field: &arrow::datatypes::FieldRef| {
            let id = here.as_struct().fields().iter().find(|own| own.name == *field.name())?.id;
            Some(there.as_struct().field_by_id(id)?.name.clone())
        };
        Ok(columns.fields().iter().map(name).collect())
    }

    async fn changes(&self, from: Option<i64>, to: i64, columns: &SchemaRef) -> Result<RowChanges, TableError> {
        let to = self.at(to).await?;
        let is_newest = self.newest().await?.number() == to.number();
        // A column that was renamed or made wider since the newest snapshot is in the table's schema alone.
        let schema = if is_newest { to.found.metadata.table.current_schema().clone() } else { to.schema() };
        let fields = self.fields(&schema, columns)?;
        let after = self.plan(&to).await?;
        let before = match from {
            Some(from) => {
                let from = self.at(from).await?;
                self.same_columns(&from.schema(), &fields)?;
                self.plan(&from).await?
            }
            None => vec![],
        };
        let (went, came) = feed::differing(before, after);
        let reading = Reading::new(&self.place, &to.found);
        let location = self.place.location.to_string();
        let went = feed::rows(&reading, went, fields.clone(), columns, -1, &location);
        Ok(went.chain(feed::rows(&reading, came, fields, columns, 1, &location)).boxed())
    }

    fn turns_back(&self) -> bool {
        true
    }
}
