//! Aggregate state as columns: one entry a group, updated with weights so that a deletion undoes an insertion exactly.

mod extreme;
mod sum;

use crate::error::{Result, StreamError};
use crate::state::RowCodec;
use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use extreme::extreme;
use sum::{Count, SumDecimal, SumFloat, SumInteger};

/// One aggregate function's state of all groups; `slots` name the groups.
pub(super) trait Accumulate: Send {
    /// Makes room for `slots` groups.
    fn resize(&mut self, slots: usize);
    /// Adds row `i` of `values` to group `slots[i]`, `weights[i]` times; rows where `weights[i]` is 0 are skipped.
    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()>;
    /// One result for each slot.
    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef>;
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()>;
    fn clear(&mut self, slot: u32);
    fn memory(&self) -> usize;
}

/// The state for a function by DataFusion's name, input and output type.
pub(super) fn accumulator(
    function: &str,
    input: &DataType,
    output: &DataType,
    append_only: bool,
) -> Result<Box<dyn Accumulate>> {
    Ok(match (function, input, output) {
        ("count", _, _) => Box::new(Count::default()),
        ("sum", DataType::Int64, _) => Box::new(SumInteger::<Int64Type>::default()),
        ("sum", DataType::UInt64, _) => Box::new(SumInteger::<UInt64Type>::default()),
        ("sum", DataType::Float64, _) => Box::new(SumFloat::sum()),
        ("avg", DataType::Float64, _) => Box::new(SumFloat::average()),
        ("sum", DataType::Decimal128(_, _), DataType::Decimal128(_, _)) => Box::new(SumDecimal::sum(output)),
        ("avg", DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if to >= from => {
            Box::new(SumDecimal::average(output, (to - from).unsigned_abs()))
        }
        ("min" | "max", data_type, _) => extreme(function == "max", data_type, append_only)?,
        _ => {
            return Err(StreamError::Operator {
                view: String::new(),
                message: format!("{function}({input}) cannot be maintained; cast the argument to DOUBLE or BIGINT"),
            });
        }
    })
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn valid(values: &ArrayRef) -> impl Fn(usize) -> bool + '_ {
    let nulls = values.logical_nulls();
    move |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}

fn encode_bytes(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(&u32::MAX.to_le_bytes()),
        Some(value) => {
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
    }
}

#[allow(clippy::option_option)] // outer: damaged bytes; inner: no value
fn decode_bytes(bytes: &mut &[u8]) -> Option<Option<Box<[u8]>>> {
    let len = u32::from_le_bytes(take_array(bytes)?);
    if len == u32::MAX {
        return Some(None);
    }
    let (value, rest) = bytes.split_at_checked(len as usize)?;
    *bytes = rest;
    Some(Some(value.into()))
}

/// Encoded values back to a column, with null for none.
fn decode_values<'a>(
    codec: &RowCodec,
    data_type: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef> {
    let null = codec.encode(&[new_null_array(data_type, 1)], 1)?;
    let values: Vec<&[u8]> = values.map(|value| value.unwrap_or_else(|| null.get(0))).collect();
    let mut columns = codec.decode(values)?;
    columns.pop().ok_or_else(|| StreamError::Operator { view: String::new(), message: "no value column".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Decimal128Array, UInt64Array};
    use arrow::datatypes::Decimal128Type;
    use std::sync::Arc;

    #[test]
    fn an_average_of_decimals_has_the_outputs_scale() {
        let mut average =
            accumulator("avg", &DataType::Decimal128(10, 2), &DataType::Decimal128(14, 6), false).unwrap();
        average.resize(1);
        let values: ArrayRef = Arc::new(Decimal128Array::from(vec![100, 201]).with_precision_and_scale(10, 2).unwrap());
        average.update(&[0, 0], &values, &[1, 1]).unwrap();
        let result = average.evaluate(&[0]).unwrap();
        assert_eq!(result.as_primitive::<Decimal128Type>().value_as_string(0), "1.505000");
    }

    #[test]
    fn an_unsigned_sum_past_its_range_is_an_error_and_not_a_wrapped_number() {
        let mut sum = accumulator("sum", &DataType::UInt64, &DataType::UInt64, true).unwrap();
        sum.resize(1);
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
        sum.update(&[0, 0], &values, &[1, 1]).unwrap();
        assert!(sum.evaluate(&[0]).is_err());
    }
}
