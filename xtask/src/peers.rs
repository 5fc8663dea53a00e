//! `cargo xtask peers NAME`: starts a real system, for tests and benchmarks that compare ours with it.
//!
//! Each peer is a folder `peers/NAME` with a `pom.xml` of what to install and a `start.sh` that runs it in the
//! foreground. We install and then become the script, so that a signal sent to us stops the whole peer.

use std::process::Command;

use crate::{Outcome, Problem, checkout, install, unknown};

pub const HELP: &str = "\
Starts a real system in the foreground, to compare ours with it. Ctrl-C stops it.

usage: cargo xtask peers NAME [PORT] [FOLDER]

  kafka      Apache Kafka, one node on loopback (Java 17, about 330 MB of memory)

Without PORT it takes a free one, without FOLDER it keeps its data in a temporary one. When it can be used it prints one
line on standard output: READY NAME HOST:PORT.

example:
  cargo xtask peers kafka 19092
";

const NAMES: &[&str] = &["kafka"];

pub fn run(arguments: &[String]) -> Outcome {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Problem::Usage(format!("which peer? Known: {}", NAMES.join(", "))));
    };
    if !NAMES.contains(&name.as_str()) {
        return Err(unknown("peer", name, NAMES.iter().copied()));
    }
    if rest.len() > 2 {
        return Err(Problem::Usage(format!("peers takes NAME, PORT and FOLDER, not `{}`", rest[2])));
    }
    if let Some(port) = rest.first().filter(|port| port.parse::<u16>().is_err()) {
        return Err(Problem::Usage(format!("`{port}` is not a port")));
    }
    let (folder, cache) = (checkout::root().join("xtask/peers").join(name), checkout::cache()?);
    let jars = cache.join("peers").join(name);
    {
        let _lock = install::Lock::take(&cache)?;
        install::jars(&jars, &folder.join("pom.xml"), &[])?;
    }
    let mut script = Command::new("bash");
    script.arg(folder.join("start.sh")).arg(jars).args(rest);
    become_the(script)
}

#[cfg(unix)]
fn become_the(mut script: Command) -> Outcome {
    use std::os::unix::process::CommandExt;
    Err(format!("cannot start bash: {}", script.exec()).into())
}

#[cfg(not(unix))]
fn become_the(mut script: Command) -> Outcome {
    Ok(script.status().map_err(|error| format!("cannot start bash: {error}"))?.success())
}
