//! `cargo xtask tidy`: the rules of this project that no compiler checks.
//!
//! One file per subject. A rule answers its findings, each one line that starts with the place; no findings is good.

mod edges;
mod format;
mod links;
mod names;
mod reasons;
mod sources;
mod support;
mod syntax;

use crate::{Outcome, Problem};

pub const HELP: &str = "\
Checks the rules that no compiler checks, and prints a line for each finding.

usage: cargo xtask tidy

  - a crate depends only on the rooms that ARCHITECTURE.md lets it know
  - every outside crate is named once, in the root manifest, with its reason
  - nothing is named common, util, core, server, manager or helpers
  - no file of Rust is longer than 1,000 lines
  - no todo!, unimplemented! or dbg! anywhere in crates/
  - no unwrap, expect or panic! in crates/ outside tests; `// tidy: REASON` on the line or above it allows one
  - links in Markdown lead to a file, and to a heading of it
  - a table in docs/ that says yes names a test, one that says no names a code, and both exist
  - the code is formatted by rustfmt

example:
  cargo xtask tidy
";

/// A rule in words, and what it found.
type Rule = (&'static str, fn() -> Result<Vec<String>, String>);

const RULES: &[Rule] = &[
    ("crates know only the rooms they may know", edges::check),
    ("outside crates are named once, with a reason", reasons::check),
    ("names say what a thing is", names::check),
    ("files have one subject", sources::lengths),
    ("nothing is left unfinished", sources::unfinished),
    ("nothing panics outside tests", sources::panics),
    ("links in Markdown lead somewhere", links::check),
    ("what the documents promise is tested", support::check),
    ("the code is formatted", format::check),
];

/// Every rule with its findings. A rule that could not look has that as its finding.
pub fn check() -> Vec<(&'static str, Vec<String>)> {
    RULES.iter().map(|(name, rule)| (*name, rule().unwrap_or_else(|error| vec![error]))).collect()
}

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(Problem::Usage(format!("tidy takes no arguments, not `{argument}`")));
    }
    let mut good = true;
    for (rule, findings) in check() {
        let verdict = if findings.is_empty() { "ok" } else { "FAILED" };
        println!("{verdict:<7} {rule}");
        for finding in &findings {
            println!("        {finding}");
        }
        good &= findings.is_empty();
    }
    Ok(good)
}
