//! Write-ahead files `wal/<sequence, 20 digits>.wal`: filled with zeros before use, recycled after a checkpoint.
//!
//! ```text
//! magic u32 | version u32 | sequence u64 | first LSN u64 | salt u32 | CRC32C u32      then frames, then zeros
//! ```
//! A file gets its name only when its header is durable, so a file with a name always has a header.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rivermere_base::{CrashPoint, Disk, DiskFile, OpenMode};

use crate::LogError;

pub(super) const FILE_HEADER_BYTES: u64 = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"RMWL");
const VERSION: u32 = 1;
const ZEROS: usize = 1 << 20;

/// The folder of write-ahead files.
#[derive(Debug)]
pub(crate) struct WalFiles {
    pub dir: PathBuf,
    file_bytes: u64,
    /// Whether `spare.wal` is there, full-sized and synced.
    spare: Mutex<bool>,
}

/// The file that is being written.
#[derive(Debug)]
pub(crate) struct WalFile {
    pub path: PathBuf,
    pub file: Box<dyn DiskFile>,
    pub sequence: u64,
    pub salt: u32,
    pub bytes: u64,
    pub position: u64,
}

/// What the header of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub sequence: u64,
    pub first_lsn: u64,
    pub salt: u32,
}

impl FileHeader {
    pub fn encode(self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut out = [0; FILE_HEADER_BYTES as usize];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_lsn.to_le_bytes());
        out[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; FILE_HEADER_BYTES as usize]) -> Option<Self> {
        let [header @ .., c0, c1, c2, c3] = bytes;
        let number = |from: usize| Some(u32::from_le_bytes(header.get(from..from + 4)?.try_into().ok()?));
        let wide = |from: usize| Some(u64::from_le_bytes(header.get(from..from + 8)?.try_into().ok()?));
        let intact = crc32c::crc32c(header) == u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        if !intact || number(0)? != MAGIC || number(4)? != VERSION {
            return None;
        }
        Some(Self { sequence: wide(8)?, first_lsn: wide(16)?, salt: number(24)? })
    }
}

impl WalFiles {
    pub fn new(dir: PathBuf, file_bytes: u64) -> Self {
        Self { dir, file_bytes, spare: Mutex::new(false) }
    }

    pub fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:020}.wal"))
    }

    fn spare_path(&self) -> PathBuf {
        self.dir.join("spare.wal")
    }

    /// Files with a sequence number, ascending.
    pub fn list(&self, disk: &dyn Disk) -> Result<Vec<(u64, PathBuf)>, LogError> {
        let entries = disk.read_dir(&self.dir).map_err(|error| LogError::io("list", &self.dir, error))?;
        let numbered = entries.into_iter().filter_map(|entry| Some((sequence_of(&entry.path)?, entry.path)));
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort();
        Ok(numbered)
    }

    /// Starts file `sequence`, from the spare one when it is ready, with room for at least `frame_bytes`.
    pub fn create(
        &self,
        disk: &dyn Disk,
        (sequence, first_lsn, salt): (u64, u64, u32),
        file_bytes: Option<u64>,
        frame_bytes: usize,
    ) -> Result<WalFile, LogError> {
        disk.crash_point(CrashPoint::BeforeWalCreate);
        let room = frame_bytes as u64 + FILE_HEADER_BYTES;
        let mut spare = self.spare.lock();
        let (temporary, recycled) = match *spare && room <= self.file_bytes {
            true => (self.spare_path(), true),
            false => (self.dir.join("new.wal"), false),
        };
        let path = self.path(sequence);
        let header = FileHeader { sequence, first_lsn, salt };
        let create = || {
            let file = disk.open(&temporary, OpenMode::Write)?;
            if !recycled {
                fill(&*file, file_bytes.unwrap_or(self.file_bytes).max(room))?;
            }
            file.write_all_at(&header.encode(), 0)?;
            file.sync_data()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(&self.dir)?;
            let bytes = file.len()?;
            Ok((file, bytes))
        };
        let created = create();
        *spare &= !recycled;
        let (file, bytes) = created.map_err(|error| {
            // The space of a half-made file is worth more than the file; what cannot be removed now is at the next start.
            let _ = disk.remove_file(&temporary);
            LogError::io("create", &path, error)
        })?;
        disk.crash_point(CrashPoint::AfterWalCreate);
        Ok(WalFile { path, file, sequence, salt, bytes, position: FILE_HEADER_BYTES })
    }

    /// Makes the file that [`create`](Self::create) takes next, so that no append waits for the zeros.
    pub fn prepare_spare(&self, disk: &dyn Disk) -> Result<(), LogError> {
        let mut spare = self.spare.lock();
        if *spare {
            return Ok(());
        }
        let path = self.spare_path();
        let filled = disk.open(&path, OpenMode::Write).and_then(|file| {
            fill(&*file, self.file_bytes)?;
            file.sync_data()
        });
        match filled.map_err(|error| LogError::io("prepare", &path, error)) {
            Ok(()) => *spare = true,
            // The writer finds out itself when it needs the space, and tells the producer.
            Err(LogError::Full { .. }) => drop(disk.remove_file(&path)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives up all files before `sequence`: one becomes the spare, the others are removed.
    pub fn recycle_below(&self, disk: &dyn Disk, sequence: u64) -> Result<(), LogError> {
        for (_, path) in self.list(disk)?.into_iter().take_while(|(number, _)| *number < sequence) {
            let mut spare = self.spare.lock();
            let bytes = disk.metadata(&path).map_err(|error| LogError::io("look at", &path, error))?.len;
            let done = if *spare || bytes != self.file_bytes {
                disk.remove_file(&path)
            } else {
                *spare = true;
                disk.rename(&path, &self.spare_path())
            };
            done.map_err(|error| LogError::io("recycle", &path, error))?;
        }
        Ok(())
    }

    /// Removes leftovers of a crash while a file was being made.
    pub fn tidy(&self, disk: &dyn Disk) -> Result<(), LogError> {
        let entries = disk.read_dir(&self.dir).map_err(|error| LogError::io("list", &self.dir, error))?;
        for entry in entries.into_iter().filter(|entry| sequence_of(&entry.path).is_none()) {
            disk.remove_file(&entry.path).map_err(|error| LogError::io("remove", &entry.path, error))?;
        }
        Ok(())
    }
}

fn sequence_of(path: &Path) -> Option<u64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    (stem.len() == 20).then(|| stem.parse().ok())?
}

fn fill(file: &dyn DiskFile, bytes: u64) -> std::io::Result<()> {
    let zeros = vec![0; ZEROS.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let now = (zeros.len() as u64).min(bytes - at) as usize;
        file.write_all_at(&zeros[..now], at)?;
        at += now as u64;
    }
    file.set_len(bytes)
}
