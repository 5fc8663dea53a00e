//! What the public handle, the writer thread and the flusher thread share.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rivermere_base::{Clock, Disk};
use tokio::sync::watch;

use crate::metrics::Counters;
use crate::segments::FlushQueue;
use crate::state::State;
use crate::wal::{SubmissionQueue, WalFiles};
use crate::{LogError, LogOptions};

#[derive(Debug)]
pub(crate) struct Shared {
    pub options: LogOptions,
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
    pub topics_dir: PathBuf,
    pub meta_dir: PathBuf,
    pub wal: WalFiles,
    pub state: RwLock<State>,
    pub queue: SubmissionQueue,
    pub flush_queue: FlushQueue,
    pub counters: Counters,
    /// Bumped after every published frame.
    pub published: watch::Sender<u64>,
    poison: Mutex<Option<LogError>>,
}

impl Shared {
    pub fn new(
        options: LogOptions,
        (clock, disk): (Arc<dyn Clock>, Arc<dyn Disk>),
        dir: &std::path::Path,
        state: State,
        wal: WalFiles,
    ) -> Self {
        Self {
            options,
            clock,
            disk,
            topics_dir: dir.join("topics"),
            meta_dir: dir.join("meta"),
            wal,
            state: RwLock::new(state),
            queue: SubmissionQueue::default(),
            flush_queue: FlushQueue::default(),
            counters: Counters::default(),
            published: watch::Sender::new(0),
            poison: Mutex::new(None),
        }
    }

    /// Stops all further writes.
    pub fn poison(&self, cause: &LogError) {
        tracing::error!(%cause, "the log stops accepting writes");
        self.poison.lock().get_or_insert_with(|| LogError::Poisoned { cause: cause.to_string() });
    }

    /// Why writes are refused, if they are.
    pub fn poisoned(&self) -> Option<LogError> {
        self.poison.lock().clone()
    }
}
