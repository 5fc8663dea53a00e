//! The thread that writes published batches into segments, makes checkpoints and gives up write-ahead files.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rivermere_base::CrashPoint;

use super::segment::{Limits, Run};
use crate::LogError;
use crate::metrics::Counters;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::topics::{Partition, TailBatch, Topic};

/// What a batch in the tail costs beside its bytes.
const TAIL_OVERHEAD_BYTES: usize = 160;
/// Runs of batches up to this are copied together into one write.
const MERGED_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(crate) enum FlushItem {
    Batch {
        partition: Arc<Partition>,
        batch: TailBatch,
    },
    /// Records below this offset are gone.
    StartMoved {
        partition: Arc<Partition>,
        start: i64,
    },
    TopicDeleted {
        topic: Arc<Topic>,
    },
    /// Everything before this item is in the snapshot.
    Checkpoint(Box<Snapshot>),
    PrepareWalFile,
    Stop,
}

impl FlushItem {
    fn weight(&self) -> usize {
        match self {
            FlushItem::Batch { batch, .. } => batch.bytes.len(),
            _ => 0,
        }
    }
}

/// Items on their way to the flusher; bounded by their bytes.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    inner: Mutex<Inner>,
    pushed: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<FlushItem>,
    bytes: usize,
    /// The flusher has gone.
    dead: bool,
}

impl FlushQueue {
    /// Adds items, waiting while more than `limit` bytes are queued. Items for a dead flusher are dropped: the log is
    /// poisoned then, and the write-ahead log has them.
    pub fn push(&self, items: impl Iterator<Item = FlushItem>, limit: usize) {
        let mut inner = self.inner.lock();
        while inner.bytes > limit && !inner.dead {
            self.taken.wait(&mut inner);
        }
        if inner.dead {
            return;
        }
        for item in items {
            inner.bytes += item.weight();
            inner.items.push_back(item);
        }
        self.pushed.notify_one();
    }

    fn take(&self, into: &mut Vec<FlushItem>) {
        let mut inner = self.inner.lock();
        while inner.items.is_empty() {
            self.pushed.wait(&mut inner);
        }
        into.extend(inner.items.drain(..));
        inner.bytes = 0;
        self.taken.notify_all();
    }

    fn die(&self) {
        let mut inner = self.inner.lock();
        inner.dead = true;
        inner.items.clear();
        self.taken.notify_all();
    }
}

#[derive(Debug)]
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    /// What the tails hold of flushed batches, oldest first.
    cached: VecDeque<(Arc<Partition>, usize)>,
    cached_bytes: usize,
    /// Files and folders that the next snapshot no longer mentions.
    doomed: Vec<PathBuf>,
}

impl Flusher {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cached: VecDeque::new(), cached_bytes: 0, doomed: Vec::new() }
    }

    /// A file or folder that recovery found to be unwanted.
    pub fn doom(&mut self, path: PathBuf) {
        self.doomed.push(path);
    }

    /// Runs until the stop item or the first error, which poisons the log.
    pub fn run(mut self) {
        let mut items = Vec::new();
        loop {
            items.clear();
            self.shared.flush_queue.take(&mut items);
            match self.handle(&mut items) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.shared.poison(&error);
                    break;
                }
            }
        }
        self.shared.flush_queue.die();
    }

    /// Handles items in order; `false` after the stop item.
    pub fn handle(&mut self, items: &mut Vec<FlushItem>) -> Result<bool, LogError> {
        let mut batches = Vec::new();
        for item in items.drain(..) {
            if let FlushItem::Batch { partition, batch } = item {
                batches.push((partition, batch));
                continue;
            }
            self.write(&mut batches)?;
            match item {
                FlushItem::Batch { .. } => {}
                FlushItem::StartMoved { partition, start } => self.doomed.extend(partition.segments.drop_below(start)),
                FlushItem::TopicDeleted { topic } => {
                    self.doomed.push(self.shared.topics_dir.join(topic.id.to_string()))
                }
                FlushItem::Checkpoint(snapshot) => self.checkpoint(*snapshot)?,
                FlushItem::PrepareWalFile => self.shared.wal.prepare_spare(&*self.shared.disk)?,
                FlushItem::Stop => return Ok(false),
            }
        }
        self.write(&mut batches)?;
        Ok(true)
    }

    fn write(&mut self, batches: &mut Vec<(Arc<Partition>, TailBatch)>) -> Result<(), LogError> {
        let mut by_partition: HashMap<*const Partition, Vec<usize>> = HashMap::new();
        for (at, (partition, _)) in batches.iter().enumerate() {
            by_partition.entry(Arc::as_ptr(partition)).or_default().push(at);
        }
        for places in by_partition.values() {
            let run: Vec<&(Arc<Partition>, TailBatch)> = places.iter().filter_map(|at| batches.get(*at)).collect();
            self.write_run(&run)?;
        }
        for (partition, batch) in batches.drain(..) {
            let bytes = batch.bytes.len() + TAIL_OVERHEAD_BYTES;
            self.cached_bytes += bytes;
            self.cached.push_back((partition, bytes));
        }
        while self.cached_bytes > self.shared.options.tail_cache_bytes
            && let Some((partition, bytes)) = self.cached.pop_front()
        {
            partition.published.lock().tail.pop_front();
            self.cached_bytes -= bytes;
        }
        Ok(())
    }

    /// Writes batches of one partition, small neighbours in one write.
    fn write_run(&self, mut run: &[&(Arc<Partition>, TailBatch)]) -> Result<(), LogError> {
        let options = &self.shared.options;
        let limits =
            Limits { segment_bytes: options.segment_bytes, index_interval_bytes: options.index_interval_bytes };
        let merged = MERGED_BYTES.min(options.index_interval_bytes as usize);
        let mut joined = Vec::new();
        while let Some((partition, first)) = run.first() {
            let mut total = 0;
            let fits = |(_, batch): &&&(Arc<Partition>, TailBatch)| {
                total += batch.bytes.len();
                total <= merged
            };
            let count = run.iter().take_while(fits).count().max(1);
            let (now, later) = run.split_at(count);
            run = later;
            let last = now.last().map_or(first, |(_, batch)| batch);
            joined.clear();
            if count > 1 {
                now.iter().for_each(|(_, batch)| joined.extend_from_slice(&batch.bytes));
            }
            let write = Run {
                base_offset: first.base_offset,
                last_offset: last.last_offset,
                max_timestamp_ms: now.iter().map(|(_, batch)| batch.max_timestamp_ms).max().unwrap_or(-1),
                bytes: if count > 1 { &joined } else { &first.bytes },
            };
            if partition.topic().is_some_and(|topic| !topic.is_deleted()) {
                partition.segments.append(&*self.shared.disk, &write, limits)?;
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, mut snapshot: Snapshot) -> Result<(), LogError> {
        let disk = &*self.shared.disk;
        for (topic, partition, saved) in snapshot.partitions_mut() {
            let found = self.shared.state.read().topic_by_id(topic).and_then(|topic| topic.partition(partition));
            // A topic that was deleted meanwhile is still in this snapshot, and goes with the write-ahead log's replay.
            if let Some(partition) = found {
                saved.segments = partition.segments.sync(disk)?;
            }
        }
        snapshot.write(disk, &self.shared.meta_dir)?;
        self.shared.wal.recycle_below(disk, snapshot.wal_sequence)?;
        disk.crash_point(CrashPoint::AfterWalRecycle);
        for path in self.doomed.drain(..) {
            let removed = match path.extension() {
                Some(_) => disk.remove_file(&path),
                None => disk.remove_dir_all(&path),
            };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LogError::io("remove", path, error));
                }
                _ => {}
            }
        }
        Counters::add(&self.shared.counters.checkpoints, 1);
        Ok(())
    }
}
