//! Aggregate state as columns: one entry a group, updated with weights so that a deletion undoes an insertion exactly.

use crate::error::{Result, StreamError};
use crate::state::RowCodec;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray, new_null_array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use std::collections::BTreeMap;
use std::sync::Arc;

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
        ("sum", DataType::Float64, _) => Box::new(SumFloat { average: false, ..Default::default() }),
        ("avg", DataType::Float64, _) => Box::new(SumFloat { average: true, ..Default::default() }),
        ("sum", DataType::Decimal128(_, _), DataType::Decimal128(_, _)) => {
            Box::new(SumDecimal { output: output.clone(), scale_up: None, ..Default::default() })
        }
        ("avg", DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if to >= from => Box::new(SumDecimal {
            output: output.clone(),
            scale_up: Some(10_i128.pow(u32::from((to - from).unsigned_abs()))),
            ..Default::default()
        }),
        ("min" | "max", data_type, _) => {
            let max = function == "max";
            let codec = RowCodec::new([data_type])?;
            if append_only {
                Box::new(Best { max, codec, data_type: data_type.clone(), best: vec![] })
            } else {
                Box::new(Bag { max, codec, data_type: data_type.clone(), values: vec![] })
            }
        }
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

#[derive(Default)]
struct Count {
    counts: Vec<i64>,
}

impl Accumulate for Count {
    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let valid = valid(values);
        for (row, slot) in slots.iter().enumerate() {
            if valid(row) {
                self.counts[*slot as usize] += weights[row];
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| self.counts[*slot as usize]))))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counts[slot as usize].to_le_bytes());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[slot as usize] = i64::from_le_bytes(take_array(bytes)?);
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
    }

    fn memory(&self) -> usize {
        self.counts.capacity() * 8
    }
}

/// Sums of 64-bit integers, kept in 128 bits so that the order of additions cannot matter.
struct SumInteger<T> {
    sums: Vec<(i128, i64)>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> Default for SumInteger<T> {
    fn default() -> Self {
        Self { sums: vec![], kind: std::marker::PhantomData }
    }
}

impl<T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>> Accumulate for SumInteger<T> {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots.max(self.sums.len()), (0, 0));
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let values = values.as_primitive::<T>();
        for (row, slot) in slots.iter().enumerate() {
            if values.is_valid(row) {
                let value: i128 = values.value(row).into();
                let sum = &mut self.sums[*slot as usize];
                sum.0 = sum.0.wrapping_add(value.wrapping_mul(i128::from(weights[row])));
                sum.1 += weights[row];
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(slots.len());
        for slot in slots {
            let (sum, count) = self.sums[*slot as usize];
            values.push(match (count, T::Native::try_from(sum)) {
                (0, _) => None,
                (_, Ok(value)) => Some(value),
                (_, Err(_)) => {
                    let message =
                        format!("SUM is out of range of {}: cast its argument to DECIMAL or DOUBLE", T::DATA_TYPE);
                    return Err(StreamError::Operator { view: String::new(), message });
                }
            });
        }
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(values)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let (sum, count) = self.sums[slot as usize];
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums[slot as usize] = (i128::from_le_bytes(take_array(bytes)?), i64::from_le_bytes(take_array(bytes)?));
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = (0, 0);
    }

    fn memory(&self) -> usize {
        self.sums.capacity() * size_of::<(i128, i64)>()
    }
}

/// A float sum that deletions undo: two-sum keeps what each addition rounded away, and values that no sum comes back
/// from (NaN, infinities) are counted apart.
#[derive(Clone, Copy, Default)]
struct FloatSum {
    high: f64,
    low: f64,
    count: i64,
    nan: i64,
    positive: i64,
    negative: i64,
}

impl FloatSum {
    fn add(&mut self, value: f64, weight: i64) {
        self.count += weight;
        if value.is_nan() {
            self.nan += weight;
        } else if value == f64::INFINITY {
            self.positive += weight;
        } else if value == f64::NEG_INFINITY {
            self.negative += weight;
        } else {
            self.add_finite(value * weight as f64);
        }
    }

    fn add_finite(&mut self, value: f64) {
        let sum = self.high + value;
        let part = sum - self.high;
        let error = (self.high - (sum - part)) + (value - part);
        self.low += error;
        self.high = sum;
        // Renormalise, so that `low` stays small beside `high`.
        let sum = self.high + self.low;
        self.low -= sum - self.high;
        self.high = sum;
    }

    fn value(&self) -> f64 {
        if self.nan != 0 || (self.positive != 0 && self.negative != 0) {
            f64::NAN
        } else if self.positive != 0 {
            f64::INFINITY
        } else if self.negative != 0 {
            f64::NEG_INFINITY
        } else {
            self.high + self.low
        }
    }
}

#[derive(Default)]
struct SumFloat {
    sums: Vec<FloatSum>,
    average: bool,
}

impl Accumulate for SumFloat {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots.max(self.sums.len()), FloatSum::default());
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let values = values.as_primitive::<Float64Type>();
        for (row, slot) in slots.iter().enumerate() {
            if values.is_valid(row) && weights[row] != 0 {
                self.sums[*slot as usize].add(values.value(row), weights[row]);
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let value = |slot: &u32| {
            let sum = &self.sums[*slot as usize];
            let divisor = if self.average { sum.count as f64 } else { 1.0 };
            (sum.count != 0).then(|| sum.value() / divisor)
        };
        Ok(Arc::new(slots.iter().map(value).collect::<Float64Array>()))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let sum = &self.sums[slot as usize];
        for float in [sum.high, sum.low] {
            out.extend_from_slice(&float.to_le_bytes());
        }
        for count in [sum.count, sum.nan, sum.positive, sum.negative] {
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums[slot as usize] = FloatSum {
            high: f64::from_le_bytes(take_array(bytes)?),
            low: f64::from_le_bytes(take_array(bytes)?),
            count: i64::from_le_bytes(take_array(bytes)?),
            nan: i64::from_le_bytes(take_array(bytes)?),
            positive: i64::from_le_bytes(take_array(bytes)?),
            negative: i64::from_le_bytes(take_array(bytes)?),
        };
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = FloatSum::default();
    }

    fn memory(&self) -> usize {
        self.sums.capacity() * size_of::<FloatSum>()
    }
}

struct SumDecimal {
    sums: Vec<(i128, i64)>,
    output: DataType,
    /// For an average: what the sum is multiplied by to have the output's scale.
    scale_up: Option<i128>,
}

impl Default for SumDecimal {
    fn default() -> Self {
        Self { sums: vec![], output: DataType::Null, scale_up: None }
    }
}

impl Accumulate for SumDecimal {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots.max(self.sums.len()), (0, 0));
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let values = values.as_primitive::<Decimal128Type>();
        for (row, slot) in slots.iter().enumerate() {
            if values.is_valid(row) {
                let sum = &mut self.sums[*slot as usize];
                sum.0 = sum.0.wrapping_add(values.value(row).wrapping_mul(i128::from(weights[row])));
                sum.1 += weights[row];
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let value = |slot: &u32| {
            let (sum, count) = self.sums[*slot as usize];
            match self.scale_up {
                _ if count == 0 => None,
                None => Some(sum),
                Some(scale_up) => Some(sum.wrapping_mul(scale_up) / i128::from(count)),
            }
        };
        let array: Decimal128Array = slots.iter().map(value).collect();
        Ok(Arc::new(array.with_data_type(self.output.clone())))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let (sum, count) = self.sums[slot as usize];
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums[slot as usize] = (i128::from_le_bytes(take_array(bytes)?), i64::from_le_bytes(take_array(bytes)?));
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = (0, 0);
    }

    fn memory(&self) -> usize {
        self.sums.capacity() * size_of::<(i128, i64)>()
    }
}

/// MIN or MAX of rows that are never taken back: only the best value is kept.
struct Best {
    max: bool,
    codec: RowCodec,
    data_type: DataType,
    best: Vec<Option<Box<[u8]>>>,
}

impl Accumulate for Best {
    fn resize(&mut self, slots: usize) {
        self.best.resize(slots.max(self.best.len()), None);
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let encoded = self.codec.encode(std::slice::from_ref(values), values.len())?;
        let valid = valid(values);
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            let value = encoded.get(row);
            let best = &mut self.best[*slot as usize];
            let better = match best {
                None => true,
                Some(best) if self.max => value > best.as_ref(),
                Some(best) => value < best.as_ref(),
            };
            if better {
                match best {
                    Some(bytes) if bytes.len() == value.len() => bytes.copy_from_slice(value),
                    _ => *best = Some(value.into()),
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        decode_values(&self.codec, &self.data_type, slots.iter().map(|slot| self.best[*slot as usize].as_deref()))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        encode_bytes(self.best[slot as usize].as_deref(), out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.best[slot as usize] = decode_bytes(bytes)?;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.best[slot as usize] = None;
    }

    fn memory(&self) -> usize {
        self.best.capacity() * 32
    }
}

/// MIN or MAX of rows that may be taken back: all values with their weights, in order.
struct Bag {
    max: bool,
    codec: RowCodec,
    data_type: DataType,
    values: Vec<BTreeMap<Box<[u8]>, i64>>,
}

impl Accumulate for Bag {
    fn resize(&mut self, slots: usize) {
        self.values.resize(slots.max(self.values.len()), BTreeMap::new());
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let encoded = self.codec.encode(std::slice::from_ref(values), values.len())?;
        let valid = valid(values);
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            let bag = &mut self.values[*slot as usize];
            let value = encoded.get(row);
            match bag.get_mut(value) {
                Some(weight) => {
                    *weight += weights[row];
                    if *weight == 0 {
                        bag.remove(value);
                    }
                }
                None => {
                    bag.insert(value.into(), weights[row]);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let best = |slot: &u32| {
            // Within a step a deletion may be seen before its insertion; at its end no weight is negative.
            let mut values = self.values[*slot as usize].iter().filter(|(_, weight)| **weight > 0);
            let found = if self.max { values.next_back() } else { values.next() };
            found.map(|(value, _)| value.as_ref())
        };
        decode_values(&self.codec, &self.data_type, slots.iter().map(best))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let bag = &self.values[slot as usize];
        out.extend_from_slice(&(bag.len() as u64).to_le_bytes());
        for (value, weight) in bag {
            encode_bytes(Some(value), out);
            out.extend_from_slice(&weight.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        let entries = u64::from_le_bytes(take_array(bytes)?);
        let mut bag = BTreeMap::new();
        for _ in 0..entries {
            let value = decode_bytes(bytes)??;
            bag.insert(value, i64::from_le_bytes(take_array(bytes)?));
        }
        self.values[slot as usize] = bag;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = BTreeMap::new();
    }

    fn memory(&self) -> usize {
        self.values.iter().map(|bag| 24 + bag.len() * 48).sum()
    }
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
    use arrow::array::UInt64Array;

    #[test]
    fn a_float_sum_comes_back_from_a_huge_value_and_from_infinity() {
        let mut sum = FloatSum::default();
        for (value, weight) in [(0.1, 1), (1e17, 1), (f64::INFINITY, 1), (0.2, 1), (1e17, -1), (f64::INFINITY, -1)] {
            sum.add(value, weight);
        }
        assert!((sum.value() - 0.3).abs() < 1e-15, "{}", sum.value());
        assert_eq!(sum.count, 2);
    }

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
