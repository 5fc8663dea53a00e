//! The engine's loop: read, step, tell, and once a second seal an epoch.

use super::committer::{Committer, StagedFiles};
use super::handle::{Command, EngineStatus, NewObjects, StepListener, StepReport};
use crate::checkpoint::{FORMAT, Manifest, ObjectRecord, RunBuilder, RunRecord, SinkRecord, StateFiles, read_newest};
use crate::compile::{needed_columns, table_input_schema};
use crate::dataflow::{Dataflow, StepOutput};
use crate::error::{Result, StreamError};
use crate::source::{DeadLetter, LakeReader, Lakes, PartitionPosition, TopicReader, read_file};
use crate::state::netted;
use parking_lot::{Mutex, RwLock};
use rivermere_base::{Changes, CrashPoint, Doors, Epoch, PartitionId, Step, TopicName};
use rivermere_log::{Log, TopicOptions, records};
use rivermere_sql::{Connector, ExternalTable, Planner, TableDefinition, ViewDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

mod lakes;
mod seal;

/// Limits and intervals.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// An epoch is sealed when something changed and the last one is this old.
    pub epoch_interval: Duration,
    /// Shortest time between two steps: small changes are taken together.
    pub step_interval: Duration,
    /// Bytes read from a partition in one step.
    pub read_bytes: usize,
    /// Dead letters held before an epoch is sealed early.
    pub dead_letters: usize,
    /// Runs of one size class before they are merged.
    pub merge_runs: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            epoch_interval: Duration::from_secs(1),
            step_interval: Duration::from_millis(4),
            read_bytes: 4 << 20,
            dead_letters: 10_000,
            merge_runs: 8,
        }
    }
}

/// What an engine runs on.
pub struct EngineConfig {
    pub doors: Doors,
    /// `state/`
    pub folder: PathBuf,
    /// Paths of file tables are relative to it.
    pub project: PathBuf,
    pub log: Log,
    /// Knows every table and view.
    pub planner: Arc<RwLock<Planner>>,
    /// In dependency order.
    pub objects: Vec<NewObjects>,
    pub committer: Arc<Committer>,
    /// For views over tables of the lake; without it there are none.
    pub lakes: Option<Lakes>,
    pub options: EngineOptions,
}

struct View {
    definition: Arc<ViewDefinition>,
    ad_hoc: bool,
}

struct Table {
    definition: Arc<TableDefinition>,
    reader: Option<TopicReader>,
    ad_hoc: bool,
    rows: u64,
}

pub(super) struct Engine {
    doors: Doors,
    files: StateFiles,
    project: PathBuf,
    log: Log,
    planner: Arc<RwLock<Planner>>,
    options: EngineOptions,
    committer: Arc<Committer>,
    listener: Box<dyn StepListener>,
    status: Arc<Mutex<EngineStatus>>,
    dataflow: Dataflow,
    tables: BTreeMap<String, Table>,
    views: BTreeMap<String, View>,
    /// With whether a statement made them.
    externals: BTreeMap<String, (Arc<ExternalTable>, bool)>,
    lakes: Option<Lakes>,
    /// Of those externals that some view reads.
    followed: BTreeMap<String, LakeReader>,
    /// Net change of each stored view since the last epoch.
    staging: BTreeMap<String, Vec<Changes>>,
    sinks: BTreeMap<String, SinkRecord>,
    manifest: Manifest,
    previous: Option<Manifest>,
    step: Step,
    records: u64,
    dead: Vec<DeadLetter>,
    /// Something happened since the last epoch.
    changed: bool,
}

/// Steps that are run before an epoch that was asked for.
const SEAL_STEPS: usize = 64;

impl Engine {
    pub(super) fn open(
        config: EngineConfig,
        listener: Box<dyn StepListener>,
        status: Arc<Mutex<EngineStatus>>,
    ) -> Result<Self> {
        let EngineConfig { doors, folder, project, log, planner, objects, committer, lakes, options } = config;
        let files = StateFiles::open(doors.disk.clone(), &folder)?;
        let found = files.newest_manifest()?;
        let generation = files.take_generation()?;
        let is_new = found.is_none();
        let mut manifest = found.clone().unwrap_or_else(|| Manifest {
            format: FORMAT,
            incarnation: doors.rng.uuid(),
            generation,
            epoch: Epoch(0),
            written_ms: 0,
            objects: vec![],
            positions: BTreeMap::new(),
            lakes: BTreeMap::new(),
            runs: vec![],
            sinks: vec![],
            dead_letters: vec![],
            late: BTreeMap::new(),
            dead: BTreeMap::new(),
        });
        manifest.generation = generation;
        let sinks = manifest.sinks.iter().map(|sink| (sink.view.clone(), sink.clone())).collect();
        let mut engine = Self {
            doors,
            files,
            project,
            log,
            planner,
            options,
            committer,
            listener,
            status,
            dataflow: Dataflow::new(),
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            externals: BTreeMap::new(),
            lakes,
            followed: BTreeMap::new(),
            staging: BTreeMap::new(),
            sinks,
            previous: None,
            step: Step(0),
            records: 0,
            dead: vec![],
            changed: is_new,
            manifest,
        };
        // The first manifest fixes the incarnation before any table can carry it.
        if is_new {
            engine.seal()?;
        } else {
            engine.publish_dead_letters()?;
        }
        engine.committer.start(engine.manifest.incarnation);
        engine.load(objects)?;
        engine.refresh_status();
        Ok(engine)
    }

    /// Puts known objects back as they were and starts the others from the beginning of their inputs.
    fn load(&mut self, objects: Vec<NewObjects>) -> Result<()> {
        let known: BTreeMap<String, ObjectRecord> =
            self.manifest.objects.iter().map(|object| (object.name.clone(), object.clone())).collect();
        let mut fresh = vec![];
        let mut old = vec![];
        for NewObjects { externals, tables, views, ad_hoc } in objects {
            self.changed |= externals.iter().any(|external| !known.contains_key(&external.name));
            self.externals.extend(externals.into_iter().map(|external| (external.name.clone(), (external, ad_hoc))));
            let (known_views, new_views): (Vec<_>, Vec<_>) =
                views.into_iter().partition(|view| known.contains_key(&view.name));
            for view in &known_views {
                let fingerprint = known.get(&view.name).and_then(|record| record.fingerprint.as_ref());
                if fingerprint != Some(&view.plan.fingerprint) {
                    return Err(StreamError::Changed { view: view.name.clone() });
                }
            }
            old.push(NewObjects { externals: vec![], tables, views: known_views, ad_hoc });
            fresh.push(NewObjects { externals: vec![], tables: vec![], views: new_views, ad_hoc });
        }
        let all: Vec<Arc<ViewDefinition>> = old.iter().flat_map(|objects| objects.views.clone()).collect();
        for objects in &old {
            self.add_tables(&objects.tables, &all, objects.ad_hoc)?;
        }
        self.add_lakes(&all);
        self.hold_lakes();
        for name in self.externals.keys().cloned().collect::<Vec<_>>() {
            if let Some(position) = self.manifest.lakes.get(&name).cloned() {
                self.follow(&name, position, 0)?;
            }
        }
        for objects in &old {
            for view in &objects.views {
                self.dataflow.add_view(&self.planner.read(), view)?;
                self.views.insert(view.name.clone(), View { definition: view.clone(), ad_hoc: objects.ad_hoc });
            }
        }
        self.restore()?;
        for view in all {
            self.tell_added(&view);
            if view.stored_as.is_some() {
                self.open_sink(&view);
            }
        }
        for objects in fresh {
            self.add(objects)?;
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<()> {
        let mut restore = self.dataflow.restorer();
        let files = &self.files;
        read_newest(
            &self.manifest.runs,
            |file| files.read_run(file),
            |node, key, value| match value {
                Some(value) => restore(node, key, Some(value)),
                None => Ok(()),
            },
        )?;
        drop(restore);
        self.dataflow.restored()
    }

    fn add_tables(
        &mut self,
        tables: &[Arc<TableDefinition>],
        views: &[Arc<ViewDefinition>],
        ad_hoc: bool,
    ) -> Result<()> {
        let needed = needed_columns(views);
        for table in tables {
            if let Connector::Topic { topic, partitions } = &table.connector {
                self.ensure_topic(topic, *partitions)?;
            }
            let columns = needed.get(&table.name).cloned().unwrap_or_default();
            let schema = table_input_schema(&table.schema, &columns);
            self.dataflow.add_table(&table.name, schema.clone());
            let positions = self.manifest.positions.get(&table.name).cloned().unwrap_or_default();
            let mut reader = TopicReader::new(table.clone(), schema, positions)?;
            if let Some(reader) = &mut reader {
                reader.check(&self.log)?;
            }
            let rows = reader.iter().flat_map(|reader| reader.positions()).map(|position| position.offset as u64).sum();
            self.tables.insert(table.name.clone(), Table { definition: table.clone(), reader, ad_hoc, rows });
        }
        Ok(())
    }

    fn ensure_topic(&self, topic: &TopicName, partitions: i32) -> Result<()> {
        if self.log.topic(topic).is_some() {
            return Ok(());
        }
        match self.log.create_topic(topic, TopicOptions { partitions, ..TopicOptions::default() }) {
            Ok(_) => Ok(()),
            // Another client was quicker.
            Err(_) if self.log.topic(topic).is_some() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds tables and views, and brings the views up to where the others are; after an error, nothing of them is left.
    fn add(&mut self, objects: NewObjects) -> Result<()> {
        let tables: Vec<String> = objects.tables.iter().map(|table| table.name.clone()).collect();
        let views: Vec<String> = objects.views.iter().map(|view| view.name.clone()).collect();
        self.changed |= !objects.externals.is_empty();
        let externals =
            objects.externals.iter().map(|external| (external.name.clone(), (external.clone(), objects.ad_hoc)));
        self.externals.extend(externals);
        let (dead, late, letters) = (self.manifest.dead.clone(), self.manifest.late.clone(), self.dead.len());
        let added = self.try_add(objects);
        if added.is_err() {
            for name in views.iter().chain(&tables) {
                self.take_out(name);
            }
            (self.manifest.dead, self.manifest.late) = (dead, late);
            self.dead.truncate(letters);
        }
        added
    }

    /// Forgets a table or view, but for what the manifest and the runs say of it.
    fn take_out(&mut self, name: &str) {
        self.dataflow.remove(name);
        self.views.remove(name);
        self.tables.remove(name);
        self.externals.remove(name);
        let read = |table: &String| self.views.values().any(|view| view.definition.plan.inputs.contains(table));
        self.followed.retain(|table, _| read(table));
        // What the next view over it needs is all that it is read for.
        for table in self.externals.keys().filter(|table| !read(table)) {
            self.dataflow.remove(table);
        }
        self.staging.remove(name);
        self.sinks.remove(name);
        self.committer.close(name);
    }

    fn try_add(&mut self, objects: NewObjects) -> Result<()> {
        let NewObjects { tables, views, ad_hoc, .. } = objects;
        self.add_tables(&tables, &[], ad_hoc)?;
        if views.is_empty() {
            self.changed |= !tables.is_empty();
            return Ok(());
        }
        let all: Vec<Arc<ViewDefinition>> =
            self.views.values().map(|view| view.definition.clone()).chain(views.iter().cloned()).collect();
        self.add_lakes(&all);
        self.widen(&all)?;
        for view in &views {
            self.dataflow.add_view(&self.planner.read(), view)?;
            self.views.insert(view.name.clone(), View { definition: view.clone(), ad_hoc });
        }
        self.bootstrap(&views)?;
        for view in &views {
            self.tell_added(view);
            if view.stored_as.is_some() {
                self.open_sink(view);
            }
        }
        self.changed = true;
        Ok(())
    }

    /// Gives tables the columns that new views need as well; columns that were there keep their places.
    fn widen(&mut self, views: &[Arc<ViewDefinition>]) -> Result<()> {
        for (name, columns) in needed_columns(views) {
            let external = self.externals.get(&name).and_then(|(external, _)| external.columns.as_ref());
            let known = self.tables.get(&name).map(|table| &table.definition.schema).or(external);
            let (Some(known), Some(have)) = (known, self.dataflow.relation_schema(&name)) else { continue };
            let wanted = table_input_schema(known, &columns);
            let mut fields: Vec<_> = have.fields().iter().cloned().collect();
            for field in wanted.fields() {
                if have.index_of(field.name()).is_err() {
                    fields.push(field.clone());
                }
            }
            if fields.len() > have.fields().len() {
                let schema = Arc::new(arrow::datatypes::Schema::new(fields));
                self.dataflow.widen_table(&name, schema.clone());
                if let Some(table) = self.tables.get_mut(&name)
                    && let Some(reader) = &table.reader
                {
                    table.reader = TopicReader::new(table.definition.clone(), schema, reader.positions().to_vec())?;
                } else if let Some(reader) = self.followed.get(&name) {
                    // What it read ahead has too few columns, and is read again.
                    self.follow(&name, reader.position().clone(), reader.rows)?;
                }
            }
        }
        Ok(())
    }

    /// New views from everything that has been read already: files, rows of older views, and topics up to where the
    /// others are, in bounded pieces.
    fn bootstrap(&mut self, views: &[Arc<ViewDefinition>]) -> Result<()> {
        let names: BTreeSet<String> = views.iter().map(|view| view.name.clone()).collect();
        let mut inputs: BTreeMap<String, Vec<Changes>> = BTreeMap::new();
        let (mut replays, mut lakes) = (vec![], vec![]);
        let sources: BTreeSet<String> = views.iter().flat_map(|view| view.plan.inputs.clone()).collect();
        for name in sources.difference(&names) {
            if let Some(snapshot) = self.dataflow.snapshot(name) {
                inputs.insert(name.clone(), snapshot.batches()?.into_iter().map(Changes::inserts).collect());
            } else if let Some(table) = self.tables.get(name) {
                let Some(schema) = self.dataflow.relation_schema(name) else { continue };
                match (&table.definition.connector, &table.reader) {
                    (Connector::File { path }, _) => {
                        let path = self.project.join(path);
                        let rows = read_file(self.doors.disk.as_ref(), &path, &table.definition, &schema)?;
                        let count = rows.iter().map(Changes::num_rows).sum::<usize>() as u64;
                        inputs.insert(name.clone(), rows);
                        if let Some(table) = self.tables.get_mut(name) {
                            table.rows = count;
                        }
                    }
                    (Connector::Topic { .. }, Some(reader)) => {
                        let until = reader.positions().to_vec();
                        let start = vec![PartitionPosition::default(); until.len()];
                        if let Some(mut replay) = TopicReader::new(table.definition.clone(), schema, start)? {
                            replay.check(&self.log)?;
                            replays.push((name.clone(), replay, until));
                        }
                    }
                    (Connector::Topic { .. }, None) => {}
                }
            } else if let Some((external, _)) = self.externals.get(name) {
                lakes.push(external.clone());
            }
        }
        let mut watermarks = BTreeMap::new();
        let output = self.dataflow.bootstrap(inputs, &watermarks, &names, true)?;
        self.take(output);
        for table in lakes {
            self.load_lake(&table, &names)?;
        }
        loop {
            let mut inputs = BTreeMap::new();
            for (name, replay, until) in &mut replays {
                let polled = replay.poll(&self.log, self.options.read_bytes, Some(until))?;
                // Its dead letters were told when the table read these records.
                if !polled.changes.is_empty() {
                    inputs.insert(name.clone(), polled.changes);
                }
                if let Some(watermark) = replay.watermark_us() {
                    watermarks.insert(name.clone(), watermark);
                }
            }
            let done = replays.iter().all(|(_, replay, until)| {
                replay.positions().iter().zip(until).all(|(position, until)| position.offset >= until.offset)
            });
            if !inputs.is_empty() {
                let output = self.dataflow.bootstrap(inputs, &watermarks, &names, false)?;
                self.take(output);
            }
            if done {
                return Ok(());
            }
        }
    }

    fn open_sink(&mut self, view: &Arc<ViewDefinition>) {
        let record = self.sinks.entry(view.name.clone()).or_insert_with(|| SinkRecord {
            view: view.name.clone(),
            since: self.manifest.epoch.next(),
            staged: vec![],
            confirmed: Epoch(0),
        });
        let files = StagedFiles {
            since: record.since,
            epochs: record.staged.iter().map(|epoch| (*epoch, self.files.staged_path(&view.name, *epoch))).collect(),
        };
        self.committer.open(view.clone(), files);
    }

    fn tell_added(&mut self, view: &Arc<ViewDefinition>) {
        if let Some(snapshot) = self.dataflow.snapshot(&view.name) {
            let report = self.report(vec![]);
            self.listener.added(view, snapshot, &report);
        }
    }

    fn report(&self, views: Vec<(String, Changes, crate::arrangement::Snapshot)>) -> StepReport {
        StepReport {
            generation: self.manifest.generation,
            epoch: self.manifest.epoch.next(),
            step: self.step,
            at_ms: self.doors.clock.now_ms(),
            views,
        }
    }

    pub(super) fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<()> {
        let clock = self.doors.clock.clone();
        let mut appended = self.log.appended();
        let mut sealed_at = clock.monotonic();
        let mut status_at = clock.monotonic();
        loop {
            // Marked before reading: what is appended after the read wakes the next wait.
            appended.borrow_and_update();
            let stepped = self.poll()?;
            let now = clock.monotonic();
            self.changed |= self.take_confirmations();
            if self.changed
                && (now - sealed_at >= self.options.epoch_interval || self.dead.len() >= self.options.dead_letters)
            {
                self.seal()?;
                sealed_at = clock.monotonic();
            }
            if now - status_at >= Duration::from_millis(200) {
                self.refresh_status();
                status_at = now;
            }
            if let Some(stop) = self.commands(commands)? {
                self.refresh_status();
                let _ = stop.send(Ok(self.manifest.epoch));
                return Ok(());
            }
            if !stepped {
                wait(&appended, self.options.step_interval);
            }
        }
    }

    fn commands(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Option<tokio::sync::oneshot::Sender<Result<Epoch>>>> {
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Add(objects, reply) => {
                    // Objects that cannot be added are the caller's trouble alone.
                    if let Err(error) = self.add(objects) {
                        let _ = reply.send(Err(error));
                        continue;
                    }
                    let sealed = self.seal();
                    self.answer(sealed.map(|_| ()), reply)?;
                }
                Command::Remove(name, reply) => {
                    self.take_out(&name);
                    self.forget_state(&name).map_err(|error| self.noted(error))?;
                    self.changed = true;
                    let sealed = self.seal();
                    self.answer(sealed.map(|_| ()), reply)?;
                }
                Command::Seal(reply) => {
                    // What waits now; a producer that never pauses must not hold the answer up.
                    for _ in 0..SEAL_STEPS {
                        if !self.poll().map_err(|error| self.noted(error))? {
                            break;
                        }
                    }
                    let sealed = self.seal();
                    self.answer(sealed, reply)?;
                }
                Command::Stop(reply) => {
                    self.seal().map_err(|error| self.noted(error))?;
                    return Ok(Some(reply));
                }
            }
        }
        Ok(None)
    }

    /// Replies with what a seal gave. One that failed ends the engine: the changes that it took are in no manifest, so a
    /// later one must not move the positions past them.
    fn answer<T>(&self, sealed: Result<T>, reply: tokio::sync::oneshot::Sender<Result<T>>) -> Result<()> {
        match sealed {
            Ok(value) => {
                let _ = reply.send(Ok(value));
                Ok(())
            }
            Err(error) => {
                let error = self.noted(error);
                let _ = reply.send(Err(StreamError::Stopped(error.to_string())));
                Err(error)
            }
        }
    }

    /// A failure that ends the engine is told before the reply that it drops is missed.
    fn noted(&self, error: StreamError) -> StreamError {
        self.status.lock().failed = Some(error.to_string());
        error
    }

    /// Reads what waits and runs one step over it.
    fn poll(&mut self) -> Result<bool> {
        let mut inputs = BTreeMap::new();
        let mut watermarks = BTreeMap::new();
        let mut records = 0;
        for (name, table) in &mut self.tables {
            let Some(reader) = &mut table.reader else { continue };
            let polled = reader.poll(&self.log, self.options.read_bytes, None)?;
            records += polled.records;
            table.rows += polled.records as u64;
            for letter in polled.dead {
                *self.manifest.dead.entry(letter.object.clone()).or_default() += 1;
                self.dead.push(letter);
            }
            if !polled.changes.is_empty() {
                inputs.insert(name.clone(), polled.changes);
            }
            if let Some(watermark) = reader.watermark_us() {
                watermarks.insert(name.clone(), watermark);
            }
        }
        let mut taken = records > 0;
        for (name, reader) in &mut self.followed {
            if let Some(changes) = reader.take() {
                taken = true;
                records += changes.num_rows();
                if !changes.is_empty() {
                    inputs.insert(name.clone(), vec![changes]);
                }
            }
        }
        if !taken {
            return Ok(false);
        }
        self.records += records as u64;
        self.changed = true;
        self.step = self.step.next();
        let output = self.dataflow.step(inputs, &watermarks)?;
        let views = self.take(output);
        let told = views
            .into_iter()
            .filter_map(|(name, changes)| Some((name.clone(), changes, self.dataflow.snapshot(&name)?)))
            .collect();
        let report = self.report(told);
        self.listener.stepped(report);
        Ok(true)
    }

    /// Counts and stages what a step gave.
    fn take(&mut self, output: StepOutput) -> Vec<(String, Changes)> {
        for (view, late) in output.late {
            *self.manifest.late.entry(view).or_default() += late;
        }
        for row in output.rejected {
            // A row that is taken back failed when it came, too.
            if row.weight > 0 {
                *self.manifest.dead.entry(row.view.clone()).or_default() += 1;
                let topic = self.topic_of(&row.view);
                self.dead.push(DeadLetter {
                    topic,
                    object: row.view,
                    partition: None,
                    offset: None,
                    timestamp_ms: None,
                    key: None,
                    value: Some(row.row),
                    reason: row.reason,
                });
            }
        }
        for (view, changes) in &output.views {
            if self.views.get(view).is_some_and(|view| view.definition.stored_as.is_some()) {
                self.staging.entry(view.clone()).or_default().push(changes.clone());
            }
        }
        output.views
    }

    /// The topic whose dead letters take a view's failing rows: that of its first table, or of itself.
    fn topic_of(&self, view: &str) -> String {
        let inputs = self.views.get(view).map(|view| view.definition.plan.inputs.clone()).unwrap_or_default();
        let topic = inputs.iter().find_map(|input| match &self.tables.get(input)?.definition.connector {
            Connector::Topic { topic, .. } => Some(topic.to_string()),
            Connector::File { .. } => None,
        });
        topic.unwrap_or_else(|| view.to_string())
    }

    /// Takes a removed view's entries out of all runs, so that a later view of its name starts clean.
    fn forget_state(&mut self, view: &str) -> Result<()> {
        let prefix = format!("{view}/");
        let mut run = RunBuilder::new();
        read_newest(
            &self.manifest.runs,
            |file| self.files.read_run(file),
            |node, key, value| {
                if !node.starts_with(&prefix) && value.is_some() {
                    run.add(node, key, value);
                }
                Ok(())
            },
        )?;
        self.manifest.runs.clear();
        if let Some(data) = run.finish()? {
            let file = format!("{:020}-without-{view}.run", self.manifest.epoch.next().0);
            self.files.write_run(&file, &data)?;
            self.manifest.runs.push(RunRecord { file, bytes: data.len() as u64 });
        }
        Ok(())
    }

    /// Appends the sealed epoch's dead letters to `<topic>.dlq`, once.
    fn publish_dead_letters(&mut self) -> Result<()> {
        let letters = &self.manifest.dead_letters;
        if letters.is_empty() {
            return Ok(());
        }
        let sink = format!("rivermere/{}/dead_letters", self.manifest.incarnation);
        let epoch = self.manifest.epoch;
        let marker = self.log.marker(&sink).and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        if marker.is_some_and(|marker| marker >= epoch.0) {
            return Ok(());
        }
        let mut by_topic: BTreeMap<String, Vec<records::Record>> = BTreeMap::new();
        for letter in letters {
            let value = serde_json::to_vec(letter).unwrap_or_default();
            by_topic.entry(format!("{}.dlq", letter.topic)).or_default().push(records::Record {
                key: letter.key.clone().map(bytes::Bytes::from),
                value: Some(value.into()),
                headers: vec![("reason".into(), Some(letter.reason.clone().into()))],
                timestamp_ms: letter.timestamp_ms.unwrap_or(self.manifest.written_ms),
            });
        }
        let mut entries = vec![];
        for (topic, letters) in by_topic {
            let failed = |message: String| StreamError::Records { topic: topic.clone(), message };
            let name = TopicName::new(&topic).map_err(|error| failed(error.to_string()))?;
            self.ensure_topic(&name, 1)?;
            let batch =
                records::encode(&letters, records::Compression::None).map_err(|error| failed(error.to_string()))?;
            entries.push((name, PartitionId(0), batch));
        }
        self.doors.disk.crash_point(CrashPoint::BeforeDeadLetterAppend);
        self.log.append_atomic(entries, Some((sink, bytes::Bytes::copy_from_slice(&epoch.0.to_be_bytes())))).wait()?;
        self.doors.disk.crash_point(CrashPoint::AfterDeadLetterAppend);
        Ok(())
    }

    /// Takes note of what tables have confirmed; whether that is news for the manifest.
    fn take_confirmations(&mut self) -> bool {
        let mut news = false;
        for (view, confirmed) in self.committer.confirmed() {
            if let Some(sink) = self.sinks.get_mut(&view)
                && confirmed > sink.confirmed
            {
                sink.confirmed = confirmed;
                sink.staged.retain(|epoch| *epoch > confirmed);
                news = true;
            }
        }
        news
    }

    fn refresh_status(&mut self) {
        let mut status = EngineStatus {
            generation: self.manifest.generation,
            epoch: self.manifest.epoch.0,
            step: self.step.0,
            records: self.records,
            ..EngineStatus::default()
        };
        for (name, table) in &self.tables {
            let object = status.objects.entry(name.clone()).or_default();
            object.rows = table.rows;
            if let Some(reader) = &table.reader {
                object.lag = reader.lag(&self.log).unwrap_or(0);
                object.watermark_us = reader.watermark_us();
                status.lag += object.lag;
            }
        }
        for (name, reader) in &self.followed {
            let object = status.objects.entry(name.clone()).or_default();
            (object.rows, object.lag, object.trouble) = (reader.rows, reader.lag(), reader.trouble());
            status.lag += object.lag;
        }
        for name in self.views.keys() {
            let object = status.objects.entry(name.clone()).or_default();
            let (entries, bytes, own) = self.dataflow.state_size(name);
            object.rows = self.dataflow.snapshot(name).map_or(0, |snapshot| snapshot.num_rows() as u64);
            object.state_entries = entries as u64;
            object.state_bytes = (bytes + own) as u64;
        }
        for (name, late) in &self.manifest.late {
            status.objects.entry(name.clone()).or_default().late = *late;
        }
        for (name, dead) in &self.manifest.dead {
            status.objects.entry(name.clone()).or_default().dead = *dead;
        }
        for (view, sink) in &self.sinks {
            let mut staged = sink.staged.last().copied().unwrap_or(sink.confirmed).max(sink.confirmed);
            // Changes that no epoch has sealed yet are on their way, too.
            if self.staging.get(view).is_some_and(|changes| !changes.is_empty()) {
                staged = self.manifest.epoch.next();
            }
            status.sinks.insert(view.clone(), (staged.0, sink.confirmed.0));
        }
        *self.status.lock() = status;
    }
}

/// The net change of an epoch: rows that came and went within it are gone.
fn net(view: &ViewDefinition, changes: Vec<Changes>) -> Result<Vec<Changes>> {
    if changes.iter().all(Changes::is_append_only) {
        return Ok(changes);
    }
    Ok(vec![netted(&view.plan.schema, &changes)?])
}

/// Waits until something is appended, at most a moment, and at least one step interval so that small appends are taken
/// together. Counted in pauses and not by the clock, which stands still in a simulated world.
fn wait(appended: &tokio::sync::watch::Receiver<u64>, step_interval: Duration) {
    const PAUSES: u32 = 12;
    for _ in 0..PAUSES {
        std::thread::sleep(step_interval.max(Duration::from_millis(1)));
        if appended.has_changed().unwrap_or(true) {
            return;
        }
    }
}
