//! The only wiring: doors, log, engine, tables and listeners put together, in the same way for the demo, for production
//! and for tests.

mod commands;
mod iceberg_catalog;
mod instance;
mod lake;
mod lake_changes;
mod lake_verbs;
mod platform;
mod views;

use crate::{Planned, Problem, Project, memory};
use arrow::datatypes::SchemaRef;
use instance::Instance;
pub use instance::InstanceFile;
use parking_lot::RwLock;
use platform::Running;
use rivermere_base::Doors;
use rivermere_log::kafka::{KafkaOptions, KafkaServer};
use rivermere_log::{Log, LogOptions};
use rivermere_serve::{Addresses, Endpoint, Limits, Platform, Shutdown, Status, Stop};
use rivermere_sql::{Script, Statement};
use rivermere_stream::runtime::{Committer, EngineConfig, EngineOptions, NewObjects, start};
use rivermere_stream::{Manifest, ObjectRecord, newest_manifest};
use rivermere_table::{Adopt, TableError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where a process keeps its data and listens.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data: PathBuf,
    /// Port 0 takes a free one. Loopback only.
    pub http: SocketAddr,
    pub kafka: SocketAddr,
    pub pg: SocketAddr,
    /// What happens to a lake table that another pipeline has written.
    pub adopt: Adopt,
}

/// A running platform.
pub struct Assembly {
    running: Arc<Running>,
    log: Log,
    committer: Arc<Committer>,
    instance: Instance,
    stop_listeners: Stop,
    stop_committer: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Assembly {
    /// Recovers what the data folder holds, starts the engine and opens the listeners.
    ///
    /// # Errors
    /// A folder in use, a port taken, a project that does not plan, state that does not fit: each with a next step.
    pub async fn start(doors: Doors, project: Project, settings: Settings) -> Result<Self, Problem> {
        let disk = doors.disk.clone();
        disk.create_dir_all(&settings.data)
            .map_err(|error| Problem::new(7010, format!("cannot create {}: {error}", settings.data.display())))?;
        let storages = project.settings.storages.open(&project.folder, &doors)?;
        let base = project.settings.lake();
        let lake = lake::Lake::new(doors.clone(), settings.data.clone(), base, storages, settings.adopt);
        let found = lake.columns_of(&project.statements).await;
        let state = settings.data.join("state");
        // What views read has the columns that they were made over, and what cannot be opened those that it had. A manifest
        // that cannot be read is told of below.
        let (mut opened, followed) =
            newest_manifest(disk.clone(), &state).map_or_else(|_| Default::default(), remembered);
        opened.retain(|name, _| !is_to_be_made(&project, &found, name));
        opened.extend(known(&found));
        opened.extend(followed.clone());
        let mut planned = project.plan(opened).map_err(Problem::told)?;
        let instance = Instance::lock(&settings.data)?;
        let http = listen("http", settings.http).await?;
        let pg = listen("pg", settings.pg).await?;

        let log_folder = settings.data.join("log");
        let (log_doors, folder) = (doors.clone(), log_folder.clone());
        let log =
            blocking(move || Log::open(log_doors, &folder, LogOptions::default())).await?.map_err(Problem::told)?;
        let kafka = KafkaServer::bind(log.clone(), settings.kafka, KafkaOptions::default())
            .await
            .map_err(|error| port_problem("kafka", settings.kafka, &error))?;

        let from_files = NewObjects {
            externals: planned.externals.clone(),
            tables: planned.tables.clone(),
            views: planned.views.clone(),
            ad_hoc: false,
        };
        let manifest = newest_manifest(disk.clone(), &state).map_err(Problem::told)?;
        let kept = kept_statements(&planned, manifest)?;
        planned.opened.extend(known(&lake.columns_of(kept.iter().flat_map(|(_, script)| script.statements())).await));
        planned.opened.extend(followed);
        let kept = add_kept(&mut planned, kept)?;
        let planner = Arc::new(RwLock::new(planned.planner));
        for view in from_files.views.iter().chain(&kept.views) {
            lake.check(view)
                .map_err(|error| Problem::told(format!("{error}\n  in the LOCATION of '{}'", view.name)))?;
            if let Some(table) = lake.fed_by_itself(view, &planner.read()) {
                let message = format!("view '{}' would be stored in the table that it reads, '{table}'", view.name);
                return Err(Problem::new(7032, message).hint("give it a LOCATION of its own"));
            }
        }
        let lakes = lake.followed();
        let committer = Arc::new(Committer::new(
            disk.clone(),
            doors.clock.clone(),
            project.commit_interval(),
            lake.opener(),
            lake.needed(&lakes),
        ));
        let running = Running::new(
            doors.clone(),
            project.clone(),
            planner.clone(),
            log.clone(),
            lake.clone(),
            lakes.clone(),
            committer.clone(),
        );
        let addresses = Addresses {
            http: http.local_addr().ok().map(|address| format!("http://{address}")),
            kafka: kafka.local_addr().ok().map(|address| address.to_string()),
            pg: pg.local_addr().ok().map(|address| format!("postgresql://rivermere@{address}/rivermere")),
        };
        running.set_addresses(addresses.clone());
        running.add_tables(&from_files.tables);
        running.add_tables(&kept.tables);
        running.add_externals(&from_files.externals);
        running.add_externals(&kept.externals);
        for parsed in &project.statements {
            if let Statement::CreateExternal(create) = &parsed.statement
                && let Some(Err(error)) = found.get(&create.name.value)
            {
                lake_verbs::ensure_at_start(&lake, create, parsed, error).await.map_err(|problem| {
                    Problem::told(format!(
                        "{}: {}\n  in CREATE EXTERNAL TABLE {}",
                        problem.code, problem.message, create.name
                    ))
                })?;
            }
        }

        let (stop_listeners, shutdown) = Shutdown::new();
        let (stop_committer, committer_stopped) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(committer.clone().run(committer_stopped))];
        let endpoint = Endpoint::new(running.clone() as Arc<dyn Platform>, Limits::default()).map_err(Problem::told)?;
        tasks.push(serve(endpoint.clone().serve_http(http, shutdown.clone())));
        tasks.push(serve(endpoint.serve_postgres(pg, shutdown.clone())));
        let asked = shutdown.clone();
        tasks.push(tokio::spawn(async move { kafka.serve(async move { asked.asked().await }).await }));

        let config = EngineConfig {
            doors,
            folder: state,
            project: project.folder.clone(),
            log: log.clone(),
            planner,
            objects: vec![from_files, kept],
            committer: committer.clone(),
            lakes: Some(lakes),
            options: EngineOptions { epoch_interval: project.epoch_interval(), ..EngineOptions::default() },
        };
        let listener = Box::new(running.listener());
        let engine = blocking(move || start(config, listener)).await?.map_err(Problem::told)?;
        running.set_engine(engine);
        instance.publish(&project.name, &addresses)?;
        memory::give_back_code();
        Ok(Self { running, log, committer, instance, stop_listeners, stop_committer, tasks })
    }

    pub fn addresses(&self) -> Addresses {
        self.running.status().addresses
    }

    pub fn status(&self) -> Status {
        self.running.status()
    }

    pub fn platform(&self) -> Arc<dyn Platform> {
        self.running.clone()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether topics are read to their ends and every table holds what the views hold.
    pub fn is_settled(&self) -> bool {
        let status = self.running.status();
        status.lag == 0 && self.committer.progress().values().all(|sink| sink.waiting == 0) && self.running.is_sealed()
    }

    /// Commits everything that is staged.
    ///
    /// # Errors
    /// When a table refuses.
    pub async fn flush(&self) -> Result<(), Problem> {
        self.running.seal().await?;
        self.committer.flush().await.map_err(Problem::told)
    }

    /// Waits until the engine fails, and tells why.
    pub async fn failed(&self) -> Problem {
        loop {
            if let Some(message) = self.running.failure() {
                return Problem::told(message);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Seals what has been read, commits it to the tables, and closes everything.
    ///
    /// # Errors
    /// When the last epoch cannot be sealed or a table refuses; nothing acknowledged is lost.
    pub async fn stop(self) -> Result<(), Problem> {
        self.running.set_stopping();
        let sealed = self.running.stop_engine().await;
        let flushed = tokio::time::timeout(FLUSH_LIMIT, self.committer.flush()).await;
        self.stop_listeners.stop();
        let _ = self.stop_committer.send(true);
        for task in self.tasks {
            if tokio::time::timeout(Duration::from_secs(3), task).await.is_err() {
                tracing::warn!("a listener did not end in time");
            }
        }
        let log = self.log.clone();
        let closed = blocking(move || log.close()).await?;
        drop(self.instance);
        sealed?;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return Err(Problem::told(message)),
            Err(_) => tracing::warn!("tables did not take everything in time; they will at the next start"),
        }
        closed.map_err(Problem::told)
    }
}

/// Longest wait for tables at a clean stop: what they do not take, they get at the next start.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// Objects that run but are in no file of the project: made by statements, or their file is gone. They are kept.
fn kept_statements(planned: &Planned, manifest: Option<Manifest>) -> Result<Vec<(ObjectRecord, Script)>, Problem> {
    let objects = manifest.map_or(vec![], |manifest| manifest.objects);
    let kept = objects.into_iter().filter(|object| !planned.knows(&object.name)).map(|object| {
        let script = Script::parse(&format!("{} (kept from an earlier run)", object.name), &object.text);
        Ok((object, script.map_err(Problem::told)?))
    });
    kept.collect()
}

/// Plans them in the order that they need each other.
fn add_kept(planned: &mut Planned, mut waiting: Vec<(ObjectRecord, Script)>) -> Result<NewObjects, Problem> {
    let mut kept = NewObjects { ad_hoc: true, ..NewObjects::default() };
    // Tables first, then views as their inputs come.
    waiting.sort_by_key(|(object, _)| object.kind == "view");
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut problem = None;
        waiting.retain(|(object, script)| {
            let (externals, tables, views) = (planned.externals.len(), planned.tables.len(), planned.views.len());
            match script.statements().iter().try_for_each(|parsed| planned.add(parsed)) {
                Ok(()) => {
                    kept.externals.extend(planned.externals[externals..].iter().cloned());
                    kept.tables.extend(planned.tables[tables..].iter().cloned());
                    kept.views.extend(planned.views[views..].iter().cloned());
                    if !object.ad_hoc {
                        tracing::warn!(name = object.name, "is in no file of the project any more; it is kept");
                    }
                    false
                }
                Err(error) => {
                    problem = Some(error);
                    true
                }
            }
        });
        if waiting.len() == before
            && let Some(problem) = problem
        {
            return Err(Problem::told(problem));
        }
    }
    Ok(kept)
}

/// The columns of a project's external tables, or why they cannot be read. `data` is where relative places begin.
///
/// # Errors
/// When the options of a storage are wrong.
pub async fn external_columns(
    project: &Project,
    doors: &Doors,
    data: &Path,
) -> Result<BTreeMap<String, Result<SchemaRef, TableError>>, Problem> {
    let storages = project.settings.storages.open(&project.folder, doors)?;
    let lake = lake::Lake::new(doors.clone(), data.to_path_buf(), project.settings.lake(), storages, Adopt::Refuse);
    Ok(lake.columns_of(&project.statements).await)
}

/// The columns that tables of the lake had when they were last opened; and of those, the ones that views read.
fn remembered(manifest: Option<Manifest>) -> (BTreeMap<String, SchemaRef>, BTreeMap<String, SchemaRef>) {
    let Some(manifest) = manifest else { return Default::default() };
    let columns = |object: &ObjectRecord| Some((object.name.clone(), object.columns()?));
    let all: BTreeMap<String, SchemaRef> = manifest.objects.iter().filter_map(columns).collect();
    let read = all.iter().filter(|(name, _)| manifest.lakes.contains_key(*name));
    let read = read.map(|(name, columns)| (name.clone(), columns.clone())).collect();
    (all, read)
}

/// Whether a table is not there, and its statement says what columns it is made with.
fn is_to_be_made(project: &Project, found: &BTreeMap<String, Result<SchemaRef, TableError>>, name: &str) -> bool {
    matches!(found.get(name), Some(Err(TableError::Missing { .. })))
        && project.statements.iter().any(|parsed| {
            matches!(&parsed.statement, Statement::CreateExternal(create)
                if create.name.value == name && !create.columns.is_empty())
        })
}

/// The columns that could be read.
fn known(found: &BTreeMap<String, Result<SchemaRef, TableError>>) -> BTreeMap<String, SchemaRef> {
    found.iter().filter_map(|(name, columns)| Some((name.clone(), columns.as_ref().ok()?.clone()))).collect()
}

async fn listen(name: &str, address: SocketAddr) -> Result<TcpListener, Problem> {
    if !address.ip().is_loopback() {
        return Err(Problem::new(
            7011,
            format!(
                "--{name} {address}: only loopback addresses are listened on, since there is no authentication yet"
            ),
        )
        .hint(format!("--{name} 127.0.0.1:{}", address.port())));
    }
    TcpListener::bind(address).await.map_err(|error| port_problem(name, address, &error))
}

fn port_problem(name: &str, address: SocketAddr, error: &std::io::Error) -> Problem {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return Problem::new(7012, format!("port {} for {name} is taken by another process", address.port()))
            .hint(format!("choose another with --{name} PORT, or --{name} 0 for any free one"));
    }
    Problem::new(7012, format!("cannot listen on {address} for {name}: {error}"))
}

fn serve<E: std::fmt::Display + Send>(future: impl Future<Output = Result<(), E>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = future.await {
            tracing::error!(%error, "a listener ended");
        }
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::new(7013, format!("a task ended early: {error}")))
}
