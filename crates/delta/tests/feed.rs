//! What came and went between two versions: added to the rows of the one it is the rows of the other.

use crate::verbs::{KINDS, append, apply, apply_with, created, created_with, delete, pairs, values};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;
use object_store::ObjectStore;
use rivermere_base::{Rng as _, SeededRng};
use rivermere_delta::DeltaTable;
use rivermere_table::{Table, TableError, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true), Field::new("key", DataType::Int64, true)]))
}

/// Net weights of rows as text; the columns come in the order that was asked for.
async fn net(table: &DeltaTable, from: Option<i64>, to: i64) -> BTreeMap<String, i64> {
    let mut net = BTreeMap::new();
    let mut changes = table.changes(from, to, &columns()).await.unwrap();
    while let Some(part) = changes.next().await {
        let part = part.unwrap();
        assert_eq!(part.schema(), columns());
        for row in 0..part.num_rows() {
            let shown = text(&[part.batch().project(&[1, 0]).unwrap().slice(row, 1)]).remove(0);
            *net.entry(shown).or_default() += part.weight(row);
        }
    }
    net.retain(|_, weight| *weight != 0);
    net
}

async fn counted(store: &Arc<dyn ObjectStore>, version: Option<i64>) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    if let Some(version) = version {
        rows_at(store, Some(version)).await.into_iter().for_each(|row| *counts.entry(row).or_default() += 1);
    }
    counts
}

pub async fn random_verb(table: &DeltaTable, rng: &SeededRng) {
    let session = SessionContext::new();
    let below = |limit: u64| rng.next_u64() % limit;
    let (key, newest) = (below(6), table.version().await.unwrap() as u64);
    let verb = match below(8) {
        0..=2 => {
            let rows = (0..=below(3)).map(|_| format!("({}, '{}')", below(6), ["a", "b"][below(2) as usize]));
            let rows = rows.collect::<Vec<_>>().join(", ");
            Verb::Append(values(&session, &rows).await)
        }
        3 => delete(&format!("\"key\" = {key}")),
        4 => {
            Verb::Update { assignments: pairs(&[("key", "\"key\" + 1")]), condition: Some(format!("\"key\" = {key}")) }
        }
        5 => Verb::Overwrite(values(&session, &format!("({key}, 'o'), ({key}, 'o')")).await),
        6 => Verb::Compact { z_order: vec![], condition: None },
        7 if newest > 0 => Verb::Restore { version: below(newest) as i64 },
        _ => Verb::Append(values(&session, "(1, 'a')").await),
    };
    apply_with(&session, table, verb).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_between_any_two_versions_lead_from_the_one_to_the_other() {
    for (seed, (partitioned_by, properties)) in (1..).zip(KINDS) {
        let store = memory();
        let table = created_with(&store, partitioned_by, properties).await;
        let rng = SeededRng::new(seed);
        for _ in 0..12 {
            random_verb(&table, &rng).await;
        }
        let newest = table.version().await.unwrap();
        assert!(newest >= 6, "seed {seed} did next to nothing");
        for to in 0..=newest {
            let after = counted(&store, Some(to)).await;
            for from in std::iter::once(None).chain((0..=newest).map(Some)) {
                let mut sum = counted(&store, from).await;
                for (row, weight) in net(&table, from, to).await {
                    *sum.entry(row).or_default() += weight;
                }
                sum.retain(|_, count| *count != 0);
                assert_eq!(sum, after, "seed {seed}: {from:?} to {to}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_only_move_between_files_cancel() {
    let store = memory();
    let table = created(&store, &[]).await;
    append(&table, "(1, 'a')").await;
    append(&table, "(2, 'b')").await;
    apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
    assert!(net(&table, Some(2), 3).await.is_empty());
    assert_eq!(files(&store).await, 1, "it did compact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_new_is_null_before_and_one_that_is_gone_is_told() {
    let store = memory();
    let table = created(&store, &[]).await;
    append(&table, "(1, 'a')").await;
    let added = Schema::new(vec![Field::new("more", DataType::Int64, true)]);
    apply(&table, Verb::AddColumns(Arc::new(added.clone()))).await.unwrap();
    apply(&table, delete("\"key\" = 1")).await.unwrap();
    let mut fields = columns().fields().to_vec();
    fields.push(Arc::new(added.field(0).clone()));
    let mut changes = table.changes(Some(1), 3, &Arc::new(Schema::new(fields))).await.unwrap();
    let part = changes.next().await.unwrap().unwrap();
    assert_eq!((text(&[part.batch().clone()]), part.weight(0)), (vec!["a=1=null".to_string()], -1));
    let missing = Arc::new(Schema::new(vec![Field::new("gone", DataType::Int64, true)]));
    let error = table.changes(None, 3, &missing).await.err().unwrap();
    assert!(matches!(&error, TableError::SchemaMismatch { .. }) && error.to_string().contains("'gone'"), "{error}");
    let other = Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, true)]));
    assert!(table.changes(None, 3, &other).await.is_err(), "another type");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_anew_is_another() {
    let (store, other) = (memory(), memory());
    let (table, made_anew) = (created(&store, &[]).await, created(&other, &[]).await);
    assert_ne!(table.id(0).await.unwrap(), made_anew.id(0).await.unwrap());
    append(&table, "(1, 'a')").await;
    assert_eq!(table.id(0).await.unwrap(), table.id(1).await.unwrap());
}
