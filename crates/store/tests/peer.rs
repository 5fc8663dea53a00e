//! A real system, started for one test by the script that `cargo xtask peers` uses, and stopped with it.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What `cargo xtask test` has installed under this variable; else a printed skip.
pub fn tool(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set; cargo xtask test sets it");
    }
    found
}

/// A running system and its folder.
pub struct Peer {
    process: Child,
    /// What the system says of itself when it is ready.
    told: HashMap<String, String>,
    /// Its data and what it says on standard error; removed when it has ended.
    folder: tempfile::TempDir,
}

impl Peer {
    /// Starts `xtask/peers/NAME/start.sh` with what is installed, and waits until it is ready.
    pub fn start(name: &str, installed: &Path) -> Self {
        // Cargo says it when it runs the tests, too: the binary may be from another checkout with the same target folder.
        let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).ancestors().find(|path| path.join("xtask").is_dir()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("start.log")).unwrap();
        let mut process = Command::new("bash")
            .arg(root.join("xtask/peers").join(name).join("start.sh"))
            .arg(installed)
            .arg("0")
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group, so that the end of it is the end of all it started.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("READY ") {
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                panic!("{name} did not start:\n{}", last_words(&folder));
            }
        }
        let words = line.split_whitespace().filter_map(|word| word.split_once('='));
        let told = words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { process, told, folder }
    }

    /// What it told under a name, like its endpoint.
    pub fn told(&self, name: &str) -> &str {
        self.told.get(name).unwrap_or_else(|| panic!("{name} is not in {:?}", self.told))
    }
}

/// The end of what a system has said on standard error.
fn last_words(folder: &tempfile::TempDir) -> String {
    let log = std::fs::read_to_string(folder.path().join("start.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the system under test said:\n{}", last_words(&self.folder));
        }
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.process.wait();
    }
}
