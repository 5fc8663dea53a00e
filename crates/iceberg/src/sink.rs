//! Epochs into snapshots.
//!
//! The epoch that a table holds is a property of it, `rivermere.sink.<sink>`, set by the very metadata that makes the
//! snapshot the newest: it outlives snapshots that expire, and commits of other engines, which keep properties they do not
//! know.

use crate::IcebergTable;
use crate::clean::{GC, Retention, clean};
use crate::edits::{Edited, SMALL_BYTES, rewritten};
use crate::files::Planned;
use crate::place::{Found, Place};
use crate::produce::{self, Change, Outcome};
use crate::reading::{Reading, place_fields};
use crate::removal::Removal;
use crate::rest::Locate;
use crate::types::{arrow_type, columns, from_bytes, iceberg_type};
use crate::verbs::{OWNER, new_schema};
use crate::writing::Files;
use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use iceberg::TableUpdate;
use iceberg::spec::{NestedFieldRef, Operation, Type};
use object_store::path::Path;
use rivermere_base::{CrashPoint, Epoch};
use rivermere_store::InCatalog;
use rivermere_table::{
    Claim, Clean, Committed, Fit, Keys, Location, SinkMode, SinkSpec, StagedEpoch, Table as _, TableError, TableSink,
    TableSpec, Upkeep, net,
};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Attempts of one call before other writers are given way.
const MAX_ATTEMPTS: u64 = 16;
/// Small files that are left alone; with more, they are put together, some at a time.
const SMALL_FILES_KEPT: usize = 16;
const SMALL_FILES_AT_ONCE: usize = 64;
/// The properties by which small files, and snapshots, are left as they are.
const AUTO_COMPACT: &str = "rivermere.autoCompact";
const AUTO_VACUUM: &str = "rivermere.autoVacuum";
/// Metadata between two looks for snapshots that are not kept.
const CLEAN_EVERY: u64 = 256;
/// Snapshots of a table that does not say how long it keeps them.
const SNAPSHOTS_KEPT: usize = 1_000;

/// Publishes one view into one Iceberg table.
pub struct IcebergSink {
    table: IcebergTable,
    spec: SinkSpec,
    /// Held during a commit, so that commits of one sink follow each other.
    turn: Mutex<()>,
    /// The metadata at which snapshots that are not kept are looked for next.
    clean_next: AtomicU64,
}

/// Files that are written and wait for their commit.
struct Prepared {
    edited: Edited,
    first: Epoch,
    /// The metadata that files were taken away from; when they are only added, the schema that they have.
    base: Option<Path>,
    schema: i32,
    spec_id: i32,
    counts: Committed,
}

impl IcebergSink {
    /// Opens the table for writing, creating it when it is missing. Durable when it returns.
    ///
    /// # Errors
    /// [`TableError::Foreign`] for a table that this sink never wrote to, depending on [`SinkSpec::adopt`]; others when the
    /// view's columns do not fit.
    pub async fn open(location: Location, spec: SinkSpec) -> Result<Self, TableError> {
        let table = match IcebergTable::open(location.clone()).await {
            Err(TableError::Missing { .. }) => match IcebergTable::create(location.clone(), &table_of(&spec)).await {
                // Somebody else has made one meanwhile.
                Err(TableError::Conflict { .. }) => IcebergTable::open(location).await?,
                made => made?,
            },
            table => table?,
        };
        Self::over(table, spec).await
    }

    /// The same for the table of a catalog; `locate` finds the storage of its files.
    ///
    /// # Errors
    /// Like [`IcebergSink::open`].
    pub async fn open_in(catalog: InCatalog, locate: &Locate, spec: SinkSpec) -> Result<Self, TableError> {
        let table = match IcebergTable::open_in(catalog.clone(), locate).await {
            Err(TableError::Missing { .. }) => {
                match IcebergTable::create_in(catalog.clone(), locate, &table_of(&spec)).await {
                    // Somebody else has made one meanwhile.
                    Err(TableError::Verb { .. }) => IcebergTable::open_in(catalog, locate).await?,
                    made => made?,
                }
            }
            table => table?,
        };
        Self::over(table, spec).await
    }

    async fn over(table: IcebergTable, spec: SinkSpec) -> Result<Self, TableError> {
        if let SinkMode::Merge { key } = &spec.mode {
            net::key_columns(&spec.schema, key)?;
        }
        let sink = Self { table, spec, turn: Mutex::new(()), clean_next: AtomicU64::new(0) };
        let number = sink.claim().await?;
        // The same for every start, however often there is one.
        sink.clean_next.store((number / CLEAN_EVERY + 1) * CLEAN_EVERY, Ordering::Relaxed);
        Ok(sink)
    }

    fn place(&self) -> &Place {
        self.table.place()
    }

    fn shown(&self) -> String {
        self.place().location.to_string()
    }

    /// The last epoch that the table holds; nothing when it is not this sink's.
    fn marker(&self, found: &Found) -> Result<Option<Epoch>, TableError> {
        let text = found.metadata.table.properties().get(&marker_name(&self.spec));
        let number = text.map(|text| text.parse().map(Epoch)).transpose();
        number.map_err(|_| TableError::Foreign {
            location: self.shown(),
            found: format!("its marker is '{}', which is no epoch", text.map_or("", String::as_str)),
        })
    }

    /// Makes the table this sink's, if it may be; tells the number of its metadata.
    async fn claim(&self) -> Result<u64, TableError> {
        let found = self.place().newest().await?;
        self.writable(&found)?;
        let marker = self.marker(&found)?;
        if marker.is_some_and(|marker| marker >= self.spec.first_marker()) {
            return self.fit(&found).map(|_| age(&found));
        }
        let owner = found.metadata.table.properties().get(OWNER).map(String::as_str);
        let planned = self.table.planned(&found).await?;
        let claim = self.spec.claim(&self.shown(), marker, owner, planned.len())?;
        let properties: BTreeMap<String, String> = marks(&self.spec, self.spec.first_marker()).into_iter().collect();
        let outcome = if claim == Claim::Replace {
            let refused = |error: iceberg::Error| TableError::InvalidSpec { reason: error.message().to_owned() };
            let table = &found.metadata.table;
            if !table.default_partition_spec().is_unpartitioned() || !table.default_sort_order().is_unsorted() {
                let reason = format!(
                    "the table at '{}' is partitioned or sorted by columns that would go: give the view another LOCATION",
                    self.shown()
                );
                return Err(TableError::InvalidSpec { reason });
            }
            let schema = new_schema(&self.spec.schema, found.metadata.table.last_column_id());
            let schema = schema.map_err(|error| error.told(refused))?;
            let updates = vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
            let mut edited = Edited::default();
            planned.iter().for_each(|planned| edited.remove(planned));
            let change = Change { operation: Operation::Delete, properties, updates, ..Change::with(&found, edited) };
            produce::commit(self.place(), &found, change).await?
        } else {
            self.fit(&found)?;
            if self.place().catalog().is_some() {
                // Two who claim it at the same time are told apart by the snapshot: a catalog looks at nothing else.
                let change = Change { operation: Operation::Append, properties, ..Change::of(&found) };
                let outcome = produce::commit(self.place(), &found, change).await?;
                return self.claimed(outcome);
            }
            let updates = vec![TableUpdate::SetProperties { updates: properties.into_iter().collect() }];
            produce::publish(self.place(), &found, updates).await?
        };
        self.claimed(outcome)
    }

    fn claimed(&self, outcome: Outcome) -> Result<u64, TableError> {
        match outcome {
            Outcome::Committed(found) => self.fit(&found).map(|_| age(&found)),
            Outcome::Lost => Err(TableError::Conflict { location: self.shown(), attempts: 1 }),
        }
    }

    fn writable(&self, found: &Found) -> Result<(), TableError> {
        let refused = |reason: &str| Err(TableError::UnfitStorage { location: self.shown(), reason: reason.into() });
        self.place().unwritable(found).map_or(Ok(()), refused)
    }

    fn fit(&self, found: &Found) -> Result<Fit, TableError> {
        let schema = found.metadata.table.current_schema();
        let stored = |of: &DataType| iceberg_type(of, &mut 0).map(|of| arrow_type(&of, false));
        let is_required = |name: &str| schema.field_by_name(name).is_some_and(|field| field.required);
        Fit::new(&self.shown(), &self.spec.schema, &columns(schema), stored, is_required)
    }

    fn value(&self, error: ArrowError) -> TableError {
        TableError::Value { what: "a row of the view".into(), location: self.shown(), source: error }
    }

    async fn prepare(&self, found: &Arc<Found>, pending: &[StagedEpoch]) -> Result<Prepared, TableError> {
        let schema = columns(found.metadata.table.current_schema());
        let changes = self.fit(found)?.changes(pending).map_err(|error| self.value(error))?;
        let mut files = Files::new(self.place(), found)?;
        let mut prepared = Prepared {
            edited: Edited::default(),
            first: pending.first().map(|staged| staged.epoch).unwrap_or_default(),
            base: None,
            schema: found.metadata.table.current_schema_id(),
            spec_id: found.metadata.table.default_partition_spec_id(),
            counts: Committed::default(),
        };
        let view = self.spec.sink_id.view();
        let told = |error: net::NetError| match error {
            net::NetError::Table(error) => error,
            net::NetError::Arrow(error) => self.value(error),
        };
        match &self.spec.mode {
            SinkMode::Append if net::only_inserts(&changes) => {
                for changes in &changes {
                    files.write(&net::repeated(changes).map_err(|error| self.value(error))?).await?;
                }
            }
            SinkMode::Append => {
                for rows in net::append(view, &schema, &changes).map_err(told)? {
                    files.write(&rows).await?;
                }
            }
            SinkMode::Merge { key } => {
                prepared.base = Some(found.file.clone());
                let net = net::merge(view, &schema, key, &changes).map_err(told)?;
                prepared.counts.rows_deleted =
                    self.take_out(found, key, &net, &mut files, &mut prepared.edited).await?;
                prepared.counts.rows_inserted = net.rows.iter().map(|rows| rows.num_rows() as u64).sum();
                for rows in &net.rows {
                    files.write(rows).await?;
                }
            }
        }
        if self.spec.mode == SinkMode::Append {
            prepared.counts.rows_inserted = files.rows;
        }
        prepared.edited.added = files.finish().await?;
        prepared.counts.files_added = prepared.edited.added.len() as u64;
        prepared.counts.files_removed = prepared.edited.removed.len() as u64;
        Ok(prepared)
    }

    /// Takes the rows of changed keys out of their files; where that writes files anew, small ones go with them. Tells how many
    /// rows that were.
    async fn take_out(
        &self,
        found: &Arc<Found>,
        key: &[String],
        net: &net::Merge,
        files: &mut Files<'_>,
        edited: &mut Edited,
    ) -> Result<u64, TableError> {
        let keys = Keys::new(&net.keys).map_err(|error| self.value(error))?;
        let reading = Reading::new(self.place(), found);
        let fields = found.metadata.table.current_schema().as_struct().fields();
        let of_key: Vec<NestedFieldRef> =
            key.iter().filter_map(|name| fields.iter().find(|field| field.name == *name).cloned()).collect();
        let placed: Vec<NestedFieldRef> = of_key.iter().cloned().chain(place_fields()).collect();
        let removal = Removal::new(self.place(), found, &reading, "merge");
        let planned = self.table.planned(found).await?;
        let small: Vec<&str> = planned
            .iter()
            .filter(|planned| planned.file.bytes < SMALL_BYTES)
            .map(|planned| planned.file.name.as_str())
            .take(SMALL_FILES_AT_ONCE)
            .collect();
        let small: HashSet<&str> =
            if small.len() > SMALL_FILES_KEPT { small.into_iter().collect() } else { HashSet::new() };
        let (mut rows_deleted, mut taken) = (0, vec![]);
        for planned in &planned {
            let mut gone = RoaringTreemap::new();
            let bound = |at: usize, bounds: &HashMap<i32, Vec<u8>>| {
                let field = of_key.get(at)?;
                let Type::Primitive(primitive) = field.field_type.as_ref() else { return None };
                from_bytes(bounds.get(&field.id)?, primitive)
            };
            if keys.may_be_within(|at| (bound(at, &planned.file.lower), bound(at, &planned.file.upper))) {
                let mut rows = reading.rows(planned, &placed).await?;
                while let Some(batch) = rows.try_next().await? {
                    let live = keys.others(&batch, key.len()).map_err(|error| self.value(error))?;
                    let places = batch.column(key.len() + 1).as_primitive::<Int64Type>().values();
                    let taken = places.iter().zip(&live).filter(|(_, live)| *live == Some(false));
                    gone.extend(taken.filter_map(|(place, _)| u64::try_from(*place).ok()));
                }
            }
            rows_deleted += gone.len();
            if !gone.is_empty() {
                taken.push((planned.clone(), gone));
            } else if !removal.marks() && small.contains(planned.file.name.as_str()) {
                removal.write_anew(planned, &gone, files, edited).await?;
            }
        }
        removal.take(taken, files, edited).await?;
        Ok(rows_deleted)
    }
}

impl IcebergSink {
    /// Forgets snapshots that are not kept, now and then, with their files.
    async fn clean(&self, found: &Found, needed: &[i64]) -> Result<u64, TableError> {
        let left = is_off(found, AUTO_VACUUM) || is_off(found, GC);
        let number = age(found);
        if left || number < self.clean_next.load(Ordering::Relaxed) {
            return Ok(0);
        }
        // Before it is tried: what fails is tried again as late as what does not.
        self.clean_next.store((number / CLEAN_EVERY + 1) * CLEAN_EVERY, Ordering::Relaxed);
        let retention = Retention::of_a_stream(found, SNAPSHOTS_KEPT);
        let what = Clean { needed: needed.to_vec(), ..Clean::default() };
        match clean(self.place(), found, self.table.manifests(), &retention, &what).await {
            Ok(cleaned) => Ok(cleaned.files),
            // Others were quicker, and there is a next time.
            Err(TableError::Conflict { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// How often the table has been changed, about: catalogs may give metadata no numbers.
fn age(found: &Found) -> u64 {
    found.number.max(found.metadata.table.last_sequence_number().unsigned_abs())
}

/// The table that is made for a view.
fn table_of(spec: &SinkSpec) -> TableSpec {
    let mut properties = spec.properties.clone();
    properties.extend(marks(spec, spec.first_marker()));
    TableSpec { schema: spec.schema.clone(), partitioned_by: vec![], properties }
}

/// Whether a property of the table says no.
fn is_off(found: &Found, property: &str) -> bool {
    found.metadata.table.properties().get(property).is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

fn marker_name(spec: &SinkSpec) -> String {
    format!("{OWNER}.{}", spec.sink_id)
}

/// The properties that make a table a sink's.
fn marks(spec: &SinkSpec, epoch: Epoch) -> Vec<(String, String)> {
    vec![(OWNER.to_owned(), spec.sink_id.to_string()), (marker_name(spec), epoch.0.to_string())]
}

#[async_trait]
impl TableSink for IcebergSink {
    async fn committed(&self) -> Result<Option<Epoch>, TableError> {
        let _turn = self.turn.lock().await;
        let marker = self.marker(&*self.place().newest().await?)?;
        Ok(marker.filter(|marker| *marker > self.spec.first_marker()))
    }

    async fn commit(&self, epochs: Vec<StagedEpoch>) -> Result<Committed, TableError> {
        if !epochs.is_sorted_by(|left, right| left.epoch < right.epoch) {
            return Err(TableError::InvalidSpec { reason: "epochs of a commit must ascend".to_string() });
        }
        let disk = self.place().location.disk();
        disk.crash_point(CrashPoint::BeforeSinkCommit);
        let _turn = self.turn.lock().await;
        let mut prepared: Option<Prepared> = None;
        let mut last_try: Option<Committed> = None;
        for conflicts in 0..MAX_ATTEMPTS {
            let found = self.place().newest().await?;
            let marker = self.marker(&found)?.ok_or_else(|| TableError::Foreign {
                location: self.shown(),
                found: "it was replaced by another writer while this pipeline ran".to_string(),
            })?;
            let skipped = epochs.partition_point(|staged| staged.epoch <= marker);
            let (_, pending) = epochs.split_at(skipped);
            let Some(last) = pending.last().map(|staged| staged.epoch) else {
                // Nothing is left to do; it may be that an attempt of this call did it.
                let counts = last_try.unwrap_or_default();
                let epochs_skipped = if last_try.is_some() { counts.epochs_skipped } else { skipped as u64 };
                return Ok(Committed {
                    version: self.table.version().await?,
                    epoch: marker,
                    epochs_skipped,
                    conflicts,
                    ..counts
                });
            };
            let fits = |ready: &Prepared| {
                pending.first().is_some_and(|staged| staged.epoch == ready.first)
                    && ready.base.as_ref().is_none_or(|base| *base == found.file)
                    && ready.schema == found.metadata.table.current_schema_id()
                    && ready.spec_id == found.metadata.table.default_partition_spec_id()
            };
            let ready = match prepared.take().filter(fits) {
                Some(ready) => ready,
                None => self.prepare(&found, pending).await?,
            };
            let operation = match (
                ready.edited.removed.is_empty() && ready.edited.deletes.is_empty(),
                ready.edited.added.is_empty(),
            ) {
                (true, _) => Operation::Append,
                (false, true) => Operation::Delete,
                (false, false) => Operation::Overwrite,
            };
            let change = Change {
                operation,
                summary: BTreeMap::from([("rivermere.epoch".to_owned(), last.0.to_string())]),
                properties: BTreeMap::from([(marker_name(&self.spec), last.0.to_string())]),
                spec_id: ready.spec_id,
                ..Change::with(&found, ready.edited.clone())
            };
            last_try = Some(Committed { epochs_skipped: skipped as u64, ..ready.counts });
            match produce::commit(self.place(), &found, change).await {
                Ok(Outcome::Committed(_)) => {
                    disk.crash_point(CrashPoint::AfterSinkCommit);
                    let counts = ready.counts;
                    let version = self.table.version().await?;
                    return Ok(Committed { version, epoch: last, epochs_skipped: skipped as u64, conflicts, ..counts });
                }
                Ok(Outcome::Lost) | Err(TableError::Conflict { .. }) => prepared = Some(ready),
                // Whatever the error says, only the table knows.
                Err(error) => match self.place().newest().await.map(|found| self.marker(&found)) {
                    Ok(Ok(Some(marker))) if marker >= last => {
                        tracing::warn!(location = %self.place().location, %error, epoch = last.0, "committed, but");
                        disk.crash_point(CrashPoint::AfterSinkCommit);
                        let version = self.table.version().await?;
                        return Ok(Committed {
                            version,
                            epoch: last,
                            epochs_skipped: skipped as u64,
                            conflicts,
                            ..ready.counts
                        });
                    }
                    Ok(_) => return Err(error),
                    Err(unread) => {
                        return Err(TableError::Undecided {
                            location: self.shown(),
                            epoch: last,
                            reason: format!("the commit failed with '{error}', looking it up with '{unread}'"),
                        });
                    }
                },
            }
        }
        Err(TableError::Conflict { location: self.shown(), attempts: MAX_ATTEMPTS })
    }

    async fn maintain(&self, needed: &[i64]) -> Result<Upkeep, TableError> {
        let _turn = self.turn.lock().await;
        let found = self.place().newest().await?;
        let left = is_off(&found, AUTO_COMPACT);
        let planned = self.table.planned(&found).await?;
        let small: Vec<Planned> =
            planned.into_iter().filter(|planned| planned.file.bytes < SMALL_BYTES).take(SMALL_FILES_AT_ONCE).collect();
        if left || small.len() <= SMALL_FILES_KEPT {
            return Ok(Upkeep { files_compacted: 0, files_removed: self.clean(&found, needed).await? });
        }
        let edited = rewritten(&self.table, &found, &small).await?;
        let files_compacted = edited.removed.len() as u64;
        let change = Change { operation: Operation::Replace, ..Change::with(&found, edited) };
        match produce::commit(self.place(), &found, change).await {
            Ok(Outcome::Committed(_)) => Ok(Upkeep { files_compacted, files_removed: 0 }),
            // Others were quicker, and the next time is soon.
            Ok(Outcome::Lost) | Err(TableError::Conflict { .. }) => Ok(Upkeep::default()),
            Err(error) => Err(error),
        }
    }
}
