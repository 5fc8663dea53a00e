//! What statements and sinks do, each as one instant. What both do on every storage and over crashes is in the platform's matrix.

use crate::tables::changed;
use crate::world::*;
use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use rivermere_base::{Changes, Epoch};
use rivermere_hudi::{HudiSink, HudiTable};
use rivermere_sim::{BreakingStore, Failure};
use rivermere_table::{
    Adopt, Clean, EditableTable, SinkId, SinkMode, SinkSpec, StagedEpoch, Table, TableError, TableSink, TableSpec, Verb,
};
use std::collections::HashSet;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_changed_replaced_and_removed() {
    for kind in KINDS {
        let what = format!("{kind:?}");
        let store = memory();
        let table = created(&store, kind).await;
        assert_eq!((table.version().await.unwrap(), rows(&store).await.len()), (0, 0), "{what}");
        let done = insert(&table, "(1, 'a', 'north east'), (2, NULL, 'a/b=%'), (3, 'c', NULL)").await;
        assert_eq!(done.rows, Some(3));
        insert(&table, "(4, 'd', 'a/b=%'), (5, 'e', '..')").await;
        let two = table.version().await.unwrap();
        let all = ["1=a=north east", "2=null=a/b=%", "3=c=null", "4=d=a/b=%", "5=e=.."];
        assert_eq!(rows(&store).await, all, "{what}");
        let done = apply(&table, set("value", "\"value\" || '!'", Some("\"key\" >= 4"))).await.unwrap();
        assert_eq!(done.rows, Some(2), "{what}");
        // What is neither true nor false is not deleted.
        let done = apply(&table, delete("\"place\" = 'a/b=%' OR \"value\" = 'a'")).await.unwrap();
        assert_eq!(done.rows, Some(3), "{what}");
        assert_eq!(rows(&store).await, ["3=c=null", "5=e!=.."], "{what}");
        let four = table.version().await.unwrap();
        assert_eq!(apply(&table, delete("\"key\" = 99")).await.unwrap().rows, Some(0));
        assert_eq!(table.version().await.unwrap(), four, "nothing was done");
        assert_eq!(rows_at(&store, Some(two)).await.unwrap(), all, "{what}");
        let session = SessionContext::new();
        let new = plan(&session, "SELECT CAST(9 AS INT) AS key, 'z' AS value, 'p' AS place").await;
        apply_with(&session, &table, Verb::Overwrite(new)).await.unwrap();
        assert_eq!(rows(&store).await, ["9=z=p"], "{what}");
        let history = table.history(9).await.unwrap();
        let operations: Vec<&str> = history.iter().rev().map(|version| version.operation.as_deref().unwrap()).collect();
        assert_eq!(operations, ["INSERT", "INSERT", "UPSERT", "DELETE", "INSERT_OVERWRITE_TABLE"]);
        let versions: Vec<i64> = history.iter().rev().map(|version| version.version).collect();
        for (from, to) in versions.iter().zip(&versions[1..]).chain([(&versions[0], &versions[4])]) {
            let changes = table.changes(Some(*from), *to, &columns()).await.unwrap();
            let changes: Vec<Changes> = changes.try_collect().await.unwrap();
            let (old, new) = (rows_at(&store, Some(*from)).await.unwrap(), rows_at(&store, Some(*to)).await.unwrap());
            assert_eq!(changed(old, &changes), new, "{what}: {from} to {to}");
        }
        apply(&table, Verb::Restore { version: two }).await.unwrap();
        assert_eq!(rows(&store).await, all, "{what}");
        apply(&table, Verb::Delete { condition: None }).await.unwrap();
        assert_eq!(rows(&store).await.len(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_made_wider_and_no_file_is_written_anew() {
    let store = memory();
    let table = created(&store, KINDS[3]).await;
    insert(&table, "(1, 'a', 'n')").await;
    let one = table.version().await.unwrap();
    let files = data_files(&store).await;
    apply(&table, Verb::WidenColumn { column: "key".into(), to: DataType::Int64 }).await.unwrap();
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let more =
        Arc::new(Schema::new(vec![Field::new("more", DataType::Decimal128(9, 2), true), Field::new("at", time, true)]));
    apply(&table, Verb::AddColumns(more)).await.unwrap();
    assert_eq!(data_files(&store).await, files);
    insert_into(
        &table,
        "SELECT 5000000000 AS key, 'b' AS value, 'n' AS place, CAST(2.5 AS DECIMAL(9, 2)) AS more, \
         TIMESTAMP '2026-01-02 03:04:05' AS at",
    )
    .await;
    assert_eq!(rows(&store).await, ["1=a=n=null=null", "5000000000=b=n=2.50=2026-01-02T03:04:05"]);
    assert_eq!(rows_at(&store, Some(one)).await.unwrap(), ["1=a=n"], "an older version has its own columns");
    let refused = [
        (Verb::RenameColumn { from: "value".into(), to: "x".into() }, "by their names"),
        (Verb::DropColumn("value".into()), "by their names"),
        (Verb::WidenColumn { column: "value".into(), to: DataType::Int32 }, "does not become"),
        (Verb::WidenColumn { column: "nothing".into(), to: DataType::Int64 }, "no column 'nothing'"),
        (Verb::AddConstraint { name: "c".into(), check: "key > 0".into() }, "no constraints"),
        (Verb::Compact { z_order: vec!["key".into()], condition: None }, "ZORDER"),
        (Verb::SetProperties(vec![("hoodie.table.version".into(), "6".into())]), "not changed"),
        (delete("\"nothing\" = 1"), "nothing"),
    ];
    let before = table.version().await.unwrap();
    for (verb, reason) in refused {
        let error = apply(&table, verb).await.unwrap_err().to_string();
        assert!(error.starts_with("RM-5017") && error.contains(reason), "{error}");
    }
    assert_eq!(table.version().await.unwrap(), before);
    let left: Vec<String> = all_files(&store).await.into_iter().filter(|file| file.contains(".begun")).collect();
    assert!(left.is_empty(), "what was begun for a statement that cannot be is undone: {left:?}");
}

async fn all_files(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let files = store.list(Some(&Path::from("lake/totals"))).map_ok(|file| file.location.to_string());
    let mut files: Vec<String> = files.try_collect().await.unwrap();
    files.sort();
    files
}

async fn data_files(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    all_files(store).await.into_iter().filter(|file| file.ends_with(".parquet") && !file.contains(".hoodie/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_versions_whose_files_went_are_not_read() {
    for kind in KINDS {
        let what = format!("{kind:?}");
        let store = memory();
        let table = created(&store, kind).await;
        for key in 0..5 {
            insert(&table, &format!("({key}, 'v', 'p')")).await;
        }
        apply(&table, delete("\"key\" = 2")).await.unwrap();
        let (full, before) = (table.version().await.unwrap(), rows(&store).await);
        let done = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert!(done.figures.contains(&("files_added", 1)) && done.figures.contains(&("files_removed", 5)), "{done:?}");
        assert_eq!(rows(&store).await, before, "{what}");
        let clean = |needed: Vec<i64>, dry_run: bool| Verb::Clean(Clean { needed, dry_run, ..Clean::default() });
        let error = apply(&table, Verb::Clean(Clean { retain_hours: Some(1), ..Clean::default() })).await.unwrap_err();
        assert!(error.to_string().contains("hoodie.clean.hours.retained"), "{error}");
        assert_eq!(
            apply(&table, clean(vec![], false)).await.unwrap().figures,
            [("files_removed", 0)],
            "a week is kept"
        );
        apply(&table, Verb::SetProperties(vec![("hoodie.clean.hours.retained".into(), "0".into())])).await.unwrap();
        assert_eq!(apply(&table, clean(vec![], true)).await.unwrap().figures, [("files_removed", 6)], "{what}");
        assert_eq!(data_files(&store).await.len(), 7, "it was only asked");
        assert_eq!(apply(&table, clean(vec![full], false)).await.unwrap().figures, [("files_removed", 1)], "{what}");
        assert_eq!(rows_at(&store, Some(full)).await.unwrap(), before, "somebody reads on from there");
        assert_eq!(apply(&table, clean(vec![], false)).await.unwrap().figures, [("files_removed", 5)], "{what}");
        assert_eq!((data_files(&store).await.len(), rows(&store).await), (1, before), "{what}");
        let error = rows_at(&store, Some(full)).await.unwrap_err();
        assert!(error.starts_with("RM-5015"), "what is left of it is not the whole: {error}");
        let newest = table.version().await.unwrap();
        let error = table.changes(Some(full), newest, &columns()).await.err().expect("its files went").to_string();
        assert!(error.starts_with("RM-5015"), "{error}");
        insert(&table, "(9, 'z', 'p')").await;
        assert_eq!(rows(&store).await.len(), 5, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_are_done_one_after_the_other() {
    for kind in KINDS {
        let store = memory();
        let table = created(&store, kind).await;
        insert(&table, "(0, 'count', 'n')").await;
        let count = async || {
            let table = HudiTable::open(location(&store)).await.unwrap();
            for _ in 0..6 {
                apply(&table, set("key", "\"key\" + 1", Some("\"value\" = 'count'"))).await.unwrap();
            }
        };
        let add = async || {
            let table = HudiTable::open(location(&store)).await.unwrap();
            for key in 1..6 {
                insert(&table, &format!("({key}, 'row', 's')")).await;
            }
        };
        futures::join!(count(), count(), add());
        assert_eq!(rows(&store).await, ["12=count=n", "1=row=s", "2=row=s", "3=row=s", "4=row=s", "5=row=s"]);
        let left: Vec<String> = all_files(&store).await.into_iter().filter(|file| file.contains("/.temp/")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Base files stay as they are, and a log beside them says which keys are gone; in the end, none.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_taken_out_by_logs_where_the_table_is_merged_on_read() {
    for kind in KINDS.into_iter().filter(|(.., of)| *of == "mor") {
        let what = format!("{kind:?}");
        let store = memory();
        let table = created(&store, kind).await;
        let some = (0..40).map(|key| format!("({key}, 'v', 'p{}')", key % 2)).collect::<Vec<_>>().join(", ");
        insert(&table, &some).await;
        let one = table.version().await.unwrap();
        let files = data_files(&store).await;
        let logs = async || all_files(&store).await.iter().filter(|file| file.contains(".log.1_")).count();
        for (key, rows_left) in [(3, 39), (5, 38), (7, 37)] {
            let done = apply(&table, delete(&format!("\"key\" = {key}"))).await.unwrap();
            assert_eq!((done.rows, rows(&store).await.len()), (Some(1), rows_left), "{what}");
        }
        assert_eq!((data_files(&store).await, logs().await), (files.clone(), 3), "{what}");
        assert_eq!(apply(&table, delete("\"key\" = 5")).await.unwrap().rows, Some(0), "it is gone: {what}");
        let done = apply(&table, set("value", "'new'", Some("\"key\" IN (5, 9, 11)"))).await.unwrap();
        assert_eq!(done.rows, Some(2), "{what}");
        assert_eq!(data_files(&store).await.len(), files.len() + 1, "what is new is in a file of its own: {what}");
        let found = rows(&store).await;
        assert_eq!((found.len(), found.iter().filter(|row| row.contains("=new=")).count()), (37, 2), "{what}");
        assert_eq!(rows_at(&store, Some(one)).await.unwrap().len(), 40, "{what}");
        // A key that several rows have: one of them stays, so that the file is written anew.
        insert(&table, "(50, 'a', 'p0'), (50, 'b', 'p0'), (51, 'c', 'p0'), (52, 'd', 'p0')").await;
        let (before, log_count) = (data_files(&store).await.len(), logs().await);
        apply(&table, delete("\"key\" = 50 AND \"value\" = 'a'")).await.unwrap();
        assert!(rows(&store).await.contains(&"50=b=p0".to_owned()), "{what}");
        // Where rows have keys that were made up, each has its own.
        let anew = if kind.1.is_empty() { (before, log_count + 1) } else { (before + 1, log_count) };
        assert_eq!((data_files(&store).await.len(), logs().await), anew, "{what}");
        // And where all of them go.
        insert(&table, "(60, 'a', 'p0'), (60, 'b', 'p0'), (61, 'c', 'p0'), (62, 'd', 'p0'), (63, 'e', 'p0')").await;
        apply(&table, delete("\"key\" = 60")).await.unwrap();
        assert!(!rows(&store).await.iter().any(|row| row.starts_with("60=")), "{what}");
        apply(&table, delete("\"key\" > 60")).await.unwrap();
        // Most of a file goes.
        apply(&table, delete("\"key\" < 40")).await.unwrap();
        assert_eq!(rows(&store).await, ["50=b=p0", "51=c=p0", "52=d=p0"], "{what}");
        let versions: Vec<i64> = table.history(99).await.unwrap().iter().rev().map(|version| version.version).collect();
        for (from, to) in versions.iter().zip(&versions[1..]).chain([(&versions[0], versions.last().unwrap())]) {
            let changes = table.changes(Some(*from), *to, &columns()).await.unwrap();
            let changes: Vec<Changes> = changes.try_collect().await.unwrap();
            let (old, new) = (rows_at(&store, Some(*from)).await.unwrap(), rows_at(&store, Some(*to)).await.unwrap());
            assert_eq!(changed(old, &changes), new, "{what}: {from} to {to}");
        }
        apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        apply(&table, Verb::SetProperties(vec![("hoodie.clean.hours.retained".into(), "0".into())])).await.unwrap();
        apply(&table, Verb::Clean(Clean::default())).await.unwrap();
        assert_eq!((rows(&store).await.len(), logs().await, data_files(&store).await.len()), (3, 0, 1), "{what}");
    }
}

/// Whatever write fails, and however: the statement was done, or it was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_done_once_whatever_write_fails() {
    let failures = [Failure::CrashBefore, Failure::CrashAfter, Failure::LostAnswer, Failure::Full];
    for (failure, kind) in failures.into_iter().flat_map(|failure| [KINDS[3], KINDS[4]].map(|kind| (failure, kind))) {
        for writes in 0.. {
            let store = memory();
            let table = created(&store, kind).await;
            insert(&table, "(1, 'a', 'n'), (2, 'b', 's')").await;
            let breaking = BreakingStore::new(&store, writes, failure);
            let broken: Arc<dyn ObjectStore> = breaking.clone();
            let session = SessionContext::new();
            let done = async |store: &Arc<dyn ObjectStore>, statement: &str| {
                let table = HudiTable::open(location(store)).await?;
                let base = table.version().await?;
                let verb = set("key", "\"key\" + 10", Some("\"place\" = 'n'"));
                table.apply(&session.state(), base, statement, verb).await
            };
            let first = done(&broken, "one").await;
            if let Err(error) = &first {
                assert!(error.is_retryable(), "{failure:?} at write {writes}: {error}");
            }
            // Whoever writes next completes what was decided.
            insert(&table, "(3, 'c', 's')").await;
            let found = rows(&store).await;
            let is_done = found == ["11=a=n", "2=b=s", "3=c=s"];
            assert!(is_done || found == ["1=a=n", "2=b=s", "3=c=s"], "{failure:?} at write {writes}: {found:?}");
            assert!(is_done || first.is_err(), "{failure:?} at write {writes}: it was said to be done");
            if !breaking.has_broken() {
                assert!(writes >= 8, "{writes} writes");
                break;
            }
        }
    }
}

fn spec(view: &str, mode: SinkMode) -> SinkSpec {
    SinkSpec {
        sink_id: SinkId::new(format!("rivermere/11111111-1111-4111-8111-111111111111/{view}")).unwrap(),
        schema: columns(),
        mode,
        adopt: Adopt::Refuse,
        properties: vec![],
        since: Epoch(0),
    }
}

/// One row, that comes.
fn epoch(number: u64) -> StagedEpoch {
    let key = Int32Array::from(vec![i32::try_from(number).unwrap()]);
    let text = || Arc::new(StringArray::from(vec!["x"]));
    let batch = RecordBatch::try_new(columns(), vec![Arc::new(key), text(), text()]).unwrap();
    let changes = vec![Changes::with_weights(batch, Int64Array::from(vec![1])).unwrap()];
    StagedEpoch { epoch: Epoch(number), changes }
}

/// A file of an instant that was never completed counts as committed as soon as the timeline has forgotten that it is younger: none may
/// stay.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_left_is_undone() {
    let mut left = 0;
    for writes in 0.. {
        let store = memory();
        let breaking = BreakingStore::new(&store, writes, Failure::CrashAfter);
        let broken: Arc<dyn ObjectStore> = breaking.clone();
        let run = async |store: &Arc<dyn ObjectStore>| {
            let key = SinkMode::Merge { key: vec!["key".into()] };
            let sink = HudiSink::open(location(store), spec("v", key)).await?;
            for number in 1..=3 {
                sink.commit(vec![epoch(number)]).await?;
            }
            Ok::<_, TableError>(())
        };
        let _ = run(&broken).await;
        let files = data_files(&store).await;
        run(&store).await.unwrap();
        let timeline = all_files(&store).await;
        let done: HashSet<&str> = timeline
            .iter()
            .filter_map(|file| file.split_once(".hoodie/timeline/")?.1.split_once('_'))
            .map(|(time, _)| time)
            .collect();
        let kept = data_files(&store).await;
        for file in &kept {
            let (_, time) = file.trim_end_matches(".parquet").rsplit_once('_').unwrap();
            assert!(done.contains(time), "{file} is of no instant, after a crash at write {writes}");
        }
        left += files.iter().filter(|file| !kept.contains(file)).count();
        let open: Vec<&String> =
            timeline.iter().filter(|file| file.contains("/.temp/") || file.ends_with(".begun")).collect();
        assert!(open.is_empty(), "after a crash at write {writes}: {open:?}");
        if !breaking.has_broken() {
            break;
        }
    }
    assert!(left > 0, "some crash left a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_keeps_its_table_up_and_finds_its_epoch_again() {
    let store = memory();
    let properties = vec![("hoodie.clean.hours.retained".into(), "0".into())];
    let open = async || {
        let spec = SinkSpec { properties: properties.clone(), ..spec("v", SinkMode::Append) };
        HudiSink::open(location(&store), spec).await
    };
    let (mut compacted, mut removed) = (0, 0);
    let sink = open().await.unwrap();
    for number in 1..=90 {
        sink.commit(vec![epoch(number)]).await.unwrap();
        let upkeep = sink.maintain(&[]).await.unwrap();
        compacted += upkeep.files_compacted;
        removed += upkeep.files_removed;
        let again = sink.commit(vec![epoch(number)]).await.unwrap();
        assert_eq!(again.epochs_skipped, 1);
    }
    assert!(compacted >= 80 && removed >= 50, "{compacted} put together, {removed} removed");
    assert!(data_files(&store).await.len() < 45, "{:?}", data_files(&store).await.len());
    assert_eq!(rows(&store).await.len(), 90);
    // Somebody else writes in between: the epoch is found behind that.
    let table = HudiTable::open(location(&store)).await.unwrap();
    insert(&table, "(1000, 'other', 'x')").await;
    let sink = open().await.unwrap();
    assert_eq!(sink.committed().await.unwrap(), Some(Epoch(90)));
    let refused = HudiSink::open(location(&store), spec("two", SinkMode::Append)).await.err().expect("another view's");
    assert!(matches!(&refused, TableError::Foreign { found, .. } if found.contains("/v'")), "{refused}");
    let adopted = SinkSpec { adopt: Adopt::Adopt, ..spec("two", SinkMode::Append) };
    let adopted = HudiSink::open(location(&store), adopted).await.unwrap();
    adopted.commit(vec![epoch(1)]).await.unwrap();
    assert_eq!(rows(&store).await.len(), 92);
    let replaced = SinkSpec { adopt: Adopt::Overwrite, ..spec("three", SinkMode::Append) };
    HudiSink::open(location(&store), replaced).await.unwrap().commit(vec![epoch(7)]).await.unwrap();
    assert_eq!(rows(&store).await, ["7=x=x"]);
}

/// Keys as Hudi's own generators write them: its next upsert finds rows by them.
#[tokio::test(flavor = "multi_thread")]
async fn record_keys_are_those_of_hudi_and_stay_with_their_rows() {
    let made = async |partitioned_by: &[&str], key: &str| {
        let store = memory();
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("day", DataType::Date32, true),
            Field::new("place", DataType::Utf8, true),
        ]));
        let partitioned_by = partitioned_by.iter().map(|column| (*column).into()).collect();
        let properties = vec![("primaryKey".into(), key.into())];
        let spec = TableSpec { schema, partitioned_by, properties };
        let table = HudiTable::create(location(&store), &spec).await.unwrap();
        let row = "SELECT CAST(7 AS BIGINT) AS id, TIMESTAMP '1970-01-01 00:00:01' AS at, DATE '2026-03-07' AS day, 'x' AS place";
        insert_into(&table, row).await;
        insert_into(&table, row).await;
        let before = meta_of(&store).await;
        apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        let after = meta_of(&store).await;
        let same = |row: &String| after.contains(row);
        assert!(before.iter().all(same), "a row that is put elsewhere is no new row: {before:?}, {after:?}");
        before.into_iter().map(|row| row.split(' ').nth(1).unwrap().to_owned()).collect::<HashSet<_>>()
    };
    let one = |text: &str| HashSet::from([text.to_owned()]);
    assert_eq!(made(&[], "id").await, one("7"));
    assert_eq!(made(&["day", "place"], "id").await, one("id:7"), "of the generator for several columns");
    assert_eq!(made(&["place"], "id,day").await, one("id:7,day:2026-03-07"));
    assert_eq!(made(&[], "at").await, one("1000000"));
    assert_eq!(made(&[], "").await.len(), 2, "keys that are made up are each row's own");
}

/// Time and key of each row, of all base files.
async fn meta_of(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let mut rows = vec![];
    for file in data_files(store).await {
        let bytes = store.get(&Path::from(file.as_str())).await.unwrap().bytes().await.unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str, row: usize| {
                let column = batch.column_by_name(name).unwrap();
                column.as_any().downcast_ref::<StringArray>().unwrap().value(row).to_owned()
            };
            let of = |row| format!("{} {}", text("_hoodie_commit_time", row), text("_hoodie_record_key", row));
            rows.extend((0..batch.num_rows()).map(of));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_named() {
    let with = async |change: &dyn Fn(String) -> String| {
        let store = memory();
        let table = created(&store, KINDS[2]).await;
        insert(&table, "(1, 'a', 'n')").await;
        let file = Path::from("lake/totals/.hoodie/hoodie.properties");
        let text = String::from_utf8(store.get(&file).await.unwrap().bytes().await.unwrap().to_vec()).unwrap();
        store.put(&file, change(text).into_bytes().into()).await.unwrap();
        (store, table)
    };
    for (name, value, feature) in [
        ("hoodie.table.keygenerator.type", "TIMESTAMP", "TIMESTAMP"),
        ("hoodie.table.cdc.enabled", "true", "hoodie.table.cdc.enabled"),
        ("hoodie.table.version", "6", "table version 6"),
    ] {
        let (store, table) = with(&|text| format!("{text}{name}={value}\n")).await;
        let error = apply(&table, delete("\"key\" = 1")).await.unwrap_err().to_string();
        assert!(error.starts_with("RM-5007") && error.contains(feature), "{error}");
        assert_eq!(rows(&store).await, ["1=a=n"], "it is read");
    }
    let (store, _) = with(&|text| format!("{text}hoodie.table.version=10\n")).await;
    let error = HudiTable::open(location(&store)).await.err().expect("it is too new").to_string();
    assert!(error.starts_with("RM-5007") && error.contains("table version 10"), "{error}");
    let error = HudiTable::open(location(&memory())).await.err().expect("there is none").to_string();
    assert!(error.starts_with("RM-5014"), "{error}");
    // A damaged entry of the timeline, and a file that is not there.
    let (store, table) = with(&|text| text).await;
    let history = all_files(&store).await;
    let entry = history.iter().find(|file| file.ends_with(".commit")).unwrap();
    let bytes = store.get(&Path::from(entry.as_str())).await.unwrap().bytes().await.unwrap();
    store.put(&Path::from(entry.as_str()), b"Obj\x01nonsense".to_vec().into()).await.unwrap();
    let error = rows_at(&store, None).await.unwrap_err();
    assert!(error.starts_with("RM-5019") && error.contains(".hoodie/timeline/"), "{error}");
    store.put(&Path::from(entry.as_str()), bytes.into()).await.unwrap();
    let provider = table.scan(None).await.unwrap();
    let file = data_files(&store).await.remove(0);
    store.delete(&Path::from(file.as_str())).await.unwrap();
    let error = crate::tables::collect(provider).await.unwrap_err();
    assert!(error.contains("RM-5010") && error.contains(file.rsplit('/').next().unwrap()), "{error}");
    let invalid = |partitioned_by: &[&str], properties: &[(&str, &str)]| TableSpec {
        schema: columns(),
        partitioned_by: partitioned_by.iter().map(|column| (*column).into()).collect(),
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    };
    for (spec, reason) in [
        (invalid(&["nothing"], &[]), "no column 'nothing'"),
        (invalid(&[], &[("primaryKey", "id")]), "no column 'id'"),
        (invalid(&[], &[("type", "log")]), "cow and mor"),
        (invalid(&[], &[("hoodie.table.version", "6")]), "made with hoodie.table.version = '8' here, not '6'"),
    ] {
        let error = HudiTable::create(location(&memory()), &spec).await.err().expect("it cannot be made").to_string();
        assert!(error.starts_with("RM-5012") && error.contains(reason), "{error}");
    }
}
