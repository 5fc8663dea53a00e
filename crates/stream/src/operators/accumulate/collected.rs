//! Aggregates that need all their rows: ARRAY_AGG, STRING_AGG, MEDIAN. All values of a group are
//! kept, and DataFusion's own function looks at them again, in order, when the group changes.

use super::Accumulate;
use crate::error::Result;
use crate::operators::aggregate::Call;
use crate::state::{RowCodec, ValueBag};
use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::physical_plan::PhysicalExpr;
use std::sync::Arc;

pub(super) struct Collected {
    udf: Arc<AggregateUDF>,
    input: SchemaRef,
    result: FieldRef,
    fields: Vec<FieldRef>,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    ignore_nulls: bool,
    distinct: bool,
    /// The order, then the arguments.
    codec: RowCodec,
    /// Column of the arguments and the order, as the codec has them.
    columns: Vec<usize>,
    bag: ValueBag,
}

impl Collected {
    pub(super) fn new(call: &Call, input: &SchemaRef, codec: RowCodec, columns: Vec<usize>) -> Self {
        Self {
            udf: call.udf.clone(),
            input: input.clone(),
            result: call.result.clone(),
            fields: call.arguments.iter().map(|column| input.fields()[*column].clone()).collect(),
            expressions: call.expressions.clone(),
            ignore_nulls: call.ignore_nulls,
            distinct: call.distinct,
            codec,
            columns,
            bag: ValueBag::default(),
        }
    }

    fn result(&self, slot: u32) -> Result<ScalarValue> {
        let mut rows: Vec<(&[u8], i64)> = self.bag.values(slot).filter(|(_, weight)| *weight > 0).collect();
        rows.sort_unstable();
        let repeated = rows.iter().flat_map(|(row, weight)| {
            std::iter::repeat_n(*row, if self.distinct { 1 } else { usize::try_from(*weight).unwrap_or_default() })
        });
        let columns = self.codec.decode(repeated)?;
        let arguments = &columns[columns.len() - self.fields.len()..];
        let mut accumulator = self.udf.accumulator(AccumulatorArgs {
            return_field: self.result.clone(),
            schema: &self.input,
            ignore_nulls: self.ignore_nulls,
            order_bys: &[],
            is_reversed: false,
            name: self.result.name(),
            is_distinct: false,
            exprs: &self.expressions,
            expr_fields: &self.fields,
        })?;
        if !rows.is_empty() {
            accumulator.update_batch(arguments)?;
        }
        Ok(accumulator.evaluate()?)
    }
}

impl Accumulate for Collected {
    fn resize(&mut self, slots: usize) {
        self.bag.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| arguments[*column].clone()).collect();
        let encoded = self.codec.encode(&columns, slots.len())?;
        for (row, slot) in slots.iter().enumerate() {
            if weights[row] != 0 {
                self.bag.add(*slot, encoded.get(row), weights[row]);
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        if slots.is_empty() {
            return Ok(new_empty_array(self.result.data_type()));
        }
        let results: Vec<ScalarValue> = slots.iter().map(|slot| self.result(*slot)).collect::<Result<_>>()?;
        let results = ScalarValue::iter_to_array(results)?;
        if results.data_type() == self.result.data_type() {
            return Ok(results);
        }
        Ok(arrow::compute::cast(&results, self.result.data_type())?)
    }

    fn encode(&self, _: u32, _: &mut Vec<u8>) {}

    fn decode(&mut self, _: u32, _: &mut &[u8]) -> Option<()> {
        Some(())
    }

    fn clear(&mut self, _: u32) {}

    fn memory(&self) -> usize {
        self.bag.memory()
    }

    fn entries(&mut self, sink: &mut dyn FnMut(u32, &[u8], Option<i64>)) {
        self.bag.entries(sink);
    }

    fn restore_entry(&mut self, slot: u32, entry: &[u8], weight: i64) {
        self.bag.restore(slot, entry, weight);
    }

    fn forget_entries(&mut self, slot: u32, gone: &mut dyn FnMut(&[u8])) {
        self.bag.clear(slot, gone);
    }
}
