//! How the rows of one snapshot became those of another: the rows of the files that only one of the two names, and of those
//! that have other deletes.
//!
//! Data files never change, so a file with the same deletes has the same rows in both.

use crate::files::Planned;
use crate::reading::Reading;
use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::NestedFieldRef;
use rivermere_base::Changes;
use rivermere_table::{RowChanges, TableError};
use std::collections::HashMap;
use std::sync::Arc;

/// Files whose rows went, and those whose rows came.
pub(crate) fn differing(before: Vec<Planned>, after: Vec<Planned>) -> (Vec<Planned>, Vec<Planned>) {
    let is_same = |one: &Planned, other: &Planned| one.deletes_identity() == other.deletes_identity();
    let old: HashMap<&str, &Planned> = before.iter().map(|planned| (planned.file.name.as_str(), planned)).collect();
    let new: HashMap<&str, &Planned> = after.iter().map(|planned| (planned.file.name.as_str(), planned)).collect();
    let only = |these: &[Planned], others: &HashMap<&str, &Planned>| -> Vec<Planned> {
        let other =
            |planned: &&Planned| others.get(planned.file.name.as_str()).is_none_or(|other| !is_same(planned, other));
        these.iter().filter(other).cloned().collect()
    };
    (only(&before, &new), only(&after, &old))
}

/// The rows of some files, each with a weight, as `columns`.
pub(crate) fn rows(
    reading: &Arc<Reading>,
    files: Vec<Planned>,
    fields: Vec<NestedFieldRef>,
    columns: &SchemaRef,
    weight: i64,
    location: &str,
) -> RowChanges {
    let (reading, columns, location) = (reading.clone(), columns.clone(), location.to_owned());
    let rows = futures::stream::iter(files).then(move |planned| {
        let (reading, fields) = (reading.clone(), fields.clone());
        async move { reading.rows(&planned, &fields).await }
    });
    let change = move |batch: RecordBatch| {
        let change = || {
            let arrays = batch.columns().iter().zip(columns.fields());
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let arrays = arrays.map(|(array, field)| cast_with_options(array, field.data_type(), &options));
            let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(columns.clone(), arrays, &options)?;
            let weights = Int64Array::from_value(weight, batch.num_rows());
            Changes::with_weights(batch, weights)
        };
        change().map_err(|error: ArrowError| {
            TableError::storage("reading the rows that came and went", location.clone(), error)
        })
    };
    rows.try_flatten().map(move |batch| change(batch?)).boxed()
}
