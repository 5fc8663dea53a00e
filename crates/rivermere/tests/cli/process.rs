//! Child processes that always end: a child that takes too long is killed, and the test sees its exit code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest life of a child. No test waits for it when all is well.
const LIFE: Duration = Duration::from_secs(180);

/// What a word that ended has said.
#[derive(Debug)]
pub struct Ended {
    /// -1 when a signal ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its stdout, when it succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its stderr, when it failed with the code and wrote nothing to stdout.
    #[track_caller]
    pub fn bad(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        self.err
    }
}

/// The binary with nothing of this process's environment that it looks at, in a folder.
pub fn rivermere(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivermere"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RIVERMERE_") {
            command.env_remove(name);
        }
    }
    for name in ["CARGO", "COLUMNS", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("TERM", "dumb").env("HOME", folder);
    command
}

/// Runs a word to its end.
pub fn run(folder: &Path, words: &[&str]) -> Ended {
    run_with(rivermere(folder).args(words), b"")
}

/// Runs a command to its end with a text on its stdin.
pub fn run_with(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A word that reads no stdin may be gone already.
    let _ = stdin.write_all(input);
    drop(stdin);
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let status = wait(&mut child);
    Ended { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let mut pipe = pipe.expect("the output is piped");
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.read_to_end(&mut text);
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver
}

fn text(receiver: &mpsc::Receiver<String>) -> String {
    receiver.recv_timeout(LIFE).unwrap_or_default()
}

/// Waits for the end, or brings it about.
fn wait(child: &mut Child) -> ExitStatus {
    let pid = child.id();
    let (ended, watched) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, libc::SIGKILL);
        }
    });
    let status = child.wait().expect("a child can be waited for");
    drop(ended);
    watchdog.join().expect("the watchdog ends");
    status
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill(2) has no memory to get wrong; the child is not waited for yet, so its id is still its own.
    unsafe { libc::kill(pid as i32, signal) };
}

/// `rivermere run` of a project on free ports, from the moment it is ready.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    err: mpsc::Receiver<String>,
    /// What it wrote when it was ready.
    pub introduction: String,
}

impl Running {
    pub fn start(folder: &Path, words: &[&str]) -> Self {
        let mut command = rivermere(folder);
        command.arg("run").args(words).args(["--http", "0", "--kafka", "0", "--pg", "0"]);
        let mut child = command.spawn().expect("the binary starts");
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let err = reader(child.stderr.take());
        let mut introduction = String::new();
        // Its last line comes when all listeners are there; a child that fails closes its stdout instead.
        while !introduction.contains("\ntry: ") {
            let read = out.read_line(&mut introduction).expect("stdout is text");
            if read == 0 {
                let status = wait(&mut child);
                panic!("it did not start: {status}\n{introduction}\n{}", text(&err));
            }
        }
        Self { child, out, err, introduction }
    }

    /// What stands behind a name in the introduction.
    pub fn address(&self, name: &str) -> &str {
        let line = self.introduction.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.introduction)).trim()
    }

    /// Waits until the changes of a view, from its whole content on, hold a text.
    pub fn wait_for_change(&self, view: &str, text: &str) {
        let address = self.address("page").strip_prefix("http://").expect("the page has an address");
        let mut stream = TcpStream::connect(address).expect("the page can be reached");
        stream.set_read_timeout(Some(LIFE)).expect("a timeout can be set");
        write!(stream, "GET /v1/views/{view}/changes HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it can be asked");
        let mut seen = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap_or_else(|error| panic!("{error}: no {text} in\n{seen}"));
            seen.push_str(&line);
            seen.push('\n');
            if line.contains(text) {
                return;
            }
        }
        panic!("the changes ended: no {text} in\n{seen}");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, number: i32) -> Ended {
        signal(self.child.id(), number);
        let status = wait(&mut self.child);
        let mut rest = String::new();
        let _ = self.out.read_to_string(&mut rest);
        Ended { code: status.code().unwrap_or(-1), out: rest, err: text(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that failed; a child that has ended is not killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
