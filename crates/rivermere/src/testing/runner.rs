//! One test: its steps on a machine of its own, and what it found.

use super::difference::{Difference, difference};
use super::file::{Action, Catalog, Expected, Letters, Step, Test, What};
use super::machine::{Machine, Subject};
use super::rows::{Cell, Column, Rows};
use crate::quantities::counted;
use crate::{Assembly, Problem};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use rivermere_base::{CrashPoint, Offset, PartitionId};
use rivermere_log::records;
use rivermere_serve::NodeKind;
use rivermere_sql::ViewDefinition;
use rivermere_stream::DeadLetter;
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// `tests/late.yaml:12`
    pub place: String,
    pub message: String,
    pub difference: Option<Difference>,
}

/// A crash that is added to a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) point: CrashPoint,
    /// Counted from the first step on.
    pub(super) nth: u64,
}

/// What one run of a test gave.
#[derive(Debug)]
pub(super) struct Run {
    /// Empty when all was as it should be.
    pub(super) findings: Vec<Finding>,
    pub(super) crashes: u32,
    /// How often each crash point was passed from the first step on.
    pub(super) passed: BTreeMap<CrashPoint, u64>,
}

/// Runs a test. With `crashes` its own crashes happen, without they are left out; one may be added.
pub(super) async fn run(subject: &Subject, catalog: &Catalog, test: &Test, crashes: bool, added: Option<Added>) -> Run {
    let wall_ms = test.steps.iter().find_map(|step| step.at_ms);
    let mut machine = match Machine::start(subject.clone(), wall_ms).await {
        Ok(machine) => machine,
        Err(problem) => {
            let findings = vec![finding(test.place(), problem.to_string())];
            return Run { findings, crashes: 0, passed: BTreeMap::new() };
        }
    };
    let before = machine.passed();
    if let Some(Added { point, nth }) = added {
        machine.arm(point, nth);
    }
    let mut runner = Runner { catalog, test, machine, crashes };
    let findings = runner.steps().await;
    let mut passed = runner.machine.passed();
    for (point, hits) in &mut passed {
        *hits = hits.saturating_sub(before.get(point).copied().unwrap_or(0));
    }
    passed.retain(|_, hits| *hits > 0);
    Run { findings, crashes: runner.machine.crashes(), passed }
}

struct Runner<'a> {
    catalog: &'a Catalog,
    test: &'a Test,
    machine: Machine,
    crashes: bool,
}

fn finding(place: String, message: String) -> Finding {
    Finding { place, message, difference: None }
}

impl Runner<'_> {
    /// Runs everything up to the first step that finds something.
    async fn steps(&mut self) -> Vec<Finding> {
        for step in &self.test.steps {
            match self.step(step).await {
                Ok(findings) if findings.is_empty() => {}
                Ok(mut findings) => {
                    // What it did not take may be why.
                    findings.extend(self.unexpected_dead_letters().await.unwrap_or_default());
                    return findings;
                }
                Err(problem) => return vec![finding(step.place.shown(), problem.to_string())],
            }
        }
        match self.end().await {
            Ok(findings) => findings,
            Err(problem) => vec![finding(self.test.place(), problem.to_string())],
        }
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Finding>, Problem> {
        if let Some(at_ms) = step.at_ms {
            self.machine.set_clock(at_ms);
        }
        match &step.action {
            Action::Nothing => {}
            Action::Produce { topic, partition, values, times } => {
                let values = std::iter::repeat_n(values, *times).flatten().cloned();
                self.machine.produce(topic, *partition, values).await?;
            }
            Action::Wait(time) => self.machine.wait(*time).await?,
            Action::CrashNow | Action::CrashAt { .. } if !self.crashes => {}
            Action::CrashNow => self.machine.crash_now().await?,
            Action::CrashAt { point, nth } => {
                if let Some(finding) = self.crash_has_come().await? {
                    return Ok(vec![finding]);
                }
                self.machine.arm(*point, *nth);
                self.machine.settle().await?;
            }
            Action::Expect(expected) => {
                if self.crashes
                    && let Some(finding) = self.crash_has_come().await?
                {
                    return Ok(vec![finding]);
                }
                return self.expect(expected).await;
            }
        }
        Ok(vec![])
    }

    /// A crash that never comes tests nothing, and says so.
    async fn crash_has_come(&mut self) -> Result<Option<Finding>, Problem> {
        let Some(point) = self.machine.outstanding_crash().await? else { return Ok(None) };
        let step = self
            .test
            .steps
            .iter()
            .rfind(|step| matches!(step.action, Action::CrashAt { point: at, .. } if at == point));
        let place = step.map_or_else(|| self.test.place(), |step| step.place.shown());
        let message = format!(
            "nothing passed the crash point {} after this; put the step before what passes it, or leave it out",
            point.name()
        );
        Ok(Some(finding(place, message)))
    }

    async fn expect(&mut self, expected: &[Expected]) -> Result<Vec<Finding>, Problem> {
        self.machine.settle().await?;
        let mut findings = vec![];
        for Expected { place, what } in expected {
            let catalog = self.catalog;
            let found = self.machine.ask(async |assembly| check(assembly, catalog, what)).await?;
            findings.extend(found.map(|(message, difference)| Finding { place: place.shown(), message, difference }));
        }
        Ok(findings)
    }

    /// What holds after every test: tables hold what their views hold, and nothing was refused that no one expected.
    /// Then a clean stop; a crash in it changes nothing either.
    async fn end(&mut self) -> Result<Vec<Finding>, Problem> {
        let mut findings = self.tables_equal_views().await?;
        findings.extend(self.unexpected_dead_letters().await?);
        if !findings.is_empty() {
            return Ok(findings);
        }
        let crashes = self.machine.crashes();
        self.machine.stop().await?;
        if self.machine.crashes() > crashes {
            findings = self.expect(self.test.final_expectations()).await?;
            findings.extend(self.tables_equal_views().await?);
            self.machine.stop().await?;
        }
        Ok(findings)
    }

    async fn tables_equal_views(&mut self) -> Result<Vec<Finding>, Problem> {
        self.machine.settle().await?;
        let mut findings = vec![];
        let stored: Vec<_> = self.catalog.views.values().filter(|view| view.stored_as.is_some()).cloned().collect();
        for view in stored {
            let difference = self.machine.ask(async |assembly| table_against_view(assembly, &view).await).await?;
            findings.extend(difference.map(|difference| Finding {
                place: self.test.place(),
                message: format!("the stored table of '{}' is not what the view is", view.name),
                difference: Some(difference),
            }));
        }
        Ok(findings)
    }

    /// Records that went to the dead letters although no expectation names their table.
    async fn unexpected_dead_letters(&mut self) -> Result<Vec<Finding>, Problem> {
        let expected = self.test.steps.iter().flat_map(|step| match &step.action {
            Action::Expect(expected) => expected.as_slice(),
            _ => &[],
        });
        let expected: BTreeSet<&str> = expected
            .filter_map(|expected| match &expected.what {
                What::DeadLetters { object, .. } => Some(object.as_str()),
                _ => None,
            })
            .collect();
        let letters = self.machine.ask(async |assembly| dead_letters(assembly)).await?;
        let mut by_object: BTreeMap<&str, Vec<&DeadLetter>> = BTreeMap::new();
        for letter in &letters {
            by_object.entry(&letter.object).or_default().push(letter);
        }
        by_object.retain(|object, _| !expected.contains(object));
        let told = by_object.into_iter().map(|(object, letters)| Finding {
            place: self.test.place(),
            message: format!(
                "{} of '{object}' that no expectation names",
                counted(letters.len() as u64, "dead letter")
            ),
            difference: difference(&shown_letters(&[]), &shown_letters(&letters), &[]),
        });
        Ok(told.collect())
    }
}

type Found = Option<(String, Option<Difference>)>;

/// Holds one expectation against the platform.
fn check(assembly: &Assembly, catalog: &Catalog, what: &What) -> Result<Found, Problem> {
    match what {
        What::View { view, rows } => {
            let Some(definition) = catalog.views.get(view) else { return Ok(None) };
            let names = match rows.columns.is_empty() {
                true => definition.plan.schema.fields().iter().map(|field| field.name().clone()).collect(),
                false => rows.names(),
            };
            let found = view_rows(assembly, definition, &names)?;
            let difference = difference(rows, &found, &definition.key().unwrap_or_default());
            let message =
                || format!("the rows of '{view}' differ: {} expected, {} found", rows.rows.len(), found.rows.len());
            Ok(difference.map(|difference| (message(), Some(difference))))
        }
        What::LateRows { view, count } => {
            let status = assembly.status();
            let node = status.nodes.iter().find(|node| node.kind == NodeKind::View && node.id == *view);
            let late = node.map_or(0, |node| node.late);
            Ok((late != *count)
                .then(|| (format!("the late rows of '{view}' differ: {count} expected, {late} found"), None)))
        }
        What::DeadLetters { object, letters } => {
            let found = dead_letters(assembly)?;
            let found: Vec<&DeadLetter> = found.iter().filter(|letter| letter.object == *object).collect();
            let (expected, left, missing) = match letters {
                Letters::Count(count) => (*count, found.clone(), vec![]),
                Letters::Reasons(reasons) => {
                    let (left, missing) = unmatched(&found, reasons);
                    (reasons.len() as u64, left, missing)
                }
            };
            let is_met = match letters {
                Letters::Count(count) => found.len() as u64 == *count,
                Letters::Reasons(_) => left.is_empty() && missing.is_empty(),
            };
            if is_met {
                return Ok(None);
            }
            let message = format!("the dead letters of '{object}' differ: {expected} expected, {} found", found.len());
            Ok(Some((message, difference(&shown_reasons(&missing), &shown_letters(&left), &[]))))
        }
    }
}

/// Letters that no reason is in, and reasons that are in no letter, when each is used once. Long reasons choose first.
fn unmatched<'a>(letters: &[&'a DeadLetter], reasons: &[String]) -> (Vec<&'a DeadLetter>, Vec<String>) {
    let mut left = letters.to_vec();
    let mut missing = vec![];
    let mut reasons = reasons.to_vec();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.len()));
    for reason in reasons {
        match left.iter().position(|letter| letter.reason.contains(&reason)) {
            Some(index) => {
                left.remove(index);
            }
            None => missing.push(reason),
        }
    }
    (left, missing)
}

fn text(value: &str) -> Cell {
    Cell::Json(serde_json::Value::from(value).to_string())
}

fn letter_columns() -> Vec<Column> {
    ["reason", "record"].map(|name| Column { name: name.into(), is_number: false }).to_vec()
}

fn shown_letters(letters: &[&DeadLetter]) -> Rows {
    let row = |letter: &&DeadLetter| vec![text(&letter.reason), letter.value.as_deref().map_or(Cell::Null, text)];
    Rows { columns: letter_columns(), rows: letters.iter().map(row).collect() }
}

fn shown_reasons(reasons: &[String]) -> Rows {
    let row = |reason: &String| vec![text(reason), text("…")];
    Rows { columns: letter_columns(), rows: reasons.iter().map(row).collect() }
}

fn view_rows(assembly: &Assembly, view: &ViewDefinition, names: &[String]) -> Result<Rows, Problem> {
    let snapshot = assembly.platform().snapshot(&view.name);
    let Some(snapshot) = snapshot else {
        return Err(Problem::new(7304, format!("the view '{}' is not there", view.name)));
    };
    Rows::of(&snapshot.schema, &snapshot.batches, names).map_err(Problem::told)
}

/// A stored table is read as everyone reads it, through its files.
async fn table_against_view(assembly: &Assembly, view: &ViewDefinition) -> Result<Option<Difference>, Problem> {
    let schema = &view.plan.schema;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let served = view_rows(assembly, view, &names)?;
    let status = assembly.status();
    let Some(sink) = status.sinks.iter().find(|sink| sink.view == view.name) else { return Ok(None) };
    let location = sink.location.replace('\'', "''");
    let stored =
        assembly.platform().sql(format!("SELECT * FROM {}('{location}')", sink.format)).await.map_err(|problem| {
            Problem::new(7305, format!("the stored table of '{}' cannot be read: {}", view.name, problem.message))
        })?;
    // A table format has fewer types than Arrow; values are compared in the view's.
    let same_types = |batch: &RecordBatch| {
        let columns = schema.fields().iter().map(|field| {
            let column = batch.column(batch.schema().index_of(field.name())?);
            cast(column, field.data_type())
        });
        RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
    };
    let unreadable = |error: arrow::error::ArrowError| {
        Problem::new(7305, format!("the stored table of '{}' has other columns than the view: {error}", view.name))
    };
    let batches = stored.batches.iter().map(same_types).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let stored = Rows::of(schema, &batches, &names).map_err(Problem::told)?;
    Ok(difference(&served, &stored, &view.key().unwrap_or_default()))
}

/// All dead letters, topic by topic.
fn dead_letters(assembly: &Assembly) -> Result<Vec<DeadLetter>, Problem> {
    const READ_BYTES: usize = 4 << 20;
    let log = assembly.log();
    let mut letters = vec![];
    for topic in log.topics().into_iter().filter(|topic| topic.name.as_str().ends_with(".dlq")) {
        let mut next = 0;
        loop {
            let read = log.read(&topic.name, PartitionId(0), Offset(next), READ_BYTES).map_err(Problem::told)?;
            let before = next;
            let visited = records::decode(&read.batches, |record| {
                if record.offset.0 >= next {
                    next = record.offset.0 + 1;
                    letters.extend(record.value.and_then(|value| serde_json::from_slice::<DeadLetter>(value).ok()));
                }
            });
            visited.map_err(Problem::told)?;
            if next == before {
                break;
            }
        }
    }
    Ok(letters)
}
