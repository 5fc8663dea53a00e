//! What the tests use besides Rust, and the environment variables that tell them where it is.
//!
//! A test that needs one of these reads its variable, and skips itself with a printed line when the variable is not set:
//! so `cargo test` works anywhere, and `cargo xtask test` leaves nothing out.

use std::path::{Path, PathBuf};

use crate::{checkout, install, peers};

/// The Kafka clients for Java that are tested: the line before 4.0, which most engines still use, and the newest.
const JAVA_CLIENTS: &[&str] = &["3.9.1", "4.4.0"];

struct Tool {
    variable: &'static str,
    programs: &'static [&'static str],
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { variable: "RIVERMERE_KCAT", programs: &["kcat", "kafkacat"], package: "kcat" },
    Tool { variable: "RIVERMERE_PSQL", programs: &["psql"], package: "postgresql-client" },
    Tool {
        variable: "RIVERMERE_CHROMIUM",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
    },
];

/// Installs what is missing. Answers the variables for the tests.
pub fn install(cache: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let root = checkout::root();
    let missing: Vec<&str> = TOOLS.iter().filter(|tool| found(tool).is_none()).map(|tool| tool.package).collect();
    if !missing.is_empty() {
        install::system_packages(&missing)?;
    }
    let mut variables = Vec::new();
    for tool in TOOLS {
        let program = found(tool).ok_or_else(|| format!("{} was installed but is not on the path", tool.package))?;
        variables.push((tool.variable.to_owned(), program));
    }

    let clients = root.join("tests/clients");
    let python = install::python_environment(&cache.join("python-clients"), &clients.join("requirements.txt"))?;
    variables.push(("RIVERMERE_PYTHON".to_owned(), python));

    // One folder per version: RIVERMERE_KAFKA_JARS/3.9.1/*.jar
    let jars = cache.join("kafka-clients");
    for version in JAVA_CLIENTS {
        install::jars(&jars.join(version), &clients.join("pom.xml"), &[("kafka.version", version)])?;
    }
    variables.push(("RIVERMERE_KAFKA_JARS".to_owned(), jars));

    variables.extend(peers::install_storages(cache)?);

    let jars = cache.join("jdbc");
    install::jars(&jars, &clients.join("jdbc/pom.xml"), &[])?;
    variables.push(("RIVERMERE_JDBC_JARS".to_owned(), jars));

    // The browser test drives Chromium from Node; its packages are pinned beside it.
    let pages = root.join("tests/pages");
    if pages.join("package-lock.json").exists() {
        install::node_packages(&pages)?;
    }
    for (variable, program) in [("RIVERMERE_NODE", "node"), ("RIVERMERE_JAVA", "java")] {
        if let Some(path) = checkout::find_program(&[program]) {
            variables.push((variable.to_owned(), path));
        }
    }
    rustfmt()?;
    Ok(variables)
}

fn found(tool: &Tool) -> Option<PathBuf> {
    checkout::find_program(tool.programs)
}

/// `tidy` asks rustfmt; a minimal Rust installation comes without.
fn rustfmt() -> Result<(), String> {
    let there =
        |mut cargo: std::process::Command| cargo.args(["fmt", "--version"]).output().is_ok_and(|o| o.status.success());
    if there(checkout::cargo()) {
        return Ok(());
    }
    install::progress("rustup component add rustfmt ...");
    let added = std::process::Command::new("rustup")
        .args(["component", "add", "rustfmt"])
        .current_dir(checkout::root())
        .status()
        .is_ok_and(|status| status.success());
    if added { Ok(()) } else { Err("rustfmt is missing: rustup component add rustfmt".to_owned()) }
}
