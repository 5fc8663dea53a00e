//! What the documents promise: a table's row that says yes names the test which shows it, in a comment that readers do
//! not see, and a row that says no names the code of its refusal.
//!
//! ```text
//! | `SELECT DISTINCT` | yes <!-- test: distinct_rows --> |
//! | `ORDER BY` | no: `RM-3005` |
//! ```
//!
//! The tests must exist, and so must every `RM-` code that a document names.

use std::collections::BTreeSet;

use super::syntax::Source;
use crate::checkout;

pub fn check() -> Result<Vec<String>, String> {
    let root = checkout::root();
    let (mut tests, mut codes) = (BTreeSet::new(), BTreeSet::new());
    for folder in ["crates", "tests"] {
        for file in checkout::files_below(&root.join(folder), ".rs")? {
            let text = checkout::read(&file)?;
            tests.extend(tests_of(&text));
            codes.extend(codes_of(&text));
        }
    }
    let mut findings = Vec::new();
    for file in checkout::files_below(&root.join("docs"), ".md")? {
        let found = findings_of(&checkout::read(&file)?, &tests, &codes);
        findings.extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", checkout::shown(&file))));
    }
    Ok(findings)
}

fn findings_of(text: &str, tests: &BTreeSet<String>, codes: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut finding = |what: String| findings.push((index + 1, what));
        let named = named_tests(line);
        let says = |word: &str| line.starts_with('|') && line.split('|').any(|cell| is_verdict(cell, word));
        if says("yes") && named.is_empty() {
            finding("it says yes and names no test: <!-- test: NAME -->".into());
        }
        if says("no") && codes_of(line).is_empty() {
            finding("it says no and names no RM- code".into());
        }
        for test in named.iter().filter(|test| !tests.contains(*test)) {
            finding(format!("there is no test `{test}`"));
        }
        for code in codes_of(line).difference(codes) {
            finding(format!("nothing in the sources tells RM-{code}"));
        }
    }
    findings
}

/// `yes`, `no: RM-3005`, `yes, on both sides`; not `no space left`.
fn is_verdict(cell: &str, word: &str) -> bool {
    let rest = cell.trim().strip_prefix(word);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ';', ',']) || rest.starts_with(" <!--"))
}

/// `<!-- test: one, two -->`
fn named_tests(line: &str) -> Vec<String> {
    let comments = line.split("<!-- test: ").skip(1).filter_map(|rest| rest.split_once(" -->"));
    comments.flat_map(|(names, _)| names.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// Functions that follow `#[test]` or `#[tokio::test]`.
fn tests_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in Source::parse(text).lines {
        let code = line.code.trim();
        if code.starts_with("#[") {
            is_test |= code.starts_with("#[test]") || code.contains("::test");
        } else if !code.is_empty() {
            let name = code.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
            found.extend(name.filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    found
}

/// The digits of `RM-3005`, and those of the ways in which code makes such a code.
fn codes_of(text: &str) -> BTreeSet<String> {
    let starts = ["RM-", "Code(", "Problem::new(", "refused("];
    let after = |start: &'static str| text.split(start).skip(1);
    let digits = |rest: &str| rest.trim_start().chars().take_while(char::is_ascii_digit).collect::<String>();
    // `SqlProblem::new(Code(…))` and a table of numbers both come by here; a code has four digits.
    let mut found: BTreeSet<String> = starts.iter().flat_map(|start| after(start).map(digits)).collect();
    // `_ => (ProblemKind::Invalid, 6032),`
    found.extend(after("(ProblemKind::").filter_map(|rest| rest.split_once(", ")).map(|(_, rest)| digits(rest)));
    found.retain(|code| code.len() == 4);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let found = findings_of(text, &set(&["distinct_rows"]), &set(&["3005"]));
        found.into_iter().map(|(line, what)| format!("{line}: {what}")).collect()
    }

    #[test]
    fn yes_needs_a_test_and_no_a_code() {
        assert_eq!(findings("| a | yes <!-- test: distinct_rows --> |\n| b | no: `RM-3005` |\n"), [""; 0]);
        assert_eq!(findings("| a | yes |\n| b | no; write a join |\n").len(), 2);
        assert_eq!(
            findings("| no space left | yes it is |\nyes or no\n```text\n| a | yes |\n```\n| a | note |\n"),
            [""; 0]
        );
    }

    #[test]
    fn tests_and_codes_must_exist() {
        assert_eq!(findings("| a | yes <!-- test: distinct_rows, gone --> |"), ["1: there is no test `gone`"]);
        assert_eq!(findings("an error, RM-9999"), ["1: nothing in the sources tells RM-9999"]);
    }

    #[test]
    fn tests_and_codes_are_found_in_sources() {
        let text =
            "#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn one() {}\n#[test]\nfn two() {}\nfn three() {}\n";
        assert_eq!(tests_of(text), ["one", "two"]);
        let codes = codes_of("Code(3001) \"RM-3002: x\" Problem::new(\n 7010, ) (ProblemKind::Data, 6034) Code(12)");
        assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["3001", "3002", "6034", "7010"]);
    }
}
