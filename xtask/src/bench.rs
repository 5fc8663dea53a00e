//! `cargo xtask bench`: runs the benchmarks of the package `rivermere-benches`, optimised.

use std::path::PathBuf;

use crate::{Outcome, Problem, checkout, install, peers, test, unknown};

pub const HELP: &str = "\
Runs the benchmarks, in the release profile.

usage: cargo xtask bench [NAME] [-- ARGUMENTS]

Without NAME, all of them, one after the other. A cold release build takes about half an hour on two cores.
ARGUMENTS go to the benchmark. What one needs to run beside us is installed first.

examples:
  cargo xtask bench
  cargo xtask bench nexmark
  cargo xtask bench tpch -- --scale 10
";

/// What a benchmark runs beside us, installed, with the variables that tell where it is.
fn prepare(name: &str) -> Result<Vec<(String, PathBuf)>, Problem> {
    let engines: &[(&str, &str)] = match name {
        // A peer and a client of the tests.
        "broker" => return test::prepare(false),
        "tpch" => &[peers::DUCKDB, peers::SPARK],
        "lake" => &[peers::SPARK, peers::SPARK_HUDI],
        _ => return Ok(vec![]),
    };
    test::complete()?;
    let cache = checkout::cache()?;
    let _lock = install::Lock::take(&cache)?;
    Ok(peers::install_some(&cache, engines.iter().copied())?)
}

pub fn run(arguments: &[String]) -> Outcome {
    let names = names()?;
    let (own, passed) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    if let Some(name) = own.iter().find(|name| !names.contains(name)) {
        return Err(unknown("benchmark", name, names.iter().map(String::as_str)));
    }
    if names.is_empty() {
        return Err("there are no benchmarks in benches/Cargo.toml yet".to_owned().into());
    }
    let mut good = true;
    for name in if own.is_empty() { &names[..] } else { own } {
        let mut cargo = checkout::cargo();
        cargo.envs(prepare(name)?);
        // The binary's package too: alone, the benchmarks would be built with fewer features of what lies below.
        cargo.args(["bench", "--locked", "--package", "rivermere", "--package", "rivermere-benches", "--bench", name]);
        cargo.arg("--").args(passed);
        good &= cargo.status().map_err(|error| format!("cannot start cargo: {error}"))?.success();
    }
    Ok(good)
}

/// The `[[bench]]` targets of the package.
fn names() -> Result<Vec<String>, String> {
    let file = checkout::root().join("benches/Cargo.toml");
    let manifest: toml::Table =
        checkout::read(&file)?.parse().map_err(|error| format!("{}: {error}", checkout::shown(&file)))?;
    let targets = manifest.get("bench").and_then(toml::Value::as_array).into_iter().flatten();
    Ok(targets.filter_map(|target| target.get("name")?.as_str()).map(str::to_owned).collect())
}
