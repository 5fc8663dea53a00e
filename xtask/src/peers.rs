//! `cargo xtask peers NAME`: starts a real system, for tests and benchmarks that use it or compare ours with it.
//!
//! Each peer is a folder `peers/NAME` with what is installed for it (a `pom.xml`, a `requirements.txt`, a `package.json`)
//! and a `start.sh` that runs it in the foreground. We install and then become the script, so that a signal sent to us
//! stops the whole peer. Tests start the same scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Problem, checkout, install, unknown};

pub const HELP: &str = "\
Starts a real system in the foreground, to use it or to compare ours with it. Ctrl-C stops it.

usage: cargo xtask peers NAME [PORT] [FOLDER]

  kafka      Apache Kafka, one node on loopback (Java 17, about 330 MB of memory)
  versitygw  S3 over a folder (Go, about 40 MB of memory)
  minio      S3 over a folder, a second one (Go, about 105 MB of memory; some minutes to build)
  moto       AWS emulated, any signature accepted (Python, about 50 MB of memory)
  hdfs       HDFS of Apache Hadoop, a name node and a data node (Java 17, about 450 MB of memory)
  oci        OCI Object Storage in memory (Python, about 60 MB of memory)
  azurite    Azure's Blob service over a folder (Node.js, about 110 MB of memory)
  hive-metastore  Apache Hive's metastore, its database in memory (Java 17, about 200 MB of memory)

Without PORT, or with 0, it takes a free one; without FOLDER it keeps its data in a temporary one. When it can be used it
prints one line on standard output: READY NAME HOST:PORT, and after that what a client must know, as NAME=VALUE.

examples:
  cargo xtask peers kafka 19092
  cargo xtask peers versitygw
";

struct Peer {
    name: &'static str,
    /// Installs what is missing in a folder of the cache. Answers what the script is told first.
    install: fn(&Path, &Path) -> Result<PathBuf, String>,
}

const PEERS: &[Peer] = &[
    Peer { name: "kafka", install: jars },
    Peer {
        name: "versitygw",
        install: |installed, _| {
            install::go_program(installed, "github.com/versity/versitygw/cmd/versitygw@v1.8.0", "versitygw")
        },
    },
    Peer {
        name: "minio",
        // Its releases have names that Go does not take for versions.
        install: |installed, _| {
            let package = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";
            install::go_program(installed, package, "minio")
        },
    },
    Peer {
        name: "moto",
        install: |installed, peer| {
            let python = install::python_environment(installed, &peer.join("requirements.txt"))?;
            Ok(python.with_file_name("moto_server"))
        },
    },
    Peer { name: "azurite", install: install::node_packages_elsewhere },
    Peer { name: "hdfs", install: jars },
    Peer { name: "iceberg-rest", install: jars },
    Peer { name: "hive-metastore", install: jars },
    Peer { name: "spark", install: spark },
    Peer { name: "spark-hudi", install: spark },
    Peer {
        name: "duckdb",
        install: |installed, peer| install::python_environment(installed, &peer.join("requirements.txt")),
    },
    Peer {
        name: "oci",
        install: |installed, peer| install::python_environment(installed, &peer.join("requirements.txt")),
    },
];

fn spark(installed: &Path, peer: &Path) -> Result<PathBuf, String> {
    install::python_environment(&installed.join("python"), &peer.join("requirements.txt"))?;
    install::jars(&installed.join("jars"), &peer.join("pom.xml"), &[])?;
    Ok(installed.to_path_buf())
}

fn jars(installed: &Path, peer: &Path) -> Result<PathBuf, String> {
    install::jars(installed, &peer.join("pom.xml"), &[])?;
    Ok(installed.to_path_buf())
}

/// Storages and metastores that tests use, with the variables that name them. Where there is no Go, moto stands in for versitygw: it is
/// right about everything but signatures.
pub fn install_storages(cache: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let s3 = match checkout::find_program(&["go"]) {
        Some(_) => ("RIVERMERE_VERSITYGW", "versitygw"),
        None => ("RIVERMERE_MOTO", "moto"),
    };
    let others = [
        ("RIVERMERE_AZURITE", "azurite"),
        ("RIVERMERE_HDFS", "hdfs"),
        ("RIVERMERE_OCI_PYTHON", "oci"),
        ("RIVERMERE_GLUE", "moto"),
        ("RIVERMERE_HIVE", "hive-metastore"),
    ];
    install_some(cache, [s3].into_iter().chain(others))
}

/// Engines that read and write our tables beside us, and a second S3, with the variables that name them. Large, or long to build: only
/// for whole runs.
pub fn install_engines(cache: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let minio = checkout::find_program(&["go"]).map(|_| ("RIVERMERE_MINIO", "minio"));
    let engines = [SPARK, SPARK_HUDI, ("RIVERMERE_ICEBERG_REST", "iceberg-rest")];
    install_some(cache, engines.into_iter().chain(minio))
}

/// Engines that benchmarks compare ours with, too.
pub const SPARK: (&str, &str) = ("RIVERMERE_SPARK", "spark");
pub const SPARK_HUDI: (&str, &str) = ("RIVERMERE_SPARK_HUDI", "spark-hudi");
/// The Python of an environment with DuckDB, and with what makes data for it and for others.
pub const DUCKDB: (&str, &str) = ("RIVERMERE_DUCKDB", "duckdb");

/// Some peers, with the variables that name them. The installation lock is held.
pub fn install_some(
    cache: &Path,
    wanted: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> Result<Vec<(String, PathBuf)>, String> {
    let mut variables = Vec::new();
    for (variable, name) in wanted {
        for peer in PEERS.iter().filter(|peer| peer.name == name) {
            variables.push((variable.to_owned(), peer.installed(cache)?));
        }
    }
    Ok(variables)
}

impl Peer {
    fn folder(&self) -> PathBuf {
        checkout::root().join("xtask/peers").join(self.name)
    }

    /// The installation lock is held.
    fn installed(&self, cache: &Path) -> Result<PathBuf, String> {
        (self.install)(&cache.join("peers").join(self.name), &self.folder())
    }
}

pub fn run(arguments: &[String]) -> Outcome {
    let names = || PEERS.iter().map(|peer| peer.name);
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Problem::Usage(format!("which peer? Known: {}", names().collect::<Vec<_>>().join(", "))));
    };
    let Some(peer) = PEERS.iter().find(|peer| peer.name == name) else {
        return Err(unknown("peer", name, names()));
    };
    if rest.len() > 2 {
        return Err(Problem::Usage(format!("peers takes NAME, PORT and FOLDER, not `{}`", rest[2])));
    }
    if let Some(port) = rest.first().filter(|port| port.parse::<u16>().is_err()) {
        return Err(Problem::Usage(format!("`{port}` is not a port")));
    }
    let cache = checkout::cache()?;
    let installed = {
        let _lock = install::Lock::take(&cache)?;
        peer.installed(&cache)?
    };
    let mut script = Command::new("bash");
    script.arg(peer.folder().join("start.sh")).arg(installed).args(rest);
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
