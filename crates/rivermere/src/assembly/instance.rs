//! The lock on a data folder, and the file that tells other commands where the process listens.

use crate::Problem;
use rivermere_serve::Addresses;
use rivermere_store::{LocalDisk, Lock};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `instance.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceFile {
    pub pid: u32,
    pub name: String,
    pub addresses: Addresses,
}

/// Holds the folder until it is dropped.
pub(super) struct Instance {
    path: PathBuf,
    _lock: Lock,
}

impl Instance {
    pub(super) fn lock(data: &Path) -> Result<Self, Problem> {
        // The lock is the machine's own even when the data is on a simulated disk: it guards against other processes.
        std::fs::create_dir_all(data)
            .map_err(|error| Problem::new(7010, format!("cannot create {}: {error}", data.display())))?;
        let lock = LocalDisk::lock(&data.join("LOCK")).map_err(Problem::told)?;
        Ok(Self { path: data.join("instance.json"), _lock: lock })
    }

    /// Readable by the owner alone.
    pub(super) fn publish(&self, name: &str, addresses: &Addresses) -> Result<(), Problem> {
        let failed =
            |error: std::io::Error| Problem::new(7014, format!("cannot write {}: {error}", self.path.display()));
        let file = InstanceFile { pid: std::process::id(), name: name.into(), addresses: addresses.clone() };
        let text = serde_json::to_string_pretty(&file).map_err(|error| Problem::new(7014, error.to_string()))?;
        let temporary = self.path.with_extension("tmp");
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed)?;
        out.write_all(text.as_bytes()).map_err(failed)?;
        #[allow(clippy::disallowed_methods)] // not state: only tells where the process is
        std::fs::rename(&temporary, &self.path).map_err(failed)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
