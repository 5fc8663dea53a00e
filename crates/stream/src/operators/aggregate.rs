//! GROUP BY and DISTINCT.
//!
//! Δγ(A): each group that ΔA touches emits minus its old row and plus its new one, once a step. A group is there while
//! the weights of its rows sum to more than 0; without GROUP BY there is one group, always.
//! State: one entry a group. When a group column is bounded by a watermark, groups below the bound are let go: no row
//! can reach them any more, and their last row stays in the view.

use super::accumulate::{Accumulate, accumulator};
use super::{Operator, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{KeyTable, RowCodec, key_hash};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, cast, concat, interleave, take};
use arrow::datatypes::{DataType, FieldRef, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_plan::PhysicalExpr;
use rivermere_base::Changes;
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One aggregate call: the columns of its arguments in the input, and those of its ORDER BY and FILTER.
pub(crate) struct Call {
    pub(crate) udf: Arc<AggregateUDF>,
    pub(crate) arguments: Vec<usize>,
    pub(crate) order: Vec<(usize, SortOptions)>,
    pub(crate) filter: Option<usize>,
    pub(crate) distinct: bool,
    pub(crate) ignore_nulls: bool,
    /// The arguments over the rows that are grouped, for functions that look at constants.
    pub(crate) expressions: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) result: FieldRef,
}

/// The group changed since the last checkpoint.
const DIRTY: u8 = 1;
/// The group changed in this step.
const TOUCHED: u8 = 2;
/// The group is there without any row: a total.
const TOTAL: u8 = 4;

/// Input columns: the groups first, then arguments and filters as the calls name them.
pub(crate) struct Aggregate {
    groups: usize,
    calls: Vec<Call>,
    accumulators: Vec<Box<dyn Accumulate>>,
    schema: SchemaRef,
    group_codec: RowCodec,
    keys: KeyTable,
    /// Sum of row weights of each slot; a bounded group stays at 0 until its time is over.
    weights: Vec<i64>,
    flags: Vec<u8>,
    bound: Option<(usize, TimeBound)>,
    /// Slots by the bounded column's value in microseconds.
    by_time: BTreeMap<i64, Vec<u32>>,
    dirty: Vec<u32>,
    /// Keys that went since the last checkpoint, each behind its length.
    removed: Vec<u8>,
    /// A row that weighs nothing for each total, until the totals are shown.
    births: Option<Changes>,
}

/// The groups that a step touches.
#[derive(Default)]
struct Touched {
    slots: Vec<u32>,
    /// Part of the input and row where each was first seen.
    rows: Vec<(usize, usize)>,
}

impl Aggregate {
    pub(crate) fn new(
        groups: usize,
        calls: Vec<Call>,
        input: &SchemaRef,
        schema: SchemaRef,
        append_only_input: bool,
        bound: Option<(usize, TimeBound)>,
        totals: &RecordBatch,
    ) -> Result<Self> {
        let mut accumulators = vec![];
        for (index, call) in calls.iter().enumerate() {
            let output = schema.field(groups + index).data_type();
            accumulators.push(accumulator(call, input, output, append_only_input)?);
        }
        let types = schema.fields().iter().take(groups).map(|field| field.data_type());
        let mut aggregate = Self {
            groups,
            calls,
            accumulators,
            group_codec: RowCodec::new(types)?,
            schema,
            keys: KeyTable::new(),
            weights: vec![],
            flags: vec![],
            bound,
            by_time: BTreeMap::new(),
            dirty: vec![],
            removed: vec![],
            births: None,
        };
        if totals.num_rows() > 0 {
            let weights = Int64Array::from_value(0, totals.num_rows());
            aggregate.births = Some(Changes::with_weights(totals.clone(), weights)?);
            let keys = aggregate.group_codec.encode(&totals.columns()[..groups], totals.num_rows())?;
            for key in keys.iter() {
                let (slot, _) = aggregate.intern(key_hash(key), key);
                aggregate.flags[slot as usize] |= TOTAL;
            }
        }
        Ok(aggregate)
    }

    fn intern(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.keys.intern_hashed(hash, key);
        let slots = self.keys.slots();
        if slots > self.weights.len() {
            self.weights.resize(slots, 0);
            self.flags.resize(slots, 0);
            for accumulator in &mut self.accumulators {
                accumulator.resize(slots);
            }
        }
        (slot, new)
    }

    fn is_shown(&self, slot: u32) -> bool {
        self.weights[slot as usize] > 0 || (self.is_total(slot) && self.births.is_none())
    }

    fn is_total(&self, slot: u32) -> bool {
        self.flags[slot as usize] & TOTAL != 0
    }

    fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter().map(|accumulator| accumulator.evaluate(slots)).collect()
    }

    fn mark_dirty(&mut self, slot: u32) {
        let flags = &mut self.flags[slot as usize];
        if *flags & DIRTY == 0 {
            *flags |= DIRTY;
            self.dirty.push(slot);
        }
    }

    fn clear(&mut self, slot: u32) {
        self.weights[slot as usize] = 0;
        for (call, accumulator) in self.accumulators.iter_mut().enumerate() {
            let (keys, removed) = (&self.keys, &mut self.removed);
            accumulator.forget_entries(slot, &mut |entry| {
                remove(removed, &entry_key(call, keys.key(slot), entry));
            });
            accumulator.clear(slot);
        }
    }

    fn forget(&mut self, slot: u32) {
        remove(&mut self.removed, &group_key(self.keys.key(slot)));
        self.flags[slot as usize] = 0;
        self.clear(slot);
        self.keys.remove(slot);
    }

    /// Slots of the rows of one part of the input.
    fn assign(&mut self, number: usize, part: &Changes, touched: &mut Touched) -> Result<Vec<u32>> {
        let columns = &part.batch().columns()[..self.groups];
        let encoded = self.group_codec.encode(columns, part.num_rows())?;
        let times = match &self.bound {
            Some((column, _)) => Some(microseconds(part.batch().column(*column))?),
            None => None,
        };
        let mut slots: Vec<u32> = Vec::with_capacity(part.num_rows());
        let mut previous: &[u8] = &[];
        for (row, key) in encoded.iter().enumerate() {
            // Rows of one group often stand together: of one window, or of a global aggregate.
            if let Some(slot) = slots.last().copied()
                && key == previous
            {
                slots.push(slot);
                continue;
            }
            previous = key;
            let (slot, new) = self.intern(key_hash(key), key);
            if new && let Some(times) = times.as_ref().filter(|times| times.is_valid(row)) {
                self.by_time.entry(times.value(row)).or_default().push(slot);
            }
            let flags = &mut self.flags[slot as usize];
            if *flags & TOUCHED == 0 {
                *flags |= TOUCHED;
                touched.slots.push(slot);
                touched.rows.push((number, row));
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
            let order = call.order.iter().map(|(column, _)| column);
            let arguments: Vec<ArrayRef> =
                call.arguments.iter().chain(order).map(|column| changes.batch().column(*column).clone()).collect();
            match call.filter {
                None => accumulator.update(slots, &arguments, weights.values())?,
                Some(filter) => {
                    let mask = changes.batch().column(filter).as_boolean();
                    let masked: Vec<i64> = weights
                        .values()
                        .iter()
                        .enumerate()
                        .map(|(row, weight)| if mask.is_valid(row) && mask.value(row) { *weight } else { 0 })
                        .collect();
                    accumulator.update(slots, &arguments, &masked)?;
                }
            }
        }
        Ok(())
    }

    /// −old and +new of the touched groups, without those whose row stays the same.
    fn difference(
        &self,
        parts: &[Changes],
        touched: &Touched,
        old: (&[bool], &[ArrayRef]),
        new: &[ArrayRef],
    ) -> Result<Vec<Changes>> {
        let mut changed = vec![false; touched.slots.len()];
        for (old, new) in old.1.iter().zip(new) {
            let differs = differs(old, new)?;
            changed.iter_mut().enumerate().for_each(|(at, changed)| *changed |= differs.value(at));
        }
        let (mut minus, mut plus) = (vec![], vec![]);
        for (at, slot) in touched.slots.iter().enumerate() {
            let (was, is) = (old.0[at], self.is_shown(*slot));
            if was && (!is || changed[at]) {
                minus.push(at as u32);
            }
            if is && (!was || changed[at]) {
                plus.push(at as u32);
            }
        }
        if minus.is_empty() && plus.is_empty() {
            return Ok(vec![]);
        }
        let rows: Vec<(usize, usize)> = if self.groups == 0 {
            vec![]
        } else {
            minus.iter().chain(&plus).map(|at| touched.rows[*at as usize]).collect()
        };
        let mut columns = (0..self.groups).map(|column| pick(parts, column, &rows)).collect::<Result<Vec<_>>>()?;
        let only_new = minus.is_empty();
        let weights: Int64Array = minus.iter().map(|_| -1).chain(plus.iter().map(|_| 1)).collect();
        let (minus, plus) = (UInt32Array::from(minus), UInt32Array::from(plus));
        for (old, new) in old.1.iter().zip(new) {
            let new = take(new, &plus, None)?;
            columns.push(if only_new { new } else { concat(&[take(old, &minus, None)?.as_ref(), new.as_ref()])? });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
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

/// The values of a column at places of several parts.
fn pick(parts: &[Changes], column: usize, rows: &[(usize, usize)]) -> Result<ArrayRef> {
    if let [part] = parts {
        let rows = UInt32Array::from_iter_values(rows.iter().map(|row| row.1 as u32));
        return Ok(take(part.batch().column(column), &rows, None)?);
    }
    let arrays: Vec<&dyn Array> = parts.iter().map(|part| part.batch().column(column).as_ref()).collect();
    Ok(interleave(&arrays, rows)?)
}

/// Where two columns differ; two nulls do not.
fn differs(old: &ArrayRef, new: &ArrayRef) -> Result<BooleanArray> {
    if !old.data_type().is_nested() {
        return Ok(distinct(old, new)?);
    }
    let codec = RowCodec::new([old.data_type()])?;
    let (old, new) =
        (codec.encode(std::slice::from_ref(old), old.len())?, codec.encode(std::slice::from_ref(new), new.len())?);
    Ok(old.iter().zip(new.iter()).map(|(old, new)| Some(old != new)).collect())
}

impl Operator for Aggregate {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let births = self.births.iter().cloned();
        let parts: Vec<Changes> = births.chain(inputs.into_iter().flatten()).filter(|part| !part.is_empty()).collect();
        let mut touched = Touched::default();
        let mut assigned = vec![];
        for (number, part) in parts.iter().enumerate() {
            assigned.push(self.assign(number, part, &mut touched)?);
        }
        let shown: Vec<bool> = touched.slots.iter().map(|slot| self.is_shown(*slot)).collect();
        let old = self.results(&touched.slots)?;
        for (part, slots) in parts.iter().zip(&assigned) {
            self.update(part, slots)?;
        }
        self.births = None;
        let new = self.results(&touched.slots)?;
        let out = self.difference(&parts, &touched, (&shown, &old), &new)?;
        for slot in touched.slots {
            self.flags[slot as usize] &= !TOUCHED;
            if self.weights[slot as usize] != 0 || self.is_total(slot) {
                self.mark_dirty(slot);
            } else if self.bound.is_some() {
                self.clear(slot);
                self.mark_dirty(slot);
            } else {
                self.forget(slot);
            }
        }
        self.expire(context);
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        self.births.is_some() || !self.by_time.is_empty()
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        let removed = std::mem::take(&mut self.removed);
        let mut rest = removed.as_slice();
        while let Some((length, keys)) = rest.split_first_chunk::<4>() {
            let (key, keys) = keys.split_at(u32::from_le_bytes(*length) as usize);
            sink(key, None);
            rest = keys;
        }
        let mut value = vec![];
        for slot in std::mem::take(&mut self.dirty) {
            // A slot that was freed is clean; one that was freed and used again may be listed twice.
            if self.flags[slot as usize] & DIRTY == 0 {
                continue;
            }
            self.flags[slot as usize] &= !DIRTY;
            let key = group_key(self.keys.key(slot));
            if self.weights[slot as usize] == 0 && !self.is_total(slot) {
                sink(&key, None);
                continue;
            }
            value.clear();
            value.extend_from_slice(&self.weights[slot as usize].to_le_bytes());
            for accumulator in &self.accumulators {
                accumulator.encode(slot, &mut value);
            }
            sink(&key, Some(&value));
        }
        for (call, accumulator) in self.accumulators.iter_mut().enumerate() {
            let keys = &self.keys;
            accumulator.entries(&mut |slot, entry, weight| {
                let key = entry_key(call, keys.key(slot), entry);
                sink(&key, weight.map(i64::to_le_bytes).as_ref().map(|bytes| bytes.as_slice()));
            });
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let Some(mut bytes) = value else { return Ok(()) };
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is too short".into() };
        let (kind, rest) = key.split_first().ok_or_else(damaged)?;
        if *kind == GROUP {
            let slot = self.restored_group(rest)?;
            let (weight, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
            bytes = rest;
            self.weights[slot as usize] = i64::from_le_bytes(*weight);
            for accumulator in &mut self.accumulators {
                accumulator.decode(slot, &mut bytes).ok_or_else(damaged)?;
            }
            self.births = None;
            return Ok(());
        }
        let (call, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (group, entry) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let slot = self.restored_group(group)?;
        let weight = bytes.first_chunk::<8>().ok_or_else(damaged)?;
        let call = usize::from(u16::from_le_bytes(*call));
        self.accumulators.get_mut(call).ok_or_else(damaged)?.restore_entry(slot, entry, i64::from_le_bytes(*weight));
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

/// First byte of a state entry's key: a group, or a value of one of its calls.
const GROUP: u8 = 0;
const VALUE: u8 = 1;

fn group_key(group: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + group.len());
    key.push(GROUP);
    key.extend_from_slice(group);
    key
}

fn entry_key(call: usize, group: &[u8], entry: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(7 + group.len() + entry.len());
    key.push(VALUE);
    key.extend_from_slice(&(call as u16).to_le_bytes());
    key.extend_from_slice(&(group.len() as u32).to_le_bytes());
    key.extend_from_slice(group);
    key.extend_from_slice(entry);
    key
}

fn remove(removed: &mut Vec<u8>, key: &[u8]) {
    removed.extend_from_slice(&(key.len() as u32).to_le_bytes());
    removed.extend_from_slice(key);
}

impl Aggregate {
    fn restored_group(&mut self, group: &[u8]) -> Result<u32> {
        let (slot, new) = self.intern(key_hash(group), group);
        if new
            && let Some((column, _)) = self.bound
            && let Some(time) = self.time_of(slot, column)?
        {
            self.by_time.entry(time).or_default().push(slot);
        }
        Ok(slot)
    }

    fn time_of(&self, slot: u32, column: usize) -> Result<Option<i64>> {
        let columns = self.group_codec.decode([self.keys.key(slot)])?;
        let times = microseconds(&columns[column])?;
        Ok(times.is_valid(0).then(|| times.value(0)))
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
