//! DISTINCT: an aggregate over each value once, however often it is there.

use super::{Accumulate, valid};
use crate::error::Result;
use crate::state::{RowCodec, ValueBag};
use arrow::array::{Array, ArrayRef};

/// Hands a value on when its first row comes and takes it back when its last one goes.
pub(super) struct Distinct {
    codec: RowCodec,
    bag: ValueBag,
    of: Box<dyn Accumulate>,
}

impl Distinct {
    pub(super) fn new(codec: RowCodec, of: Box<dyn Accumulate>) -> Self {
        Self { codec, bag: ValueBag::default(), of }
    }
}

impl Accumulate for Distinct {
    fn resize(&mut self, slots: usize) {
        self.bag.resize(slots);
        self.of.resize(slots);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let values = &arguments[0];
        let encoded = self.codec.encode(arguments, values.len())?;
        let valid = valid(values);
        let mut signs = vec![0; slots.len()];
        for (row, slot) in slots.iter().enumerate() {
            if valid(row) && weights[row] != 0 {
                let (before, after) = self.bag.add(*slot, encoded.get(row), weights[row]);
                signs[row] = i64::from(after > 0) - i64::from(before > 0);
            }
        }
        self.of.update(slots, arguments, &signs)
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        self.of.evaluate(slots)
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
        self.bag.memory() + self.of.memory()
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
