//! The demo as people see it: the live page in a real browser, and its memory.

use crate::process::{Process, checkout, succeed, tool};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn the_live_page_passes_its_checks_in_a_browser() {
    let Some(chromium) = tool("RIVERMERE_CHROMIUM") else { return };
    let node = std::env::var_os("RIVERMERE_NODE").unwrap_or_else(|| "node".into());
    let pages = checkout().join("tests/pages");
    if !pages.join("node_modules/playwright-core").is_dir() {
        let mut install = Command::new("npm");
        succeed(
            install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&pages),
            Duration::from_secs(120),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let demo = Process::start(folder.path(), &folder.path().join("data"), &["demo", "flights"]);
    let mut test = Command::new(node);
    test.arg("page_test.mjs")
        .arg(&demo.http)
        .arg(folder.path().join("pictures"))
        .current_dir(&pages)
        .env("CHROMIUM", chromium);
    let text = succeed(&mut test, Duration::from_secs(240));
    assert!(text.contains("all checks passed") && !text.contains("FAIL "), "{text}");
}

/// A figure, no verdict: what a machine counts as resident depends on more than the program.
#[test]
fn memory_after_january_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // January in about seven seconds.
    let begin = Instant::now();
    let mut demo =
        Process::start(folder.path(), &folder.path().join("data"), &["demo", "flights", "--speed", "400000"]);
    let figures = |demo: &Process, when: &str| {
        let memory = |name| demo.memory(name).map_or("?".to_string(), |mib| mib.to_string());
        let (rss, anonymous, file) = (memory("VmRSS"), memory("RssAnon"), memory("RssFile"));
        println!(
            "{when}: {rss} MiB resident, {anonymous} anonymous, {file} of files ({:.1?} after the start)",
            begin.elapsed()
        );
    };
    let day = |demo: &Process| {
        let status = demo.status();
        let watermarks = status["watermarks"].as_array().unwrap();
        watermarks.iter().find(|one| one["table"] == "departures")?["watermark"].as_str().map(str::to_string)
    };
    figures(&demo, "ready");
    let passed = demo.wait_for("February", |demo| day(demo).filter(|day| day.as_str() >= "2013-02-01"));
    figures(&demo, &format!("at {passed}"));
    let january = Instant::now();
    let later = demo.wait_for("ten seconds more", |demo| {
        (january.elapsed() >= Duration::from_secs(10)).then(|| day(demo)).flatten()
    });
    figures(&demo, &format!("ten seconds later, at {later}"));
}
