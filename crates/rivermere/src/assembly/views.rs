//! What is served of each view: its rows after the last step, and its changes since.

use parking_lot::{Mutex, RwLock};
use rivermere_serve::{ChangeFeed, ChangeId, FeedStart, ViewChange};
use rivermere_sql::ViewDefinition;
use rivermere_stream::Snapshot;
use rivermere_stream::runtime::{StepListener, StepReport};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Bytes of changes that are kept of each view for readers that come back. A small change takes some kilobytes.
const KEPT_BYTES: usize = 1 << 20;
/// Steps that a reader may be behind before it has to start over.
const FEED_STEPS: usize = 1_024;

/// All views, by name.
#[derive(Default)]
pub(super) struct Views {
    cells: RwLock<BTreeMap<String, Arc<Cell>>>,
}

pub(super) struct Cell {
    pub(super) view: Arc<ViewDefinition>,
    state: Mutex<CellState>,
    sender: broadcast::Sender<Arc<ViewChange>>,
}

struct CellState {
    snapshot: Snapshot,
    id: ChangeId,
    /// Changes after `kept_after`, oldest first.
    kept: VecDeque<Arc<ViewChange>>,
    kept_bytes: usize,
    kept_after: ChangeId,
    changed_rows: u64,
}

impl Views {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Cell>> {
        self.cells.read().get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Cell>> {
        self.cells.read().values().cloned().collect()
    }

    pub(super) fn remove(&self, name: &str) {
        self.cells.write().remove(name);
    }
}

impl Cell {
    pub(super) fn snapshot(&self) -> (Snapshot, ChangeId) {
        let state = self.state.lock();
        (state.snapshot.clone(), state.id)
    }

    /// Rows that changes have touched so far.
    pub(super) fn changed_rows(&self) -> u64 {
        self.state.lock().changed_rows
    }

    /// Subscribes under the same lock that steps are told under, so nothing is missed and nothing comes twice.
    pub(super) fn changes(&self, after: Option<ChangeId>) -> ChangeFeed {
        let state = self.state.lock();
        let rx = self.sender.subscribe();
        let resumable = after.filter(|after| {
            after.generation == state.id.generation && *after >= state.kept_after && *after <= state.id
        });
        let start = match resumable {
            Some(after) => FeedStart::Resumed(state.kept.iter().filter(|change| change.id > after).cloned().collect()),
            None => FeedStart::Reset(served(&state.snapshot, state.id)),
        };
        ChangeFeed { start, rx }
    }
}

/// The snapshot as the serving room knows it.
pub(super) fn served(snapshot: &Snapshot, id: ChangeId) -> rivermere_serve::Snapshot {
    let batches = snapshot.batches().unwrap_or_else(|error| {
        tracing::error!(%error, "a snapshot cannot be read");
        vec![]
    });
    rivermere_serve::Snapshot { schema: snapshot.schema(), batches, id }
}

/// Tells steps to the cells, on the engine's thread.
pub(super) struct Publisher(pub(super) Arc<Views>);

fn id_of(report: &StepReport) -> ChangeId {
    ChangeId { generation: report.generation, epoch: report.epoch.0, step: report.step.0 }
}

impl StepListener for Publisher {
    fn added(&mut self, view: &Arc<ViewDefinition>, snapshot: Snapshot, report: &StepReport) {
        let id = id_of(report);
        let state = CellState { snapshot, id, kept: VecDeque::new(), kept_bytes: 0, kept_after: id, changed_rows: 0 };
        let (sender, _) = broadcast::channel(FEED_STEPS);
        let cell = Cell { view: view.clone(), state: Mutex::new(state), sender };
        self.0.cells.write().insert(view.name.clone(), Arc::new(cell));
    }

    fn stepped(&mut self, report: StepReport) {
        let id = id_of(&report);
        for (name, changes, snapshot) in report.views {
            let Some(cell) = self.0.get(&name) else { continue };
            let rows = changes.num_rows();
            let bytes = changes.batch().get_array_memory_size();
            let change = Arc::new(ViewChange { id, at_ms: report.at_ms, changes });
            let mut state = cell.state.lock();
            state.snapshot = snapshot;
            state.id = id;
            state.changed_rows += rows as u64;
            if bytes > KEPT_BYTES {
                state.kept.clear();
                state.kept_bytes = 0;
                state.kept_after = id;
            } else {
                state.kept.push_back(change.clone());
                state.kept_bytes += bytes;
                while state.kept_bytes > KEPT_BYTES {
                    let Some(oldest) = state.kept.pop_front() else { break };
                    state.kept_bytes -= oldest.changes.batch().get_array_memory_size();
                    state.kept_after = oldest.id;
                }
            }
            // No receiver is no failure.
            let _ = cell.sender.send(change);
        }
    }
}
