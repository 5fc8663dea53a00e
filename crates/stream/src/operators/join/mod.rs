//! Joins of every kind on equal keys, with any further condition; without keys, every row meets every other.
//!
//! Δ(L ⋈ R) = L ⋈ ΔR + ΔL ⋈ R', with R' = R + ΔR, or the same with the sides exchanged; weights multiply. What is shown of a side's own rows depends on whether
//! they have a match: outer joins show those without one beside nulls, semi joins those with one, anti joins those
//! without, mark joins all with the answer. `degree` of a row is the weight of its matches, and when it leaves or reaches
//! 0 the row comes or goes. `NOT IN` also looks at the whole right side: nothing is shown while it has a null, and
//! everything while it is empty.
//! State: the rows of both sides by key, with weights; of only the static side when the other one streams past a side
//! that never changes. Rows below the bound of a joined time column are let go on both sides; with a condition between
//! times of both sides, each row is when the other side's bound has passed the last time that it can match.

mod side;

use super::aggregate::microseconds;
use super::map::{keep, predicate};
use super::{Operator, RejectedRow, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{EncodedRows, RowCodec, netted};
use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::JoinType;
use datafusion::physical_plan::PhysicalExpr;
use rivermere_base::{Changes, Weights};
use rivermere_sql::TimeBound;
use side::{Keeping, NONE, Side};
use std::sync::Arc;

pub(crate) struct JoinSpec {
    pub(crate) kind: JoinType,
    /// Whether an anti join is a `NOT IN`.
    pub(crate) null_aware: bool,
    /// Of the inputs: their rows; computed keys may follow.
    pub(crate) widths: [usize; 2],
    /// Columns of the inputs that must be equal.
    pub(crate) keys: [Vec<usize>; 2],
    /// Whether null keys are equal.
    pub(crate) null_equals_null: bool,
    /// Over the columns of both rows.
    pub(crate) residual: Option<Arc<dyn PhysicalExpr>>,
    /// Of both rows together.
    pub(crate) pairs: SchemaRef,
    /// Sides that never change after the first step.
    pub(crate) is_static: [bool; 2],
    /// Sides whose rows are never taken back.
    pub(crate) append_only: [bool; 2],
    /// Key whose bound frees rows.
    pub(crate) bound: Option<(usize, TimeBound)>,
    /// For rows of each side, the last time of the other side that they can match, and the bound of that side.
    pub(crate) retention: [Option<(Arc<dyn PhysicalExpr>, TimeBound)>; 2],
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Pairs that are put together at once: bounds the memory of a step that multiplies rows.
const PAIRS_AT_ONCE: usize = 16 * 1024;
/// Rows that are put back at once.
const RESTORED_AT_ONCE: usize = 64 * 1024;

/// What is shown of one side's rows, beside the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// Rows with a match.
    Matched,
    /// Rows without one.
    Unmatched,
    /// All rows, with whether they have one.
    Marked,
}

fn shown(kind: JoinType) -> [Shown; 2] {
    match kind {
        JoinType::Inner => [Shown::Nothing, Shown::Nothing],
        JoinType::Left | JoinType::LeftAnti => [Shown::Unmatched, Shown::Nothing],
        JoinType::Right | JoinType::RightAnti => [Shown::Nothing, Shown::Unmatched],
        JoinType::Full => [Shown::Unmatched, Shown::Unmatched],
        JoinType::LeftSemi => [Shown::Matched, Shown::Nothing],
        JoinType::RightSemi => [Shown::Nothing, Shown::Matched],
        JoinType::LeftMark => [Shown::Marked, Shown::Nothing],
        JoinType::RightMark => [Shown::Nothing, Shown::Marked],
    }
}

/// What the right side of a `NOT IN` says about every left row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The right side is empty: all left rows are shown.
    All,
    /// It has a null: none is.
    None,
    /// Those are that have a key, and no match.
    Each,
}

fn verdict(total: i64, nulls: i64) -> Verdict {
    match (total, nulls) {
        (0, _) => Verdict::All,
        (_, 0) => Verdict::Each,
        _ => Verdict::None,
    }
}

pub(crate) struct Join {
    spec: JoinSpec,
    schema: SchemaRef,
    shown: [Shown; 2],
    shows_pairs: bool,
    sides: [Side; 2],
    key_codec: RowCodec,
    inputs: [SchemaRef; 2],
    restored: [Restored; 2],
}

#[derive(Default)]
struct Restored {
    slots: Vec<u32>,
    weights: Vec<i64>,
    degrees: Vec<i64>,
    rows: Vec<Box<[u8]>>,
}

/// One side's change of a step, with its keys.
struct Delta {
    changes: Changes,
    keys: EncodedRows,
    hashes: Vec<u64>,
    /// Rows whose key can match something, where not all can.
    matchable: Option<NullBuffer>,
    times: Option<Int64Array>,
    /// The last times that rows can match, where they are let go by them.
    until: Option<Int64Array>,
}

impl Delta {
    #[inline]
    fn can_match(&self, row: u32) -> bool {
        self.matchable.as_ref().is_none_or(|matchable| matchable.is_valid(row as usize))
    }

    fn time(&self, row: u32) -> Option<i64> {
        let times = self.times.as_ref()?;
        times.is_valid(row as usize).then(|| times.value(row as usize))
    }

    /// Until when a row is needed; one without a time matches nothing.
    #[inline]
    fn until(&self, row: u32) -> Option<i64> {
        let until = self.until.as_ref()?;
        Some(if until.is_valid(row as usize) { until.value(row as usize) } else { i64::MIN })
    }
}

/// Rows of a change with rows of the other side.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    slots: Vec<u32>,
}

impl Join {
    pub(crate) fn new(spec: JoinSpec, inputs: [&SchemaRef; 2], schema: SchemaRef) -> Result<Self> {
        let types = |side: usize| -> Vec<DataType> {
            inputs[side].fields().iter().map(|field| field.data_type().clone()).collect()
        };
        let shown = shown(spec.kind);
        let side = |side: usize| {
            let keeping = Keeping {
                append_only: spec.append_only[side],
                degrees: shown[side] != Shown::Nothing,
                bounded: spec.bound.is_some(),
                null_keys: spec.null_aware,
            };
            Side::new(keeping, types(side))
        };
        let keys: Vec<DataType> =
            spec.keys[LEFT].iter().map(|column| inputs[LEFT].field(*column).data_type().clone()).collect();
        Ok(Self {
            sides: [side(LEFT)?, side(RIGHT)?],
            key_codec: RowCodec::new(&keys)?,
            shows_pairs: matches!(spec.kind, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full),
            shown,
            spec,
            schema,
            inputs: inputs.map(Clone::clone),
            restored: Default::default(),
        })
    }

    fn delta(&self, side: usize, changes: Changes) -> Result<Delta> {
        let columns = changes.batch().columns();
        let keys: Vec<ArrayRef> = self.spec.keys[side].iter().map(|column| columns[*column].clone()).collect();
        let mut matchable = None;
        if !self.spec.null_equals_null {
            for nulls in keys.iter().filter_map(|column| column.logical_nulls()) {
                matchable = NullBuffer::union(matchable.as_ref(), Some(&nulls));
            }
        }
        let times = match &self.spec.bound {
            Some((key, _)) => Some(microseconds(&keys[*key])?),
            None => None,
        };
        let until = match &self.spec.retention[side] {
            Some((until, _)) => {
                let times = until.evaluate(changes.batch()).and_then(|times| times.into_array(changes.num_rows()));
                // A time that cannot be computed, such as one past the end of time, lets nothing go.
                let forever = || Int64Array::from(vec![i64::MAX; changes.num_rows()]);
                Some(times.ok().and_then(|times| microseconds(&times).ok()).unwrap_or_else(forever))
            }
            None => None,
        };
        let keys = self.key_codec.encode(&keys, changes.num_rows())?;
        Ok(Delta { hashes: keys.hashes(), keys, matchable, times, until, changes })
    }

    /// Whether rows of a side are kept: not when the other side is complete and never changes.
    fn keeps(&self, side: usize) -> bool {
        !self.spec.is_static[1 - side] || self.spec.is_static[side] || self.spec.null_aware
    }

    /// One side's change against the rows of the other.
    fn apply(&mut self, side: usize, delta: &Delta, context: &mut StepContext, out: &mut Vec<Changes>) -> Result<()> {
        let rows = delta.changes.num_rows();
        let other = 1 - side;
        let mut degrees = vec![0; if self.shown[side] == Shown::Nothing { 0 } else { rows }];
        let mut pairs = Pairs::default();
        for row in 0..rows {
            if !delta.can_match(row as u32) {
                continue;
            }
            let mut slot = self.sides[other].head(delta.hashes[row], delta.keys.get(row));
            while slot != NONE {
                pairs.rows.push(row as u32);
                pairs.slots.push(slot);
                slot = self.sides[other].next(slot);
                if pairs.rows.len() == PAIRS_AT_ONCE {
                    self.meet(side, &mut pairs, delta, &mut degrees, context, out)?;
                }
            }
        }
        self.meet(side, &mut pairs, delta, &mut degrees, context, out)?;
        self.show_flipped(other, out)?;
        self.show_own(side, delta, &degrees, out)?;
        if self.keeps(side) {
            self.sides[side].store(delta, &degrees)?;
        }
        Ok(())
    }

    /// Emits pairs that the residual condition keeps, and counts them as matches on both sides.
    fn meet(
        &mut self,
        side: usize,
        pairs: &mut Pairs,
        delta: &Delta,
        degrees: &mut [i64],
        context: &mut StepContext,
        out: &mut Vec<Changes>,
    ) -> Result<()> {
        let Pairs { rows, slots } = std::mem::take(pairs);
        if rows.is_empty() {
            return Ok(());
        }
        let other = 1 - side;
        let mut mask = None;
        if self.shows_pairs || self.spec.residual.is_some() {
            let changing = take_columns(&delta.changes, &rows, self.spec.widths[side])?;
            let resting = self.sides[other].gather(&slots, self.spec.widths[other])?;
            let (left, right) = if side == LEFT { (changing, resting) } else { (resting, changing) };
            let weights: Vec<i64> = rows
                .iter()
                .zip(&slots)
                .map(|(row, slot)| delta.changes.weight(*row as usize) * self.sides[other].weight(*slot))
                .collect();
            let pairs = changes(&self.spec.pairs, left.into_iter().chain(right).collect(), weights)?;
            if let Some(residual) = &self.spec.residual {
                mask = Some(holding(residual, &pairs, context));
            }
            if self.shows_pairs {
                let kept = match &mask {
                    Some(mask) => keep(&pairs, mask)?,
                    None => pairs,
                };
                if !kept.is_empty() {
                    out.push(kept);
                }
            }
        }
        let counted = [self.shown[side] != Shown::Nothing, self.shown[other] != Shown::Nothing];
        if counted != [false, false] {
            for (pair, (row, slot)) in rows.iter().zip(&slots).enumerate() {
                if mask.as_ref().is_none_or(|mask| mask.value(pair)) {
                    if counted[0] {
                        degrees[*row as usize] += self.sides[other].weight(*slot);
                    }
                    if counted[1] {
                        self.sides[other].count(*slot, delta.changes.weight(*row as usize));
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows of a side that got their first match or lost their last one through a change of the other side.
    fn show_flipped(&mut self, side: usize, out: &mut Vec<Changes>) -> Result<()> {
        let flipped = self.sides[side].flipped();
        if self.spec.null_aware && side == LEFT && self.verdict() != Verdict::Each {
            return Ok(());
        }
        let (mut slots, mut weights, mut marks) = (vec![], vec![], vec![]);
        let mut push = |slot: u32, weight: i64, mark: bool| {
            slots.push(slot);
            weights.push(weight);
            marks.push(mark);
        };
        for (slot, matched) in flipped {
            let weight = self.sides[side].weight(slot);
            match self.shown[side] {
                Shown::Nothing => {}
                Shown::Matched => push(slot, if matched { weight } else { -weight }, true),
                Shown::Unmatched => push(slot, if matched { -weight } else { weight }, false),
                Shown::Marked => {
                    push(slot, -weight, !matched);
                    push(slot, weight, matched);
                }
            }
        }
        let columns = self.sides[side].gather(&slots, self.spec.widths[side])?;
        self.show(side, columns, weights, marks, out)
    }

    /// The change's own rows, as their matches say.
    fn show_own(&self, side: usize, delta: &Delta, degrees: &[i64], out: &mut Vec<Changes>) -> Result<()> {
        let verdict = if self.spec.null_aware && side == LEFT { Some(self.verdict()) } else { None };
        let is_shown = |row: u32| match (self.shown[side], verdict) {
            (Shown::Nothing, _) | (_, Some(Verdict::None)) => false,
            (Shown::Marked, _) | (_, Some(Verdict::All)) => true,
            (Shown::Matched, _) => degrees[row as usize] > 0,
            (Shown::Unmatched, None) => degrees[row as usize] <= 0,
            (Shown::Unmatched, Some(Verdict::Each)) => degrees[row as usize] <= 0 && delta.can_match(row),
        };
        let rows: Vec<u32> = (0..delta.changes.num_rows() as u32).filter(|row| is_shown(*row)).collect();
        let weights = rows.iter().map(|row| delta.changes.weight(*row as usize)).collect();
        let marks = rows.iter().map(|row| degrees[*row as usize] > 0).collect();
        let columns = take_columns(&delta.changes, &rows, self.spec.widths[side])?;
        self.show(side, columns, weights, marks, out)
    }

    /// Emits rows of one side: beside nulls, with their marks, or as they are.
    fn show(
        &self,
        side: usize,
        mut columns: Vec<ArrayRef>,
        weights: Vec<i64>,
        marks: Vec<bool>,
        out: &mut Vec<Changes>,
    ) -> Result<()> {
        if weights.is_empty() {
            return Ok(());
        }
        if self.shown[side] == Shown::Marked {
            columns.push(Arc::new(BooleanArray::from(marks)));
        }
        if self.shows_pairs {
            let other = self.inputs[1 - side].fields()[..self.spec.widths[1 - side]].iter();
            let nulls: Vec<ArrayRef> = other.map(|field| new_null_array(field.data_type(), weights.len())).collect();
            columns = match side {
                LEFT => columns.into_iter().chain(nulls).collect(),
                _ => nulls.into_iter().chain(columns).collect(),
            };
        }
        out.push(changes(&self.schema, columns, weights)?);
        Ok(())
    }

    fn verdict(&self) -> Verdict {
        verdict(self.sides[RIGHT].total, self.sides[RIGHT].nulls)
    }

    /// The left rows that a `NOT IN` shows, by slot.
    fn not_in(&self) -> Vec<bool> {
        let left = &self.sides[LEFT];
        let verdict = self.verdict();
        let mut shown = vec![];
        for slot in left.slots() {
            shown.resize(slot as usize + 1, false);
            shown[slot as usize] = match verdict {
                Verdict::All => true,
                Verdict::None => false,
                Verdict::Each => left.degree(slot) <= 0 && !left.has_null_key(slot),
            };
        }
        shown
    }

    /// The right side's changes of a `NOT IN`: when what it says of all rows changes, every left row is looked at.
    fn apply_right_of_not_in(
        &mut self,
        deltas: &[Delta],
        context: &mut StepContext,
        out: &mut Vec<Changes>,
    ) -> Result<()> {
        let Side { mut total, mut nulls, .. } = self.sides[RIGHT];
        let mut stays = verdict(total, nulls) == Verdict::Each;
        for delta in deltas {
            for row in 0..delta.changes.num_rows() {
                total += delta.changes.weight(row);
                nulls += if delta.can_match(row as u32) { 0 } else { delta.changes.weight(row) };
            }
            stays &= verdict(total, nulls) == Verdict::Each;
        }
        if stays {
            return deltas.iter().try_for_each(|delta| self.apply(RIGHT, delta, context, out));
        }
        let before = self.not_in();
        let mut told = vec![];
        for delta in deltas {
            self.apply(RIGHT, delta, context, &mut told)?;
        }
        let after = self.not_in();
        let slots: Vec<u32> =
            (0..after.len() as u32).filter(|slot| before[*slot as usize] != after[*slot as usize]).collect();
        let weight = |slot: &u32| self.sides[LEFT].weight(*slot) * if after[*slot as usize] { 1 } else { -1 };
        let weights: Vec<i64> = slots.iter().map(weight).collect();
        let columns = self.sides[LEFT].gather(&slots, self.spec.widths[LEFT])?;
        self.show(LEFT, columns, weights, vec![], out)
    }

    /// Puts the rows back that were read so far.
    fn put_back(&mut self, side: usize) -> Result<()> {
        let Restored { slots, weights, degrees, rows } = std::mem::take(&mut self.restored[side]);
        let columns = self.sides[side].decode(rows.iter().map(AsRef::as_ref))?;
        let batch = RecordBatch::try_new_with_options(
            self.inputs[side].clone(),
            columns,
            &RecordBatchOptions::new().with_row_count(Some(rows.len())),
        )?;
        let delta = self.delta(side, Changes::with_weights(batch, Int64Array::from(weights))?)?;
        self.sides[side].restore(&delta, slots, &degrees)
    }
}

fn changes(schema: &SchemaRef, columns: Vec<ArrayRef>, weights: Vec<i64>) -> Result<Changes> {
    let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    if weights.iter().all(|weight| *weight == 1) {
        return Ok(Changes::inserts(batch));
    }
    Ok(Changes::new(batch, Weights::Each(Int64Array::from(weights)))?)
}

fn take_columns(changes: &Changes, rows: &[u32], width: usize) -> Result<Vec<ArrayRef>> {
    let columns = &changes.batch().columns()[..width];
    if rows.len() == changes.num_rows() && rows.iter().enumerate().all(|(at, row)| at == *row as usize) {
        return Ok(columns.to_vec());
    }
    let indices = UInt32Array::from(rows.to_vec());
    Ok(columns.iter().map(|column| arrow::compute::take(column, &indices, None)).collect::<Result<_, _>>()?)
}

/// Pairs that a condition holds for. A pair that it fails on is rejected, alone.
fn holding(residual: &Arc<dyn PhysicalExpr>, pairs: &Changes, context: &mut StepContext) -> BooleanArray {
    let batch = pairs.batch();
    if let Ok(mask) = predicate(residual, batch) {
        return mask;
    }
    let mut holds = vec![false; batch.num_rows()];
    for (row, holds) in holds.iter_mut().enumerate() {
        match predicate(residual, &batch.slice(row, 1)) {
            Ok(mask) => *holds = mask.value(0),
            Err(error) => context.rejected.push(RejectedRow {
                view: context.view.to_string(),
                row: crate::source::row_as_json(batch, row),
                reason: error.strip_backtrace(),
                weight: pairs.weight(row),
            }),
        }
    }
    BooleanArray::from(holds)
}

impl Operator for Join {
    fn step(&mut self, mut inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut out = vec![];
        let mut deltas = |side: usize| -> Result<Vec<Delta>> {
            inputs.get_mut(side).map(std::mem::take).into_iter().flatten().map(|part| self.delta(side, part)).collect()
        };
        let deltas = [deltas(LEFT)?, deltas(RIGHT)?];
        // A side that never changes goes first: the rows of the other are not kept for it.
        let first = if self.spec.is_static == [true, false] && !self.spec.null_aware { LEFT } else { RIGHT };
        for side in [first, 1 - first] {
            if side == RIGHT && self.spec.null_aware && !deltas[RIGHT].is_empty() {
                self.apply_right_of_not_in(&deltas[RIGHT], context, &mut out)?;
                continue;
            }
            for delta in &deltas[side] {
                self.apply(side, delta, context, &mut out)?;
            }
        }
        if self.spec.is_static == [true, true] && !out.is_empty() {
            // What is shown in between, while the second side is not there yet, is no row that anybody must see.
            out = vec![netted(&self.schema, &out)?];
        }
        if let Some((_, bound)) = &self.spec.bound
            && let Some(threshold) = context.threshold_us(bound)
        {
            for side in &mut self.sides {
                side.expire(threshold);
            }
        }
        for (side, retention) in self.sides.iter_mut().zip(&self.spec.retention) {
            if let Some((_, bound)) = retention
                && let Some(threshold) = context.threshold_us(bound)
            {
                side.let_go(threshold);
            }
            side.tidy()?;
        }
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        self.sides.iter().any(Side::waits_for_time)
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        for (number, side) in self.sides.iter_mut().enumerate() {
            side.checkpoint(number as u8, sink)?;
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is damaged".into() };
        let Some(value) = value else { return Ok(()) };
        let [side @ (0 | 1), slot @ ..] = key else { return Err(damaged()) };
        let slot = slot.try_into().map(u32::from_be_bytes).map_err(|_| damaged())?;
        let (weight, value) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (degree, row) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        let side = usize::from(*side);
        let restored = &mut self.restored[side];
        restored.slots.push(slot);
        restored.weights.push(i64::from_le_bytes(*weight));
        restored.degrees.push(i64::from_le_bytes(*degree));
        restored.rows.push(row.into());
        if restored.rows.len() == RESTORED_AT_ONCE {
            self.put_back(side)?;
        }
        Ok(())
    }

    fn restored(&mut self) -> Result<()> {
        for side in [LEFT, RIGHT] {
            self.put_back(side)?;
            self.sides[side].restored();
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.sides.iter().map(Side::memory).sum()
    }

    fn entries(&self) -> usize {
        self.sides.iter().map(Side::len).sum()
    }
}
