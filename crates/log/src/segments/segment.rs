//! One segment file `<base offset, 20 digits>.log` and its offset index.
//!
//! The index lives in memory only: one entry for each `index_interval_bytes`. For a segment from an earlier process it
//! is built by one pass over the batch headers, at the first read that needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rivermere_base::{CrashPoint, Disk, DiskFile, OpenMode};

use super::SavedSegment;
use crate::LogError;
use crate::records::Batch;

/// Bytes read at once when a segment is walked.
const WALK_BYTES: u64 = 1 << 20;

pub(crate) fn path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

/// Batches of one partition that follow each other.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp_ms: i64,
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub segment_bytes: u64,
    pub index_interval_bytes: u32,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub base_offset: i64,
    path: PathBuf,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    bytes: AtomicU64,
    last_offset: AtomicI64,
    max_timestamp_ms: AtomicI64,
    index: Mutex<Option<Vec<IndexEntry>>>,
    unsynced: AtomicBool,
    /// The name is not durable yet.
    fresh: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    offset: i64,
    position: u64,
    /// The newest from here to the next entry.
    max_timestamp_ms: i64,
}

impl Segment {
    pub fn create(disk: &dyn Disk, path: PathBuf, base_offset: i64) -> Result<Self, LogError> {
        let file = disk.open(&path, OpenMode::Write).map_err(|error| LogError::io("create", &path, error))?;
        file.set_len(0).map_err(|error| LogError::io("empty", &path, error))?;
        Ok(Self {
            base_offset,
            path,
            file: Mutex::new(Some(file.into())),
            bytes: AtomicU64::new(0),
            last_offset: AtomicI64::new(base_offset - 1),
            max_timestamp_ms: AtomicI64::new(-1),
            index: Mutex::new(Some(Vec::new())),
            unsynced: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
        })
    }

    pub fn restore(disk: &dyn Disk, path: PathBuf, saved: &SavedSegment, cut: bool) -> Result<Self, LogError> {
        if cut {
            disk.open(&path, OpenMode::Write)
                .and_then(|file| file.set_len(saved.bytes))
                .map_err(|error| LogError::io("cut", &path, error))?;
        }
        Ok(Self {
            base_offset: saved.base_offset,
            path,
            file: Mutex::new(None),
            bytes: AtomicU64::new(saved.bytes),
            last_offset: AtomicI64::new(saved.last_offset),
            max_timestamp_ms: AtomicI64::new(saved.max_timestamp_ms),
            index: Mutex::new(None),
            unsynced: AtomicBool::new(cut),
            fresh: AtomicBool::new(false),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub fn last_offset(&self) -> i64 {
        self.last_offset.load(Ordering::Acquire)
    }

    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms.load(Ordering::Acquire)
    }

    pub fn save(&self) -> SavedSegment {
        SavedSegment {
            base_offset: self.base_offset,
            last_offset: self.last_offset(),
            bytes: self.bytes(),
            max_timestamp_ms: self.max_timestamp_ms(),
        }
    }

    fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, LogError> {
        let mut file = self.file.lock();
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let opened = disk.open(&self.path, OpenMode::Write).map_err(|error| LogError::io("open", &self.path, error))?;
        Ok(file.insert(opened.into()).clone())
    }

    pub fn append(&self, disk: &dyn Disk, run: &Run<'_>, index_interval_bytes: u32) -> Result<(), LogError> {
        let file = self.file(disk)?;
        let position = self.bytes();
        disk.crash_point(CrashPoint::BeforeSegmentWrite);
        self.unsynced.store(true, Ordering::Relaxed);
        file.write_all_at(run.bytes, position).map_err(|error| LogError::io("write", &self.path, error))?;
        disk.crash_point(CrashPoint::AfterSegmentWrite);
        {
            let mut index = self.index.lock();
            let index = match &mut *index {
                Some(index) => index,
                none => none.insert(self.walk(&*file, index_interval_bytes)?),
            };
            extend(index, run, position, index_interval_bytes);
        }
        self.max_timestamp_ms.fetch_max(run.max_timestamp_ms, Ordering::AcqRel);
        self.bytes.store(position + run.bytes.len() as u64, Ordering::Release);
        self.last_offset.store(run.last_offset, Ordering::Release);
        Ok(())
    }

    /// fsync when something was written; tells whether the file's name still needs one.
    pub fn sync(&self, disk: &dyn Disk) -> Result<bool, LogError> {
        if self.unsynced.swap(false, Ordering::Relaxed) {
            self.file(disk)?.sync_data().map_err(|error| LogError::io("sync", &self.path, error))?;
            disk.crash_point(CrashPoint::AfterSegmentSync);
        }
        Ok(self.fresh.swap(false, Ordering::Relaxed))
    }

    /// See [`super::Segments::read`].
    pub fn read(&self, disk: &dyn Disk, from: i64, max_bytes: usize) -> Result<Bytes, LogError> {
        let file = self.file(disk)?;
        let mut position = self.position(&*file, |index| {
            let after = index.partition_point(|entry| entry.offset <= from);
            after.checked_sub(1).and_then(|at| index.get(at)).map_or(0, |entry| entry.position)
        })?;
        let end = self.bytes();
        // Walk the few headers from the index entry to the batch that holds `from`.
        loop {
            let (size, last_offset) = self.header(&*file, position, end)?;
            if last_offset >= from {
                return self.whole_batches(&*file, position, end, (max_bytes as u64).max(size));
            }
            position += size;
        }
    }

    fn whole_batches(&self, file: &dyn DiskFile, at: u64, end: u64, max_bytes: u64) -> Result<Bytes, LogError> {
        let mut data = vec![0; max_bytes.min(end.saturating_sub(at)) as usize];
        file.read_exact_at(&mut data, at).map_err(|error| LogError::io("read", &self.path, error))?;
        let mut whole = 0;
        while let Some(size) = data.get(whole..).and_then(|rest| Batch::size(rest).ok()) {
            if whole + size > data.len() {
                break;
            }
            whole += size;
        }
        data.truncate(whole);
        Ok(data.into())
    }

    /// See [`super::Segments::at_time`].
    pub fn at_time(&self, disk: &dyn Disk, timestamp_ms: i64, from: i64) -> Result<Option<Bytes>, LogError> {
        let file = self.file(disk)?;
        let end = self.bytes();
        let mut position = self.position(&*file, |index| {
            index.iter().find(|entry| entry.max_timestamp_ms >= timestamp_ms).map_or(end, |entry| entry.position)
        })?;
        while position < end {
            let mut header = [0; crate::records::HEADER_BYTES];
            file.read_exact_at(&mut header, position).map_err(|error| LogError::io("read", &self.path, error))?;
            let batch = Batch::parse_header(&header).map_err(|error| self.corrupt(position, error))?;
            let size = Batch::size(&header).map_err(|error| self.corrupt(position, error))? as u64;
            if batch.max_timestamp_ms >= timestamp_ms && batch.last_offset() >= from {
                return self.whole_batches(&*file, position, end, size).map(Some);
            }
            position += size;
        }
        Ok(None)
    }

    fn position(&self, file: &dyn DiskFile, find: impl FnOnce(&[IndexEntry]) -> u64) -> Result<u64, LogError> {
        let mut index = self.index.lock();
        let index = match &mut *index {
            Some(index) => index,
            none => none.insert(self.walk(file, DEFAULT_INTERVAL_BYTES)?),
        };
        Ok(find(index))
    }

    /// Size and last offset of the batch at `position`.
    fn header(&self, file: &dyn DiskFile, position: u64, end: u64) -> Result<(u64, i64), LogError> {
        if position >= end {
            return Err(LogError::corrupt(&self.path, "its index points behind its end"));
        }
        let mut header = [0; crate::records::HEADER_BYTES];
        file.read_exact_at(&mut header, position).map_err(|error| LogError::io("read", &self.path, error))?;
        let size = Batch::size(&header).map_err(|error| self.corrupt(position, error))?;
        let batch = Batch::parse_header(&header).map_err(|error| self.corrupt(position, error))?;
        Ok((size as u64, batch.last_offset()))
    }

    fn corrupt(&self, position: u64, error: crate::records::RecordsError) -> LogError {
        LogError::corrupt(&self.path, format!("at byte {position}: {error}"))
    }

    /// The index of a file from an earlier process.
    fn walk(&self, file: &dyn DiskFile, interval_bytes: u32) -> Result<Vec<IndexEntry>, LogError> {
        let (mut index, end) = (Vec::new(), self.bytes());
        let (mut window, mut window_at, mut position) = (Vec::new(), 0_u64, 0_u64);
        while position < end {
            let offset_in_window = (position - window_at) as usize;
            if window.len() < offset_in_window + crate::records::HEADER_BYTES {
                window_at = position;
                window.resize(WALK_BYTES.min(end - position) as usize, 0);
                file.read_exact_at(&mut window, position).map_err(|error| LogError::io("read", &self.path, error))?;
            }
            let header = window.get((position - window_at) as usize..).unwrap_or_default();
            let batch = Batch::parse_header(header).map_err(|error| self.corrupt(position, error))?;
            let size = Batch::size(header).map_err(|error| self.corrupt(position, error))?;
            let run = Run {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset(),
                max_timestamp_ms: batch.max_timestamp_ms,
                bytes: &[],
            };
            extend(&mut index, &run, position, interval_bytes);
            position += size as u64;
        }
        Ok(index)
    }
}

/// Interval of an index that is built for reading.
const DEFAULT_INTERVAL_BYTES: u32 = 16 << 10;

fn extend(index: &mut Vec<IndexEntry>, run: &Run<'_>, position: u64, interval_bytes: u32) {
    match index.last_mut() {
        Some(last) if position - last.position < u64::from(interval_bytes) => {
            last.max_timestamp_ms = last.max_timestamp_ms.max(run.max_timestamp_ms);
        }
        _ => {
            index.push(IndexEntry { offset: run.base_offset, position, max_timestamp_ms: run.max_timestamp_ms });
        }
    }
}
