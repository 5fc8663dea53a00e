//! A table of the lake as a source: whatever its writers commit, as changes, commit by commit.
//!
//! A task beside the engine asks the table for its newest version and reads what came and went since; the engine's thread
//! takes what is ready and waits for nothing. A commit is never split over two steps, and several that are found together
//! are one change, in which what cancels is gone.

use crate::error::{Result, StreamError};
use crate::state::{RowCodec, netted};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rivermere_base::Changes;
use rivermere_sql::{ExternalTable, LATENESS_COLUMN};
use rivermere_table::{Table, TableError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// How a table of the lake is opened.
pub type OpenTable = dyn Fn(Arc<ExternalTable>) -> BoxFuture<'static, Result<Arc<dyn Table>, TableError>> + Send + Sync;

/// Time between two looks at a table that has nothing new.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two looks at a table that cannot be read.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Batches that a first load is ahead of the engine.
const BATCHES_AHEAD: usize = 4;
/// Rows of several commits that are taken together; with more, they are taken in smaller parts. One commit is one change,
/// however large.
const ROWS_AT_ONCE: usize = 1 << 20;

/// What is told of a task that is no more.
const ENDED: &str =
    "RM-4012: a table of the lake is followed no more, since reading it ended early: start again, and tell us";

/// Where tables are read, and how.
#[derive(Clone)]
pub struct Lakes {
    runtime: Handle,
    open: Arc<OpenTable>,
    /// A statement of ours has committed: no need to wait for the next look.
    committed: Arc<watch::Sender<()>>,
    held: Arc<Mutex<Held>>,
}

/// Versions whose files must stay, each with the place of its table.
#[derive(Default)]
struct Held {
    /// Of the manifests that a start may go on from.
    sealed: Vec<(String, i64)>,
    /// Of what is read now.
    read: BTreeMap<u64, (String, i64)>,
    reads: u64,
}

/// A version that is being read, or read on from, for as long as this lives.
struct Hold {
    held: Arc<Mutex<Held>>,
    read: u64,
}

impl Hold {
    fn move_to(&self, version: i64) {
        if let Some((_, held)) = self.held.lock().read.get_mut(&self.read) {
            *held = version;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().read.remove(&self.read);
    }
}

impl Lakes {
    /// Tables are read on `runtime`.
    pub fn new(runtime: Handle, open: Arc<OpenTable>) -> Self {
        Self { runtime, open, committed: Arc::new(watch::Sender::new(())), held: Arc::default() }
    }

    /// The versions of the tables at some places whose files views read, or will read on from after a start.
    pub fn needed(&self, is_there: impl Fn(&str) -> bool) -> Vec<i64> {
        let held = self.held.lock();
        let all = held.sealed.iter().chain(held.read.values());
        let versions: BTreeSet<i64> = all.filter(|(place, _)| is_there(place)).map(|(_, version)| *version).collect();
        versions.into_iter().collect()
    }

    /// Replaces what manifests name by what they name now.
    pub(crate) fn seal(&self, positions: Vec<(String, i64)>) {
        self.held.lock().sealed = positions;
    }

    fn hold(&self, table: &ExternalTable, version: i64) -> Hold {
        let mut held = self.held.lock();
        held.reads += 1;
        let read = held.reads;
        held.read.insert(read, (table.place.location.clone(), version));
        Hold { held: self.held.clone(), read }
    }

    /// Has all tables looked at now.
    pub fn look(&self) {
        self.committed.send_replace(());
    }
}

/// How far a table has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakePosition {
    /// All rows of this version, and no others, have been taken.
    pub version: i64,
    /// Of the table: another one may be made at its place.
    pub id: String,
}

/// What became of a table since the last position.
pub(crate) struct Commit {
    position: LakePosition,
    /// Consolidated; may be empty.
    pub(crate) changes: Changes,
}

/// What the task has seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    newest: i64,
    trouble: Option<String>,
}

/// Follows one table from a position.
pub struct LakeReader {
    position: LakePosition,
    commits: mpsc::Receiver<Commit>,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
    /// Rows read so far.
    pub(crate) rows: u64,
}

impl Drop for LakeReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LakeReader {
    /// Follows `table` from `position`, with the columns of `schema`, which has a lateness that is always on time.
    pub(crate) fn follow(
        lakes: &Lakes,
        table: Arc<ExternalTable>,
        schema: SchemaRef,
        position: LakePosition,
        rows: u64,
    ) -> Result<Self> {
        let (sender, commits) = mpsc::channel(1);
        let seen = Arc::new(Mutex::new(Seen { newest: position.version, trouble: None }));
        let follower = Follower {
            shape: Shape::new(schema)?,
            hold: lakes.hold(&table, position.version),
            table,
            position: position.clone(),
            opened: None,
            seen: seen.clone(),
        };
        let task = lakes.runtime.spawn(follower.run(lakes.clone(), sender));
        Ok(Self { position, commits, seen, task, rows })
    }

    /// All rows of a version, the newest without one, batch by batch. Blocks the calling thread, which must not belong to
    /// the runtime.
    pub(crate) fn load(
        lakes: &Lakes,
        table: &Arc<ExternalTable>,
        schema: SchemaRef,
        at: Option<LakePosition>,
        mut each: impl FnMut(Changes) -> Result<()>,
    ) -> Result<LakePosition> {
        let shape = Shape::new(schema)?;
        let failed = |error: TableError| StreamError::lake(table, &error);
        let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let (position_sender, mut position) = mpsc::channel(1);
        let (reading, source, wanted) = (lakes.clone(), table.clone(), shape.table.clone());
        let task = lakes.runtime.spawn(async move {
            let table = (reading.open)(source.clone()).await?;
            let position = match at {
                Some(at) => {
                    same_table(table.as_ref(), &at).await?;
                    at
                }
                None => position_of(table.as_ref(), table.version().await?).await?,
            };
            let _held = reading.hold(&source, position.version);
            let mut rows = table.changes(None, position.version, &wanted).await?;
            let _ = position_sender.send(position).await;
            while let Some(batch) = rows.next().await {
                if sender.send(batch?).await.is_err() {
                    break;
                }
            }
            Ok::<_, TableError>(())
        });
        while let Some(batch) = batches.blocking_recv() {
            if let Err(error) = shape.with_lateness(batch).and_then(&mut each) {
                task.abort();
                return Err(error);
            }
        }
        match lakes.runtime.block_on(task) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error)),
            Err(error) => return Err(StreamError::Stopped(format!("reading '{}' ended early: {error}", table.name))),
        }
        position.blocking_recv().ok_or_else(|| StreamError::Stopped(format!("'{}' has no version", table.name)))
    }

    pub fn position(&self) -> &LakePosition {
        &self.position
    }

    /// Versions that are not taken yet, as far as is known; at least one while the table cannot be read.
    pub fn lag(&self) -> i64 {
        let newest = self.seen.lock().newest;
        (newest - self.position.version).max(i64::from(self.trouble().is_some()))
    }

    /// Why the table cannot be read, while that lasts.
    pub fn trouble(&self) -> Option<String> {
        let ended = || self.task.is_finished().then(|| ENDED.to_owned());
        self.seen.lock().trouble.clone().or_else(ended)
    }

    /// The next change, if one is ready.
    pub(crate) fn take(&mut self) -> Option<Changes> {
        let commit = self.commits.try_recv().ok()?;
        self.position = commit.position;
        self.rows += commit.changes.num_rows() as u64;
        Some(commit.changes)
    }
}

async fn position_of(table: &dyn Table, version: i64) -> Result<LakePosition, TableError> {
    Ok(LakePosition { version, id: table.id(version).await? })
}

async fn same_table(table: &dyn Table, at: &LakePosition) -> Result<(), TableError> {
    let found = table.id(at.version).await?;
    if found == at.id {
        return Ok(());
    }
    Err(TableError::InvalidSpec {
        reason: "another table is at its place now: drop the views over it and make them again".into(),
    })
}

/// The columns that the table gives, and those that the dataflow takes: they have a lateness more.
struct Shape {
    table: SchemaRef,
    rows: SchemaRef,
}

impl Shape {
    fn new(rows: SchemaRef) -> Result<Self> {
        let fields = rows.fields().iter().filter(|field| field.name() != LATENESS_COLUMN).cloned();
        let table = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // A type that cannot be compared is told before anything is read.
        RowCodec::of_schema(&table)?;
        Ok(Self { table, rows })
    }

    fn with_lateness(&self, changes: Changes) -> Result<Changes> {
        let (batch, weights) = changes.into_parts();
        let on_time: ArrayRef = Arc::new(Int64Array::from_value(i64::MIN, batch.num_rows()));
        let mut given = batch.columns().iter();
        let columns = self.rows.fields().iter().map(|field| match field.name().as_str() {
            LATENESS_COLUMN => Some(on_time.clone()),
            _ => given.next().cloned(),
        });
        let columns = columns.collect::<Option<Vec<_>>>().unwrap_or_default();
        Ok(Changes::new(RecordBatch::try_new(self.rows.clone(), columns)?, weights)?)
    }
}

/// The task that looks at one table.
struct Follower {
    table: Arc<ExternalTable>,
    shape: Shape,
    hold: Hold,
    position: LakePosition,
    opened: Option<Arc<dyn Table>>,
    seen: Arc<Mutex<Seen>>,
}

impl Follower {
    async fn run(mut self, lakes: Lakes, commits: mpsc::Sender<Commit>) {
        let mut committed = lakes.committed.subscribe();
        let mut pause = LOOK_INTERVAL;
        loop {
            match self.next(&lakes).await {
                Ok(Some(commit)) => {
                    self.position = commit.position.clone();
                    self.hold.move_to(self.position.version);
                    pause = LOOK_INTERVAL;
                    if commits.send(commit).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => pause = LOOK_INTERVAL,
                Err(error) => {
                    self.tell(&error);
                    self.opened = None;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = committed.changed() => if changed.is_err() { return },
            }
        }
    }

    fn tell(&self, error: &StreamError) {
        let mut seen = self.seen.lock();
        let message = error.to_string();
        if seen.trouble.as_ref() != Some(&message) {
            tracing::warn!(table = self.table.name, error = message, "a table of the lake cannot be followed now");
            seen.trouble = Some(message);
        }
    }

    /// The table as it is now, after a look at whether it is still the same.
    async fn open(&mut self, lakes: &Lakes) -> Result<Arc<dyn Table>> {
        let failed = |error: TableError| StreamError::lake(&self.table, &error);
        let table = (lakes.open)(self.table.clone()).await.map_err(failed)?;
        same_table(table.as_ref(), &self.position).await.map_err(failed)?;
        self.opened = Some(table.clone());
        Ok(table)
    }

    /// What came and went since the position, if anything.
    async fn next(&mut self, lakes: &Lakes) -> Result<Option<Commit>> {
        let source = self.table.clone();
        let failed = |error: TableError| StreamError::lake(&source, &error);
        let (table, opened_now) = match &self.opened {
            Some(table) => (table.clone(), false),
            None => (self.open(lakes).await?, true),
        };
        let from = self.position.version;
        let mut to = table.version().await.map_err(failed)?;
        let table = match to > from && !opened_now {
            // What is read on from a log that was read before may be that of another table at the place.
            true => {
                let table = self.open(lakes).await?;
                to = table.version().await.map_err(failed)?;
                table
            }
            false => table,
        };
        let newest = to;
        self.seen.lock().newest = newest;
        if to < from && !table.turns_back() {
            let gone =
                TableError::MissingVersion { location: self.table.place.location.clone(), version: from, newest: to };
            return Err(failed(gone));
        }
        if to == from {
            self.seen.lock().trouble = None;
            return Ok(None);
        }
        let mut most = ROWS_AT_ONCE;
        let changes = loop {
            match self.changes(table.as_ref(), to, most).await {
                Ok(Some(changes)) => break changes,
                Ok(None) => to = from + (to - from) / 2,
                // A version between may lack files that were cleaned up, or a column: at once, then, however much it is.
                Err(_) if to < newest => (to, most) = (newest, usize::MAX),
                Err(error) => return Err(error),
            }
        };
        self.seen.lock().trouble = None;
        let position = position_of(table.as_ref(), to).await.map_err(failed)?;
        Ok(Some(Commit { position, changes }))
    }

    /// The change up to version `to`, or nothing when it has more rows than `most` and consists of several commits.
    async fn changes(&self, table: &dyn Table, to: i64, most: usize) -> Result<Option<Changes>> {
        let failed = |error: TableError| StreamError::lake(&self.table, &error);
        let from = self.position.version;
        let mut rows = table.changes(Some(from), to, &self.shape.table).await.map_err(failed)?;
        let (mut parts, mut count) = (vec![], 0);
        while let Some(part) = rows.next().await {
            let part = part.map_err(failed)?;
            count += part.num_rows();
            if count > most && to > from + 1 {
                return Ok(None);
            }
            parts.push(part);
        }
        Ok(Some(self.shape.with_lateness(netted(&self.shape.table, &parts)?)?))
    }
}
