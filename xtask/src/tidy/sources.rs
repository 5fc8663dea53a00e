//! What may stand in a Rust file: its length, nothing unfinished, nothing that panics outside tests.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::syntax::Source;
use crate::checkout;

const LINES_AT_MOST: usize = 1_000;

/// Never, not even in tests.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!("];

/// Not where users, data, disks or networks can cause it. `.expect(` with a quoted message is the standard library's;
/// a method of that name which takes something else is not.
const PANICS: &[&str] = &[".unwrap()", ".unwrap_err()", ".expect(\"", ".expect(&format!(", "panic!("];

/// The comment that allows one, with its reason.
const MARKER: &str = "// tidy: ";

pub fn lengths() -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for folder in ["crates", "tests", "benches", "xtask"] {
        for file in checkout::files_below(&checkout::root().join(folder), ".rs")? {
            let lines = checkout::read(&file)?.lines().count();
            if lines > LINES_AT_MOST {
                findings.push(format!("{}: {lines} lines: split it by subject", checkout::shown(&file)));
            }
        }
    }
    Ok(findings)
}

pub fn unfinished() -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for file in checkout::files_below(&checkout::root().join("crates"), ".rs")? {
        let text = checkout::read(&file)?;
        findings.extend(found_in(&Source::parse(&text), UNFINISHED, false, &file));
    }
    Ok(findings)
}

pub fn panics() -> Result<Vec<String>, String> {
    let files = checkout::files_below(&checkout::root().join("crates"), ".rs")?;
    let mut sources = Vec::new();
    let mut tests = HashSet::new();
    for file in &files {
        let source = Source::parse(&checkout::read(file)?);
        tests.extend(source.test_modules.iter().map(|module| module_path(file, module)));
        sources.push((file, source));
    }
    let mut findings = Vec::new();
    for (file, source) in sources {
        if !is_for_tests(file, &tests) {
            findings.extend(found_in(&source, PANICS, true, file));
        }
    }
    Ok(findings)
}

/// The path of a module that `file` declares with `mod name;`, without its ending: it is a file or a folder.
fn module_path(file: &Path, module: &str) -> PathBuf {
    let folder = file.parent().unwrap_or(file);
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => folder.join(module),
        Some(stem) => folder.join(stem).join(module),
    }
}

/// Integration tests, examples, benchmarks, build scripts, and modules that exist only for tests.
fn is_for_tests(file: &Path, modules: &HashSet<PathBuf>) -> bool {
    let inside = file.strip_prefix(checkout::root().join("crates")).unwrap_or(file);
    let mut parts = inside.components().skip(1).map(|part| part.as_os_str().to_string_lossy());
    if parts.next().is_some_and(|part| matches!(&*part, "tests" | "benches" | "examples" | "build.rs")) {
        return true;
    }
    file.with_extension("").ancestors().any(|path| modules.contains(path))
}

fn found_in(source: &Source, patterns: &[&str], spare_tests: bool, file: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        if (spare_tests && line.in_tests) || allows(source, index) {
            continue;
        }
        for pattern in patterns {
            if contains_word(&line.code, pattern) {
                let shown = pattern.trim_end_matches(['(', '"', '!']).trim_start_matches('.');
                findings.push(format!("{}:{}: {shown}", checkout::shown(file), index + 1));
            }
        }
    }
    findings
}

/// Whether the comment on this line, or the comment lines above it, give a reason.
fn allows(source: &Source, index: usize) -> bool {
    let says = |index: usize| source.lines[index].comment.trim_start().starts_with(MARKER.trim_end());
    let own = |index: usize| source.lines[index].code.trim().is_empty() && !source.lines[index].comment.is_empty();
    says(index) || (0..index).rev().take_while(|above| own(*above)).any(says)
}

/// `panic!(` in `core::panic!(`, but not in `debug_panic!(`.
fn contains_word(code: &str, pattern: &str) -> bool {
    let starts_word = pattern.starts_with(|c: char| c.is_alphanumeric());
    code.match_indices(pattern)
        .any(|(at, _)| !starts_word || !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics_of(text: &str) -> Vec<String> {
        found_in(&Source::parse(text), PANICS, true, Path::new("a.rs"))
    }

    #[test]
    fn what_panics_is_found_with_its_line() {
        let found = panics_of("fn f() {\n    a().unwrap();\n    b.expect(\"why\");\n    panic!(\"no\");\n}\n");
        assert_eq!(found, ["a.rs:2: unwrap()", "a.rs:3: expect", "a.rs:4: panic"]);
    }

    #[test]
    fn what_does_not_panic_is_left_alone() {
        let text = "fn f() {\n    a().unwrap_or(0); // never .unwrap() here\n    parser.expect(Token::Comma)?;\n    \
                    log(\"panic!(\");\n    std::panic::catch_unwind(g);\n}\n";
        assert_eq!(panics_of(text), [""; 0]);
    }

    #[test]
    fn tests_may_panic() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { a().unwrap(); }\n}\nfn h() { b().unwrap(); }\n";
        assert_eq!(panics_of(text), ["a.rs:6: unwrap()"]);
    }

    #[test]
    fn a_marker_with_a_reason_allows_one() {
        let text = "// tidy: the length was checked above\na().unwrap();\nb().unwrap(); // tidy: cannot be empty\nc().unwrap();\n";
        assert_eq!(panics_of(text), ["a.rs:4: unwrap()"]);
    }

    #[test]
    fn modules_of_tests_in_their_own_file_are_known() {
        let source = Source::parse("#[cfg(test)]\nmod tests;\n");
        let path = module_path(Path::new("/x/src/wal.rs"), &source.test_modules[0]);
        let modules = HashSet::from([path]);
        assert!(is_for_tests(Path::new("/x/src/wal/tests.rs"), &modules));
        assert!(is_for_tests(Path::new("/x/src/wal/tests/more.rs"), &modules));
        assert!(!is_for_tests(Path::new("/x/src/wal/frame.rs"), &modules));
    }
}
