//! UNNEST of one list column: Δ(μ A) = μ ΔA. No state.

use super::{Operator, StepContext};
use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use rivermere_base::{Changes, Weights};

/// Each row once for every item of its list; rows whose list is empty or null vanish.
pub(crate) struct Unnest {
    list: usize,
    /// Input column of each output column.
    sources: Vec<usize>,
    schema: SchemaRef,
}

impl Unnest {
    pub(crate) fn new(list: usize, sources: Vec<usize>, schema: SchemaRef) -> Self {
        Self { list, sources, schema }
    }

    fn apply(&self, changes: &Changes) -> Result<Changes> {
        let batch = changes.batch();
        let column = batch.column(self.list);
        let list = column.as_list_opt::<i32>().ok_or_else(|| StreamError::Operator {
            view: String::new(),
            message: format!("UNNEST of {} is not there", column.data_type()),
        })?;
        let mut rows = vec![];
        let mut items = vec![];
        for row in 0..list.len() {
            if list.is_valid(row) {
                let (from, to) = (list.value_offsets()[row] as u64, list.value_offsets()[row + 1] as u64);
                items.extend(from..to);
                rows.extend(std::iter::repeat_n(row as u64, (to - from) as usize));
            }
        }
        let (rows, items) = (UInt64Array::from(rows), UInt64Array::from(items));
        let columns = self
            .sources
            .iter()
            .map(|source| match *source {
                source if source == self.list => take(list.values(), &items, None),
                source => take(batch.column(source), &rows, None),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let weights = match changes.weights() {
            Weights::Ones => Weights::Ones,
            Weights::Each(each) => {
                Weights::Each(rows.values().iter().map(|row| each.value(*row as usize)).collect::<Int64Array>())
            }
        };
        Ok(Changes::new(RecordBatch::try_new(self.schema.clone(), columns)?, weights)?)
    }
}

impl Operator for Unnest {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, _: &mut StepContext) -> Result<Vec<Changes>> {
        let mut out = vec![];
        for changes in inputs.into_iter().flatten() {
            let unnested = self.apply(&changes)?;
            if !unnested.is_empty() {
                out.push(unnested);
            }
        }
        Ok(out)
    }
}
