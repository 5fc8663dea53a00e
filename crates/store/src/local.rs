//! The machine's file system as a [`Disk`].
//!
//! Durability follows POSIX: contents by fdatasync of the file, names by fsync of the folder. Paths are taken as they
//! are; relative ones are relative to the working directory.

use crate::crash;
use crate::lock::{Lock, LockError};
use parking_lot::Mutex;
use rivermere_base::{CrashPoint, Disk, DiskFile, DiskMetadata, OpenMode};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The real disk.
#[derive(Debug, Default)]
pub struct LocalDisk {
    /// Held while folders are made: who finds a folder made by another thread must not return before it is durable.
    making_folders: Mutex<()>,
}

impl LocalDisk {
    /// The disk of this machine. Arms the crash point that the environment names, if any.
    pub fn new() -> Self {
        // A wrong value is the business of whoever starts the process; see `arm_crash_from_environment`.
        let _ = crash::arm_crash_from_environment();
        Self::default()
    }

    /// Takes the lock file `path`, made when missing, until the returned guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's pid and command when another process (or another guard of this one) has it.
    pub fn lock(path: &Path) -> Result<Lock, LockError> {
        Lock::take(path)
    }
}

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true).create(true).truncate(false),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        Ok(Box::new(LocalFile(options.open(path).map_err(|error| at(path, error))?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let _making = self.making_folders.lock();
        let mut missing = Vec::new();
        let mut folder = path;
        while !folder.as_os_str().is_empty() && !folder.is_dir() {
            missing.push(folder);
            folder = folder.parent().unwrap_or(Path::new(""));
        }
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                done => done.map_err(|error| at(folder, error))?,
            }
            self.sync_dir(parent(folder))?;
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DiskMetadata>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| at(path, error))? {
            let path = entry?.path();
            match fs::metadata(&path) {
                Ok(found) => entries.push(describe(path, &found)),
                // Removed since the listing began, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&path, error)),
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        fs::metadata(path).map(|found| describe(path.to_owned(), &found)).map_err(|error| at(path, error))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|error| at(from, error))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_no_replace(from, to).map_err(|error| at(to, error))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|error| at(path, error))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path).map_err(|error| at(path, error))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| at(path, error))
    }

    fn crash_point(&self, point: CrashPoint) {
        crash::reached(point);
    }
}

/// One system call where the file system knows it; else a second name and the removal of the first, which leaves both
/// names after a crash in between but never replaces anything.
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return Ok(done?),
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn describe(path: PathBuf, found: &Metadata) -> DiskMetadata {
    let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    DiskMetadata {
        path,
        is_dir: found.is_dir(),
        len: if found.is_dir() { 0 } else { found.len() },
        modified_ms: modified.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    }
}

/// The same kind of error with the path in its text: the operating system's text has none.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), PathError { path: path.to_owned(), source: error })
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct PathError {
    path: PathBuf,
    source: io::Error,
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &LocalDisk, path: &Path, data: &[u8]) {
        let file = disk.open(path, OpenMode::Write).unwrap();
        file.write_all_at(data, 0).unwrap();
        file.sync_data().unwrap();
    }

    #[test]
    fn positions_are_absolute_and_a_gap_reads_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let file = disk.open(&folder.path().join("a"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"end", 4).unwrap();
        let mut all = [9; 7];
        file.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all, b"\0\0\0\0end");
        assert_eq!(file.read_exact_at(&mut [0; 4], 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(2).unwrap();
        assert_eq!(file.len().unwrap(), 2);
    }

    #[test]
    fn create_new_refuses_an_existing_file_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let path = folder.path().join("a");
        write(&disk, &path, b"1");
        let error = disk.open(&path, OpenMode::CreateNew).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("/a: "), "{error}");
        assert_eq!(disk.open(&folder.path().join("b"), OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn opening_for_writing_keeps_the_contents() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let path = folder.path().join("a");
        write(&disk, &path, b"123");
        write(&disk, &path, b"9");
        assert_eq!(disk.read(&path).unwrap(), b"923");
    }

    #[test]
    fn rename_replaces_and_rename_new_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        write(&disk, &a, b"a");
        write(&disk, &b, b"b");
        assert_eq!(disk.rename_new(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.read(&b).unwrap(), b"b");
        disk.rename_new(&a, &c).unwrap();
        assert!(disk.metadata(&a).is_err());
        disk.rename(&c, &b).unwrap();
        assert_eq!(disk.read(&b).unwrap(), b"a");
        assert_eq!(disk.rename_new(&a, &c).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn folders_are_made_with_their_parents_listed_sorted_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let deep = folder.path().join("x/y");
        disk.create_dir_all(&deep).unwrap();
        disk.create_dir_all(&deep).unwrap();
        write(&disk, &deep.join("2"), b"22");
        write(&disk, &deep.join("1"), b"1");
        disk.create_dir_all(&deep.join("0")).unwrap();
        let listed = disk.read_dir(&deep).unwrap();
        let told: Vec<_> =
            listed.iter().map(|e| (e.path.file_name().unwrap().to_str().unwrap(), e.is_dir, e.len)).collect();
        assert_eq!(told, [("0", true, 0), ("1", false, 1), ("2", false, 2)]);
        disk.remove_dir_all(&folder.path().join("x")).unwrap();
        assert_eq!(disk.read_dir(&deep).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_is_not_made_where_a_file_stands() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        write(&disk, &folder.path().join("a"), b"1");
        assert!(disk.create_dir_all(&folder.path().join("a")).is_err());
        assert!(disk.create_dir_all(&folder.path().join("a/b")).is_err());
    }

    #[test]
    fn write_atomic_replaces_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new();
        let path = folder.path().join("a");
        disk.write_atomic(&path, b"a longer text").unwrap();
        disk.write_atomic(&path, b"short").unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"short");
        assert_eq!(disk.read_dir(folder.path()).unwrap().len(), 1);
    }
}
