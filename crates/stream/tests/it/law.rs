//! Law 1: after every step, integrate(stream output) == batch, for random changes cut at random into steps; and law 3
//! in part: a checkpoint and restore at any step changes nothing.

use crate::oracle::{Multiset, add, answer, integrate, multiset, plain_answer};
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;
use rivermere_base::Changes;
use rivermere_sql::{Planner, Properties, Relation, RelationKind, Script, Statement, ViewDefinition};
use rivermere_stream::{Dataflow, needed_columns, table_input_schema};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Tables t and u, the first of which may be a stream; both may lose rows unless `append_only`.
pub const TABLES: &str = "
    CREATE TABLE t (k INT, g TEXT, v BIGINT, d DOUBLE, ts TIMESTAMP(3));
    CREATE TABLE u (k INT, name TEXT, w BIGINT, ts TIMESTAMP(3));";

pub struct Pipeline {
    pub planner: Planner,
    pub views: Vec<Arc<ViewDefinition>>,
    /// Queries as they are written, where every order is total.
    pub queries: BTreeMap<String, LogicalPlan>,
    pub dataflow: Dataflow,
    pub schemas: BTreeMap<String, SchemaRef>,
}

pub fn pipeline(sql: &str, append_only: bool) -> Pipeline {
    let script = Script::parse("law.sql", &format!("{TABLES}\n{sql}")).unwrap_or_else(|error| panic!("{error}"));
    let mut planner = Planner::new();
    let mut views = vec![];
    let mut schemas = BTreeMap::new();
    let mut queries = BTreeMap::new();
    for parsed in script.statements() {
        match &parsed.statement {
            Statement::CreateTable(create) => {
                let table = create.define(parsed).unwrap_or_else(|error| panic!("{error}"));
                schemas.insert(table.name.clone(), table.schema.clone());
                let width = table.schema.fields().len();
                let properties = Properties { append_only, key: None, time: vec![None; width], is_static: false };
                planner
                    .add(Relation {
                        name: table.name.clone(),
                        schema: table.schema.clone(),
                        kind: RelationKind::Table(Arc::new(table)),
                        properties,
                    })
                    .unwrap();
            }
            Statement::CreateView(create) => {
                let view = planner.plan_view(create, parsed).unwrap_or_else(|error| panic!("{error}"));
                // ROW_NUMBER may decide ties as it likes; our plan decides them by the whole row.
                if !parsed.text.contains("ROW_NUMBER") && !parsed.text.contains("LIMIT") {
                    let query = planner.plan_query(&create.query, parsed).unwrap();
                    queries.insert(view.name.clone(), query);
                }
                planner.add_view(view.clone()).unwrap();
                views.push(view);
            }
            other => panic!("{other:?}"),
        }
    }
    let dataflow = dataflow(&planner, &views, &schemas);
    Pipeline { planner, views, queries, dataflow, schemas }
}

pub fn dataflow(planner: &Planner, views: &[Arc<ViewDefinition>], schemas: &BTreeMap<String, SchemaRef>) -> Dataflow {
    let mut dataflow = Dataflow::new();
    let needed = needed_columns(views);
    for (table, schema) in schemas {
        dataflow.add_table(table, table_input_schema(schema, needed.get(table).unwrap_or(&BTreeSet::new())));
    }
    for view in views {
        dataflow.add_view(planner, view).unwrap_or_else(|error| panic!("{error}"));
    }
    dataflow
}

/// The change as the dataflow wants it: needed columns, and lateness 0.
pub fn input(dataflow: &Dataflow, table: &str, changes: &Changes) -> Changes {
    let schema = dataflow.relation_schema(table).unwrap();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match changes.batch().column_by_name(field.name()) {
            Some(column) => column.clone(),
            None => Arc::new(Int64Array::from(vec![0; changes.num_rows()])) as ArrayRef,
        })
        .collect();
    Changes::new(RecordBatch::try_new(schema, columns).unwrap(), changes.weights().clone()).unwrap()
}

fn random_rows(random: &mut Random, schema: &SchemaRef, rows: usize) -> RecordBatch {
    let maybe = |random: &mut Random, value: i64| (random.below(8) != 0).then_some(value);
    let columns = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.data_type() {
                DataType::Int32 => Arc::new(Int32Array::from_iter((0..rows).map(|_| {
                    let value = random.below(5) as i64;
                    maybe(random, value).map(|value| value as i32)
                }))),
                DataType::Int64 => Arc::new(Int64Array::from_iter((0..rows).map(|_| {
                    let value = random.below(20) as i64 - 10;
                    maybe(random, value)
                }))),
                DataType::Float64 => Arc::new(Float64Array::from_iter((0..rows).map(|_| {
                    let value = random.below(2_000) as i64 - 1_000;
                    maybe(random, value).map(|value| value as f64 / 8.0)
                }))),
                DataType::Utf8 => Arc::new(StringArray::from_iter((0..rows).map(|_| {
                    let value = random.below(3) as i64;
                    maybe(random, value)
                        .map(|value| ["a", "bb", "a longer text than thirty-two bytes, by far"][value as usize])
                }))),
                DataType::Timestamp(TimeUnit::Millisecond, None) => {
                    Arc::new(TimestampMillisecondArray::from_iter((0..rows).map(|_| {
                        let value = random.below(20_000) as i64 - 5_000;
                        maybe(random, value)
                    })))
                }
                other => panic!("{other}"),
            }
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// Random insertions, and deletions of rows that are there.
fn random_change(random: &mut Random, schema: &SchemaRef, held: &mut Vec<RecordBatch>, append_only: bool) -> Changes {
    let rows = random.below(7) as usize;
    let inserted = random_rows(random, schema, rows);
    let mut parts = vec![Changes::inserts(inserted.clone())];
    for row in 0..rows {
        held.push(inserted.slice(row, 1));
    }
    if !append_only {
        for _ in 0..random.below(5) {
            if held.is_empty() {
                break;
            }
            let at = random.below(held.len() as u64) as usize;
            let row = held.swap_remove(at);
            parts.push(Changes::with_weights(row, Int64Array::from(vec![-1])).unwrap());
        }
        if random.below(2) == 0 {
            parts.reverse();
        }
    }
    Changes::concat(schema, &parts).unwrap()
}

/// Runs a script of random changes and compares every view with the oracle after each step.
pub fn check_law(sql: &str, append_only: bool, seed: u64) {
    let mut random = Random::new(seed);
    let mut pipeline = pipeline(sql, append_only);
    let mut history: BTreeMap<String, Vec<Changes>> = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    let mut outputs: BTreeMap<String, Multiset> = BTreeMap::new();
    let views: BTreeSet<String> = pipeline.views.iter().map(|view| view.name.clone()).collect();
    let watermarks = BTreeMap::new();
    let steps = 3 + random.below(6);
    let mut saved: Vec<(String, Vec<u8>, Option<Vec<u8>>)> = vec![];
    for step in 0..steps {
        let mut inputs = BTreeMap::new();
        for (table, schema) in &pipeline.schemas {
            if random.below(4) == 0 {
                continue;
            }
            let change = random_change(&mut random, schema, held.entry(table.clone()).or_default(), append_only);
            history.entry(table.clone()).or_default().push(change.clone());
            if pipeline.dataflow.relation_schema(table).is_some() && change.num_rows() > 0 {
                inputs.insert(table.clone(), vec![input(&pipeline.dataflow, table, &change)]);
            }
        }
        let output = if step == 0 {
            pipeline.dataflow.bootstrap(inputs, &watermarks, &views, true)
        } else {
            pipeline.dataflow.step(inputs, &watermarks)
        }
        .unwrap_or_else(|error| panic!("seed {seed}, step {step}, {sql}: {error}"));
        assert_eq!(output.rejected, vec![], "seed {seed}");
        for (view, changes) in &output.views {
            add(outputs.entry(view.clone()).or_default(), changes);
        }
        let mut contents: BTreeMap<String, Vec<RecordBatch>> = pipeline
            .schemas
            .iter()
            .map(|(table, schema)| (table.clone(), integrate(schema, history.get(table).map_or(&[], Vec::as_slice))))
            .collect();
        for view in &pipeline.views {
            let expected = answer(view, &contents);
            let expected_rows = multiset(&expected);
            if let Some(query) = pipeline.queries.get(&view.name) {
                let plain = multiset(&plain_answer(query, &contents));
                assert_eq!(plain, expected_rows, "the plan of {}, seed {seed}, step {step}\n{sql}", view.name);
            }
            let snapshot = pipeline.dataflow.snapshot(&view.name).unwrap().batches().unwrap();
            assert_eq!(
                multiset(&snapshot),
                expected_rows,
                "snapshot of {}, seed {seed}, step {step}\n{sql}",
                view.name
            );
            let emitted = outputs.get(&view.name).cloned().unwrap_or_default();
            assert_eq!(emitted, expected_rows, "changes of {}, seed {seed}, step {step}\n{sql}", view.name);
            contents.insert(view.name.clone(), expected);
        }
        // Now and then the process stops after a checkpoint and another takes over.
        if random.below(3) == 0 {
            pipeline
                .dataflow
                .checkpoint_entries(|id, key, value| saved.push((id.into(), key.into(), value.map(Into::into))))
                .unwrap();
            let mut restored = dataflow(&pipeline.planner, &pipeline.views, &pipeline.schemas);
            restored
                .restore_entries(saved.iter().map(|(id, key, value)| (id.as_str(), key.as_slice(), value.as_deref())))
                .unwrap();
            pipeline.dataflow = restored;
        }
    }
}
