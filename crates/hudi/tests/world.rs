//! What the tests share: tables, their rows, and statements.

use crate::tables::{collect, done};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use rivermere_hudi::HudiTable;
use rivermere_store::LocalDisk;
use rivermere_table::{Done, Location, Table, TableError, TableSpec, Verb};
use std::sync::Arc;

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn location(store: &Arc<dyn ObjectStore>) -> Location {
    Location::new(store.clone(), Path::from("lake/totals"), Arc::new(LocalDisk::new()))
}

pub fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("place", DataType::Utf8, true),
    ]))
}

/// Plain and partitioned, with and without a record key, copied on write and merged on read.
pub const KINDS: [Kind; 6] = [
    (&[], "", "cow"),
    (&["place"], "", "cow"),
    (&[], "key", "cow"),
    (&["place"], "key", "cow"),
    (&[], "key", "mor"),
    (&["place"], "", "mor"),
];

pub type Kind = (&'static [&'static str], &'static str, &'static str);

pub async fn created_at(place: Location, (partitioned_by, key, of): Kind) -> HudiTable {
    let spec = TableSpec {
        schema: columns(),
        partitioned_by: partitioned_by.iter().map(|column| (*column).into()).collect(),
        properties: vec![("primaryKey".into(), key.into()), ("type".into(), of.into())],
    };
    HudiTable::create(place, &spec).await.unwrap()
}

pub async fn created(store: &Arc<dyn ObjectStore>, kind: Kind) -> HudiTable {
    created_at(location(store), kind).await
}

/// The table's rows as sorted text, read by whoever opens it now.
pub async fn rows(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    rows_at(store, None).await.unwrap()
}

pub async fn rows_at(store: &Arc<dyn ObjectStore>, version: Option<i64>) -> Result<Vec<String>, String> {
    let table = HudiTable::open(location(store)).await.unwrap();
    collect(table.scan(version).await.map_err(|error| error.to_string())?).await
}

pub async fn plan(session: &SessionContext, sql: &str) -> LogicalPlan {
    session.sql(sql).await.unwrap().into_unoptimized_plan()
}

pub async fn apply_with(session: &SessionContext, table: &HudiTable, verb: Verb) -> Result<Done, TableError> {
    done(table, session, verb).await
}

pub async fn apply(table: &HudiTable, verb: Verb) -> Result<Done, TableError> {
    apply_with(&SessionContext::new(), table, verb).await
}

/// Adds the rows of a query whose columns are the table's.
pub async fn insert_into(table: &HudiTable, sql: &str) -> Done {
    let session = SessionContext::new();
    let rows = plan(&session, sql).await;
    apply_with(&session, table, Verb::Append(rows)).await.unwrap()
}

pub async fn insert(table: &HudiTable, rows: &str) -> Done {
    insert_into(
        table,
        &format!("SELECT CAST(k AS INT) AS key, v AS value, p AS place FROM (VALUES {rows}) AS t(k, v, p)"),
    )
    .await
}

pub fn delete(condition: &str) -> Verb {
    Verb::Delete { condition: Some(condition.to_string()) }
}

pub fn set(column: &str, value: &str, condition: Option<&str>) -> Verb {
    Verb::Update { assignments: vec![(column.into(), value.into())], condition: condition.map(str::to_string) }
}
