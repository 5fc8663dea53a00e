//! Functions OVER (PARTITION BY p ORDER BY o), and SESSION windows, which are such functions.
//!
//! A touched partition is computed again, before and after its change, by DataFusion's own window functions over its
//! rows in order; what differs is emitted. So every function and frame has its batch meaning, at the cost of a look at
//! the whole partition in each step that touches it.
//! State: all rows of each partition. Partitions below the bound of a partition column are let go, and rows of sessions
//! that the watermark has closed.

use super::aggregate::microseconds;
use super::{Operator, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{KeyTable, RowCodec, RowOrder, key_hash, row_entry, split_row_entry};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::window::WindowExpr;
use rivermere_base::Changes;
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct OverSpec {
    /// Columns of the input.
    pub(crate) partition: Vec<usize>,
    pub(crate) order: Vec<(usize, SortOptions)>,
    /// How many leading columns of the input are the rows themselves; expressions follow.
    pub(crate) row_width: usize,
    /// Over the rows.
    pub(crate) functions: Vec<Arc<dyn WindowExpr>>,
    /// Partition column whose bound frees partitions.
    pub(crate) bound: Option<(usize, TimeBound)>,
    /// The output column with the end of a session, and what the watermark says of the rows' times.
    pub(crate) sessions: Option<(usize, TimeBound)>,
}

/// The partition changed in this step.
const TOUCHED: u8 = 1;

pub(crate) struct Over {
    spec: OverSpec,
    rows_schema: SchemaRef,
    schema: SchemaRef,
    partition_codec: RowCodec,
    order: RowOrder,
    output_codec: RowCodec,
    partitions: KeyTable,
    rows: Vec<BTreeMap<Box<[u8]>, i64>>,
    flags: Vec<u8>,
    /// Partitions by their time, or by the end of their first session.
    by_time: BTreeMap<i64, Vec<u32>>,
    /// Entries that may have changed since the last checkpoint.
    changed: KeyTable,
    held: usize,
    held_bytes: usize,
}

impl Over {
    pub(crate) fn new(spec: OverSpec, rows: &SchemaRef, input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        let partition: Vec<DataType> =
            spec.partition.iter().map(|column| input.field(*column).data_type().clone()).collect();
        Ok(Self {
            partition_codec: RowCodec::new(&partition)?,
            order: RowOrder::new(input, &spec.order, spec.row_width)?,
            output_codec: RowCodec::of_schema(&schema)?,
            spec,
            rows_schema: rows.clone(),
            schema,
            partitions: KeyTable::new(),
            rows: vec![],
            flags: vec![],
            by_time: BTreeMap::new(),
            changed: KeyTable::new(),
            held: 0,
            held_bytes: 0,
        })
    }

    fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.partitions.intern_hashed(key_hash(key), key);
        if self.partitions.slots() > self.rows.len() {
            self.rows.resize_with(self.partitions.slots(), BTreeMap::new);
            self.flags.resize(self.partitions.slots(), 0);
        }
        (slot, new)
    }

    /// A partition's rows in order, each as often as it weighs.
    fn in_order(&self, slot: u32) -> impl Iterator<Item = &[u8]> {
        self.rows[slot as usize]
            .iter()
            .flat_map(|(row, weight)| std::iter::repeat_n(row.as_ref(), usize::try_from(*weight).unwrap_or_default()))
    }

    /// A partition's rows with the functions' results; nothing when it is empty.
    fn results(&self, slot: u32) -> Result<Option<RecordBatch>> {
        if self.in_order(slot).next().is_none() {
            return Ok(None);
        }
        let rows = RecordBatch::try_new(self.rows_schema.clone(), self.order.decode(self.in_order(slot))?)?;
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for function in &self.spec.functions {
            columns.push(function.evaluate(&rows)?);
        }
        Ok(Some(RecordBatch::try_new(self.schema.clone(), columns)?))
    }

    fn add(&mut self, slot: u32, row: &[u8], weight: i64) {
        self.changed.intern(&row_entry(self.partitions.key(slot), row));
        let rows = &mut self.rows[slot as usize];
        match rows.get_mut(row) {
            Some(held) => {
                *held += weight;
                if *held == 0 {
                    rows.remove(row);
                    self.held -= 1;
                    self.held_bytes -= row.len();
                }
            }
            None => {
                rows.insert(row.into(), weight);
                self.held += 1;
                self.held_bytes += row.len();
            }
        }
    }

    /// One part of the input; partitions that it touches first give their results as they were.
    fn take_in(&mut self, changes: &Changes, touched: &mut Vec<u32>, old: &mut Vec<RecordBatch>) -> Result<()> {
        let columns = changes.batch().columns();
        let rows = changes.num_rows();
        let partition: Vec<ArrayRef> = self.spec.partition.iter().map(|column| columns[*column].clone()).collect();
        let partitions = self.partition_codec.encode(&partition, rows)?;
        let encoded = self.order.encode(columns, rows)?;
        let times = match &self.spec.bound {
            Some((column, _)) => Some(microseconds(&columns[*column])?),
            None => None,
        };
        for row in 0..rows {
            let (slot, new) = self.intern(partitions.get(row));
            if new && let Some(times) = times.as_ref().filter(|times| times.is_valid(row)) {
                self.by_time.entry(times.value(row)).or_default().push(slot);
            }
            if self.flags[slot as usize] & TOUCHED == 0 {
                self.flags[slot as usize] |= TOUCHED;
                touched.push(slot);
                old.extend(self.results(slot)?);
            }
            self.add(slot, encoded.get(row), changes.weight(row));
        }
        Ok(())
    }

    /// Minus the old rows, plus the new ones, without those that stay.
    fn difference(&self, old: &[RecordBatch], new: &[RecordBatch]) -> Result<Vec<Changes>> {
        let all = concat_batches(&self.schema, old.iter().chain(new))?;
        let minus: usize = old.iter().map(RecordBatch::num_rows).sum();
        let encoded = self.output_codec.encode(all.columns(), all.num_rows())?;
        let mut table = KeyTable::new();
        let (mut first, mut weights) = (vec![], vec![]);
        for (row, bytes) in encoded.iter().enumerate() {
            let (slot, new) = table.intern(bytes);
            if new {
                first.push(row as u64);
                weights.push(0);
            }
            weights[slot as usize] += if row < minus { -1 } else { 1 };
        }
        let kept: Vec<usize> = (0..weights.len()).filter(|slot| weights[*slot] != 0).collect();
        if kept.is_empty() {
            return Ok(vec![]);
        }
        let rows = UInt64Array::from_iter_values(kept.iter().map(|slot| first[*slot]));
        let weights: Int64Array = kept.iter().map(|slot| weights[*slot]).collect();
        Ok(vec![Changes::with_weights(arrow::compute::take_record_batch(&all, &rows)?, weights)?])
    }

    /// Notes when a partition's first session ends.
    fn note_sessions(&mut self, slot: u32, results: &RecordBatch) -> Result<()> {
        if let Some((column, _)) = &self.spec.sessions {
            let ends = microseconds(results.column(*column))?;
            if let Some(first) = arrow::compute::min(&ends) {
                self.by_time.entry(first).or_default().push(slot);
            }
        }
        Ok(())
    }

    fn expire(&mut self, context: &StepContext) -> Result<()> {
        let bound = self.spec.sessions.as_ref().or(self.spec.bound.as_ref());
        let Some(threshold) = bound.and_then(|(_, bound)| context.threshold_us(bound)) else { return Ok(()) };
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= threshold {
                break;
            }
            let mut slots = entry.remove();
            slots.sort_unstable();
            slots.dedup();
            for slot in slots {
                if self.spec.sessions.is_some() {
                    self.close_sessions(slot, threshold)?;
                } else {
                    self.forget(slot);
                }
            }
        }
        Ok(())
    }

    /// Lets rows of sessions go that ended before `threshold`: no row can join them any more.
    fn close_sessions(&mut self, slot: u32, threshold: i64) -> Result<()> {
        // The slot may have been noted for a session that has grown since, or belong to nobody.
        let (Some(results), Some((column, _))) = (self.results(slot)?, &self.spec.sessions) else { return Ok(()) };
        let ends = microseconds(results.column(*column))?;
        let closed: Vec<(Box<[u8]>, i64)> = self
            .in_order(slot)
            .enumerate()
            .filter(|(row, _)| ends.is_valid(*row) && ends.value(*row) < threshold)
            .map(|(_, row)| (row.into(), -1))
            .collect();
        for (row, weight) in closed {
            self.add(slot, &row, weight);
        }
        match self.results(slot)? {
            Some(results) => self.note_sessions(slot, &results)?,
            None => self.partitions.remove(slot),
        }
        Ok(())
    }

    fn forget(&mut self, slot: u32) {
        for row in std::mem::take(&mut self.rows[slot as usize]).into_keys() {
            self.changed.intern(&row_entry(self.partitions.key(slot), &row));
            self.held -= 1;
            self.held_bytes -= row.len();
        }
        self.partitions.remove(slot);
    }
}

impl Operator for Over {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let (mut touched, mut old, mut new) = (vec![], vec![], vec![]);
        for changes in inputs.into_iter().flatten() {
            self.take_in(&changes, &mut touched, &mut old)?;
        }
        for slot in &touched {
            self.flags[*slot as usize] &= !TOUCHED;
            if let Some(results) = self.results(*slot)? {
                self.note_sessions(*slot, &results)?;
                new.push(results);
            }
        }
        let out = self.difference(&old, &new)?;
        for slot in touched {
            // A bounded partition stays until its time is over: the time index names its slot.
            if self.rows[slot as usize].is_empty() && self.spec.bound.is_none() {
                self.partitions.remove(slot);
            }
        }
        self.expire(context)?;
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        !self.by_time.is_empty()
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        for slot in 0..changed.slots() as u32 {
            let entry = changed.key(slot);
            let Some((partition, row)) = split_row_entry(entry) else { continue };
            let weight = self.partitions.find(partition).and_then(|slot| self.rows[slot as usize].get(row));
            sink(entry, weight.map(|weight| weight.to_le_bytes()).as_ref().map(|bytes| bytes.as_slice()));
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is damaged".into() };
        let Some(value) = value else { return Ok(()) };
        let (partition, row) = split_row_entry(key).ok_or_else(damaged)?;
        let weight = value.first_chunk::<8>().ok_or_else(damaged)?;
        let (slot, new) = self.intern(partition);
        if new && let Some((column, _)) = &self.spec.bound {
            let at = self.spec.partition.iter().position(|partition| partition == column).ok_or_else(damaged)?;
            let times = microseconds(&self.partition_codec.decode([partition])?[at])?;
            if times.is_valid(0) {
                self.by_time.entry(times.value(0)).or_default().push(slot);
            }
        }
        self.rows[slot as usize].insert(row.into(), i64::from_le_bytes(*weight));
        self.held += 1;
        self.held_bytes += row.len();
        Ok(())
    }

    fn restored(&mut self) -> Result<()> {
        if self.spec.sessions.is_some() {
            for slot in 0..self.partitions.slots() as u32 {
                if let Some(results) = self.results(slot)? {
                    self.note_sessions(slot, &results)?;
                }
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.partitions.memory() + self.rows.capacity() * 32 + self.held * 48 + self.held_bytes
    }

    fn entries(&self) -> usize {
        self.held
    }
}
