//! GROUP BY and DISTINCT.
//!
//! Δγ(A): each group that ΔA touches emits minus its old row and plus its new one, once a step. A group is there while
//! the weights of its rows sum to more than 0; without GROUP BY there is one group, always.
//! State: one entry a group. When a group column is bounded by a watermark, groups below the bound are let go: no row
//! can reach them any more, and their last row stays in the view.

use super::accumulate::{Accumulate, accumulator};
use super::{Operator, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{KeyTable, RowCodec};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use rivermere_base::Changes;
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;

/// One aggregate call: its argument's column in the input, and the column of its FILTER.
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) argument: usize,
    pub(crate) filter: Option<usize>,
}

/// Input columns: the groups first, then arguments and filters as the calls name them.
pub(crate) struct Aggregate {
    groups: usize,
    calls: Vec<Call>,
    accumulators: Vec<Box<dyn Accumulate>>,
    schema: SchemaRef,
    group_codec: RowCodec,
    result_codec: RowCodec,
    keys: KeyTable,
    /// Sum of row weights of each slot.
    weights: Vec<i64>,
    bound: Option<(usize, TimeBound)>,
    /// Slots by the bounded column's value in microseconds.
    by_time: BTreeMap<i64, Vec<u32>>,
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    removed: Vec<Box<[u8]>>,
    /// The global group has not been shown yet.
    unborn: bool,
}

impl Aggregate {
    pub(crate) fn new(
        groups: usize,
        calls: Vec<Call>,
        input: &SchemaRef,
        schema: SchemaRef,
        append_only_input: bool,
        bound: Option<(usize, TimeBound)>,
    ) -> Result<Self> {
        let mut accumulators = vec![];
        for (index, call) in calls.iter().enumerate() {
            let (from, to) = (input.field(call.argument).data_type(), schema.field(groups + index).data_type());
            accumulators.push(accumulator(&call.function, from, to, append_only_input)?);
        }
        let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        let group_codec = RowCodec::new(types[..groups].iter().copied())?;
        let result_codec = RowCodec::new(types[groups..].iter().copied())?;
        let mut aggregate = Self {
            groups,
            calls,
            accumulators,
            group_codec,
            result_codec,
            schema,
            keys: KeyTable::new(),
            weights: vec![],
            bound,
            by_time: BTreeMap::new(),
            dirty: vec![],
            is_dirty: vec![],
            removed: vec![],
            unborn: groups == 0,
        };
        if groups == 0 {
            aggregate.intern(&[]);
        }
        Ok(aggregate)
    }

    fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.keys.intern(key);
        if new {
            let slots = self.keys.slots();
            if slots > self.weights.len() {
                self.weights.resize(slots, 0);
                self.is_dirty.resize(slots, false);
                for accumulator in &mut self.accumulators {
                    accumulator.resize(slots);
                }
            }
        }
        (slot, new)
    }

    fn is_shown(&self, slot: u32) -> bool {
        self.weights[slot as usize] > 0 || (self.groups == 0 && !self.unborn)
    }

    fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter().map(|accumulator| accumulator.evaluate(slots)).collect()
    }

    fn mark_dirty(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.is_dirty[slot as usize], true) {
            self.dirty.push(slot);
        }
    }

    fn forget(&mut self, slot: u32) {
        self.removed.push(self.keys.key(slot).into());
        self.weights[slot as usize] = 0;
        self.is_dirty[slot as usize] = false;
        for accumulator in &mut self.accumulators {
            accumulator.clear(slot);
        }
        self.keys.remove(slot);
    }

    /// Slots of the rows of one batch; `touched` collects each slot of the step once.
    fn assign(&mut self, changes: &Changes, seen: &mut Vec<bool>, touched: &mut Vec<u32>) -> Result<Vec<u32>> {
        let columns = &changes.batch().columns()[..self.groups];
        let encoded = self.group_codec.encode(columns, changes.num_rows())?;
        let times = match &self.bound {
            Some((column, _)) => Some(microseconds(changes.batch().column(*column))?),
            None => None,
        };
        let mut slots = Vec::with_capacity(changes.num_rows());
        for (row, key) in encoded.iter().enumerate() {
            let (slot, new) = self.intern(key);
            if new && let Some(times) = times.as_ref().filter(|times| times.is_valid(row)) {
                self.by_time.entry(times.value(row)).or_default().push(slot);
            }
            seen.resize(self.keys.slots(), false);
            if !std::mem::replace(&mut seen[slot as usize], true) {
                touched.push(slot);
            }
            slots.push(slot);
        }
        Ok(slots)
    }

    fn update(&mut self, changes: &Changes, slots: &[u32]) -> Result<()> {
        let weights = changes.weight_array();
        for (slot, weight) in slots.iter().zip(weights.values()) {
            self.weights[*slot as usize] += weight;
        }
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            let argument = changes.batch().column(call.argument);
            match call.filter {
                None => accumulator.update(slots, argument, weights.values())?,
                Some(filter) => {
                    let mask = changes.batch().column(filter).as_boolean();
                    let masked: Vec<i64> = weights
                        .values()
                        .iter()
                        .enumerate()
                        .map(|(row, weight)| if mask.is_valid(row) && mask.value(row) { *weight } else { 0 })
                        .collect();
                    accumulator.update(slots, argument, &masked)?;
                }
            }
        }
        Ok(())
    }

    /// −old and +new of the touched groups, without those whose row stays the same.
    fn difference(
        &self,
        old_slots: &[u32],
        old: &[ArrayRef],
        new_slots: &[u32],
        new: &[ArrayRef],
    ) -> Result<Vec<Changes>> {
        let old_rows = self.result_codec.encode(old, old_slots.len())?;
        let new_rows = self.result_codec.encode(new, new_slots.len())?;
        let mut new_at = std::collections::HashMap::with_capacity(new_slots.len());
        for (index, slot) in new_slots.iter().enumerate() {
            new_at.insert(*slot, index);
        }
        let mut minus = vec![];
        let mut unchanged = vec![false; new_slots.len()];
        for (index, slot) in old_slots.iter().enumerate() {
            match new_at.get(slot) {
                Some(at) if new_rows.get(*at) == old_rows.get(index) => unchanged[*at] = true,
                _ => minus.push(index as u64),
            }
        }
        let plus: Vec<u64> =
            (0..new_slots.len()).filter(|index| !unchanged[*index]).map(|index| index as u64).collect();
        if minus.is_empty() && plus.is_empty() {
            return Ok(vec![]);
        }
        let keys = minus
            .iter()
            .map(|index| self.keys.key(old_slots[*index as usize]))
            .chain(plus.iter().map(|index| self.keys.key(new_slots[*index as usize])));
        let mut columns = self.group_codec.decode(keys)?;
        let weights: Int64Array = minus.iter().map(|_| -1).chain(plus.iter().map(|_| 1)).collect();
        let (minus, plus) = (UInt64Array::from(minus), UInt64Array::from(plus));
        for (old, new) in old.iter().zip(new) {
            let (old, new) = (take(old, &minus, None)?, take(new, &plus, None)?);
            columns.push(concat(&[old.as_ref(), new.as_ref()])?);
        }
        let only_new = minus.is_empty();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(vec![if only_new { Changes::inserts(batch) } else { Changes::with_weights(batch, weights)? }])
    }

    fn expire(&mut self, context: &StepContext) {
        let Some((_, bound)) = &self.bound else { return };
        let Some(threshold) = context.threshold_us(bound) else { return };
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= threshold {
                break;
            }
            for slot in entry.remove() {
                self.forget(slot);
            }
        }
    }
}

impl Operator for Aggregate {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut touched = vec![];
        let mut seen = vec![false; self.keys.slots()];
        let mut assigned = vec![];
        for changes in inputs.into_iter().flatten() {
            if !changes.is_empty() {
                let slots = self.assign(&changes, &mut seen, &mut touched)?;
                assigned.push((changes, slots));
            }
        }
        if self.unborn && touched.is_empty() {
            touched.push(0);
        }
        let old_slots: Vec<u32> = touched.iter().copied().filter(|slot| self.is_shown(*slot)).collect();
        let old = self.results(&old_slots)?;
        for (changes, slots) in &assigned {
            self.update(changes, slots)?;
        }
        self.unborn = false;
        let new_slots: Vec<u32> = touched.iter().copied().filter(|slot| self.is_shown(*slot)).collect();
        let new = self.results(&new_slots)?;
        let out = self.difference(&old_slots, &old, &new_slots, &new)?;
        for slot in touched {
            if self.weights[slot as usize] == 0 && self.groups > 0 {
                if let Some((column, _)) = self.bound {
                    self.unindex(slot, column)?;
                }
                self.forget(slot);
            } else {
                self.mark_dirty(slot);
            }
        }
        self.expire(context);
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        self.unborn || !self.by_time.is_empty()
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        for key in self.removed.drain(..) {
            sink(&key, None);
        }
        let mut value = vec![];
        for slot in std::mem::take(&mut self.dirty) {
            // A slot that was freed is clean; one that was freed and used again may be listed twice.
            if !std::mem::replace(&mut self.is_dirty[slot as usize], false) {
                continue;
            }
            value.clear();
            value.extend_from_slice(&self.weights[slot as usize].to_le_bytes());
            for accumulator in &self.accumulators {
                accumulator.encode(slot, &mut value);
            }
            sink(self.keys.key(slot), Some(&value));
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let Some(mut bytes) = value else {
            if let Some(slot) = self.keys.find(key) {
                if let Some((column, _)) = self.bound {
                    self.unindex(slot, column)?;
                }
                self.forget(slot);
                self.removed.clear();
            }
            return Ok(());
        };
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is too short".into() };
        let (slot, new) = self.intern(key);
        let (weight, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        bytes = rest;
        self.weights[slot as usize] = i64::from_le_bytes(*weight);
        for accumulator in &mut self.accumulators {
            accumulator.decode(slot, &mut bytes).ok_or_else(damaged)?;
        }
        self.unborn = false;
        if new
            && let Some((column, _)) = self.bound
            && let Some(time) = self.time_of(slot, column)?
        {
            self.by_time.entry(time).or_default().push(slot);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.memory()).sum();
        self.keys.memory() + self.weights.capacity() * 9 + accumulators
    }

    fn entries(&self) -> usize {
        self.keys.len()
    }
}

impl Aggregate {
    fn time_of(&self, slot: u32, column: usize) -> Result<Option<i64>> {
        let columns = self.group_codec.decode([self.keys.key(slot)])?;
        let times = microseconds(&columns[column])?;
        Ok(times.is_valid(0).then(|| times.value(0)))
    }

    fn unindex(&mut self, slot: u32, column: usize) -> Result<()> {
        if let Some(time) = self.time_of(slot, column)?
            && let Some(slots) = self.by_time.get_mut(&time)
        {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.by_time.remove(&time);
            }
        }
        Ok(())
    }
}

/// A timestamp column as microseconds.
pub(crate) fn microseconds(column: &ArrayRef) -> Result<Int64Array> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    Ok(micros.reinterpret_cast::<Int64Type>())
}
