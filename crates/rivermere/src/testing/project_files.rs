//! The disk of a test: simulated, except that the files which the project's tables read are the real ones.
//!
//! They are read where they are, so that a large one is not copied into memory for each test. They are never written.

use rivermere_base::{CrashPoint, Disk, DiskFile, DiskMetadata, OpenMode};
use rivermere_sim::SimDisk;
use rivermere_store::LocalDisk;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct DiskWithFiles {
    pub(super) simulated: SimDisk,
    pub(super) files: Arc<BTreeSet<PathBuf>>,
    real: LocalDisk,
}

impl DiskWithFiles {
    pub(super) fn new(simulated: SimDisk, files: Arc<BTreeSet<PathBuf>>) -> Self {
        Self { simulated, files, real: LocalDisk::new() }
    }

    /// Nothing can be read after the crash, these files neither.
    fn real(&self, path: &Path) -> io::Result<Option<&LocalDisk>> {
        if !self.files.contains(path) {
            return Ok(None);
        }
        self.simulated.metadata(Path::new("/"))?;
        Ok(Some(&self.real))
    }
}

impl Disk for DiskWithFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        match self.real(path)? {
            Some(real) if mode == OpenMode::Read => real.open(path, mode),
            Some(_) => Err(io::ErrorKind::PermissionDenied.into()),
            None => self.simulated.open(path, mode),
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        match self.real(path)? {
            Some(real) => real.metadata(path),
            None => self.simulated.metadata(path),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.simulated.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DiskMetadata>> {
        self.simulated.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simulated.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simulated.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.simulated.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.simulated.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.simulated.sync_dir(path)
    }

    fn crash_point(&self, point: CrashPoint) {
        self.simulated.crash_point(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_files_are_real_until_the_crash_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let (named, other) = (folder.path().join("named"), folder.path().join("other"));
        std::fs::write(&named, "real").unwrap();
        std::fs::write(&other, "real").unwrap();
        let disk = DiskWithFiles::new(SimDisk::new(1), Arc::new(BTreeSet::from([named.clone()])));
        assert_eq!(disk.read(&named).unwrap(), b"real");
        assert_eq!(disk.open(&named, OpenMode::Write).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(disk.read(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.simulated.crash_now();
        assert!(disk.read(&named).is_err());
    }
}
