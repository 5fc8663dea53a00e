//! MIN and MAX, FIRST_VALUE and LAST_VALUE: the best value alone while rows are only added, all values in order where they
//! may be taken back.

use super::{Accumulate, decode_bytes, encode_bytes, take_array, valid};
use crate::error::Result;
use crate::state::{EncodedRows, RowCodec};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray, UInt32Array, new_empty_array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float64Type, Int64Type, ToByteSlice};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// MIN or MAX of a type.
pub(super) fn extreme(max: bool, data_type: &DataType, append_only: bool) -> Result<Box<dyn Accumulate>> {
    let path = carrier(data_type);
    let of: Box<dyn Accumulate> = match path.last().unwrap_or(data_type) {
        DataType::Int64 => of_primitive::<Int64Type>(max, &DataType::Int64, append_only),
        DataType::Float64 => of_primitive::<Float64Type>(max, &DataType::Float64, append_only),
        decimal @ DataType::Decimal128(_, _) => of_primitive::<Decimal128Type>(max, decimal, append_only),
        _ => {
            let codec = RowCodec::new([data_type])?;
            ByBytes::new(max, codec, vec![0], data_type, true).boxed(append_only)
        }
    };
    Ok(if path.is_empty() { of } else { Box::new(Carried { data_type: data_type.clone(), path, of }) })
}

fn of_primitive<T: ArrowPrimitiveType>(max: bool, data_type: &DataType, append_only: bool) -> Box<dyn Accumulate> {
    if append_only {
        Box::new(Best::<T> { max, data_type: data_type.clone(), best: vec![], found: vec![] })
    } else {
        Box::new(Bag::<T> { max, data_type: data_type.clone(), values: Bags(vec![]) })
    }
}

/// The casts that bring a type to a wider one of the same order, and back again without loss: three kinds of numbers
/// stand for them all.
fn carrier(data_type: &DataType) -> Vec<DataType> {
    use DataType as D;
    match data_type {
        D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16 | D::UInt32 => vec![D::Int64],
        D::Date64 | D::Time64(_) | D::Timestamp(_, _) | D::Duration(_) => vec![D::Int64],
        D::Date32 | D::Time32(_) => vec![D::Int32, D::Int64],
        D::Float32 => vec![D::Float64],
        _ => vec![],
    }
}

/// An extreme of a type that another type stands for.
struct Carried {
    data_type: DataType,
    path: Vec<DataType>,
    of: Box<dyn Accumulate>,
}

impl Accumulate for Carried {
    fn resize(&mut self, slots: usize) {
        self.of.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let mut values = arguments[0].clone();
        for data_type in &self.path {
            values = cast(&values, data_type)?;
        }
        self.of.update(slots, &[values], weights)
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut values = self.of.evaluate(slots)?;
        for data_type in self.path.iter().rev().skip(1).chain([&self.data_type]) {
            values = cast(&values, data_type)?;
        }
        Ok(values)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.of.encode(slot, out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.of.decode(slot, bytes)
    }

    fn clear(&mut self, slot: u32) {
        self.of.clear(slot);
    }

    fn memory(&self) -> usize {
        self.of.memory()
    }
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

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let values = &arguments[0];
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

/// Of each slot all values in their order, and how often each is there.
struct Bags<K>(Vec<BTreeMap<K, i64>>);

impl<K: Ord> Bags<K> {
    fn resize(&mut self, slots: usize) {
        self.0.resize_with(slots.max(self.0.len()), BTreeMap::new);
    }

    /// The first or last value of a slot.
    fn best(&self, slot: u32, last: bool) -> Option<&K> {
        // Within a step a deletion may be seen before its insertion; at its end no weight is negative.
        let mut values = self.0[slot as usize].iter().filter(|(_, weight)| **weight > 0);
        let found = if last { values.next_back() } else { values.next() };
        found.map(|(value, _)| value)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>, value_into: impl Fn(&K, &mut Vec<u8>)) {
        let bag = &self.0[slot as usize];
        out.extend_from_slice(&(bag.len() as u64).to_le_bytes());
        for (value, weight) in bag {
            value_into(value, out);
            out.extend_from_slice(&weight.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8], value_of: impl Fn(&mut &[u8]) -> Option<K>) -> Option<()> {
        let entries = u64::from_le_bytes(take_array(bytes)?);
        let mut bag = BTreeMap::new();
        for _ in 0..entries {
            let value = value_of(bytes)?;
            bag.insert(value, i64::from_le_bytes(take_array(bytes)?));
        }
        self.0[slot as usize] = bag;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.0[slot as usize] = BTreeMap::new();
    }

    fn memory(&self, entry_bytes: usize) -> usize {
        self.0.iter().map(|bag| 24 + bag.len() * entry_bytes).sum()
    }
}

/// MIN or MAX of numbers and times that may be taken back.
struct Bag<T: ArrowPrimitiveType> {
    max: bool,
    data_type: DataType,
    values: Bags<Ordered<T>>,
}

impl<T: ArrowPrimitiveType> Accumulate for Bag<T> {
    fn resize(&mut self, slots: usize) {
        self.values.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let values = &arguments[0];
        let valid = valid(values);
        let values = values.as_primitive::<T>().values();
        for (row, slot) in slots.iter().enumerate() {
            if !valid(row) || weights[row] == 0 {
                continue;
            }
            match self.values.0[*slot as usize].entry(Ordered(values[row])) {
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
        let best = |slot: &u32| self.values.best(*slot, self.max).map(|value| value.0);
        let best = PrimitiveArray::<T>::from_iter(slots.iter().map(best));
        Ok(Arc::new(best.with_data_type(self.data_type.clone())))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.values.encode(slot, out, |value, out| out.extend_from_slice(value.0.to_byte_slice()));
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.values.decode(slot, bytes, |bytes| take_native::<T>(bytes).map(Ordered))
    }

    fn clear(&mut self, slot: u32) {
        self.values.clear(slot);
    }

    fn memory(&self) -> usize {
        self.values.memory(size_of::<T::Native>() + 12)
    }
}

/// The value of the first or last row in an order; MIN and MAX of values that are no numbers are of this kind.
pub(super) struct ByBytes {
    last: bool,
    /// The order, then the value.
    codec: RowCodec,
    /// Input columns as the codec has them.
    columns: Vec<usize>,
    data_type: DataType,
    skips_nulls: bool,
}

impl ByBytes {
    pub(super) fn new(
        last: bool,
        codec: RowCodec,
        columns: Vec<usize>,
        data_type: &DataType,
        skips_nulls: bool,
    ) -> Self {
        Self { last, codec, columns, data_type: data_type.clone(), skips_nulls }
    }

    pub(super) fn boxed(self, append_only: bool) -> Box<dyn Accumulate> {
        if append_only {
            Box::new(BestBytes { of: self, best: vec![] })
        } else {
            Box::new(BagBytes { of: self, values: Bags(vec![]) })
        }
    }

    fn encode(&self, arguments: &[ArrayRef]) -> Result<EncodedRows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| arguments[*column].clone()).collect();
        self.codec.encode(&columns, arguments[0].len())
    }

    fn takes(&self, arguments: &[ArrayRef]) -> impl Fn(usize) -> bool {
        let nulls = arguments[0].logical_nulls().filter(|_| self.skips_nulls);
        move |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The value of each row, null for none.
    fn values<'a>(&self, rows: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
        let rows: Vec<Option<&[u8]>> = rows.collect();
        let mut found = self.codec.decode(rows.iter().copied().flatten())?;
        let values = found.pop().unwrap_or_else(|| new_empty_array(&self.data_type));
        if values.len() == rows.len() {
            return Ok(values);
        }
        let mut next = 0_u32..;
        let places: UInt32Array = rows.iter().map(|row| row.and_then(|_| next.next())).collect();
        Ok(take(&values, &places, None)?)
    }
}

struct BestBytes {
    of: ByBytes,
    best: Vec<Option<Box<[u8]>>>,
}

impl Accumulate for BestBytes {
    fn resize(&mut self, slots: usize) {
        self.best.resize(slots.max(self.best.len()), None);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let encoded = self.of.encode(arguments)?;
        let takes = self.of.takes(arguments);
        for (row, slot) in slots.iter().enumerate() {
            if !takes(row) || weights[row] == 0 {
                continue;
            }
            let value = encoded.get(row);
            let best = &mut self.best[*slot as usize];
            let better = match best {
                None => true,
                Some(best) if self.of.last => value > best.as_ref(),
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
        self.of.values(slots.iter().map(|slot| self.best[*slot as usize].as_deref()))
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

struct BagBytes {
    of: ByBytes,
    values: Bags<Box<[u8]>>,
}

impl Accumulate for BagBytes {
    fn resize(&mut self, slots: usize) {
        self.values.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let encoded = self.of.encode(arguments)?;
        let takes = self.of.takes(arguments);
        for (row, slot) in slots.iter().enumerate() {
            if !takes(row) || weights[row] == 0 {
                continue;
            }
            let bag = &mut self.values.0[*slot as usize];
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
        let best = |slot: &u32| self.values.best(*slot, self.of.last).map(AsRef::as_ref);
        self.of.values(slots.iter().map(best))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.values.encode(slot, out, |value, out| encode_bytes(Some(value), out));
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        self.values.decode(slot, bytes, |bytes| decode_bytes(bytes)?)
    }

    fn clear(&mut self, slot: u32) {
        self.values.clear(slot);
    }

    fn memory(&self) -> usize {
        self.values.memory(48)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn every_type_comes_back_from_the_one_that_stands_for_it() {
        let zone = Some("UTC".into());
        for data_type in [
            DataType::Int8,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Date32,
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Millisecond, zone),
            DataType::Duration(TimeUnit::Nanosecond),
            DataType::Decimal128(12, 3),
            DataType::Utf8,
        ] {
            let numbers: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![Some(7), None, Some(9)]));
            let numbers = match data_type {
                DataType::Duration(_) | DataType::Timestamp(_, _) | DataType::Time64(_) | DataType::Date64 => {
                    cast(&numbers, &DataType::Int64).unwrap()
                }
                _ => numbers,
            };
            let values = cast(&numbers, &data_type).unwrap();
            for append_only in [true, false] {
                let mut state = extreme(true, &data_type, append_only).unwrap();
                state.resize(2);
                state.update(&[0, 0, 0], std::slice::from_ref(&values), &[1, 1, 1]).unwrap();
                let mut bytes = vec![];
                state.encode(0, &mut bytes);
                state.decode(1, &mut bytes.as_slice()).unwrap();
                let found = state.evaluate(&[0, 1]).unwrap();
                assert_eq!(found.data_type(), &data_type);
                assert_eq!(found.slice(0, 1).to_data(), values.slice(2, 1).to_data(), "{data_type}");
                assert_eq!(found.slice(1, 1).to_data(), values.slice(2, 1).to_data(), "{data_type}");
            }
        }
    }
}
