//! Segment files: the published batches of a partition, verbatim, as Kafka itself stores them.
//!
//! They are written behind the write-ahead log without an fsync; a checkpoint makes them durable before write-ahead
//! files are given up. So after a crash a segment is cut to the length of the last checkpoint and fed again.

mod flusher;
mod segment;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use rivermere_base::Disk;
use serde::{Deserialize, Serialize};

pub(crate) use flusher::{FlushItem, FlushQueue, Flusher};
pub(crate) use segment::Segment;

use crate::LogError;

/// The segments of a partition in offset order; only the last one grows.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    list: RwLock<Vec<Arc<Segment>>>,
    dir_exists: AtomicBool,
}

/// A segment in a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedSegment {
    pub base_offset: i64,
    pub last_offset: i64,
    pub bytes: u64,
    pub max_timestamp_ms: i64,
}

impl Segments {
    pub fn empty(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), list: RwLock::default(), dir_exists: AtomicBool::new(false) }
    }

    /// Brings the folder back to what the snapshot says: longer files are cut, unknown ones removed.
    pub fn restore(disk: &dyn Disk, dir: &Path, saved: &[SavedSegment]) -> Result<Self, LogError> {
        let segments = Self::empty(dir);
        let found = match disk.read_dir(dir) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(LogError::io("list", dir, error)),
        };
        for entry in &found {
            let known = saved.iter().any(|saved| segment::path(dir, saved.base_offset) == entry.path);
            if !known {
                disk.remove_file(&entry.path).map_err(|error| LogError::io("remove", &entry.path, error))?;
            }
        }
        for saved in saved {
            let path = segment::path(dir, saved.base_offset);
            let bytes = found.iter().find(|entry| entry.path == path).map(|entry| entry.len);
            match bytes {
                Some(bytes) if bytes >= saved.bytes => {}
                Some(bytes) => {
                    return Err(LogError::corrupt(path, format!("it has {bytes} of {} bytes", saved.bytes)));
                }
                None => return Err(LogError::corrupt(path, "it is missing")),
            }
            let segment = Segment::restore(disk, path, saved, bytes.is_some_and(|bytes| bytes > saved.bytes))?;
            segments.list.write().push(Arc::new(segment));
        }
        segments.dir_exists.store(!found.is_empty(), Ordering::Relaxed);
        Ok(segments)
    }

    /// Appends batches behind everything else. Called by the flusher only.
    pub fn append(&self, disk: &dyn Disk, batch: &segment::Run<'_>, limits: segment::Limits) -> Result<(), LogError> {
        let last = self.list.read().last().cloned();
        let segment = match last {
            Some(segment)
                if segment.bytes() == 0 || segment.bytes() + batch.bytes.len() as u64 <= limits.segment_bytes =>
            {
                segment
            }
            _ => self.roll(disk, batch.base_offset)?,
        };
        segment.append(disk, batch, limits.index_interval_bytes)
    }

    fn roll(&self, disk: &dyn Disk, base_offset: i64) -> Result<Arc<Segment>, LogError> {
        if !self.dir_exists.swap(true, Ordering::Relaxed) {
            disk.create_dir_all(&self.dir).map_err(|error| LogError::io("create", &self.dir, error))?;
        }
        let segment = Arc::new(Segment::create(disk, segment::path(&self.dir, base_offset), base_offset)?);
        self.list.write().push(segment.clone());
        Ok(segment)
    }

    /// Whole batches from the one that holds `from`, at least one; `None` when no segment holds it.
    pub fn read(&self, disk: &dyn Disk, from: i64, max_bytes: usize) -> Result<Option<Bytes>, LogError> {
        let segment = {
            let list = self.list.read();
            let after = list.partition_point(|segment| segment.base_offset <= from);
            after.checked_sub(1).and_then(|at| list.get(at)).cloned()
        };
        match segment {
            Some(segment) if segment.last_offset() >= from => segment.read(disk, from, max_bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Bytes from the first batch whose newest timestamp is at least `timestamp_ms`.
    pub fn at_time(&self, disk: &dyn Disk, timestamp_ms: i64, from: i64) -> Result<Option<Bytes>, LogError> {
        let candidates: Vec<_> = {
            let list = self.list.read();
            let fits =
                |segment: &&Arc<Segment>| segment.max_timestamp_ms() >= timestamp_ms && segment.last_offset() >= from;
            list.iter().filter(fits).cloned().collect()
        };
        for segment in candidates {
            if let Some(bytes) = segment.at_time(disk, timestamp_ms, from)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The newest timestamp in any segment.
    pub fn max_timestamp_ms(&self) -> Option<i64> {
        self.list.read().iter().map(|segment| segment.max_timestamp_ms()).max()
    }

    /// Takes whole segments below `start` out of the list; their files go after the next checkpoint.
    pub fn drop_below(&self, start: i64) -> Vec<PathBuf> {
        let mut list = self.list.write();
        let keep = list.iter().position(|segment| segment.last_offset() >= start).unwrap_or(list.len());
        list.drain(..keep).map(|segment| segment.path().to_owned()).collect()
    }

    /// fsync of what was written since the last call, then the list for the snapshot.
    pub fn sync(&self, disk: &dyn Disk) -> Result<Vec<SavedSegment>, LogError> {
        let list = self.list.read().clone();
        let mut created = false;
        for segment in &list {
            created |= segment.sync(disk)?;
        }
        if created {
            disk.sync_dir(&self.dir).map_err(|error| LogError::io("sync", &self.dir, error))?;
        }
        Ok(list.iter().filter(|segment| segment.bytes() > 0).map(|segment| segment.save()).collect())
    }
}
