//! A project's own tests: what goes in, crashes on the way, and the rows that must come out.
//!
//! `tests/*.yaml` of a project:
//!
//! ```yaml
//! name: a late departure counts in its own hour
//! given:
//!   - at: 2013-01-01T05:20:00
//!     into: departures
//!     rows:
//!       - {flight_id: 1, carrier: UA, origin: EWR, departed_at: 2013-01-01T05:17:00, dep_delay: 2}
//!   - crash: after_manifest_put
//! expect:
//!   delays_by_airport:
//!     - {origin: EWR, window_start: 2013-01-01T05:00:00, departures: 1, avg_delay: 2.0}
//! ```
//! The platform is the ordinary [`Assembly`](crate::Assembly) behind simulated doors: a disk in memory that forgets what
//! was not synced, and a clock that goes from event to event. Every test has a machine of its own. Users read
//! `docs/testing.md`.
//!
//! | file | subject |
//! |---|---|
//! | `file` | the format, held against the project |
//! | `yaml` | YAML whose errors have a place |
//! | `machine` | the platform on a simulated machine that crashes and comes back |
//! | `project_files` | its disk, with the real files of the project's tables |
//! | `runner` | the steps of one test, and what it found |
//! | `rows`, `difference` | typed values, and how two sets of rows differ |

mod difference;
mod file;
mod machine;
mod project_files;
mod rows;
mod runner;
mod yaml;

use crate::{Problem, Project, ProjectSettings};
pub use difference::Difference;
use file::Catalog;
pub use file::Test;
use machine::Subject;
use rivermere_base::{Clock, SystemClock};
use rivermere_sql::{Connector, Statement};
pub use runner::Finding;
use runner::{Added, run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The tests of a project.
pub struct Suite {
    subject: Subject,
    catalog: Catalog,
    tests: Vec<Test>,
}

/// What a test gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Empty when it passed.
    pub findings: Vec<Finding>,
    /// Real time that it took.
    pub took: Duration,
    /// Crashes that the platform came back from.
    pub crashes: u32,
    /// Runs, more than one when it was crashed everywhere.
    pub runs: u32,
}

impl Verdict {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Files of tests that a project has, at most.
const FILES: usize = 1_000;

impl Suite {
    /// Reads a project and its tests: all of its folder `tests/`, or those of one file.
    ///
    /// # Errors
    /// A project that does not plan, and everything that is wrong in its tests: the first of each file.
    pub fn load(project: &Path, file: Option<&Path>) -> Result<Self, Vec<Problem>> {
        let one = |problem| vec![problem];
        let mut project = Project::load(project).map_err(one)?;
        let planned = project.plan(BTreeMap::new()).map_err(Problem::told).map_err(one)?;
        let catalog = Catalog {
            tables: planned.tables.iter().map(|table| (table.name.clone(), table.clone())).collect(),
            views: planned.views.iter().map(|view| (view.name.clone(), view.clone())).collect(),
        };
        let files = planned.tables.iter().filter_map(|table| match &table.connector {
            Connector::File { path } => Some(project.folder.join(path)),
            Connector::Topic { .. } => None,
        });
        let files = Arc::new(files.collect());
        let (mut tests, mut problems) = (vec![], vec![]);
        let paths = match file {
            Some(file) => vec![file.to_path_buf()],
            None => paths(&project.folder.join("tests")).map_err(one)?,
        };
        for path in paths {
            match read(&path, &project.folder, &catalog) {
                Ok(read) => tests.extend(read),
                Err(problem) => problems.push(problem),
            }
        }
        stay_inside(&mut project);
        match problems.is_empty() {
            true => Ok(Self { subject: Subject { project, files }, catalog, tests }),
            false => Err(problems),
        }
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.subject.project.name
    }

    /// In the order of their files, and in each as they are written.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Runs a test as it is written.
    pub async fn run(&self, test: &Test) -> Verdict {
        let clock = SystemClock::new();
        let run = run(&self.subject, &self.catalog, test, true, None).await;
        Verdict { findings: run.findings, took: clock.monotonic(), crashes: run.crashes, runs: 1 }
    }

    /// Runs a test as it is written, then without its own crashes and with one more at each crash point that it passes:
    /// at the first time and at the last. A crash changes nothing, so the same must come out.
    pub async fn run_crashing_everywhere(&self, test: &Test, mut progress: impl FnMut(&str)) -> Verdict {
        let clock = SystemClock::new();
        let mut verdict = self.run(test).await;
        if !verdict.passed() {
            return verdict;
        }
        let undisturbed = run(&self.subject, &self.catalog, test, false, None).await;
        verdict.runs += 1;
        for (point, passed) in undisturbed.passed {
            let times = if passed > 1 { vec![1, passed] } else { vec![1] };
            for nth in times {
                let crash = format!("with a crash at {} (time {nth})", point.name());
                progress(&crash);
                let run = run(&self.subject, &self.catalog, test, false, Some(Added { point, nth })).await;
                verdict.runs += 1;
                verdict.crashes += run.crashes;
                verdict.findings.extend(
                    run.findings
                        .into_iter()
                        .map(|finding| Finding { message: format!("{crash}: {}", finding.message), ..finding }),
                );
            }
        }
        verdict.took = clock.monotonic();
        verdict
    }
}

/// Nothing of a test goes outside its simulated disk: whatever the settings say of other places is left out, and tables
/// with a URL of their own are below the data folder, too.
fn stay_inside(project: &mut Project) {
    project.settings = ProjectSettings { name: project.settings.name.take(), ..ProjectSettings::default() };
    for parsed in &mut project.statements {
        if let Statement::CreateView(create) = &mut parsed.statement
            && let Some(stored) = &mut create.stored_as
            && stored.location.as_ref().is_some_and(|location| location.contains("://"))
        {
            stored.location = None;
        }
    }
}

/// The files of tests in a folder, sorted; none when it is not there.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| Problem::new(7300, format!("cannot list {}: {error}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = vec![];
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // Editors keep unfinished copies as hidden files.
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && is_test_file(&path) {
            paths.push(path);
        }
    }
    if paths.len() > FILES {
        return Err(Problem::new(
            7300,
            format!("{} has {} files of tests; at most {FILES}", folder.display(), paths.len()),
        ));
    }
    paths.sort();
    Ok(paths)
}

/// Whether a path is that of a file of tests, by its name.
pub fn is_test_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read(path: &Path, folder: &Path, catalog: &Catalog) -> Result<Vec<Test>, Problem> {
    let unreadable = |error: std::io::Error| Problem::new(7300, format!("cannot read {}: {error}", path.display()));
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > file::FILE_BYTES {
        let message = format!("{} has {bytes} bytes; at most {} are a file of tests", path.display(), file::FILE_BYTES);
        return Err(Problem::new(7300, message));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let shown = path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let name = path.file_stem().map_or("test".into(), |stem| stem.to_string_lossy().replace(['_', '-'], " "));
    file::read(&shown, &name, text, catalog)
}
