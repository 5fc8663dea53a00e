//! Epochs into instants.
//!
//! The epoch that a table holds is in the extra metadata of the very instant that published it, `rivermere.sink.<sink>`; it is looked
//! for from the newest instant back, also in what other engines have archived.

use crate::clean::{clean, own_retention_ms};
use crate::edits::{Writing, groups, small, statement};
use crate::place::{Found, Place};
use crate::produce::{self, Begun, Change, Outcome};
use crate::reading::Reading;
use crate::schema::schema_text;
use crate::table::HudiTable;
use crate::timeline::{Action, Instant};
use crate::types::{avro_schema, table_schema};
use crate::verbs::OWNER;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use rivermere_base::{CrashPoint, Epoch};
use rivermere_table::{
    Claim, Clean, Committed, Editing, Fit, Keys, Location, SinkMode, SinkSpec, StagedEpoch, TableError, TableSink,
    TableSpec, Upkeep, net,
};
use roaring::RoaringTreemap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Attempts of one call before other writers are given way.
const MAX_ATTEMPTS: u64 = 16;
/// Small files that are left alone; with more, they are put together, some at a time.
const SMALL_FILES_KEPT: usize = 16;
const SMALL_FILES_AT_ONCE: usize = 64;
/// Logs beside a base file that are left alone.
const LOGS_KEPT: usize = 16;
/// The properties by which small files, and those that nothing needs, are left as they are.
const AUTO_COMPACT: &str = "rivermere.autoCompact";
const AUTO_VACUUM: &str = "rivermere.autoVacuum";
/// Instants between two looks for files that nothing needs.
const CLEAN_EVERY: usize = 64;

/// Publishes one view into one Hudi table.
pub struct HudiSink {
    table: HudiTable,
    spec: SinkSpec,
    session: SessionState,
    /// How many instants there are when files are cleaned up next.
    clean_next: Mutex<usize>,
    /// Held during a commit, so that commits of one sink follow each other.
    turn: Mutex<()>,
}

impl HudiSink {
    /// Opens the table for writing, creating it when it is missing. Durable when it returns.
    ///
    /// # Errors
    /// [`TableError::Foreign`] for a table that this sink never wrote to, depending on [`SinkSpec::adopt`]; others when the
    /// view's columns do not fit.
    pub async fn open(location: Location, spec: SinkSpec) -> Result<Self, TableError> {
        let mut properties = spec.properties.clone();
        if let SinkMode::Merge { key } = &spec.mode {
            net::key_columns(&spec.schema, key)?;
            // Of the key that the view has, unless it is told otherwise.
            let is_told = |(name, _): &(String, String)| {
                name.eq_ignore_ascii_case("primaryKey") || name == "hoodie.table.recordkey.fields"
            };
            if !properties.iter().any(is_told) {
                properties.push(("primaryKey".to_owned(), key.join(",")));
            }
        }
        let table = match HudiTable::open(location.clone()).await {
            Err(TableError::Missing { .. }) => {
                properties.push((OWNER.to_owned(), spec.sink_id.to_string()));
                let made = TableSpec { schema: spec.schema.clone(), partitioned_by: vec![], properties };
                HudiTable::create(location, &made).await?
            }
            table => table?,
        };
        let sink = Self {
            table,
            spec,
            session: SessionContext::new().state(),
            clean_next: Mutex::new(CLEAN_EVERY),
            turn: Mutex::new(()),
        };
        sink.claim().await?;
        Ok(sink)
    }

    fn place(&self) -> &Arc<Place> {
        self.table.place()
    }

    fn shown(&self) -> String {
        self.place().location.to_string()
    }

    fn owner(&self) -> &str {
        self.spec.sink_id.as_str()
    }

    fn marker_name(&self) -> String {
        format!("{OWNER}.{}", self.spec.sink_id)
    }

    /// The last epoch that the table holds; nothing when it never was this sink's.
    async fn marker(&self, found: &Found) -> Result<Option<Epoch>, TableError> {
        let name = self.marker_name();
        let mut text = None;
        for instant in found.timeline.instants.iter().rev() {
            text = self.place().commit(instant).await?.extra.get(&name).cloned();
            if text.is_some() {
                break;
            }
        }
        if text.is_none() && found.properties.get(OWNER) == Some(self.owner()) {
            text = self.place().archived(&found.properties, &name).await?;
        }
        let Some(text) = text else { return Ok(None) };
        let epoch = text.parse().map(Epoch).map(Some);
        epoch.map_err(|_| TableError::Foreign {
            location: self.shown(),
            found: format!("its marker is '{text}', which is no epoch"),
        })
    }

    /// Makes the table this sink's, if it may be.
    async fn claim(&self) -> Result<(), TableError> {
        produce::settled(self.place()).await?;
        produce::undo_left(self.place(), self.owner()).await?;
        let found = produce::settled(self.place()).await?;
        if let Some(reason) = found.unwritable() {
            return Err(TableError::UnfitStorage { location: self.shown(), reason });
        }
        let marker = self.marker(&found).await?;
        if marker.is_some_and(|marker| marker >= self.spec.first_marker()) {
            self.own(&found).await?;
            return self.fit(&found).await.map(|_| ());
        }
        let instants = &found.timeline.instants;
        let (_, slices) = self.table.plan(&found, instants).await?;
        let owner = found.properties.get(OWNER).filter(|owner| !instants.is_empty() || *owner != self.owner());
        let claim = self.spec.claim(&self.shown(), marker, owner, slices.len())?;
        let (action, mut change) = match claim {
            Claim::Keep => {
                self.fit(&found).await?;
                (found.action(), Change::of("ALTER_SCHEMA", schema_text(self.place(), &found, instants).await?))
            }
            Claim::Replace => {
                if !found.properties.names("hoodie.table.partition.fields").is_empty() {
                    let reason = format!(
                        "the table at '{}' is partitioned by columns that would go: give the view another LOCATION",
                        self.shown()
                    );
                    return Err(TableError::InvalidSpec { reason });
                }
                let name = found.properties.get("hoodie.table.name").unwrap_or("table");
                let change = Change::of("INSERT_OVERWRITE_TABLE", avro_schema(name, &self.spec.schema)?);
                (Action::ReplaceCommit, Change { replaced: groups(&slices), ..change })
            }
        };
        change.extra.insert(self.marker_name(), self.spec.first_marker().0.to_string());
        // Before the marker: who finds that, finds this.
        self.own(&found).await?;
        let begun = produce::begin(self.place(), &found, action, self.owner()).await?;
        let found = self.table.complete(&found, &begun, &change, false).await?;
        self.fit(&found).await.map(|_| ())
    }

    /// Says that the table is this sink's to write.
    async fn own(&self, found: &Found) -> Result<(), TableError> {
        if found.properties.get(OWNER) == Some(self.owner()) {
            return Ok(());
        }
        let mut properties = found.properties.clone();
        properties.set(OWNER, self.owner());
        self.place().put_properties(&properties).await
    }

    async fn columns(&self, found: &Found) -> Result<SchemaRef, TableError> {
        crate::schema::schema(self.place(), found, &found.timeline.instants).await
    }

    async fn fit(&self, found: &Found) -> Result<Fit, TableError> {
        let stored = |of: &DataType| {
            let made = table_schema(&Schema::new(vec![Field::new("c", of.clone(), true)])).ok()?;
            Some(made.field(0).data_type().clone())
        };
        Fit::new(&self.shown(), &self.spec.schema, &self.columns(found).await?, stored, |_| false)
    }

    fn value(&self, error: ArrowError) -> TableError {
        TableError::Value { what: "a row of the view".into(), location: self.shown(), source: error }
    }

    async fn prepare(
        &self,
        found: &Found,
        begun: &Begun,
        pending: &[StagedEpoch],
    ) -> Result<(Change, Committed), TableError> {
        let schema = self.columns(found).await?;
        let changes = self.fit(found).await?.changes(pending).map_err(|error| self.value(error))?;
        let (editing, mut target) = statement("MERGE", &self.table, &self.session, found, begun).await?;
        let mut counts = Committed::default();
        let view = self.spec.sink_id.view();
        let told = |error: net::NetError| match error {
            net::NetError::Table(error) => error,
            net::NetError::Arrow(error) => self.value(error),
        };
        let operation = match &self.spec.mode {
            SinkMode::Append => {
                if net::only_inserts(&changes) {
                    for changes in &changes {
                        target.files.write(&net::repeated(changes).map_err(|error| self.value(error))?).await?;
                    }
                } else {
                    for rows in net::append(view, &schema, &changes).map_err(told)? {
                        target.files.write(&rows).await?;
                    }
                }
                counts.rows_inserted = target.files.rows;
                "INSERT"
            }
            SinkMode::Merge { key } => {
                let net = net::merge(view, &schema, key, &changes).map_err(told)?;
                counts.rows_deleted = self.take_out(&editing, &mut target, key, &net).await?;
                for rows in &net.rows {
                    target.files.write(rows).await?;
                }
                counts.rows_inserted = target.files.rows;
                "UPSERT"
            }
        };
        let mut change = Change::of(operation, schema_text(self.place(), found, &found.timeline.instants).await?);
        change.added = target.files.finish().await?;
        counts.files_added = change.added.len() as u64;
        counts.files_removed = change.added.iter().filter(|file| file.before.is_some()).count() as u64;
        Ok((change, counts))
    }

    /// Takes the rows of changed keys out of their slices; tells how many rows that were.
    async fn take_out(
        &self,
        editing: &Editing<'_, Reading>,
        target: &mut Writing<'_>,
        key: &[String],
        net: &net::Merge,
    ) -> Result<u64, TableError> {
        let keys = Keys::new(&net.keys).map_err(|error| self.value(error))?;
        let of_key = key.iter().filter_map(|name| editing.schema.field_with_name(name).ok().cloned());
        let of_key: SchemaRef = Arc::new(Schema::new(of_key.collect::<Vec<_>>()));
        let mut rows_deleted = 0;
        for slice in &editing.pieces {
            let bounds = self.place().bounds(slice, &of_key).await?;
            if !keys.may_be_within(|at| bounds.get(at).cloned().unwrap_or_default()) {
                continue;
            }
            let mut rows = editing.reader.filtered(slice, &of_key, None).await?;
            let (mut gone, mut first) = (RoaringTreemap::new(), 0_u64);
            while let Some(batch) = rows.try_next().await? {
                let live = keys.others(&batch, key.len()).map_err(|error| self.value(error))?;
                gone.extend((first..).zip(&live).filter(|(_, live)| *live == Some(false)).map(|(row, _)| row));
                first += batch.num_rows() as u64;
            }
            if !gone.is_empty() {
                rows_deleted += gone.len();
                target.take_out(slice, &gone).await?;
            }
        }
        Ok(rows_deleted)
    }
}

impl HudiSink {
    /// Removes files that no version of the table's retention needs, now and then.
    async fn clean(&self, found: &Found, needed: &[i64]) -> Result<Upkeep, TableError> {
        let is_off = found.properties.get(AUTO_VACUUM).is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let mut next = self.clean_next.lock().await;
        let count = found.timeline.instants.len();
        if is_off || count < *next {
            return Ok(Upkeep::default());
        }
        // Before it is tried: what fails is tried again as late as what does not.
        *next = count + CLEAN_EVERY;
        let what = Clean { needed: needed.to_vec(), ..Clean::default() };
        let files_removed = clean(self.place(), found, own_retention_ms(found), &what).await?;
        Ok(Upkeep { files_compacted: 0, files_removed })
    }
}

#[async_trait]
impl TableSink for HudiSink {
    async fn committed(&self) -> Result<Option<Epoch>, TableError> {
        let _turn = self.turn.lock().await;
        let found = produce::settled(self.place()).await?;
        let marker = self.marker(&found).await?;
        Ok(marker.filter(|marker| *marker > self.spec.first_marker()))
    }

    async fn commit(&self, epochs: Vec<StagedEpoch>) -> Result<Committed, TableError> {
        if !epochs.is_sorted_by(|left, right| left.epoch < right.epoch) {
            return Err(TableError::InvalidSpec { reason: "epochs of a commit must ascend".to_string() });
        }
        let disk = self.place().location.disk();
        disk.crash_point(CrashPoint::BeforeSinkCommit);
        let _turn = self.turn.lock().await;
        for conflicts in 0..MAX_ATTEMPTS {
            let found = produce::settled(self.place()).await?;
            let marker = self.marker(&found).await?.ok_or_else(|| TableError::Foreign {
                location: self.shown(),
                found: "it was replaced by another writer while this pipeline ran".to_string(),
            })?;
            let skipped = epochs.partition_point(|staged| staged.epoch <= marker);
            let (_, pending) = epochs.split_at(skipped);
            let epochs_skipped = skipped as u64;
            let version = found.timeline.newest().map_or(0, Instant::version);
            let Some(last) = pending.last().map(|staged| staged.epoch) else {
                return Ok(Committed { version, epoch: marker, epochs_skipped, conflicts, ..Committed::default() });
            };
            let begun = produce::begin(self.place(), &found, found.action(), self.owner()).await?;
            let (mut change, counts) = match self.prepare(&found, &begun, pending).await {
                Ok(prepared) => prepared,
                Err(error) => {
                    // Whoever comes later does it, when this fails, too.
                    let _ = produce::undo(self.place(), &found, &begun).await;
                    return Err(error);
                }
            };
            change.extra.insert(self.marker_name(), last.0.to_string());
            let committed = |found: &Found| {
                disk.crash_point(CrashPoint::AfterSinkCommit);
                let version = found.timeline.newest().map_or(0, Instant::version);
                Committed { version, epoch: last, epochs_skipped, conflicts, ..counts }
            };
            match produce::commit(self.place(), Some(&found), &begun, &change).await {
                Ok(Outcome::Committed(newest)) => return Ok(committed(&newest)),
                Ok(Outcome::Lost) => produce::undo(self.place(), &found, &begun).await?,
                // Whatever the error says, only the table knows.
                Err(error) => {
                    let newest = match produce::settled(self.place()).await {
                        Ok(newest) => self.marker(&newest).await.map(|marker| (newest, marker)),
                        Err(unread) => Err(unread),
                    };
                    return match newest {
                        Ok((newest, Some(marker))) if marker >= last => {
                            tracing::warn!(location = %self.place().location, %error, epoch = last.0, "committed, but");
                            Ok(committed(&newest))
                        }
                        Ok(_) => Err(error),
                        Err(unread) => Err(TableError::Undecided {
                            location: self.shown(),
                            epoch: last,
                            reason: format!("the commit failed with '{error}', looking it up with '{unread}'"),
                        }),
                    };
                }
            }
        }
        Err(TableError::Conflict { location: self.shown(), attempts: MAX_ATTEMPTS })
    }

    async fn maintain(&self, needed: &[i64]) -> Result<Upkeep, TableError> {
        let _turn = self.turn.lock().await;
        let found = produce::settled(self.place()).await?;
        let is_off = found.properties.get(AUTO_COMPACT).is_some_and(|value| value.eq_ignore_ascii_case("false"));
        if is_off {
            return self.clean(&found, needed).await;
        }
        let (_, slices) = self.table.plan(&found, &found.timeline.instants).await?;
        let small = small(&slices, SMALL_FILES_AT_ONCE, LOGS_KEPT);
        let has_many_logs = small.iter().any(|slice| slice.logs.len() > LOGS_KEPT);
        if small.len() <= SMALL_FILES_KEPT && !has_many_logs {
            return self.clean(&found, needed).await;
        }
        let begun = produce::begin(self.place(), &found, Action::ReplaceCommit, self.owner()).await?;
        let work = async {
            let (_, mut target) = statement("OPTIMIZE", &self.table, &self.session, &found, &begun).await?;
            let mut change = Change::of("CLUSTER", target.avro.clone());
            target.gather(&small).await?;
            (change.added, change.replaced) = (target.files.finish().await?, groups(&small));
            Ok(change)
        };
        let change = match work.await {
            Ok(change) => change,
            Err(error) => {
                // Whoever comes later does it, when this fails, too.
                let _ = produce::undo(self.place(), &found, &begun).await;
                return Err(error);
            }
        };
        match self.table.complete(&found, &begun, &change, false).await {
            Ok(_) => Ok(Upkeep { files_compacted: small.len() as u64, files_removed: 0 }),
            // Others were quicker, and the next time is soon.
            Err(TableError::Conflict { .. }) => Ok(Upkeep::default()),
            Err(error) => Err(error),
        }
    }
}
