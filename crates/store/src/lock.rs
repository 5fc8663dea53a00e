//! One process per folder: a lock file that tells the second one who the first is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Longest command kept in a lock file, and most bytes read from one.
const MAX_TEXT: usize = 256;

/// A held lock file; released when dropped or when the process ends, however it ends (flock). The file stays.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "RM-1102: {} is in use by {}: stop that process, or choose another folder",
        path.display(),
        holder(*pid, command)
    )]
    Held {
        path: PathBuf,
        /// Process id of the holder; `None` when it has not written it yet.
        pid: Option<u32>,
        /// What the holder runs, without its options; may be empty.
        command: String,
    },
    /// The file could not be opened, locked or written.
    #[error("RM-1103: the lock file {} could not be used: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn holder(pid: Option<u32>, command: &str) -> String {
    match pid {
        Some(pid) => format!("process {pid} ({command})"),
        None => "another process".to_owned(),
    }
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (pid, command) = read_holder(&mut file).map_err(failed)?;
                return Err(LockError::Held { path: path.to_owned(), pid, command });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Written at once over the old text, then cut: a reader in between sees a whole first line.
        let text = format!("{} {}\n", std::process::id(), command());
        file.rewind().and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        file.set_len(text.len() as u64).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _file: file })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn read_holder(file: &mut File) -> io::Result<(Option<u32>, String)> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MAX_TEXT as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default();
    let (pid, command) = line.split_once(' ').unwrap_or((line, ""));
    Ok((pid.parse().ok(), command.to_owned()))
}

/// Program name and words up to the first option: options may carry what others must not read.
fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = words.take_while(|word| !word.starts_with('-'));
    let line = std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(MAX_TEXT / 8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        let LockError::Held { pid, command, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(!command.is_empty());
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_holder_that_wrote_nothing_yet_is_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let held = File::create(&path).unwrap();
        held.lock().unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let error = Lock::take(&folder.path().join("nowhere/LOCK")).unwrap_err();
        assert!(error.to_string().starts_with("RM-1103") && error.to_string().contains("nowhere/LOCK"), "{error}");
    }
}
