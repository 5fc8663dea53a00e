//! MIN and MAX: the best value alone while rows are only added, all values in order where they may be taken back.

use super::{Accumulate, decode_bytes, decode_values, encode_bytes, take_array, valid};
use crate::error::Result;
use crate::state::RowCodec;
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray, downcast_primitive};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, ToByteSlice};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// MIN or MAX of a type.
pub(super) fn extreme(max: bool, data_type: &DataType, append_only: bool) -> Result<Box<dyn Accumulate>> {
    macro_rules! of_primitive {
        ($primitive:ty, $data_type:ident) => {
            if append_only {
                Box::new(Best::<$primitive> { max, data_type: $data_type.clone(), best: vec![], found: vec![] })
            } else {
                Box::new(Bag::<$primitive> { max, data_type: $data_type.clone(), values: vec![] })
            }
        };
    }
    Ok(downcast_primitive! {
        data_type => (of_primitive, data_type),
        _ => {
            let codec = RowCodec::new([data_type])?;
            if append_only {
                Box::new(BestBytes { max, codec, data_type: data_type.clone(), best: vec![] })
            } else {
                Box::new(BagBytes { max, codec, data_type: data_type.clone(), values: vec![] })
            }
        }
    })
}

/// MIN or MAX of numbers and times that are never taken back.
struct Best<T: ArrowPrimitiveType> {
    max: bool,
    data_type: DataType,
    best: Vec<T::Native>,
    found: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Accumulate for Best<T> {
    fn resize(&mut self, slots: usize) {
        self.best.resize(slots.max(self.best.len()), T::Native::default());
        self.found.resize(slots.max(self.found.len()), false);
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let valid = valid(values);
        let values = values.as_primitive::<T>().values();
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            let (value, at) = (values[row], *slot as usize);
            let better = if self.max { value.is_gt(self.best[at]) } else { value.is_lt(self.best[at]) };
            if better || !self.found[at] {
                self.best[at] = value;
                self.found[at] = true;
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let best = slots.iter().map(|slot| self.found[*slot as usize].then(|| self.best[*slot as usize]));
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(best).with_data_type(self.data_type.clone())))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(u8::from(self.found[slot as usize]));
        out.extend_from_slice(self.best[slot as usize].to_byte_slice());
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.found[slot as usize] = take_array::<1>(bytes)? == [1];
        self.best[slot as usize] = take_native::<T>(bytes)?;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.found[slot as usize] = false;
    }

    fn memory(&self) -> usize {
        self.best.capacity() * size_of::<T::Native>() + self.found.capacity()
    }
}

fn take_native<T: ArrowPrimitiveType>(bytes: &mut &[u8]) -> Option<T::Native> {
    let (value, rest) = bytes.split_at_checked(size_of::<T::Native>())?;
    *bytes = rest;
    ScalarBuffer::<T::Native>::from(Buffer::from(value)).first().copied()
}

/// A value in the order of its type; floats in total order.
struct Ordered<T: ArrowPrimitiveType>(T::Native);

impl<T: ArrowPrimitiveType> Ord for Ordered<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(other.0)
    }
}

impl<T: ArrowPrimitiveType> PartialOrd for Ordered<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ArrowPrimitiveType> PartialEq for Ordered<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: ArrowPrimitiveType> Eq for Ordered<T> {}

/// MIN or MAX of numbers and times that may be taken back.
struct Bag<T: ArrowPrimitiveType> {
    max: bool,
    data_type: DataType,
    values: Vec<BTreeMap<Ordered<T>, i64>>,
}

impl<T: ArrowPrimitiveType> Accumulate for Bag<T> {
    fn resize(&mut self, slots: usize) {
        self.values.resize_with(slots.max(self.values.len()), BTreeMap::new);
    }

    fn update(&mut self, slots: &[u32], values: &ArrayRef, weights: &[i64]) -> Result<()> {
        let valid = valid(values);
        let values = values.as_primitive::<T>().values();
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            match self.values[*slot as usize].entry(Ordered(values[row])) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(weights[row]);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    *entry.get_mut() += weights[row];
                    if *entry.get() == 0 {
                        entry.remove();
                    }
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
            found.map(|(value, _)| value.0)
        };
        let best = PrimitiveArray::<T>::from_iter(slots.iter().map(best));
        Ok(Arc::new(best.with_data_type(self.data_type.clone())))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let bag = &self.values[slot as usize];
        out.extend_from_slice(&(bag.len() as u64).to_le_bytes());
        for (value, weight) in bag {
            out.extend_from_slice(value.0.to_byte_slice());
            out.extend_from_slice(&weight.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        let entries = u64::from_le_bytes(take_array(bytes)?);
        let mut bag = BTreeMap::new();
        for _ in 0..entries {
            let value = Ordered(take_native::<T>(bytes)?);
            bag.insert(value, i64::from_le_bytes(take_array(bytes)?));
        }
        self.values[slot as usize] = bag;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = BTreeMap::new();
    }

    fn memory(&self) -> usize {
        self.values.iter().map(|bag| 24 + bag.len() * (size_of::<T::Native>() + 12)).sum()
    }
}

/// MIN or MAX of rows that are never taken back: only the best value is kept.
struct BestBytes {
    max: bool,
    codec: RowCodec,
    data_type: DataType,
    best: Vec<Option<Box<[u8]>>>,
}

impl Accumulate for BestBytes {
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
struct BagBytes {
    max: bool,
    codec: RowCodec,
    data_type: DataType,
    values: Vec<BTreeMap<Box<[u8]>, i64>>,
}

impl Accumulate for BagBytes {
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
