//! One query: its SQL through our planner into our dataflow, and its inputs as the dataflow wants them.

use crate::events::Step;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use rivermere_base::Changes;
use rivermere_benches::clock::thread_cpu;
use rivermere_sql::{Planner, Script, Statement, ViewDefinition};
use rivermere_stream::{Dataflow, needed_columns, table_input_schema};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How far each table's watermark is behind, as `tables.sql` says.
const WATERMARK_DELAY_US: i64 = 4_000_000;

/// A checkpoint's changes are drained after this many steps: the engine keeps what changed until then.
const STEPS_OF_AN_EPOCH: usize = 64;

const TABLES: &str = include_str!("sql/tables.sql");

/// All queries, with the hand-wired limit of one core in M events per CPU-second (least, most) where one was measured.
pub const QUERIES: [(&str, &str, Option<(f64, f64)>); 19] = [
    ("q0", include_str!("sql/q0.sql"), None),
    ("q1", include_str!("sql/q1.sql"), Some((670.0, 1270.0))),
    ("q2", include_str!("sql/q2.sql"), Some((1250.0, 2390.0))),
    ("q3", include_str!("sql/q3.sql"), None),
    ("q4", include_str!("sql/q4.sql"), Some((28.0, 34.0))),
    ("q5", include_str!("sql/q5.sql"), Some((58.0, 67.0))),
    ("q7", include_str!("sql/q7.sql"), Some((28.0, 31.0))),
    ("q8", include_str!("sql/q8.sql"), Some((690.0, 690.0))),
    ("q9", include_str!("sql/q9.sql"), None),
    ("q12", include_str!("sql/q12.sql"), None),
    ("q14", include_str!("sql/q14.sql"), None),
    ("q15", include_str!("sql/q15.sql"), None),
    ("q16", include_str!("sql/q16.sql"), None),
    ("q17", include_str!("sql/q17.sql"), Some((23.0, 28.0))),
    ("q18", include_str!("sql/q18.sql"), Some((10.7, 12.2))),
    ("q19", include_str!("sql/q19.sql"), None),
    ("q20", include_str!("sql/q20.sql"), None),
    ("q21", include_str!("sql/q21.sql"), None),
    ("q22", include_str!("sql/q22.sql"), None),
];

pub struct Query {
    pub view: Arc<ViewDefinition>,
    dataflow: Dataflow,
    tables: Vec<String>,
}

/// What one pass cost.
#[derive(Default)]
pub struct Cost {
    pub steps: Duration,
    /// Telling what changed, once an epoch; nothing is written.
    pub checkpoints: Duration,
    pub checkpoint_bytes: usize,
    pub changes: usize,
}

/// The changes and watermarks of one step.
type Input = (BTreeMap<String, Vec<Changes>>, BTreeMap<String, i64>);

impl Query {
    pub fn new(name: &str, sql: &str) -> Self {
        let script = Script::parse(name, &format!("{TABLES}\n{sql}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut planner = Planner::new();
        let mut schemas = BTreeMap::new();
        let mut views = vec![];
        for parsed in script.statements() {
            match &parsed.statement {
                Statement::CreateTable(create) => {
                    let table = create.define(parsed).unwrap_or_else(|error| panic!("{name}: {error}"));
                    schemas.insert(table.name.clone(), table.schema.clone());
                    planner.add_table(table).unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                Statement::CreateView(create) => {
                    let view = planner.plan_view(create, parsed).unwrap_or_else(|error| panic!("{name}: {error}"));
                    planner.add_view(view.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
                    views.push(view);
                }
                other => panic!("{name}: {other:?} has no place in a query"),
            }
        }
        let mut dataflow = Dataflow::new();
        let needed = needed_columns(&views);
        for (table, columns) in &needed {
            dataflow.add_table(table, table_input_schema(&schemas[table], columns));
        }
        for view in &views {
            dataflow.add_view(&planner, view).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let view = views.pop().unwrap_or_else(|| panic!("{name} has no view"));
        Self { view, dataflow, tables: needed.into_keys().collect() }
    }

    /// Runs all steps; only the engine is on the clock.
    pub fn run(&mut self, steps: &[Step]) -> Cost {
        let mut cost = Cost::default();
        let views = BTreeSet::from([self.view.name.clone()]);
        for (number, step) in steps.iter().enumerate() {
            let (inputs, watermarks) = self.input(step);
            let before = thread_cpu();
            let output = match number {
                0 => self.dataflow.bootstrap(inputs, &watermarks, &views, true),
                _ => self.dataflow.step(inputs, &watermarks),
            };
            cost.steps += thread_cpu() - before;
            let output = output.unwrap_or_else(|error| panic!("{}, step {number}: {error}", self.view.name));
            assert!(output.rejected.is_empty() && output.late.is_empty(), "no event is broken, none is late");
            cost.changes += output.views.iter().map(|(_, changes)| changes.num_rows()).sum::<usize>();
            if number % STEPS_OF_AN_EPOCH == STEPS_OF_AN_EPOCH - 1 {
                let before = thread_cpu();
                let bytes = &mut cost.checkpoint_bytes;
                let told = self
                    .dataflow
                    .checkpoint_entries(|_, key, value| *bytes += key.len() + value.map_or(0, <[u8]>::len));
                cost.checkpoints += thread_cpu() - before;
                told.unwrap_or_else(|error| panic!("{}, checkpoint: {error}", self.view.name));
            }
        }
        cost
    }

    /// Columns that the query needs and the hidden lateness; every event is on time. Shares the events' columns.
    fn input(&self, step: &Step) -> Input {
        let (mut inputs, mut watermarks) = (BTreeMap::new(), BTreeMap::new());
        for table in &self.tables {
            let events = step.table(table);
            let schema = self.dataflow.relation_schema(table).expect("the table was added");
            let columns = schema.fields().iter().map(|field| match events.column_by_name(field.name()) {
                Some(column) => column.clone(),
                None => Arc::new(Int64Array::from_value(i64::MIN, events.num_rows())) as ArrayRef,
            });
            let batch =
                RecordBatch::try_new(schema.clone(), columns.collect()).expect("the generator makes the table's types");
            inputs.insert(table.clone(), vec![Changes::inserts(batch)]);
            watermarks.insert(table.clone(), step.latest_us - WATERMARK_DELAY_US);
        }
        (inputs, watermarks)
    }

    /// Rows of the view.
    pub fn rows(&self) -> usize {
        self.dataflow.snapshot(&self.view.name).map_or(0, |snapshot| snapshot.num_rows())
    }

    pub fn snapshot(&self) -> Vec<RecordBatch> {
        let snapshot = self.dataflow.snapshot(&self.view.name).expect("the view was added");
        snapshot.batches().expect("a view's rows can be read")
    }

    /// State entries, their bytes, bytes of the view's rows.
    pub fn state(&self) -> (usize, usize, usize) {
        self.dataflow.state_size(&self.view.name)
    }
}
