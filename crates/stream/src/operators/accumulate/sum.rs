//! COUNT, SUM and AVG: sums that a deletion leaves as an insertion found them.

use super::{Accumulate, take_array, valid};
use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float64Type};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulate for Count {
    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let values = &arguments[0];
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

/// Of each slot the sum in 128 bits, so that the order of additions cannot matter, and how many values are in it.
#[derive(Default)]
struct ExactSums(Vec<(i128, i64)>);

impl ExactSums {
    fn resize(&mut self, slots: usize) {
        self.0.resize(slots.max(self.0.len()), (0, 0));
    }

    fn add<T: ArrowPrimitiveType<Native: Into<i128>>>(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) {
        let values = values.as_primitive::<T>();
        for (row, slot) in slots.iter().enumerate() {
            if values.is_valid(row) {
                let value: i128 = values.value(row).into();
                let sum = &mut self.0[*slot as usize];
                sum.0 = sum.0.wrapping_add(value.wrapping_mul(i128::from(weights[row])));
                sum.1 += weights[row];
            }
        }
    }

    fn get(&self, slot: u32) -> (i128, i64) {
        self.0[slot as usize]
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let (sum, count) = self.get(slot);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.0[slot as usize] = (i128::from_le_bytes(take_array(bytes)?), i64::from_le_bytes(take_array(bytes)?));
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.0[slot as usize] = (0, 0);
    }

    fn memory(&self) -> usize {
        self.0.capacity() * size_of::<(i128, i64)>()
    }
}

/// Sums of 64-bit integers.
pub(super) struct SumInteger<T> {
    sums: ExactSums,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> Default for SumInteger<T> {
    fn default() -> Self {
        Self { sums: ExactSums::default(), kind: std::marker::PhantomData }
    }
}

impl<T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>> Accumulate for SumInteger<T> {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        self.sums.add::<T>(slots, &arguments[0], weights);
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(slots.len());
        for slot in slots {
            let (sum, count) = self.sums.get(*slot);
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
        self.sums.encode(slot, out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums.decode(slot, bytes)
    }

    fn clear(&mut self, slot: u32) {
        self.sums.clear(slot);
    }

    fn memory(&self) -> usize {
        self.sums.memory()
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
pub(super) struct SumFloat {
    sums: Vec<FloatSum>,
    average: bool,
}

impl SumFloat {
    pub(super) fn sum() -> Self {
        Self::default()
    }

    pub(super) fn average() -> Self {
        Self { average: true, ..Self::default() }
    }
}

impl Accumulate for SumFloat {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots.max(self.sums.len()), FloatSum::default());
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let values = &arguments[0];
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

pub(super) struct SumDecimal {
    sums: ExactSums,
    output: DataType,
    /// For an average: what the sum is multiplied by to have the output's scale.
    scale_up: Option<i128>,
}

impl SumDecimal {
    pub(super) fn sum(output: &DataType) -> Self {
        Self { sums: ExactSums::default(), output: output.clone(), scale_up: None }
    }

    /// `digits` more behind the point than the values have.
    pub(super) fn average(output: &DataType, digits: u8) -> Self {
        Self { sums: ExactSums::default(), output: output.clone(), scale_up: Some(10_i128.pow(u32::from(digits))) }
    }
}

impl Accumulate for SumDecimal {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        self.sums.add::<Decimal128Type>(slots, &arguments[0], weights);
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let value = |slot: &u32| {
            let (sum, count) = self.sums.get(*slot);
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
        self.sums.encode(slot, out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.sums.decode(slot, bytes)
    }

    fn clear(&mut self, slot: u32) {
        self.sums.clear(slot);
    }

    fn memory(&self) -> usize {
        self.sums.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::UInt64Array;
    use arrow::datatypes::UInt64Type;

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
        let mut average = SumDecimal::average(&DataType::Decimal128(14, 6), 4);
        average.resize(1);
        let values: ArrayRef = Arc::new(Decimal128Array::from(vec![100, 201]).with_precision_and_scale(10, 2).unwrap());
        average.update(&[0, 0], &[values], &[1, 1]).unwrap();
        let result = average.evaluate(&[0]).unwrap();
        assert_eq!(result.as_primitive::<Decimal128Type>().value_as_string(0), "1.505000");
    }

    #[test]
    fn an_unsigned_sum_past_its_range_is_an_error_and_not_a_wrapped_number() {
        let mut sum = SumInteger::<UInt64Type>::default();
        sum.resize(1);
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
        sum.update(&[0, 0], &[values], &[1, 1]).unwrap();
        assert!(sum.evaluate(&[0]).is_err());
    }
}
