//! What the machine has: room on the disk, memory that a process took.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes that are free on the disk of a folder.
///
/// # Errors
/// When the folder is not there.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a value of it; the call below fills it in.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a text that ends with zero, and a place to write to, which both live through the call.
    match unsafe { libc::statvfs(path.as_ptr(), &raw mut about) } {
        0 => Ok(about.f_bavail * about.f_frsize),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fails, with both figures, when less is free than a benchmark is going to write.
///
/// # Errors
/// With a sentence.
pub fn need_disk(folder: &Path, bytes: u64) -> Result<(), String> {
    let free = free_bytes(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match free >= bytes {
        true => Ok(()),
        false => Err(format!(
            "{} has {:.1} GB free, and this writes up to {:.1} GB: set TMPDIR to a folder of another disk, or make it smaller",
            folder.display(),
            free as f64 / 1e9,
            bytes as f64 / 1e9
        )),
    }
}

/// Bytes of all files below a folder.
pub fn size(folder: &Path) -> u64 {
    files(folder, "").iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// All files below a folder whose names end so.
pub fn files(folder: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path, ending)),
            false if path.to_string_lossy().ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The most memory that this process had resident since it started, or since [`forget_peak`]; 0 where the system does not
/// tell.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// Counts the peak from now on.
pub fn forget_peak() {
    // Where the system does not let us, the peak stays that since the start, which is never too little.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
