//! The handle of the log.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rivermere_base::{Doors, Offset, PartitionId, Rng, TopicName};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::changes::Change;
use crate::metrics::Counters;
use crate::options::{LogOptions, OffsetRange, TopicInfo, TopicOptions};
use crate::pending::Pending;
use crate::records::{Batches, Decoder, RecordsError};
use crate::shared::Shared;
use crate::state::State;
use crate::topics::{Partition, Topic};
use crate::wal::{Decide, Part, Submission, Writer};
use crate::{LogError, LogMetrics, recovery};

/// Batches up to this are copied together when a read is answered, larger ones are handed out as they are.
const COALESCED_BYTES: usize = 16 << 10;

/// The durable log of all topics in one folder. Cheap to clone; the last clone that goes closes the log.
///
/// Every write is durable (fsync) before its future resolves, and is visible to no reader before that.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    rng: Arc<dyn Rng>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where an append landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// When it was appended, in milliseconds since 1970-01-01 UTC.
    pub log_append_time_ms: i64,
}

/// Resolves after the fsync of an append.
pub type AppendFuture = Pending<Appended>;
/// Resolves after the fsync of an atomic append, with one answer for each entry.
pub type AtomicAppendFuture = Pending<Vec<Appended>>;

/// What a read found.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole record batches; the first may start before the offset that was asked for.
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub start: Offset,
}

/// [`Fetched`] in the pieces it is kept in, for a socket.
#[derive(Clone, Debug)]
pub(crate) struct FetchedPieces {
    pub pieces: Vec<Bytes>,
    pub range: OffsetRange,
}

impl Log {
    /// Opens the log in `dir`, recovering what an earlier process left, and starts its two threads.
    ///
    /// # Errors
    /// When files cannot be read, or are damaged in a way that would lose acknowledged records.
    pub fn open(doors: Doors, dir: &Path, options: LogOptions) -> Result<Log, LogError> {
        let (shared, flusher, scan) = recovery::recover(&doors, dir, options)?;
        let writer = Writer::new(shared.clone(), doors.rng.clone(), scan);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(run).map_err(|error| LogError::io("start a thread for", dir, error))
        };
        let threads =
            vec![spawn("log-segments", Box::new(|| flusher.run()))?, spawn("log-writer", Box::new(|| writer.run()))?];
        let log = Log(Arc::new(Inner { shared, rng: doors.rng.clone(), threads: Mutex::new(threads) }));
        let (leader_epoch, log_id) = {
            let state = log.0.shared.state.read();
            let log_id = if state.log_id.is_nil() { doors.rng.uuid() } else { state.log_id };
            (state.leader_epoch + 1, log_id)
        };
        log.change(Change::Started { leader_epoch, log_id }).wait()?;
        Ok(log)
    }

    /// Writes what is queued, makes a checkpoint and stops. Further writes fail with [`LogError::Closed`]; reading still
    /// works. Calling it again does nothing.
    ///
    /// # Errors
    /// When the log was poisoned by an earlier failure.
    pub fn close(&self) -> Result<(), LogError> {
        self.0.close();
        self.0.shared.poisoned().map_or(Ok(()), Err)
    }

    /// Why the log accepts no more writes, once a failed write or fsync has left the state on disk unknown. Reading goes
    /// on; a restart recovers.
    pub fn failure(&self) -> Option<LogError> {
        self.0.shared.poisoned()
    }

    /// Creates a topic; durable when this returns.
    ///
    /// # Errors
    /// [`LogError::AlreadyExists`] when there is one of that name.
    pub fn create_topic(&self, name: &TopicName, options: TopicOptions) -> Result<TopicInfo, LogError> {
        self.create_topic_later(name, options).wait()?;
        self.topic(name).ok_or_else(|| LogError::UnknownTopic { topic: name.to_string() })
    }

    pub(crate) fn create_topic_later(&self, name: &TopicName, options: TopicOptions) -> Pending<()> {
        let limit = self.0.shared.options.max_partitions;
        let (id, name) = (self.0.rng.uuid(), name.clone());
        self.decide(move |state| {
            if state.topics.contains_key(&name) {
                return Err(LogError::AlreadyExists { topic: name });
            }
            if options.partitions < 1 {
                return Err(LogError::invalid(format!("topic '{name}' needs at least one partition")));
            }
            check_partition_count(state, options.partitions, limit)?;
            let (partitions, configs) = (options.partitions, options.configs);
            Ok(Change::TopicCreated { id, name: name.into(), partitions, configs })
        })
    }

    /// What is known about a topic.
    pub fn topic(&self, name: &TopicName) -> Option<TopicInfo> {
        self.0.shared.state.read().topics.get(name).map(|topic| topic.info())
    }

    /// All topics by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.0.shared.state.read().topics.values().map(|topic| topic.info()).collect()
    }

    /// Deletes a topic with its records; durable when this returns.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] when there is none.
    pub fn delete_topic(&self, name: &TopicName) -> Result<(), LogError> {
        self.delete_topic_later(name).wait()
    }

    pub(crate) fn delete_topic_later(&self, name: &TopicName) -> Pending<()> {
        let name = name.clone();
        self.decide(move |state| Ok(Change::TopicDeleted { id: known_topic(state, &name)?.id }))
    }

    /// Gives a topic more partitions, `partitions` in all.
    pub(crate) fn add_partitions(&self, name: &TopicName, partitions: i32) -> Pending<()> {
        let (name, limit) = (name.clone(), self.0.shared.options.max_partitions);
        self.decide(move |state| {
            let topic = known_topic(state, &name)?;
            let have = topic.partitions().len() as i32;
            if partitions <= have {
                return Err(LogError::invalid(format!("topic '{name}' has {have} partitions already")));
            }
            check_partition_count(state, partitions - have, limit)?;
            Ok(Change::PartitionsAdded { id: topic.id, partitions })
        })
    }

    /// Changes the settings of a topic by `edit`.
    pub(crate) fn alter_configs(
        &self,
        name: &TopicName,
        edit: impl FnOnce(&mut std::collections::BTreeMap<String, String>) + Send + 'static,
    ) -> Pending<()> {
        let name = name.clone();
        self.decide(move |state| {
            let topic = known_topic(state, &name)?;
            let mut configs = (*topic.configs()).clone();
            edit(&mut configs);
            Ok(Change::ConfigsReplaced { id: topic.id, configs })
        })
    }

    /// Forgets the records below `offset` (-1: all of them) and tells the new start.
    pub(crate) fn delete_records(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        offset: i64,
    ) -> (Offset, Pending<()>) {
        let found = match self.partition(topic, partition) {
            Ok(found) => found,
            Err(error) => return (Offset(-1), Pending::failed(error)),
        };
        let range = found.1.range();
        let to = if offset == -1 { range.high_watermark } else { Offset(offset) };
        if to < range.start || to > range.high_watermark {
            return (Offset(-1), Pending::failed(out_of_range(topic, partition, to, range)));
        }
        (to, self.change(Change::StartMoved { id: found.0.id, partition: partition.0, offset: to.0 }))
    }

    /// Appends one or more record batches to a partition, in order and together.
    pub fn append(&self, topic: &TopicName, partition: PartitionId, batches: Bytes) -> AppendFuture {
        match self.part(topic, partition, batches) {
            Ok(part) => self.submit(|reply| Submission::Append { part, reply }),
            Err(error) => Pending::failed(error),
        }
    }

    /// Appends to several partitions and sets a marker, all or nothing. The marker replaces the sink's earlier one.
    pub fn append_atomic(
        &self,
        entries: Vec<(TopicName, PartitionId, Bytes)>,
        marker: Option<(String, Bytes)>,
    ) -> AtomicAppendFuture {
        let options = &self.0.shared.options;
        let (sink_bytes, marker_bytes) = marker.as_ref().map_or((0, 0), |(sink, bytes)| (sink.len(), bytes.len()));
        let total = entries.iter().map(|(.., batches)| batches.len() + 64).sum::<usize>() + marker_bytes;
        let limits = [
            ("an atomic append", total, options.max_frame_bytes),
            ("a marker", marker_bytes, options.max_marker_bytes),
            ("the name of a sink", sink_bytes, 1024),
        ];
        if let Some((what, bytes, limit)) = limits.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            return Pending::failed(LogError::TooLarge { what, bytes, limit });
        }
        if entries.is_empty() && marker.is_none() {
            return Pending::failed(LogError::invalid("an atomic append needs an entry or a marker"));
        }
        let part = |(topic, partition, batches)| self.part(&topic, partition, batches);
        match entries.into_iter().map(part).collect() {
            Ok(parts) => self.submit(|reply| Submission::Atomic { parts, marker, reply }),
            Err(error) => Pending::failed(error),
        }
    }

    /// The last marker of a sink.
    pub fn marker(&self, sink: &str) -> Option<Bytes> {
        self.0.shared.state.read().markers.get(sink).cloned()
    }

    /// The readable range of a partition.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn offsets(&self, topic: &TopicName, partition: PartitionId) -> Result<OffsetRange, LogError> {
        Ok(self.partition(topic, partition)?.1.range())
    }

    /// Offset and timestamp of the first record at or after `timestamp_ms`.
    ///
    /// # Errors
    /// When there is no such partition or it cannot be read.
    pub fn offset_at(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<(Offset, i64)>, LogError> {
        let found = self.partition(topic, partition)?.1;
        let start = found.range().start.0;
        let Some(batches) = self.batches_at(&found, timestamp_ms, start)? else { return Ok(None) };
        let mut first = None;
        self.decoder().decode(&batches, |record| {
            if first.is_none() && record.timestamp_ms >= timestamp_ms && record.offset.0 >= start {
                first = Some((record.offset, record.timestamp_ms));
            }
        })?;
        Ok(first)
    }

    /// Offset and timestamp of the first record with the newest timestamp.
    ///
    /// # Errors
    /// When there is no such partition or it cannot be read.
    pub fn offset_of_newest(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<Option<(Offset, i64)>, LogError> {
        let found = self.partition(topic, partition)?.1;
        let tail = found.published.lock().tail.iter().map(|batch| batch.max_timestamp_ms).max();
        match tail.max(found.segments.max_timestamp_ms()) {
            Some(newest) => self.offset_at(topic, partition, newest),
            None => Ok(None),
        }
    }

    fn batches_at(&self, found: &Partition, timestamp_ms: i64, start: i64) -> Result<Option<Bytes>, LogError> {
        // Segments first: what is in the tail only is newer than all of them.
        if let Some(batches) = found.segments.at_time(&*self.0.shared.disk, timestamp_ms, start)? {
            return Ok(Some(batches));
        }
        let published = found.published.lock();
        let fits =
            |batch: &&crate::topics::TailBatch| batch.max_timestamp_ms >= timestamp_ms && batch.last_offset >= start;
        Ok(published.tail.iter().find(fits).map(|batch| batch.bytes.clone()))
    }

    /// Reads whole batches from the one that holds `from`: at least one when there is any, more up to `max_bytes`. Does
    /// not wait for new ones; see [`appended`](Self::appended).
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] when `from` is below the start or above the high watermark.
    pub fn read(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Fetched, LogError> {
        let found = self.read_pieces((topic, partition, from), max_bytes, true, None, false)?;
        let Some(FetchedPieces { mut pieces, range }) = found else {
            return Err(LogError::UnknownPartition { topic: topic.clone(), partition });
        };
        let batches = match pieces.len() {
            0 => Bytes::new(),
            1 => pieces.swap_remove(0),
            _ => join(&pieces),
        };
        Ok(Fetched { batches, high_watermark: range.high_watermark, start: range.start })
    }

    /// [`read`](Self::read) without joining the pieces. With a `waiter`, it is notified at the next publish. Without
    /// `at_least_one`, a first batch above `max_bytes` is left out. `None` when `memory_only` and the place is not in
    /// memory.
    pub(crate) fn read_pieces(
        &self,
        (topic, partition, from): (&TopicName, PartitionId, Offset),
        max_bytes: usize,
        at_least_one: bool,
        waiter: Option<&Arc<Notify>>,
        memory_only: bool,
    ) -> Result<Option<FetchedPieces>, LogError> {
        let found = self.partition(topic, partition)?.1;
        let counters = &self.0.shared.counters;
        let (range, tail) = {
            let mut published = found.published.lock();
            let (start, high_watermark) = (Offset(published.start), Offset(published.high_watermark));
            let range = OffsetRange { start, high_watermark };
            if from < start || from > high_watermark {
                return Err(out_of_range(topic, partition, from, range));
            }
            if let Some(waiter) = waiter {
                published.wait(waiter);
            }
            if from == high_watermark || !(at_least_one || max_bytes > 0) {
                return Ok(Some(FetchedPieces { pieces: Vec::new(), range }));
            }
            (range, published.read_tail(from.0, max_bytes))
        };
        let pieces = match tail {
            Some(pieces) => {
                Counters::add(&counters.reads_cached, 1);
                coalesce(pieces)
            }
            None if memory_only => return Ok(None),
            None => {
                Counters::add(&counters.reads_segment, 1);
                let read = found.segments.read(&*self.0.shared.disk, from.0, max_bytes)?;
                vec![read.ok_or_else(|| out_of_range(topic, partition, from, range))?]
            }
        };
        Counters::add(&counters.bytes_out, pieces.iter().map(Bytes::len).sum::<usize>() as u64);
        Ok(Some(FetchedPieces { pieces, range }))
    }

    /// Changes after every published frame: wait on it instead of polling.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.0.shared.published.subscribe()
    }

    /// Makes everything so far cheap to recover: segments synced, snapshot written, write-ahead files given up.
    ///
    /// # Errors
    /// When the log is poisoned or closed. A failure of the checkpoint itself poisons the log later.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.submit(|reply| Submission::Checkpoint { reply }).wait()
    }

    /// Counters since the log was opened.
    pub fn metrics(&self) -> LogMetrics {
        self.0.shared.counters.read()
    }

    /// The identity of this log; the same after every restart.
    pub fn id(&self) -> Uuid {
        self.0.shared.state.read().log_id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn rng(&self) -> &Arc<dyn Rng> {
        &self.0.rng
    }

    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(self.0.shared.options.max_decompressed_bytes)
    }

    pub(crate) fn change(&self, change: Change) -> Pending<()> {
        self.submit(|reply| Submission::Change { change, reply })
    }

    pub(crate) fn decide(
        &self,
        decide: impl FnOnce(&State) -> Result<Change, LogError> + Send + 'static,
    ) -> Pending<()> {
        let decide = Decide(Box::new(decide));
        self.submit(|reply| Submission::Decide { decide, reply })
    }

    fn submit<T>(&self, submission: impl FnOnce(crate::pending::Reply<T>) -> Submission) -> Pending<T> {
        let (reply, pending) = Pending::new();
        self.0.shared.queue.push(submission(reply), self.0.shared.options.queued_bytes);
        pending
    }

    pub(crate) fn partition(
        &self,
        name: &TopicName,
        partition: PartitionId,
    ) -> Result<(Arc<Topic>, Arc<Partition>), LogError> {
        let topic = known_topic(&self.0.shared.state.read(), name)?;
        let unknown = || LogError::UnknownPartition { topic: name.clone(), partition };
        let partition = topic.partition(partition.0).ok_or_else(unknown)?;
        Ok((topic, partition))
    }

    /// Checks batches in the caller's thread, so that the writer need not.
    fn part(&self, topic: &TopicName, partition: PartitionId, batches: Bytes) -> Result<Part, LogError> {
        let (topic, partition) = self.partition(topic, partition)?;
        let limit = self.0.shared.options.max_batch_bytes;
        for batch in Batches::new(&batches) {
            let batch = batch?;
            batch.verify()?;
            batch.attributes.compression()?;
            let detail = if batch.count < 1 || batch.last_offset_delta != batch.count - 1 {
                Some("its count of records and its last offset disagree")
            } else if batch.attributes.is_control() || batch.attributes.is_transactional() {
                Some("transactions are not supported yet")
            } else if batch.producer_id >= 0 && (batch.base_sequence < 0 || batch.producer_epoch < 0) {
                Some("it has a producer id but no sequence number")
            } else {
                None
            };
            if let Some(detail) = detail {
                return Err(RecordsError::Malformed { detail }.into());
            }
            if batch.bytes().len() > limit {
                return Err(LogError::TooLarge { what: "a record batch", bytes: batch.bytes().len(), limit });
            }
        }
        if batches.len() > self.0.shared.options.max_frame_bytes {
            let limit = self.0.shared.options.max_frame_bytes;
            return Err(LogError::TooLarge { what: "an append", bytes: batches.len(), limit });
        }
        Ok(Part { topic, partition, batches })
    }
}

impl Inner {
    fn close(&self) {
        self.shared.queue.close();
        // The writer first: it stops the flusher when it has handed over everything.
        for thread in self.threads.lock().drain(..).rev() {
            if thread.join().is_err() {
                self.shared.poison(&LogError::invalid("a thread of the log panicked"));
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn known_topic(state: &State, name: &TopicName) -> Result<Arc<Topic>, LogError> {
    state.topics.get(name).cloned().ok_or_else(|| LogError::UnknownTopic { topic: name.to_string() })
}

fn check_partition_count(state: &State, more: i32, limit: usize) -> Result<(), LogError> {
    let total = state.partition_count() + usize::try_from(more).unwrap_or(0);
    if total > limit {
        return Err(LogError::TooLarge { what: "partitions of all topics", bytes: total, limit });
    }
    Ok(())
}

fn out_of_range(topic: &TopicName, partition: PartitionId, offset: Offset, range: OffsetRange) -> LogError {
    let OffsetRange { start, high_watermark } = range;
    LogError::OffsetOutOfRange { topic: topic.clone(), partition, offset, start, high_watermark }
}

fn join(pieces: &[Bytes]) -> Bytes {
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.freeze()
}

/// Joins runs of small pieces, so that a socket gets few buffers and large pieces are never copied.
fn coalesce(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut rest = pieces.as_slice();
    while let Some(first) = rest.first() {
        let small = rest.iter().take_while(|piece| piece.len() < COALESCED_BYTES).count();
        let (now, later) = rest.split_at(small.max(1));
        out.push(if small > 1 { join(now) } else { first.clone() });
        rest = later;
    }
    out
}
