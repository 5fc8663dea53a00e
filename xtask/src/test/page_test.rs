//! Runs the tests of the live page that need no server: `npm test` in tests/pages.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::summary::Suite;
use crate::checkout;

/// The suite, when there is one.
pub fn run() -> Result<Option<Suite>, String> {
    let folder = checkout::root().join("tests/pages");
    if !folder.join("package.json").exists() {
        return Ok(None);
    }
    let start = Instant::now();
    let output = Command::new("npm")
        .args(["--silent", "test"])
        .env("NODE_OPTIONS", "--test-reporter=tap")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start npm: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut suite = count(&text, output.status.success());
    suite.seconds = start.elapsed().as_secs_f64();
    if suite.failed > 0 {
        print!("{text}");
    }
    Ok(Some(suite))
}

/// Counts from the Test Anything Protocol: one line per test, sub-tests indented, totals at the end.
fn count(text: &str, success: bool) -> Suite {
    let mut suite = Suite::new("pages");
    for line in text.lines() {
        let total = |word: &str| line.strip_prefix(word).and_then(|number| number.trim().parse::<u64>().ok());
        if let Some(number) = total("# pass ") {
            suite.passed = number;
        } else if let Some(number) = total("# fail ") {
            suite.failed = number;
        } else if let Some(number) = total("# skipped ") {
            suite.skipped = number;
        } else if let Some((_, name)) =
            line.trim_start().strip_prefix("not ok ").and_then(|rest| rest.split_once(" - "))
        {
            suite.failures.push(name.to_owned());
        }
    }
    if !success && suite.failed == 0 {
        suite.failed = 1;
        suite.failures.push("npm test failed before it counted anything".to_owned());
    }
    suite
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn totals_and_the_names_of_failures_are_read() {
        let suite = count("ok 1 - adds\nnot ok 2 - subtracts\n# tests 3\n# pass 2\n# fail 1\n# skipped 0\n", false);
        assert_eq!((suite.passed, suite.failed, suite.skipped), (2, 1, 0));
        assert_eq!(suite.failures, ["subtracts"]);
    }

    #[test]
    fn a_run_that_ends_before_it_counts_is_a_failure() {
        assert_eq!(count("SyntaxError", false).failed, 1);
    }
}
