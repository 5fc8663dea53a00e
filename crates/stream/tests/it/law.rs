//! Law 1: after every step, integrate(stream output) == batch, for random changes cut at random into steps; and law 3
//! in part: a checkpoint and restore at any step changes nothing.

use crate::oracle::{Multiset, add, answer, integrate, multiset, plain_answer};
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;
use rivermere_base::Changes;
use rivermere_sql::{LATENESS_COLUMN, Planner, Properties, Relation, RelationKind, Script, Statement, ViewDefinition};
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

/// Tables t and u, and one that is complete after the first step.
const TABLES: &str = "
    CREATE TABLE t (k INT, g TEXT, v BIGINT, d DOUBLE, ts TIMESTAMP(3));
    CREATE TABLE u (k INT, name TEXT, w BIGINT, ts TIMESTAMP(3));
    CREATE TABLE f (k INT, label TEXT, x BIGINT) WITH ('connector' = 'file', 'path' = 'f.parquet');";

/// The same with watermarks, 2 seconds behind.
const TIMED_TABLES: &str = "
    CREATE TABLE t (k INT, g TEXT, v BIGINT, d DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
    CREATE TABLE u (k INT, name TEXT, w BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
    CREATE TABLE f (k INT, label TEXT, x BIGINT) WITH ('connector' = 'file', 'path' = 'f.parquet');";

/// What the tables of a script do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Rows come and go.
    Changing,
    Appended,
    /// Rows come, some of them late, and watermarks free state.
    Timed,
}

pub struct Pipeline {
    pub planner: Planner,
    pub views: Vec<Arc<ViewDefinition>>,
    /// Queries as they are written, where every order is total.
    pub queries: BTreeMap<String, LogicalPlan>,
    pub dataflow: Dataflow,
    pub schemas: BTreeMap<String, SchemaRef>,
    /// Tables whose rows are all there in the first step.
    statics: BTreeSet<String>,
}

pub fn pipeline(sql: &str, input: Input) -> Pipeline {
    let tables = if input == Input::Timed { TIMED_TABLES } else { TABLES };
    let script = Script::parse("law.sql", &format!("{tables}\n{sql}")).unwrap_or_else(|error| panic!("{error}"));
    let mut planner = Planner::new();
    let mut views = vec![];
    let mut schemas = BTreeMap::new();
    let mut queries = BTreeMap::new();
    let mut statics = BTreeSet::new();
    for parsed in script.statements() {
        match &parsed.statement {
            Statement::CreateTable(create) => {
                let table = create.define(parsed).unwrap_or_else(|error| panic!("{error}"));
                schemas.insert(table.name.clone(), table.schema.clone());
                statics.extend(table.is_bounded().then(|| table.name.clone()));
                if input == Input::Timed {
                    planner.add_table(table).unwrap();
                    continue;
                }
                let is_static = table.is_bounded();
                let append_only = is_static || input == Input::Appended;
                let width = table.schema.fields().len();
                let properties = Properties { append_only, key: None, time: vec![None; width], is_static };
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
                // These may decide ties as they like; our plan decides them by the whole row.
                let ties = ["ROW_NUMBER", "LIMIT", "ARRAY_AGG", "STRING_AGG", "FIRST_VALUE", "LAST_VALUE"];
                if input != Input::Timed && !ties.iter().any(|word| parsed.text.contains(word)) {
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
    Pipeline { planner, views, queries, dataflow, schemas, statics }
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

/// Event time of one table, in milliseconds.
#[derive(Default)]
struct Clock {
    now: i64,
    latest: Option<i64>,
}

impl Clock {
    fn watermark_us(&self) -> Option<i64> {
        self.latest.map(|latest| (latest - 2_000) * 1_000)
    }

    /// Random rows in the order of their arrival, with how late each is.
    fn rows(&mut self, random: &mut Random, schema: &SchemaRef) -> RecordBatch {
        let rows = random.below(7) as usize;
        let batch = random_rows(random, schema, rows);
        let (mut times, mut lateness) = (vec![], vec![]);
        for _ in 0..rows {
            self.now += random.below(1_500) as i64;
            let time = self.now - random.below(3_500) as i64;
            lateness.push(self.watermark_us().map_or(i64::MIN, |watermark| watermark - time * 1_000));
            self.latest = self.latest.max(Some(time));
            times.push(time);
        }
        let mut columns = batch.columns().to_vec();
        columns[schema.index_of("ts").unwrap()] = Arc::new(TimestampMillisecondArray::from(times));
        columns.push(Arc::new(Int64Array::from(lateness)));
        RecordBatch::try_new(with_lateness(schema), columns).unwrap()
    }
}

fn with_lateness(schema: &SchemaRef) -> SchemaRef {
    let hidden = Arc::new(Field::new(LATENESS_COLUMN, DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([hidden]).collect::<Vec<_>>()))
}

/// Runs a script of random changes and compares every view with the oracle after each step.
pub fn check_law(sql: &str, kind: Input, seed: u64) {
    let mut random = Random::new(seed);
    // Of its own, so that a script does the same whether or not it has a table that stays.
    let mut random_static = Random::new(seed + 1_000_000);
    let mut pipeline = pipeline(sql, kind);
    let mut clocks: BTreeMap<String, Clock> = BTreeMap::new();
    let mut history: BTreeMap<String, Vec<Changes>> = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    let mut outputs: BTreeMap<String, Multiset> = BTreeMap::new();
    let views: BTreeSet<String> = pipeline.views.iter().map(|view| view.name.clone()).collect();
    let mut watermarks = BTreeMap::new();
    let steps = if kind == Input::Timed { 6 + random.below(12) } else { 3 + random.below(6) };
    let mut saved: Vec<(String, Vec<u8>, Option<Vec<u8>>)> = vec![];
    for step in 0..steps {
        let mut inputs = BTreeMap::new();
        for (table, schema) in &pipeline.schemas {
            let is_static = pipeline.statics.contains(table);
            let left_out = if is_static { step > 0 } else { random.below(4) == 0 };
            if left_out {
                continue;
            }
            let change = if is_static {
                let rows = random_static.below(9) as usize;
                Changes::inserts(random_rows(&mut random_static, schema, rows))
            } else if kind == Input::Timed {
                let clock = clocks.entry(table.clone()).or_default();
                let rows = clock.rows(&mut random, schema);
                watermarks.extend(clock.watermark_us().map(|watermark| (table.clone(), watermark)));
                Changes::inserts(rows)
            } else {
                let append_only = kind == Input::Appended;
                random_change(&mut random, schema, held.entry(table.clone()).or_default(), append_only)
            };
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
            .map(|(table, schema)| {
                let timed = kind == Input::Timed && !pipeline.statics.contains(table);
                let schema = if timed { with_lateness(schema) } else { schema.clone() };
                (table.clone(), integrate(&schema, history.get(table).map_or(&[], Vec::as_slice)))
            })
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
