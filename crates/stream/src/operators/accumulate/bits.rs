//! BOOL_AND, BOOL_OR, BIT_AND, BIT_OR, BIT_XOR: how often each bit is set tells all of them, and counts go back.

use super::{Accumulate, take_array, valid};
use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, downcast_integer};
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, DataType};
use std::sync::Arc;

pub(super) struct BoolCounts {
    all: bool,
    /// Of true and of false.
    counts: Vec<[i64; 2]>,
}

impl BoolCounts {
    pub(super) fn new(all: bool) -> Self {
        Self { all, counts: vec![] }
    }
}

impl Accumulate for BoolCounts {
    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), [0; 2]);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let valid = valid(&arguments[0]);
        let values = arguments[0].as_boolean();
        for (row, slot) in slots.iter().enumerate() {
            if valid(row) {
                self.counts[*slot as usize][usize::from(!values.value(row))] += weights[row];
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let result = |slot: &u32| match self.counts[*slot as usize] {
            [0, 0] => None,
            [_, no] if self.all => Some(no == 0),
            [yes, _] => Some(yes > 0),
        };
        Ok(Arc::new(slots.iter().map(result).collect::<BooleanArray>()))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        for count in self.counts[slot as usize] {
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.counts[slot as usize] = [i64::from_le_bytes(take_array(bytes)?), i64::from_le_bytes(take_array(bytes)?)];
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = [0; 2];
    }

    fn memory(&self) -> usize {
        self.counts.capacity() * 16
    }
}

#[derive(Clone, Copy)]
enum Operation {
    And,
    Or,
    Xor,
}

pub(super) struct BitCounts {
    operation: Operation,
    data_type: DataType,
    /// Rows of each group, then those that have each bit.
    counts: Vec<(i64, Box<[i64; 64]>)>,
}

impl BitCounts {
    pub(super) fn new(name: &str, data_type: &DataType) -> Self {
        let operation = match name {
            "bit_and" => Operation::And,
            "bit_or" => Operation::Or,
            _ => Operation::Xor,
        };
        Self { operation, data_type: data_type.clone(), counts: vec![] }
    }

    fn add<T: ArrowPrimitiveType>(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) {
        let valid = valid(values);
        let values = values.as_primitive::<T>().values();
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            let (rows, counts) = &mut self.counts[*slot as usize];
            *rows += weights[row];
            // Negative numbers have all the high bits; the result is cut to the type's width again.
            let mut bits = values[row].as_usize() as u64;
            while bits != 0 {
                counts[bits.trailing_zeros() as usize] += weights[row];
                bits &= bits - 1;
            }
        }
    }

    fn results<T: ArrowPrimitiveType>(&self, slots: &[u32]) -> ArrayRef {
        let result = |slot: &u32| {
            let (rows, counts) = &self.counts[*slot as usize];
            let is_set = |count: &i64| match self.operation {
                Operation::And => count == rows,
                Operation::Or => *count > 0,
                Operation::Xor => count % 2 != 0,
            };
            let bits =
                counts.iter().enumerate().filter(|(_, count)| is_set(count)).fold(0, |all, (bit, _)| all | 1 << bit);
            (*rows != 0).then(|| T::Native::usize_as(bits))
        };
        Arc::new(slots.iter().map(result).collect::<PrimitiveArray<T>>())
    }
}

fn no_integer(data_type: &DataType) -> StreamError {
    StreamError::Operator { view: String::new(), message: format!("{data_type} has no bits to count") }
}

impl Accumulate for BitCounts {
    fn resize(&mut self, slots: usize) {
        self.counts.resize_with(slots.max(self.counts.len()), || (0, Box::new([0; 64])));
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        macro_rules! add {
            ($integer:ty) => {
                self.add::<$integer>(slots, &arguments[0], weights)
            };
        }
        downcast_integer! {
            arguments[0].data_type() => (add),
            other => return Err(no_integer(other))
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        macro_rules! results {
            ($integer:ty) => {
                self.results::<$integer>(slots)
            };
        }
        Ok(downcast_integer! {
            &self.data_type => (results),
            other => return Err(no_integer(other))
        })
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let (rows, counts) = &self.counts[slot as usize];
        out.extend_from_slice(&rows.to_le_bytes());
        for count in counts.iter() {
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        let (rows, counts) = &mut self.counts[slot as usize];
        *rows = i64::from_le_bytes(take_array(bytes)?);
        for count in counts.iter_mut() {
            *count = i64::from_le_bytes(take_array(bytes)?);
        }
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        let (rows, counts) = &mut self.counts[slot as usize];
        (*rows, **counts) = (0, [0; 64]);
    }

    fn memory(&self) -> usize {
        self.counts.len() * (16 + 64 * 8)
    }
}
