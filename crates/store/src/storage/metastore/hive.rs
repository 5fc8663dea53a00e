//! Hive's Metastore, over Thrift (`hive_metastore.thrift`), in its binary protocol on a plain connection.
//!
//! A commit does what Iceberg's `HiveTableOperations` do, so that each sees the other: the table is locked, it must still name the
//! metadata that the new one was made over, and the change says which that was. A server that knows such a condition
//! (`expected_parameter_key`, HIVE-26882) refuses the change of whoever came without the lock.

use super::super::asking::NoAnswer;
use super::super::error::StorageError;
use super::super::options::{Limits, StorageOptions};
use super::super::retry::Patience;
use super::thrift_value::{Called, Fields, Value, call};
use super::{Described, Exchanged, MetastoreColumn, NewTable, State, Told, below_database, classes, parameters};
use super::{METADATA, METADATA_BEFORE, PATH};
use parking_lot::Mutex;
use rivermere_base::Doors;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use thrift::protocol::{TBinaryInputProtocol, TBinaryOutputProtocol};
use thrift::transport::{TBufferedReadTransport, TBufferedWriteTransport};

pub(super) const OPTIONS: &[&str] = &["user", "warehouse"];
pub(super) const DEFAULT_PORT: u16 = 9083;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks at a lock that somebody else has, at growing distances: about twenty seconds in all.
const LOCK_LOOKS: u32 = 14;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(2);
/// The table's own word that its writers need no lock: they all rely on the condition.
const LOCK_ENABLED: &str = "engine.hive.lock-enabled";

// `hive_metastore.thrift`.
mod lock {
    pub(super) const EXCLUSIVE: i32 = 3;
    pub(super) const TABLE: i32 = 2;
    pub(super) const ACQUIRED: i32 = 1;
    pub(super) const WAITING: i32 = 2;
}
mod table {
    pub(super) const NAME: i16 = 1;
    pub(super) const DATABASE: i16 = 2;
    pub(super) const OWNER: i16 = 3;
    pub(super) const DESCRIPTOR: i16 = 7;
    pub(super) const PARTITION_KEYS: i16 = 8;
    pub(super) const PARAMETERS: i16 = 9;
    pub(super) const TYPE: i16 = 12;
}
mod descriptor {
    pub(super) const COLUMNS: i16 = 1;
    pub(super) const LOCATION: i16 = 2;
    pub(super) const INPUT: i16 = 3;
    pub(super) const OUTPUT: i16 = 4;
    pub(super) const SERDE: i16 = 7;
    pub(super) const PARAMETERS: i16 = 10;
}
mod serde {
    pub(super) const CLASS: i16 = 2;
    pub(super) const PARAMETERS: i16 = 3;
}
mod database {
    pub(super) const NAME: i16 = 1;
    pub(super) const DESCRIPTION: i16 = 2;
    pub(super) const LOCATION: i16 = 3;
}

type Reading = TBinaryInputProtocol<TBufferedReadTransport<TcpStream>>;
type Writing = TBinaryOutputProtocol<TBufferedWriteTransport<TcpStream>>;

/// A metastore.
#[derive(Clone)]
pub(in super::super) struct Hive {
    client: Arc<Client>,
    patience: Patience,
    warehouse: Option<String>,
    user: String,
}

/// One connection, made when it is needed.
struct Client {
    host: String,
    port: u16,
    limits: Limits,
    connection: Mutex<Option<(Reading, Writing)>>,
}

impl Client {
    fn connect(&self) -> thrift::Result<(Reading, Writing)> {
        let mut refused = None;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.limits.timeout))?;
                    stream.set_write_timeout(Some(self.limits.timeout))?;
                    stream.set_nodelay(true)?;
                    let reading = TBufferedReadTransport::new(stream.try_clone()?);
                    let writing = TBufferedWriteTransport::new(stream);
                    return Ok((TBinaryInputProtocol::new(reading, true), TBinaryOutputProtocol::new(writing, true)));
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.map_or_else(|| "its host has no address".into(), thrift::Error::from))
    }

    /// Blocks.
    fn call(&self, method: &str, arguments: &Fields) -> Result<Called, NoAnswer> {
        let mut connection = self.connection.lock();
        let answer = (|| {
            if connection.is_none() {
                *connection = Some(self.connect()?);
            }
            let Some((reading, writing)) = connection.as_mut() else { return Err("it is not connected".into()) };
            call(reading, writing, method, arguments)
        })();
        answer.map_err(|error: thrift::Error| {
            // What comes next on it would be the answer to this.
            *connection = None;
            NoAnswer(format!("Hive's metastore at {}:{} does not answer {method}: {error}", self.host, self.port))
        })
    }
}

/// Why a method returned nothing.
enum Unanswered {
    /// It may have been called, and may be called again.
    Lost(NoAnswer),
    /// The server has no such method, or failed in it.
    Refused(NoAnswer),
}

impl From<Unanswered> for NoAnswer {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Lost(error) | Unanswered::Refused(error) => error,
        }
    }
}

/// What a method returned, or the number and the message of its exception.
enum Returned {
    Value(Option<Value>),
    Exception(i16, String),
}

impl Hive {
    pub(super) fn open(
        host: &str,
        options: &StorageOptions,
        limits: Limits,
        doors: &Doors,
    ) -> Result<Self, StorageError> {
        let wrong = || StorageError::Address {
            url: format!("hive://{host}/…"),
            problem: "names no host, or a port that is none".into(),
            form: super::Kind::Hive.form(),
        };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| wrong())?),
            _ => (host, DEFAULT_PORT),
        };
        if name.is_empty() {
            return Err(wrong());
        }
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let client = Client { host: name, port, limits, connection: Mutex::new(None) };
        Ok(Self {
            client: Arc::new(client),
            patience: Patience::new(limits, doors.rng.clone()),
            warehouse: options.get("warehouse").map(str::to_owned),
            user: options.get("user").unwrap_or("rivermere").to_owned(),
        })
    }

    async fn once(&self, method: &'static str, arguments: &Fields) -> Result<Returned, Unanswered> {
        let (client, arguments) = (self.client.clone(), arguments.clone());
        let called = tokio::task::spawn_blocking(move || client.call(method, &arguments)).await;
        let called = called.map_err(|error| Unanswered::Lost(NoAnswer(error.to_string())))?;
        let fields = called.map_err(Unanswered::Lost)?;
        let fields = fields.map_err(|message| Unanswered::Refused(Self::refused(method, &message)))?;
        let exception = (1..16).find_map(|id| fields.fields(id).map(|exception| (id, exception)));
        Ok(match exception {
            Some((id, exception)) => {
                let message = exception.text(1).unwrap_or_default();
                Returned::Exception(id, message.chars().filter(|char| !char.is_control()).take(500).collect())
            }
            None => Returned::Value(fields.get(0).cloned()),
        })
    }

    /// The same, again while there is no answer: of what only reads.
    async fn ask(&self, method: &'static str, arguments: &Fields) -> Result<Returned, NoAnswer> {
        let is_lost = |error: &Unanswered| matches!(error, Unanswered::Lost(_));
        Ok(self.patience.repeat(is_lost, || self.once(method, arguments)).await?)
    }

    fn refused(method: &str, message: &str) -> NoAnswer {
        NoAnswer(format!("Hive's metastore refuses {method}: {message}"))
    }

    pub(super) async fn described(&self, database: &str, name: &str) -> Result<Option<Described>, NoAnswer> {
        let answer = self.ask(GET_TABLE, &get_table(database, name)).await?;
        Self::understood(name, answer)
    }

    fn understood(name: &str, answer: Returned) -> Result<Option<Described>, NoAnswer> {
        let answer = match answer {
            Returned::Value(Some(Value::Struct(answer))) => answer,
            Returned::Exception(2, _) => return Ok(None),
            Returned::Exception(_, message) => return Err(Self::refused(GET_TABLE, &message)),
            Returned::Value(_) => return Err(Self::refused(GET_TABLE, "it returns nothing")),
        };
        let found = answer.fields(1).cloned().ok_or_else(|| Self::refused(GET_TABLE, "it returns no table"))?;
        let empty = Fields::default();
        let described = found.fields(table::DESCRIPTOR).unwrap_or(&empty);
        let path = described.fields(descriptor::SERDE).and_then(|serde| serde.entry(serde::PARAMETERS, PATH));
        let told = Told::of(
            |name| found.entry(table::PARAMETERS, name),
            described.text(descriptor::LOCATION),
            path.or_else(|| found.entry(table::PARAMETERS, PATH)),
            described.text(descriptor::INPUT),
        );
        told.with(name, State::Hive(found)).map(Some)
    }

    pub(super) async fn exchange(
        &self,
        database: &str,
        name: &str,
        base: &Fields,
        metadata: &str,
        columns: &[MetastoreColumn],
    ) -> Result<Exchanged, NoAnswer> {
        let before = base.entry(table::PARAMETERS, METADATA).unwrap_or_default().to_owned();
        let needs_lock = base.entry(table::PARAMETERS, LOCK_ENABLED) != Some("false");
        let (hive, database, name) = (self.clone(), database.to_owned(), name.to_owned());
        let (metadata, columns) = (metadata.to_owned(), columns.to_vec());
        // Once begun it goes on to its end, whoever waits for it: a lock that is left keeps everybody for minutes.
        let exchanged = tokio::spawn(async move {
            let id = match hive.lock(&database, &name).await {
                Ok(Some(id)) => Some(id),
                Ok(None) => return Ok(Exchanged::Not),
                Err(error) if needs_lock => return Err(error),
                // Some metastores have none.
                Err(_) => None,
            };
            let exchanged = hive.changed(&database, &name, &before, &metadata, &columns).await;
            // A change that is still under way must not meet that of the next who has the lock.
            if let (Some(id), Ok(Exchanged::Done | Exchanged::Not) | Err(_)) = (id, &exchanged) {
                hive.unlock(id).await;
            }
            exchanged
        });
        exchanged.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "whether a commit was made is looked up");
            Ok(Exchanged::Unclear)
        })
    }

    /// Changes the table as it is now: others may have changed what is no commit.
    async fn changed(
        &self,
        database: &str,
        name: &str,
        before: &str,
        metadata: &str,
        columns: &[MetastoreColumn],
    ) -> Result<Exchanged, NoAnswer> {
        // Asked once: a lock has its time.
        let now = Self::understood(name, self.once(GET_TABLE, &get_table(database, name)).await?)?;
        let Some(Described { metadata: Some(current), state: State::Hive(mut next), .. }) = now else {
            return Ok(Exchanged::Not);
        };
        if current != before {
            return Ok(Exchanged::Not);
        }
        next.set_entry(table::PARAMETERS, METADATA_BEFORE, before);
        next.set_entry(table::PARAMETERS, METADATA, metadata);
        let known = next.fields(table::DESCRIPTOR).and_then(|descriptor| descriptor.get(descriptor::COLUMNS)).cloned();
        next.set_within(table::DESCRIPTOR, descriptor::COLUMNS, told(columns, known.as_ref()));
        let context = Value::map_of([
            ("expected_parameter_key", METADATA),
            ("expected_parameter_value", before),
            // Else the server lists the table's folder for them.
            ("DO_NOT_UPDATE_STATS", "true"),
        ]);
        let arguments = Fields::of([
            (1, Value::text(database)),
            (2, Value::text(name)),
            (3, Value::Struct(next)),
            (4, Value::Struct(Fields::of([(1, context)]))),
        ]);
        let method = "alter_table_with_environment_context";
        let message = match self.once(method, &arguments).await {
            Ok(Returned::Value(_)) => return Ok(Exchanged::Done),
            Ok(Returned::Exception(_, message)) => message,
            // It has failed in it, at whatever point.
            Err(Unanswered::Refused(error)) => error.to_string(),
            Err(Unanswered::Lost(error)) => {
                tracing::warn!(%error, "whether a commit was made is looked up");
                return Ok(Exchanged::Unclear);
            }
        };
        // The server repeats what failed below it, so that the exception may be that of a repetition.
        match self.once(GET_TABLE, &get_table(database, name)).await.map(|answer| Self::understood(name, answer)) {
            Ok(Ok(Some(Described { metadata: Some(now), .. }))) if now == metadata => Ok(Exchanged::Done),
            Ok(Ok(Some(Described { metadata: Some(now), .. }))) if now == before => {
                Err(Self::refused(method, &message))
            }
            _ => Ok(Exchanged::Unclear),
        }
    }

    /// An exclusive lock of the table, by its number; nothing when another writer keeps the table.
    async fn lock(&self, database: &str, name: &str) -> Result<Option<i64>, NoAnswer> {
        let component = Fields::of([
            (1, Value::I32(lock::EXCLUSIVE)),
            (2, Value::I32(lock::TABLE)),
            (3, Value::text(database)),
            (4, Value::text(name)),
        ]);
        let request = Fields::of([
            (1, Value::list_of(vec![component])),
            (3, Value::text(&self.user)),
            (4, Value::text("rivermere")),
            (5, Value::text("rivermere")),
        ]);
        let answer = self.once("lock", &Fields::of([(1, Value::Struct(request))])).await?;
        let (id, state) = held("lock", answer)?;
        let waited = if state == lock::WAITING { self.waited(id).await } else { Ok(state) };
        match waited {
            Ok(lock::ACQUIRED) => Ok(Some(id)),
            other => {
                // A request that waits keeps those who come after it.
                self.unlock(id).await;
                other.map(|_| None)
            }
        }
    }

    async fn waited(&self, id: i64) -> Result<i32, NoAnswer> {
        let request = Fields::of([(1, Value::Struct(Fields::of([(1, Value::I64(id))])))]);
        let mut pause = LOCK_PAUSE;
        for _ in 0..LOCK_LOOKS {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOCK_PAUSE);
            let (_, state) = held("check_lock", self.once("check_lock", &request).await?)?;
            if state != lock::WAITING {
                return Ok(state);
            }
        }
        Ok(lock::WAITING)
    }

    /// The metastore lets go of a lock by itself after some minutes.
    async fn unlock(&self, id: i64) {
        let request = Fields::of([(1, Value::I64(id))]);
        if let Err(error) =
            self.once("unlock", &Fields::of([(1, Value::Struct(request))])).await.map_err(NoAnswer::from)
        {
            tracing::warn!(%error, "a lock in Hive's metastore was left: it ends by itself");
        }
    }

    pub(super) async fn new_location(&self, database: &str, name: &str) -> Result<String, NoAnswer> {
        let warehouse = self.warehouse.as_deref();
        match self.ask("get_database", &Fields::of([(1, Value::text(database))])).await? {
            Returned::Value(Some(Value::Struct(found))) => {
                below_database(found.text(database::LOCATION), warehouse, database, name)
            }
            Returned::Exception(1, _) => below_database(None, warehouse, database, name),
            Returned::Exception(_, message) => Err(Self::refused("get_database", &message)),
            Returned::Value(_) => Err(Self::refused("get_database", "it returns no database")),
        }
    }

    pub(super) async fn register(&self, database: &str, name: &str, new: &NewTable) -> Result<bool, NoAnswer> {
        let [input, output, class] = classes(new.format);
        let serde = Fields::of([
            (serde::CLASS, Value::text(class)),
            (serde::PARAMETERS, Value::map_of([("serialization.format", "1"), (PATH, new.location.as_str())])),
        ]);
        let described = Fields::of([
            (descriptor::COLUMNS, told(&new.columns, None)),
            (descriptor::LOCATION, Value::text(&new.location)),
            (descriptor::INPUT, Value::text(input)),
            (descriptor::OUTPUT, Value::text(output)),
            (descriptor::SERDE, Value::Struct(serde)),
            (descriptor::PARAMETERS, Value::map_of([])),
        ]);
        let parameters = parameters(new);
        let parameters = parameters.iter().map(|(key, value)| (*key, value.as_str()));
        let made = Fields::of([
            (table::NAME, Value::text(name)),
            (table::DATABASE, Value::text(database)),
            (table::OWNER, Value::text(&self.user)),
            (table::DESCRIPTOR, Value::Struct(described)),
            (table::PARTITION_KEYS, Value::list_of(vec![])),
            (table::PARAMETERS, Value::map_of(parameters)),
            (table::TYPE, Value::text("EXTERNAL_TABLE")),
        ]);
        let arguments = Fields::of([(1, Value::Struct(made))]);
        let mut answer = self.once("create_table", &arguments).await?;
        if matches!(answer, Returned::Exception(..)) {
            let found = self.ask("get_database", &Fields::of([(1, Value::text(database))])).await?;
            if matches!(found, Returned::Exception(1, _)) {
                self.make_database(database).await?;
                answer = self.once("create_table", &arguments).await?;
            }
        }
        match answer {
            Returned::Value(_) => Ok(true),
            Returned::Exception(1, _) => Ok(false),
            Returned::Exception(_, message) => Err(Self::refused("create_table", &message)),
        }
    }

    async fn make_database(&self, name: &str) -> Result<(), NoAnswer> {
        let mut made = Fields::of([(database::NAME, Value::text(name)), (database::DESCRIPTION, Value::text(""))]);
        if let Some(warehouse) = &self.warehouse {
            let folder = format!("{}/{name}.db", warehouse.trim_end_matches('/'));
            made.set(database::LOCATION, Value::text(&folder));
        }
        match self.once("create_database", &Fields::of([(1, Value::Struct(made))])).await? {
            Returned::Value(_) | Returned::Exception(1, _) => Ok(()),
            Returned::Exception(_, message) => Err(Self::refused("create_database", &message)),
        }
    }
}

const GET_TABLE: &str = "get_table_req";

/// `get_table` is gone since Hive 4.0.1.
fn get_table(database: &str, name: &str) -> Fields {
    let request = Fields::of([(1, Value::text(database)), (2, Value::text(name))]);
    Fields::of([(1, Value::Struct(request))])
}

/// The number of a lock, and its state.
fn held(method: &'static str, answer: Returned) -> Result<(i64, i32), NoAnswer> {
    match answer {
        Returned::Value(Some(Value::Struct(response))) => match (response.get(1), response.get(2)) {
            (Some(Value::I64(id)), Some(Value::I32(state))) => Ok((*id, *state)),
            _ => Err(Hive::refused(method, "it returns no lock")),
        },
        Returned::Exception(_, message) => Err(Hive::refused(method, &message)),
        Returned::Value(_) => Err(Hive::refused(method, "it returns nothing")),
    }
}

/// Columns; what others have said of one stays while it is the same.
fn told(columns: &[MetastoreColumn], known: Option<&Value>) -> Value {
    let known: &[Value] = match known {
        Some(Value::List(_, known)) => known,
        _ => &[],
    };
    let column = |column: &MetastoreColumn| {
        let before = known.iter().find_map(|known| match known {
            Value::Struct(known) if known.text(1) == Some(&column.name) && known.text(2) == Some(&column.hive_type) => {
                Some(known.clone())
            }
            _ => None,
        });
        before.unwrap_or_else(|| Fields::of([(1, Value::text(&column.name)), (2, Value::text(&column.hive_type))]))
    };
    Value::list_of(columns.iter().map(column).collect())
}
