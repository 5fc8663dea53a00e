//! A file of tests, read and held against the project: every name in it is known before anything runs.

use super::rows::{Rows, as_json, time_ms, typed};
use super::yaml::{self, Node, Place, suggesting};
use crate::Problem;
use arrow::datatypes::{Field, Schema};
use rivermere_base::{CrashPoint, TopicName};
use rivermere_sql::{Connector, TableDefinition, ViewDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a file, far above what a person writes.
pub(super) const FILE_BYTES: u64 = 4 << 20;
/// Records that one test produces, repetitions counted.
const RECORDS: usize = 200_000;
/// Longest `wait`.
const LONGEST_WAIT: Duration = Duration::from_secs(366 * 24 * 3600);

/// One test of a file.
#[derive(Debug)]
pub struct Test {
    pub name: String,
    pub(super) place: Place,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    /// Where the wall clock is put before it.
    pub(super) at_ms: Option<i64>,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    /// Only the clock.
    Nothing,
    Produce {
        topic: TopicName,
        partition: i32,
        values: Vec<bytes::Bytes>,
        times: usize,
    },
    CrashNow,
    /// At the `nth` time that the point is passed from now on.
    CrashAt {
        point: CrashPoint,
        nth: u64,
    },
    Wait(Duration),
    Expect(Vec<Expected>),
}

#[derive(Debug)]
pub(super) struct Expected {
    pub(super) place: Place,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// These rows and no others, in the columns that they name.
    View {
        view: String,
        rows: Rows,
    },
    DeadLetters {
        object: String,
        letters: Letters,
    },
    LateRows {
        view: String,
        count: u64,
    },
}

#[derive(Debug)]
pub(super) enum Letters {
    Count(u64),
    /// Each a text that the reason of one contains.
    Reasons(Vec<String>),
}

/// What a project has that tests can name.
pub(super) struct Catalog {
    pub(super) tables: BTreeMap<String, Arc<TableDefinition>>,
    pub(super) views: BTreeMap<String, Arc<ViewDefinition>>,
}

impl Test {
    /// `tests/late.yaml:3`
    pub fn place(&self) -> String {
        self.place.shown()
    }

    /// `tests/late.yaml`
    pub fn file(&self) -> &str {
        self.place.file()
    }

    /// The last expectations.
    pub(super) fn final_expectations(&self) -> &[Expected] {
        let expectations = self.steps.iter().rev().find_map(|step| match &step.action {
            Action::Expect(expected) => Some(expected.as_slice()),
            _ => None,
        });
        expectations.unwrap_or_default()
    }
}

/// The tests of a file's text. `name` is that of a file's only test, unless it says another.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(super) fn read(shown: &str, name: &str, text: String, catalog: &Catalog) -> Result<Vec<Test>, Problem> {
    let root = yaml::parse(shown, text)?;
    let fields = root.fields("a file of tests", &["tests", "name", "given", "expect"])?;
    let Some((_, tests)) = fields.iter().find(|(field, _)| field == "tests") else {
        return Ok(vec![test(&root, Some(name), catalog)?]);
    };
    if let Some((field, node)) = fields.iter().find(|(field, _)| field != "tests") {
        return Err(node.place.wrong_key(format!("'{field}' stands beside 'tests': put it into one of them")));
    }
    let mut names = BTreeSet::new();
    let mut read = vec![];
    for node in tests.items("'tests'")? {
        let test = test(&node, None, catalog)?;
        if !names.insert(test.name.clone()) {
            return Err(node.place.wrong(format!("there are two tests named '{}'", test.name)));
        }
        read.push(test);
    }
    if read.is_empty() {
        return Err(tests.place.wrong("'tests' is empty"));
    }
    Ok(read)
}

fn test(node: &Node, name: Option<&str>, catalog: &Catalog) -> Result<Test, Problem> {
    let fields: BTreeMap<String, Node> = node.fields("a test", &["name", "given", "expect"])?.into_iter().collect();
    let name = match (fields.get("name"), name) {
        (Some(given), _) => given.text("'name'")?,
        (None, Some(name)) => name.to_owned(),
        (None, None) => return Err(node.place.wrong("this test has no 'name'")),
    };
    let mut steps = vec![];
    if let Some(given) = fields.get("given") {
        // Where the clock is when the step begins, once a step has put it.
        let mut clock_ms: Option<i64> = None;
        for item in given.items("'given'")? {
            let step = step(&item, catalog)?;
            if let (Some(now), Some(at)) = (clock_ms, step.at_ms)
                && at < now
            {
                return Err(item.place.wrong("'at' goes back in time").hint(
                    "it is the moment at which records are produced, not their event time: a late record has an old \
                     time in its row",
                ));
            }
            clock_ms = step.at_ms.or(clock_ms);
            if let (Some(now), Action::Wait(time)) = (&mut clock_ms, &step.action) {
                *now = now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
            }
            steps.push(step);
        }
    }
    let records = steps.iter().map(|step| match &step.action {
        Action::Produce { values, times, .. } => values.len().saturating_mul(*times),
        _ => 0,
    });
    let records = records.fold(0_usize, usize::saturating_add);
    if records > RECORDS {
        return Err(node.place.wrong(format!("this test produces {records} records; at most {RECORDS}")));
    }
    match fields.get("expect") {
        Some(expect) => steps.push(Step {
            place: expect.place.clone(),
            at_ms: None,
            action: Action::Expect(expectations(expect, catalog)?),
        }),
        None if matches!(steps.last(), Some(Step { action: Action::Expect(_), .. })) => {}
        None => return Err(node.place.wrong("this test ends without 'expect'")),
    }
    Ok(Test { name, place: node.place.clone(), steps })
}

const STEP: &[&str] = &["at", "into", "rows", "raw", "partition", "times", "crash", "nth", "wait", "expect"];
/// What a step does; each has the fields that go with it.
const ACTIONS: &[(&str, &[&str])] =
    &[("into", &["rows", "raw", "partition", "times"]), ("crash", &["nth"]), ("wait", &[]), ("expect", &[])];

fn step(node: &Node, catalog: &Catalog) -> Result<Step, Problem> {
    let fields: BTreeMap<String, Node> = node.fields("a step", STEP)?.into_iter().collect();
    let at_ms = fields.get("at").map(time_ms).transpose()?;
    let mut actions = ACTIONS.iter().filter_map(|(action, with)| Some((*action, *with, fields.get(*action)?)));
    let found = actions.next();
    if let (Some((first, ..)), Some((second, _, node))) = (found, actions.next()) {
        return Err(node.place.wrong_key(format!("a step is either '{first}' or '{second}': make it two")));
    }
    let allowed = |field: &str| found.is_some_and(|(action, with, _)| field == action || with.contains(&field));
    if let Some((field, node)) = fields.iter().find(|(field, _)| *field != "at" && !allowed(field)) {
        let with = ACTIONS.iter().find(|(_, with)| with.contains(&field.as_str())).map_or("", |(action, _)| action);
        return Err(node.place.wrong_key(format!("'{field}' goes with '{with}', which this step has not")));
    }
    let action = match found {
        None if at_ms.is_some() => Action::Nothing,
        None => return Err(node.place.wrong("a step has one of: into, crash, wait, expect, at")),
        Some(("into", _, into)) => produce(into, &fields, catalog)?,
        Some(("crash", _, crash)) => crash_at(crash, &fields)?,
        Some(("wait", _, wait)) => Action::Wait(duration(wait)?),
        Some((.., expect)) => Action::Expect(expectations(expect, catalog)?),
    };
    Ok(Step { place: node.place.clone(), at_ms, action })
}

fn produce(into: &Node, fields: &BTreeMap<String, Node>, catalog: &Catalog) -> Result<Action, Problem> {
    let name = into.text("'into'")?;
    let Some(table) = catalog.tables.get(&name) else {
        let problem = match catalog.views.contains_key(&name) {
            true => into.place.wrong(format!("'{name}' is a view: its rows come from its query")),
            false => into.place.wrong(format!("there is no table '{name}'")),
        };
        return Err(suggesting(problem, &name, catalog.tables.keys().map(String::as_str)));
    };
    let Connector::Topic { topic, partitions } = &table.connector else {
        return Err(into.place.wrong(format!("'{name}' is a file: its rows are those of the file")));
    };
    let mut values = vec![];
    if let Some(rows) = fields.get("rows") {
        for row in rows.items("'rows'")? {
            for (column, value) in row.any_fields("a row")? {
                if table.schema.index_of(&column).is_err() {
                    let problem = value.place.wrong_key(format!("table '{name}' has no column '{column}'"));
                    let columns = table.schema.fields().iter().map(|field| field.name().as_str());
                    return Err(suggesting(problem, &column, columns));
                }
            }
            let json = as_json(&row.value).map_err(|message| row.place.wrong(message))?;
            values.push(json.to_string().into());
        }
    }
    if let Some(raw) = fields.get("raw") {
        let texts = match raw.items("'raw'") {
            Ok(items) => items.iter().map(|item| item.text("a raw record")).collect::<Result<Vec<_>, _>>()?,
            Err(_) => vec![raw.text("a raw record")?],
        };
        values.extend(texts.into_iter().map(bytes::Bytes::from));
    }
    if values.is_empty() {
        return Err(into.place.wrong(format!("nothing goes into '{name}': give 'rows' or 'raw'")));
    }
    let last = u64::try_from(partitions - 1).unwrap_or(0);
    let partition = match fields.get("partition") {
        Some(partition) => partition.whole(&format!("a partition of '{name}'"), 0..=last)?,
        None => 0,
    };
    let times = match fields.get("times") {
        Some(times) => times.whole("'times'", 1..=RECORDS as u64)?,
        None => 1,
    };
    Ok(Action::Produce {
        topic: topic.clone(),
        partition: i32::try_from(partition).unwrap_or(0),
        values,
        times: usize::try_from(times).unwrap_or(RECORDS),
    })
}

/// The plug, in place of a crash point.
const NOW: &str = "now";

fn crash_at(crash: &Node, fields: &BTreeMap<String, Node>) -> Result<Action, Problem> {
    let name = crash.text("'crash'")?;
    if name == NOW {
        return match fields.get("nth") {
            Some(nth) => Err(nth.place.wrong_key("'nth' counts how often a crash point is passed, and now is now")),
            None => Ok(Action::CrashNow),
        };
    }
    let Some(point) = CrashPoint::from_name(&name) else {
        let names = || CrashPoint::ALL.iter().map(|point| point.name()).chain([NOW]);
        let problem = crash.place.wrong(format!("there is no crash point '{name}'"));
        let problem = suggesting(problem, &name, names());
        return Err(match problem.hint {
            Some(_) => problem,
            None => problem.hint(format!("they are: {}", names().collect::<Vec<_>>().join(", "))),
        });
    };
    let nth = fields.get("nth").map_or(Ok(1), |nth| nth.whole("'nth'", 1..=1_000))?;
    Ok(Action::CrashAt { point, nth })
}

/// `10s`, `5 min`, `250 ms`
fn duration(node: &Node) -> Result<Duration, Problem> {
    let text = node.text("'wait'")?;
    let digits = text.trim().find(|char: char| !char.is_ascii_digit()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let seconds = match unit.trim() {
        "ms" => Some(0),
        "s" => Some(1),
        "min" | "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let duration = match (number.parse::<u64>(), seconds) {
        (Ok(number), Some(0)) => Some(Duration::from_millis(number)),
        (Ok(number), Some(seconds)) => number.checked_mul(seconds).map(Duration::from_secs),
        _ => None,
    };
    let duration = duration.filter(|duration| *duration <= LONGEST_WAIT);
    duration.ok_or_else(|| {
        node.place.wrong(format!("'{text}' is no time to wait: write 250 ms, 10 s, 5 min, 2 h or 1 d, up to a year"))
    })
}

const DEAD_LETTERS: &str = "dead_letters";
const LATE_ROWS: &str = "late_rows";

fn expectations(node: &Node, catalog: &Catalog) -> Result<Vec<Expected>, Problem> {
    let mut expected = vec![];
    for (name, node) in node.any_fields("'expect'")? {
        match (name.as_str(), catalog.views.get(&name)) {
            (_, Some(view)) => expected.push(Expected { place: node.place.clone(), what: rows(view, &node)? }),
            (DEAD_LETTERS, None) => {
                for (object, node) in node.any_fields("'dead_letters'")? {
                    let what = letters(object, &node, catalog)?;
                    expected.push(Expected { place: node.place, what });
                }
            }
            (LATE_ROWS, None) => {
                for (view, node) in node.any_fields("'late_rows'")? {
                    if !catalog.views.contains_key(&view) {
                        return Err(no_view(&view, &node, catalog, &[]));
                    }
                    let count = node.whole("the number of late rows", 0..=u64::MAX)?;
                    expected.push(Expected { place: node.place, what: What::LateRows { view, count } });
                }
            }
            (_, None) => return Err(no_view(&name, &node, catalog, &[DEAD_LETTERS, LATE_ROWS])),
        }
    }
    match expected.is_empty() {
        true => Err(node.place.wrong("nothing is expected: name a view and its rows")),
        false => Ok(expected),
    }
}

fn no_view(name: &str, node: &Node, catalog: &Catalog, others: &[&str]) -> Problem {
    let problem = match catalog.tables.contains_key(name) {
        true => node.place.wrong_key(format!("'{name}' is a table: expect the rows of a view")),
        false => node.place.wrong_key(format!("there is no view '{name}'")),
    };
    suggesting(problem, name, catalog.views.keys().map(String::as_str).chain(others.iter().copied()))
}

fn rows(view: &ViewDefinition, node: &Node) -> Result<What, Problem> {
    let schema = &view.plan.schema;
    let mut columns: Vec<String> = vec![];
    let mut values = vec![];
    let items = node.items(&format!("what is expected of '{}'", view.name))?;
    for (index, row) in items.iter().enumerate() {
        let fields = row.any_fields("a row")?;
        for (column, value) in &fields {
            if schema.index_of(column).is_err() {
                let problem = value.place.wrong_key(format!("view '{}' has no column '{column}'", view.name));
                return Err(suggesting(problem, column, schema.fields().iter().map(|field| field.name().as_str())));
            }
        }
        let names: Vec<String> = fields.into_iter().map(|(column, _)| column).collect();
        if index == 0 {
            columns = names;
        } else if let Some(odd) = columns.iter().find(|name| !names.contains(name)) {
            let problem = row.place.wrong(format!("this row says nothing of '{odd}', which the first one does"));
            return Err(problem.hint("the rows of a view name the same columns; what is empty is null"));
        } else if let Some(odd) = names.iter().find(|name| !columns.contains(name)) {
            let problem = row.place.wrong(format!("this row says something of '{odd}', which the first one does not"));
            return Err(problem.hint("the rows of a view name the same columns; what is empty is null"));
        }
        values.push(as_json(&row.value).map_err(|message| row.place.wrong(message))?);
    }
    // In the order in which they are written, by which differences are shown, too.
    let fields: Vec<&Field> = columns.iter().filter_map(|name| schema.field_with_name(name).ok()).collect();
    let named = Arc::new(Schema::new(fields.into_iter().cloned().collect::<Vec<_>>()));
    let batch = typed(named.clone(), &values).map_err(|(index, reason)| {
        let place = items.get(index).map_or(&node.place, |row| &row.place);
        place.wrong(format!("no row of '{}' can be like this: {reason}", view.name))
    })?;
    let rows = Rows::of(&named, &[batch], &columns).map_err(Problem::told)?;
    Ok(What::View { view: view.name.clone(), rows })
}

fn letters(object: String, node: &Node, catalog: &Catalog) -> Result<What, Problem> {
    if !catalog.tables.contains_key(&object) && !catalog.views.contains_key(&object) {
        let problem = node.place.wrong_key(format!("there is no table or view '{object}'"));
        let names = catalog.tables.keys().chain(catalog.views.keys()).map(String::as_str);
        return Err(suggesting(problem, &object, names));
    }
    if let Ok(count) = node.whole("", 0..=u64::MAX) {
        return Ok(What::DeadLetters { object, letters: Letters::Count(count) });
    }
    let mut reasons = vec![];
    for letter in node.items("what is expected of dead letters (a number, or each of them)")? {
        let fields = letter.fields("a dead letter", &["reason"])?;
        let Some((_, reason)) = fields.first() else {
            return Err(letter.place.wrong("a dead letter has a 'reason': a part of its text"));
        };
        reasons.push(reason.text("'reason'")?);
    }
    Ok(What::DeadLetters { object, letters: Letters::Reasons(reasons) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Project;

    const SQL: &str = "
        CREATE TABLE orders (id BIGINT NOT NULL, country TEXT, placed_at TIMESTAMP(3)) WITH ('partitions' = '2');
        CREATE TABLE countries (code TEXT) WITH ('connector' = 'file', 'path' = 'countries.parquet');
        CREATE MATERIALIZED VIEW turnover AS SELECT country, COUNT(*) AS orders FROM orders GROUP BY country;
    ";

    fn parse(text: &str) -> Result<Vec<Test>, Problem> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.sql");
        std::fs::write(&file, SQL).unwrap();
        let planned = Project::load(&file).unwrap().plan(BTreeMap::new()).unwrap();
        let catalog = Catalog {
            tables: planned.tables.iter().map(|table| (table.name.clone(), table.clone())).collect(),
            views: planned.views.iter().map(|view| (view.name.clone(), view.clone())).collect(),
        };
        read("tests/t.yaml", "t", text.into(), &catalog)
    }

    #[track_caller]
    fn told(text: &str, at: &str, message: &str, hint: &str) {
        let told = parse(text).unwrap_err().to_string();
        assert!(told.contains(&format!("tests/t.yaml:{at}\n")), "no {at} in {told}");
        assert!(told.contains(message), "no '{message}' in {told}");
        assert!(told.contains(hint), "no '{hint}' in {told}");
    }

    #[test]
    fn a_whole_test_is_read() {
        let tests = parse(
            "name: two orders\n\
             given:\n\
             - {at: 2026-01-01 09:00, into: orders, partition: 1, times: 3, rows: [{id: 1, country: NZ}], raw: broken}\n\
             - {crash: after_manifest_put, nth: 2}\n\
             - {crash: now}\n\
             - {wait: 10 s}\n\
             - {at: 2026-01-01T10:00:00Z}\n\
             - expect: {turnover: []}\n\
             expect:\n\
             \x20 turnover: [{country: NZ, orders: 3}]\n\
             \x20 dead_letters: {orders: [{reason: JSON}], turnover: 0}\n\
             \x20 late_rows: {turnover: 0}\n",
        )
        .unwrap();
        let test = &tests[0];
        assert_eq!((test.name.as_str(), test.steps.len(), test.final_expectations().len()), ("two orders", 7, 4));
        let Action::Produce { partition, values, times, .. } = &test.steps[0].action else { panic!("{test:?}") };
        assert_eq!((*partition, *times, values.len()), (1, 3, 2));
        assert_eq!(values[0], r#"{"id":1,"country":"NZ"}"#);
        assert!(matches!(test.steps[1].action, Action::CrashAt { point: CrashPoint::AfterManifestPut, nth: 2 }));
        assert_eq!(test.steps[4].at_ms.unwrap() - test.steps[0].at_ms.unwrap(), 3_600_000);
        assert_eq!(test.place(), "tests/t.yaml:1");
    }

    #[test]
    fn several_tests_and_rows_that_build_on_each_other() {
        let tests = parse(
            "tests:\n\
             - name: a\n\
             \x20 given: [{into: orders, rows: [&one {id: 1, country: NZ}, {<<: *one, id: 2}]}]\n\
             \x20 expect: {turnover: [{country: NZ, orders: 2}]}\n\
             - {name: b, expect: {turnover: []}}\n",
        )
        .unwrap();
        assert_eq!(tests.iter().map(Test::place).collect::<Vec<_>>(), ["tests/t.yaml:2", "tests/t.yaml:5"]);
        let Action::Produce { values, .. } = &tests[0].steps[0].action else { panic!("{tests:?}") };
        let second: serde_json::Value = serde_json::from_slice(&values[1]).unwrap();
        assert_eq!(second, serde_json::json!({"id": 2, "country": "NZ"}));
    }

    #[test]
    fn what_is_unknown_is_told_with_its_place_and_what_was_meant() {
        let expect = "\nexpect: {turnover: []}\n";
        let given = |step: &str| format!("given:\n  - {step}{expect}");
        told("gvien: []\n", "1:1", "a file of tests has no 'gvien'", "did you mean 'given'?");
        told(&given("{into: ordres, rows: []}"), "2:12", "there is no table 'ordres'", "did you mean 'orders'?");
        told(&given("{into: turnover, rows: []}"), "2:12", "'turnover' is a view", "");
        told(&given("{into: countries, rows: []}"), "2:12", "'countries' is a file", "");
        told(&given("{into: orders, rows: [{id: 1, contry: NZ}]}"), "2:35", "no column 'contry'", "'country'?");
        told(&given("{into: orders, partition: 2, rows: [{id: 1}]}"), "2:31", "from 0 to 1", "");
        told(&given("{into: orders}"), "2:12", "nothing goes into 'orders'", "");
        told(&given("{crash: after_manifest_putt}"), "2:13", "no crash point", "did you mean 'after_manifest_put'?");
        told(&given("{crash: lunch}"), "2:13", "no crash point 'lunch'", "they are: before_wal_create, ");
        told(&given("{crash: now, nth: 2}"), "2:18", "'nth' counts", "");
        told(&given("{crash: now, wait: 1s}"), "2:18", "either 'crash' or 'wait'", "");
        told(&given("{wait: 1s, rows: []}"), "2:16", "'rows' goes with 'into'", "");
        told(&given("{wait: soon}"), "2:12", "'soon' is no time to wait", "10 s");
        told(&given("{at: lunch}"), "2:10", "lunch", "");
        told(&given("{}"), "2:5", "a step has one of", "");
        told("expect: {turnovr: []}", "1:10", "there is no view 'turnovr'", "did you mean 'turnover'?");
        told("expect: {orders: []}", "1:10", "'orders' is a table", "");
        told("expect: {late_row: {}}", "1:10", "there is no view 'late_row'", "did you mean 'late_rows'?");
        told("expect: {late_rows: {turnovr: 1}}", "1:22", "there is no view 'turnovr'", "'turnover'?");
        told("expect: {dead_letters: {order: 1}}", "1:25", "no table or view 'order'", "'orders'?");
        told("expect: {turnover: [{contry: NZ}]}", "1:22", "no column 'contry'", "did you mean 'country'?");
        told("expect: {turnover: [{orders: many}]}", "1:21", "no row of 'turnover' can be like this", "");
        told("expect: {turnover: [{country: A, orders: 1}, {country: B}]}", "1:46", "says nothing of 'orders'", "null");
        told("expect: {turnover: [{country: A}, {country: B, orders: 1}]}", "1:35", "something of 'orders'", "null");
        told("expect: {}", "1:9", "nothing is expected", "");
        told("given: []\n", "1:1", "ends without 'expect'", "");
        told("tests: []\n", "1:8", "'tests' is empty", "");
        told(
            "tests: [{name: a, expect: {turnover: []}}, {name: a, expect: {turnover: []}}]",
            "1:44",
            "two tests named 'a'",
            "",
        );
        told("tests: [{expect: {turnover: []}}]", "1:9", "has no 'name'", "");
        let back = "given:\n- {at: 2026-01-02}\n- {at: 2026-01-01}\nexpect: {turnover: []}\n";
        told(back, "3:3", "'at' goes back in time", "not their event time");
        let back = "given: [{at: 2026-01-01}, {wait: 1h}, {at: 2026-01-01T00:30:00}]\nexpect: {turnover: []}\n";
        told(back, "1:39", "'at' goes back in time", "");
        let many = "given: [{into: orders, times: 200000, rows: [{id: 1}, {id: 2}]}]\nexpect: {turnover: []}\n";
        told(many, "1:1", "produces 400000 records", "");
    }
}
