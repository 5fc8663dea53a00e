//! The net change of several steps: rows that came and went between two events are never sent.

use crate::ViewChange;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that came and rows that went; a row that came twice is there twice.
pub(super) struct Net {
    pub inserted: RecordBatch,
    pub deleted: RecordBatch,
}

impl Net {
    pub(super) fn is_empty(&self) -> bool {
        self.inserted.num_rows() == 0 && self.deleted.num_rows() == 0
    }
}

/// The sum of `steps`, or `None` when it has more than `limit` rows.
pub(super) fn net(steps: &[Arc<ViewChange>], limit: usize) -> Result<Option<Net>, ArrowError> {
    let Some(schema) = steps.first().map(|step| step.changes.schema()) else { return Ok(None) };
    let all = concat_batches(&schema, steps.iter().map(|step| step.changes.batch()))?;
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(all.columns())?;
    // Row number of the first of equal rows -> weight; the order of rows stays.
    let mut first: HashMap<_, usize> = HashMap::with_capacity(rows.num_rows());
    let mut weights: Vec<i64> = vec![0; rows.num_rows()];
    let given = steps.iter().flat_map(|step| {
        let changes = &step.changes;
        (0..changes.num_rows()).map(move |row| changes.weight(row))
    });
    for (number, (row, weight)) in rows.iter().zip(given).enumerate() {
        let place = *first.entry(row).or_insert(number);
        if let Some(sum) = weights.get_mut(place) {
            *sum = sum.saturating_add(weight);
        }
    }
    let total = weights.iter().fold(0_u64, |total, weight| total.saturating_add(weight.unsigned_abs()));
    if total > limit as u64 {
        return Ok(None);
    }
    let repeated = |sign: i64| {
        let times = |weight: i64| weight.saturating_mul(sign).max(0) as usize;
        let numbers = weights.iter().enumerate();
        let indices: UInt64Array =
            numbers.flat_map(|(row, weight)| std::iter::repeat_n(row as u64, times(*weight))).collect();
        take_record_batch(&all, &indices)
    };
    Ok(Some(Net { inserted: repeated(1)?, deleted: repeated(-1)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChangeId;
    use arrow::array::{AsArray, Float64Array, Int64Array};
    use arrow::datatypes::Int64Type;
    use rivermere_base::Changes;

    fn step(rows: &[(i64, i64)]) -> Arc<ViewChange> {
        let ids = Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
        let parts = Float64Array::from_iter_values(rows.iter().map(|(id, _)| if *id == 7 { f64::NAN } else { 0.5 }));
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as _),
            ("part", Arc::new(parts) as arrow::array::ArrayRef),
        ]);
        let weights = Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight));
        let changes = Changes::with_weights(batch.unwrap(), weights).unwrap();
        Arc::new(ViewChange { id: ChangeId::default(), at_ms: 0, changes })
    }

    fn check(steps: &[&[(i64, i64)]], inserted: &[i64], deleted: &[i64]) {
        let steps: Vec<_> = steps.iter().map(|rows| step(rows)).collect();
        let net = net(&steps, 100).unwrap().unwrap();
        let ids = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(ids(&net.inserted), inserted);
        assert_eq!(ids(&net.deleted), deleted);
    }

    #[test]
    fn what_came_and_went_is_gone() {
        check(&[&[(1, 1), (2, 1)], &[(1, -1), (3, 1)]], &[2, 3], &[]);
        check(&[&[(7, 1)], &[(7, -1)]], &[], &[]);
        check(&[&[(1, -1)], &[(1, 1)], &[(1, -1)]], &[], &[1]);
    }

    #[test]
    fn a_row_that_came_twice_is_there_twice() {
        check(&[&[(1, 2)], &[(2, -3)]], &[1, 1], &[2, 2, 2]);
    }

    #[test]
    fn too_many_rows_are_no_net_change() {
        assert!(net(&[step(&[(1, i64::MAX), (2, i64::MAX)])], 100).unwrap().is_none());
    }
}
