//! Table formats and storages: what a table has to do, in every format on every storage.
//!
//! All of it on the disk and on S3, and on the others a journey from the first row over crashes to the last; the whole
//! matrix is part of the full run, and its outcome is [`matrix.md`](matrix.md).

use crate::harness::doors;
use crate::peer::{Peer, tool};
use crate::tables::{changed, collect, done as done_with};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use object_store::path::Path as StorePath;
use rivermere_base::{Changes, Epoch, Rng as _, SeededRng};
use rivermere_delta::{DeltaSink, DeltaTable};
use rivermere_hudi::{HudiSink, HudiTable};
use rivermere_iceberg::{IcebergSink, IcebergTable};
use rivermere_sim::{BreakingStore, Failure};
use rivermere_store::{DiskStore, Environment, LocalDisk, Storage, StorageOptions};
use rivermere_table::{
    Adopt, Clean, Done, EditableTable, Location, MergeClause, MergeVerb, SinkId, SinkMode, SinkSpec, StagedEpoch,
    TableError, TableSink, TableSpec, Verb,
};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Delta,
    Iceberg,
    Hudi,
}

const FORMATS: [Format; 3] = [Format::Delta, Format::Iceberg, Format::Hudi];

impl Format {
    async fn create(self, place: &Place, spec: &TableSpec) -> Result<Arc<dyn EditableTable>, TableError> {
        match self {
            Self::Delta => Ok(Arc::new(DeltaTable::create(place.location(), spec).await?)),
            Self::Iceberg => Ok(Arc::new(IcebergTable::create(place.location(), spec).await?)),
            Self::Hudi => Ok(Arc::new(HudiTable::create(place.location(), spec).await?)),
        }
    }

    async fn open(self, place: &Place) -> Arc<dyn EditableTable> {
        match self {
            Self::Delta => Arc::new(DeltaTable::open(place.location()).await.unwrap()),
            Self::Iceberg => Arc::new(IcebergTable::open(place.location()).await.unwrap()),
            Self::Hudi => Arc::new(HudiTable::open(place.location()).await.unwrap()),
        }
    }

    async fn sink(self, place: &Place, spec: SinkSpec) -> Result<Box<dyn TableSink>, TableError> {
        match self {
            Self::Delta => Ok(Box::new(DeltaSink::open(place.location(), spec).await?)),
            Self::Iceberg => Ok(Box::new(IcebergSink::open(place.location(), spec).await?)),
            Self::Hudi => Ok(Box::new(HudiSink::open(place.location(), spec).await?)),
        }
    }

    /// Properties of a table that keeps no file for readers of older versions.
    fn keeps_nothing(self) -> Vec<(String, String)> {
        match self {
            Self::Delta => vec![("delta.deletedFileRetentionDuration".into(), "interval 0 hours".into())],
            Self::Iceberg => vec![("history.expire.max-snapshot-age-ms".into(), "0".into())],
            Self::Hudi => vec![("hoodie.clean.hours.retained".into(), "0".into())],
        }
    }
}

/// A storage, for as long as it runs.
struct Ground {
    name: &'static str,
    store: Arc<dyn ObjectStore>,
    folder: StorePath,
    _peer: Option<Peer>,
    _disk: Option<tempfile::TempDir>,
}

/// Where one table is.
#[derive(Clone)]
struct Place {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
}

impl Place {
    fn location(&self) -> Location {
        Location::new(self.store.clone(), self.path.clone(), Arc::new(LocalDisk::new()))
    }

    fn breaking(&self, writes: i64, failure: Failure) -> (Self, Arc<BreakingStore>) {
        let breaking = BreakingStore::new(&self.store, writes, failure);
        (Self { store: breaking.clone(), path: self.path.clone() }, breaking)
    }
}

impl Ground {
    fn disk() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(DiskStore::new(Arc::new(LocalDisk::new()), folder.path().to_path_buf()));
        Self { name: "disk", store, folder: StorePath::from("lake"), _peer: None, _disk: Some(folder) }
    }

    fn of(name: &'static str, peer: Peer, url: &str, options: &[(&str, &str)]) -> Self {
        let options = StorageOptions::from_iter(options.iter().copied());
        let storage = Storage::open(url, &options, &doors(), &Environment::default()).unwrap();
        Self { name, store: storage.store(), folder: storage.path().clone(), _peer: Some(peer), _disk: None }
    }

    fn s3() -> Option<Self> {
        let peer = match std::env::var_os("RIVERMERE_MOTO") {
            Some(moto) => Peer::start("moto", Path::new(&moto)),
            None => Peer::start("versitygw", &tool("RIVERMERE_VERSITYGW")?),
        };
        Some(Self::of_s3("S3", peer))
    }

    fn of_s3(name: &'static str, peer: Peer) -> Self {
        let told = |name: &str| peer.told(name).to_string();
        let (endpoint, id, secret) = (told("endpoint"), told("access_key_id"), told("secret_access_key"));
        let options = [("endpoint", &*endpoint), ("access_key_id", &*id), ("secret_access_key", &*secret)];
        Self::of(name, peer, "s3://lake/matrix", &options)
    }

    fn minio() -> Option<Self> {
        Some(Self::of_s3("MinIO", Peer::start("minio", &tool("RIVERMERE_MINIO")?)))
    }

    fn azure() -> Option<Self> {
        let peer = Peer::start("azurite", &tool("RIVERMERE_AZURITE")?);
        let told = |name: &str| peer.told(name).to_string();
        let (endpoint, account, key) = (told("endpoint"), told("account"), told("account_key"));
        let options = [("endpoint", &*endpoint), ("account", &*account), ("account_key", &*key)];
        Some(Self::of("ADLS", peer, "az://lake/matrix", &options))
    }

    fn hdfs() -> Option<Self> {
        let peer = Peer::start("hdfs", &tool("RIVERMERE_HDFS")?);
        let url = format!("{}/lake/matrix", peer.told("endpoint"));
        Some(Self::of("HDFS", peer, &url, &[]))
    }

    fn oci() -> Option<Self> {
        let peer = Peer::start("oci", &tool("RIVERMERE_OCI_PYTHON")?);
        let (endpoint, config) = (peer.told("endpoint").to_string(), peer.told("config").to_string());
        let url = format!("oci://{}@{}/matrix", peer.told("bucket"), peer.told("namespace"));
        Some(Self::of("OCI", peer, &url, &[("endpoint", &endpoint), ("config_file", &config)]))
    }

    /// A place where there is no table yet.
    fn place(&self, format: Format) -> Place {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{format:?}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Place { store: self.store.clone(), path: self.folder.clone().join(name) }
    }
}

/// What a table has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Create,
    Append,
    Merge,
    Upsert,
    Delete,
    Evolve,
    TimeTravel,
    Compact,
    CleanUp,
    Writers,
    Crash,
}

const DUTIES: [(Duty, &str); 11] = [
    (Duty::Create, "create"),
    (Duty::Append, "append"),
    (Duty::Merge, "MERGE"),
    (Duty::Upsert, "upsert of a view"),
    (Duty::Delete, "update, delete"),
    (Duty::Evolve, "evolve"),
    (Duty::TimeTravel, "time travel"),
    (Duty::Compact, "compact"),
    (Duty::CleanUp, "clean up"),
    (Duty::Writers, "several writers"),
    (Duty::Crash, "crash at every write"),
];

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("place", DataType::Utf8, true),
    ]))
}

async fn made(format: Format, place: &Place, properties: Vec<(String, String)>) -> Arc<dyn EditableTable> {
    let spec = TableSpec { schema: columns(), partitioned_by: vec!["place".into()], properties };
    format.create(place, &spec).await.unwrap()
}

async fn rows_of(session: &SessionContext, values: &str) -> datafusion::logical_expr::LogicalPlan {
    let sql = format!("SELECT k AS key, v AS value, p AS place FROM (VALUES {values}) AS t(k, v, p)");
    session.sql(&sql).await.unwrap().into_unoptimized_plan()
}

async fn insert(table: &Arc<dyn EditableTable>, values: &str) {
    let session = SessionContext::new();
    let rows = rows_of(&session, values).await;
    done_with(table.as_ref(), &session, Verb::Append(rows)).await.unwrap();
}

async fn change(table: &Arc<dyn EditableTable>, verb: Verb) -> Done {
    done_with(table.as_ref(), &SessionContext::new(), verb).await.unwrap_or_else(|error| panic!("{error}"))
}

/// The rows as sorted text, read by whoever opens the table now.
async fn rows(format: Format, place: &Place, version: Option<i64>) -> Vec<String> {
    collect(format.open(place).await.scan(version).await.unwrap()).await.unwrap()
}

fn view() -> SinkSpec {
    SinkSpec {
        sink_id: SinkId::new("rivermere/11111111-1111-4111-8111-111111111111/totals").unwrap(),
        schema: columns(),
        mode: SinkMode::Merge { key: vec!["key".into()] },
        adopt: Adopt::Refuse,
        properties: vec![],
        since: Epoch(0),
    }
}

/// `"+1=a -2=b"`, all in one place.
fn epoch(number: u64, text: &str) -> StagedEpoch {
    let mut columns: (Vec<i64>, Vec<String>, Vec<i64>) = Default::default();
    for row in text.split_whitespace() {
        let (key, value) = row[1..].split_once('=').unwrap();
        columns.0.push(key.parse().unwrap());
        columns.1.push(value.to_string());
        columns.2.push(if row.starts_with('-') { -1 } else { 1 });
    }
    let places = vec!["x"; columns.0.len()];
    let batch = RecordBatch::try_new(
        self::columns(),
        vec![
            Arc::new(Int64Array::from(columns.0)),
            Arc::new(StringArray::from(columns.1)),
            Arc::new(StringArray::from(places)),
        ],
    );
    let changes = Changes::with_weights(batch.unwrap(), Int64Array::from(columns.2)).unwrap();
    StagedEpoch { epoch: Epoch(number), changes: vec![changes] }
}

fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(column, value)| ((*column).into(), (*value).into())).collect()
}

/// `step` is from one crash to the next, in writes.
async fn done(duty: Duty, format: Format, ground: &Ground, failures: &[Failure], step: usize) {
    let place = ground.place(format);
    match duty {
        Duty::Create => {
            let table = made(format, &place, vec![]).await;
            assert_eq!(table.schema().await.unwrap().fields().len(), 3);
            let again = TableSpec { schema: columns(), partitioned_by: vec![], properties: vec![] };
            format.create(&place, &again).await.err().expect("it is there already");
            assert_eq!(rows(format, &place, None).await, Vec::<String>::new());
        }
        Duty::Append => {
            let table = made(format, &place, vec![]).await;
            insert(&table, "(1, 'a', 'north east'), (2, NULL, 'süd/west=%')").await;
            insert(&table, "(3, 'c', NULL)").await;
            assert_eq!(rows(format, &place, None).await, ["1=a=north east", "2=null=süd/west=%", "3=c=null"]);
            let place = ground.place(format);
            let spec = || SinkSpec { mode: SinkMode::Append, ..view() };
            let sink = format.sink(&place, spec()).await.unwrap();
            sink.commit(vec![epoch(1, "+1=a"), epoch(2, "+1=a +2=b")]).await.unwrap();
            let sink = format.sink(&place, spec()).await.unwrap();
            assert_eq!(sink.committed().await.unwrap(), Some(Epoch(2)));
            let committed = sink.commit(vec![epoch(2, "+1=a +2=b"), epoch(3, "+3=c")]).await.unwrap();
            assert_eq!((committed.epochs_skipped, committed.rows_inserted), (1, 1));
            assert_eq!(rows(format, &place, None).await, ["1=a=x", "1=a=x", "2=b=x", "3=c=x"]);
        }
        Duty::Merge => {
            let table = made(format, &place, vec![]).await;
            insert(&table, "(1, 'a', 'n'), (2, 'b', 's'), (3, 'c', 's')").await;
            let session = SessionContext::new();
            let merge = MergeVerb {
                source: rows_of(&session, "(2, 'z', 'e'), (4, 'd', 'n'), (3, 'gone', 's')").await,
                target_alias: "t".into(),
                source_alias: "s".into(),
                on: "\"t\".\"key\" = \"s\".\"key\"".into(),
                clauses: vec![
                    MergeClause::DeleteMatched { condition: Some("\"s\".\"value\" = 'gone'".into()) },
                    MergeClause::UpdateMatched {
                        condition: None,
                        assignments: set(&[("value", "\"s\".\"value\""), ("place", "\"s\".\"place\"")]),
                    },
                    MergeClause::Insert {
                        condition: None,
                        values: set(&[
                            ("key", "\"s\".\"key\""),
                            ("value", "\"s\".\"value\""),
                            ("place", "\"s\".\"place\""),
                        ]),
                    },
                ],
            };
            done_with(table.as_ref(), &session, Verb::Merge(Box::new(merge))).await.unwrap();
            assert_eq!(rows(format, &place, None).await, ["1=a=n", "2=z=e", "4=d=n"]);
        }
        Duty::Upsert => {
            let sink = format.sink(&place, view()).await.unwrap();
            sink.commit(vec![epoch(1, "+1=a +2=b +3=c")]).await.unwrap();
            sink.commit(vec![epoch(2, "-1=a +1=z"), epoch(3, "-3=c")]).await.unwrap();
            assert_eq!(rows(format, &place, None).await, ["1=z=x", "2=b=x"]);
        }
        Duty::Delete => {
            let table = made(format, &place, vec![]).await;
            insert(&table, "(1, 'a', 'n'), (2, 'b', 's'), (3, 'c', 's'), (NULL, 'd', 's')").await;
            let done = change(&table, Verb::Delete { condition: Some("\"key\" = 2".into()) }).await;
            assert_eq!(done.rows, Some(1));
            let condition = Some("\"place\" = 's'".into());
            change(&table, Verb::Update { assignments: set(&[("value", "\"value\" || '!'")]), condition }).await;
            assert_eq!(rows(format, &place, None).await, ["1=a=n", "3=c!=s", "null=d!=s"]);
            change(&table, Verb::Delete { condition: None }).await;
            assert_eq!(rows(format, &place, None).await, Vec::<String>::new());
        }
        Duty::Evolve => {
            let narrow = Arc::new(Schema::new(vec![
                Field::new("key", DataType::Int32, true),
                Field::new("value", DataType::Utf8, true),
            ]));
            let spec = TableSpec { schema: narrow, partitioned_by: vec![], properties: vec![] };
            let table = format.create(&place, &spec).await.unwrap();
            let session = SessionContext::new();
            let insert = async |sql: &str| {
                let rows = session.sql(sql).await.unwrap().into_unoptimized_plan();
                done_with(table.as_ref(), &session, Verb::Append(rows)).await.unwrap();
            };
            insert("SELECT CAST(1 AS INT) AS key, 'a' AS value").await;
            change(&table, Verb::WidenColumn { column: "key".into(), to: DataType::Int64 }).await;
            let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Float64, true)]));
            change(&table, Verb::AddColumns(more.clone())).await;
            insert("SELECT 5000000000 AS key, 'b' AS value, CAST(2.5 AS DOUBLE) AS more").await;
            if format == Format::Hudi {
                // Its files know columns by their names.
                assert_eq!(rows(format, &place, None).await, ["1=a=null", "5000000000=b=2.5"]);
                return;
            }
            change(&table, Verb::RenameColumn { from: "value".into(), to: "name".into() }).await;
            change(&table, Verb::DropColumn("more".into())).await;
            change(&table, Verb::AddColumns(more)).await;
            assert_eq!(rows(format, &place, None).await, ["1=a=null", "5000000000=b=null"]);
            let names: Vec<String> = {
                let schema = format.open(&place).await.schema().await.unwrap();
                schema.fields().iter().map(|field| field.name().clone()).collect()
            };
            assert_eq!(names, ["key", "name", "more"]);
        }
        Duty::TimeTravel => {
            let table = made(format, &place, vec![]).await;
            insert(&table, "(1, 'a', 'n')").await;
            let one = table.version().await.unwrap();
            let then = table.history(1).await.unwrap()[0].committed_ms.unwrap();
            while table.history(1).await.unwrap()[0].committed_ms.unwrap() <= then {
                insert(&table, "(2, 'b', 's')").await;
            }
            change(&table, Verb::Delete { condition: Some("\"key\" = 1".into()) }).await;
            assert_eq!(table.version_at(then).await.unwrap(), one);
            assert_eq!(rows(format, &place, Some(one)).await, ["1=a=n"]);
            assert!(!rows(format, &place, None).await.contains(&"1=a=n".to_string()));
            change(&table, Verb::Restore { version: one }).await;
            assert_eq!(rows(format, &place, None).await, ["1=a=n"]);
            let changed = table.changes(Some(one), table.version().await.unwrap(), &columns()).await.unwrap();
            let weights: i64 = futures::TryStreamExt::try_fold(changed, 0, async |sum, part: Changes| {
                Ok(sum + (0..part.num_rows()).map(|row| part.weight(row)).sum::<i64>())
            })
            .await
            .unwrap();
            assert_eq!(weights, 0, "what came since went");
            table.scan(Some(99)).await.err().expect("there is no such version");
        }
        Duty::Compact => {
            let table = made(format, &place, vec![]).await;
            for key in 0..6 {
                insert(&table, &format!("({key}, 'a', 'n')")).await;
            }
            change(&table, Verb::Delete { condition: Some("\"key\" = 3".into()) }).await;
            let before = rows(format, &place, None).await;
            assert_eq!(before.len(), 5);
            let full = table.version().await.unwrap();
            let done = change(&table, Verb::Compact { z_order: vec![], condition: None }).await;
            assert!(done.figures.contains(&("files_added", 1)) && done.version > full, "{done:?}");
            assert_eq!(rows(format, &place, None).await, before);
            assert_eq!(rows(format, &place, Some(full)).await, before);
        }
        Duty::CleanUp => {
            let table = made(format, &place, format.keeps_nothing()).await;
            for key in 0..6 {
                insert(&table, &format!("({key}, 'a', 'n')")).await;
            }
            change(&table, Verb::Delete { condition: Some("\"key\" = 3".into()) }).await;
            let full = table.version().await.unwrap();
            let left: Vec<String> = [0, 1, 2, 4, 5].iter().map(|key| format!("{key}=a=n")).collect();
            change(&table, Verb::Compact { z_order: vec![], condition: None }).await;
            assert_eq!(rows(format, &place, None).await, left);
            let clean = |needed: Vec<i64>| {
                Verb::Clean(Clean { everything: true, retain_hours: Some(0), needed, ..Clean::default() })
            };
            change(&table, clean(vec![full])).await;
            assert_eq!(rows(format, &place, Some(full)).await, left, "somebody reads on from there");
            let done = change(&table, clean(vec![])).await;
            assert!(done.figures.iter().any(|(name, count)| *name == "files_removed" && *count > 0), "{done:?}");
            assert_eq!(rows(format, &place, None).await, left);
        }
        Duty::Writers => {
            let table = made(format, &place, vec![]).await;
            insert(&table, "(0, 'count', 'n')").await;
            let count = async |table: Arc<dyn EditableTable>| {
                for _ in 0..5 {
                    let assignments = set(&[("key", "\"key\" + 1")]);
                    change(&table, Verb::Update { assignments, condition: Some("\"value\" = 'count'".into()) }).await;
                }
            };
            let add = async |table: Arc<dyn EditableTable>| {
                for key in 0..5 {
                    insert(&table, &format!("({key}, 'row', 's')")).await;
                }
            };
            let (one, other, third) = (table, format.open(&place).await, format.open(&place).await);
            futures::join!(count(one), count(other), add(third));
            let expected = ["0=row=s", "10=count=n", "1=row=s", "2=row=s", "3=row=s", "4=row=s"];
            assert_eq!(rows(format, &place, None).await, expected);
        }
        Duty::Crash => {
            let epochs = [epoch(1, "+1=a +2=b"), epoch(2, "-1=a +1=c"), epoch(3, "-2=b +3=d"), epoch(4, "-1=c +1=e")];
            for failure in failures {
                for writes in (0..).step_by(step) {
                    let place = ground.place(format);
                    let (broken, breaking) = place.breaking(writes, *failure);
                    let run = async |place: &Place| {
                        let sink = format.sink(place, view()).await?;
                        for epochs in epochs.chunks(2) {
                            sink.commit(epochs.to_vec()).await?;
                        }
                        Ok::<_, TableError>(())
                    };
                    if let Err(error) = run(&broken).await {
                        assert!(error.is_retryable(), "{failure:?} at write {writes}: {error}");
                    }
                    run(&place).await.unwrap();
                    assert_eq!(rows(format, &place, None).await, ["1=e=x", "3=d=x"], "{failure:?} at write {writes}");
                    if !breaking.has_broken() {
                        println!("{format:?} on {}, {failure:?}: {writes} writes", ground.name);
                        assert!(writes >= 4);
                        break;
                    }
                }
            }
        }
    }
}

const FAILURES: [Failure; 4] = [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full];

async fn everything(ground: &Ground) {
    for format in FORMATS {
        for (duty, name) in DUTIES {
            println!("{format:?} on {}: {name}", ground.name);
            done(duty, format, ground, &FAILURES, 1).await;
        }
    }
}

async fn journey(ground: Option<Ground>) {
    let Some(ground) = ground else { return };
    for format in FORMATS {
        for duty in [Duty::Append, Duty::Upsert, Duty::Crash] {
            done(duty, format, &ground, &[Failure::CrashAfter], 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_do_everything_on_the_disk() {
    everything(&Ground::disk()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_do_everything_on_s3() {
    let Some(ground) = Ground::s3() else { return };
    everything(&ground).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn tables_do_everything_on_minio() {
    let Some(minio) = Ground::minio() else { return };
    everything(&minio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_and_read_over_crashes_on_adls() {
    journey(Ground::azure()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_and_read_over_crashes_on_hdfs() {
    journey(Ground::hdfs()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_and_read_over_crashes_on_oci() {
    journey(Ground::oci()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn the_whole_matrix_is_the_one_that_is_written_down() {
    let grounds = [Some(Ground::disk()), Ground::s3(), Ground::azure(), Ground::hdfs(), Ground::oci()];
    let grounds: Vec<Ground> = grounds.into_iter().flatten().collect();
    if grounds.len() < 5 {
        return;
    }
    let mut table = String::from(
        "# What tables do, on which storage\n\nWritten by the test `the_whole_matrix_is_the_one_that_is_written_down`.\n",
    );
    for format in FORMATS {
        let names: Vec<&str> = grounds.iter().map(|ground| ground.name).collect();
        write!(table, "\n| {format:?} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len())).unwrap();
        for (duty, name) in DUTIES {
            write!(table, "| {name} |").unwrap();
            for ground in &grounds {
                println!("{format:?} on {}: {name}", ground.name);
                done(duty, format, ground, &FAILURES, 1).await;
                table.push_str(" passed |");
            }
            table.push('\n');
        }
    }
    assert_eq!(include_str!("matrix.md"), table, "the table of passes is not up to date:\n{table}");
}

/// The same statements, by chance, to a table of each format: they have the same rows, and each knows what became of them.
#[tokio::test(flavor = "multi_thread")]
async fn formats_agree_whatever_is_done() {
    let ground = Ground::disk();
    for seed in 0..4 {
        let rng = SeededRng::new(seed);
        let below = |limit: u64| rng.next_u64() % limit;
        let mut tables = vec![];
        let marking = |version: &str| {
            let modes = ["delete", "update", "merge"].map(|verb| format!("write.{verb}.mode"));
            let modes = modes.map(|mode| (mode, "merge-on-read".to_string()));
            [("format-version".to_string(), version.to_string())].into_iter().chain(modes).collect()
        };
        let kinds = [
            (Format::Delta, vec![]),
            (Format::Delta, vec![("delta.enableDeletionVectors".into(), "true".into())]),
            (Format::Iceberg, vec![]),
            (Format::Iceberg, marking("2")),
            (Format::Iceberg, marking("3")),
            (Format::Hudi, vec![]),
            (Format::Hudi, vec![("type".into(), "mor".into()), ("primaryKey".into(), "key".into())]),
        ];
        for (format, properties) in kinds {
            let place = ground.place(format);
            let partitioned_by = if seed % 2 == 0 { vec![] } else { vec!["place".into()] };
            let spec = TableSpec { schema: columns(), partitioned_by, properties };
            tables.push((format, format.create(&place, &spec).await.unwrap(), place));
        }
        let row = |key: u64| format!("({key}, 'v{}', 'p{}')", below(5), below(3));
        let rows_of_some = || (0..1 + below(6)).map(|_| row(below(12))).collect::<Vec<_>>().join(", ");
        for step in 0..20 {
            let session = SessionContext::new();
            let condition = format!("\"key\" % 4 = {} AND \"place\" <> 'p{}'", below(4), below(3));
            let value = ("value", "\"value\" || '!'");
            let verb = match below(8) {
                0..=2 => Verb::Append(rows_of(&session, &rows_of_some()).await),
                3 => Verb::Delete { condition: Some(condition) },
                4 => Verb::Update { assignments: set(&[value, ("place", "'p1'")]), condition: Some(condition) },
                5 => Verb::Compact { z_order: vec![], condition: None },
                _ => {
                    let first = below(6);
                    let keys = (first..first + 4).map(row).collect::<Vec<_>>().join(", ");
                    let own = |column: &str| (column.to_string(), format!("\"s\".\"{column}\""));
                    let unmatched = Some("\"t\".\"key\" > 9".to_string());
                    Verb::Merge(Box::new(MergeVerb {
                        source: rows_of(&session, &keys).await,
                        target_alias: "t".into(),
                        source_alias: "s".into(),
                        on: "\"t\".\"key\" = \"s\".\"key\"".into(),
                        clauses: vec![
                            MergeClause::DeleteMatched { condition: Some("\"t\".\"value\" = 'v1'".into()) },
                            MergeClause::UpdateMatched {
                                condition: None,
                                assignments: vec![own("value"), own("place")],
                            },
                            MergeClause::Insert { condition: None, values: vec![own("key"), own("value")] },
                            MergeClause::DeleteUnmatched { condition: unmatched },
                        ],
                    }))
                }
            };
            let mut found = vec![];
            for (format, table, place) in &tables {
                let before = (table.version().await.unwrap(), rows(*format, place, None).await);
                let done = done_with(table.as_ref(), &session, verb.clone())
                    .await
                    .unwrap_or_else(|error| panic!("{verb:?}: {error}"));
                let after = rows(*format, place, None).await;
                let counted = if matches!(verb, Verb::Compact { .. }) { None } else { done.rows };
                let changes = table.changes(Some(before.0), done.version, &columns()).await.unwrap();
                let changes: Vec<Changes> = futures::TryStreamExt::try_collect(changes).await.unwrap();
                assert_eq!(changed(before.1, &changes), after, "{format:?}, seed {seed}, step {step}: {verb:?}");
                found.push((after, counted));
            }
            let (first, others) = found.split_first().unwrap();
            assert!(others.iter().all(|other| other == first), "seed {seed}, step {step}: {verb:?}: {found:?}");
        }
        assert!(tables[0].1.version().await.unwrap() > 10);
    }
}
