//! Statements as commits: each verb against the rows that it must leave.

use crate::tables::done;
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use rivermere_delta::DeltaTable;
use rivermere_table::{
    Clean, Done, EditableTable, MergeClause, MergeVerb, Table, TableError, TableSink, TableSpec, Verb,
};
use std::sync::Arc;

/// What a table keeps when its rows are marked and not written anew.
pub const MARKED: &[(&str, &str)] = &[("delta.enableDeletionVectors", "true")];

pub async fn created(store: &Arc<dyn ObjectStore>, partitioned_by: &[&str]) -> DeltaTable {
    created_with(store, partitioned_by, &[]).await
}

pub async fn created_with(
    store: &Arc<dyn ObjectStore>,
    partitioned_by: &[&str],
    properties: &[(&str, &str)],
) -> DeltaTable {
    let schema = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Utf8, true),
    ]));
    let partitioned_by = partitioned_by.iter().map(|column| (*column).into()).collect();
    let spec = TableSpec { schema, partitioned_by, properties: pairs(properties) };
    DeltaTable::create(location(store), &spec).await.unwrap()
}

/// Tables of every kind: plain and partitioned, with files written anew and with rows marked.
pub const KINDS: [(&[&str], &[(&str, &str)]); 4] = [(&[], &[]), (&["value"], &[]), (&[], MARKED), (&["value"], MARKED)];

pub async fn plan(session: &SessionContext, sql: &str) -> LogicalPlan {
    session.sql(sql).await.unwrap().into_unoptimized_plan()
}

/// `(1, 'a'), (2, 'b')` as rows of the table.
pub async fn values(session: &SessionContext, rows: &str) -> LogicalPlan {
    plan(session, &format!("SELECT k AS key, v AS value FROM (VALUES {rows}) AS t(k, v)")).await
}

pub async fn apply_with(session: &SessionContext, table: &DeltaTable, verb: Verb) -> Result<Done, TableError> {
    done(table, session, verb).await
}

pub async fn apply(table: &DeltaTable, verb: Verb) -> Result<Done, TableError> {
    apply_with(&SessionContext::new(), table, verb).await
}

pub async fn append(table: &DeltaTable, rows: &str) -> Done {
    let session = SessionContext::new();
    let rows = values(&session, rows).await;
    apply_with(&session, table, Verb::Append(rows)).await.unwrap()
}

pub fn delete(condition: &str) -> Verb {
    Verb::Delete { condition: Some(condition.to_string()) }
}

pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_replaced_changed_and_removed() {
    for (partitioned_by, properties) in KINDS {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        assert_eq!(append(&table, "(1, 'a'), (2, 'b'), (3, 'b'), (NULL, 'n')").await.rows, Some(4));
        assert_eq!(rows(&store).await, ["1=a", "2=b", "3=b", "null=n"]);
        let done = apply(&table, delete("\"value\" = 'b' AND \"key\" > 2")).await.unwrap();
        assert_eq!((done.rows, done.version), (Some(1), 2));
        let assignments = pairs(&[("key", "\"key\" * 10")]);
        let update = Verb::Update { assignments, condition: Some("\"key\" < 3".into()) };
        assert_eq!(apply(&table, update).await.unwrap().rows, Some(2));
        // A condition that is null is not true.
        assert_eq!(rows(&store).await, ["10=a", "20=b", "null=n"]);
        let session = SessionContext::new();
        let overwrite = Verb::Overwrite(values(&session, "(7, 'x')").await);
        assert_eq!(apply_with(&session, &table, overwrite).await.unwrap().rows, Some(1));
        assert_eq!(rows(&store).await, ["7=x"]);
        assert_eq!(rows_at(&store, Some(1)).await, ["1=a", "2=b", "3=b", "null=n"]);
        apply(&table, Verb::Delete { condition: None }).await.unwrap();
        assert_eq!(rows(&store).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_does_the_first_clause_that_fits() {
    for (partitioned_by, properties) in KINDS {
        merge_of_all_clauses(partitioned_by, properties).await;
    }
}

async fn merge_of_all_clauses(partitioned_by: &[&str], properties: &[(&str, &str)]) {
    let store = memory();
    let table = created_with(&store, partitioned_by, properties).await;
    append(&table, "(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')").await;
    let session = SessionContext::new();
    let source = values(&session, "(1, 'gone'), (2, 'new b'), (8, 'h'), (9, 'skipped')").await;
    let merge = MergeVerb {
        source,
        target_alias: "t".into(),
        source_alias: "s".into(),
        on: "\"t\".\"key\" = \"s\".\"key\"".into(),
        clauses: vec![
            MergeClause::DeleteMatched { condition: Some("\"s\".\"value\" = 'gone'".into()) },
            MergeClause::UpdateMatched { condition: None, assignments: pairs(&[("value", "\"s\".\"value\" || '!'")]) },
            MergeClause::Insert {
                condition: Some("\"s\".\"value\" <> 'skipped'".into()),
                values: pairs(&[("key", "\"s\".\"key\""), ("value", "\"s\".\"value\"")]),
            },
            MergeClause::UpdateUnmatched {
                condition: Some("\"t\".\"key\" = 4".into()),
                assignments: pairs(&[("value", "'left'")]),
            },
            MergeClause::DeleteUnmatched { condition: None },
        ],
    };
    let done = apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap();
    assert_eq!(rows(&store).await, ["2=new b!", "4=left", "8=h"]);
    assert_eq!(done.rows, Some(5), "{done:?}");
    let count = |name| done.figures.iter().find(|(figure, _)| *figure == name).map(|(_, count)| *count);
    assert_eq!((count("rows_inserted"), count("rows_updated"), count("rows_deleted")), (Some(1), Some(2), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_source_rows_for_one_row_are_refused_and_change_nothing() {
    for (partitioned_by, properties) in KINDS {
        two_source_rows(partitioned_by, properties).await;
    }
}

async fn two_source_rows(partitioned_by: &[&str], properties: &[(&str, &str)]) {
    let store = memory();
    let table = created_with(&store, partitioned_by, properties).await;
    append(&table, "(1, 'a')").await;
    let session = SessionContext::new();
    let source = values(&session, "(1, 'x'), (1, 'y')").await;
    let merge = MergeVerb {
        source,
        target_alias: "t".into(),
        source_alias: "s".into(),
        on: "\"t\".\"key\" = \"s\".\"key\"".into(),
        clauses: vec![MergeClause::UpdateMatched {
            condition: None,
            assignments: pairs(&[("value", "\"s\".\"value\"")]),
        }],
    };
    let error = apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap_err();
    assert!(matches!(&error, TableError::Verb { verb: "MERGE", .. }), "{error}");
    assert_eq!(rows(&store).await, ["1=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_deleted_whatever_matches_may_match_twice() {
    for (partitioned_by, properties) in KINDS {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        append(&table, "(1, 'a'), (2, 'b')").await;
        let session = SessionContext::new();
        let source = values(&session, "(1, 'x'), (1, 'y')").await;
        let merge = MergeVerb {
            source,
            target_alias: "t".into(),
            source_alias: "s".into(),
            on: "\"t\".\"key\" = \"s\".\"key\"".into(),
            clauses: vec![MergeClause::DeleteMatched { condition: None }],
        };
        let done = apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap();
        assert_eq!((done.rows, rows(&store).await), (Some(1), vec!["2=b".to_string()]), "{partitioned_by:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_constraints_are_added_and_kept() {
    let store = memory();
    let table = created(&store, &[]).await;
    append(&table, "(1, 'a')").await;
    let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Float64, true)]));
    apply(&table, Verb::AddColumns(more)).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a=null"]);
    let check = |check: &str| Verb::AddConstraint { name: "small".into(), check: check.into() };
    let broken = apply(&table, check("\"key\" > 5")).await.unwrap_err();
    assert!(matches!(&broken, TableError::Verb { verb: "ADD CONSTRAINT", .. }), "{broken}");
    apply(&table, check("\"key\" < 5")).await.unwrap();
    let session = SessionContext::new();
    let wide = plan(&session, "SELECT CAST(7 AS BIGINT) AS key, 'x' AS value, CAST(NULL AS DOUBLE) AS more").await;
    let refused = apply_with(&session, &table, Verb::Append(wide.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("small") || matches!(refused, TableError::Verb { .. }), "{refused}");
    assert_eq!(rows(&store).await, ["1=a=null"]);
    apply(&table, Verb::DropConstraint { name: "small".into(), if_exists: false }).await.unwrap();
    apply_with(&session, &table, Verb::Append(wide)).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a=null", "7=x=null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_put_together_cleaned_up_and_an_old_version_restored() {
    let store = memory();
    let table = created(&store, &[]).await;
    for row in ["(1, 'a')", "(2, 'b')", "(3, 'c')"] {
        append(&table, row).await;
    }
    assert_eq!(files(&store).await, 3);
    let done = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
    assert_eq!((done.version, files(&store).await), (4, 1));
    assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c"]);
    let short = Verb::Clean(Clean { retain_hours: Some(0), ..Clean::default() });
    let refused = apply(&table, short.clone()).await.unwrap_err();
    assert!(matches!(&refused, TableError::Verb { verb: "VACUUM", .. }), "{refused}");
    apply(&table, Verb::Restore { version: 2 }).await.unwrap();
    assert_eq!(rows(&store).await, ["1=a", "2=b"]);
    let retention = pairs(&[("delta.deletedFileRetentionDuration", "interval 0 hours")]);
    apply(&table, Verb::SetProperties(retention)).await.unwrap();
    let dry = Verb::Clean(Clean { dry_run: true, ..Clean::default() });
    let told = apply(&table, dry).await.unwrap();
    assert!(told.figures.iter().any(|(name, count)| *name == "files_removed" && *count > 0), "{told:?}");
    assert_eq!(rows_at(&store, Some(3)).await, ["1=a", "2=b", "3=c"]);
    apply(&table, short).await.unwrap();
    // The newest version has all its files.
    assert_eq!(rows(&store).await, ["1=a", "2=b"]);
    let history = table.history(20).await.unwrap();
    let operations: Vec<&str> = history.iter().filter_map(|version| version.operation.as_deref()).collect();
    assert!(operations.contains(&"OPTIMIZE") && operations.contains(&"RESTORE"), "{operations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_are_done_one_after_the_other() {
    for (partitioned_by, properties) in KINDS {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        append(&table, "(0, 'count'), (1, 'a'), (2, 'b'), (3, 'c')").await;
        let other = DeltaTable::open(location(&store)).await.unwrap();
        let one_more = || Verb::Update {
            assignments: pairs(&[("key", "\"key\" + 1")]),
            condition: Some("\"value\" = 'count'".into()),
        };
        let (a, b, _, c, d) = tokio::join!(
            apply(&table, delete("\"value\" = 'a'")),
            apply(&other, one_more()),
            append(&other, "(5, 'e')"),
            apply(&table, one_more()),
            apply(&other, delete("\"value\" = 'b'")),
        );
        [a, b, c, d].into_iter().for_each(|done| _ = done.unwrap());
        let after = rows(&store).await;
        assert_eq!(
            after,
            ["2=count", "3=c", "5=e"],
            "{partitioned_by:?} {properties:?}: an update or an append was lost"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_that_read_an_old_version_is_no_overwrite() {
    let store = memory();
    let table = created(&store, &[]).await;
    let session = SessionContext::new();
    let base = table.version().await.unwrap();
    append(&table, "(1, 'a')").await;
    for rows in ["(2, 'b')", "(3, 'c')"] {
        let overwrite = Verb::Overwrite(values(&session, rows).await);
        let late = table.apply(&session.state(), base, "a late one", overwrite).await.unwrap_err();
        assert!(matches!(late, TableError::Conflict { .. }), "{late}");
    }
    assert_eq!(rows(&store).await, ["1=a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_not_done_again() {
    for properties in [&[], MARKED] {
        let store = memory();
        let table = created_with(&store, &[], properties).await;
        append(&table, "(1, 'a')").await;
        let base = table.version().await.unwrap();
        let session = SessionContext::new().state();
        let one_more = || Verb::Update { assignments: pairs(&[("key", "\"key\" + 1")]), condition: None };
        let done = table.apply(&session, base, "the statement", one_more()).await.unwrap();
        // Whoever heard nothing of it tries once more, over what it knew.
        let again = table.apply(&session, base, "the statement", one_more()).await.unwrap();
        assert_eq!(again.version, done.version);
        assert_eq!(rows(&store).await, ["2=a"]);
        let other = table.apply(&session, base, "another statement", one_more()).await.unwrap_err();
        assert!(matches!(other, TableError::Conflict { .. }), "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_with_a_dot_is_one_column() {
    let store = memory();
    let schema =
        Arc::new(Schema::new(vec![Field::new("a.b", DataType::Int64, true), Field::new("b", DataType::Int64, true)]));
    let spec = TableSpec { schema, partitioned_by: vec![], properties: vec![] };
    let table = DeltaTable::create(location(&store), &spec).await.unwrap();
    let session = SessionContext::new();
    let row = plan(&session, "SELECT CAST(1 AS BIGINT) AS \"a.b\", CAST(2 AS BIGINT) AS b").await;
    apply_with(&session, &table, Verb::Append(row)).await.unwrap();
    let update = Verb::Update { assignments: pairs(&[("a.b", "7")]), condition: None };
    apply(&table, update).await.unwrap();
    assert_eq!(rows(&store).await, ["7=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_and_statements_beside_it_keep_out_of_each_others_way() {
    let store = memory();
    let sink = open(&store, merge()).await.unwrap();
    for (number, text) in [(1, "+1=a"), (2, "+2=b"), (3, "+3=c")] {
        sink.commit(vec![epoch(number, text)]).await.unwrap();
    }
    let table = DeltaTable::open(location(&store)).await.unwrap();
    assert_eq!(table.owner().await.unwrap().as_deref(), Some(OURS));
    apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
    sink.commit(vec![epoch(4, "-1=a +1=z +4=d")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=z", "2=b", "3=c", "4=d"]);
    let clean = Verb::Clean(Clean { everything: true, ..Clean::default() });
    apply(&table, clean).await.unwrap();
    sink.commit(vec![epoch(5, "-4=d")]).await.unwrap();
    assert_eq!(rows(&store).await, ["1=z", "2=b", "3=c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_a_moment_is_found() {
    let store = memory();
    let table = created(&store, &[]).await;
    append(&table, "(1, 'a')").await;
    let history = table.history(10).await.unwrap();
    let created_ms = history.last().unwrap().committed_ms.unwrap();
    let newest = table.version_at(created_ms + 3_600_000).await.unwrap();
    assert_eq!(newest, 1);
    let error = table.version_at(created_ms - 3_600_000).await.unwrap_err();
    assert!(matches!(error, TableError::MissingTime { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_spares_versions_from_which_somebody_reads_on() {
    for (partitioned_by, properties) in KINDS {
        for everything in [false, true] {
            let store = memory();
            let no_wait = ("delta.deletedFileRetentionDuration", "interval 0 hours");
            let properties: Vec<_> = properties.iter().copied().chain([no_wait]).collect();
            let table = created_with(&store, partitioned_by, &properties).await;
            append(&table, "(1, 'a'), (2, 'b'), (3, 'c'), (4, 'a')").await;
            apply(&table, delete("\"key\" = 1")).await.unwrap();
            append(&table, "(5, 'a')").await;
            apply(&table, delete("\"key\" IN (2, 5)")).await.unwrap();
            apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
            let clean = |needed: &[i64]| {
                Verb::Clean(Clean { everything, retain_hours: Some(0), needed: needed.to_vec(), ..Clean::default() })
            };
            // One that is forgotten, or is still to come, hinders nothing.
            apply(&table, clean(&[2, 99, -1])).await.unwrap();
            assert_eq!(rows_at(&store, Some(2)).await, ["2=b", "3=c", "4=a"], "{properties:?}, {everything}");
            assert_eq!(rows(&store).await, ["3=c", "4=a"]);
            apply(&table, clean(&[])).await.unwrap();
            assert_eq!(rows(&store).await, ["3=c", "4=a"]);
            let provider = DeltaTable::open(location(&store)).await.unwrap().scan(Some(2)).await.unwrap();
            SessionContext::new().read_table(provider).unwrap().collect().await.expect_err("its files are gone");
        }
    }
}

/// A folder's name may have signs that are encoded in a log, and encoded once more in what it is encoded to.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_spares_files_whose_names_are_encoded_twice() {
    let store = memory();
    let properties = [MARKED[0], ("delta.deletedFileRetentionDuration", "interval 0 hours")];
    let table = created_with(&store, &["value"], &properties).await;
    append(&table, "(1, 'a%3Ab c'), (2, 'a%3Ab c'), (3, '10:00 %25'), (4, '10:00 %25')").await;
    apply(&table, delete("\"key\" IN (1, 3)")).await.unwrap();
    let newest = table.version().await.unwrap();
    append(&table, "(5, 'x')").await;
    apply(&table, Verb::Clean(Clean::default())).await.unwrap();
    assert_eq!(rows(&store).await, ["2=a%3Ab c", "4=10:00 %25", "5=x"]);
    apply(&table, Verb::Restore { version: newest }).await.unwrap();
    apply(&table, Verb::Clean(Clean::default())).await.unwrap();
    assert_eq!(rows(&store).await, ["2=a%3Ab c", "4=10:00 %25"]);
}
