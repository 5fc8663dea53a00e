//! Other engines, in programs of their own that say each result in a line of JSON.

use serde_json::Value;
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `cargo xtask bench` installed a peer.
///
/// # Errors
/// When it did not start us.
pub fn installed(variable: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| format!("{variable} is not set: run this with cargo xtask bench"))
}

/// A script of the folder of benchmarks, run by a Python.
pub fn script(python: &Path, script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.arg(folder.join(script)).env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a peer to its end. Lines that are no objects are of its libraries, and are passed over.
///
/// # Errors
/// When it fails; what it says to standard error is seen.
pub fn lines(mut command: Command, mut each: impl FnMut(Value)) -> Result<(), Box<dyn Error>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with('{')
            && let Ok(said) = serde_json::from_str(&line)
        {
            each(said);
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
