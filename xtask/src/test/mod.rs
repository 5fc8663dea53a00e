//! `cargo xtask test`: from a machine that may be empty to a verdict.
//!
//! In order: is the machine complete ([`prerequisites`]), install what the tests use ([`tools`]), the rules of
//! [`crate::tidy`], the page's own tests ([`page_test`]), then every test of the workspace ([`cargo_test`]). A failure in one does not hide the next. The last
//! line is the verdict: `N passed, M failed`, and `, K skipped` when something was.

mod cargo_test;
mod page_test;
mod prerequisites;
mod summary;
mod tools;

use std::path::{Path, PathBuf};
use std::time::Instant;

use summary::Suite;

use crate::{Outcome, Problem, checkout, install, peers, tidy};

pub const HELP: &str = "\
Installs what the tests need and runs everything: the rules of `tidy`, then all tests of the workspace.

usage: cargo xtask test [--full | --prepare]

  --full      the long runs too (tests marked #[ignore])
  --prepare   install only, and print the variables that tell the tests where things are

Needs Rust, a C compiler, make, Node.js, npm, Python 3 and Java 17; a missing one is named in one line. The rest is
installed: kcat, psql, Chromium and Maven with apt-get (as root or with sudo), Python packages, npm packages and jars in
the user's cache folder. With Go on the path, S3 is tested against versitygw; without it, against moto, which does not
look at signatures. RIVERMERE_ACCEPTANCE names the folder of the acceptance data; without it those tests are skipped.

examples:
  cargo xtask test
  eval \"$(cargo xtask test --prepare)\" && cargo test -p rivermere-log NAME
";

/// Set for the tests: the folder of acceptance data.
const ACCEPTANCE: &str = "RIVERMERE_ACCEPTANCE";

pub fn run(arguments: &[String]) -> Outcome {
    let (full, only_prepare) = match arguments {
        [] => (false, false),
        [flag] if flag == "--full" => (true, false),
        [flag] if flag == "--prepare" => (false, true),
        [other, ..] => return Err(Problem::Usage(format!("test takes --full, --prepare or nothing, not `{other}`"))),
    };
    let acceptance = acceptance()?;
    let variables = prepare(full)?;
    if only_prepare {
        for (name, path) in variables {
            println!("export {name}='{}'", path.display());
        }
        return Ok(true);
    }

    let mut suites = vec![tidy_suite()];
    suites.extend(page_test::run()?);
    suites.extend(cargo_test::run(&variables, full)?);
    suites.push(acceptance_suite(acceptance.as_deref()));
    println!("{}", summary::table(&suites));
    println!("{}", summary::verdict(&suites));
    Ok(suites.iter().all(|suite| suite.failed == 0))
}

/// Installs what the tests use, for a whole run large engines too; the variables that tell where it is.
pub fn prepare(full: bool) -> Result<Vec<(String, PathBuf)>, Problem> {
    complete()?;
    let cache = checkout::cache()?;
    let _lock = install::Lock::take(&cache)?;
    let mut variables = tools::install(&cache)?;
    if full {
        variables.extend(peers::install_engines(&cache)?);
    }
    Ok(variables)
}

/// Whether the machine has what nothing here installs.
pub fn complete() -> Result<(), Problem> {
    match prerequisites::missing() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(missing.join("\nerror: ").into()),
    }
}

/// The folder of acceptance data, which must exist when it is named.
fn acceptance() -> Result<Option<PathBuf>, Problem> {
    match std::env::var_os(ACCEPTANCE) {
        None => Ok(None),
        Some(folder) if Path::new(&folder).is_dir() => Ok(Some(folder.into())),
        Some(folder) => Err(format!(
            "{ACCEPTANCE} names {}, which is not a folder; unset it to skip the tests over acceptance data",
            Path::new(&folder).display()
        )
        .into()),
    }
}

fn acceptance_suite(folder: Option<&Path>) -> Suite {
    let mut suite = Suite::new("acceptance data");
    if folder.is_none() {
        println!("skipped: the tests over acceptance data, because {ACCEPTANCE} is not set");
        suite.skipped = 1;
    }
    suite
}

fn tidy_suite() -> Suite {
    let start = Instant::now();
    let mut suite = Suite::new("tidy");
    for (rule, findings) in tidy::check() {
        match findings.as_slice() {
            [] => suite.passed += 1,
            findings => {
                suite.failed += 1;
                suite.failures.push(rule.to_owned());
                println!("tidy: {rule}\n  {}", findings.join("\n  "));
            }
        }
    }
    suite.seconds = start.elapsed().as_secs_f64();
    suite
}
