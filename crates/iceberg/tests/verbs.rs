//! What statements do, each as one snapshot or one change of metadata.

use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use rivermere_iceberg::IcebergTable;
use rivermere_sim::{BreakingStore, Failure};
use rivermere_table::{Done, EditableTable, Table, TableError, TableSpec, Verb};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("place", DataType::Utf8, true),
    ]))
}

async fn created(store: &Arc<dyn ObjectStore>, partitioned_by: &[&str], version: &str) -> IcebergTable {
    let spec = TableSpec {
        schema: columns(),
        partitioned_by: partitioned_by.iter().map(|column| (*column).to_string()).collect(),
        properties: vec![("format-version".into(), version.into()), ("owner".into(), "us".into())],
    };
    IcebergTable::create(location(store), &spec).await.unwrap()
}

/// Plain and partitioned, of both versions that are made.
const KINDS: [(&[&str], &str); 4] = [(&[], "2"), (&["place"], "2"), (&[], "3"), (&["place"], "3")];

async fn plan(session: &SessionContext, sql: &str) -> LogicalPlan {
    session.sql(sql).await.unwrap().into_unoptimized_plan()
}

/// As a statement does it: again over the newest version when another writer was quicker.
async fn apply_with(session: &SessionContext, table: &IcebergTable, verb: Verb) -> Result<Done, TableError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let statement = format!("statement {}", NEXT.fetch_add(1, Ordering::Relaxed));
    loop {
        let base = table.version().await.unwrap();
        match table.apply(&session.state(), base, &statement, verb.clone()).await {
            Err(TableError::Conflict { .. }) => {}
            done => return done,
        }
    }
}

async fn apply(table: &IcebergTable, verb: Verb) -> Result<Done, TableError> {
    apply_with(&SessionContext::new(), table, verb).await
}

async fn insert(table: &IcebergTable, rows: &str) -> Result<Done, TableError> {
    let session = SessionContext::new();
    let sql = format!("SELECT CAST(k AS INT) AS key, v AS value, p AS place FROM (VALUES {rows}) AS t(k, v, p)");
    let rows = plan(&session, &sql).await;
    apply_with(&session, table, Verb::Append(rows)).await
}

fn delete(condition: &str) -> Verb {
    Verb::Delete { condition: Some(condition.to_string()) }
}

fn set(column: &str, value: &str, condition: Option<&str>) -> Verb {
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
        let done = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert_eq!(done.figures, [("files_added", 1), ("files_removed", 5)]);
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

/// Whatever write fails, and however: done again, the statement has been done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_done_once_whatever_write_fails() {
    for failure in [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full] {
        for writes in 0.. {
            let store = memory();
            let table = created(&store, &["place"], "2").await;
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
