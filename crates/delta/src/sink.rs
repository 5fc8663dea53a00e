//! Epochs into versions.

use crate::Location;
use crate::clean::{forget, tidy};
use crate::compact::compact;
use crate::edits::EditError;
use crate::files::{Files, SMALL_FILE_BYTES, TARGET_FILE_BYTES};
use crate::fit::fit;
use crate::handle::{Handle, is_conflict};
use crate::merge;
use crate::ownership;
use crate::schema::Conform;
use async_trait::async_trait;
use deltalake_core::kernel::Action;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::protocol::{DeltaOperation, OutputMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};
use rivermere_base::{Changes, CrashPoint, Epoch};
use rivermere_table::{Committed, SinkMode, SinkSpec, StagedEpoch, TableError, TableSink, Upkeep, net};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Attempts of one call before other writers are given way.
const MAX_ATTEMPTS: u64 = 16;

/// Publishes one view into one Delta table; see the crate's page for the guarantees.
pub struct DeltaSink {
    handle: Handle,
    spec: SinkSpec,
    /// Held during a commit, so that commits of one sink follow each other.
    progress: Mutex<Progress>,
    /// The version at which files that nothing needs are looked for next.
    clean_next: AtomicU64,
}

/// The newest state that was seen, and what follows from it.
struct Progress {
    state: DeltaTableState,
    marker: Epoch,
    conform: Conform,
}

/// Files that are written and wait for their commit.
struct Prepared {
    actions: Vec<Action>,
    /// First epoch inside.
    first: Epoch,
    /// Version that the files replace files of; `None` when they only add rows.
    base: Option<u64>,
    conform: Conform,
    counts: Committed,
}

impl DeltaSink {
    /// Opens the table for writing, creating it when it is missing. Durable when it returns.
    ///
    /// # Errors
    /// [`TableError::Foreign`] for a table that this sink never wrote to, depending on [`SinkSpec::adopt`]; others when
    /// the view's columns do not fit.
    pub async fn open(location: Location, spec: SinkSpec) -> Result<Self, TableError> {
        if let SinkMode::Merge { key } = &spec.mode {
            net::key_columns(&spec.schema, key)?;
        }
        // Before there is a table that this sink could not write.
        for (name, value) in &spec.properties {
            if name.starts_with("delta.constraints.") || (name == "delta.columnMapping.mode" && value != "none") {
                let reason = format!("the property '{name}' is for tables that statements change, not for a view's");
                return Err(TableError::InvalidSpec { reason });
            }
        }
        let handle = Handle::new(location)?;
        let (state, marker) = ownership::claim(&handle, &spec).await?;
        let conform = fit(&handle, &spec, &state)?;
        // The same versions for every start, however often there is one.
        let clean_next = AtomicU64::new((state.version() / CLEAN_EVERY + 1) * CLEAN_EVERY);
        Ok(Self { handle, spec, progress: Mutex::new(Progress { state, marker, conform }), clean_next })
    }

    /// Follows the table to its newest version; all of `progress` or, after an error, nothing of it. A newer state with
    /// an older marker would let an epoch in twice.
    async fn refresh(&self, progress: &mut Progress) -> Result<(), TableError> {
        let mut state = progress.state.clone();
        self.handle.refresh(&mut state).await?;
        if state.version() == progress.state.version() {
            return Ok(());
        }
        let marker = self.handle.marker(&state, &self.spec.sink_id).await?.ok_or_else(|| TableError::Foreign {
            location: self.handle.location.to_string(),
            found: "it was replaced by another writer while this pipeline ran".to_string(),
        })?;
        let conform = fit(&self.handle, &self.spec, &state)?;
        *progress = Progress { state, marker, conform };
        Ok(())
    }

    async fn prepare(&self, progress: &Progress, pending: &[StagedEpoch]) -> Result<Prepared, TableError> {
        let first = pending.first().map(|staged| staged.epoch).unwrap_or_default();
        let mut prepared = Prepared {
            actions: Vec::new(),
            first,
            base: None,
            conform: progress.conform.clone(),
            counts: Committed::default(),
        };
        match &self.spec.mode {
            SinkMode::Append => self.append(progress, pending, &mut prepared).await?,
            SinkMode::Merge { key } => self.merge(progress, pending, key, &mut prepared).await?,
        }
        Ok(prepared)
    }

    async fn append(
        &self,
        progress: &Progress,
        pending: &[StagedEpoch],
        prepared: &mut Prepared,
    ) -> Result<(), TableError> {
        let mut files = Files::new(&self.handle, &progress.state, progress.conform.table(), TARGET_FILE_BYTES)?;
        match self.append_rows(progress, pending, &mut files).await {
            Ok(()) => {
                prepared.counts.rows_inserted = files.rows;
                let adds = files.close().await?;
                prepared.counts.files_added = adds.len() as u64;
                prepared.actions.extend(adds.into_iter().map(Action::Add));
                Ok(())
            }
            Err(error) => {
                files.abort().await;
                Err(error)
            }
        }
    }

    /// Batch by batch when nothing is taken back, which is what append-only plans produce.
    async fn append_rows(
        &self,
        progress: &Progress,
        pending: &[StagedEpoch],
        files: &mut Files<'_>,
    ) -> Result<(), TableError> {
        let conform = &progress.conform;
        if pending.iter().all(|staged| net::only_inserts(&staged.changes)) {
            for changes in pending.iter().flat_map(|staged| &staged.changes) {
                let rows = net::repeated(changes).map_err(|error| conform.value_error("", error))?;
                files.write(&conform.rows(&rows)?).await?;
            }
            return Ok(());
        }
        let changes = conformed(conform, pending)?;
        let rows = net::append(self.spec.sink_id.view(), conform.table(), &changes)
            .map_err(|error| net_error(conform, error))?;
        for rows in rows {
            files.write(&rows).await?;
        }
        Ok(())
    }

    async fn merge(
        &self,
        progress: &Progress,
        pending: &[StagedEpoch],
        key: &[String],
        prepared: &mut Prepared,
    ) -> Result<(), TableError> {
        let conform = &progress.conform;
        let changes = conformed(conform, pending)?;
        let net = net::merge(self.spec.sink_id.view(), conform.table(), key, &changes)
            .map_err(|error| net_error(conform, error))?;
        let rewrite = merge::rewrite(&self.handle, &progress.state, conform, key, &net).await?;
        prepared.base = Some(progress.state.version());
        prepared.counts.rows_inserted = rewrite.rows_inserted;
        prepared.counts.rows_deleted = rewrite.rows_deleted;
        prepared.counts.files_added = rewrite.adds.len() as u64;
        prepared.counts.files_removed = rewrite.removes.len() as u64;
        prepared.actions.extend(rewrite.removes.into_iter().map(Action::Remove));
        prepared.actions.extend(rewrite.adds.into_iter().map(Action::Add));
        Ok(())
    }

    /// Puts the log entry of the version after `progress.state`, or fails.
    async fn publish(
        &self,
        progress: &Progress,
        prepared: &Prepared,
        last: Epoch,
    ) -> Result<DeltaResult<DeltaTableState>, TableError> {
        let append = self.spec.mode == SinkMode::Append;
        let operation = DeltaOperation::StreamingUpdate {
            output_mode: if append { OutputMode::Append } else { OutputMode::Update },
            query_id: self.spec.sink_id.to_string(),
            epoch_id: i64::try_from(last.0).unwrap_or(i64::MAX),
        };
        let metadata = [
            // Other writers need not give way to rows that depend on nothing they changed.
            ("isBlindAppend".to_string(), Value::Bool(append)),
            ("operationMetrics".to_string(), metrics(&prepared.counts)),
        ];
        let commit = CommitBuilder::from(ownership::properties(&self.spec, last)?.with_metadata(metadata))
            .with_actions(prepared.actions.clone())
            .build(Some(&progress.state), self.handle.log_store.clone(), operation)
            .await;
        Ok(commit.map(|commit| commit.snapshot()))
    }

    /// After an attempt failed with `error`: whether the table holds `last` all the same.
    async fn is_committed(
        &self,
        progress: &mut Progress,
        last: Epoch,
        error: &DeltaTableError,
    ) -> Result<bool, TableError> {
        match self.refresh(progress).await {
            Ok(()) => Ok(progress.marker >= last),
            Err(refused @ (TableError::Foreign { .. } | TableError::SchemaMismatch { .. })) => Err(refused),
            Err(unread) => Err(TableError::Undecided {
                location: self.handle.location.to_string(),
                epoch: last,
                reason: format!("the commit failed with '{error}', looking it up with '{unread}'"),
            }),
        }
    }
}

#[async_trait]
impl TableSink for DeltaSink {
    async fn committed(&self) -> Result<Option<Epoch>, TableError> {
        let mut progress = self.progress.lock().await;
        self.refresh(&mut progress).await?;
        Ok((progress.marker > self.spec.first_marker()).then_some(progress.marker))
    }

    async fn commit(&self, epochs: Vec<StagedEpoch>) -> Result<Committed, TableError> {
        if !epochs.is_sorted_by(|left, right| left.epoch < right.epoch) {
            return Err(TableError::InvalidSpec { reason: "epochs of a commit must ascend".to_string() });
        }
        let disk = self.handle.location.disk();
        disk.crash_point(CrashPoint::BeforeSinkCommit);
        let mut progress = self.progress.lock().await;
        let mut prepared: Option<Prepared> = None;
        for conflicts in 0..MAX_ATTEMPTS {
            self.refresh(&mut progress).await?;
            let skipped = epochs.partition_point(|staged| staged.epoch <= progress.marker);
            let (_, pending) = epochs.split_at(skipped);
            let Some(last) = pending.last().map(|staged| staged.epoch) else {
                return Ok(outcome(&progress, Committed::default(), skipped, conflicts));
            };
            let ready = match prepared.take().filter(|ready| ready.fits(&progress, pending)) {
                Some(ready) => ready,
                None => self.prepare(&progress, pending).await?,
            };
            match self.publish(&progress, &ready, last).await? {
                Ok(state) => {
                    progress.state = state;
                    progress.marker = last;
                    disk.crash_point(CrashPoint::AfterSinkCommit);
                    return Ok(outcome(&progress, ready.counts, skipped, conflicts));
                }
                Err(error) => {
                    // Whatever the error says, only the table knows: an answer may be lost after the log entry was
                    // put, and a checkpoint may fail after the commit stands.
                    let committed = self.is_committed(&mut progress, last, &error).await?;
                    if is_conflict(&error) {
                        tracing::debug!(location = %self.handle.location, %error, "another writer was faster");
                        prepared = Some(ready);
                        continue;
                    }
                    if committed {
                        tracing::warn!(location = %self.handle.location, %error, epoch = last.0, "committed, but");
                        disk.crash_point(CrashPoint::AfterSinkCommit);
                        return Ok(outcome(&progress, ready.counts, skipped, conflicts));
                    }
                    return Err(self.handle.error("committing", error));
                }
            }
        }
        Err(TableError::Conflict { location: self.handle.location.to_string(), attempts: MAX_ATTEMPTS })
    }

    async fn maintain(&self, needed: &[i64]) -> Result<Upkeep, TableError> {
        let mut progress = self.progress.lock().await;
        let files_compacted = self.compact(&mut progress).await?;
        let files_removed = self.clean(&mut progress, needed).await?;
        Ok(Upkeep { files_compacted, files_removed })
    }
}

impl DeltaSink {
    /// Puts small files together, when there are many.
    async fn compact(&self, progress: &mut Progress) -> Result<u64, TableError> {
        let crumbs = crumbs(&progress.state);
        if crumbs.is_empty() {
            return Ok(0);
        }
        let properties = |added: u64, removed: u64| {
            let told = json!({ "numAddedFiles": added.to_string(), "numRemovedFiles": removed.to_string() });
            unasked().with_metadata([("operationMetrics".to_string(), told), (UNASKED.to_string(), Value::Bool(true))])
        };
        let state = progress.state.clone();
        let compacted = compact(&self.handle, &state, Some(&crumbs), TARGET_FILE_BYTES, None, properties).await;
        let done = match compacted {
            Ok(compacted) => compacted.files_removed,
            // Others were quicker, and the next time is soon.
            Err(EditError::Table(TableError::Conflict { .. })) => 0,
            Err(error) => return Err(error.told(&self.handle)),
        };
        self.refresh(progress).await?;
        Ok(done)
    }

    /// Removes what no version of the table's retention needs, now and then.
    async fn clean(&self, progress: &mut Progress, needed: &[i64]) -> Result<u64, TableError> {
        let version = progress.state.version();
        if version < self.clean_next.load(Ordering::Relaxed) || !is_kept(&progress.state, AUTO_VACUUM) {
            return Ok(0);
        }
        // Before it is tried: what fails is tried again as late as what does not.
        self.clean_next.store(version + CLEAN_EVERY, Ordering::Relaxed);
        let commit = || unasked().with_metadata([(UNASKED.to_string(), Value::Bool(true))]);
        let done = match tidy(&self.handle, &progress.state, needed, commit).await {
            Ok(cleaned) => {
                // Each version is read again some times before its removals are old enough, however many there are.
                let pause = CLEAN_EVERY.max(cleaned.younger / 8);
                self.clean_next.store(cleaned.state.version() + pause, Ordering::Relaxed);
                cleaned.files_removed
            }
            Err(EditError::Library(error)) if is_conflict(&error) => 0,
            Err(error) => return Err(error.told(&self.handle)),
        };
        self.refresh(progress).await?;
        forget(&self.handle, &progress.state, needed).await?;
        Ok(done)
    }
}

/// What commits of the upkeep say.
const UNASKED: &str = "auto";

fn unasked() -> CommitProperties {
    CommitProperties::default().with_cleanup_expired_logs(Some(false))
}

/// Small files that a table may have before they are put together, and how many are at a time: some seconds' work.
const SMALL_FILES_KEPT: usize = 16;
const SMALL_FILES_AT_ONCE: usize = 64;
/// Versions between two looks for files that nothing needs.
const CLEAN_EVERY: u64 = 256;
/// The properties by which a table is left as it is.
const AUTO_COMPACT: &str = "delta.autoOptimize.autoCompact";
const AUTO_VACUUM: &str = "rivermere.autoVacuum";

/// Whether a table is kept up in this way: unless its property says no.
fn is_kept(state: &DeltaTableState, property: &str) -> bool {
    let configuration = state.metadata().configuration();
    !configuration.get(property).is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

/// The files to be put together, none while there are few.
fn crumbs(state: &DeltaTableState) -> BTreeSet<u32> {
    if !is_kept(state, AUTO_COMPACT) {
        return BTreeSet::new();
    }
    let log = state.log_data();
    let files = (0_u32..).zip(log.iter());
    let small = files.filter(|(_, file)| file.size() < SMALL_FILE_BYTES).map(|(number, _)| number);
    let small: BTreeSet<u32> = small.take(SMALL_FILES_AT_ONCE).collect();
    if small.len() > SMALL_FILES_KEPT { small } else { BTreeSet::new() }
}

impl Prepared {
    /// Whether the files are still what `pending` adds to the newest state.
    fn fits(&self, progress: &Progress, pending: &[StagedEpoch]) -> bool {
        pending.first().is_some_and(|staged| staged.epoch == self.first)
            && self.base.is_none_or(|base| base == progress.state.version())
            && self.conform.table() == progress.conform.table()
    }
}

fn outcome(progress: &Progress, counts: Committed, skipped: usize, conflicts: u64) -> Committed {
    Committed {
        version: i64::try_from(progress.state.version()).unwrap_or(i64::MAX),
        epoch: progress.marker,
        epochs_skipped: skipped as u64,
        conflicts,
        ..counts
    }
}

/// The numbers that `DESCRIBE HISTORY` shows; text, as Spark writes them.
fn metrics(counts: &Committed) -> Value {
    json!({
        "numOutputRows": counts.rows_inserted.to_string(),
        "numRemovedRows": counts.rows_deleted.to_string(),
        "numAddedFiles": counts.files_added.to_string(),
        "numRemovedFiles": counts.files_removed.to_string(),
    })
}

fn conformed(conform: &Conform, pending: &[StagedEpoch]) -> Result<Vec<Changes>, TableError> {
    let changes = pending.iter().flat_map(|staged| &staged.changes).map(|changes| {
        let rows = conform.rows(changes.batch())?;
        Changes::new(rows, changes.weights().clone()).map_err(|error| conform.value_error("", error))
    });
    changes.collect()
}

fn net_error(conform: &Conform, error: net::NetError) -> TableError {
    match error {
        net::NetError::Table(error) => error,
        net::NetError::Arrow(error) => conform.value_error("", error),
    }
}
