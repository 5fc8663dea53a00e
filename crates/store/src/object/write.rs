//! Writing: beside the place, synced, then moved there.

use super::location::{Root, failed, generic, is_missing, tag};
use super::read;
use object_store::path::Path;
use object_store::{Error, PutMode, PutPayload, PutResult, Result};
use parking_lot::Mutex;
use rivermere_base::{CrashPoint, Disk, DiskFile, DiskMetadata, OpenMode};
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Held while an object is replaced or removed, so that what an `Update` compared is what it replaces.
static REPLACING: Mutex<()> = Mutex::new(());

/// Names tried for one file being written; more than that many are abandoned or at work.
const MAX_STAGED: u32 = 10_000;

/// Longest wait for the clock of the disk to tick: its files carry the time of the kernel's timer.
const MAX_TICKS: u32 = 100;
const TICK: Duration = Duration::from_millis(1);

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A file being written; removed when it is dropped unpublished.
#[derive(Debug)]
pub(super) struct Staged {
    disk: Arc<dyn Disk>,
    location: Path,
    target: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    published: bool,
}

impl Staged {
    /// An empty file beside the place of `location`, whose folder is made when missing.
    pub(super) fn create(root: &Root, location: &Path) -> Result<Self> {
        let target = root.file(location)?;
        root.disk.crash_point(CrashPoint::BeforeObjectWrite);
        let mut id = 1;
        loop {
            let path = staged_path(&target, id);
            match root.disk.open(&path, OpenMode::CreateNew) {
                Ok(file) => {
                    let (disk, location) = (root.disk.clone(), location.clone());
                    return Ok(Self { disk, location, target, path, file, published: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && id < MAX_STAGED => id += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound && id == 1 => {
                    // Once: when the folder is gone again, the next round fails for good.
                    root.disk.create_dir_all(parent(&target)).map_err(generic)?;
                    id = 2;
                }
                Err(error) => return Err(generic(error)),
            }
        }
    }

    /// Writes at a place of its own, for parts that arrive in parallel.
    pub(super) fn write_at(&self, payload: &PutPayload, mut offset: u64) -> Result<()> {
        for bytes in payload.iter() {
            self.file.write_all_at(bytes, offset).map_err(generic)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    pub(super) fn write_synced(&self, payload: &PutPayload) -> Result<()> {
        self.write_at(payload, 0)?;
        self.sync()
    }

    /// Makes the contents durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.disk.crash_point(CrashPoint::AfterObjectWrite);
        self.file.sync_data().map_err(generic)?;
        self.disk.crash_point(CrashPoint::AfterObjectSync);
        Ok(())
    }

    /// Moves the synced file to its place: durable on return.
    pub(super) fn publish(mut self, mode: &PutMode) -> Result<PutResult> {
        let written = match mode {
            PutMode::Create => {
                self.disk.rename_new(&self.path, &self.target).map_err(failed(&self.location))?;
                self.disk.metadata(&self.target).map_err(generic)?
            }
            PutMode::Overwrite => {
                let _replacing = REPLACING.lock();
                let there = self.there()?;
                self.replace(there)?
            }
            PutMode::Update(version) => {
                let _replacing = REPLACING.lock();
                let wanted =
                    version.e_tag.as_deref().ok_or_else(|| generic("an update needs the tag of what it replaces"))?;
                let there = self.there()?;
                let found = there.as_ref().map(tag);
                if found.as_deref() != Some(wanted) {
                    let found = found.unwrap_or_else(|| "no object".to_owned());
                    let source = format!("expected {wanted}, found {found}").into();
                    return Err(Error::Precondition { path: self.location.to_string(), source });
                }
                self.replace(there)?
            }
        };
        self.published = true;
        self.disk.crash_point(CrashPoint::AfterObjectRename);
        self.disk.sync_dir(parent(&self.target)).map_err(generic)?;
        Ok(PutResult { e_tag: Some(tag(&written)), version: None })
    }

    fn there(&self) -> Result<Option<DiskMetadata>> {
        match self.disk.metadata(&self.target) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(generic(error)),
        }
    }

    /// Takes the place of `there`, with another tag.
    fn replace(&self, there: Option<DiskMetadata>) -> Result<DiskMetadata> {
        let mut written = self.disk.metadata(&self.path).map_err(generic)?;
        let mut ticks = 0;
        while there.as_ref().is_some_and(|there| tag(there) == tag(&written)) {
            if ticks == MAX_TICKS {
                return Err(generic(format!("the disk's clock stands still: '{}' would keep its tag", self.location)));
            }
            ticks += 1;
            std::thread::sleep(TICK);
            // The same length again stamps the file anew.
            self.file.set_len(written.len).and_then(|()| self.file.sync_data()).map_err(generic)?;
            written = self.disk.metadata(&self.path).map_err(generic)?;
        }
        self.disk.rename(&self.path, &self.target).map_err(failed(&self.location))?;
        Ok(written)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: a file that stays is hidden, and never mistaken for an object.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

/// Copies an object: durable on return.
pub(super) fn copy(root: &Root, from: &Path, to: &Path, replace: bool) -> Result<()> {
    let (source, found) = read::open(root, from)?;
    let staged = Staged::create(root, to)?;
    let mut buffer = Vec::new();
    let mut offset = 0;
    while offset < found.size {
        let rest = usize::try_from(found.size - offset).unwrap_or(usize::MAX);
        buffer.resize(rest.min(COPY_BYTES), 0);
        source.read_exact_at(&mut buffer, offset).map_err(generic)?;
        staged.file.write_all_at(&buffer, offset).map_err(generic)?;
        offset += buffer.len() as u64;
    }
    staged.sync()?;
    staged.publish(if replace { &PutMode::Overwrite } else { &PutMode::Create })?;
    Ok(())
}

/// Moves an object: durable on return, at the new place only.
pub(super) fn rename(root: &Root, from: &Path, to: &Path, replace: bool) -> Result<()> {
    let (source, target) = (root.file(from)?, root.file(to)?);
    // A folder is no object, whatever its name.
    read::open(root, from)?;
    root.disk.create_dir_all(parent(&target)).map_err(generic)?;
    if replace {
        let _replacing = REPLACING.lock();
        root.disk.rename(&source, &target).map_err(failed(from))?;
    } else {
        root.disk.rename_new(&source, &target).map_err(failed(to))?;
    }
    root.disk.crash_point(CrashPoint::AfterObjectRename);
    root.disk.sync_dir(parent(&target)).map_err(generic)?;
    if parent(&source) != parent(&target) {
        root.disk.sync_dir(parent(&source)).map_err(generic)?;
    }
    Ok(())
}

/// Removes an object.
pub(super) fn remove(root: &Root, location: Path) -> Result<Path> {
    let path = root.file(&location)?;
    let _replacing = REPLACING.lock();
    root.disk.remove_file(&path).map_err(failed(&location))?;
    Ok(location)
}

fn staged_path(target: &FilePath, id: u32) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(format!("#{id}"));
    name.into()
}

fn parent(path: &FilePath) -> &FilePath {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(FilePath::new("."))
}
