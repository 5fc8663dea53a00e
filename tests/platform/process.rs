//! The binary as a child process, and what it answers over HTTP. A child never outlives its test.

use crate::harness::{PATIENCE, agent};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A running `rivermere` on free ports.
pub struct Process {
    child: Child,
    pub http: String,
    pub kafka: String,
    pub pg: String,
    errors: PathBuf,
}

impl Process {
    /// Starts a word of the command line that runs until it is ended, and waits until its listeners are there.
    pub fn start(folder: &Path, data: &Path, words: &[&str]) -> Self {
        let errors = folder.join("stderr.txt");
        let mut command = Command::new(binary());
        command.args(words).args(["--http", "0", "--kafka", "0", "--pg", "0", "--data"]).arg(data);
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors).unwrap());
        // Settings of whoever runs the tests are not ours.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RIVERMERE_")) {
            command.env_remove(name);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut process = Self { child, http: String::new(), kafka: String::new(), pg: String::new(), errors };
        let instance = process.wait_for("instance.json", |process| {
            let text = std::fs::read_to_string(data.join("instance.json")).ok()?;
            let instance: Value = serde_json::from_str(&text).ok()?;
            // A process that was killed leaves its file behind.
            (instance["pid"] == process.id()).then_some(instance)
        });
        let address = |what: &str| {
            instance["addresses"][what].as_str().unwrap_or_else(|| panic!("{what}: {instance}")).to_string()
        };
        process.http = address("http");
        process.kafka = address("kafka");
        process.pg = address("pg");
        process
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks until there is an answer; fails with what the process said when it has ended, or when time runs out.
    pub fn wait_for<T>(&mut self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = check(self) {
                return value;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("waiting for {what}: the process ended with {status}\n{}", self.said());
            }
            assert!(start.elapsed() < PATIENCE, "waited for {what} in vain\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The end of its standard error.
    fn said(&self) -> String {
        let text = std::fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4_000)..]).into_owned()
    }

    pub fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.http);
        let answered = agent().get(&url).call();
        let mut response = answered.unwrap_or_else(|error| panic!("{url}: {error}\n{}", self.said()));
        let answer = body(response.body_mut());
        assert!(response.status().is_success(), "{url}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    pub fn status(&self) -> Value {
        self.get("/v1/status")
    }

    /// The rows of a statement.
    pub fn sql(&self, text: &str) -> Value {
        let url = format!("{}/v1/sql", self.http);
        let mut response = agent()
            .post(&url)
            .content_type("application/json")
            .send(json!({ "sql": text }).to_string())
            .unwrap_or_else(|error| panic!("{text}: {error}\n{}", self.said()));
        let answer = body(response.body_mut());
        assert!(response.status().is_success(), "{text}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The one number of a statement.
    pub fn number(&self, text: &str) -> u64 {
        let rows = self.sql(text);
        let row = rows[0].as_object().unwrap_or_else(|| panic!("{text}: {rows}"));
        row.values().next().and_then(Value::as_u64).unwrap_or_else(|| panic!("{text}: {rows}"))
    }

    /// A line of `/proc/PID/status` in MiB.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes / 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Results of tests are larger than the client's limit for a body.
fn body(body: &mut ureq::Body) -> String {
    body.with_config().limit(1 << 30).read_to_string().unwrap()
}

/// The binary that cargo built beside the tests: `target/debug/deps/platform-…` and `target/debug/rivermere`.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary =
        test.parent().and_then(Path::parent).unwrap().join("rivermere").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        binary.is_file(),
        "{} is missing: `cargo test --workspace` builds it, and so does `cargo build -p rivermere`",
        binary.display()
    );
    binary
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a variable of `cargo xtask test` names; without it the test says that it is skipped.
pub fn tool(variable: &str) -> Option<PathBuf> {
    let tool = std::env::var_os(variable).map(PathBuf::from);
    if tool.is_none() {
        eprintln!("skipped: {variable} is not set; `cargo xtask test` sets it");
    }
    tool
}

/// Runs a command to its end, shows its lines as they come, and kills it when it takes too long.
pub fn run(command: &mut Command, limit: Duration) -> (ExitStatus, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    // The command holds our ends of the pipe, which would keep it open for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("  {line}");
            let _ = send.send(line);
        }
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{shown} takes longer than {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    // What a command has left behind, like a browser's helper, may hold the pipe open for ever.
    while let Ok(line) = lines.recv_timeout(LINGER) {
        text.push_str(&line);
        text.push('\n');
    }
    (status, text)
}

/// Longest wait for the next line of a command that has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Runs a command that must succeed; what it said.
#[track_caller]
pub fn succeed(command: &mut Command, limit: Duration) -> String {
    let (status, text) = run(command, limit);
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}
