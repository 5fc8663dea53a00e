//! Reading.

use crate::clean;
use crate::place::{Found, Place};
use crate::reading::Reading;
use crate::scan::rows;
use crate::schema::schema;
use crate::slices::{Slice, slices};
use crate::timeline::{Instant, version_of};
use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::TableProvider;
use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use rivermere_base::Changes;
use rivermere_table::{Batches, Location, PieceScan, RowChanges, Table, TableError, TableVersion};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

/// The property that tells a table of ours from another one that was made at the same place.
pub(crate) const ID: &str = "rivermere.table.id";

/// A Hudi table, written by whomever.
///
/// A *version* is the time at which an instant of its timeline was completed, in digits (`20260307162651009`); the time at which it
/// began is understood, too. A table without instants is at version 0.
pub struct HudiTable {
    place: Arc<Place>,
}

impl HudiTable {
    /// # Errors
    /// [`TableError::Missing`] when there is no table, [`TableError::UnsupportedFeature`] for what is not known here.
    pub async fn open(location: Location) -> Result<Self, TableError> {
        let place = Arc::new(Place::new(location));
        place.newest().await?;
        Ok(Self { place })
    }

    pub(crate) fn instants<'a>(&self, found: &'a Found, version: i64) -> Result<&'a [Instant], TableError> {
        let newest = found.timeline.newest().map_or(0, Instant::version);
        let missing = || TableError::MissingVersion { location: self.place.location.to_string(), version, newest };
        found.timeline.at(version).ok_or_else(missing)
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    pub(crate) fn refused(&self, verb: &'static str, reason: impl Into<String>) -> TableError {
        TableError::Verb { location: self.place.location.to_string(), verb, reason: reason.into() }
    }

    /// Those of a version that is whole: no file of it was cleaned up.
    pub(crate) async fn whole<'a>(&self, found: &'a Found, version: i64) -> Result<&'a [Instant], TableError> {
        let instants = self.instants(found, version)?;
        let is_newest = instants.len() == found.timeline.instants.len();
        if let (Some(file), Some(last), false) = (&found.timeline.cleaned, instants.last(), is_newest) {
            let read = async { self.place.location.store().get(file).await?.bytes().await };
            let bytes = read.await.map_err(|error| self.place.failed("reading the timeline", error))?;
            let earliest = clean::earliest(&bytes).map_err(|reason| self.place.damaged(file, reason))?;
            let at = |earliest: i64| {
                let all = &found.timeline.instants;
                all.iter().position(|instant| version_of(&instant.time) == earliest)
            };
            // By the order of completion, as versions are; an instant that is archived by the times of starting.
            let is_older = |earliest: i64| match at(earliest) {
                Some(at) => instants.len() <= at,
                None => version_of(&last.time) < earliest,
            };
            if earliest.is_some_and(is_older) {
                let newest = found.timeline.newest().map_or(0, Instant::version);
                return Err(TableError::MissingVersion { location: self.place.location.to_string(), version, newest });
            }
        }
        Ok(instants)
    }

    /// To be asked after the files of a version were listed: a clean may have begun before, and taken some.
    async fn still_whole(&self, found: &Found, instants: &[Instant]) -> Result<(), TableError> {
        let Some(last) = instants.last() else { return Ok(()) };
        let now = self.place.newest().await?;
        if now.timeline.cleaned == found.timeline.cleaned {
            return Ok(());
        }
        self.whole(&now, last.version()).await.map(|_| ())
    }

    /// The columns and the slices of a version.
    pub(crate) async fn plan(
        &self,
        found: &Found,
        instants: &[Instant],
    ) -> Result<(SchemaRef, Vec<Slice>), TableError> {
        Ok((schema(&self.place, found, instants).await?, slices(&self.place, found, instants).await?))
    }
}

/// Slices of which other files are read, or others of their blocks.
pub(crate) fn differing(found: &Found, before: Vec<Slice>, after: Vec<Slice>) -> (Vec<Slice>, Vec<Slice>) {
    // Until table version 8 a log has blocks of several instants, of which a version may have some.
    let is_whole = |slice: &Slice| slice.logs.is_empty() || found.table_version() >= 8;
    let same: HashSet<Slice> =
        before.iter().filter(|slice| is_whole(slice) && after.contains(slice)).cloned().collect();
    let other = |slice: &Slice| !same.contains(slice);
    (before.into_iter().filter(other).collect(), after.into_iter().filter(other).collect())
}

#[async_trait]
impl Table for HudiTable {
    async fn schema(&self) -> Result<SchemaRef, TableError> {
        let found = self.place.newest().await?;
        schema(&self.place, &found, &found.timeline.instants).await
    }

    async fn version(&self) -> Result<i64, TableError> {
        Ok(self.place.newest().await?.timeline.newest().map_or(0, Instant::version))
    }

    async fn version_at(&self, time_ms: i64) -> Result<i64, TableError> {
        let found = self.place.newest().await?;
        let when = |instant: &Instant| instant.completed_ms(&found.properties);
        let instants = &found.timeline.instants;
        let was = instants.iter().rev().find(|instant| when(instant).is_some_and(|when| when <= time_ms));
        if let Some(instant) = was {
            return Ok(instant.version());
        }
        let oldest = instants.first().and_then(when).and_then(DateTime::from_timestamp_millis);
        Err(TableError::MissingTime {
            location: self.place.location.to_string(),
            oldest: oldest.map_or("an unknown time".into(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()),
        })
    }

    async fn version_named(&self, name: &str) -> Result<i64, TableError> {
        let location = self.place.location.to_string();
        Err(TableError::MissingName { location, name: name.to_owned(), known: String::new() })
    }

    async fn history(&self, limit: usize) -> Result<Vec<TableVersion>, TableError> {
        let found = self.place.newest().await?;
        let mut versions = vec![];
        for instant in found.timeline.instants.iter().rev().take(limit) {
            let commit = self.place.commit(instant).await?;
            let mut parameters = json!({ "instant": instant.time, "action": instant.action.name() });
            let extra = commit.extra.iter().filter(|(name, _)| name.as_str() != crate::schema::SCHEMA);
            for (name, value) in extra {
                parameters[name] = json!(value);
            }
            versions.push(TableVersion {
                version: instant.version(),
                committed_ms: instant.completed_ms(&found.properties),
                operation: commit.operation.clone().or_else(|| Some(instant.action.name().to_uppercase())),
                parameters: Some(parameters.to_string()),
                engine: None,
            });
        }
        Ok(versions)
    }

    async fn before(&self, version: i64) -> Result<i64, TableError> {
        let found = self.place.newest().await?;
        let instants = self.instants(&found, version)?;
        match instants.len().checked_sub(2).and_then(|at| instants.get(at)) {
            Some(before) => Ok(before.version()),
            None if !self.place.has_archive(&found.properties).await? => Ok(0),
            None => {
                let newest = found.timeline.newest().map_or(0, Instant::version);
                Err(TableError::MissingVersion { location: self.place.location.to_string(), version, newest })
            }
        }
    }

    async fn scan(&self, version: Option<i64>) -> Result<Arc<dyn TableProvider>, TableError> {
        let found = self.place.newest().await?;
        let instants = match version {
            Some(version) => self.whole(&found, version).await?,
            None => &found.timeline.instants,
        };
        let (schema, slices) = self.plan(&found, instants).await?;
        self.still_whole(&found, instants).await?;
        let reading = Reading::new(&self.place, &found, instants, schema.clone());
        Ok(Arc::new(PieceScan { reader: reading, schema, pieces: slices }))
    }

    async fn id(&self, _version: i64) -> Result<String, TableError> {
        let found = self.place.newest().await?;
        // Hudi gives a table no id: those of others are told apart by their names.
        let named =
            [ID, "hoodie.table.name", "hoodie.table.type"].map(|name| found.properties.get(name).unwrap_or_default());
        Ok(named.join("/"))
    }

    async fn names_in(&self, version: i64, to: i64, columns: &SchemaRef) -> Result<Vec<Option<String>>, TableError> {
        let found = self.place.newest().await?;
        self.instants(&found, to)?;
        let there = schema(&self.place, &found, self.instants(&found, version)?).await?;
        let name = |field: &arrow::datatypes::FieldRef| there.index_of(field.name()).ok().map(|_| field.name().clone());
        Ok(columns.fields().iter().map(name).collect())
    }

    async fn changes(&self, from: Option<i64>, to: i64, columns: &SchemaRef) -> Result<RowChanges, TableError> {
        let found = self.place.newest().await?;
        let mismatch =
            |reason: String| TableError::SchemaMismatch { location: self.place.location.to_string(), reason };
        let to = self.whole(&found, to).await?;
        let (after_schema, after) = self.plan(&found, to).await?;
        for field in columns.fields() {
            let own = after_schema.field_with_name(field.name());
            let own = own.map_err(|_| mismatch(format!("column '{}' is gone", field.name())))?;
            if !own.data_type().equals_datatype(field.data_type()) {
                let (was, is) = (field.data_type(), own.data_type());
                return Err(mismatch(format!("column '{}' is {is} now, not {was}", field.name())));
            }
        }
        let from = match from {
            Some(from) => self.whole(&found, from).await?,
            None => &[],
        };
        let before = slices(&self.place, &found, from).await?;
        self.still_whole(&found, from).await?;
        self.still_whole(&found, to).await?;
        let (went, came) = differing(&found, before, after);
        // Read with the columns that are asked for, whatever they were before: wider, or null where there were none.
        let reader = |instants: &[Instant]| Reading::new(&self.place, &found, instants, after_schema.clone());
        let weighted = |batches: Batches, weight: i64| {
            let (columns, location) = (columns.clone(), self.place.location.to_string());
            batches.map(move |batch| {
                weigh(&batch?, &columns, weight).map_err(|error| {
                    TableError::storage("reading the rows that came and went", location.clone(), error)
                })
            })
        };
        let went = weighted(rows(&reader(from), went, columns), -1);
        Ok(went.chain(weighted(rows(&reader(to), came, columns), 1)).boxed())
    }

    /// A savepoint that is restored takes instants away.
    fn turns_back(&self) -> bool {
        true
    }
}

fn weigh(batch: &RecordBatch, columns: &SchemaRef, weight: i64) -> Result<Changes, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let arrays = batch.columns().iter().zip(columns.fields());
    let arrays = arrays.map(|(array, field)| cast_with_options(array, field.data_type(), &options));
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(columns.clone(), arrays, &rows)?;
    let weights = Int64Array::from_value(weight, batch.num_rows());
    Changes::with_weights(batch, weights)
}
