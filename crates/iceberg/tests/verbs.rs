//! What statements do, each as one snapshot or one change of metadata.

use crate::tables::{done, text};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::stats::Precision;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _};
use rivermere_iceberg::IcebergTable;
use rivermere_sim::{BreakingStore, Failure};
use rivermere_table::{Clean, Done, EditableTable, Location, Table, TableError, TableSpec, Verb};
use std::sync::Arc;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("place", DataType::Utf8, true),
    ]))
}

async fn created(store: &Arc<dyn ObjectStore>, partitioned_by: &[&str], version: &str) -> IcebergTable {
    created_at(location(store), partitioned_by, version).await
}

pub async fn created_at(place: Location, partitioned_by: &[&str], version: &str) -> IcebergTable {
    let spec = TableSpec {
        schema: columns(),
        partitioned_by: partitioned_by.iter().map(|column| (*column).into()).collect(),
        properties: vec![("format-version".into(), version.into()), ("owner".into(), "us".into())],
    };
    IcebergTable::create(place, &spec).await.unwrap()
}

/// Plain and partitioned, of both versions that are made.
pub const KINDS: [(&[&str], &str); 4] = [(&[], "2"), (&["place"], "2"), (&[], "3"), (&["place"], "3")];

pub async fn plan(session: &SessionContext, sql: &str) -> LogicalPlan {
    session.sql(sql).await.unwrap().into_unoptimized_plan()
}

pub async fn apply_with(session: &SessionContext, table: &IcebergTable, verb: Verb) -> Result<Done, TableError> {
    done(table, session, verb).await
}

pub async fn apply(table: &IcebergTable, verb: Verb) -> Result<Done, TableError> {
    apply_with(&SessionContext::new(), table, verb).await
}

pub async fn insert(table: &IcebergTable, rows: &str) -> Result<Done, TableError> {
    let session = SessionContext::new();
    let sql = format!("SELECT CAST(k AS INT) AS key, v AS value, p AS place FROM (VALUES {rows}) AS t(k, v, p)");
    let rows = plan(&session, &sql).await;
    apply_with(&session, table, Verb::Append(rows)).await
}

/// Adds the rows of a query whose columns are the table's.
pub async fn insert_into(table: &IcebergTable, sql: &str) {
    let session = SessionContext::new();
    let rows = plan(&session, sql).await;
    apply_with(&session, table, Verb::Append(rows)).await.unwrap();
}

pub fn delete(condition: &str) -> Verb {
    Verb::Delete { condition: Some(condition.to_string()) }
}

pub fn set(column: &str, value: &str, condition: Option<&str>) -> Verb {
    Verb::Update { assignments: vec![(column.into(), value.into())], condition: condition.map(str::to_string) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_changed_replaced_and_removed() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        assert_eq!((table.version().await.unwrap(), rows(&store).await.len()), (0, 0));
        let done = insert(&table, "(1, 'a', 'north east'), (2, NULL, 'a/b=%'), (3, 'c', NULL)").await.unwrap();
        assert_eq!((done.rows, done.version), (Some(3), 1));
        insert(&table, "(4, 'd', 'a/b=%'), (5, 'e', '..')").await.unwrap();
        let all = ["1=a=north east", "2=null=a/b=%", "3=c=null", "4=d=a/b=%", "5=e=.."];
        assert_eq!(rows(&store).await, all, "{partitioned_by:?}, {version}");
        let done = apply(&table, set("value", "\"value\" || '!'", Some("\"key\" >= 4"))).await.unwrap();
        assert_eq!((done.rows, done.version), (Some(2), 3));
        // What is neither true nor false is not deleted.
        let done = apply(&table, delete("\"place\" = 'a/b=%' OR \"value\" = 'a'")).await.unwrap();
        assert_eq!(done.rows, Some(3));
        assert_eq!(rows(&store).await, ["3=c=null", "5=e!=.."]);
        assert_eq!(apply(&table, delete("\"key\" = 99")).await.unwrap().rows, Some(0));
        assert_eq!(table.version().await.unwrap(), 4, "nothing was done");
        assert_eq!(rows_at(&store, Some(2)).await, all);
        let session = SessionContext::new();
        let new = plan(&session, "SELECT CAST(9 AS INT) AS key, 'z' AS value, 'p' AS place").await;
        apply_with(&session, &table, Verb::Overwrite(new)).await.unwrap();
        assert_eq!(rows(&store).await, ["9=z=p"]);
        let history = table.history(9).await.unwrap();
        let operations: Vec<&str> = history.iter().rev().map(|version| version.operation.as_deref().unwrap()).collect();
        // Of a partition all rows were deleted, and nothing had to be written.
        let deleted = if partitioned_by.is_empty() { "OVERWRITE" } else { "DELETE" };
        assert_eq!(operations, ["APPEND", "APPEND", "OVERWRITE", deleted, "OVERWRITE"]);
        let told: serde_json::Value = serde_json::from_str(history[0].parameters.as_ref().unwrap()).unwrap();
        assert_eq!((&told["total-records"], &told["total-delete-files"]), (&"1".into(), &"0".into()));
        apply(&table, Verb::Restore { version: 2 }).await.unwrap();
        assert_eq!((table.version().await.unwrap(), rows(&store).await), (2, all.map(String::from).to_vec()));
        apply(&table, Verb::Delete { condition: None }).await.unwrap();
        assert_eq!(rows(&store).await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_change_and_no_file_is_written_anew() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        insert(&table, "(1, 'a', 'n')").await.unwrap();
        apply(&table, Verb::WidenColumn { column: "key".into(), to: DataType::Int64 }).await.unwrap();
        apply(&table, Verb::RenameColumn { from: "value".into(), to: "name".into() }).await.unwrap();
        let more =
            Arc::new(Schema::new(vec![Field::new("more", DataType::Timestamp(TimeUnit::Microsecond, None), true)]));
        apply(&table, Verb::AddColumns(more.clone())).await.unwrap();
        let session = SessionContext::new();
        let row = "SELECT 5000000000 AS key, 'b' AS name, 'n' AS place, TIMESTAMP '2026-01-01 00:00:00' AS more";
        let row = plan(&session, row).await;
        apply_with(&session, &table, Verb::Append(row)).await.unwrap();
        assert_eq!(rows(&store).await, ["1=a=n=null", "5000000000=b=n=2026-01-01T00:00:00"]);
        // A filter over a column that was narrower when its file was written.
        let provider = IcebergTable::open(location(&store)).await.unwrap().scan(None).await.unwrap();
        let frame = session.read_table(provider).unwrap();
        let filter = frame.parse_sql_expr("key = 1 OR key > 4000000000").unwrap();
        assert_eq!(text(&frame.filter(filter).unwrap().collect().await.unwrap()).len(), 2);
        // A column of an old name is another column.
        apply(&table, Verb::DropColumn("more".into())).await.unwrap();
        apply(&table, Verb::AddColumns(more)).await.unwrap();
        assert_eq!(rows(&store).await, ["1=a=n=null", "5000000000=b=n=null"]);
        assert_eq!(rows_at(&store, Some(1)).await, ["1=a=n"], "as it was");
        let files = store.list(None).try_collect::<Vec<_>>().await.unwrap();
        let data = files.iter().filter(|file| file.location.as_ref().ends_with(".parquet")).count();
        assert_eq!(data, 2);
        for refused in [
            Verb::RenameColumn { from: "name".into(), to: "KEY".into() },
            Verb::WidenColumn { column: "name".into(), to: DataType::Int64 },
            Verb::WidenColumn { column: "key".into(), to: DataType::Int32 },
        ] {
            let error = apply(&table, refused.clone()).await.unwrap_err();
            assert!(error.to_string().starts_with("RM-5017"), "{refused:?}: {error}");
        }
        if !partitioned_by.is_empty() {
            let error = apply(&table, Verb::DropColumn("place".into())).await.unwrap_err().to_string();
            assert!(error.contains("partitioned by 'place'"), "{error}");
        }
        // What came since a snapshot of before the changes, by the names of now.
        let now = table.schema().await.unwrap();
        let newest = table.version().await.unwrap();
        let came: Vec<_> = table.changes(Some(1), newest, &now).await.unwrap().try_collect().await.unwrap();
        let came: Vec<String> = came.iter().flat_map(|part| text(&[part.batch().clone()])).collect();
        assert_eq!(came, ["5000000000=b=n=null"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_rows_stay() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        for key in 0..5 {
            insert(&table, &format!("({key}, 'a', 'n')")).await.unwrap();
        }
        let before = rows(&store).await;
        let some = Verb::Compact { z_order: vec![], condition: Some("key BETWEEN 1 AND 3".into()) };
        let done = apply(&table, some).await.unwrap();
        assert_eq!(done.figures, [("files_added", 1), ("files_removed", 3)]);
        assert_eq!(rows(&store).await, before);
        let wrong = Verb::Compact { z_order: vec![], condition: Some("nothing = 1".into()) };
        let error = apply(&table, wrong).await.unwrap_err().to_string();
        assert!(error.starts_with("RM-5017") && error.contains("nothing"), "{error}");
        let done = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert_eq!(done.figures, [("files_added", 1), ("files_removed", 3)]);
        assert_eq!(rows(&store).await, before);
        let again = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert_eq!(again.version, done.version);
        let (from, columns) = (table.version().await.unwrap() - 1, table.schema().await.unwrap());
        let moved: Vec<_> = table.changes(Some(from), from + 1, &columns).await.unwrap().try_collect().await.unwrap();
        let sum: i64 = moved.iter().flat_map(|part| (0..part.num_rows()).map(|row| part.weight(row))).sum();
        assert_eq!(sum, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_are_done_one_after_the_other() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        insert(&table, "(0, 'count', 'n'), (1, 'a', 's')").await.unwrap();
        let other = IcebergTable::open(location(&store)).await.unwrap();
        let count = async |table: &IcebergTable| {
            for _ in 0..4 {
                apply(table, set("key", "\"key\" + 1", Some("\"value\" = 'count'"))).await.unwrap();
            }
        };
        let add = async |table: &IcebergTable| {
            for key in 2..6 {
                insert(table, &format!("({key}, 'row', 's')")).await.unwrap();
            }
        };
        tokio::join!(count(&table), count(&other), add(&other), async {
            apply(&table, delete("\"value\" = 'a'")).await.unwrap()
        });
        assert_eq!(rows(&store).await, ["2=row=s", "3=row=s", "4=row=s", "5=row=s", "8=count=n"]);
    }
}

fn number_of(history: &[rivermere_table::TableVersion], name: &str) -> i64 {
    let told: serde_json::Value = serde_json::from_str(history[0].parameters.as_ref().unwrap()).unwrap();
    told[name].as_str().map_or(0, |text| text.parse().unwrap())
}

/// Data files stay as they are, and each has one file at most beside it that says what is gone; in the end, none.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_marked_where_the_table_asks_for_it_and_most_of_their_file_stays() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        let modes = ["delete", "update", "merge"].map(|verb| format!("write.{verb}.mode"));
        apply(&table, Verb::SetProperties(modes.map(|mode| (mode, "merge-on-read".into())).to_vec())).await.unwrap();
        let some = (0..40).map(|key| format!("({key}, 'v', 'p{}')", key % 2)).collect::<Vec<_>>().join(", ");
        insert(&table, &some).await.unwrap();
        let data_files = if partitioned_by.is_empty() { 1 } else { 2 };
        let files = async |table: &IcebergTable| {
            let history = table.history(1).await.unwrap();
            (number_of(&history, "total-data-files"), number_of(&history, "total-delete-files"))
        };
        let what = format!("{partitioned_by:?}, version {version}");
        for (key, rows_left) in [(3, 39), (4, 38), (5, 37)] {
            let done = apply(&table, delete(&format!("\"key\" = {key}"))).await.unwrap();
            assert_eq!((done.rows, rows(&store).await.len()), (Some(1), rows_left), "{what}");
        }
        assert_eq!(files(&table).await, (data_files, data_files), "{what}");
        assert_eq!(apply(&table, delete("\"key\" = 4")).await.unwrap().rows, Some(0), "it is gone: {what}");
        let done = apply(&table, set("value", "'new'", Some("\"key\" IN (4, 6, 7)"))).await.unwrap();
        assert_eq!(done.rows, Some(2));
        assert_eq!(files(&table).await, (2 * data_files, data_files), "{what}");
        let found = rows(&store).await;
        assert_eq!((found.len(), found.iter().filter(|row| row.contains("=new=")).count()), (37, 2), "{what}");
        assert_eq!(rows_at(&store, Some(2)).await.len(), 39, "{what}");
        assert_eq!(rows_at(&store, Some(1)).await.len(), 40, "{what}");
        // Of what was marked less than half is left.
        apply(&table, delete("\"value\" = 'v' AND \"key\" < 30")).await.unwrap();
        assert_eq!((files(&table).await, rows(&store).await.len()), ((2 * data_files, 0), 12), "{what}");
        apply(&table, delete("\"key\" = 31 OR \"key\" = 32")).await.unwrap();
        assert_eq!(files(&table).await, (2 * data_files, data_files), "{what}");
        apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert_eq!((files(&table).await, rows(&store).await.len()), ((data_files, 0), 10), "{what}");
        apply(&table, delete("\"key\" = 33")).await.unwrap();
        let new = plan(&SessionContext::new(), "SELECT CAST(9 AS INT) AS key, 'z' AS value, 'p' AS place").await;
        apply(&table, Verb::Overwrite(new)).await.unwrap();
        assert_eq!((files(&table).await, rows(&store).await), ((1, 0), vec!["9=z=p".to_string()]), "{what}");
    }
}

/// Whatever write fails, and however: done again, the statement has been done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_done_once_whatever_write_fails() {
    let failures = [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full];
    let modes = [("2", "copy-on-write"), ("2", "merge-on-read"), ("3", "merge-on-read")];
    for (failure, (version, mode)) in failures.into_iter().flat_map(|failure| modes.map(|mode| (failure, mode))) {
        for writes in 0.. {
            let store = memory();
            let table = created(&store, &[], version).await;
            apply(&table, Verb::SetProperties(vec![("write.update.mode".into(), mode.into())])).await.unwrap();
            insert(&table, "(1, 'a', 'n'), (2, 'b', 's')").await.unwrap();
            let breaking = BreakingStore::new(&store, writes, failure);
            let broken: Arc<dyn ObjectStore> = breaking.clone();
            let session = SessionContext::new();
            let done = async |store: &Arc<dyn ObjectStore>, statement: &str| {
                let table = IcebergTable::open(location(store)).await?;
                let base = table.version().await?;
                let verb = set("key", "\"key\" + 10", Some("\"place\" = 'n'"));
                table.apply(&session.state(), base, statement, verb).await
            };
            let first = done(&broken, "one").await;
            if let Err(error) = &first {
                assert!(error.is_retryable(), "{failure:?} at write {writes}: {error}");
            }
            let found = rows(&store).await;
            let is_done = found == ["11=a=n", "2=b=s"];
            assert!(is_done || found == ["1=a=n", "2=b=s"], "{failure:?} at write {writes}: {found:?}");
            assert!(is_done || first.is_err(), "{failure:?} at write {writes}: it was said to be done");
            insert(&table, "(3, 'c', 'n')").await.unwrap();
            assert_eq!(rows(&store).await.len(), 3);
            if !breaking.has_broken() {
                assert!(writes >= 4, "{writes} writes");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_are_not_kept_go_with_the_files_that_they_alone_need() {
    for (partitioned_by, version) in KINDS {
        let store = memory();
        let table = created(&store, partitioned_by, version).await;
        let clean = |what: Clean| Verb::Clean(what);
        insert(&table, "(1, 'a', 'n'), (2, 'b', 's')").await.unwrap();
        apply(&table, set("value", "\"value\" || '!'", Some("\"key\" = 1"))).await.unwrap();
        insert(&table, "(3, 'c', 'n')").await.unwrap();
        apply(&table, delete("\"key\" = 2")).await.unwrap();
        // Young snapshots stay, and for less time than the table says nothing is kept.
        let done = apply(&table, clean(Clean { everything: true, ..Clean::default() })).await.unwrap();
        assert_eq!(done.figures, [("files_removed", 0), ("snapshots_removed", 0)]);
        let refused = apply(&table, clean(Clean { retain_hours: Some(1), ..Clean::default() })).await.unwrap_err();
        assert!(refused.to_string().contains("history.expire.max-snapshot-age-ms"), "{refused}");
        let age = ("history.expire.max-snapshot-age-ms".to_string(), "0".to_string());
        apply(&table, Verb::SetProperties(vec![age])).await.unwrap();
        // A file that nobody ever named, of a writer that did not come to its commit.
        let stray = location(&store).path().clone().join("data").join("stray.parquet");
        store.put(&stray, "x".into()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let dry = apply(&table, clean(Clean { dry_run: true, needed: vec![1], ..Clean::default() })).await.unwrap();
        let done = apply(&table, clean(Clean { needed: vec![1], ..Clean::default() })).await.unwrap();
        assert_eq!(done.figures, dry.figures);
        assert!(done.figures.contains(&("snapshots_removed", 2)), "{done:?}");
        assert_eq!(rows_at(&store, Some(1)).await, ["1=a=n", "2=b=s"], "somebody reads on from there");
        let columns = table.schema().await.unwrap();
        let changes: Vec<_> = table.changes(Some(1), 4, &columns).await.unwrap().try_collect().await.unwrap();
        assert!(!changes.is_empty());
        assert_eq!(rows(&store).await, ["1=a!=n", "3=c=n"]);
        let gone = IcebergTable::open(location(&store)).await.unwrap().scan(Some(2)).await.unwrap_err();
        assert!(gone.to_string().starts_with("RM-5015"), "{gone}");
        store.head(&stray).await.unwrap();
        apply(&table, clean(Clean { everything: true, ..Clean::default() })).await.unwrap();
        store.head(&stray).await.unwrap_err();
        assert_eq!(rows(&store).await, ["1=a!=n", "3=c=n"]);
        // What is left is what the newest snapshot needs, and metadata.
        let files: Vec<_> = store.list(None).try_collect::<Vec<_>>().await.unwrap();
        let data = files.iter().filter(|file| file.location.as_ref().ends_with(".parquet")).count();
        let lists = files.iter().filter(|file| file.location.filename().unwrap().starts_with("snap-")).count();
        assert_eq!((data, lists), (2, 1));
        let again = apply(&table, clean(Clean::default())).await.unwrap();
        assert_eq!(again.figures, [("files_removed", 0), ("snapshots_removed", 0)]);
    }
}

/// Whoever saw metadata that is removed meanwhile finds the newest all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_slept_for_long_finds_the_newest_metadata() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    let sleeper = IcebergTable::open(location(&store)).await.unwrap();
    insert(&table, "(1, 'a', 'n')").await.unwrap();
    let kept = ("write.metadata.previous-versions-max".to_string(), "2".to_string());
    apply(&table, Verb::SetProperties(vec![kept])).await.unwrap();
    for key in 2..8 {
        insert(&table, &format!("({key}, 'a', 'n')")).await.unwrap();
    }
    let done = apply(&table, Verb::Clean(Clean::default())).await.unwrap();
    assert_eq!(done.figures, [("files_removed", 6), ("snapshots_removed", 0)]);
    assert_eq!(sleeper.version().await.unwrap(), 7);
    insert(&sleeper, "(8, 'a', 'n')").await.unwrap();
    assert_eq!(rows(&store).await.len(), 8);
}

/// Columns that change while rows are on their way: none is written under another's name.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_planned_over_other_columns_are_planned_anew() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    let session = SessionContext::new();
    let row = plan(&session, "SELECT CAST(1 AS INT) AS key, 'a' AS value, 'n' AS place").await;
    let base = table.version().await.unwrap();
    let other = IcebergTable::open(location(&store)).await.unwrap();
    apply(&other, Verb::DropColumn("value".into())).await.unwrap();
    for verb in [Verb::Append(row.clone()), Verb::Overwrite(row)] {
        let refused = table.apply(&session.state(), base, "one", verb).await.unwrap_err();
        assert!(matches!(refused, TableError::Conflict { .. }), "{refused}");
    }
    assert_eq!(rows(&store).await.len(), 0);
}

/// A column that was made wider is told to whoever follows by its old type, and is not cut to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wider_column_is_told_to_whoever_follows() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    insert(&table, "(1, 'a', 'n')").await.unwrap();
    let before = table.schema().await.unwrap();
    apply(&table, Verb::WidenColumn { column: "key".into(), to: DataType::Int64 }).await.unwrap();
    insert_into(&table, "SELECT 5000000000 AS key, 'b' AS value, 'n' AS place").await;
    let told = table.changes(Some(1), 2, &before).await.err().expect("its type is another one").to_string();
    assert!(told.starts_with("RM-5006") && told.contains("'key' is Int64 now"), "{told}");
}

/// Another table at the place, with as many versions of its metadata.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_anew_is_another() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    insert(&table, "(1, 'a', 'n')").await.unwrap();
    let id = table.id(1).await.unwrap();
    let files: Vec<_> = store.list(None).try_collect::<Vec<_>>().await.unwrap();
    for file in files {
        store.delete(&file.location).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let anew = created(&store, &[], "2").await;
    insert(&anew, "(2, 'b', 's')").await.unwrap();
    assert_ne!(table.id(1).await.unwrap(), id);
    insert(&table, "(3, 'c', 's')").await.unwrap();
    assert_eq!(rows(&store).await, ["2=b=s", "3=c=s"]);
}

/// Others compress what we write plainly: their commit is seen, and not written over.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_another_writer_compresses_is_followed_and_not_written_over() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    insert(&table, "(1, 'a', 'n')").await.unwrap();
    let metadata = location(&store).path().clone().join("metadata");
    let newest = store.get(&metadata.clone().join("v2.metadata.json")).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(newest.to_vec()).unwrap().replace("\"owner\":\"us\"", "\"owner\":\"them\"");
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    store.put(&metadata.join("v3.gz.metadata.json"), packed.into()).await.unwrap();
    let refused = insert(&table, "(2, 'b', 's')").await.unwrap_err().to_string();
    assert!(refused.contains("compressed"), "{refused}");
    assert_eq!(rows(&store).await, ["1=a=n"]);
}

/// The newest metadata, changed as text.
async fn with_metadata(store: &Arc<dyn ObjectStore>, change: impl Fn(&str) -> String) {
    let file = location(store).path().clone().join("metadata").join("v1.metadata.json");
    let text = store.get(&file).await.unwrap().bytes().await.unwrap();
    store.put(&file, change(std::str::from_utf8(&text).unwrap()).into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_named() {
    let text = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        }
    };
    for (from, to, parts) in [
        ("\"type\":\"string\"", "\"type\":\"variant\"", ["RM-5007", "variant"]),
        ("\"type\":\"string\"", "\"type\":\"geometry(srid:4326)\"", ["RM-5007", "geometry"]),
        ("\"format-version\":2", "\"format-version\":4", ["RM-5007", "format version 4"]),
        ("\"format-version\":2", "\"format-version\":", ["RM-5019", "v1.metadata.json"]),
        ("\"current-schema-id\":0", "\"current-schema-id\":7", ["RM-5019", "v1.metadata.json"]),
    ] {
        let store = memory();
        created(&store, &[], "2").await;
        with_metadata(&store, text(from, to)).await;
        let error = IcebergTable::open(location(&store)).await.err().expect("it is not known").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{to}: {error}");
    }
    for (kind, shown) in [("uuid", "uuid"), ("fixed[16]", "fixed")] {
        let store = memory();
        created(&store, &[], "2").await;
        with_metadata(&store, |text| text.replace("\"type\":\"string\"", &format!("\"type\":\"{kind}\""))).await;
        let table = IcebergTable::open(location(&store)).await.unwrap();
        let error = insert(&table, "(1, 'a', 'n')").await.unwrap_err().to_string();
        assert!(error.starts_with("RM-5007") && error.contains(shown), "{error}");
    }
}

/// What a statement gets wrong is the statement's, and not a failure of the storage that is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_cannot_be_is_told_so() {
    let store = memory();
    let table = created(&store, &[], "2").await;
    insert(&table, "(1, 'a', 'n')").await.unwrap();
    let session = SessionContext::new();
    let text = plan(&session, "SELECT 'x' AS key, 'a' AS value, 'n' AS place").await;
    for (verb, said) in [
        (delete("\"nothing\" = 1"), "nothing"),
        (delete("1 / (\"key\" - 1) = 1"), "zero"),
        (set("key", "CAST(\"value\" AS INT)", None), "'a'"),
        (Verb::Append(text), "'x'"),
    ] {
        let error = apply_with(&session, &table, verb.clone()).await.unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains(said), "{verb:?}: {error}");
    }
    assert_eq!((table.version().await.unwrap(), rows(&store).await), (1, vec!["1=a=n".to_string()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_tell_about_how_many_rows_they_have_and_no_count_is_answered_by_that() {
    let store = memory();
    let table = created(&store, &[], "3").await;
    apply(&table, Verb::SetProperties(vec![("write.delete.mode".into(), "merge-on-read".into())])).await.unwrap();
    insert(&table, "(1, 'a', 'n'), (2, 'b', 'n'), (3, 'c', 'n'), (4, 'd', 'n'), (5, 'e', 'n')").await.unwrap();
    apply(&table, Verb::Delete { condition: Some("key = 2".into()) }).await.unwrap();
    let session = SessionContext::new();
    let provider = table.scan(None).await.unwrap();
    let scan = provider.scan(&session.state(), None, &[], None).await.unwrap();
    let told = scan.statistics_from_inputs(&[], &StatisticsArgs::new()).unwrap();
    // The row that is marked is counted, so that it is an estimate.
    assert_eq!(told.num_rows, Precision::Inexact(5));
    let key = &told.column_statistics[0];
    assert_eq!((key.min_value.get_value(), key.max_value.get_value()), (Some(&1_i32.into()), Some(&5_i32.into())));
    session.register_table("t", provider).unwrap();
    let counted = session.sql("SELECT COUNT(*) AS n FROM t").await.unwrap().collect().await.unwrap();
    assert_eq!(text(&counted), ["4"]);
}
