//! Staged output into lake tables, beside the engine: coalesced, in order, and again until it is there.

use crate::checkpoint::read_staged;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rivermere_base::{Clock, Disk, Epoch};
use rivermere_sql::ViewDefinition;
use rivermere_table::{SinkId, StagedEpoch, TableError, TableSink, Upkeep};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{self, JoinSet};
use uuid::Uuid;

/// Opens the table behind a stored view, whose output began with the epoch.
pub type OpenSink = dyn Fn(Arc<ViewDefinition>, SinkId, Epoch) -> BoxFuture<'static, Result<Arc<dyn TableSink>, TableError>>
    + Send
    + Sync;

/// The versions of the table behind a stored view from which something reads on.
pub type NeededVersions = dyn Fn(&ViewDefinition) -> Vec<i64> + Send + Sync;

/// Staged files that a table may not have yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct StagedFiles {
    /// The first epoch that the view may have output in.
    pub(super) since: Epoch,
    pub(super) epochs: VecDeque<(Epoch, PathBuf)>,
}

/// How far one table has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkProgress {
    pub confirmed: Option<Epoch>,
    pub waiting: usize,
    /// The last failure, while it lasts.
    pub error: Option<String>,
}

struct Sink {
    view: Arc<ViewDefinition>,
    since: Epoch,
    table: Option<Arc<dyn TableSink>>,
    waiting: VecDeque<(Epoch, PathBuf)>,
    confirmed: Option<Epoch>,
    error: Option<String>,
    /// A failure that no retry cures.
    broken: bool,
}

/// One task for each commit, and one commit at a time for each table: a table that does not answer holds up no other.
pub struct Committer {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    open: Box<OpenSink>,
    needed: Box<NeededVersions>,
    interval: Duration,
    sinks: Mutex<BTreeMap<String, Sink>>,
    incarnation: Mutex<Option<Uuid>>,
    wake: Notify,
    flush: Mutex<bool>,
}

/// Epochs put into one table commit: bounds its memory.
const EPOCHS_AT_ONCE: usize = 64;

impl Committer {
    /// `interval` is the least time between two commits of a table.
    pub fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        interval: Duration,
        open: Box<OpenSink>,
        needed: Box<NeededVersions>,
    ) -> Self {
        Self {
            disk,
            clock,
            open,
            needed,
            interval,
            sinks: Mutex::new(BTreeMap::new()),
            incarnation: Mutex::new(None),
            wake: Notify::new(),
            flush: Mutex::new(false),
        }
    }

    pub(super) fn start(&self, incarnation: Uuid) {
        *self.incarnation.lock() = Some(incarnation);
    }

    /// The pipeline's incarnation, once the engine has told it.
    pub fn incarnation(&self) -> Option<Uuid> {
        *self.incarnation.lock()
    }

    pub(super) fn open(&self, view: Arc<ViewDefinition>, files: StagedFiles) {
        let sink = Sink {
            view: view.clone(),
            since: files.since,
            table: None,
            waiting: files.epochs,
            confirmed: None,
            error: None,
            broken: false,
        };
        self.sinks.lock().insert(view.name.clone(), sink);
        self.wake.notify_one();
    }

    pub(super) fn close(&self, view: &str) {
        self.sinks.lock().remove(view);
    }

    pub(super) fn staged(&self, view: &str, epoch: Epoch, file: PathBuf) {
        if let Some(sink) = self.sinks.lock().get_mut(view) {
            sink.waiting.push_back((epoch, file));
        }
        self.wake.notify_one();
    }

    pub(super) fn confirmed(&self) -> Vec<(String, Epoch)> {
        let sinks = self.sinks.lock();
        sinks.iter().filter_map(|(view, sink)| Some((view.clone(), sink.confirmed?))).collect()
    }

    /// Progress of each table, by view.
    pub fn progress(&self) -> BTreeMap<String, SinkProgress> {
        let sinks = self.sinks.lock();
        sinks
            .iter()
            .map(|(view, sink)| {
                let progress =
                    SinkProgress { confirmed: sink.confirmed, waiting: sink.waiting.len(), error: sink.error.clone() };
                (view.clone(), progress)
            })
            .collect()
    }

    /// Opens every table and commits everything that waits, without regard to the interval. A table that has never
    /// been written is there afterwards, without rows.
    ///
    /// # Errors
    /// The first failure; what is staged stays staged.
    pub async fn flush(&self) -> Result<(), String> {
        *self.flush.lock() = true;
        self.wake.notify_one();
        loop {
            {
                let sinks = self.sinks.lock();
                if let Some(error) = sinks.values().find_map(|sink| sink.error.clone()) {
                    *self.flush.lock() = false;
                    return Err(error);
                }
                if sinks.values().all(|sink| sink.waiting.is_empty() && sink.confirmed.is_some()) {
                    *self.flush.lock() = false;
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs until `stop` is asked; spawn it once.
    pub async fn run(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut committed_at: BTreeMap<String, Duration> = BTreeMap::new();
        let mut commits = JoinSet::new();
        let mut busy: BTreeMap<task::Id, String> = BTreeMap::new();
        loop {
            for view in self.due(&committed_at) {
                if !busy.values().any(|name| *name == view) {
                    let (committer, name) = (self.clone(), view.clone());
                    let commit = commits.spawn(async move { committer.commit(&name).await });
                    busy.insert(commit.id(), view);
                }
            }
            let ended = tokio::select! {
                Some(ended) = commits.join_next_with_id() => ended,
                () = self.wake.notified() => continue,
                () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                // A commit that is cut off is made or not, like one that a crash cuts off.
                _ = stop.changed() => return,
            };
            let (id, result) = match ended {
                Ok((id, result)) => (id, result),
                Err(error) => (error.id(), Err((None, format!("a commit ended early: {error}"), true))),
            };
            let Some(view) = busy.remove(&id) else { continue };
            committed_at.insert(view.clone(), self.clock.monotonic());
            if let Err((of, error, retry)) = result {
                tracing::warn!(view, error, "a table commit failed");
                self.with(&view, of.as_ref(), |sink| {
                    sink.error = Some(error);
                    sink.broken = !retry;
                });
            }
        }
    }

    /// The sink of a view, if it is still of this definition.
    fn with(&self, view: &str, of: Option<&Arc<ViewDefinition>>, change: impl FnOnce(&mut Sink)) {
        if let Some(sink) = self.sinks.lock().get_mut(view)
            && of.is_none_or(|of| Arc::ptr_eq(of, &sink.view))
        {
            change(sink);
        }
    }

    fn due(&self, committed_at: &BTreeMap<String, Duration>) -> Vec<String> {
        let now = self.clock.monotonic();
        let flush = *self.flush.lock();
        let sinks = self.sinks.lock();
        let is_due = |view: &str, sink: &Sink| {
            // A table is opened at once, so that a wrong one is told at once.
            let rested = committed_at.get(view).is_none_or(|at| now.saturating_sub(*at) >= self.interval);
            let failed =
                sink.error.is_some() && committed_at.get(view).is_some_and(|at| now.saturating_sub(*at) < RETRY_AFTER);
            !sink.broken && !failed && (!sink.waiting.is_empty() || sink.confirmed.is_none()) && (rested || flush)
        };
        sinks.iter().filter(|(view, sink)| is_due(view, sink)).map(|(view, _)| view.clone()).collect()
    }

    async fn commit(&self, view: &str) -> Result<(), Failed> {
        let Some(incarnation) = *self.incarnation.lock() else { return Ok(()) };
        let (definition, since, table, files) = {
            let sinks = self.sinks.lock();
            let Some(sink) = sinks.get(view) else { return Ok(()) };
            let files = sink.waiting.iter().take(EPOCHS_AT_ONCE).cloned().collect::<Vec<_>>();
            (sink.view.clone(), sink.since, sink.table.clone(), files)
        };
        let of = definition.clone();
        let told = |error: TableError| (Some(of.clone()), error.to_string(), error.is_retryable());
        let table = match table {
            Some(table) => table,
            None => {
                let id = SinkId::new(format!("rivermere/{incarnation}/{view}")).map_err(told)?;
                let table = (self.open)(definition, id, since).await.map_err(told)?;
                self.with(view, Some(&of), |sink| sink.table = Some(table.clone()));
                table
            }
        };
        let committed = !files.is_empty();
        let confirmed = if files.is_empty() {
            table.committed().await.map_err(told)?.unwrap_or_default()
        } else {
            let mut epochs = vec![];
            for (epoch, path) in files {
                let disk = self.disk.clone();
                let read = tokio::task::spawn_blocking(move || read_staged(disk.as_ref(), &path)).await;
                let changes = read
                    .map_err(|error| (Some(of.clone()), error.to_string(), true))?
                    .map_err(|error| (Some(of.clone()), error.to_string(), false))?;
                epochs.push(StagedEpoch { epoch, changes });
            }
            table.commit(epochs).await.map_err(told)?.epoch
        };
        self.with(view, Some(&of), |sink| {
            sink.confirmed = Some(sink.confirmed.map_or(confirmed, |before| before.max(confirmed)));
            sink.waiting.retain(|(epoch, _)| *epoch > confirmed);
            sink.error = None;
        });
        // Whoever flushes waits for rows, not for upkeep.
        if committed && !*self.flush.lock() {
            match table.maintain(&(self.needed)(&of)).await {
                Ok(Upkeep { files_compacted: 0, files_removed: 0 }) => {}
                Ok(done) => tracing::info!(view, done.files_compacted, done.files_removed, "upkeep of the table"),
                Err(error) => tracing::warn!(view, %error, "the upkeep of the table is put off"),
            }
        }
        Ok(())
    }
}

/// The view whose table it is, if that is known; the error; whether trying again may help.
type Failed = (Option<Arc<ViewDefinition>>, String, bool);

/// Pause after a failed commit.
const RETRY_AFTER: Duration = Duration::from_secs(2);
