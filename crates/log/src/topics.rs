//! Topics and partitions in memory.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rivermere_base::{Offset, TopicName};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::options::{OffsetRange, TopicInfo};
use crate::producers::Producers;
use crate::segments::Segments;

/// Waiters of a partition above this are checked for dead ones.
const WAITERS_BEFORE_PRUNING: usize = 64;

#[derive(Debug)]
pub(crate) struct Topic {
    pub id: Uuid,
    pub name: TopicName,
    settings: RwLock<Settings>,
    partitions: RwLock<Vec<Arc<Partition>>>,
    deleted: AtomicBool,
}

#[derive(Debug)]
struct Settings {
    configs: Arc<BTreeMap<String, String>>,
    append_time: bool,
}

impl Settings {
    fn new(configs: BTreeMap<String, String>) -> Self {
        let append_time = configs.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");
        Self { configs: Arc::new(configs), append_time }
    }
}

impl Topic {
    pub fn new(id: Uuid, name: TopicName, configs: BTreeMap<String, String>) -> Self {
        let settings = RwLock::new(Settings::new(configs));
        Self { id, name, settings, partitions: RwLock::default(), deleted: AtomicBool::new(false) }
    }

    pub fn info(&self) -> TopicInfo {
        TopicInfo {
            id: self.id,
            name: self.name.clone(),
            partitions: self.partitions.read().len() as i32,
            configs: (*self.configs()).clone(),
        }
    }

    pub fn configs(&self) -> Arc<BTreeMap<String, String>> {
        self.settings.read().configs.clone()
    }

    pub fn set_configs(&self, configs: BTreeMap<String, String>) {
        *self.settings.write() = Settings::new(configs);
    }

    /// Whether records get the time of their append instead of their producer's.
    pub fn append_time(&self) -> bool {
        self.settings.read().append_time
    }

    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    /// Adds empty partitions until there are `count`.
    pub fn grow(self: &Arc<Self>, count: i32, topics_dir: &Path) {
        let mut partitions = self.partitions.write();
        for index in partitions.len() as i32..count {
            let segments = Segments::empty(&partition_dir(topics_dir, self.id, index));
            partitions.push(Arc::new(Partition::new(Arc::downgrade(self), index, segments)));
        }
    }

    pub fn push(&self, partition: Partition) {
        self.partitions.write().push(Arc::new(partition));
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        for partition in self.partitions() {
            partition.published.lock().wake();
        }
    }
}

/// Where the files of a partition are.
pub(crate) fn partition_dir(topics_dir: &Path, topic: Uuid, partition: i32) -> std::path::PathBuf {
    topics_dir.join(topic.to_string()).join(partition.to_string())
}

#[derive(Debug)]
pub(crate) struct Partition {
    topic: Weak<Topic>,
    pub index: i32,
    /// Touched by the writer thread; ahead of `published` while a frame is being written.
    pub written: Mutex<Written>,
    pub published: Mutex<Published>,
    pub segments: Segments,
}

/// What the writer knows.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub next_offset: i64,
    pub producers: Producers,
    /// The first offset of each leader epoch that wrote something, ascending.
    pub epochs: Vec<(i32, i64)>,
}

/// What readers may see: all of it is durable.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub start: i64,
    pub high_watermark: i64,
    /// The newest batches, ending at the high watermark; at least those that are not in a segment yet.
    pub tail: VecDeque<TailBatch>,
    pub waiters: Vec<Weak<Notify>>,
}

#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp_ms: i64,
    pub bytes: Bytes,
}

impl Partition {
    pub fn new(topic: Weak<Topic>, index: i32, segments: Segments) -> Self {
        Self { topic, index, written: Mutex::default(), published: Mutex::default(), segments }
    }

    /// The topic, unless it was deleted and forgotten.
    pub fn topic(&self) -> Option<Arc<Topic>> {
        self.topic.upgrade()
    }

    pub fn range(&self) -> OffsetRange {
        let published = self.published.lock();
        OffsetRange { start: Offset(published.start), high_watermark: Offset(published.high_watermark) }
    }
}

impl Published {
    /// Makes a durable batch readable.
    pub fn publish(&mut self, batch: TailBatch) {
        self.high_watermark = batch.last_offset + 1;
        self.tail.push_back(batch);
        self.wake();
    }

    /// Wakes everyone who waits for this partition.
    pub fn wake(&mut self) {
        for waiter in self.waiters.drain(..) {
            if let Some(waiter) = waiter.upgrade() {
                waiter.notify_one();
            }
        }
    }

    /// Notifies `waiter` once, at the next publish.
    pub fn wait(&mut self, waiter: &Arc<Notify>) {
        let this = Arc::downgrade(waiter);
        if self.waiters.iter().any(|known| known.ptr_eq(&this)) {
            return;
        }
        if self.waiters.len() >= WAITERS_BEFORE_PRUNING {
            self.waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        self.waiters.push(this);
    }

    /// Batches from memory, whole ones, at least one; `None` when `from` is older than the tail.
    pub fn read_tail(&self, from: i64, max_bytes: usize) -> Option<Vec<Bytes>> {
        if self.tail.front().is_none_or(|first| first.base_offset > from) {
            return None;
        }
        let at = self.tail.partition_point(|batch| batch.last_offset < from);
        let mut total = 0;
        let fits = |batch: &&TailBatch| {
            let first = total == 0;
            total += batch.bytes.len();
            first || total <= max_bytes
        };
        Some(self.tail.iter().skip(at).take_while(fits).map(|batch| batch.bytes.clone()).collect())
    }
}
