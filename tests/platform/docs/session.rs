//! A reader at work: a folder, a shell, and the platform that the last `rivermere run` has started.

use super::blocks::{Block, commands};
use super::compare::{json_fits, text_fits};
use crate::process::{Process, binary, run, tool};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest run of one command.
const LIMIT: Duration = Duration::from_secs(120);
/// Longest wait until a command that reads answers as shown.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(100);

/// Programs that the documents use and that a machine may lack; the variable that names each.
const TOOLS: [(&str, Option<&str>); 4] = [
    ("kcat", Some("RIVERMERE_KCAT")),
    ("psql", Some("RIVERMERE_PSQL")),
    ("python3", Some("RIVERMERE_PYTHON")),
    ("curl", None),
];

/// The addresses that the documents name.
const SHOWN: [&str; 3] = ["127.0.0.1:8080", "127.0.0.1:9092", "127.0.0.1:5433"];

pub struct Session {
    folder: TempDir,
    process: Option<Process>,
    follower: Option<Follower>,
}

impl Session {
    pub fn new() -> Self {
        let session = Self { folder: tempfile::tempdir().unwrap(), process: None, follower: None };
        std::fs::create_dir(session.programs()).unwrap();
        symlink(binary(), session.programs().join("rivermere")).unwrap();
        // What curl does at a terminal, where it shows no progress.
        std::fs::write(session.programs().join(".curlrc"), "silent\nshow-error\n").unwrap();
        for (name, variable) in TOOLS {
            if let Some(path) = variable.and_then(std::env::var_os) {
                symlink(path, session.programs().join(name)).unwrap();
            }
        }
        session
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join(".programs")
    }

    /// The reader saves a file.
    pub fn write(&mut self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn copy(&mut self, from: &Path, to: &str) {
        let to = self.folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }

    /// `rivermere run PROJECT` or `rivermere demo [PROJECT]`, in the place of the one that ran before.
    pub fn start(&mut self, words: &[&str]) {
        self.follower = None;
        self.process = None;
        let is_option = |word: &str| word.starts_with('-') || word == "max";
        let default = if words[0] == "demo" { "flights-demo" } else { "." };
        let project = words[1..].iter().find(|word| !is_option(word)).unwrap_or(&default);
        let data = self.folder.path().join(project).join("data");
        self.process = Some(Process::start(self.folder.path(), &data, words));
        self.settle();
    }

    /// Waits until the views hold what the topics hold.
    fn settle(&mut self) {
        if let Some(process) = &mut self.process {
            process.wait_for("the views to catch up", |process| {
                let status = process.status();
                (status["state"] == "running" && status["lag"] == 0).then_some(())
            });
        }
    }

    /// Runs a block and compares what it prints with what is shown, if anything is.
    pub fn run(&mut self, place: &str, block: &Block, shown: Option<&Block>, fails: bool) {
        if let Some(missing) = missing_tool(block) {
            println!("{place}: skipped: {missing} is not there");
            return;
        }
        let mut commands = match block.kind.as_str() {
            "sh" => commands(&block.text),
            _ => vec![block.text.clone()],
        };
        // What only reads, at the end of the block, is asked until it fits.
        let reading = commands.iter().rev().take_while(|command| only_reads(command)).count();
        let asked = commands.split_off(commands.len() - reading);
        let mut before = String::new();
        for command in commands {
            before.push_str(&self.command(place, &block.kind, &command, shown, fails));
        }
        let start = Instant::now();
        loop {
            let mut printed = before.clone();
            let mut is_ready = true;
            for command in &asked {
                let (success, said) = self.attempt(place, &block.kind, command, shown);
                printed.push_str(&said);
                is_ready &= success != fails;
            }
            // A table that a view is stored in is made a moment after the view.
            if !is_ready {
                assert!(start.elapsed() < PATIENCE, "{place}: {asked:?}:\n{printed}");
                std::thread::sleep(AGAIN);
                continue;
            }
            let Some(shown) = shown else { return };
            let fits = match shown.kind.as_str() {
                "json" => json_fits(&shown.text, &printed),
                _ => text_fits(&shown.text, &printed),
            };
            if fits {
                return;
            }
            assert!(
                !asked.is_empty() && start.elapsed() < PATIENCE,
                "{place}: it is shown as\n{}\nand is\n{printed}",
                shown.text
            );
            std::thread::sleep(AGAIN);
        }
    }

    /// Runs one command; what it printed.
    fn command(&mut self, place: &str, kind: &str, text: &str, shown: Option<&Block>, fails: bool) -> String {
        let (success, printed) = self.attempt(place, kind, text, shown);
        assert_eq!(success, !fails, "{place}: {text}:\n{printed}");
        printed
    }

    /// Whether a command succeeded, and what it printed.
    fn attempt(&mut self, place: &str, kind: &str, text: &str, shown: Option<&Block>) -> (bool, String) {
        let text = text.replace("cargo run -- ", "rivermere ");
        let words: Vec<&str> = text.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        if matches!(words.as_slice(), ["rivermere", "run" | "demo", ..]) && !words.contains(&"--once") {
            self.start(&words[1..]);
            return (true, String::new());
        }
        let mut command = match kind {
            "sql" => {
                let mut command = Command::new(binary());
                let process = self.process.as_ref().unwrap_or_else(|| panic!("{place}: nothing runs"));
                command.args(["sql", "--url", &process.http, "-c", &text]);
                command
            }
            "python" => {
                // Arrow's threads may abort the process while the interpreter takes itself down: it leaves at once.
                let mut command = Command::new(tool("RIVERMERE_PYTHON").unwrap());
                command.args(["-c", &format!("{text}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n")]);
                command
            }
            _ => {
                let mut command = Command::new("bash");
                command.args(["-euo", "pipefail", "-c", &self.translated(&text, true)]);
                command
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command.current_dir(self.folder.path()).env("PATH", format!("{}:{path}", self.programs().display()));
        command.env("CURL_HOME", self.programs());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RIVERMERE_")) {
            command.env_remove(name);
        }
        if words.first() == Some(&"curl") && words.contains(&"-N") {
            let follower = Follower::start(command);
            follower
                .wait_for(place, shown.map_or("…", |shown| shown.text.as_str()), |text| self.translated(text, false));
            self.follower = Some(follower);
            return (true, shown.map(|shown| shown.text.clone()).unwrap_or_default());
        }
        let (status, printed) = run(&mut command, LIMIT);
        if !only_reads(&text) {
            self.settle();
        }
        let mut printed = self.translated(&printed, false);
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        (status.success(), printed)
    }

    /// Compares with what the follower has printed since the last comparison.
    pub fn goes_on(&mut self, place: &str, shown: &str) {
        let follower = self.follower.as_ref().unwrap_or_else(|| panic!("{place}: no command goes on"));
        follower.wait_for(place, shown, |text| self.translated(text, false));
    }

    /// The addresses of the documents as those of the process, or back.
    fn translated(&self, text: &str, inwards: bool) -> String {
        let Some(process) = &self.process else { return text.to_string() };
        let http = process.http.trim_start_matches("http://").to_string();
        let pg = process.pg.split('@').next_back().and_then(|rest| rest.split('/').next()).unwrap().to_string();
        let real = [http, process.kafka.clone(), pg];
        SHOWN.iter().zip(&real).fold(text.to_string(), |text, (shown, real)| {
            if inwards { text.replace(shown, real) } else { text.replace(real.as_str(), shown) }
        })
    }
}

/// A command that prints until it is ended.
struct Follower {
    child: Child,
    /// What it has printed and nobody has compared.
    printed: Arc<Mutex<String>>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        // A group of its own, so that what the shell has started ends with it.
        let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let (out, kept) = (child.stdout.take().unwrap(), printed.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, printed }
    }

    fn wait_for(&self, place: &str, shown: &str, translated: impl Fn(&str) -> String) {
        let start = Instant::now();
        loop {
            {
                let mut printed = self.printed.lock().unwrap();
                if !printed.is_empty() && text_fits(shown, &translated(&printed)) {
                    printed.clear();
                    return;
                }
                assert!(start.elapsed() < PATIENCE, "{place}: it is shown as\n{shown}\nand is\n{printed}");
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// A program that the block uses and that is not there.
fn missing_tool(block: &Block) -> Option<&'static str> {
    let used = |name: &str| match block.kind.as_str() {
        "python" => name == "python3",
        "sql" => false,
        _ => block.text.split(|c: char| !c.is_alphanumeric()).any(|word| word == name),
    };
    let there = |name: &str, variable: Option<&str>| match variable {
        Some(variable) => std::env::var_os(variable).is_some(),
        None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(name).is_file()),
    };
    TOOLS.iter().find(|(name, variable)| used(name) && !there(name, *variable)).map(|(name, _)| *name)
}

/// Whether a command may be run again: it sends and changes nothing.
fn only_reads(command: &str) -> bool {
    let words: Vec<String> = command
        .split(|c: char| !(c.is_alphanumeric() || c == '-'))
        .filter(|word| !word.is_empty())
        .map(str::to_uppercase)
        .collect();
    let writes = ["INSERT", "CREATE", "DROP", "PRODUCE", "INIT", "RUN", "DEMO", "-P", "--DATA-BINARY", "MKDIR", "CP"];
    let sends = words.iter().zip(words.iter().skip(1)).any(|(word, next)| word == "-D" && next != "SELECT");
    !sends && !words.iter().any(|word| writes.contains(&word.as_str()))
}

#[test]
fn what_only_reads_is_told_from_what_writes() {
    for reads in ["curl -d 'SELECT COUNT(*)' http://x/v1/sql", "SELECT 1;", "kcat -b x -C -t orders -e", "SHOW TABLES"]
    {
        assert!(only_reads(reads), "{reads}");
    }
    for writes in
        ["curl -d '{\"id\": 1}' http://x", "echo 1 | kcat -P -t a", "INSERT INTO t VALUES (1)", "rivermere init a"]
    {
        assert!(!only_reads(writes), "{writes}");
    }
}
