//! Aggregate state as columns: one entry a group, updated with weights so that a deletion undoes an insertion exactly.

mod bits;
mod collected;
mod distinct;
mod extreme;
mod moments;
mod sum;

use super::aggregate::Call;
use crate::error::{Result, StreamError};
use crate::state::RowCodec;
use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use arrow::row::SortField;
use bits::{BitCounts, BoolCounts};
use collected::Collected;
use distinct::Distinct;
use extreme::{ByBytes, extreme};
use moments::Moments;
use sum::{Count, SumDecimal, SumFloat, SumInteger};

/// One aggregate function's state of all groups; `slots` name the groups.
pub(super) trait Accumulate: Send {
    /// Makes room for `slots` groups.
    fn resize(&mut self, slots: usize);
    /// Adds row `i` of the arguments to group `slots[i]`, `weights[i]` times; rows where `weights[i]` is 0 are skipped.
    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()>;
    /// One result for each slot.
    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef>;
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()>;
    fn clear(&mut self, slot: u32);
    fn memory(&self) -> usize;

    /// Tells the entries beside the group's own that changed since the last call: group, entry, weight.
    fn entries(&mut self, _sink: &mut dyn FnMut(u32, &[u8], Option<i64>)) {}
    /// Puts such an entry back.
    fn restore_entry(&mut self, _slot: u32, _entry: &[u8], _weight: i64) {}
    /// Tells the entries that [`clear`](Self::clear) is about to forget.
    fn forget_entries(&mut self, _slot: u32, _gone: &mut dyn FnMut(&[u8])) {}
}

/// The state for a call. `input` has its arguments.
pub(super) fn accumulator(
    call: &Call,
    input: &SchemaRef,
    output: &DataType,
    append_only: bool,
) -> Result<Box<dyn Accumulate>> {
    let name = call.udf.name();
    let from = input.field(call.arguments.first().copied().unwrap_or_default()).data_type();
    let no_order = || vec![];
    let ordered = |order: &[(usize, SortOptions)], columns: &[usize]| {
        let plain = columns.iter().map(|column| (*column, SortOptions::default()));
        let fields = order
            .iter()
            .copied()
            .chain(plain)
            .map(|(column, options)| SortField::new_with_options(input.field(column).data_type().clone(), options));
        RowCodec::with_fields(fields.collect())
    };
    let places =
        |arguments: usize, order: usize| -> Vec<usize> { (arguments..arguments + order).chain(0..arguments).collect() };
    Ok(match name {
        "min" | "max" => extreme(name == "max", from, append_only)?,
        "first_value" | "last_value" => {
            let codec = ordered(&call.order, &call.arguments)?;
            let columns = places(call.arguments.len(), call.order.len());
            ByBytes::new(name == "last_value", codec, columns, output, call.ignore_nulls).boxed(append_only)
        }
        "bool_and" | "bool_or" => Box::new(BoolCounts::new(name == "bool_and")),
        "array_agg" | "string_agg" | "median" => {
            let codec = ordered(&call.order, &call.arguments)?;
            Box::new(Collected::new(call, input, codec, places(call.arguments.len(), call.order.len())))
        }
        _ => {
            let state: Box<dyn Accumulate> = match (name, from, output) {
                ("count", _, _) => Box::new(Count::default()),
                ("sum", DataType::Int64, _) => Box::new(SumInteger::<Int64Type>::default()),
                ("sum", DataType::UInt64, _) => Box::new(SumInteger::<UInt64Type>::default()),
                ("sum", DataType::Float64, _) => Box::new(SumFloat::sum()),
                ("avg", DataType::Float64, _) => Box::new(SumFloat::average()),
                ("sum", DataType::Decimal128(_, _), DataType::Decimal128(_, _)) => Box::new(SumDecimal::sum(output)),
                ("avg", DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if to >= from => {
                    Box::new(SumDecimal::average(output, (to - from).unsigned_abs()))
                }
                ("bit_and" | "bit_or" | "bit_xor", data_type, _) if data_type.is_integer() => {
                    Box::new(BitCounts::new(name, data_type))
                }
                (_, DataType::Float64, DataType::Float64) if Moments::has(name) => Box::new(Moments::new(name)),
                _ => {
                    return Err(StreamError::Operator {
                        view: String::new(),
                        message: format!("{name}({from}) cannot be maintained; cast the argument to DOUBLE or BIGINT"),
                    });
                }
            };
            if call.distinct { Box::new(Distinct::new(ordered(&no_order(), &call.arguments)?, state)) } else { state }
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
