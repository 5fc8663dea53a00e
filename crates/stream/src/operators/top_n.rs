//! The first rows of each partition: ROW_NUMBER, RANK or DENSE_RANK over (PARTITION BY p ORDER BY o), at most N.
//!
//! Each partition keeps its rows in order; a touched partition emits the difference between its old and new first rows,
//! with their numbers where someone reads them. ROW_NUMBER decides ties by the whole row, as the batch plan does; RANK
//! and DENSE_RANK keep all rows of a tie.
//! State: all rows of each partition, or only the first ones when the input is append-only. Partitions below the bound
//! of a partition column are let go.

use super::aggregate::microseconds;
use super::{Operator, StateSink, StepContext};
use crate::error::{Result, StreamError};
use crate::state::{EncodedRows, KeyTable, RowCodec, key_hash};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::SortField;
use rivermere_base::Changes;
use rivermere_sql::{Ranking, TimeBound};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct TopNSpec {
    pub(crate) ranking: Ranking,
    /// Columns of the input (partition, then order, then the rest of the row).
    pub(crate) partition: Vec<usize>,
    pub(crate) order: Vec<(usize, SortOptions)>,
    /// How many leading columns of the input are the rows themselves; expressions of the order follow.
    pub(crate) row_width: usize,
    pub(crate) limit: usize,
    /// Whether anybody reads the numbers: if nobody does, rows that only move emit nothing.
    pub(crate) shows_rank: bool,
    pub(crate) append_only_input: bool,
    pub(crate) bound: Option<(usize, TimeBound)>,
}

/// Partitions of append-only rows that are told whole in a checkpoint keep at most this many.
const WHOLE_LIMIT: usize = 64;

/// The partition changed in this step.
const TOUCHED: u8 = 1;
/// It changed since the last checkpoint.
const DIRTY: u8 = 2;

/// First byte of a state entry's key: all rows of a partition, or one row.
const WHOLE: u8 = 0;
const ROW: u8 = 1;

/// One row's weight, and how many of its bytes are the order that ties are made of.
#[derive(Clone, Copy)]
struct Held {
    weight: i64,
    order: u32,
}

/// Rows of a partition by their order, which holds every column.
enum Partition {
    Few(Vec<(Box<[u8]>, Held)>),
    Many(BTreeMap<Box<[u8]>, Held>),
}

impl Partition {
    fn iter(&self) -> Box<dyn Iterator<Item = (&[u8], Held)> + '_> {
        match self {
            Self::Few(rows) => Box::new(rows.iter().map(|(row, held)| (row.as_ref(), *held))),
            Self::Many(rows) => Box::new(rows.iter().map(|(row, held)| (row.as_ref(), *held))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(rows) => rows.len(),
            Self::Many(rows) => rows.len(),
        }
    }

    fn add(&mut self, row: &[u8], added: Held) {
        match self {
            Self::Few(rows) => match rows.binary_search_by(|(held, _)| held.as_ref().cmp(row)) {
                Ok(at) => {
                    rows[at].1.weight += added.weight;
                    if rows[at].1.weight == 0 {
                        rows.remove(at);
                    }
                }
                Err(at) => rows.insert(at, (row.into(), added)),
            },
            Self::Many(rows) => match rows.get_mut(row) {
                Some(held) => {
                    held.weight += added.weight;
                    if held.weight == 0 {
                        rows.remove(row);
                    }
                }
                None => {
                    rows.insert(row.into(), added);
                }
            },
        }
    }

    fn weight(&self, row: &[u8]) -> Option<Held> {
        match self {
            Self::Few(rows) => rows.binary_search_by(|(held, _)| held.as_ref().cmp(row)).ok().map(|at| rows[at].1),
            Self::Many(rows) => rows.get(row).copied(),
        }
    }
}

/// First rows of partitions, one after the other.
#[derive(Default)]
struct First {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy)]
struct Item {
    start: usize,
    len: usize,
    rank: u64,
    count: i64,
}

impl First {
    fn row(&self, item: Item) -> &[u8] {
        &self.bytes[item.start..item.start + item.len]
    }
}

pub(crate) struct TopN {
    spec: TopNSpec,
    schema: SchemaRef,
    partition_codec: RowCodec,
    /// The order, then the columns of the row that it lacks.
    row_codec: RowCodec,
    row_columns: Vec<usize>,
    /// Only the order, where ties matter.
    order_codec: Option<RowCodec>,
    /// Column of `row_codec` for each column of a row.
    places: Vec<usize>,
    partitions: KeyTable,
    rows: Vec<Partition>,
    flags: Vec<u8>,
    by_time: BTreeMap<i64, Vec<u32>>,
    /// Partitions that are told whole.
    dirty: Vec<u32>,
    /// Entries of single rows that may have changed since the last checkpoint, and of partitions that went.
    changed: KeyTable,
    held: usize,
    held_bytes: usize,
}

impl TopN {
    pub(crate) fn new(mut spec: TopNSpec, input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        let data_type = |column: usize| input.field(column).data_type().clone();
        let field =
            |(column, options): &(usize, SortOptions)| SortField::new_with_options(data_type(*column), *options);
        let order_codec = match spec.ranking {
            Ranking::RowNumber => None,
            Ranking::Rank | Ranking::DenseRank => Some(RowCodec::with_fields(spec.order.iter().map(field).collect())?),
        };
        for column in 0..spec.row_width {
            if !spec.order.iter().any(|(other, _)| *other == column) {
                spec.order.push((column, SortOptions::default()));
            }
        }
        let partition: Vec<DataType> = spec.partition.iter().map(|column| data_type(*column)).collect();
        let row_columns: Vec<usize> = spec.order.iter().map(|(column, _)| *column).collect();
        let places = (0..spec.row_width).filter_map(|column| row_columns.iter().position(|other| *other == column));
        Ok(Self {
            partition_codec: RowCodec::new(&partition)?,
            row_codec: RowCodec::with_fields(spec.order.iter().map(field).collect())?,
            order_codec,
            places: places.collect(),
            row_columns,
            spec,
            schema,
            partitions: KeyTable::new(),
            rows: vec![],
            flags: vec![],
            by_time: BTreeMap::new(),
            dirty: vec![],
            changed: KeyTable::new(),
            held: 0,
            held_bytes: 0,
        })
    }

    /// Whether partitions keep their first rows only, few enough to be told together.
    fn whole(&self) -> bool {
        self.spec.append_only_input && self.spec.limit <= WHOLE_LIMIT
    }

    fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.partitions.intern_hashed(key_hash(key), key);
        if self.partitions.slots() > self.rows.len() {
            let few = self.whole();
            let empty = || if few { Partition::Few(vec![]) } else { Partition::Many(BTreeMap::new()) };
            self.rows.resize_with(self.partitions.slots(), empty);
            self.flags.resize(self.partitions.slots(), 0);
        }
        (slot, new)
    }

    /// Appends the first rows of a partition to `first`.
    fn first(&self, slot: u32, first: &mut First) {
        let limit = self.spec.limit as u64;
        let (mut before, mut group, mut rank) = (0_u64, 0_u64, 0_u64);
        let mut tie: Option<&[u8]> = None;
        for (row, held) in self.rows[slot as usize].iter() {
            let count = held.weight.max(0) as u64;
            if count == 0 {
                continue;
            }
            let order = &row[..held.order as usize];
            if tie != Some(order) || self.spec.ranking == Ranking::RowNumber {
                tie = Some(order);
                group += 1;
                rank = if self.spec.ranking == Ranking::DenseRank { group } else { before + 1 };
            }
            if rank > limit {
                break;
            }
            let start = first.bytes.len();
            first.bytes.extend_from_slice(row);
            let mut push = |rank: u64, count: u64| {
                let rank = if self.spec.shows_rank { rank } else { 0 };
                first.items.push(Item { start, len: row.len(), rank, count: count as i64 });
            };
            match self.spec.ranking {
                Ranking::RowNumber if self.spec.shows_rank => {
                    (rank..=limit.min(before + count)).for_each(|n| push(n, 1))
                }
                Ranking::RowNumber => push(rank, count.min(limit - before)),
                Ranking::Rank | Ranking::DenseRank => push(rank, count),
            }
            before += count;
        }
    }

    fn apply(&mut self, slot: u32, row: &[u8], added: Held) {
        let at = slot as usize;
        if self.whole() {
            // A row behind the last one of a full partition never comes first again.
            if let Partition::Few(rows) = &self.rows[at]
                && self.spec.ranking != Ranking::DenseRank
                && rows.len() >= self.spec.limit
                && rows.last().is_some_and(|(last, held)| {
                    row[..added.order as usize] > last[..held.order as usize] && row > last.as_ref()
                })
            {
                return;
            }
            if self.flags[at] & DIRTY == 0 {
                self.flags[at] |= DIRTY;
                self.dirty.push(slot);
            }
        } else {
            self.tell_row(slot, row);
        }
        let before = self.rows[at].len();
        self.rows[at].add(row, added);
        let after = self.rows[at].len();
        self.held = self.held + after - before;
        if after > before {
            self.held_bytes += row.len();
        }
        if after < before {
            self.held_bytes -= row.len();
        }
        if self.spec.append_only_input && after > self.spec.limit {
            self.trim(slot);
        }
    }

    /// The row's entry may have to be told again.
    fn tell_row(&mut self, slot: u32, row: &[u8]) {
        let entry = entry_key(ROW, self.partitions.key(slot), row);
        self.changed.intern(&entry);
    }

    /// Lets rows of an append-only partition go that can never come first again.
    fn trim(&mut self, slot: u32) {
        let limit = self.spec.limit as u64;
        let (mut before, mut group, mut kept) = (0_u64, 0_u64, 0);
        let mut tie: Option<&[u8]> = None;
        for (row, held) in self.rows[slot as usize].iter() {
            let order = &row[..held.order as usize];
            let same = tie == Some(order) && self.spec.ranking != Ranking::RowNumber;
            group += u64::from(!same);
            let out = match self.spec.ranking {
                Ranking::DenseRank => group > limit,
                _ => !same && before >= limit,
            };
            if out {
                break;
            }
            tie = Some(order);
            before += held.weight.max(0) as u64;
            kept += 1;
        }
        let gone: Vec<Box<[u8]>> = match &mut self.rows[slot as usize] {
            Partition::Few(rows) => rows.drain(kept..).map(|(row, _)| row).collect(),
            Partition::Many(rows) => {
                let Some(cut) = rows.keys().nth(kept).cloned() else { return };
                rows.split_off(&cut).into_keys().collect()
            }
        };
        self.held -= gone.len();
        for row in gone {
            self.held_bytes -= row.len();
            if !self.whole() {
                self.tell_row(slot, &row);
            }
        }
    }

    /// What changed between the first rows before and after, partition by partition.
    fn difference(&self, old: (&First, &[usize]), new: (&First, &[usize])) -> Result<Vec<Changes>> {
        let mut rows: Vec<&[u8]> = vec![];
        let (mut ranks, mut weights) = (vec![], vec![]);
        for partition in 0..old.1.len() {
            let from = |ends: &[usize]| partition.checked_sub(1).map_or(0, |before| ends[before]);
            let mut was = old.0.items[from(old.1)..old.1[partition]].iter().peekable();
            let mut is = new.0.items[from(new.1)..new.1[partition]].iter().peekable();
            loop {
                let order = match (was.peek(), is.peek()) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some(was), Some(is)) => (old.0.row(**was), was.rank).cmp(&(new.0.row(**is), is.rank)),
                };
                let before = if order.is_le() { was.next().copied() } else { None };
                let after = if order.is_ge() { is.next().copied() } else { None };
                let weight = after.map_or(0, |item| item.count) - before.map_or(0, |item| item.count);
                let row = before.map(|item| old.0.row(item)).or_else(|| after.map(|item| new.0.row(item)));
                if weight != 0
                    && let (Some(row), Some(item)) = (row, before.or(after))
                {
                    rows.push(row);
                    ranks.push(item.rank);
                    weights.push(weight);
                }
            }
        }
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let decoded = self.row_codec.decode(rows)?;
        let mut columns: Vec<ArrayRef> = self.places.iter().map(|place| decoded[*place].clone()).collect();
        columns.push(Arc::new(UInt64Array::from(ranks)));
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
                self.forget(slot);
            }
        }
    }

    /// Frees a partition.
    fn forget(&mut self, slot: u32) {
        let rows = std::mem::replace(&mut self.rows[slot as usize], Partition::Few(vec![]));
        if self.whole() {
            self.changed.intern(&entry_key(WHOLE, self.partitions.key(slot), &[]));
        }
        for (row, _) in rows.iter() {
            if !self.whole() {
                self.tell_row(slot, row);
            }
            self.held_bytes -= row.len();
        }
        self.held -= rows.len();
        if !self.whole() {
            self.rows[slot as usize] = Partition::Many(BTreeMap::new());
        }
        self.flags[slot as usize] = 0;
        self.partitions.remove(slot);
    }

    fn index_time(&mut self, slot: u32, time: Option<i64>) {
        if let Some(time) = time {
            self.by_time.entry(time).or_default().push(slot);
        }
    }

    /// One part of the input; `touched` gets each partition of the step once, and `old` its first rows.
    fn take_in(
        &mut self,
        changes: &Changes,
        touched: &mut Vec<u32>,
        old: &mut First,
        old_ends: &mut Vec<usize>,
    ) -> Result<()> {
        let columns = changes.batch().columns();
        let rows = changes.num_rows();
        let pick =
            |wanted: &[usize]| -> Vec<ArrayRef> { wanted.iter().map(|column| columns[*column].clone()).collect() };
        let partitions = self.partition_codec.encode(&pick(&self.spec.partition), rows)?;
        let encoded = self.row_codec.encode(&pick(&self.row_columns), rows)?;
        let orders: Option<EncodedRows> = match &self.order_codec {
            Some(codec) => {
                let order = self.row_columns.iter().copied().take(codec.width()).collect::<Vec<_>>();
                Some(codec.encode(&pick(&order), rows)?)
            }
            None => None,
        };
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
            if self.flags[slot as usize] & TOUCHED == 0 {
                self.flags[slot as usize] |= TOUCHED;
                touched.push(slot);
                self.first(slot, old);
                old_ends.push(old.items.len());
            }
            let bytes = encoded.get(row);
            let order = orders.as_ref().map_or(bytes.len(), |orders| orders.get(row).len());
            self.apply(slot, bytes, Held { weight: changes.weight(row), order: order as u32 });
        }
        Ok(())
    }
}

impl Operator for TopN {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut touched = vec![];
        let (mut old, mut old_ends) = (First::default(), vec![]);
        for changes in inputs.into_iter().flatten() {
            self.take_in(&changes, &mut touched, &mut old, &mut old_ends)?;
        }
        let (mut new, mut new_ends) = (First::default(), vec![]);
        for slot in &touched {
            self.flags[*slot as usize] &= !TOUCHED;
            self.first(*slot, &mut new);
            new_ends.push(new.items.len());
        }
        let out = self.difference((&old, &old_ends), (&new, &new_ends))?;
        for slot in touched {
            // A bounded partition stays until its time is over: the time index names its slot.
            if self.rows[slot as usize].len() == 0 && self.spec.bound.is_none() {
                self.forget(slot);
            }
        }
        self.expire(context);
        Ok(out)
    }

    fn wants_empty_step(&self) -> bool {
        !self.by_time.is_empty()
    }

    fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        for slot in 0..changed.slots() as u32 {
            let entry = changed.key(slot);
            let Some((kind, partition, row)) = split_entry(entry) else { continue };
            let held = self.partitions.find(partition).and_then(|slot| self.rows[slot as usize].weight(row));
            match held {
                Some(held) if kind == ROW => sink(entry, Some(&entry_value(held))),
                _ => sink(entry, None),
            }
        }
        let mut value = vec![];
        for slot in std::mem::take(&mut self.dirty) {
            // A slot that was freed is clean; one that was freed and used again may be listed twice.
            if self.flags[slot as usize] & DIRTY == 0 {
                continue;
            }
            self.flags[slot as usize] &= !DIRTY;
            value.clear();
            for (row, held) in self.rows[slot as usize].iter() {
                value.extend_from_slice(&entry_value(held));
                value.extend_from_slice(&(row.len() as u32).to_le_bytes());
                value.extend_from_slice(row);
            }
            let entry = entry_key(WHOLE, self.partitions.key(slot), &[]);
            sink(&entry, (!value.is_empty()).then_some(value.as_slice()));
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || StreamError::Operator { view: String::new(), message: "a state entry is damaged".into() };
        let Some(mut value) = value else { return Ok(()) };
        let (kind, partition, row) = split_entry(key).ok_or_else(damaged)?;
        let (slot, new) = self.intern(partition);
        if new && let Some((column, _)) = &self.spec.bound {
            let at = self.spec.partition.iter().position(|partition| partition == column).ok_or_else(damaged)?;
            let times = microseconds(&self.partition_codec.decode([partition])?[at])?;
            self.index_time(slot, times.is_valid(0).then(|| times.value(0)));
        }
        if kind == ROW {
            let held = read_held(&mut value).ok_or_else(damaged)?;
            self.put_back(slot, row, held);
        }
        while !value.is_empty() {
            let held = read_held(&mut value).ok_or_else(damaged)?;
            let (len, rest) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
            let (row, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
            value = rest;
            self.put_back(slot, row, held);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.partitions.memory() + self.rows.capacity() * size_of::<Partition>() + self.held * 48 + self.held_bytes
    }

    fn entries(&self) -> usize {
        self.held
    }
}

impl TopN {
    fn put_back(&mut self, slot: u32, row: &[u8], held: Held) {
        self.rows[slot as usize].add(row, held);
        self.held += 1;
        self.held_bytes += row.len();
    }
}

fn entry_key(kind: u8, partition: &[u8], row: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + partition.len() + row.len());
    key.push(kind);
    key.extend_from_slice(&(partition.len() as u32).to_le_bytes());
    key.extend_from_slice(partition);
    key.extend_from_slice(row);
    key
}

fn split_entry(entry: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = entry.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (partition, row) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((*kind, partition, row))
}

fn entry_value(held: Held) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&held.weight.to_le_bytes());
    value[8..].copy_from_slice(&held.order.to_le_bytes());
    value
}

fn read_held(value: &mut &[u8]) -> Option<Held> {
    let (weight, rest) = value.split_first_chunk::<8>()?;
    let (order, rest) = rest.split_first_chunk::<4>()?;
    *value = rest;
    Some(Held { weight: i64::from_le_bytes(*weight), order: u32::from_le_bytes(*order) })
}
