//! `rivermere test`: a project's own tests, on a simulated machine.

use super::failure::{Failure, Outcome};
use super::terminal::{self, harmless};
use clap::{Args, ValueEnum};
use rivermere::quantities::counted;
use rivermere::testing::{Suite, Test, Verdict, is_test_file};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  rivermere test                              the tests of the project in this folder
  rivermere test flights --filter late        those with 'late' in their name
  rivermere test flights/tests/weather.yaml
  rivermere test flights --crash-everywhere   and again with a crash at every point that matters

A test says what goes in and what must come out. It runs the project as it is, with simulated disk
and clock, so that it is quick, alike each time, and can be crashed on purpose:

  name: two orders from New Zealand
  given:
    - at: 2026-01-01T09:30:00
      into: orders
      rows:
        - {id: 1, country: NZ, amount: 12.5}
        - {id: 2, country: NZ, amount: 2}
    - crash: after_manifest_put
  expect:
    turnover:
      - {country: NZ, orders: 2, amount: 14.5}";

/// Run a project's tests: what goes in, crashes on the way, and the rows that must come out
#[derive(Args, Debug)]
#[command(name = "test", after_help = EXAMPLES)]
pub struct TestWord {
    /// The project's folder, or one file of its folder tests/
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    path: PathBuf,

    /// Only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// Run each test again and again, with one crash at every point of the platform that it passes
    #[arg(long)]
    crash_everywhere: bool,

    /// What is written
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each test, and differences as tables
    Text,
    /// One array of objects, when all have run
    Json,
}

impl TestWord {
    pub fn run(self) -> Outcome {
        // A crash on purpose makes the platform complain; that is heard only when it is asked for.
        if std::env::var_os("RIVERMERE_LOG").is_some() {
            terminal::start_log();
        }
        let (project, file) = self.project()?;
        let suite = match Suite::load(&project, file) {
            Ok(suite) => suite,
            Err(problems) => return Err(told(problems.into_iter().map(Failure::from).collect())),
        };
        let is_wanted = |test: &&Test| self.filter.as_ref().is_none_or(|part| test.name.contains(part));
        let tests: Vec<&Test> = suite.tests().iter().filter(is_wanted).collect();
        if tests.is_empty() {
            return Err(self.nothing_to_run(&suite, &project));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut verdicts = vec![];
        let mut moving = terminal::Moving::new();
        for test in tests {
            let now = |now: &str| moving.show(&harmless(&format!("{}: {now}", test.name)));
            let verdict = runtime.block_on(async {
                match self.crash_everywhere {
                    false => suite.run(test).await,
                    true => suite.run_crashing_everywhere(test, now).await,
                }
            });
            terminal::clear_status();
            if self.output == Output::Text {
                write_verdict(test, &verdict)?;
            }
            verdicts.push((test, verdict));
        }
        runtime.shutdown_background();
        match self.output {
            Output::Text => write_summary(&verdicts)?,
            Output::Json => write_json(&verdicts)?,
        }
        let failed = verdicts.iter().filter(|(_, verdict)| !verdict.passed()).count();
        match failed {
            0 => Ok(()),
            _ => Err(Failure::new(format!("RM-7160: {} failed", counted(failed as u64, "test")))),
        }
    }

    /// The folder of the project, and the file when one was named.
    fn project(&self) -> Result<(PathBuf, Option<&Path>), Failure> {
        let path = self.path.as_path();
        if path.is_dir() || !is_test_file(path) {
            return Ok((path.to_path_buf(), None));
        }
        if !path.is_file() {
            return Err(Failure::new(format!("RM-7161: there is no file {}", path.display())));
        }
        let is_project = |folder: &&Path| folder.join("rivermere.toml").is_file() || folder.join("sql").is_dir();
        let here =
            |folder: &Path| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_path_buf() };
        let folders: Vec<PathBuf> = path.ancestors().skip(1).map(here).collect();
        // A relative path ends at the working directory, whose own parents may be the project.
        let above = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let all = folders.iter().map(PathBuf::as_path).chain(above.ancestors().skip(1));
        match all.into_iter().find(is_project) {
            Some(folder) => Ok((folder.to_path_buf(), Some(path))),
            None => Err(Failure::new(format!("RM-7161: {} is in no project", path.display()))
                .hint("a project is a folder with rivermere.toml and sql/; its tests are in its folder tests/")),
        }
    }

    fn nothing_to_run(&self, suite: &Suite, project: &Path) -> Failure {
        let name = harmless(suite.project());
        match &self.filter {
            Some(part) if !suite.tests().is_empty() => {
                let names: Vec<&str> = suite.tests().iter().map(|test| test.name.as_str()).collect();
                Failure::new(format!("RM-7162: no test of {name} has '{part}' in its name"))
                    .hint(format!("they are: {}", harmless(&names.join(", "))))
            }
            _ => Failure::new(format!("RM-7162: {name} has no tests")).hint(format!(
                "write one into {}:\nwhat goes in under 'given', the rows that must come out under 'expect'; \
                 rivermere test --help shows one",
                project.join("tests/first.yaml").display()
            )),
        }
    }
}

/// All problems but the last are printed; that one ends the word.
fn told(mut problems: Vec<Failure>) -> Failure {
    let last = problems.pop().unwrap_or_else(|| Failure::new("RM-7161: the tests cannot be read"));
    for problem in problems {
        problem.print();
    }
    last
}

fn write_verdict(test: &Test, verdict: &Verdict) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let word = if verdict.passed() { "ok" } else { "FAILED" };
    let mut about = vec![format!("{:.2} s", verdict.took.as_secs_f64())];
    if verdict.crashes > 0 {
        let plural = if verdict.crashes == 1 { "crash" } else { "crashes" };
        about.push(format!("{} {plural}", verdict.crashes));
    }
    if verdict.runs > 1 {
        about.push(counted(u64::from(verdict.runs), "run"));
    }
    writeln!(out, "{word:<7} {} ({})", harmless(&test.name), about.join(", "))?;
    for finding in &verdict.findings {
        writeln!(out, "\n  {}: {}", finding.place, finding.message.replace('\n', "\n  "))?;
        if let Some(difference) = &finding.difference {
            for line in difference.to_string().lines() {
                writeln!(out, "    {}", harmless(line))?;
            }
            for line in difference.legend().lines() {
                writeln!(out, "    {}", terminal::dim(format!("({line})")))?;
            }
        }
    }
    if !verdict.passed() {
        writeln!(out)?;
    }
    out.flush()
}

fn write_summary(verdicts: &[(&Test, Verdict)]) -> io::Result<()> {
    let passed = verdicts.iter().filter(|(_, verdict)| verdict.passed()).count();
    let took: f64 = verdicts.iter().map(|(_, verdict)| verdict.took.as_secs_f64()).sum();
    let mut out = io::stdout().lock();
    writeln!(out, "\n{passed} passed, {} failed in {took:.1} s", verdicts.len() - passed)?;
    out.flush()
}

fn write_json(verdicts: &[(&Test, Verdict)]) -> io::Result<()> {
    let rows = verdicts.iter().map(|(test, verdict)| {
        let findings = verdict.findings.iter().map(|finding| {
            json!({
                "place": finding.place,
                "message": finding.message,
                "difference": finding.difference.as_ref().map(rivermere::testing::Difference::json),
            })
        });
        json!({
            "name": test.name,
            "place": test.place(),
            "passed": verdict.passed(),
            "took_ms": u64::try_from(verdict.took.as_millis()).unwrap_or(u64::MAX),
            "crashes": verdict.crashes,
            "runs": verdict.runs,
            "findings": findings.collect::<Vec<_>>(),
        })
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::Value::from(rows.collect::<Vec<_>>()))?;
    out.flush()
}
