//! The running platform as the serving room sees it.

use super::commands;
use super::iceberg_catalog;
use super::lake::Lake;
use super::views::{Publisher, Views, served};
use crate::{Problem, Project, memory};
use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rivermere_base::{Code, Doors, PartitionId, TopicName};
use rivermere_batch::{Catalog, Query};
use rivermere_log::{Log, TopicOptions, records};
use rivermere_serve::{
    Addresses, CatalogAsk, CatalogRefusal, ChangeFeed, ChangeId, ColumnInfo, Dashboard, NodeKind, NodeStatus, Platform,
    ProblemKind, RunState, SinkStatus, Snapshot, SqlOutput, SqlProblem, Status, ViewInfo, WatermarkStatus, dashboards,
};
use rivermere_sql::{Connector, ExternalTable, LakePlace, Planner, TableDefinition, ViewDefinition};
use rivermere_stream::Lakes;
use rivermere_stream::runtime::{Committer, EngineHandle, EngineStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(super) struct Running {
    pub(super) doors: Doors,
    pub(super) project: Project,
    pub(super) planner: Arc<RwLock<Planner>>,
    pub(super) log: Log,
    pub(super) views: Arc<Views>,
    pub(super) tables: RwLock<BTreeMap<String, Arc<TableDefinition>>>,
    pub(super) externals: RwLock<BTreeMap<String, Arc<ExternalTable>>>,
    /// One statement that changes the catalog at a time.
    pub(super) catalog_changes: tokio::sync::Mutex<()>,
    pub(super) lake: Lake,
    pub(super) lakes: Lakes,
    committer: Arc<Committer>,
    engine: OnceLock<EngineHandle>,
    query: OnceLock<Query>,
    addresses: Mutex<Addresses>,
    started: Duration,
    stopping: std::sync::atomic::AtomicBool,
    samples: Mutex<VecDeque<(Duration, BTreeMap<String, u64>)>>,
    me: std::sync::Weak<Running>,
}

/// Rates are over about this long.
const RATE_WINDOW: Duration = Duration::from_secs(3);

impl Running {
    pub(super) fn new(
        doors: Doors,
        project: Project,
        planner: Arc<RwLock<Planner>>,
        log: Log,
        lake: Lake,
        lakes: Lakes,
        committer: Arc<Committer>,
    ) -> Arc<Self> {
        let started = doors.clock.monotonic();
        let running = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            doors: doors.clone(),
            project: project.clone(),
            planner,
            log: log.clone(),
            views: Arc::new(Views::default()),
            tables: RwLock::new(BTreeMap::new()),
            externals: RwLock::new(BTreeMap::new()),
            catalog_changes: tokio::sync::Mutex::new(()),
            lake: lake.clone(),
            lakes,
            committer,
            engine: OnceLock::new(),
            query: OnceLock::new(),
            addresses: Mutex::new(Addresses::default()),
            started,
            stopping: std::sync::atomic::AtomicBool::new(false),
            samples: Mutex::new(VecDeque::new()),
        });
        let relations = Arc::new(Relations { views: running.views.clone(), running: Arc::downgrade(&running) });
        let lake = lake.reading(&project.folder);
        let query = Query::new(relations, log, doors.disk, project.folder, lake);
        let _ = running.query.set(query);
        running
    }

    pub(super) fn listener(&self) -> Publisher {
        Publisher(self.views.clone())
    }

    pub(super) fn set_engine(&self, engine: EngineHandle) {
        let _ = self.engine.set(engine);
    }

    pub(super) fn set_addresses(&self, addresses: Addresses) {
        *self.addresses.lock() = addresses;
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn add_tables(&self, tables: &[Arc<TableDefinition>]) {
        let mut known = self.tables.write();
        known.extend(tables.iter().map(|table| (table.name.clone(), table.clone())));
    }

    pub(super) fn add_externals(&self, externals: &[Arc<ExternalTable>]) {
        let mut known = self.externals.write();
        known.extend(externals.iter().map(|external| (external.name.clone(), external.clone())));
    }

    pub(super) fn engine(&self) -> Result<&EngineHandle, SqlProblem> {
        self.engine.get().ok_or_else(|| {
            SqlProblem::new(Code(7020), "the platform is still starting").with_kind(ProblemKind::Unavailable)
        })
    }

    /// Why engine or log stopped; a restart is needed then.
    pub(super) fn failure(&self) -> Option<String> {
        let engine = self.engine.get().and_then(|engine| engine.status().failed);
        engine.or_else(|| self.log.failure().map(|error| error.to_string()))
    }

    pub(super) async fn seal(&self) -> Result<(), Problem> {
        if let Some(engine) = self.engine.get() {
            engine.seal().await.map_err(Problem::told)?;
        }
        Ok(())
    }

    /// Whether every table has confirmed what was staged for it.
    pub(super) fn is_sealed(&self) -> bool {
        let status = self.engine_status();
        status.sinks.values().all(|(staged, confirmed)| staged == confirmed)
    }

    pub(super) async fn stop_engine(&self) -> Result<(), Problem> {
        match self.engine.get() {
            Some(engine) => engine.stop().await.map(|_| ()).map_err(Problem::told),
            None => Ok(()),
        }
    }

    /// Names this pipeline's life in the tables that it writes.
    pub(super) fn incarnation(&self) -> Option<String> {
        self.committer.incarnation().map(|incarnation| incarnation.to_string())
    }

    fn engine_status(&self) -> EngineStatus {
        self.engine.get().map(EngineHandle::status).unwrap_or_default()
    }

    pub(super) fn new_session(&self) -> datafusion::error::Result<SessionContext> {
        match self.query.get() {
            Some(query) => query.session(),
            None => Ok(SessionContext::new()),
        }
    }

    /// Rows per second of each node since the oldest sample of the window.
    fn rates(&self, rows: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
        let now = self.doors.clock.monotonic();
        let mut samples = self.samples.lock();
        if samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= Duration::from_millis(250)) {
            samples.push_back((now, rows.clone()));
        }
        while samples.len() > 1 && samples.front().is_some_and(|(at, _)| now.saturating_sub(*at) > RATE_WINDOW) {
            samples.pop_front();
        }
        let Some((then, before)) = samples.front() else { return BTreeMap::new() };
        let seconds = now.saturating_sub(*then).as_secs_f64();
        if seconds < 0.2 {
            return BTreeMap::new();
        }
        let rate = |(name, rows): (&String, &u64)| {
            let before = before.get(name).copied().unwrap_or(0);
            (name.clone(), rows.saturating_sub(before) as f64 / seconds)
        };
        rows.iter().map(rate).collect()
    }
}

/// Breaks the circle between the platform and its sessions.
struct Relations {
    views: Arc<Views>,
    running: std::sync::Weak<Running>,
}

impl Catalog for Relations {
    fn tables(&self) -> Vec<Arc<TableDefinition>> {
        self.running.upgrade().map_or(vec![], |running| running.tables.read().values().cloned().collect())
    }

    fn views(&self) -> Vec<Arc<ViewDefinition>> {
        self.views.all().into_iter().map(|cell| cell.view.clone()).collect()
    }

    fn snapshot(&self, view: &str) -> Option<rivermere_stream::Snapshot> {
        Some(self.views.get(view)?.snapshot().0)
    }

    fn externals(&self) -> BTreeMap<String, LakePlace> {
        let Some(running) = self.running.upgrade() else { return BTreeMap::new() };
        let externals = running.externals.read();
        externals.iter().map(|(name, external)| (name.clone(), external.place.clone())).collect()
    }

    fn lake_place(&self, name: &str) -> Option<LakePlace> {
        let running = self.running.upgrade()?;
        if let Some(external) = running.externals.read().get(name) {
            return Some(external.place.clone());
        }
        let view = self.views.get(name)?.view.clone();
        let stored = view.stored_as.as_ref()?;
        Some(LakePlace::new(stored.format, running.lake.shown(&view)))
    }
}

impl Platform for Running {
    fn views(&self) -> Vec<ViewInfo> {
        let epoch = self.engine_status().epoch;
        self.views
            .all()
            .into_iter()
            .map(|cell| {
                let view = &cell.view;
                ViewInfo {
                    name: view.name.clone(),
                    columns: view.plan.schema.fields().iter().map(|field| ColumnInfo::from(field.as_ref())).collect(),
                    key: view.key().unwrap_or_default(),
                    epoch,
                    rows: cell.snapshot().0.num_rows() as u64,
                    append_only: view.plan.properties.append_only,
                    stored_as: view.stored_as.as_ref().map(|stored| stored.format.to_string()),
                    sql: view.text.clone(),
                }
            })
            .collect()
    }

    fn snapshot(&self, view: &str) -> Option<Snapshot> {
        let (snapshot, id) = self.views.get(view)?.snapshot();
        Some(served(&snapshot, id))
    }

    fn changes(&self, view: &str, after: Option<ChangeId>) -> Option<ChangeFeed> {
        Some(self.views.get(view)?.changes(after))
    }

    fn status(&self) -> Status {
        let engine = self.engine_status();
        let tables: Vec<Arc<TableDefinition>> = self.tables.read().values().cloned().collect();
        let cells = self.views.all();
        let mut rows: BTreeMap<String, u64> = tables
            .iter()
            .map(|table| (table.name.clone(), engine.objects.get(&table.name).map_or(0, |object| object.rows)))
            .collect();
        let externals: Vec<Arc<ExternalTable>> = self.externals.read().values().cloned().collect();
        let read = |name: &str| engine.objects.get(name).map(|object| (name.to_owned(), object.rows));
        rows.extend(externals.iter().filter_map(|external| read(&external.name)));
        rows.extend(cells.iter().map(|cell| (cell.view.name.clone(), cell.changed_rows())));
        let rates = self.rates(&rows);
        let failure = self.failure();
        let mut status = Status {
            name: self.project.name.clone(),
            state: match (&failure, self.engine.get().is_some()) {
                (Some(_), _) => RunState::Failed,
                _ if self.stopping.load(std::sync::atomic::Ordering::Relaxed) => RunState::Stopping,
                (None, true) => RunState::Running,
                (None, false) => RunState::Starting,
            },
            message: failure,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: (self.doors.clock.monotonic() - self.started).as_millis() as u64,
            generation: engine.generation,
            epoch: engine.epoch,
            step: engine.step,
            lag: engine.lag.max(0) as u64,
            rss_bytes: memory::resident_bytes(),
            addresses: self.addresses.lock().clone(),
            nodes: vec![],
            edges: vec![],
            sinks: vec![],
            watermarks: vec![],
        };
        for table in &tables {
            let mut object = engine.objects.get(&table.name).cloned().unwrap_or_default();
            if let Connector::Topic { topic, .. } = &table.connector {
                // The engine tells its positions a few times a second; the ends of the topics are known at once.
                let waiting = topic_rows(&self.log, topic).saturating_sub(object.rows);
                let unseen = i64::try_from(waiting).unwrap_or(i64::MAX).saturating_sub(object.lag).max(0);
                object.lag += unseen;
                status.lag += unseen as u64;
            }
            let rate = rates.get(&table.name).copied().unwrap_or(0.0);
            let (kind, detail) = match &table.connector {
                Connector::Topic { topic, .. } => {
                    let id = format!("topic:{topic}");
                    if !status.nodes.iter().any(|node| node.id == id) {
                        let end = topic_rows(&self.log, topic);
                        status.nodes.push(node(
                            &id,
                            NodeKind::Topic,
                            topic.as_str(),
                            rate,
                            end,
                            object.lag,
                            0,
                            object.dead,
                            "topic",
                        ));
                    }
                    status.edges.push((id, table.name.clone()));
                    (NodeKind::Source, format!("reads topic {topic}"))
                }
                Connector::File { path } => (NodeKind::File, path.display().to_string()),
            };
            let (late, dead) = (object.late, object.dead);
            status.nodes.push(node(&table.name, kind, &table.name, rate, object.rows, object.lag, late, dead, &detail));
            if let Some(watermark) = &table.watermark {
                status.watermarks.push(WatermarkStatus {
                    table: table.name.clone(),
                    column: watermark.column.clone(),
                    watermark: object.watermark_us.and_then(iso),
                });
            }
        }
        for external in &externals {
            let name = &external.name;
            let Some(object) = engine.objects.get(name) else { continue };
            let rate = rates.get(name).copied().unwrap_or(0.0);
            let detail = match &object.trouble {
                Some(trouble) => trouble.clone(),
                None => format!("follows the {} table at {}", external.place.format, external.place.location),
            };
            let (rows, lag) = (object.rows, object.lag);
            status.nodes.push(node(name, NodeKind::Source, name, rate, rows, lag, 0, 0, &detail));
            status.message = status.message.take().or_else(|| object.trouble.clone());
        }
        let progress = self.committer.progress();
        for cell in &cells {
            let view = &cell.view;
            let object = engine.objects.get(&view.name).cloned().unwrap_or_default();
            let rate = rates.get(&view.name).copied().unwrap_or(0.0);
            let rows = cell.snapshot().0.num_rows() as u64;
            let detail = format!("{} state entries, {} KiB", object.state_entries, object.state_bytes / 1024);
            status.nodes.push(node(
                &view.name,
                NodeKind::View,
                &view.name,
                rate,
                rows,
                0,
                object.late,
                object.dead,
                &detail,
            ));
            status.edges.extend(view.plan.inputs.iter().map(|input| (input.clone(), view.name.clone())));
            if let Some(stored) = &view.stored_as {
                let id = format!("{}:{}", stored.format, view.name);
                let (staged, confirmed) = engine.sinks.get(&view.name).copied().unwrap_or_default();
                let error = progress.get(&view.name).and_then(|sink| sink.error.clone());
                let detail = error.clone().unwrap_or_else(|| self.lake.shown(view));
                status.nodes.push(node(&id, NodeKind::Sink, &view.name, 0.0, 0, 0, 0, 0, &detail));
                status.edges.push((view.name.clone(), id.clone()));
                status.sinks.push(SinkStatus {
                    id,
                    view: view.name.clone(),
                    format: stored.format.to_string(),
                    staged_epoch: staged,
                    confirmed_epoch: confirmed,
                    location: self.lake.shown(view),
                });
                if status.message.is_none() {
                    status.message = error;
                }
            }
        }
        status
    }

    fn dashboards(&self) -> Vec<Dashboard> {
        dashboards::load(&self.project.dashboards()).unwrap_or_else(|error| {
            tracing::warn!(%error, "dashboards cannot be read");
            vec![]
        })
    }

    fn session(&self) -> SessionContext {
        self.new_session().unwrap_or_else(|error| {
            tracing::error!(%error, "a session cannot be made");
            SessionContext::new()
        })
    }

    fn sql(&self, text: String) -> BoxFuture<'static, Result<SqlOutput, SqlProblem>> {
        let running = self.me.upgrade();
        Box::pin(async move {
            let Some(running) = running else {
                return Err(SqlProblem::new(Code(7020), "the platform is stopping").with_kind(ProblemKind::Unavailable));
            };
            commands::run(&running, &text).await
        })
    }

    fn append(&self, topic: String, values: Vec<Bytes>) -> BoxFuture<'static, Result<(i32, i64), SqlProblem>> {
        let log = self.log.clone();
        let now_ms = self.doors.clock.now_ms();
        Box::pin(async move { append(&log, &topic, values, now_ms).await })
    }

    fn iceberg(&self, ask: CatalogAsk) -> BoxFuture<'static, Result<serde_json::Value, CatalogRefusal>> {
        let running = self.me.upgrade();
        Box::pin(async move {
            match running {
                Some(running) => iceberg_catalog::answer(running, ask).await,
                None => Err(CatalogRefusal::Failed("the platform is stopping".into())),
            }
        })
    }
}

pub(super) async fn append(log: &Log, topic: &str, values: Vec<Bytes>, now_ms: i64) -> Result<(i32, i64), SqlProblem> {
    let refused = |code: u16, message: String, kind| SqlProblem::new(Code(code), message).with_kind(kind);
    let name = TopicName::new(topic).map_err(|error| refused(7021, error.to_string(), ProblemKind::Invalid))?;
    if log.topic(&name).is_none() {
        let (log, name) = (log.clone(), name.clone());
        let created = tokio::task::spawn_blocking(move || log.create_topic(&name, TopicOptions::default())).await;
        if let Ok(Err(error)) = created {
            tracing::debug!(%error, "the topic is there already");
        }
    }
    let records: Vec<records::Record> = values
        .into_iter()
        .map(|value| records::Record { value: Some(value), timestamp_ms: now_ms, ..Default::default() })
        .collect();
    let batch = records::encode(&records, records::Compression::None)
        .map_err(|error| refused(7021, error.to_string(), ProblemKind::Invalid))?;
    let appended = log
        .append(&name, PartitionId(0), batch)
        .await
        .map_err(|error| refused(7022, error.to_string(), ProblemKind::Internal))?;
    Ok((0, appended.base_offset.0))
}

#[allow(clippy::too_many_arguments)]
fn node(
    id: &str,
    kind: NodeKind,
    label: &str,
    rate: f64,
    rows: u64,
    lag: i64,
    late: u64,
    dead: u64,
    detail: &str,
) -> NodeStatus {
    NodeStatus {
        id: id.into(),
        kind,
        label: label.into(),
        rate,
        rows,
        lag: lag.max(0) as u64,
        late,
        dead,
        detail: detail.into(),
    }
}

fn topic_rows(log: &Log, topic: &TopicName) -> u64 {
    let partitions = log.topic(topic).map_or(0, |info| info.partitions);
    let range = |partition| log.offsets(topic, PartitionId(partition)).ok();
    (0..partitions).filter_map(range).map(|range| (range.high_watermark.0 - range.start.0).max(0) as u64).sum()
}

fn iso(micros: i64) -> Option<String> {
    Some(chrono::DateTime::from_timestamp_micros(micros)?.naive_utc().format("%Y-%m-%dT%H:%M:%S").to_string())
}

/// One text column as a result.
pub(super) fn text_output(name: &str, lines: impl IntoIterator<Item = String>) -> SqlOutput {
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        name,
        arrow::datatypes::DataType::Utf8,
        false,
    )]));
    let column = arrow::array::StringArray::from_iter_values(lines.into_iter().collect::<Vec<_>>());
    let batches = RecordBatch::try_new(schema.clone(), vec![Arc::new(column)]).into_iter().collect();
    SqlOutput { schema, batches }
}
