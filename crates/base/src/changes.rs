//! A change to a relation: rows with weights (a Z-set batch).

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;

/// The weights of the rows of one [`Changes`].
#[derive(Clone, Debug)]
pub enum Weights {
    /// Every row is inserted once. No column is kept, so append-only plans pay nothing.
    Ones,
    /// One weight a row; never null, and as long as the batch.
    Each(Int64Array),
}

/// Rows with weights. Rows may repeat and may cancel; the order of rows has no meaning.
#[derive(Clone, Debug)]
pub struct Changes {
    batch: RecordBatch,
    weights: Weights,
}

impl Changes {
    /// Every row of `batch` inserted once.
    pub fn inserts(batch: RecordBatch) -> Self {
        Self { batch, weights: Weights::Ones }
    }

    /// Rows with the given weights.
    ///
    /// # Errors
    /// When the lengths differ or a weight is null.
    pub fn with_weights(batch: RecordBatch, weights: Int64Array) -> Result<Self, ArrowError> {
        if weights.len() != batch.num_rows() || weights.null_count() > 0 {
            return Err(ArrowError::InvalidArgumentError(format!(
                "{} weights ({} null) for {} rows",
                weights.len(),
                weights.null_count(),
                batch.num_rows()
            )));
        }
        Ok(Self { batch, weights: Weights::Each(weights) })
    }

    /// The same rows with other weights or columns of equal length.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn new(batch: RecordBatch, weights: Weights) -> Result<Self, ArrowError> {
        match weights {
            Weights::Ones => Ok(Self::inserts(batch)),
            Weights::Each(each) => Self::with_weights(batch, each),
        }
    }

    /// No rows of the given shape.
    pub fn empty(schema: SchemaRef) -> Self {
        Self::inserts(RecordBatch::new_empty(schema))
    }

    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    pub fn into_parts(self) -> (RecordBatch, Weights) {
        (self.batch, self.weights)
    }

    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    /// Whether every weight is one without looking at the rows.
    pub fn is_append_only(&self) -> bool {
        matches!(self.weights, Weights::Ones)
    }

    /// Weight of row `row`.
    ///
    /// # Panics
    /// When `row` is out of bounds.
    #[inline]
    pub fn weight(&self, row: usize) -> i64 {
        match &self.weights {
            Weights::Ones => 1,
            Weights::Each(weights) => weights.value(row),
        }
    }

    /// The weights as a column.
    pub fn weight_array(&self) -> Int64Array {
        match &self.weights {
            Weights::Ones => Int64Array::from_value(1, self.batch.num_rows()),
            Weights::Each(weights) => weights.clone(),
        }
    }

    /// Rows `indices`, in that order, with their weights.
    ///
    /// # Errors
    /// When an index is out of bounds.
    pub fn take(&self, indices: &UInt64Array) -> Result<Self, ArrowError> {
        let batch = take_record_batch(&self.batch, indices)?;
        let weights = match &self.weights {
            Weights::Ones => Weights::Ones,
            Weights::Each(weights) => {
                Weights::Each(indices.values().iter().map(|index| weights.value(*index as usize)).collect())
            }
        };
        Ok(Self { batch, weights })
    }

    /// The rows where `keep` is true; null counts as false.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn filter(&self, keep: &arrow::array::BooleanArray) -> Result<Self, ArrowError> {
        let batch = filter_record_batch(&self.batch, keep)?;
        let weights = match &self.weights {
            Weights::Ones => Weights::Ones,
            Weights::Each(weights) => {
                let kept = arrow::compute::filter(weights, keep)?;
                Weights::Each(kept.as_primitive::<Int64Type>().clone())
            }
        };
        Ok(Self { batch, weights })
    }

    /// At most `length` rows from `offset` on, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let weights = match &self.weights {
            Weights::Ones => Weights::Ones,
            Weights::Each(weights) => Weights::Each(weights.slice(offset, length)),
        };
        Self { batch: self.batch.slice(offset, length), weights }
    }

    /// All rows of `parts`, in order. `schema` is the shape when there are none.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn concat(schema: &SchemaRef, parts: &[Changes]) -> Result<Self, ArrowError> {
        match parts {
            [] => return Ok(Self::empty(schema.clone())),
            [only] => return Ok(only.clone()),
            _ => {}
        }
        let batch = concat_batches(schema, parts.iter().map(|part| &part.batch))?;
        if parts.iter().all(Changes::is_append_only) {
            return Ok(Self::inserts(batch));
        }
        let mut weights = Vec::with_capacity(batch.num_rows());
        for part in parts {
            match &part.weights {
                Weights::Ones => weights.extend(std::iter::repeat_n(1, part.num_rows())),
                Weights::Each(each) => weights.extend_from_slice(each.values()),
            }
        }
        Self::with_weights(batch, Int64Array::from(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BooleanArray;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn ids(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    #[test]
    fn concat_of_inserts_and_deletes_keeps_each_weight() {
        let inserts = Changes::inserts(ids(&[1, 2]));
        let deletes = Changes::with_weights(ids(&[3]), Int64Array::from(vec![-2])).unwrap();
        let both = Changes::concat(&inserts.schema(), &[inserts.clone(), deletes]).unwrap();
        assert_eq!(both.weight_array().values(), &[1, 1, -2]);
    }

    #[test]
    fn filter_keeps_weights_beside_their_rows() {
        let changes = Changes::with_weights(ids(&[1, 2, 3]), Int64Array::from(vec![5, -1, 7])).unwrap();
        let kept = changes.filter(&BooleanArray::from(vec![Some(true), None, Some(true)])).unwrap();
        assert_eq!(kept.weight_array().values(), &[5, 7]);
    }

    #[test]
    fn a_null_weight_is_refused() {
        assert!(Changes::with_weights(ids(&[1]), Int64Array::from(vec![None])).is_err());
    }
}
