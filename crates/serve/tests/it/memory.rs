//! A platform in memory: views of names and totals that a test changes, topics that keep what is appended.

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rivermere_base::{Changes, Code};
use rivermere_serve::{
    Addresses, CatalogAsk, CatalogRefusal, ChangeFeed, ChangeId, ColumnInfo, Dashboard, FeedStart, NodeKind,
    NodeStatus, Platform, ProblemKind, RunState, SinkStatus, Snapshot, SqlOutput, SqlProblem, Status, ViewChange,
    ViewInfo, WatermarkStatus,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Steps that a client may resume from.
const BUFFERED_STEPS: usize = 64;

pub struct Memory {
    views: Mutex<BTreeMap<String, View>>,
    pub topics: Mutex<BTreeMap<String, Vec<Bytes>>>,
    pub dashboards: Mutex<Vec<Dashboard>>,
    pub state: Mutex<RunState>,
    pub statements: Mutex<Vec<String>>,
}

struct View {
    rows: BTreeMap<String, i64>,
    id: ChangeId,
    steps: VecDeque<Arc<ViewChange>>,
    sender: broadcast::Sender<Arc<ViewChange>>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            id: ChangeId { generation: 1, epoch: 1, step: 0 },
            steps: VecDeque::new(),
            sender: broadcast::channel(BUFFERED_STEPS).0,
        }
    }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("total", DataType::Int64, false),
        Field::new("share", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
}

/// `share` is null for a total of zero and `at` is that many hours after 1970, so that a row follows from its total.
fn batch<'a>(rows: impl Iterator<Item = (&'a str, i64)> + Clone) -> RecordBatch {
    let totals = rows.clone().map(|(_, total)| total);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.map(|(name, _)| name))),
        Arc::new(Int64Array::from_iter_values(totals.clone())),
        Arc::new(Float64Array::from_iter(totals.clone().map(|total| (total != 0).then(|| total as f64 / 4.0)))),
        Arc::new(TimestampMillisecondArray::from_iter_values(totals.map(|total| total * 3_600_000))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

impl View {
    fn snapshot(&self) -> Snapshot {
        let rows = batch(self.rows.iter().map(|(name, total)| (name.as_str(), *total)));
        Snapshot { schema: schema(), batches: vec![rows], id: self.id }
    }
}

impl Memory {
    /// Views `totals` (a: 1, b: 2, zero: 0) and `many` (n0000 … n2999), topic `departures`.
    pub fn new() -> Arc<Self> {
        let memory = Self {
            views: Mutex::default(),
            topics: Mutex::new(BTreeMap::from([("departures".to_owned(), Vec::new())])),
            dashboards: Mutex::default(),
            state: Mutex::new(RunState::Running),
            statements: Mutex::default(),
        };
        memory.push("totals", &[("a", 1), ("b", 2), ("zero", 0)]);
        let names: Vec<String> = (0..3000).map(|number| format!("n{number:04}")).collect();
        let many: Vec<(&str, i64)> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at as i64)).collect();
        memory.push("many", &many);
        Arc::new(memory)
    }

    /// One step: each name gets its total, in place of the one it had; a negative total takes the name away.
    pub fn push(&self, view: &str, rows: &[(&str, i64)]) -> ChangeId {
        let mut views = self.views.lock();
        let view = views.entry(view.to_owned()).or_default();
        let mut changed = Vec::new();
        for (name, total) in rows {
            if let Some(old) = view.rows.remove(*name) {
                changed.push((*name, old, -1));
            }
            if *total >= 0 {
                view.rows.insert((*name).to_owned(), *total);
                changed.push((*name, *total, 1));
            }
        }
        view.id.step += 1;
        let weights = Int64Array::from_iter_values(changed.iter().map(|(_, _, weight)| *weight));
        let rows = batch(changed.iter().map(|(name, total, _)| (*name, *total)));
        let changes = Changes::with_weights(rows, weights).unwrap();
        let step = Arc::new(ViewChange { id: view.id, at_ms: 1_700_000_000_000, changes });
        view.steps.push_back(step.clone());
        if view.steps.len() > BUFFERED_STEPS {
            view.steps.pop_front();
        }
        let _ = view.sender.send(step);
        view.id
    }

    pub fn drop_view(&self, view: &str) {
        self.views.lock().remove(view);
    }

    pub fn rows(&self, view: &str) -> BTreeMap<String, i64> {
        self.views.lock()[view].rows.clone()
    }

    fn answer(&self, text: &str) -> Result<SqlOutput, SqlProblem> {
        self.statements.lock().push(text.to_owned());
        let words: Vec<&str> = text.trim_end_matches(';').split_whitespace().collect();
        let folded: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let folded: Vec<&str> = folded.iter().map(String::as_str).collect();
        match folded.as_slice() {
            ["create", "materialized", "view", ..] => {
                let name = words[3];
                if self.views.lock().contains_key(name) {
                    let problem = SqlProblem::new(Code(3010), format!("there is a view '{name}' already"));
                    return Err(problem.with_kind(ProblemKind::AlreadyExists).with_hint("DROP it first"));
                }
                self.push(name, &[("made", 7)]);
                Ok(told(&[("status", "created"), ("name", name)]))
            }
            ["drop", ..] => {
                self.drop_view(words[words.len() - 1]);
                Ok(told(&[("status", "dropped"), ("name", words[words.len() - 1])]))
            }
            ["insert", "into", topic, ..] => {
                let records = text.matches('(').count();
                let mut topics = self.topics.lock();
                let topic = topics.get_mut(*topic).ok_or_else(|| not_found("table", topic))?;
                topic.extend((0..records).map(|_| Bytes::from(text.to_owned())));
                let rows: Vec<(&str, ArrayRef)> = vec![
                    ("status", Arc::new(StringArray::from(vec!["inserted"]))),
                    ("rows", Arc::new(Int64Array::from(vec![records as i64]))),
                ];
                let batch = RecordBatch::try_from_iter(rows).unwrap();
                Ok(SqlOutput { schema: batch.schema(), batches: vec![batch] })
            }
            _ => {
                let problem = SqlProblem::new(Code(3001), "line 1, column 1: this is no statement of the dialect");
                Err(problem.with_kind(ProblemKind::Syntax).with_hint("did you mean 'SELECT'?"))
            }
        }
    }
}

fn told(columns: &[(&str, &str)]) -> SqlOutput {
    let columns = columns.iter().map(|(name, value)| (*name, Arc::new(StringArray::from(vec![*value])) as ArrayRef));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    SqlOutput { schema: batch.schema(), batches: vec![batch] }
}

fn not_found(what: &str, name: &str) -> SqlProblem {
    SqlProblem::new(Code(3002), format!("there is no {what} '{name}'")).with_kind(ProblemKind::NotFound)
}

impl Platform for Memory {
    fn views(&self) -> Vec<ViewInfo> {
        let views = self.views.lock();
        let info = |(name, view): (&String, &View)| ViewInfo {
            name: name.clone(),
            columns: schema().fields().iter().map(|field| ColumnInfo::from(field.as_ref())).collect(),
            key: vec!["name".into()],
            epoch: view.id.epoch,
            rows: view.rows.len() as u64,
            append_only: false,
            stored_as: (name == "totals").then(|| "delta".into()),
            sql: format!("SELECT name, total, share, at FROM departures -- {name}"),
        };
        views.iter().map(info).collect()
    }

    fn snapshot(&self, view: &str) -> Option<Snapshot> {
        self.views.lock().get(view).map(View::snapshot)
    }

    fn changes(&self, view: &str, after: Option<ChangeId>) -> Option<ChangeFeed> {
        let views = self.views.lock();
        let view = views.get(view)?;
        let known = |after: &ChangeId| *after == view.id || view.steps.iter().any(|step| step.id == *after);
        let start = match after.filter(known) {
            Some(after) => FeedStart::Resumed(view.steps.iter().filter(|step| step.id > after).cloned().collect()),
            None => FeedStart::Reset(view.snapshot()),
        };
        Some(ChangeFeed { start, rx: view.sender.subscribe() })
    }

    fn status(&self) -> Status {
        let node = |id: &str, kind| NodeStatus {
            id: id.into(),
            kind,
            label: id.into(),
            rate: 12.5,
            rows: 3,
            lag: 0,
            late: 1,
            dead: 2,
            detail: String::new(),
        };
        Status {
            name: "flights".into(),
            state: *self.state.lock(),
            message: None,
            version: "0.1.0".into(),
            uptime_ms: 1234,
            generation: 1,
            epoch: 12,
            step: 3456,
            lag: 5,
            rss_bytes: 1 << 20,
            addresses: Addresses { http: Some("http://127.0.0.1:8080".into()), kafka: None, pg: None },
            nodes: vec![node("departures", NodeKind::Topic), node("totals", NodeKind::View)],
            edges: vec![("departures".into(), "totals".into())],
            sinks: vec![SinkStatus {
                id: "rivermere/x/totals".into(),
                view: "totals".into(),
                format: "delta".into(),
                staged_epoch: 12,
                confirmed_epoch: 11,
                location: "lake/totals".into(),
            }],
            watermarks: vec![WatermarkStatus { table: "departures".into(), column: "at".into(), watermark: None }],
        }
    }

    fn dashboards(&self) -> Vec<Dashboard> {
        self.dashboards.lock().clone()
    }

    fn session(&self) -> SessionContext {
        let session = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
        for (name, view) in self.views.lock().iter() {
            let snapshot = view.snapshot();
            let table = MemTable::try_new(snapshot.schema, vec![snapshot.batches]).unwrap();
            session.register_table(name.as_str(), Arc::new(table)).unwrap();
        }
        for (name, values) in self.topics.lock().iter() {
            let text = StringArray::from_iter_values(values.iter().map(|value| String::from_utf8_lossy(value)));
            let batch = RecordBatch::try_from_iter([("value", Arc::new(text) as ArrayRef)]).unwrap();
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            session.register_table(name.as_str(), Arc::new(table)).unwrap();
        }
        session
    }

    fn sql(&self, text: String) -> BoxFuture<'static, Result<SqlOutput, SqlProblem>> {
        let answer = self.answer(&text);
        async move { answer }.boxed()
    }

    fn iceberg(&self, ask: CatalogAsk) -> BoxFuture<'static, Result<Value, CatalogRefusal>> {
        let answer = match ask {
            CatalogAsk::Tables => Ok(json!(["stock"])),
            CatalogAsk::Load(name) if name == "stock" => {
                Ok(json!({ "metadata-location": "file:///stock/v1.metadata.json" }))
            }
            CatalogAsk::Load(name) => Err(CatalogRefusal::NoTable(format!("no {name}"))),
            CatalogAsk::Create(body) if body.is_empty() => Err(CatalogRefusal::Invalid("nothing".into())),
            CatalogAsk::Create(_) => Err(CatalogRefusal::Exists("stock is there".into())),
            CatalogAsk::Drop(name) if name == "stock" => Ok(json!({})),
            CatalogAsk::Drop(name) => Err(CatalogRefusal::NoTable(format!("no {name}"))),
            CatalogAsk::Commit(_, body) if body.is_empty() => Err(CatalogRefusal::Invalid("nothing".into())),
            CatalogAsk::Commit(..) => Err(CatalogRefusal::Conflict("somebody was quicker".into())),
        };
        async move { answer }.boxed()
    }

    fn append(&self, topic: String, values: Vec<Bytes>) -> BoxFuture<'static, Result<(i32, i64), SqlProblem>> {
        let mut topics = self.topics.lock();
        let answer = match topics.get_mut(&topic) {
            Some(known) => {
                let offset = known.len() as i64;
                known.extend(values);
                Ok((0, offset))
            }
            None => Err(not_found("topic", &topic).with_hint("did you mean 'departures'?")),
        };
        async move { answer }.boxed()
    }
}

/// Name and total of every row.
pub fn pairs(batches: &[RecordBatch]) -> Vec<(String, i64)> {
    let pairs = |batch: &RecordBatch| {
        let names = batch.column(0).as_string::<i32>().clone();
        let totals = batch.column(1).as_primitive::<Int64Type>().clone();
        (0..batch.num_rows()).map(|row| (names.value(row).to_owned(), totals.value(row))).collect::<Vec<_>>()
    };
    batches.iter().flat_map(pairs).collect()
}
