//! Rows that are marked: the same rows as when files are written anew, with the files left alone.

use crate::feed::random_verb;
use crate::verbs::{MARKED, append, apply, apply_with, created, created_with, delete, pairs, plan, values};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use rivermere_base::{Rng as _, SeededRng};
use rivermere_delta::DeltaTable;
use rivermere_table::{
    Clean, MergeClause, MergeVerb, SinkSpec, StagedEpoch, Table, TableError, TableSink, TableSpec, Verb,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The data files of the newest version, and how many rows of each are marked.
pub async fn marked(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, i64> {
    let table = library_table(store).await;
    let count = |vector: Option<deltalake_core::kernel::DeletionVectorDescriptor>| vector.map_or(0, |v| v.cardinality);
    let files = table.snapshot().unwrap().log_data();
    files.iter().map(|file| (file.path().to_string(), count(file.deletion_vector_descriptor()))).collect()
}

async fn one_value(store: &Arc<dyn ObjectStore>, sql: &str) -> String {
    let table = DeltaTable::open(location(store)).await.unwrap();
    let session = SessionContext::new();
    session.register_table("t", table.scan(None).await.unwrap()).unwrap();
    text(&session.sql(sql).await.unwrap().collect().await.unwrap()).join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_stay_and_their_rows_are_marked_until_none_is_left() {
    let store = memory();
    let table = created_with(&store, &[], MARKED).await;
    append(&table, "(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')").await;
    let before: Vec<String> = marked(&store).await.into_keys().collect();
    let done = apply(&table, delete("\"key\" = 2")).await.unwrap();
    assert_eq!(done.rows, Some(1));
    assert_eq!(marked(&store).await, BTreeMap::from([(before[0].clone(), 1)]));
    // What the statistics of the file say is of rows that are gone, too.
    for (sql, answer) in [
        ("SELECT COUNT(*) FROM t", "3"),
        ("SELECT COUNT(key), MIN(key), MAX(value) FROM t", "3=1=d"),
        ("SELECT COUNT(*) FROM t WHERE key = 2", "0"),
    ] {
        assert_eq!(one_value(&store, sql).await, answer, "{sql}");
    }
    apply(&table, delete("\"key\" IN (1, 4)")).await.unwrap();
    assert_eq!(one_value(&store, "SELECT COUNT(*), MIN(key), MAX(key) FROM t").await, "1=3=3");
    assert_eq!(marked(&store).await, BTreeMap::from([(before[0].clone(), 3)]));
    let update = Verb::Update { assignments: pairs(&[("value", "'new'")]), condition: None };
    apply(&table, update).await.unwrap();
    assert_eq!(rows(&store).await, ["3=new"]);
    let after = marked(&store).await;
    assert!(after.len() == 1 && !after.contains_key(&before[0]), "the file without rows is gone: {after:?}");
    assert_eq!(rows_at(&store, Some(2)).await, ["1=a", "3=c", "4=d"]);
    let nothing = apply(&table, delete("\"key\" = 99")).await.unwrap();
    assert_eq!((nothing.rows, nothing.version), (Some(0), 4), "there was nothing to commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_marks_has_the_rows_of_one_that_does_not() {
    for (seed, partitioned_by) in (1..).zip([&[][..], &["value"], &[], &["value"]]) {
        let (marking, plain) = (memory(), memory());
        let one = created_with(&marking, partitioned_by, MARKED).await;
        let other = created(&plain, partitioned_by).await;
        let (for_one, for_other) = (SeededRng::new(seed), SeededRng::new(seed));
        let mut saw_marks = false;
        for step in 0..30 {
            if step % 5 == 4 {
                random_merge(&one, &for_one).await;
                random_merge(&other, &for_other).await;
            } else {
                random_verb(&one, &for_one).await;
                random_verb(&other, &for_other).await;
            }
            assert_eq!(rows(&marking).await, rows(&plain).await, "seed {seed}, step {step}");
            // The same numbers come only when both have as many versions.
            let (newest, wanted) = (one.version().await.unwrap(), other.version().await.unwrap());
            assert_eq!(newest, wanted, "seed {seed}, step {step}");
            saw_marks |= marked(&marking).await.values().any(|marks| *marks > 0);
        }
        assert!(saw_marks, "seed {seed} marked nothing");
    }
}

async fn random_merge(table: &DeltaTable, rng: &SeededRng) {
    let session = SessionContext::new();
    let below = |limit: u64| rng.next_u64() % limit;
    let keys: BTreeSet<u64> = (0..=below(4)).map(|_| below(8)).collect();
    let source: Vec<String> = keys.iter().map(|key| format!("({key}, 's{}')", below(3))).collect();
    let condition = |text: String| (below(2) == 0).then_some(text);
    let set = pairs(&[("value", "\"s\".\"value\"")]);
    let mut clauses = vec![
        MergeClause::DeleteMatched { condition: Some(format!("\"s\".\"key\" = {}", below(8))) },
        MergeClause::UpdateMatched { condition: condition(format!("\"t\".\"key\" > {}", below(6))), assignments: set },
    ];
    if below(2) == 0 {
        let values = pairs(&[("key", "\"s\".\"key\""), ("value", "\"s\".\"value\"")]);
        clauses.push(MergeClause::Insert { condition: condition(format!("\"s\".\"key\" <> {}", below(6))), values });
    }
    if below(2) == 0 {
        clauses.push(MergeClause::DeleteUnmatched { condition: Some(format!("\"t\".\"key\" = {}", below(6))) });
    }
    let merge = MergeVerb {
        source: values(&session, &source.join(", ")).await,
        target_alias: "t".into(),
        source_alias: "s".into(),
        on: "\"t\".\"key\" = \"s\".\"key\"".into(),
        clauses,
    };
    // A commit either way, so that the versions go on together.
    let always = plan(&session, "SELECT CAST(-1 AS BIGINT) AS key, 'x' AS value").await;
    apply_with(&session, table, Verb::Append(always)).await.unwrap();
    let clean = delete("\"key\" = -1");
    apply_with(&session, table, Verb::Merge(Box::new(merge))).await.unwrap();
    apply(table, clean).await.unwrap();
}

pub fn marking() -> SinkSpec {
    SinkSpec { properties: pairs(MARKED), ..merge() }
}

/// Two and two in a commit: the second marks two rows of the first one's file.
pub fn marking_epochs() -> Vec<StagedEpoch> {
    let texts = ["+1=a +2=b +5=x +6=y +7=z", "-1=a +1=c", "-2=b +3=d", "-1=c +1=e"];
    (1..).zip(texts).map(|(number, text)| epoch(number, text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_marks_rows_of_a_table_that_asks_for_it() {
    let store = memory();
    let sink = open(&store, marking()).await.unwrap();
    let many = (1..=20).map(|key| format!("+{key}=a")).collect::<Vec<_>>().join(" ");
    sink.commit(vec![epoch(1, &many)]).await.unwrap();
    let file = marked(&store).await.into_keys().next().unwrap();
    let done = sink.commit(vec![epoch(2, "-3=a +3=b -7=a")]).await.unwrap();
    assert_eq!((done.rows_inserted, done.rows_deleted), (1, 2));
    let files = marked(&store).await;
    assert_eq!((files.len(), files.get(&file)), (2, Some(&2)), "{files:?}");
    // With little left of it a file is written anew after all.
    let most = (8..=18).map(|key| format!("-{key}=a")).collect::<Vec<_>>().join(" ");
    sink.commit(vec![epoch(3, &most)]).await.unwrap();
    assert!(!marked(&store).await.contains_key(&file));
    assert_eq!(rows(&store).await, ["19=a", "1=a", "20=a", "2=a", "3=b", "4=a", "5=a", "6=a"]);
    // A replay finds the marker, as ever.
    let sink = open(&store, marking()).await.unwrap();
    assert_eq!(sink.commit(vec![epoch(3, &most)]).await.unwrap().epochs_skipped, 1);
    // What the tests of crashes mean to test.
    let store = memory();
    let sink = open(&store, marking()).await.unwrap();
    for staged in marking_epochs().chunks(2) {
        sink.commit(staged.to_vec()).await.unwrap();
    }
    assert!(marked(&store).await.values().any(|marks| *marks == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_outlive_compaction_restore_and_clean_up() {
    let store = memory();
    let no_wait = ("delta.deletedFileRetentionDuration", "interval 0 hours");
    let table = created_with(&store, &[], &[MARKED[0], no_wait]).await;
    append(&table, "(1, 'a'), (2, 'b'), (3, 'c')").await;
    apply(&table, delete("\"key\" = 2")).await.unwrap();
    append(&table, "(4, 'd')").await;
    apply(&table, delete("\"key\" = 3")).await.unwrap();
    let clean = Verb::Clean(Clean { everything: true, retain_hours: Some(0), ..Clean::default() });
    apply(&table, clean.clone()).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "4=d"], "the vector in use was not cleaned up");
    apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "4=d"]);
    assert!(marked(&store).await.values().all(|marks| *marks == 0), "compaction leaves out what is gone");
    append(&table, "(5, 'e'), (6, 'f')").await;
    let kept = table.version().await.unwrap();
    apply(&table, delete("\"key\" = 5")).await.unwrap();
    apply(&table, Verb::Restore { version: kept }).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "4=d", "5=e", "6=f"]);
    apply(&table, clean).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "4=d", "5=e", "6=f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_a_table_that_marks_are_kept() {
    let store = memory();
    let table = created_with(&store, &[], MARKED).await;
    append(&table, "(1, 'a'), (2, 'b')").await;
    apply(&table, Verb::AddConstraint { name: "small".into(), check: "\"key\" < 5".into() }).await.unwrap();
    let up = |by: u64| Verb::Update {
        assignments: pairs(&[("key", &format!("\"key\" + {by}"))]),
        condition: Some("\"key\" = 1".into()),
    };
    let broken = apply(&table, up(9)).await.unwrap_err();
    assert!(matches!(&broken, TableError::Verb { .. }) && broken.to_string().contains("small"), "{broken}");
    apply(&table, up(2)).await.unwrap();
    apply(&table, delete("\"key\" = 2")).await.unwrap();
    assert_eq!(rows(&store).await, ["3=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_versions_of_the_retention_need_outlive_a_clean_up() {
    let store = memory();
    let no_wait = ("delta.deletedFileRetentionDuration", "interval 0 hours");
    let table = created_with(&store, &[], &[MARKED[0], no_wait]).await;
    append(&table, "(1, 'a'), (2, 'b'), (3, 'c')").await;
    apply(&table, delete("\"key\" = 1")).await.unwrap();
    apply(&table, delete("\"key\" = 2")).await.unwrap();
    // The newest version is of a moment that is not over: until then the one before was the newest.
    let entry = Path::from("lake/totals/_delta_log/00000000000000000003.json");
    let told = store.get(&entry).await.unwrap().bytes().await.unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    let (head, rest) = told.split_once("\"timestamp\":").unwrap();
    let (_, tail) = rest.split_once(',').unwrap();
    let later = format!("{head}\"timestamp\":33000000000000,{tail}");
    store.put(&entry, later.into()).await.unwrap();
    let table = DeltaTable::open(location(&store)).await.unwrap();
    let clean = Verb::Clean(Clean { everything: true, retain_hours: Some(0), ..Clean::default() });
    apply(&table, clean).await.unwrap();
    assert_eq!(rows_at(&store, Some(2)).await, ["2=b", "3=c"]);
    // A vector that somebody removed all the same: nothing is restored that could not be read.
    let files: Vec<_> = store.list(None).map(|file| file.unwrap().location).collect().await;
    for file in files.into_iter().filter(|file| file.as_ref().ends_with(".bin")) {
        store.delete(&file).await.unwrap();
    }
    let newest = table.version().await.unwrap();
    apply(&table, Verb::Restore { version: 2 }).await.unwrap_err();
    assert_eq!(table.version().await.unwrap(), newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_deleted_whatever_the_other_columns_are() {
    let store = memory();
    let inside = DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into());
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true), Field::new("s", inside, true)]));
    let spec = TableSpec { schema, partitioned_by: vec![], properties: pairs(MARKED) };
    let table = DeltaTable::create(location(&store), &spec).await.unwrap();
    let session = SessionContext::new();
    let rows =
        "SELECT CAST(k AS BIGINT) AS key, named_struct('x', CAST(k AS BIGINT)) AS s FROM (VALUES (1), (2)) AS t(k)";
    let rows = plan(&session, rows).await;
    apply_with(&session, &table, Verb::Append(rows)).await.unwrap();
    apply(&table, Verb::RenameColumn { from: "key".into(), to: "the key".into() }).await.unwrap();
    apply(&table, delete("\"the key\" = 1")).await.unwrap();
    assert_eq!(one_value(&store, "SELECT \"the key\", s['x'] FROM t").await, "2=2");
}

/// Of a name that its writer did not encode the library makes another one, and the file would be there still.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_name_writers_spell_differently_is_not_taken_away() {
    for properties in [&[][..], MARKED] {
        let store = memory();
        let table = created_with(&store, &[], properties).await;
        append(&table, "(1, 'a'), (2, 'b')").await;
        let entry = Path::from("lake/totals/_delta_log/00000000000000000001.json");
        let told = store.get(&entry).await.unwrap().bytes().await.unwrap();
        let told = String::from_utf8(told.to_vec()).unwrap();
        let (_, name) = told.split_once("\"path\":\"").unwrap();
        let (name, _) = name.split_once('"').unwrap();
        let moved = format!("Z\u{fc}rich-{name}");
        let (from, to) = (format!("lake/totals/{name}"), format!("lake/totals/{moved}"));
        store.copy(&Path::from(from), &Path::parse(to).unwrap()).await.unwrap();
        store.put(&entry, told.replace(name, &moved).into()).await.unwrap();
        let table = DeltaTable::open(location(&store)).await.unwrap();
        assert_eq!(rows(&store).await, ["1=a", "2=b"]);
        append(&table, "(3, 'c')").await;
        let update = Verb::Update { assignments: pairs(&[("key", "7")]), condition: None };
        let optimize = Verb::Compact { z_order: vec![], condition: None };
        for verb in [delete("\"key\" = 1"), update, optimize] {
            let error = apply(&table, verb).await.unwrap_err();
            assert!(matches!(&error, TableError::UnsupportedFeature { .. }), "{error}");
        }
        assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_not_stored_with_properties_that_its_table_could_not_keep() {
    let store = memory();
    for property in [("delta.columnMapping.mode", "name"), ("delta.constraints.small", "key < 5")] {
        let error = open(&store, SinkSpec { properties: pairs(&[property]), ..merge() }).await.err().unwrap();
        assert!(matches!(&error, TableError::InvalidSpec { .. }) && error.to_string().contains(property.0), "{error}");
    }
    assert!(store.list(None).next().await.is_none(), "a table was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_nothing_needs_go_and_restored_ones_stay() {
    let store = memory();
    let no_wait = ("delta.deletedFileRetentionDuration", "interval 0 hours");
    let table = created_with(&store, &[], &[MARKED[0], no_wait]).await;
    append(&table, "(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')").await;
    for key in 1..=3 {
        apply(&table, delete(&format!("\"key\" = {key}"))).await.unwrap();
    }
    let files = async || {
        let all: Vec<_> = store.list(None).map(|file| file.unwrap().location).collect().await;
        let of = |end: &str| all.iter().filter(|file| file.as_ref().ends_with(end)).count();
        (of(".bin"), of(".parquet"))
    };
    assert_eq!(files().await, (3, 1));
    let clean = || Verb::Clean(Clean::default());
    let told = apply(&table, Verb::Clean(Clean { dry_run: true, ..Clean::default() })).await.unwrap();
    assert!(told.figures.contains(&("files_removed", 2)), "{told:?}");
    apply(&table, clean()).await.unwrap();
    assert_eq!(files().await, (1, 1));
    assert_eq!(rows(&store).await, ["4=d", "5=e"]);
    // The vector and the file of version 4 go and come back, which an old removal of theirs must not outdo.
    apply(&table, delete("true")).await.unwrap();
    append(&table, "(6, 'f')").await;
    apply(&table, Verb::Restore { version: 4 }).await.unwrap();
    apply(&table, clean()).await.unwrap();
    assert_eq!(rows(&store).await, ["4=d", "5=e"]);
    apply(&table, delete("\"key\" = 4")).await.unwrap();
    apply(&table, Verb::Restore { version: 4 }).await.unwrap();
    apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
    apply(&table, clean()).await.unwrap();
    assert_eq!((files().await, rows(&store).await), ((0, 1), vec!["4=d".to_string(), "5=e".to_string()]));
    // All that went is known to have gone: there is nothing to be done again.
    let newest = table.version().await.unwrap();
    apply(&table, clean()).await.unwrap();
    assert_eq!(table.version().await.unwrap(), newest);
}
