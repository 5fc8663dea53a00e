//! ROW_NUMBER() OVER (PARTITION BY p ORDER BY o) <= N.
//!
//! Each partition keeps its rows in order; a touched partition emits the difference between its old and new first N
//! rows, with their numbers. Ties are decided by the whole row, as in the batch plan.
//! State: all rows of each partition, or only the first N when the input is append-only. Partitions below the bound of
//! a partition column are let go.

use super::aggregate::microseconds;
use super::{Operator, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{KeyTable, RowCodec};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::SortField;
use rivermere_base::Changes;
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct TopNSpec {
    /// Columns of the input (partition, then order, then the rest of the row).
    pub(crate) partition: Vec<usize>,
    pub(crate) order: Vec<(usize, SortOptions)>,
    /// How many leading columns of the input are the rows themselves; expressions of the order follow.
    pub(crate) row_width: usize,
    pub(crate) limit: usize,
    pub(crate) append_only_input: bool,
    pub(crate) bound: Option<(usize, TimeBound)>,
}

pub(crate) struct TopN {
    spec: TopNSpec,
    schema: SchemaRef,
    partition_codec: RowCodec,
    /// The order columns, then all columns of the row.
    order_codec: RowCodec,
    row_codec: RowCodec,
    partitions: KeyTable,
    /// By slot: order bytes -> (row bytes, weight).
    rows: Vec<BTreeMap<Box<[u8]>, (Box<[u8]>, i64)>>,
    by_time: BTreeMap<i64, Vec<u32>>,
    dirty: BTreeMap<Box<[u8]>, Option<Vec<u8>>>,
    held: usize,
}

impl TopN {
    pub(crate) fn new(spec: TopNSpec, input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        let data_type = |column: usize| input.field(column).data_type().clone();
        let partition: Vec<DataType> = spec.partition.iter().map(|column| data_type(*column)).collect();
        let order =
            spec.order.iter().map(|(column, options)| SortField::new_with_options(data_type(*column), *options));
        let rows: Vec<DataType> = (0..spec.row_width).map(data_type).collect();
        Ok(Self {
            partition_codec: RowCodec::new(&partition)?,
            order_codec: RowCodec::with_fields(order.collect())?,
            row_codec: RowCodec::new(&rows)?,
            spec,
            schema,
            partitions: KeyTable::new(),
            rows: vec![],
            by_time: BTreeMap::new(),
            dirty: BTreeMap::new(),
            held: 0,
        })
    }

    fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.partitions.intern(key);
        if self.partitions.slots() > self.rows.len() {
            self.rows.resize(self.partitions.slots(), BTreeMap::new());
        }
        (slot, new)
    }

    /// The first N row bytes of a partition, repeated by weight.
    fn first(&self, slot: u32) -> Vec<Box<[u8]>> {
        let mut first = Vec::new();
        for (row, weight) in self.rows[slot as usize].values() {
            for _ in 0..(*weight).max(0) {
                if first.len() == self.spec.limit {
                    return first;
                }
                first.push(row.clone());
            }
        }
        first
    }

    fn apply(&mut self, slot: u32, order: &[u8], row: &[u8], weight: i64) {
        let key = self.partitions.key(slot).to_vec();
        let rows = &mut self.rows[slot as usize];
        let new_weight = match rows.get_mut(order) {
            Some((_, held)) => {
                *held += weight;
                *held
            }
            None => {
                rows.insert(order.into(), (row.into(), weight));
                self.held += 1;
                weight
            }
        };
        if new_weight == 0 {
            rows.remove(order);
            self.held -= 1;
        }
        self.dirty.insert(entry_key(&key, order), (new_weight != 0).then(|| entry_value(row, new_weight)));
    }

    /// Rows of an append-only partition that can never come first again.
    fn trim(&mut self, slot: u32) {
        let key = self.partitions.key(slot).to_vec();
        let rows = &mut self.rows[slot as usize];
        let mut total = 0_i64;
        let limit = self.spec.limit as i64;
        let cut = rows.iter().find_map(|(order, (_, weight))| {
            let full = total >= limit;
            total += weight;
            full.then(|| order.clone())
        });
        if let Some(cut) = cut {
            let gone = rows.split_off(&cut);
            self.held -= gone.len();
            for order in gone.into_keys() {
                self.dirty.insert(entry_key(&key, &order), None);
            }
        }
    }

    fn emit(&self, changed: &[(Vec<Box<[u8]>>, Vec<Box<[u8]>>)]) -> Result<Vec<Changes>> {
        let mut rows: Vec<&[u8]> = vec![];
        let mut ranks: Vec<u64> = vec![];
        let mut weights: Vec<i64> = vec![];
        for (old, new) in changed {
            for rank in 0..old.len().max(new.len()) {
                let (before, after) = (old.get(rank), new.get(rank));
                if before == after {
                    continue;
                }
                for (row, weight) in [(before, -1), (after, 1)] {
                    if let Some(row) = row {
                        rows.push(row);
                        ranks.push(rank as u64 + 1);
                        weights.push(weight);
                    }
                }
            }
        }
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let mut columns = self.row_codec.decode(rows)?;
        columns.push(Arc::new(UInt64Array::from(ranks)) as ArrayRef);
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(vec![Changes::with_weights(batch, Int64Array::from(weights))?])
    }

    fn expire(&mut self, context: &StepContext) {
        let Some((_, bound)) = &self.spec.bound else { return };
        let Some(threshold) = context.threshold_us(bound) else { return };
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= threshold {
                break;
            }
            for slot in entry.remove() {
                let key = self.partitions.key(slot).to_vec();
                for order in std::mem::take(&mut self.rows[slot as usize]).into_keys() {
                    self.dirty.insert(entry_key(&key, &order), None);
                    self.held -= 1;
                }
                self.partitions.remove(slot);
            }
        }
    }

    fn index_time(&mut self, slot: u32, time: Option<i64>) {
        if let Some(time) = time {
            self.by_time.entry(time).or_default().push(slot);
        }
    }
}

impl Operator for TopN {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut touched: BTreeMap<u32, Vec<Box<[u8]>>> = BTreeMap::new();
        for changes in inputs.into_iter().flatten() {
            let columns = changes.batch().columns();
            let rows = changes.num_rows();
            let pick = |columns: &[ArrayRef], wanted: &[usize]| -> Vec<ArrayRef> {
                wanted.iter().map(|column| columns[*column].clone()).collect()
            };
            let order_columns: Vec<usize> = self.spec.order.iter().map(|(column, _)| *column).collect();
            let partitions = self.partition_codec.encode(&pick(columns, &self.spec.partition), rows)?;
            let orders = self.order_codec.encode(&pick(columns, &order_columns), rows)?;
            let encoded = self.row_codec.encode(&columns[..self.spec.row_width], rows)?;
            let times = match &self.spec.bound {
                Some((column, _)) => Some(microseconds(&columns[*column])?),
                None => None,
            };
            for row in 0..rows {
                let (slot, new) = self.intern(partitions.get(row));
                if new {
                    let time = times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row));
                    self.index_time(slot, time);
                }
                if !touched.contains_key(&slot) {
                    touched.insert(slot, self.first(slot));
                }
                self.apply(slot, orders.get(row), encoded.get(row), changes.weight(row));
                if self.spec.append_only_input && self.rows[slot as usize].len() > self.spec.limit {
                    self.trim(slot);
                }
            }
        }
        let changed: Vec<_> = touched.into_iter().map(|(slot, old)| (old, self.first(slot))).collect();
        let out = self.emit(&changed)?;
        self.expire(context);
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        !self.by_time.is_empty()
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        for (key, value) in std::mem::take(&mut self.dirty) {
            sink(&key, value.as_deref());
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is damaged".into() };
        let (len, rest) = key.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (partition, order) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        match value {
            None => {
                if let Some(slot) = self.partitions.find(partition)
                    && self.rows[slot as usize].remove(order).is_some()
                {
                    self.held -= 1;
                }
            }
            Some(value) => {
                let (weight, row) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
                let (slot, new) = self.intern(partition);
                if new && let Some((column, _)) = &self.spec.bound {
                    let at =
                        self.spec.partition.iter().position(|partition| partition == column).ok_or_else(damaged)?;
                    let times = microseconds(&self.partition_codec.decode([partition])?[at])?;
                    self.index_time(slot, times.is_valid(0).then(|| times.value(0)));
                }
                let entry = (Box::from(row), i64::from_le_bytes(*weight));
                if self.rows[slot as usize].insert(order.into(), entry).is_none() {
                    self.held += 1;
                }
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.partitions.memory() + self.held * 160
    }

    fn entries(&self) -> usize {
        self.held
    }
}

fn entry_key(partition: &[u8], order: &[u8]) -> Box<[u8]> {
    let mut key = Vec::with_capacity(4 + partition.len() + order.len());
    key.extend_from_slice(&(partition.len() as u32).to_le_bytes());
    key.extend_from_slice(partition);
    key.extend_from_slice(order);
    key.into()
}

fn entry_value(row: &[u8], weight: i64) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + row.len());
    value.extend_from_slice(&weight.to_le_bytes());
    value.extend_from_slice(row);
    value
}
