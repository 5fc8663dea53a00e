//! `rivermere check`: a project's files, read and planned; nothing is started or written.

use super::failure::{Failure, Outcome};
use super::run::doors;
use super::terminal;
use clap::Args;
use rivermere::quantities::{counted, duration};
use rivermere::{Planned, Problem, Project, external_columns};
use rivermere_sql::{Connector, Parsed, Statement, explain_streaming, query_relations};
use rivermere_table::TableError;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  rivermere check                             the project in this folder
  rivermere check flights && rivermere run flights";

/// Check a project without running it: every view with what it keeps and what bounds that
#[derive(Args, Debug)]
#[command(name = "check", after_help = EXAMPLES)]
pub struct Check {
    /// The project's folder, or one SQL file
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,
}

impl Check {
    pub fn run(self) -> Outcome {
        let project = Project::load(&self.path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut planned = Planned::default();
        let mut unknown = BTreeMap::new();
        for (name, columns) in runtime.block_on(external_columns(&project, &doors(), &project.data()))? {
            match columns {
                Ok(columns) => drop(planned.opened.insert(name, columns)),
                Err(error) => drop(unknown.insert(name, error)),
            }
        }
        let mut problems = plan_all(&project, &mut planned, &unknown);
        if let Err(error) = rivermere_serve::dashboards::load(&project.dashboards()) {
            problems.push(Failure::new(error.to_string()));
        }
        if problems.is_empty() {
            return Ok(report(&project, &planned)?);
        }
        for problem in &problems {
            problem.print();
        }
        let count = counted(problems.len() as u64, "problem");
        Err(Failure::new(format!("RM-7150: {count} in {}", self.path.display())))
    }
}

/// Plans every statement and goes on after a wrong one, but does not tell of what only follows from it.
fn plan_all(project: &Project, planned: &mut Planned, unknown: &BTreeMap<String, TableError>) -> Vec<Failure> {
    let mut problems = Vec::new();
    let mut wrong = BTreeSet::new();
    for parsed in &project.statements {
        if reads(parsed).is_disjoint(&wrong) {
            match planned.add(parsed) {
                Ok(()) => match (&parsed.statement, defines(parsed).and_then(|name| unknown.get(&name))) {
                    // A table that is to be made, or cannot be reached from here, has the columns of its statement.
                    (Statement::CreateExternal(create), Some(error)) if create.columns.is_empty() => {
                        let message = format!("{error}\n  in CREATE EXTERNAL TABLE {}", create.name);
                        problems
                            .push(Failure::new(message).hint("give its columns, or see to it that it can be opened"));
                    }
                    _ => continue,
                },
                Err(error) => problems.push(Problem::told(error).into()),
            }
        }
        wrong.extend(defines(parsed));
    }
    problems
}

fn reads(parsed: &Parsed) -> BTreeSet<String> {
    match &parsed.statement {
        Statement::CreateView(create) => query_relations(&create.query),
        _ => BTreeSet::new(),
    }
}

fn defines(parsed: &Parsed) -> Option<String> {
    match &parsed.statement {
        Statement::CreateTable(create) => Some(create.name.value.clone()),
        Statement::CreateView(create) => Some(create.name.value.clone()),
        Statement::CreateExternal(create) => Some(create.name.value.clone()),
        _ => None,
    }
}

fn report(project: &Project, planned: &Planned) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (tables, views) = (planned.tables.len() + planned.externals.len(), planned.views.len());
    let name = terminal::harmless(&project.name);
    writeln!(out, "{name}: {}, {}, all good", counted(tables as u64, "table"), counted(views as u64, "view"))?;
    for table in &planned.tables {
        let source = match &table.connector {
            Connector::Topic { topic, .. } => format!("topic {topic}"),
            Connector::File { path } => format!("file {}", path.display()),
        };
        let watermark = table.watermark.as_ref().map_or(String::new(), |watermark| {
            let delay = duration(u64::try_from(watermark.delay_us / 1000).unwrap_or(0));
            format!(", watermark {} behind {}", delay, watermark.column)
        });
        writeln!(out, "\ntable {} ({source}{watermark})", table.name)?;
    }
    for external in &planned.externals {
        let (name, format) = (&external.name, external.place.format);
        writeln!(out, "\ntable {name} ({format} table at {})", terminal::harmless(&external.place.location))?;
    }
    for view in &planned.views {
        let stored = view.stored_as.as_ref().map_or(String::new(), |stored| format!(" (stored as {})", stored.format));
        writeln!(out, "\nview {}{stored}", view.name)?;
        match explain_streaming(&planned.planner, &view.plan) {
            Ok(text) => text.lines().try_for_each(|line| writeln!(out, "  {line}"))?,
            Err(error) => writeln!(out, "  {error}")?,
        }
    }
    out.flush()
}
