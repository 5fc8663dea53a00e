//! The slices of a version as the pieces of a scan.

use crate::reading::Reading;
use crate::slices::Slice;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use rivermere_table::{Batches, Filter, Pieces, ROW_COLUMN, TableError};
use std::sync::Arc;

impl Pieces for Reading {
    type Piece = Slice;

    fn bytes(slice: &Slice) -> u64 {
        slice.bytes()
    }

    fn rows(
        self: Arc<Self>,
        slice: Slice,
        columns: SchemaRef,
        filter: Option<Filter>,
    ) -> BoxFuture<'static, Result<Batches, TableError>> {
        Box::pin(async move {
            // Where rows are counted, none is left out.
            let place = columns.index_of(ROW_COLUMN).ok();
            let filter = filter.filter(|_| place.is_none());
            let rows = self.filtered(&slice, &columns, filter.as_ref()).await?;
            Ok(match place {
                Some(at) => counted(rows, at),
                None => rows,
            })
        })
    }
}

/// With the numbers of rows in the column that is for them.
fn counted(rows: Batches, at: usize) -> Batches {
    let mut next = 0_i64;
    let counted = move |batch: Result<RecordBatch, TableError>| {
        let batch = batch?;
        let first = next;
        next += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let mut columns = batch.columns().to_vec();
        if let Some(column) = columns.get_mut(at) {
            *column = Arc::new(Int64Array::from_iter_values(first..next));
        }
        RecordBatch::try_new(batch.schema(), columns)
            .map_err(|error| TableError::storage("numbering rows", String::new(), error))
    };
    rows.map(counted).boxed()
}

/// The rows of slices, one after the other.
pub(crate) fn rows(reading: &Arc<Reading>, slices: Vec<Slice>, wanted: &SchemaRef) -> Batches {
    let (reading, wanted) = (reading.clone(), wanted.clone());
    let rows = futures::stream::iter(slices).then(move |slice| {
        let (reading, wanted) = (reading.clone(), wanted.clone());
        async move { reading.filtered(&slice, &wanted, None).await }
    });
    rows.try_flatten().boxed()
}
