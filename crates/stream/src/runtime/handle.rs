//! The engine's thread as others see it.

use super::engine::{Engine, EngineConfig};
use crate::arrangement::Snapshot;
use crate::error::{Result, StreamError};
use parking_lot::Mutex;
use rivermere_base::{Changes, Epoch, Step};
use rivermere_sql::{ExternalTable, TableDefinition, ViewDefinition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// What one step did, told on the engine's thread before the next one begins.
pub struct StepReport {
    pub generation: u64,
    /// The epoch that the step will be sealed in.
    pub epoch: Epoch,
    pub step: Step,
    /// Wall clock at its end, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Each view that changed: its change and its rows afterwards.
    pub views: Vec<(String, Changes, Snapshot)>,
}

/// Where steps are told. Called on the engine's thread: quick, and without waiting.
pub trait StepListener: Send {
    /// A view is there, with its rows so far.
    fn added(&mut self, view: &Arc<ViewDefinition>, snapshot: Snapshot, report: &StepReport);
    fn stepped(&mut self, report: StepReport);
}

/// A table or view as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectStatus {
    /// Rows held (views) or read so far (tables).
    pub rows: u64,
    /// Records that wait in the topic; versions that wait in a table of the lake.
    pub lag: i64,
    pub late: u64,
    pub dead: u64,
    pub state_entries: u64,
    pub state_bytes: u64,
    pub watermark_us: Option<i64>,
    /// Why a table of the lake cannot be followed, while that lasts.
    pub trouble: Option<String>,
}

/// The engine as it stands; refreshed a few times a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    pub generation: u64,
    /// The newest sealed epoch.
    pub epoch: u64,
    pub step: u64,
    /// What waits in all topics and tables.
    pub lag: i64,
    /// Records read since the start.
    pub records: u64,
    pub objects: BTreeMap<String, ObjectStatus>,
    /// View -> (newest staged epoch, newest confirmed one).
    pub sinks: BTreeMap<String, (u64, u64)>,
    /// Why the engine stopped, if it did.
    pub failed: Option<String>,
}

/// Tables and views to add to the running engine, in dependency order.
#[derive(Default)]
pub struct NewObjects {
    /// Followed as long as a view reads them.
    pub externals: Vec<Arc<ExternalTable>>,
    pub tables: Vec<Arc<TableDefinition>>,
    pub views: Vec<Arc<ViewDefinition>>,
    pub ad_hoc: bool,
}

pub(super) enum Command {
    Add(NewObjects, oneshot::Sender<Result<()>>),
    Remove(String, oneshot::Sender<Result<()>>),
    /// Seal an epoch now.
    Seal(oneshot::Sender<Result<Epoch>>),
    Stop(oneshot::Sender<Result<Epoch>>),
}

/// Starts and steers the engine's thread.
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<EngineStatus>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Commands that wait for the engine; who sends more waits too. Those that wait when it ends are dropped, and so answered.
const COMMANDS_LIMIT: usize = 64;

/// Restores the newest epoch and starts the engine's thread.
///
/// # Errors
/// When state cannot be restored: see [`StreamError`].
pub fn start(config: EngineConfig, listener: Box<dyn StepListener>) -> Result<EngineHandle> {
    let status = Arc::new(Mutex::new(EngineStatus::default()));
    let (commands, mut receiver) = mpsc::channel(COMMANDS_LIMIT);
    let mut engine = Engine::open(config, listener, status.clone())?;
    let shared = status.clone();
    let thread = std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            if let Err(error) = engine.run(&mut receiver) {
                tracing::error!(%error, "the engine has stopped");
                shared.lock().failed = Some(error.to_string());
            }
        })
        .map_err(|error| StreamError::Stopped(format!("its thread cannot be started: {error}")))?;
    Ok(EngineHandle { commands, status, thread: Mutex::new(Some(thread)) })
}

impl EngineHandle {
    pub fn status(&self) -> EngineStatus {
        self.status.lock().clone()
    }

    /// Adds tables and views; returns when the views hold everything that the others have seen.
    ///
    /// # Errors
    /// When an operator cannot be made or the engine has stopped.
    pub async fn add(&self, objects: NewObjects) -> Result<()> {
        self.ask(|reply| Command::Add(objects, reply)).await
    }

    /// Takes a view or table out; its topic and its lake table stay.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn remove(&self, name: String) -> Result<()> {
        self.ask(|reply| Command::Remove(name, reply)).await
    }

    /// Seals what has been read so far.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn seal(&self) -> Result<Epoch> {
        self.ask(Command::Seal).await
    }

    /// Seals a last epoch and ends the thread.
    ///
    /// # Errors
    /// When the epoch cannot be sealed.
    pub async fn stop(&self) -> Result<Epoch> {
        let result = self.ask(Command::Stop).await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        result
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let stopped =
            || StreamError::Stopped(self.status.lock().failed.clone().unwrap_or_else(|| "it was asked to".into()));
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
