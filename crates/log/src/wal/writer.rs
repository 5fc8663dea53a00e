//! The writer thread: takes what queued while the last fsync ran, writes it as one frame, and publishes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rivermere_base::{CrashPoint, Offset, PartitionId};

use super::WalFile;
use super::frame::FrameBuilder;
use crate::changes::Change;
use crate::log::Appended;
use crate::metrics::Counters;
use crate::pending::Reply;
use crate::producers::{ProducerState, Verdict};
use crate::records::{Batch, Batches, patch, patch_append_time};
use crate::segments::FlushItem;
use crate::shared::Shared;
use crate::topics::{Partition, TailBatch, Topic};
use rivermere_base::Rng;

use crate::LogError;

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Submission {
    Append {
        part: Part,
        reply: Reply<Appended>,
    },
    Atomic {
        parts: Vec<Part>,
        marker: Option<(String, Bytes)>,
        reply: Reply<Vec<Appended>>,
    },
    /// A change that is valid whatever else is in its frame.
    Change {
        change: Change,
        reply: Reply<()>,
    },
    /// A change that depends on the state: decided by the writer, alone at the end of its frame.
    Decide {
        decide: Decide,
        reply: Reply<()>,
    },
    Checkpoint {
        reply: Reply<()>,
    },
}

/// Looks at the state of all frames before and makes a change of it.
pub(crate) struct Decide(pub Box<dyn FnOnce(&crate::state::State) -> Result<Change, LogError> + Send>);

impl std::fmt::Debug for Decide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decide")
    }
}

/// Checked batches for one partition.
#[derive(Debug)]
pub(crate) struct Part {
    pub topic: Arc<Topic>,
    pub partition: Arc<Partition>,
    pub batches: Bytes,
}

impl Submission {
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Submission::Append { part, .. } => part.batches.len(),
                Submission::Atomic { parts, marker, .. } => {
                    parts.iter().map(|part| part.batches.len() + OVERHEAD).sum::<usize>()
                        + marker.as_ref().map_or(0, |(_, bytes)| bytes.len())
                }
                _ => 512,
            }
    }

    fn ends_frame(&self) -> bool {
        matches!(self, Submission::Decide { .. } | Submission::Checkpoint { .. })
    }

    fn fail(self, error: LogError) {
        match self {
            Submission::Append { reply, .. } => drop(reply.send(Err(error))),
            Submission::Atomic { reply, .. } => drop(reply.send(Err(error))),
            Submission::Change { reply, .. } | Submission::Decide { reply, .. } | Submission::Checkpoint { reply } => {
                drop(reply.send(Err(error)))
            }
        }
    }
}

/// Submissions on their way to the writer.
#[derive(Debug, Default)]
pub(crate) struct SubmissionQueue {
    inner: Mutex<Inner>,
    pushed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Submission>,
    bytes: usize,
    closed: bool,
}

impl SubmissionQueue {
    pub fn push(&self, submission: Submission, limit: usize) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return submission.fail(LogError::Closed);
        }
        if inner.bytes > limit {
            return submission.fail(LogError::Busy { queued: inner.bytes });
        }
        inner.bytes += submission.bytes();
        inner.items.push_back(submission);
        self.pushed.notify_one();
    }

    /// Refuses what comes from now on; what is queued is still written.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.pushed.notify_one();
    }

    /// Whole submissions up to `bytes`, at least one. Nothing after `timeout`; `false` when closed and empty.
    fn take(&self, bytes: usize, timeout: Duration, into: &mut Vec<Submission>) -> bool {
        let mut inner = self.inner.lock();
        if inner.items.is_empty() && !inner.closed {
            self.pushed.wait_for(&mut inner, timeout);
        }
        let mut total = 0;
        while let Some(next) = inner.items.front() {
            let size = next.bytes();
            if !into.is_empty() && total + size > bytes {
                break;
            }
            total += size;
            let ends_frame = next.ends_frame();
            into.extend(inner.items.pop_front());
            if ends_frame {
                break;
            }
        }
        inner.bytes -= total;
        !(inner.closed && into.is_empty())
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    rng: Arc<dyn Rng>,
    file: Option<WalFile>,
    next_lsn: u64,
    bytes_since_checkpoint: u64,
    last_checkpoint: Duration,
}

/// What a frame will publish.
#[derive(Debug, Default)]
struct Staged {
    batches: Vec<StagedBatch>,
    changes: Vec<Change>,
    markers: Vec<(String, Bytes)>,
    undo: Vec<Undo>,
    replies: Vec<Answer>,
    records: u64,
    checkpoint: Option<Reply<()>>,
}

#[derive(Debug)]
struct StagedBatch {
    partition: Arc<Partition>,
    at: usize,
    bytes: usize,
    base_offset: i64,
    last_offset: i64,
    max_timestamp_ms: i64,
}

#[derive(Debug)]
struct Undo {
    partition: Arc<Partition>,
    next_offset: i64,
    epochs: usize,
    producer: Option<(i64, Option<ProducerState>)>,
}

#[derive(Debug)]
enum Answer {
    One(Reply<Appended>, Appended),
    Many(Reply<Vec<Appended>>, Vec<Appended>),
    Done(Reply<()>),
}

impl Answer {
    fn send(self) {
        match self {
            Answer::One(reply, appended) => drop(reply.send(Ok(appended))),
            Answer::Many(reply, appended) => drop(reply.send(Ok(appended))),
            Answer::Done(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn fail(self, error: LogError) {
        match self {
            Answer::One(reply, _) => drop(reply.send(Err(error))),
            Answer::Many(reply, _) => drop(reply.send(Err(error))),
            Answer::Done(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, rng: Arc<dyn Rng>, scan: super::Scan) -> Self {
        let last_checkpoint = shared.clock.monotonic();
        Self {
            shared,
            rng,
            file: scan.file,
            next_lsn: scan.next_lsn,
            bytes_since_checkpoint: scan.visited_bytes,
            last_checkpoint,
        }
    }

    /// Runs until the queue is closed and empty, then makes a last checkpoint.
    pub fn run(mut self) {
        let interval = Duration::from_millis(self.shared.options.checkpoint_interval_ms);
        let mut submissions = Vec::new();
        while self.shared.queue.take(self.shared.options.group_commit_bytes, interval, &mut submissions) {
            if !submissions.is_empty() {
                self.commit(&mut submissions);
            }
            let due = self.bytes_since_checkpoint >= self.shared.options.checkpoint_bytes
                || self.shared.clock.monotonic().saturating_sub(self.last_checkpoint) >= interval;
            if due && self.bytes_since_checkpoint > 0 {
                self.checkpoint();
            }
        }
        if self.bytes_since_checkpoint > 0 {
            self.checkpoint();
        }
        self.shared.flush_queue.push([FlushItem::Stop].into_iter(), usize::MAX);
    }

    fn checkpoint(&mut self) {
        self.bytes_since_checkpoint = 0;
        self.last_checkpoint = self.shared.clock.monotonic();
        let Some(file) = &self.file else { return };
        if self.shared.poisoned().is_some() {
            return;
        }
        let snapshot = self.shared.state.read().save(self.next_lsn - 1, file.sequence);
        self.push_flush([FlushItem::Checkpoint(Box::new(snapshot))].into_iter());
    }

    fn push_flush(&self, items: impl Iterator<Item = FlushItem>) {
        self.shared.flush_queue.push(items, self.shared.options.unflushed_bytes);
    }

    fn commit(&mut self, submissions: &mut Vec<Submission>) {
        if let Some(error) = self.shared.poisoned() {
            submissions.drain(..).for_each(|submission| submission.fail(error.clone()));
            return;
        }
        let mut frame = FrameBuilder::with_capacity(submissions.iter().map(Submission::bytes).sum());
        let mut staged = Staged::default();
        let now_ms = self.shared.clock.now_ms();
        for submission in submissions.drain(..) {
            self.stage(submission, &mut frame, &mut staged, now_ms);
        }
        if !frame.is_empty() {
            match self.write(frame) {
                Ok(frame) => self.publish(&frame, &mut staged),
                Err(error) => return self.undo(staged, error),
            }
        }
        staged.replies.drain(..).for_each(Answer::send);
        if let Some(reply) = staged.checkpoint {
            self.checkpoint();
            let _ = reply.send(Ok(()));
        }
    }

    fn stage(&self, submission: Submission, frame: &mut FrameBuilder, staged: &mut Staged, now_ms: i64) {
        let mark = (frame.mark(), staged.batches.len(), staged.undo.len(), staged.records);
        let back = |frame: &mut FrameBuilder, staged: &mut Staged| {
            frame.back_to(mark.0);
            staged.batches.truncate(mark.1);
            staged.undo.drain(mark.2..).rev().for_each(Undo::run);
            staged.records = mark.3;
        };
        match submission {
            Submission::Append { part, reply } => match self.stage_part(&part, frame, staged, now_ms) {
                Ok(appended) => staged.replies.push(Answer::One(reply, appended)),
                Err(error) => {
                    back(frame, staged);
                    let _ = reply.send(Err(error));
                }
            },
            Submission::Atomic { parts, marker, reply } => {
                match parts.iter().map(|part| self.stage_part(part, frame, staged, now_ms)).collect() {
                    Ok(appended) => {
                        if let Some((sink, bytes)) = marker {
                            frame.marker(&sink, &bytes);
                            staged.markers.push((sink, bytes));
                        }
                        staged.replies.push(Answer::Many(reply, appended));
                    }
                    Err(error) => {
                        back(frame, staged);
                        let _ = reply.send(Err(error));
                    }
                }
            }
            Submission::Change { change, reply } => stage_change(Ok(change), reply, frame, staged),
            Submission::Decide { decide, reply } => {
                // Changes of this very frame are not in the state yet; none of those in a frame with a decision concern
                // topics, because decisions stand at the end of a frame.
                let change = (decide.0)(&self.shared.state.read());
                stage_change(change, reply, frame, staged);
            }
            Submission::Checkpoint { reply } => staged.checkpoint = Some(reply),
        }
    }

    /// Gives the batches of `part` their offsets.
    fn stage_part(
        &self,
        part: &Part,
        frame: &mut FrameBuilder,
        staged: &mut Staged,
        now_ms: i64,
    ) -> Result<Appended, LogError> {
        if part.topic.is_deleted() {
            return Err(LogError::UnknownTopic { topic: part.topic.name.to_string() });
        }
        let mut appended: Option<Appended> = None;
        let leader_epoch = self.shared.state.read().leader_epoch;
        let mut written = part.partition.written.lock();
        for batch in Batches::of(&part.batches) {
            let batch = batch?;
            let (base_offset, last_offset) = match written.producers.judge(&batch) {
                Verdict::New => {
                    let base_offset = written.next_offset;
                    let before = written.epochs.len();
                    if written.epochs.last().is_none_or(|(epoch, _)| *epoch != leader_epoch) {
                        written.epochs.push((leader_epoch, base_offset));
                    }
                    let producer =
                        written.producers.remember(&batch, base_offset, self.shared.options.producers_per_partition);
                    staged.undo.push(Undo {
                        partition: part.partition.clone(),
                        next_offset: base_offset,
                        epochs: before,
                        producer,
                    });
                    let (at, max_timestamp_ms) = place(frame, part, &batch, (base_offset, leader_epoch, now_ms));
                    let last_offset = base_offset + i64::from(batch.last_offset_delta);
                    written.next_offset = last_offset + 1;
                    staged.records += u64::try_from(batch.count).unwrap_or(0);
                    staged.batches.push(StagedBatch {
                        partition: part.partition.clone(),
                        at,
                        bytes: batch.bytes().len(),
                        base_offset,
                        last_offset,
                        max_timestamp_ms,
                    });
                    (base_offset, last_offset)
                }
                Verdict::Duplicate(seen) => {
                    Counters::add(&self.shared.counters.duplicates, 1);
                    (seen.base_offset, seen.last_offset)
                }
                Verdict::OutOfOrder { expected } => {
                    return Err(LogError::OutOfOrderSequence {
                        topic: part.topic.name.clone(),
                        partition: PartitionId(part.partition.index),
                        producer_id: batch.producer_id,
                        sequence: batch.base_sequence,
                        expected,
                    });
                }
                Verdict::Fenced { current } => {
                    return Err(LogError::ProducerFenced {
                        producer_id: batch.producer_id,
                        epoch: batch.producer_epoch,
                        current,
                    });
                }
            };
            let base_offset = appended.map_or(Offset(base_offset), |appended| appended.base_offset);
            appended = Some(Appended { base_offset, last_offset: Offset(last_offset), log_append_time_ms: now_ms });
        }
        appended.ok_or_else(|| LogError::invalid("an append needs at least one record batch"))
    }

    /// Writes and syncs the frame; it is durable when this returns.
    fn write(&mut self, frame: FrameBuilder) -> Result<Bytes, LogError> {
        let disk = self.shared.disk.clone();
        let needed = frame.len() as u64;
        if self.file.as_ref().is_none_or(|file| file.position + needed > file.bytes) {
            let sequence = self.file.as_ref().map_or(1, |file| file.sequence + 1);
            let first_bytes = (sequence == 1).then_some(self.shared.options.wal_first_file_bytes);
            let salt = self.rng.next_u64() as u32;
            let file = self.shared.wal.create(&*disk, (sequence, self.next_lsn, salt), first_bytes, frame.len())?;
            self.file = Some(file);
            self.push_flush([FlushItem::PrepareWalFile].into_iter());
        }
        let Some(file) = &mut self.file else { return Err(LogError::Closed) };
        let frame = frame.seal(self.next_lsn, file.salt);
        disk.crash_point(CrashPoint::BeforeWalWrite);
        file.file
            .write_all_at(&frame, file.position)
            .map_err(|error| LogError::io("write", file.path.clone(), error))?;
        disk.crash_point(CrashPoint::AfterWalWrite);
        if let Err(error) = file.file.sync_data() {
            // Even a full disk at this point leaves the file in an unknown state: never retry an fsync.
            let cause = LogError::Io { action: "sync", path: file.path.clone(), source: Arc::new(error) };
            self.shared.poison(&cause);
            return Err(cause);
        }
        disk.crash_point(CrashPoint::AfterWalSync);
        file.position += needed;
        self.next_lsn += 1;
        self.bytes_since_checkpoint += needed;
        let counters = &self.shared.counters;
        Counters::add(&counters.frames, 1);
        Counters::add(&counters.fsyncs, 1);
        Counters::add(&counters.wal_bytes, needed);
        Ok(frame)
    }

    fn publish(&mut self, frame: &Bytes, staged: &mut Staged) {
        let mut flush = Vec::with_capacity(staged.batches.len());
        let mut bytes = 0;
        for batch in staged.batches.drain(..) {
            bytes += batch.bytes as u64;
            let tail = TailBatch {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                max_timestamp_ms: batch.max_timestamp_ms,
                bytes: frame.slice(batch.at..batch.at + batch.bytes),
            };
            batch.partition.published.lock().publish(tail.clone());
            flush.push(FlushItem::Batch { partition: batch.partition, batch: tail });
        }
        if !staged.changes.is_empty() || !staged.markers.is_empty() {
            let mut state = self.shared.state.write();
            state.markers.extend(staged.markers.drain(..));
            let topics_dir = &self.shared.topics_dir;
            flush.extend(staged.changes.drain(..).filter_map(|change| state.apply(change, topics_dir)));
        }
        Counters::add(&self.shared.counters.records_in, staged.records);
        Counters::add(&self.shared.counters.bytes_in, bytes);
        staged.replies.drain(..).for_each(Answer::send);
        self.shared.published.send_modify(|count| *count += 1);
        if !flush.is_empty() {
            self.push_flush(flush.into_iter());
        }
    }

    fn undo(&self, mut staged: Staged, error: LogError) {
        staged.undo.drain(..).rev().for_each(Undo::run);
        if !matches!(error, LogError::Full { .. }) {
            self.shared.poison(&error);
        }
        let error = self.shared.poisoned().unwrap_or(error);
        staged.replies.drain(..).for_each(|answer| answer.fail(error.clone()));
        if let Some(reply) = staged.checkpoint {
            let _ = reply.send(Err(error));
        }
    }
}

impl Undo {
    fn run(self) {
        let mut written = self.partition.written.lock();
        written.next_offset = self.next_offset;
        written.epochs.truncate(self.epochs);
        if let Some(producer) = self.producer {
            written.producers.restore(producer);
        }
    }
}

/// Copies a batch into the frame and patches it there; tells where it is and its newest timestamp.
fn place(
    frame: &mut FrameBuilder,
    part: &Part,
    batch: &Batch<'_>,
    (base_offset, epoch, now_ms): (i64, i32, i64),
) -> (usize, i64) {
    let at = frame.batch(part.topic.id, part.partition.index, batch.bytes());
    let bytes = frame.bytes_mut(at);
    patch(bytes, base_offset, epoch);
    if part.topic.append_time() {
        patch_append_time(bytes, now_ms);
        return (at, now_ms);
    }
    (at, batch.max_timestamp_ms)
}

fn stage_change(change: Result<Change, LogError>, reply: Reply<()>, frame: &mut FrameBuilder, staged: &mut Staged) {
    let encoded = change.and_then(|change| {
        let json = serde_json::to_vec(&change).map_err(|error| LogError::invalid(error.to_string()))?;
        Ok((change, json))
    });
    match encoded {
        Ok((change, json)) => {
            frame.change(&json);
            staged.changes.push(change);
            staged.replies.push(Answer::Done(reply));
        }
        Err(error) => drop(reply.send(Err(error))),
    }
}
