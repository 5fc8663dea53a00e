//! Columns renamed, dropped, added again and widened: what files hold stays readable under the new names, and only that.

use crate::verbs::{KINDS, MARKED, append, apply, apply_with, created_with, delete, pairs, plan, values};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;
use rivermere_delta::DeltaTable;
use rivermere_table::{Done, EditableTable, MergeClause, MergeVerb, Table, TableError, TableSpec, Verb};
use std::sync::Arc;

fn rename(from: &str, to: &str) -> Verb {
    Verb::RenameColumn { from: from.into(), to: to.into() }
}

fn optimize() -> Verb {
    Verb::Compact { z_order: vec![], condition: None }
}

async fn names(table: &DeltaTable) -> Vec<String> {
    table.schema().await.unwrap().fields().iter().map(|field| field.name().clone()).collect()
}

fn added(name: &str) -> Verb {
    Verb::AddColumns(Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_has_its_values_and_takes_every_statement() {
    for (partitioned_by, properties) in KINDS {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        append(&table, "(1, 'a'), (2, 'b'), (3, 'c')").await;
        apply(&table, rename("value", "name")).await.unwrap();
        apply(&table, rename("key", "id")).await.unwrap();
        assert_eq!(names(&table).await, ["id", "name"]);
        assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c"]);
        let session = SessionContext::new();
        let more = plan(&session, "SELECT CAST(4 AS BIGINT) AS id, 'd' AS name").await;
        apply_with(&session, &table, Verb::Append(more)).await.unwrap();
        apply(&table, delete("\"name\" = 'b'")).await.unwrap();
        let update =
            Verb::Update { assignments: pairs(&[("id", "\"id\" * 10")]), condition: Some("\"id\" = 3".into()) };
        apply(&table, update).await.unwrap();
        let merge = MergeVerb {
            source: plan(&session, "SELECT k AS id, v AS name FROM (VALUES (1, 'z'), (9, 'n')) AS t(k, v)").await,
            target_alias: "t".into(),
            source_alias: "s".into(),
            on: "\"t\".\"id\" = \"s\".\"id\"".into(),
            clauses: vec![
                MergeClause::UpdateMatched { condition: None, assignments: pairs(&[("name", "\"s\".\"name\"")]) },
                MergeClause::Insert {
                    condition: None,
                    values: pairs(&[("id", "\"s\".\"id\""), ("name", "\"s\".\"name\"")]),
                },
            ],
        };
        apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap();
        let expected = ["1=z", "30=c", "4=d", "9=n"];
        assert_eq!(rows(&store).await, expected, "{partitioned_by:?}, {properties:?}");
        let before = files(&store).await;
        apply(&table, optimize()).await.unwrap();
        assert_eq!(rows(&store).await, expected, "{partitioned_by:?}, {properties:?}");
        assert!(files(&store).await <= before);
        // Conditions find their files by statistics, which have the names of the files.
        apply(&table, delete("\"id\" > 20")).await.unwrap();
        assert_eq!(rows(&store).await, ["1=z", "4=d", "9=n"]);
        // Each version with the names that it had.
        assert_eq!(rows_at(&store, Some(1)).await, ["1=a", "2=b", "3=c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_does_not_come_back_with_its_name() {
    for properties in [&[][..], MARKED] {
        let store = memory();
        let table = created_with(&store, &[], properties).await;
        append(&table, "(1, 'old')").await;
        apply(&table, Verb::DropColumn("value".into())).await.unwrap();
        assert_eq!((names(&table).await, rows(&store).await), (vec!["key".to_string()], vec!["1".to_string()]));
        apply(&table, added("value")).await.unwrap();
        assert_eq!(rows(&store).await, ["1=null"], "another column of the same name");
        append(&table, "(2, 'new')").await;
        apply(&table, optimize()).await.unwrap();
        assert_eq!((rows(&store).await, files(&store).await), (vec!["1=null".to_string(), "2=new".to_string()], 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_or_named_by_a_rule_are_not_given_away() {
    let store = memory();
    let table = created_with(&store, &["value"], &[]).await;
    append(&table, "(1, 'a')").await;
    apply(&table, Verb::AddConstraint { name: "small".into(), check: "\"key\" < 5".into() }).await.unwrap();
    let version = table.version().await.unwrap();
    for (verb, said) in [
        (rename("value", "Key"), "there already"),
        (rename("key", "id"), "'small'"),
        (Verb::DropColumn("key".into()), "'small'"),
        (Verb::DropColumn("value".into()), "partitioned"),
        (Verb::WidenColumn { column: "key".into(), to: DataType::Int32 }, "not every value"),
        (Verb::WidenColumn { column: "value".into(), to: DataType::Utf8 }, "partitioned"),
    ] {
        let error = apply(&table, verb).await.unwrap_err();
        assert!(matches!(&error, TableError::Verb { .. }) && error.to_string().contains(said), "{error}");
    }
    apply(&table, Verb::DropConstraint { name: "small".into(), if_exists: false }).await.unwrap();
    let last = apply(&table, Verb::DropColumn("key".into())).await.unwrap_err();
    assert!(last.to_string().contains("at least one column"), "{last}");
    assert_eq!(table.version().await.unwrap(), version + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_type_holds_every_value() {
    let store = memory();
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int32, true),
        Field::new("d", DataType::Date32, true),
        Field::new("m", DataType::Decimal128(5, 2), true),
        Field::new("p", DataType::Utf8, true),
    ]));
    let spec = TableSpec { schema, partitioned_by: vec!["p".into()], properties: vec![] };
    let table = DeltaTable::create(location(&store), &spec).await.unwrap();
    let session = SessionContext::new();
    let row =
        "SELECT CAST(2147483647 AS INT) AS n, DATE '2026-01-02' AS d, CAST(999.99 AS DECIMAL(5, 2)) AS m, 'x' AS p";
    let first = plan(&session, row).await;
    apply_with(&session, &table, Verb::Append(first)).await.unwrap();
    for (column, to) in [
        ("n", DataType::Int64),
        ("d", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("m", DataType::Decimal128(10, 4)),
    ] {
        apply(&table, Verb::WidenColumn { column: column.into(), to: to.clone() }).await.unwrap();
        let schema = table.schema().await.unwrap();
        assert_eq!(schema.field_with_name(column).unwrap().data_type(), &to);
    }
    let row =
        "SELECT 5000000000 AS n, TIMESTAMP '2026-01-02 03:04:05' AS d, CAST(1.2345 AS DECIMAL(10, 4)) AS m, 'y' AS p";
    let second = plan(&session, row).await;
    apply_with(&session, &table, Verb::Append(second)).await.unwrap();
    assert_eq!(
        rows(&store).await,
        ["2147483647=2026-01-02T00:00:00=999.9900=x", "5000000000=2026-01-02T03:04:05=1.2345=y"]
    );
    assert_eq!(rows_at(&store, Some(1)).await, ["2147483647=2026-01-02=999.99=x"]);
    let partitions = library_table(&store).await;
    assert_eq!(partitions.snapshot().unwrap().metadata().partition_columns(), &["p".to_string()]);
}

/// A statement that read an older version.
async fn late(session: &SessionContext, table: &DeltaTable, base: i64, verb: Verb) -> Result<Done, TableError> {
    table.apply(&session.state(), base, "a late statement", verb).await
}

/// Were the compaction not noticed, rows would be there twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_over_files_that_were_compacted_meanwhile_starts_over() {
    let session = SessionContext::new();
    for (partitioned_by, properties) in KINDS {
        for what in 0..5 {
            let store = memory();
            let table = created_with(&store, partitioned_by, properties).await;
            append(&table, "(1, 'a'), (2, 'a')").await;
            append(&table, "(3, 'a')").await;
            let base = table.version().await.unwrap();
            let done = apply(&table, optimize()).await.unwrap();
            assert_eq!(done.version, base + 1);
            let (verb, after) = match what {
                0 => (delete("\"key\" = 1"), vec!["2=a", "3=a"]),
                1 => {
                    let assignments = pairs(&[("key", "9")]);
                    (Verb::Update { assignments, condition: Some("\"key\" = 3".into()) }, vec!["1=a", "2=a", "9=a"])
                }
                2 => {
                    let merge = MergeVerb {
                        source: values(&session, "(2, 'a')").await,
                        target_alias: "t".into(),
                        source_alias: "s".into(),
                        on: "\"t\".\"key\" = \"s\".\"key\"".into(),
                        clauses: vec![MergeClause::DeleteMatched { condition: None }],
                    };
                    (Verb::Merge(Box::new(merge)), vec!["1=a", "3=a"])
                }
                3 => (optimize(), vec!["1=a", "2=a", "3=a"]),
                _ => (Verb::Restore { version: 1 }, vec!["1=a", "2=a"]),
            };
            let told = late(&session, &table, base, verb.clone()).await;
            assert!(matches!(told, Err(TableError::Conflict { .. })), "{what}: {told:?}");
            assert_eq!(rows(&store).await, ["1=a", "2=a", "3=a"], "{what}");
            apply_with(&session, &table, verb).await.unwrap();
            assert_eq!(rows(&store).await, after, "{what}, {partitioned_by:?}, {properties:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_goes_on_beside_rows_that_are_added_and_gives_way_to_those_that_go() {
    let session = SessionContext::new();
    for properties in [&[][..], MARKED] {
        let store = memory();
        let table = created_with(&store, &[], properties).await;
        append(&table, "(1, 'a')").await;
        append(&table, "(2, 'b')").await;
        let base = table.version().await.unwrap();
        append(&table, "(3, 'c')").await;
        let done = late(&session, &table, base, optimize()).await.unwrap();
        assert_eq!((done.version, files(&store).await), (base + 2, 2));
        assert_eq!(rows(&store).await, ["1=a", "2=b", "3=c"]);
        let base = table.version().await.unwrap();
        apply(&table, delete("\"key\" = 2")).await.unwrap();
        let told = late(&session, &table, base, optimize()).await;
        assert!(matches!(told, Err(TableError::Conflict { .. })), "{told:?}");
        assert_eq!(rows(&store).await, ["1=a", "3=c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_partitions_that_are_asked_for_are_put_together() {
    let store = memory();
    let table = created_with(&store, &["value"], &[]).await;
    for row in ["(1, 'a')", "(2, 'a')", "(3, 'b')", "(4, 'b')", "(5, NULL)", "(6, NULL)"] {
        append(&table, row).await;
    }
    let of = |condition: &str| Verb::Compact { z_order: vec![], condition: Some(condition.into()) };
    apply(&table, of("\"value\" = 'a'")).await.unwrap();
    assert_eq!(files(&store).await, 5);
    apply(&table, of("\"value\" IS NULL")).await.unwrap();
    assert_eq!(files(&store).await, 4);
    let refused = apply(&table, of("\"key\" > 3")).await.unwrap_err();
    assert!(refused.to_string().contains("not partitioned by 'key'"), "{refused}");
    let nothing = apply(&table, of("\"value\" = 'a'")).await.unwrap();
    assert_eq!(nothing.version, table.version().await.unwrap());
    assert_eq!(rows(&store).await, ["1=a", "2=a", "3=b", "4=b", "5=null", "6=null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_versions_changed_is_told_with_the_values_of_columns_that_had_other_names() {
    for properties in [&[][..], MARKED] {
        let store = memory();
        let table = created_with(&store, &[], properties).await;
        append(&table, "(1, 'a'), (2, 'b')").await;
        let before = table.version().await.unwrap();
        apply(&table, rename("value", "name")).await.unwrap();
        apply(&table, delete("\"key\" = 1")).await.unwrap();
        let now = table.version().await.unwrap();
        let columns = table.schema().await.unwrap();
        let names = table.names_in(before, now, &columns).await.unwrap();
        assert_eq!(names, [Some("key".to_string()), Some("value".to_string())]);
        let mut changes = table.changes(Some(before), now, &columns).await.unwrap();
        let mut net = std::collections::BTreeMap::<String, i64>::new();
        while let Some(part) = changes.next().await {
            let part = part.unwrap();
            for row in 0..part.num_rows() {
                *net.entry(text(&[part.batch().slice(row, 1)]).remove(0)).or_default() += part.weight(row);
            }
        }
        net.retain(|_, weight| *weight != 0);
        assert_eq!(net.into_iter().collect::<Vec<_>>(), [("1=a".to_string(), -1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_maps_columns_can_be_read_whatever_is_added_and_set_afterwards() {
    for (partitioned_by, properties) in KINDS {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        append(&table, "(1, 'a'), (2, 'b')").await;
        apply(&table, rename("key", "id")).await.unwrap();
        let at = Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true);
        apply(&table, Verb::AddColumns(Arc::new(Schema::new(vec![at])))).await.unwrap();
        assert_eq!(rows(&store).await, ["1=a=null", "2=b=null"]);
        apply(&table, Verb::SetProperties(pairs(MARKED))).await.unwrap();
        assert_eq!(rows(&store).await, ["1=a=null", "2=b=null"], "it still maps its columns");
        apply(&table, delete("\"id\" = 1")).await.unwrap();
        let session = SessionContext::new();
        let row =
            plan(&session, "SELECT CAST(3 AS BIGINT) AS id, 'c' AS value, TIMESTAMP '2026-01-02 03:04:05' AS at").await;
        apply_with(&session, &table, Verb::Append(row)).await.unwrap();
        apply(&table, optimize()).await.unwrap();
        assert_eq!(rows(&store).await, ["2=b=null", "3=c=2026-01-02T03:04:05"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_statistics_are_asked_for_keeps_them_or_its_name() {
    let store = memory();
    let table = created_with(&store, &[], &[("delta.dataSkippingStatsColumns", "value")]).await;
    append(&table, "(1, 'a')").await;
    append(&table, "(2, 'b')").await;
    let refused = apply(&table, rename("value", "name")).await.unwrap_err();
    assert!(refused.to_string().contains("dataSkippingStatsColumns"), "{refused}");
    apply(&table, Verb::DropColumn("key".into())).await.unwrap();
    apply(&table, added("key")).await.unwrap();
    apply(&table, optimize()).await.unwrap();
    let files = library_table(&store).await.snapshot().unwrap().log_data().iter().next().unwrap().stats().unwrap();
    assert!(files.contains(r#""minValues":{"value":"a"}"#), "{files}");
}
