//! Runs `cargo test` for the whole workspace, shows its output as it comes, and counts from it.
//!
//! Cargo names the test binary on standard error and the binary counts on standard output, so both go into one pipe and
//! keep their order.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::summary::Suite;
use crate::checkout;

/// A run that prints nothing for this long hangs: the slowest crate to compile takes a few minutes, a test far less.
const SILENCE: Duration = Duration::from_secs(12 * 60);

/// What the test harness says of a test that has not ended after a minute.
const LONG: &str = " has been running for over 60 seconds";

pub fn run(variables: &[(String, PathBuf)], full: bool) -> Result<Vec<Suite>, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let errors = writer.try_clone().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let mut cargo = checkout::cargo();
    cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if full {
        cargo.args(["--", "--include-ignored"]);
    }
    cargo.envs(variables.iter().map(|(name, path)| (name, path)));
    cargo.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = cargo.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    // The command holds our ends of the pipe, which would keep it open for ever.
    drop(cargo);

    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { break };
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut count = Count::default();
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                println!("{line}");
                count.line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // The test binary is cargo's child, and would go on alone.
                let _ = Command::new("pkill").args(["-KILL", "-P", &child.id().to_string()]).status();
                let _ = child.kill();
                count.hangs();
                break;
            }
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    Ok(count.finish(status.success()))
}

/// Counts from the lines that cargo and the test binaries print.
#[derive(Default)]
struct Count {
    suites: Vec<Suite>,
    current: Option<Suite>,
    /// The last test that was named, for the message about a run that hangs.
    last: String,
    /// Tests that run for more than a minute already.
    long: BTreeSet<String>,
}

impl Count {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        if let Some(name) = suite_name(trimmed) {
            // A suite without a result line died on the way.
            self.close(false);
            self.long.clear();
            self.current = Some(Suite::new(&name));
        } else if let Some(rest) = trimmed.strip_prefix("test result: ") {
            let suite = self.current.get_or_insert_with(|| Suite::new("tests"));
            add(suite, rest);
            self.close(true);
        } else if let Some(test) = trimmed.strip_prefix("test ").and_then(|test| test.strip_suffix(LONG)) {
            self.long.insert(test.to_owned());
        } else if let Some(test) = trimmed.strip_prefix("test ") {
            self.last = test.to_owned();
            if let Some((name, _)) = test.split_once(" ... ") {
                self.long.remove(name);
            }
            if let (Some(suite), Some(name)) = (&mut self.current, test.strip_suffix(" ... FAILED")) {
                suite.failures.push(name.to_owned());
            }
        }
    }

    fn hangs(&mut self) {
        let minutes = SILENCE.as_secs() / 60;
        let suite = self.current.get_or_insert_with(|| Suite::new("build"));
        suite.failed += 1;
        let long: Vec<&str> = self.long.iter().map(String::as_str).collect();
        let running = if long.is_empty() { "none that is known of".to_owned() } else { long.join(", ") };
        let message = format!("nothing was printed for {minutes} minutes; running: {running}; last: {}", self.last);
        suite.failures.push(message);
        self.close(true);
    }

    fn close(&mut self, has_result: bool) {
        if let Some(mut suite) = self.current.take() {
            if !has_result {
                suite.failed += 1;
                suite.failures.push("ended before it printed a result".to_owned());
            }
            self.suites.push(suite);
        }
    }

    fn finish(mut self, success: bool) -> Vec<Suite> {
        self.close(false);
        if !success && self.suites.iter().all(|suite| suite.failed == 0) {
            let failures = vec!["cargo test failed before or after the tests; see its messages above".to_owned()];
            self.suites.push(Suite { failed: 1, failures, ..Suite::new("build") });
        }
        self.suites
    }
}

/// `Running tests/it/main.rs (target/debug/deps/it-0123456789abcdef)` -> `it`
fn suite_name(line: &str) -> Option<String> {
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} (documentation)"));
    }
    let (source, binary) = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?;
    let file = binary.rsplit(['/', '\\']).next()?.trim_end_matches(".exe");
    let name = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
    Some(if source.starts_with("unittests") { name.to_owned() } else { format!("{name} ({source})") })
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s`
fn add(suite: &mut Suite, result: &str) {
    let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
    for part in counts.split(';').map(str::trim) {
        let count = |word: &str| part.strip_suffix(word).and_then(|number| number.trim().parse::<u64>().ok());
        if let Some(number) = count("passed") {
            suite.passed += number;
        } else if let Some(number) = count("failed") {
            suite.failed += number;
        } else if let Some(number) = count("ignored") {
            suite.skipped += number;
        } else if let Some(seconds) = part.strip_prefix("finished in ").and_then(|time| time.strip_suffix('s')) {
            suite.seconds += seconds.parse().unwrap_or(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(output: &str, success: bool) -> Vec<Suite> {
        let mut count = Count::default();
        output.lines().for_each(|line| count.line(line));
        count.finish(success)
    }

    #[test]
    fn counts_are_read_per_suite() {
        let suites = counted(
            "     Running unittests src/lib.rs (target/debug/deps/rivermere_base-2c1f0a9b8d7e6f50)
running 2 tests
test ids::tests::one ... ok
test ids::tests::two ... ignored
test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s
     Running tests/it/main.rs (target/debug/deps/it-2c1f0a9b8d7e6f50)
test it_fails ... FAILED
test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
   Doc-tests rivermere_base
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            false,
        );
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["rivermere_base", "it (tests/it/main.rs)", "rivermere_base (documentation)"]);
        assert_eq!((suites[0].passed, suites[0].failed, suites[0].skipped, suites[0].seconds), (1, 0, 1, 0.25));
        assert_eq!((suites[1].passed, suites[1].failed), (4, 1));
        assert_eq!(suites[1].failures, ["it_fails"]);
        assert_eq!(suites.len(), 3, "a failure that was counted is not counted again as a failed build");
    }

    #[test]
    fn a_binary_that_dies_before_its_result_is_a_failure() {
        let suites = counted("     Running unittests src/lib.rs (target/debug/deps/a-00)\ntest x ... ", false);
        assert_eq!((suites.len(), suites[0].failed), (1, 1));
    }

    #[test]
    fn a_build_that_fails_is_a_failure() {
        let suites = counted("error: could not compile `rivermere-log`", false);
        assert_eq!((suites.len(), suites[0].name.as_str(), suites[0].failed), (1, "build", 1));
    }

    #[test]
    fn a_run_that_hangs_names_the_tests_that_run_and_the_last_one_that_ended() {
        let mut count = Count::default();
        count.line("     Running unittests src/lib.rs (target/debug/deps/a-00)");
        count.line("test waits::for_ever has been running for over 60 seconds");
        count.line("test waits::long has been running for over 60 seconds");
        count.line("test waits::long ... ok");
        count.line("test quick ... ok");
        count.hangs();
        let suites = count.finish(false);
        assert!(suites[0].failures[0].contains("running: waits::for_ever; last: quick"), "{suites:?}");
    }
}
