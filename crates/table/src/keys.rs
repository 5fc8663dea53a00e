//! The keys whose rows a merge takes out of a table.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use std::collections::HashSet;

/// Values of the key columns, one row for each key that changed.
pub struct Keys {
    rows: HashSet<Box<[u8]>>,
    /// The least and the greatest of each column, null left out; nothing when one is null.
    ranges: Vec<Option<(ScalarValue, ScalarValue)>>,
    converter: RowConverter,
}

impl Keys {
    /// # Errors
    /// For columns of types that cannot be compared.
    pub fn new(keys: &RecordBatch) -> Result<Self, ArrowError> {
        let fields = keys.columns().iter().map(|column| SortField::new(column.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let rows = converter.convert_columns(keys.columns())?.iter().map(|row| Box::from(row.as_ref())).collect();
        let ranges = keys.columns().iter().map(range).collect();
        Ok(Self { rows, ranges, converter })
    }

    /// Which rows have none of the keys, in their first `columns` columns.
    ///
    /// # Errors
    /// When these are of other types than the keys.
    pub fn others(&self, batch: &RecordBatch, columns: usize) -> Result<BooleanArray, ArrowError> {
        let columns = batch.columns().get(..columns).unwrap_or(batch.columns());
        let encoded = self.converter.convert_columns(columns)?;
        Ok(encoded.iter().map(|row| Some(!self.rows.contains(row.as_ref()))).collect())
    }

    /// Whether a file may have rows of the keys: `bounds` are the least and the greatest value of each of its key columns, where they are
    /// known.
    pub fn may_be_within(&self, bounds: impl Fn(usize) -> (Option<ScalarValue>, Option<ScalarValue>)) -> bool {
        let is_outside = |(at, range): (usize, &Option<(ScalarValue, ScalarValue)>)| {
            let Some((least, greatest)) = range else { return false };
            let (lower, upper) = bounds(at);
            lower.is_some_and(|lower| *greatest < lower) || upper.is_some_and(|upper| *least > upper)
        };
        !self.rows.is_empty() && !self.ranges.iter().enumerate().any(is_outside)
    }
}

/// Of a column without nulls.
fn range(column: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    if column.null_count() > 0
        || column.is_empty()
        || column.data_type().is_nested()
        || column.data_type().is_floating()
    {
        return None;
    }
    let values = (0..column.len()).map(|row| ScalarValue::try_from_array(column, row).ok());
    let values = values.collect::<Option<Vec<_>>>()?;
    let by = |one: &ScalarValue, other: &ScalarValue| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal);
    let least = values.iter().min_by(|one, other| by(one, other))?.clone();
    let greatest = values.iter().max_by(|one, other| by(one, other))?.clone();
    Some((least, greatest))
}
