//! The doors: clock, randomness and disk. Rooms reach the outside world only through these.

use crate::CrashPoint;
use parking_lot::Mutex;
use rand::{RngCore, SeedableRng};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall clock and monotonic clock.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Randomness: ids and seeds.
pub trait Rng: Send + Sync + Debug {
    fn next_u64(&self) -> u64;

    /// A random (version 4) UUID.
    fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(
            (u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())).to_be_bytes(),
        )
        .into_uuid()
    }
}

/// A generator from a seed: the same seed gives the same numbers.
#[derive(Debug)]
pub struct SeededRng(Mutex<rand::rngs::SmallRng>);

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(rand::rngs::SmallRng::seed_from_u64(seed)))
    }

    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Mutex::new(rand::rngs::SmallRng::from_os_rng()))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Reading and writing; created empty when missing.
    Write,
    /// Reading and writing; fails with `AlreadyExists` when there is one.
    CreateNew,
}

/// What a directory listing and `metadata` tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskMetadata {
    pub path: PathBuf,
    pub is_dir: bool,
    /// Bytes; 0 for a directory.
    pub len: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

/// An open file. All positions are absolute, so one handle serves many threads.
pub trait DiskFile: Send + Sync + Debug {
    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`, growing the file as needed. Not durable until [`sync_data`](Self::sync_data).
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Bytes of the file.
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or zero-extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable (fdatasync). After an error the state on disk is unknown: stop writing.
    fn sync_data(&self) -> io::Result<()>;
}

/// A file system. A new or renamed name is durable only after [`sync_dir`](Self::sync_dir) of its folder.
pub trait Disk: Send + Sync + Debug {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// The folder and its parents; no error when it is there. Durable when it returns.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Entries of a folder, sorted by path; `NotFound` when it is missing.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DiskMetadata>>;
    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata>;
    /// Atomically replaces `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Atomically gives the file `from` the name `to`, failing with `AlreadyExists` when `to` is there. `from` is gone
    /// afterwards when it succeeds.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// A place where a crash must change nothing; see [`CrashPoint`].
    fn crash_point(&self, point: CrashPoint);

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let mut data = vec![0; file.len()? as usize];
        file.read_exact_at(&mut data, 0)?;
        Ok(data)
    }

    /// Writes a whole file durably beside its place and moves it there, replacing what was there.
    fn write_atomic(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let temporary = temporary_name(path);
        write_synced(self, &temporary, data)?;
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }
}

fn write_synced<D: Disk + ?Sized>(disk: &D, path: &Path, data: &[u8]) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Write)?;
    file.set_len(0)?;
    file.write_all_at(data, 0)?;
    file.sync_data()
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The set of doors that an assembly runs behind: the machine's, or a simulated world's.
#[derive(Clone, Debug)]
pub struct Doors {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub disk: Arc<dyn Disk>,
}
