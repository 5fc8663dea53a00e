//! Inner and left joins on equal keys, with any further condition.
//!
//! Δ(L ⋈ R) = ΔL ⋈ R' + L ⋈ ΔR, with R' = R + ΔR; weights multiply. A left join also shows each left row that has no
//! match, once with nulls: `degree` of a left row is the weight of its matches, and when it leaves or reaches 0 the row
//! with nulls comes or goes.
//! State: the rows of both sides by key, with weights; of only the static side when the other one streams past a side
//! that never changes. Rows below the bound of a joined time column are let go on both sides.

use super::aggregate::microseconds;
use super::map::predicate;
use super::{Operator, RejectedRow, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{EncodedRows, KeyTable, RowCodec, take};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;
use rivermere_base::{Changes, Weights};
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct JoinSpec {
    /// Of the inputs: their rows, then the key columns.
    pub(crate) widths: [usize; 2],
    pub(crate) left_outer: bool,
    /// Whether null keys are equal.
    pub(crate) null_equals_null: bool,
    /// Over the columns of both rows.
    pub(crate) residual: Option<Arc<dyn PhysicalExpr>>,
    /// Sides that never change after the first step.
    pub(crate) is_static: [bool; 2],
    /// Key column whose bound frees rows.
    pub(crate) bound: Option<(usize, TimeBound)>,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;
const NONE: u32 = u32::MAX;

/// Pairs that are put together at once: bounds the memory of a step that multiplies rows.
const PAIRS_AT_ONCE: usize = 16 * 1024;

/// The rows of one side.
struct Side {
    keys: KeyTable,
    /// First row of each key's chain.
    heads: Vec<u32>,
    rows: KeyTable,
    weights: Vec<i64>,
    degrees: Vec<i64>,
    key_of: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    by_time: BTreeMap<i64, Vec<u32>>,
    /// Row bytes -> written at the next checkpoint.
    dirty: std::collections::HashSet<Box<[u8]>, foldhash::fast::FixedState>,
}

impl Side {
    fn new() -> Self {
        Self {
            keys: KeyTable::new(),
            heads: vec![],
            rows: KeyTable::new(),
            weights: vec![],
            degrees: vec![],
            key_of: vec![],
            next: vec![],
            previous: vec![],
            by_time: BTreeMap::new(),
            dirty: std::collections::HashSet::with_hasher(foldhash::fast::FixedState::with_seed(0)),
        }
    }

    /// Adds `weight` to a row; a row at 0 is gone. The row's slot and its weight and degree before.
    fn add(&mut self, key: &[u8], row: &[u8], weight: i64, time: Option<i64>) -> (u32, i64, i64) {
        let (slot, new) = self.rows.intern(row);
        let at = slot as usize;
        if new {
            let slots = self.rows.slots();
            if slots > self.weights.len() {
                for column in [&mut self.weights, &mut self.degrees] {
                    column.resize(slots, 0);
                }
                for column in [&mut self.key_of, &mut self.next, &mut self.previous] {
                    column.resize(slots, NONE);
                }
            }
            let (key_slot, new_key) = self.keys.intern(key);
            if self.keys.slots() > self.heads.len() {
                self.heads.resize(self.keys.slots(), NONE);
            }
            if new_key {
                self.heads[key_slot as usize] = NONE;
                if let Some(time) = time {
                    self.by_time.entry(time).or_default().push(key_slot);
                }
            }
            let head = std::mem::replace(&mut self.heads[key_slot as usize], slot);
            if head != NONE {
                self.previous[head as usize] = slot;
            }
            (self.next[at], self.previous[at], self.key_of[at]) = (head, NONE, key_slot);
            (self.weights[at], self.degrees[at]) = (0, 0);
        }
        let before = (self.weights[at], self.degrees[at]);
        self.weights[at] += weight;
        if !self.dirty.contains(row) {
            self.dirty.insert(row.into());
        }
        (slot, before.0, before.1)
    }

    /// Takes rows out that weigh nothing.
    fn sweep(&mut self, slots: &[u32], bounded: bool) {
        for slot in slots {
            let at = *slot as usize;
            if self.key_of[at] != NONE && self.weights[at] == 0 {
                let key_slot = self.key_of[at];
                self.unlink(*slot);
                // A bounded key stays until its time is over: the time index names its slot.
                if self.heads[key_slot as usize] == NONE && !bounded {
                    self.keys.remove(key_slot);
                }
            }
        }
    }

    fn unlink(&mut self, slot: u32) {
        let at = slot as usize;
        let (next, previous) = (self.next[at], self.previous[at]);
        match previous {
            NONE => self.heads[self.key_of[at] as usize] = next,
            previous => self.next[previous as usize] = next,
        }
        if next != NONE {
            self.previous[next as usize] = previous;
        }
        self.key_of[at] = NONE;
        self.rows.remove(slot);
    }

    /// Lets every key below `threshold` go.
    fn expire(&mut self, threshold: i64) {
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= threshold {
                break;
            }
            for key_slot in entry.remove() {
                let mut slot = self.heads[key_slot as usize];
                while slot != NONE {
                    let next = self.next[slot as usize];
                    let row = self.rows.key(slot);
                    if !self.dirty.contains(row) {
                        self.dirty.insert(row.into());
                    }
                    self.unlink(slot);
                    slot = next;
                }
                self.keys.remove(key_slot);
            }
        }
    }

    fn chain(&self, key: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let head = self.keys.find(key).map_or(NONE, |slot| self.heads[slot as usize]);
        std::iter::successors((head != NONE).then_some(head), |slot| {
            let next = self.next[*slot as usize];
            (next != NONE).then_some(next)
        })
    }

    fn memory(&self) -> usize {
        self.keys.memory() + self.rows.memory() + self.weights.capacity() * 28 + self.heads.capacity() * 4
    }
}

pub(crate) struct Join {
    spec: JoinSpec,
    schema: SchemaRef,
    sides: [Side; 2],
    key_codec: RowCodec,
    /// Row and key together, so that a state entry alone restores both.
    row_codecs: [RowCodec; 2],
    right_types: Vec<DataType>,
}

/// One side's change of a step, encoded.
struct Delta {
    changes: Changes,
    keys: EncodedRows,
    rows: EncodedRows,
    /// Rows whose key can match nothing.
    unmatchable: Vec<bool>,
    times: Option<Int64Array>,
}

impl Join {
    pub(crate) fn new(spec: JoinSpec, inputs: [&SchemaRef; 2], schema: SchemaRef) -> Result<Self> {
        let types = |side: usize| -> Vec<DataType> {
            inputs[side].fields().iter().map(|field| field.data_type().clone()).collect()
        };
        let (left, right) = (types(LEFT), types(RIGHT));
        Ok(Self {
            key_codec: RowCodec::new(&left[spec.widths[LEFT]..])?,
            row_codecs: [RowCodec::new(&left)?, RowCodec::new(&right)?],
            right_types: right[..spec.widths[RIGHT]].to_vec(),
            spec,
            schema,
            sides: [Side::new(), Side::new()],
        })
    }

    fn encode(&self, side: usize, changes: Changes) -> Result<Delta> {
        let rows = changes.num_rows();
        let columns = changes.batch().columns();
        let key_columns = &columns[self.spec.widths[side]..];
        let mut unmatchable = vec![false; rows];
        if !self.spec.null_equals_null {
            for nulls in key_columns.iter().filter_map(|column| column.logical_nulls()) {
                for (row, unmatchable) in unmatchable.iter_mut().enumerate() {
                    *unmatchable |= nulls.is_null(row);
                }
            }
        }
        let times = match &self.spec.bound {
            Some((column, _)) => Some(microseconds(&key_columns[*column])?),
            None => None,
        };
        let keys = self.key_codec.encode(key_columns, rows)?;
        let encoded = self.row_codecs[side].encode(columns, rows)?;
        Ok(Delta { keys, rows: encoded, unmatchable, times, changes })
    }

    /// Whether rows of a side are kept: not when the other side is complete and never changes.
    fn keeps(&self, side: usize) -> bool {
        !self.spec.is_static[1 - side] || self.spec.is_static[side]
    }

    /// ΔR against the left rows before the step.
    fn right_delta(&mut self, delta: &Delta, context: &mut StepContext, out: &mut Vec<Changes>) -> Result<()> {
        let mut pairs = Pairs::default();
        for row in 0..delta.changes.num_rows() {
            if delta.unmatchable[row] {
                continue;
            }
            let weight = delta.changes.weight(row);
            for slot in self.sides[LEFT].chain(delta.keys.get(row)) {
                pairs.push(row, slot, weight * self.sides[LEFT].weights[slot as usize]);
            }
            if pairs.len() >= PAIRS_AT_ONCE {
                self.right_pairs(&mut pairs, delta, context, out)?;
            }
        }
        self.right_pairs(&mut pairs, delta, context, out)?;
        if self.keeps(RIGHT) {
            self.store(RIGHT, delta);
        }
        Ok(())
    }

    fn right_pairs(
        &mut self,
        pairs: &mut Pairs,
        delta: &Delta,
        context: &mut StepContext,
        out: &mut Vec<Changes>,
    ) -> Result<()> {
        let pairs = std::mem::take(pairs);
        if pairs.len() == 0 {
            return Ok(());
        }
        let left = self.decode(LEFT, &pairs.slots)?;
        let right = take_columns(&delta.changes, &pairs.rows, self.spec.widths[RIGHT])?;
        let kept = self.put_together(left, right, pairs.weights.clone(), context, out)?;
        if !self.spec.left_outer {
            return Ok(());
        }
        // Degrees of the touched left rows, and the rows whose nulls come or go.
        let mut before: BTreeMap<u32, i64> = BTreeMap::new();
        for pair in kept {
            let slot = pairs.slots[pair];
            let degree = &mut self.sides[LEFT].degrees[slot as usize];
            before.entry(slot).or_insert(*degree);
            *degree += delta.changes.weight(pairs.rows[pair] as usize);
            let row = self.sides[LEFT].rows.key(slot);
            if !self.sides[LEFT].dirty.contains(row) {
                let row = row.into();
                self.sides[LEFT].dirty.insert(row);
            }
        }
        let mut slots = vec![];
        let mut weights = vec![];
        for (slot, before) in before {
            let after = self.sides[LEFT].degrees[slot as usize];
            let weight = self.sides[LEFT].weights[slot as usize];
            if (before > 0) != (after > 0) {
                slots.push(slot);
                weights.push(if after > 0 { -weight } else { weight });
            }
        }
        let left = self.decode(LEFT, &slots)?;
        self.with_nulls(left, weights, out)
    }

    /// ΔL against the right rows after the step.
    fn left_delta(&mut self, delta: &Delta, context: &mut StepContext, out: &mut Vec<Changes>) -> Result<()> {
        let rows = delta.changes.num_rows();
        let mut degrees = vec![0_i64; rows];
        let mut pairs = Pairs::default();
        for row in 0..rows {
            if !delta.unmatchable[row] {
                let weight = delta.changes.weight(row);
                for slot in self.sides[RIGHT].chain(delta.keys.get(row)) {
                    pairs.push(row, slot, weight * self.sides[RIGHT].weights[slot as usize]);
                }
            }
            if pairs.len() >= PAIRS_AT_ONCE || row + 1 == rows {
                let pairs = std::mem::take(&mut pairs);
                if pairs.len() > 0 {
                    let left = take_columns(&delta.changes, &pairs.rows, self.spec.widths[LEFT])?;
                    let right = self.decode(RIGHT, &pairs.slots)?;
                    let kept = self.put_together(left, right, pairs.weights.clone(), context, out)?;
                    for pair in kept {
                        degrees[pairs.rows[pair] as usize] += self.sides[RIGHT].weights[pairs.slots[pair] as usize];
                    }
                }
            }
        }
        if self.spec.left_outer {
            let alone: Vec<u64> = (0..rows).filter(|row| degrees[*row] <= 0).map(|row| row as u64).collect();
            let weights = alone.iter().map(|row| delta.changes.weight(*row as usize)).collect();
            let left = take_columns(&delta.changes, &alone, self.spec.widths[LEFT])?;
            self.with_nulls(left, weights, out)?;
        }
        if self.keeps(LEFT) {
            let slots = self.store(LEFT, delta);
            for (row, slot) in slots {
                self.sides[LEFT].degrees[slot as usize] = degrees[row];
            }
        }
        Ok(())
    }

    /// Adds a delta to its side; (row, slot) of each row that is kept.
    fn store(&mut self, side: usize, delta: &Delta) -> Vec<(usize, u32)> {
        let mut slots = Vec::with_capacity(delta.changes.num_rows());
        for row in 0..delta.changes.num_rows() {
            if delta.unmatchable[row] {
                continue;
            }
            let time = delta.times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row));
            let weight = delta.changes.weight(row);
            let (slot, _, _) = self.sides[side].add(delta.keys.get(row), delta.rows.get(row), weight, time);
            slots.push((row, slot));
        }
        let touched: Vec<u32> = slots.iter().map(|(_, slot)| *slot).collect();
        self.sides[side].sweep(&touched, self.spec.bound.is_some());
        slots.retain(|(_, slot)| self.sides[side].key_of[*slot as usize] != NONE);
        slots
    }

    fn decode(&self, side: usize, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = self.row_codecs[side].decode(slots.iter().map(|slot| self.sides[side].rows.key(*slot)))?;
        columns.truncate(self.spec.widths[side]);
        Ok(columns)
    }

    /// Emits the pairs that the residual condition keeps, and tells which.
    fn put_together(
        &self,
        left: Vec<ArrayRef>,
        right: Vec<ArrayRef>,
        weights: Vec<i64>,
        context: &mut StepContext,
        out: &mut Vec<Changes>,
    ) -> Result<Vec<usize>> {
        let pairs = weights.len();
        let columns: Vec<ArrayRef> = left.into_iter().chain(right).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(pairs));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let kept: Vec<usize> = match &self.spec.residual {
            None => (0..pairs).collect(),
            Some(residual) => holding(residual, &batch, &weights, context),
        };
        if kept.is_empty() {
            return Ok(kept);
        }
        let (batch, weights) = if kept.len() == pairs {
            (batch, weights)
        } else {
            let indices = UInt64Array::from_iter_values(kept.iter().map(|pair| *pair as u64));
            (take(&batch, &indices)?, kept.iter().map(|pair| weights[*pair]).collect())
        };
        out.push(changes(batch, weights)?);
        Ok(kept)
    }

    fn with_nulls(&self, left: Vec<ArrayRef>, weights: Vec<i64>, out: &mut Vec<Changes>) -> Result<()> {
        if weights.is_empty() {
            return Ok(());
        }
        let nulls = self.right_types.iter().map(|data_type| new_null_array(data_type, weights.len()));
        let batch = RecordBatch::try_new(self.schema.clone(), left.into_iter().chain(nulls).collect())?;
        out.push(changes(batch, weights)?);
        Ok(())
    }
}

#[derive(Default)]
struct Pairs {
    /// Of the delta.
    rows: Vec<u64>,
    /// Of the other side.
    slots: Vec<u32>,
    weights: Vec<i64>,
}

impl Pairs {
    fn push(&mut self, row: usize, slot: u32, weight: i64) {
        self.rows.push(row as u64);
        self.slots.push(slot);
        self.weights.push(weight);
    }

    fn len(&self) -> usize {
        self.rows.len()
    }
}

fn changes(batch: RecordBatch, weights: Vec<i64>) -> Result<Changes> {
    if weights.iter().all(|weight| *weight == 1) {
        return Ok(Changes::inserts(batch));
    }
    Ok(Changes::new(batch, Weights::Each(Int64Array::from(weights)))?)
}

fn take_columns(changes: &Changes, rows: &[u64], width: usize) -> Result<Vec<ArrayRef>> {
    let indices = UInt64Array::from(rows.to_vec());
    let columns = &changes.batch().columns()[..width];
    Ok(columns.iter().map(|column| arrow::compute::take(column, &indices, None)).collect::<Result<_, _>>()?)
}

/// Pairs that a condition holds for. A pair that it fails on is rejected, alone.
fn holding(
    residual: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    weights: &[i64],
    context: &mut StepContext,
) -> Vec<usize> {
    if let Ok(mask) = predicate(residual, batch) {
        return (0..batch.num_rows()).filter(|row| mask.value(*row)).collect();
    }
    let mut kept = vec![];
    for row in 0..batch.num_rows() {
        match predicate(residual, &batch.slice(row, 1)) {
            Ok(mask) if mask.value(0) => kept.push(row),
            Ok(_) => {}
            Err(error) => context.rejected.push(RejectedRow {
                view: context.view.to_string(),
                row: crate::source::row_as_json(batch, row),
                reason: error.strip_backtrace(),
                weight: weights[row],
            }),
        }
    }
    kept
}

impl Operator for Join {
    fn step(&mut self, mut inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut out = vec![];
        let right = inputs.pop().unwrap_or_default();
        let left = inputs.pop().unwrap_or_default();
        for changes in right {
            let delta = self.encode(RIGHT, changes)?;
            self.right_delta(&delta, context, &mut out)?;
        }
        for changes in left {
            let delta = self.encode(LEFT, changes)?;
            self.left_delta(&delta, context, &mut out)?;
        }
        if let Some((_, bound)) = &self.spec.bound
            && let Some(threshold) = context.threshold_us(bound)
        {
            for side in &mut self.sides {
                side.expire(threshold);
            }
        }
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        self.sides.iter().any(|side| !side.by_time.is_empty())
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        for (number, side) in self.sides.iter_mut().enumerate() {
            let mut key = vec![];
            for row in std::mem::take(&mut side.dirty) {
                key.clear();
                key.push(number as u8);
                key.extend_from_slice(&row);
                match side.rows.find(&row) {
                    None => sink(&key, None),
                    Some(slot) => {
                        let mut value = [0; 16];
                        value[..8].copy_from_slice(&side.weights[slot as usize].to_le_bytes());
                        value[8..].copy_from_slice(&side.degrees[slot as usize].to_le_bytes());
                        sink(&key, Some(&value));
                    }
                }
            }
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is damaged".into() };
        let (number, row) = key.split_first().ok_or_else(damaged)?;
        let number = usize::from(*number);
        if number > RIGHT {
            return Err(damaged());
        }
        let (weight, degree) = match value {
            None => (0, 0),
            Some(value) => {
                let (weight, degree) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
                let degree = degree.first_chunk::<8>().ok_or_else(damaged)?;
                (i64::from_le_bytes(*weight), i64::from_le_bytes(*degree))
            }
        };
        let columns = self.row_codecs[number].decode([row])?;
        let key_columns = &columns[self.spec.widths[number]..];
        let time = match &self.spec.bound {
            Some((column, _)) => {
                let times = microseconds(&key_columns[*column])?;
                times.is_valid(0).then(|| times.value(0))
            }
            None => None,
        };
        let key = self.key_codec.encode(key_columns, 1)?;
        let side = &mut self.sides[number];
        let (slot, before, _) = side.add(key.get(0), row, 0, time);
        side.weights[slot as usize] += weight - before;
        side.degrees[slot as usize] = degree;
        side.dirty.clear();
        side.sweep(&[slot], self.spec.bound.is_some());
        Ok(())
    }

    fn memory(&self) -> usize {
        self.sides.iter().map(Side::memory).sum()
    }

    fn entries(&self) -> usize {
        self.sides.iter().map(|side| side.rows.len()).sum()
    }
}
