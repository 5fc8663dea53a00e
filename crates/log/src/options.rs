//! Limits of the log and settings of topics.

use std::collections::BTreeMap;

use rivermere_base::{Offset, TopicName};
use uuid::Uuid;

/// Named limits of one [`Log`](crate::Log). The defaults suit a laptop and a server alike; tests make them tiny.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a write-ahead file; written full of zeros ahead of use, so that an fsync has no metadata to write.
    pub wal_file_bytes: u64,
    /// Size of the very first write-ahead file, small so that an empty log starts at once.
    pub wal_first_file_bytes: u64,
    /// A commit takes no further appends once its frame has this size.
    pub group_commit_bytes: usize,
    /// The largest single frame, and so the largest atomic append.
    pub max_frame_bytes: usize,
    /// The largest single record batch.
    pub max_batch_bytes: usize,
    /// Bytes that may wait for the writer; more are refused with [`LogError::Busy`](crate::LogError::Busy).
    pub queued_bytes: usize,
    /// Durable bytes that may wait for their segment file; more hold the writer back.
    pub unflushed_bytes: usize,
    /// Newest batches kept in memory for readers, over all partitions.
    pub tail_cache_bytes: usize,
    /// A partition starts a new segment file after this size.
    pub segment_bytes: u64,
    /// Distance of entries in a segment's offset index.
    pub index_interval_bytes: u32,
    /// A checkpoint is made after this many write-ahead bytes ...
    pub checkpoint_bytes: u64,
    /// ... or after this time, when anything was written.
    pub checkpoint_interval_ms: u64,
    /// Partitions over all topics.
    pub max_partitions: usize,
    /// Idempotent producers remembered for each partition; the one silent for longest is forgotten first.
    pub producers_per_partition: usize,
    /// Bytes a compressed batch may expand to.
    pub max_decompressed_bytes: usize,
    /// Bytes of one marker of [`Log::append_atomic`](crate::Log::append_atomic).
    pub max_marker_bytes: usize,
    /// Consumer groups.
    pub max_groups: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            wal_file_bytes: 64 * MIB as u64,
            wal_first_file_bytes: 8 * MIB as u64,
            group_commit_bytes: 4 * MIB,
            max_frame_bytes: 256 * MIB,
            max_batch_bytes: 32 * MIB,
            queued_bytes: 128 * MIB,
            unflushed_bytes: 32 * MIB,
            tail_cache_bytes: 16 * MIB,
            segment_bytes: 128 * MIB as u64,
            index_interval_bytes: 16 << 10,
            checkpoint_bytes: 64 * MIB as u64,
            checkpoint_interval_ms: 10_000,
            max_partitions: 20_000,
            producers_per_partition: 1_000,
            max_decompressed_bytes: 128 * MIB,
            max_marker_bytes: MIB,
            max_groups: 10_000,
        }
    }
}

impl LogOptions {
    /// Tiny files and intervals, so that a small test crosses every file boundary.
    pub fn tiny() -> Self {
        Self {
            wal_file_bytes: 4096,
            wal_first_file_bytes: 4096,
            group_commit_bytes: 2048,
            tail_cache_bytes: 1024,
            segment_bytes: 1500,
            index_interval_bytes: 128,
            checkpoint_bytes: 6000,
            ..Self::default()
        }
    }
}

/// How a topic is created.
#[derive(Clone, Debug)]
pub struct TopicOptions {
    /// Partitions, at least one.
    pub partitions: i32,
    /// Kafka topic settings by their Kafka names, such as `retention.ms`.
    pub configs: BTreeMap<String, String>,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self { partitions: 1, configs: BTreeMap::new() }
    }
}

/// What is known about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub id: Uuid,
    pub name: TopicName,
    pub partitions: i32,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// The readable range of a partition: `start` is readable (unless empty), `high_watermark` is the next to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    pub start: Offset,
    pub high_watermark: Offset,
}
