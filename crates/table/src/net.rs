//! Several epochs as one change: weights of equal rows are added up, so that what was inserted and taken back again in
//! between never reaches the table.
//!
//! Rows are compared by their bytes in Arrow's row format: null equals null, and floats equal when their bits do.

use crate::TableError;
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, Rows, SortField};
use rivermere_base::{Changes, Weights};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of one output batch when rows from many places are gathered.
const GATHER_ROWS: usize = 8192;

/// Whether every weight is at least zero, so that the rows can be appended as they are, without comparing them.
pub fn only_inserts(changes: &[Changes]) -> bool {
    changes.iter().all(|part| match part.weights() {
        Weights::Ones => true,
        Weights::Each(weights) => weights.values().iter().all(|weight| *weight >= 0),
    })
}

/// Rows to add, one batch at a time: each row as often as its weight says.
///
/// `changes` must be [`only_inserts`]; a negative weight counts as zero.
///
/// # Errors
/// When a batch would be too large to build.
pub fn repeated(changes: &Changes) -> Result<RecordBatch, ArrowError> {
    if changes.is_append_only() || (0..changes.num_rows()).all(|row| changes.weight(row) == 1) {
        return Ok(changes.batch().clone());
    }
    let places = (0..changes.num_rows())
        .flat_map(|row| std::iter::repeat_n((0, row), usize::try_from(changes.weight(row)).unwrap_or(0)))
        .collect::<Vec<_>>();
    gather_one(&changes.schema(), &[changes.batch()], &places)
}

/// The rows whose weights do not cancel, as batches of a few thousand rows.
///
/// # Errors
/// [`TableError::Retraction`] when a row is taken back more often than it is inserted.
pub fn append(view: &str, schema: &SchemaRef, changes: &[Changes]) -> Result<Vec<RecordBatch>, NetError> {
    let all = encode(schema, changes, &(0..schema.fields().len()).collect::<Vec<_>>())?;
    let mut places = Vec::new();
    let mut retracted = 0_u64;
    for net in sum(changes, &all).into_values() {
        match usize::try_from(net.weight) {
            Ok(times) => places.extend(std::iter::repeat_n(net.place, times)),
            Err(_) => retracted += net.weight.unsigned_abs(),
        }
    }
    if retracted > 0 {
        return Err(TableError::Retraction { view: view.to_string(), rows: retracted }.into());
    }
    places.sort_unstable();
    Ok(gather(schema, changes, &places)?)
}

/// The final state of every key that changed.
#[derive(Debug)]
pub struct Merge {
    /// Key columns, one row for each key whose row was inserted, changed or deleted.
    pub keys: RecordBatch,
    /// The rows that those of the keys have now which still have one.
    pub rows: Vec<RecordBatch>,
}

/// What to remove and what to add so that a table with one row a key follows the changes.
///
/// # Errors
/// [`TableError::NotAKey`] when a key ends with more than one row, [`TableError::InvalidSpec`] when `key` is empty or
/// names no column.
pub fn merge(view: &str, schema: &SchemaRef, key: &[String], changes: &[Changes]) -> Result<Merge, NetError> {
    let columns = key_columns(schema, key)?;
    let all = encode(schema, changes, &(0..schema.fields().len()).collect::<Vec<_>>())?;
    let keys = encode(schema, changes, &columns)?;

    // Of each key: where to find it, and the row it ends with.
    let mut ends: RowMap<'_, (Place, Option<Place>)> = RowMap::default();
    let mut ambiguous = 0_u64;
    for net in sum(changes, &all).into_values().filter(|net| net.weight != 0) {
        let Some(rows) = keys.get(net.place.0) else { continue };
        let end = ends.entry(rows.row(net.place.1)).or_insert((net.place, None));
        if net.weight > 0 {
            ambiguous += u64::from(net.weight > 1 || end.1.is_some());
            end.1 = Some(net.place);
        }
    }
    if ambiguous > 0 {
        return Err(TableError::NotAKey { view: view.to_string(), key: key.join(", "), keys: ambiguous }.into());
    }
    let mut changed = ends.values().map(|(key, _)| *key).collect::<Vec<_>>();
    let mut rows = ends.values().filter_map(|(_, row)| *row).collect::<Vec<_>>();
    changed.sort_unstable();
    rows.sort_unstable();

    let key_schema = Arc::new(schema.project(&columns)?);
    let key_batches = changes.iter().map(|part| part.batch().project(&columns)).collect::<Result<Vec<_>, _>>()?;
    let keys = gather_one(&key_schema, &key_batches.iter().collect::<Vec<_>>(), &changed)?;
    Ok(Merge { keys, rows: gather(schema, changes, &rows)? })
}

/// Positions of the key columns.
///
/// # Errors
/// [`TableError::InvalidSpec`] when there are none or one is not in the schema.
pub fn key_columns(schema: &Schema, key: &[String]) -> Result<Vec<usize>, TableError> {
    if key.is_empty() {
        return Err(TableError::InvalidSpec { reason: "a merged table needs at least one key column".to_string() });
    }
    key.iter()
        .map(|name| {
            schema.index_of(name).map_err(|_| TableError::InvalidSpec {
                reason: format!("key column '{name}' is not a column of the view"),
            })
        })
        .collect()
}

/// Why changes could not be netted: a rule of the table, or values that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Batch and row.
type Place = (usize, usize);
/// Rows come from our own operators and are many, so the hash is seeded but not cryptographic.
type RowMap<'a, V> = HashMap<Row<'a>, V, foldhash::fast::RandomState>;

/// One distinct row: where it was first seen, and the sum of its weights.
struct Net {
    place: Place,
    weight: i64,
}

impl Net {
    fn add(&mut self, weight: i64) {
        self.weight = self.weight.saturating_add(weight);
    }
}

fn encode(schema: &SchemaRef, changes: &[Changes], columns: &[usize]) -> Result<Vec<Rows>, ArrowError> {
    let fields = columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    changes.iter().map(|part| converter.convert_columns(part.batch().project(columns)?.columns())).collect()
}

fn sum<'a>(changes: &[Changes], rows: &'a [Rows]) -> RowMap<'a, Net> {
    let mut nets = RowMap::with_capacity_and_hasher(rows.iter().map(Rows::num_rows).sum(), Default::default());
    for (batch, (part, rows)) in changes.iter().zip(rows).enumerate() {
        for (index, row) in rows.iter().enumerate() {
            nets.entry(row).or_insert(Net { place: (batch, index), weight: 0 }).add(part.weight(index));
        }
    }
    nets
}

fn gather(schema: &SchemaRef, changes: &[Changes], places: &[Place]) -> Result<Vec<RecordBatch>, ArrowError> {
    let batches = changes.iter().map(Changes::batch).collect::<Vec<_>>();
    places.chunks(GATHER_ROWS).map(|chunk| gather_one(schema, &batches, chunk)).collect()
}

fn gather_one(schema: &SchemaRef, batches: &[&RecordBatch], places: &[Place]) -> Result<RecordBatch, ArrowError> {
    if places.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    interleave_record_batch(batches, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true), Field::new("value", DataType::Utf8, true)]))
    }

    fn changes(rows: &[(Option<i64>, &str, i64)]) -> Changes {
        let keys = rows.iter().map(|row| row.0).collect::<Int64Array>();
        let values = StringArray::from_iter_values(rows.iter().map(|row| row.1));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap();
        Changes::with_weights(batch, rows.iter().map(|row| row.2).collect()).unwrap()
    }

    fn text(batches: &[RecordBatch]) -> Vec<String> {
        let mut lines = Vec::new();
        for batch in batches {
            let keys = batch.column(0).as_primitive::<Int64Type>();
            let values = batch.column(1).as_string::<i32>();
            for row in 0..batch.num_rows() {
                let key = if keys.is_null(row) { "null".to_string() } else { keys.value(row).to_string() };
                lines.push(format!("{key}={}", values.value(row)));
            }
        }
        lines
    }

    fn merged(parts: &[Changes]) -> (usize, Vec<String>) {
        let merge = merge("v", &schema(), &["key".to_string()], parts).unwrap();
        (merge.keys.num_rows(), text(&merge.rows))
    }

    #[test]
    fn what_was_inserted_and_taken_back_is_not_appended() {
        let parts = [changes(&[(Some(1), "a", 1), (Some(2), "b", 2)]), changes(&[(Some(1), "a", -1), (None, "c", 1)])];
        assert!(!only_inserts(&parts));
        assert_eq!(text(&append("v", &schema(), &parts).unwrap()), ["2=b", "2=b", "null=c"]);
    }

    #[test]
    fn a_net_deletion_is_no_append() {
        let error = append("v", &schema(), &[changes(&[(Some(1), "a", 1), (Some(1), "b", -2)])]).unwrap_err();
        assert!(matches!(error, NetError::Table(TableError::Retraction { rows: 2, .. })), "{error}");
    }

    #[test]
    fn inserts_are_repeated_by_weight() {
        assert_eq!(text(&[repeated(&changes(&[(Some(1), "a", 0), (Some(2), "b", 3)])).unwrap()]), ["2=b"; 3]);
    }

    #[test]
    fn a_key_ends_with_its_last_row_whatever_the_order_of_changes() {
        let first = changes(&[(Some(1), "old", -1), (Some(1), "mid", 1), (None, "n", 1)]);
        let second = changes(&[(Some(1), "new", 1), (Some(1), "mid", -1), (Some(2), "gone", -1)]);
        assert_eq!(merged(&[first.clone(), second.clone()]), (3, vec!["null=n".to_string(), "1=new".to_string()]));
        assert_eq!(merged(&[second, first]).0, 3);
    }

    #[test]
    fn an_update_that_was_undone_touches_no_key() {
        let there = changes(&[(Some(1), "a", -1), (Some(1), "b", 1)]);
        let back = changes(&[(Some(1), "b", -1), (Some(1), "a", 1)]);
        assert_eq!(merged(&[there, back]), (0, vec![]));
    }

    #[test]
    fn two_rows_of_one_key_are_refused() {
        for rows in [&[(Some(1), "a", 1), (Some(1), "b", 1)][..], &[(Some(1), "a", 2)]] {
            let error = merge("v", &schema(), &["key".to_string()], &[changes(rows)]).unwrap_err();
            assert!(matches!(error, NetError::Table(TableError::NotAKey { keys: 1, .. })), "{error}");
        }
    }

    #[test]
    fn a_key_must_be_a_column() {
        for key in [vec![], vec!["missing".to_string()]] {
            assert!(merge("v", &schema(), &key, &[]).is_err());
        }
    }
}
