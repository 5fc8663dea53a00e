//! Reading the write-ahead log at start.
//!
//! The first bad frame ends the log: it is the torn tail of a commit that nobody was told about. But a commit is written
//! only after the one before it was synced, so a good frame *behind* a bad one means that durable bytes were damaged.
//! Then the log refuses to start, because going on would lose acknowledged records in silence.

use bytes::Bytes;
use rivermere_base::{Disk, DiskFile, OpenMode};

use super::Entry;
use super::files::{FILE_HEADER_BYTES, FileHeader, WalFile, WalFiles};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, entries, find_magic, is_intact};
use crate::LogError;

/// Bytes read at once when looking for frames behind a bad one.
const SEARCH_BYTES: u64 = 1 << 20;

/// Where the log ended.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The last file, positioned at its end; `None` when the log is empty.
    pub file: Option<WalFile>,
    pub next_lsn: u64,
    /// Bytes of the visited frames.
    pub visited_bytes: u64,
}

/// Visits the entries of every frame after `after_lsn`, in order, from file `first_sequence` on.
pub(crate) fn scan(
    disk: &dyn Disk,
    files: &WalFiles,
    (first_sequence, after_lsn): (u64, u64),
    mut visit: impl FnMut(Vec<Entry>) -> Result<(), LogError>,
) -> Result<Scan, LogError> {
    let mut list = files.list(disk)?;
    list.retain(|(sequence, _)| *sequence >= first_sequence);
    if list.is_empty() && after_lsn == 0 {
        return Ok(Scan { file: None, next_lsn: 1, visited_bytes: 0 });
    }
    let mut next_lsn = None;
    let mut visited_bytes = 0;
    let mut last = None;
    for (at, (sequence, path)) in list.iter().enumerate() {
        if *sequence != first_sequence + at as u64 {
            return Err(LogError::corrupt(&files.dir, format!("file {} is missing", first_sequence + at as u64)));
        }
        let mut walk = Walk::open(disk, path, *sequence)?;
        match next_lsn {
            Some(expected) if expected != walk.header.first_lsn => {
                let found = walk.header.first_lsn;
                return Err(LogError::corrupt(path, format!("it starts with frame {found} instead of {expected}")));
            }
            None if walk.header.first_lsn > after_lsn + 1 => {
                return Err(LogError::corrupt(path, format!("frames from {} on are missing", after_lsn + 1)));
            }
            _ => {}
        }
        while let Some(frame) = walk.next()? {
            if walk.next_lsn > after_lsn + 1 {
                visited_bytes += frame.len() as u64;
                let malformed = || LogError::corrupt(path, "a frame has entries that this version does not know");
                visit(entries(&frame).ok_or_else(malformed)?)?;
            }
        }
        next_lsn = Some(walk.next_lsn);
        if at + 1 == list.len() {
            walk.refuse_frames_behind_the_end()?;
        }
        last = Some(walk.into_file());
    }
    let Some(next_lsn) = next_lsn.filter(|next| *next > after_lsn) else {
        return Err(LogError::corrupt(&files.dir, format!("file {first_sequence} or its frames are missing")));
    };
    Ok(Scan { file: last, next_lsn, visited_bytes })
}

struct Walk<'a> {
    path: &'a std::path::Path,
    file: Box<dyn DiskFile>,
    header: FileHeader,
    bytes: u64,
    position: u64,
    next_lsn: u64,
}

impl<'a> Walk<'a> {
    fn open(disk: &dyn Disk, path: &'a std::path::Path, sequence: u64) -> Result<Self, LogError> {
        let file = disk.open(path, OpenMode::Write).map_err(|error| LogError::io("open", path, error))?;
        let bytes = file.len().map_err(|error| LogError::io("look at", path, error))?;
        let mut header = [0; FILE_HEADER_BYTES as usize];
        if bytes >= FILE_HEADER_BYTES {
            file.read_exact_at(&mut header, 0).map_err(|error| LogError::io("read", path, error))?;
        }
        let header = FileHeader::decode(&header).filter(|header| header.sequence == sequence);
        let header = header.ok_or_else(|| LogError::corrupt(path, "its header is not readable"))?;
        Ok(Self { path, file, header, bytes, position: FILE_HEADER_BYTES, next_lsn: header.first_lsn })
    }

    fn read(&self, at: u64, bytes: usize) -> Result<Bytes, LogError> {
        let mut data = vec![0; bytes];
        self.file.read_exact_at(&mut data, at).map_err(|error| LogError::io("read", self.path, error))?;
        Ok(data.into())
    }

    /// The next frame, if it is whole.
    fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        let room = self.bytes - self.position;
        if room < FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = FrameHeader::parse(&self.read(self.position, FRAME_HEADER_BYTES)?);
        let Some(header) = header.filter(|header| header.lsn == self.next_lsn && header.length as u64 <= room) else {
            return Ok(None);
        };
        let frame = self.read(self.position, header.length)?;
        if !is_intact(&frame, self.header.salt) {
            return Ok(None);
        }
        self.position += header.length as u64;
        self.next_lsn += 1;
        Ok(Some(frame))
    }

    fn refuse_frames_behind_the_end(&self) -> Result<(), LogError> {
        let mut at = self.position;
        while at + (FRAME_HEADER_BYTES as u64) < self.bytes {
            let window = self.read(at, SEARCH_BYTES.min(self.bytes - at) as usize)?;
            let Some(found) = find_magic(&window) else {
                // The magic could lie across the border of two windows.
                at += (window.len() as u64).saturating_sub(3).max(1);
                continue;
            };
            at += found as u64;
            let room = self.bytes - at;
            if room < FRAME_HEADER_BYTES as u64 {
                break;
            }
            let header = FrameHeader::parse(&self.read(at, FRAME_HEADER_BYTES)?);
            let header = header.filter(|header| header.lsn >= self.next_lsn && header.length as u64 <= room);
            if let Some(header) = header
                && is_intact(&self.read(at, header.length)?, self.header.salt)
            {
                let detail = format!(
                    "frame {} at byte {} is damaged but frame {} at byte {at} is whole",
                    self.next_lsn, self.position, header.lsn
                );
                return Err(LogError::corrupt(self.path, detail));
            }
            at += 1;
        }
        Ok(())
    }

    fn into_file(self) -> WalFile {
        WalFile {
            path: self.path.to_owned(),
            file: self.file,
            sequence: self.header.sequence,
            salt: self.header.salt,
            bytes: self.bytes,
            position: self.position,
        }
    }
}
