//! What the binary says about itself.

use crate::process::run;
use crate::snapshot;
use std::path::Path;

fn check(name: &str, words: &[&str]) {
    snapshot::check(name, &run(Path::new("."), words).good());
}

#[test]
fn the_whole() {
    check("help", &["--help"]);
}

#[test]
fn every_word() {
    for word in ["demo", "init", "run", "sql", "check", "test", "topic", "status"] {
        check(&format!("help_{word}"), &[word, "--help"]);
    }
}

#[test]
fn every_verb_of_topic() {
    for verb in ["list", "create", "describe", "produce", "consume"] {
        check(&format!("help_topic_{verb}"), &["topic", verb, "--help"]);
    }
}

#[test]
fn the_version() {
    let said = run(Path::new("."), &["--version"]).good();
    assert_eq!(said, format!("rivermere {}\n", env!("CARGO_PKG_VERSION")));
}
