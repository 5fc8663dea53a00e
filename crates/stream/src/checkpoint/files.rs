//! Reading and writing the files of `state/`, with a crash point around every step.

use super::manifest::{FORMAT, Manifest};
use crate::error::{Result, StreamError};
use rivermere_base::{CrashPoint, Disk, Epoch, OpenMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct StateFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

/// Manifests kept, so that the one before the newest can be looked at.
const MANIFESTS_KEPT: usize = 2;

impl StateFiles {
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self> {
        let files = Self { disk, root: root.to_path_buf() };
        for folder in ["generations", "manifests", "runs", "staged"] {
            let path = root.join(folder);
            files.disk.create_dir_all(&path).map_err(StreamError::disk("cannot create", path))?;
        }
        Ok(files)
    }

    /// The newest manifest, if there is one.
    pub(crate) fn newest_manifest(&self) -> Result<Option<Manifest>> {
        let Some(newest) = self.numbered("manifests")?.pop() else { return Ok(None) };
        let path = self.manifest_path(newest);
        let data = self.disk.read(&path).map_err(StreamError::disk("cannot read", &path))?;
        let damaged = |message: String| StreamError::Damaged { path: path.clone(), message };
        let manifest: Manifest = serde_json::from_slice(&data).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("it has format {}, this version reads {FORMAT}", manifest.format)));
        }
        Ok(Some(manifest))
    }

    /// Takes the next generation: whoever held an older one is fenced from now on.
    pub(crate) fn take_generation(&self) -> Result<u64> {
        let generation = self.numbered("generations")?.pop().unwrap_or(0) + 1;
        let path = self.root.join("generations").join(format!("{generation:020}"));
        match self.disk.open(&path, OpenMode::CreateNew) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StreamError::Fenced { epoch: 0 }),
            Err(error) => return Err(StreamError::disk("cannot create", path)(error)),
        }
        let folder = self.root.join("generations");
        self.disk.sync_dir(&folder).map_err(StreamError::disk("cannot sync", folder))?;
        Ok(generation)
    }

    /// Writes a run's file durably; it counts only once a manifest names it.
    pub(crate) fn write_run(&self, name: &str, data: &[u8]) -> Result<()> {
        let points = [CrashPoint::BeforeRunWrite, CrashPoint::AfterRunWrite, CrashPoint::AfterRunSync];
        self.write(&self.root.join("runs").join(name), data, points)
    }

    pub(crate) fn read_run(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.root.join("runs").join(name);
        self.disk.read(&path).map_err(StreamError::disk("cannot read", &path))
    }

    pub(crate) fn staged_path(&self, view: &str, epoch: Epoch) -> PathBuf {
        self.root.join("staged").join(view).join(format!("{:020}.arrow", epoch.0))
    }

    pub(crate) fn write_staged(&self, view: &str, epoch: Epoch, data: &[u8]) -> Result<()> {
        let folder = self.root.join("staged").join(view);
        self.disk.create_dir_all(&folder).map_err(StreamError::disk("cannot create", folder))?;
        let points = [CrashPoint::BeforeStageWrite, CrashPoint::AfterStageWrite, CrashPoint::AfterStageSync];
        self.write(&self.staged_path(view, epoch), data, points)
    }

    /// Overwrites what an epoch that was never decided may have left.
    fn write(&self, path: &Path, data: &[u8], points: [CrashPoint; 3]) -> Result<()> {
        let [before, written, synced] = points;
        self.disk.crash_point(before);
        let file = self.disk.open(path, OpenMode::Write).map_err(StreamError::disk("cannot create", path))?;
        file.set_len(0).map_err(StreamError::disk("cannot write", path))?;
        file.write_all_at(data, 0).map_err(StreamError::disk("cannot write", path))?;
        self.disk.crash_point(written);
        file.sync_data().map_err(StreamError::disk("cannot sync", path))?;
        let folder = path.parent().unwrap_or(&self.root);
        self.disk.sync_dir(folder).map_err(StreamError::disk("cannot sync", folder))?;
        self.disk.crash_point(synced);
        Ok(())
    }

    /// Decides an epoch. After this returns, the epoch has happened.
    pub(crate) fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let path = self.manifest_path(manifest.epoch.0);
        let data = serde_json::to_vec(manifest)
            .map_err(|error| StreamError::Damaged { path: path.clone(), message: error.to_string() })?;
        let temporary = path.with_extension(format!("{}.tmp", manifest.generation));
        self.disk.crash_point(CrashPoint::BeforeManifestWrite);
        let file =
            self.disk.open(&temporary, OpenMode::Write).map_err(StreamError::disk("cannot create", &temporary))?;
        file.set_len(0).map_err(StreamError::disk("cannot write", &temporary))?;
        file.write_all_at(&data, 0).map_err(StreamError::disk("cannot write", &temporary))?;
        self.disk.crash_point(CrashPoint::AfterManifestWrite);
        file.sync_data().map_err(StreamError::disk("cannot sync", &temporary))?;
        self.disk.crash_point(CrashPoint::AfterManifestSync);
        if self.numbered("generations")?.pop() != Some(manifest.generation) {
            return Err(StreamError::Fenced { epoch: manifest.epoch.0 });
        }
        match self.disk.rename_new(&temporary, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StreamError::Fenced { epoch: manifest.epoch.0 });
            }
            Err(error) => return Err(StreamError::disk("cannot put", path)(error)),
        }
        let folder = self.root.join("manifests");
        self.disk.sync_dir(&folder).map_err(StreamError::disk("cannot sync", folder))?;
        self.disk.crash_point(CrashPoint::AfterManifestPut);
        Ok(())
    }

    /// Removes what neither the newest manifest nor the one before it names, and staged output that tables have.
    pub(crate) fn clean(&self, newest: &Manifest, before: Option<&Manifest>) -> Result<()> {
        self.disk.crash_point(CrashPoint::BeforeStateCleanup);
        let manifests = self.numbered("manifests")?;
        for old in manifests.iter().rev().skip(MANIFESTS_KEPT) {
            self.remove(&self.manifest_path(*old))?;
        }
        let named = |file: &str| {
            newest.runs.iter().chain(before.iter().flat_map(|manifest| &manifest.runs)).any(|run| run.file == file)
        };
        for entry in self.list(&self.root.join("runs"))? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !named(&name) {
                self.remove(&entry)?;
            }
        }
        for sink in &newest.sinks {
            for entry in self.list(&self.root.join("staged").join(&sink.view))? {
                let epoch = number_of(&entry).unwrap_or(u64::MAX);
                if epoch <= sink.confirmed.0 {
                    self.remove(&entry)?;
                }
            }
        }
        self.disk.crash_point(CrashPoint::AfterStateCleanup);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StreamError::disk("cannot remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn manifest_path(&self, epoch: u64) -> PathBuf {
        self.root.join("manifests").join(format!("{epoch:020}.json"))
    }

    /// Numbers in the names of a folder's finished files, ascending.
    fn numbered(&self, folder: &str) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> =
            self.list(&self.root.join(folder))?.iter().filter_map(|path| number_of(path)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        match self.disk.read_dir(folder) {
            Ok(entries) => Ok(entries.into_iter().map(|entry| entry.path).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(StreamError::disk("cannot list", folder)(error)),
        }
    }
}

/// `000…12.json` is 12; a temporary file has none.
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let (number, rest) = name.split_at_checked(20)?;
    let finished = rest.is_empty() || matches!(rest, ".json" | ".arrow" | ".run");
    if finished { number.parse().ok() } else { None }
}
