//! The rows of one side of a join: by key in chains, each row with its weight and the weight of its matches.

use super::Delta;
use crate::error::Result;
use crate::operators::StateSink;
use crate::state::{KeyTable, RowCodec, RowStore, row_hash};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use std::collections::BTreeMap;

pub(super) const NONE: u32 = u32::MAX;

/// Rows that are needed until about the same time are let go together: a list for each microsecond would cost more than
/// the rows that stay a moment too long.
const SPAN_US: i64 = 1 << 18;

/// Rows told at once in a checkpoint.
const TOLD_AT_ONCE: usize = 16 * 1024;

/// The row changed since the last checkpoint.
const DIRTY: u8 = 1;
/// The weight of its matches changed in this change.
const TOUCHED: u8 = 2;
/// Its key is null, so it matches nothing.
const NULL_KEY: u8 = 4;

#[derive(Clone, Copy)]
struct Link {
    key: u32,
    next: u32,
    previous: u32,
}

const FREE: Link = Link { key: NONE, next: NONE, previous: NONE };

/// What a side is asked to keep beside its rows.
#[derive(Clone, Copy)]
pub(super) struct Keeping {
    /// Rows are never taken back, so none has to be found again.
    pub(super) append_only: bool,
    /// The weight of each row's matches is wanted.
    pub(super) degrees: bool,
    /// Keys go by time, not with their last row.
    pub(super) bounded: bool,
    /// Rows that can match nothing are kept too.
    pub(super) null_keys: bool,
}

pub(super) struct Side {
    keeping: Keeping,
    codec: RowCodec,
    keys: KeyTable,
    /// First row of each key's chain.
    heads: Vec<u32>,
    rows: RowStore,
    /// By row slot, like the columns below.
    links: Vec<Link>,
    weights: Vec<i64>,
    /// Empty when nobody wants them.
    degrees: Vec<i64>,
    flags: Vec<u8>,
    /// Of rows that may be taken back: which slot a row is in.
    identities: Vec<u128>,
    index: HashTable<u32>,
    /// Keys by their time.
    by_time: BTreeMap<i64, Vec<u32>>,
    /// Rows by when they are needed no more, in spans of [`SPAN_US`].
    by_until: BTreeMap<i64, Vec<u32>>,
    dirty: Vec<u32>,
    /// Rows whose matches changed in this change, and whether they had some before.
    touched: Vec<(u32, bool)>,
    /// Weight of all rows, and of those with a null key.
    pub(super) total: i64,
    pub(super) nulls: i64,
}

impl Side {
    pub(super) fn new(keeping: Keeping, types: Vec<DataType>) -> Result<Self> {
        Ok(Self {
            keeping,
            codec: RowCodec::new(&types)?,
            keys: KeyTable::new(),
            heads: vec![],
            rows: RowStore::new(types),
            links: vec![],
            weights: vec![],
            degrees: vec![],
            flags: vec![],
            identities: vec![],
            index: HashTable::new(),
            by_time: BTreeMap::new(),
            by_until: BTreeMap::new(),
            dirty: vec![],
            touched: vec![],
            total: 0,
            nulls: 0,
        })
    }

    /// First row of a key's chain, or `NONE`.
    #[inline]
    pub(super) fn head(&self, hash: u64, key: &[u8]) -> u32 {
        self.keys.find_hashed(hash, key).map_or(NONE, |slot| self.heads[slot as usize])
    }

    /// The row after `slot` in its chain, or `NONE`.
    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        self.links[slot as usize].next
    }

    #[inline]
    pub(super) fn weight(&self, slot: u32) -> i64 {
        self.weights[slot as usize]
    }

    pub(super) fn degree(&self, slot: u32) -> i64 {
        self.degrees.get(slot as usize).copied().unwrap_or_default()
    }

    pub(super) fn has_null_key(&self, slot: u32) -> bool {
        self.flags[slot as usize] & NULL_KEY != 0
    }

    pub(super) fn gather(&self, slots: &[u32], width: usize) -> Result<Vec<ArrayRef>> {
        self.rows.gather(slots, width)
    }

    /// Slots of all rows.
    pub(super) fn slots(&self) -> Vec<u32> {
        (0..self.rows.slots() as u32).filter(|slot| self.rows.is_there(*slot)).collect()
    }

    /// Adds to the weight of a row's matches.
    pub(super) fn count(&mut self, slot: u32, weight: i64) {
        let at = slot as usize;
        if self.flags[at] & TOUCHED == 0 {
            self.touched.push((slot, self.degrees[at] > 0));
        }
        if self.flags[at] & DIRTY == 0 {
            self.dirty.push(slot);
        }
        self.flags[at] |= TOUCHED | DIRTY;
        self.degrees[at] += weight;
    }

    /// The rows that got their first match or lost their last since the last call, and whether they have some now.
    pub(super) fn flipped(&mut self) -> Vec<(u32, bool)> {
        let mut flipped = vec![];
        for (slot, before) in std::mem::take(&mut self.touched) {
            self.flags[slot as usize] &= !TOUCHED;
            let after = self.degrees[slot as usize] > 0;
            if before != after {
                flipped.push((slot, after));
            }
        }
        flipped
    }

    /// Adds a change to the rows; `degrees` are those of its rows, if wanted.
    pub(super) fn store(&mut self, delta: &Delta, degrees: &[i64]) -> Result<()> {
        let rows = delta.changes.num_rows();
        let columns = delta.changes.batch().columns();
        if self.keeping.append_only {
            let kept: Vec<u32> = match &delta.matchable {
                Some(_) if !self.keeping.null_keys => (0..rows as u32).filter(|row| delta.can_match(*row)).collect(),
                _ => (0..rows as u32).collect(),
            };
            let slots = self.reserve(kept.len());
            for (row, slot) in kept.iter().zip(&slots) {
                self.link(*slot, *row, delta);
                self.set(*slot, *row, delta.changes.weight(*row as usize), degrees);
            }
            return self.keep(columns, rows, &kept, slots);
        }
        let encoded = self.codec.encode(columns, rows)?;
        let (mut kept, mut slots, mut touched) = (vec![], vec![], Vec::with_capacity(rows));
        for row in 0..rows as u32 {
            if !self.keeping.null_keys && !delta.can_match(row) {
                continue;
            }
            let identity = row_hash(encoded.get(row as usize));
            let found = self.index.find(identity as u64, |slot| self.identities[*slot as usize] == identity);
            let slot = match found {
                Some(slot) => *slot,
                None => {
                    let slot = self.rows.reserve();
                    self.grow();
                    self.identities[slot as usize] = identity;
                    self.index.insert_unique(identity as u64, slot, |slot| self.identities[*slot as usize] as u64);
                    self.link(slot, row, delta);
                    kept.push(row);
                    slots.push(slot);
                    slot
                }
            };
            self.set(slot, row, delta.changes.weight(row as usize), degrees);
            touched.push(slot);
        }
        self.keep(columns, rows, &kept, slots)?;
        self.sweep(&touched);
        Ok(())
    }

    fn reserve(&mut self, rows: usize) -> Vec<u32> {
        let slots = (0..rows).map(|_| self.rows.reserve()).collect();
        self.grow();
        slots
    }

    fn grow(&mut self) {
        let slots = self.rows.slots();
        if slots > self.links.len() {
            self.links.resize(slots, FREE);
            self.weights.resize(slots, 0);
            self.flags.resize(slots, 0);
            if self.keeping.degrees {
                self.degrees.resize(slots, 0);
            }
            if !self.keeping.append_only {
                self.identities.resize(slots, 0);
            }
        }
    }

    /// Puts a new row at the head of its key's chain.
    fn link(&mut self, slot: u32, row: u32, delta: &Delta) {
        let (key, new) = self.keys.intern_hashed(delta.hashes[row as usize], delta.keys.get(row as usize));
        if new {
            if self.keys.slots() > self.heads.len() {
                self.heads.resize(self.keys.slots(), NONE);
            }
            self.heads[key as usize] = NONE;
            if let Some(time) = delta.time(row) {
                self.by_time.entry(time).or_default().push(key);
            }
        }
        let head = std::mem::replace(&mut self.heads[key as usize], slot);
        if head != NONE {
            self.links[head as usize].previous = slot;
        }
        self.links[slot as usize] = Link { key, next: head, previous: NONE };
        self.weights[slot as usize] = 0;
        self.flags[slot as usize] &= DIRTY;
        if !delta.can_match(row) {
            self.flags[slot as usize] |= NULL_KEY;
        }
        if let Some(until) = delta.until(row) {
            self.by_until.entry(until.div_euclid(SPAN_US)).or_default().push(slot);
        }
    }

    fn set(&mut self, slot: u32, row: u32, weight: i64, degrees: &[i64]) {
        let at = slot as usize;
        self.weights[at] += weight;
        self.total += weight;
        if self.flags[at] & NULL_KEY != 0 {
            self.nulls += weight;
        }
        if self.keeping.degrees {
            self.degrees[at] = degrees.get(row as usize).copied().unwrap_or_default();
        }
        if self.flags[at] & DIRTY == 0 {
            self.flags[at] |= DIRTY;
            self.dirty.push(slot);
        }
    }

    /// Puts the rows numbered `kept` of a batch under `slots`.
    fn keep(&mut self, columns: &[ArrayRef], rows: usize, kept: &[u32], slots: Vec<u32>) -> Result<()> {
        if kept.len() == rows {
            return self.rows.put(columns.to_vec(), slots);
        }
        let indices = UInt32Array::from(kept.to_vec());
        let columns = columns.iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?;
        self.rows.put(columns, slots)
    }

    /// Takes rows out that weigh nothing.
    fn sweep(&mut self, slots: &[u32]) {
        for slot in slots {
            if self.weights[*slot as usize] == 0 && self.rows.is_there(*slot) {
                self.unlink(*slot);
            }
        }
    }

    /// Takes a row out of its key's chain and frees it.
    fn unlink(&mut self, slot: u32) {
        let Link { key, next, previous } = self.links[slot as usize];
        match previous {
            NONE => self.heads[key as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        self.forget(slot);
        // A bounded key stays until its time is over: the time index names its slot.
        if self.heads[key as usize] == NONE && !self.keeping.bounded {
            self.keys.remove(key);
        }
    }

    /// Lets every row go that is needed until a time below `threshold`, some a moment later. Rows of such a side are never
    /// taken back and their keys have no bound of their own, so a slot in the index is that of its row.
    pub(super) fn let_go(&mut self, threshold: i64) {
        while let Some(entry) = self.by_until.first_entry() {
            // The whole span must be over.
            if *entry.key() >= threshold.div_euclid(SPAN_US) {
                break;
            }
            for slot in entry.remove() {
                self.unlink(slot);
            }
        }
    }

    /// Frees a row that is in no chain any more; the next checkpoint tells that it is gone.
    fn forget(&mut self, slot: u32) {
        let at = slot as usize;
        if !self.keeping.append_only {
            let identity = self.identities[at];
            if let Ok(entry) = self.index.find_entry(identity as u64, |other| *other == slot) {
                entry.remove();
            }
        }
        if self.flags[at] & DIRTY == 0 {
            self.flags[at] |= DIRTY;
            self.dirty.push(slot);
        }
        self.links[at] = FREE;
        self.rows.remove(slot);
    }

    /// Lets every key below `threshold` go, with its rows.
    pub(super) fn expire(&mut self, threshold: i64) {
        while let Some(entry) = self.by_time.first_entry() {
            if *entry.key() >= threshold {
                break;
            }
            for key in entry.remove() {
                let mut slot = self.heads[key as usize];
                while slot != NONE {
                    let next = self.links[slot as usize].next;
                    self.forget(slot);
                    slot = next;
                }
                self.keys.remove(key);
            }
        }
    }

    pub(super) fn tidy(&mut self) -> Result<()> {
        self.rows.tidy()
    }

    pub(super) fn waits_for_time(&self) -> bool {
        !self.by_time.is_empty() || !self.by_until.is_empty()
    }

    /// Tells the rows that changed since the last call: by slot, with weight, degree and the row's bytes.
    pub(super) fn checkpoint(&mut self, number: u8, sink: &mut StateSink) -> Result<()> {
        let entry_key = |slot: u32| {
            let mut key = [number; 5];
            key[1..].copy_from_slice(&slot.to_be_bytes());
            key
        };
        let mut value = vec![];
        for slots in std::mem::take(&mut self.dirty).chunks(TOLD_AT_ONCE) {
            let mut live = Vec::with_capacity(slots.len());
            for slot in slots {
                self.flags[*slot as usize] &= !DIRTY;
                if self.rows.is_there(*slot) {
                    live.push(*slot);
                } else {
                    sink(&entry_key(*slot), None);
                }
            }
            let encoded = self.codec.encode(&self.rows.gather(&live, self.rows.width())?, live.len())?;
            for (slot, row) in live.into_iter().zip(encoded.iter()) {
                value.clear();
                value.extend_from_slice(&self.weight(slot).to_le_bytes());
                value.extend_from_slice(&self.degree(slot).to_le_bytes());
                value.extend_from_slice(row);
                sink(&entry_key(slot), Some(&value));
            }
        }
        Ok(())
    }

    /// Columns of encoded rows.
    pub(super) fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.codec.decode(rows)
    }

    /// Puts rows back under their slots; [`restored`](Self::restored) ends it.
    pub(super) fn restore(&mut self, delta: &Delta, slots: Vec<u32>, degrees: &[i64]) -> Result<()> {
        let columns = delta.changes.batch().columns().to_vec();
        let encoded = if self.keeping.append_only { None } else { Some(self.codec.encode(&columns, slots.len())?) };
        self.rows.restore(columns, slots.clone());
        self.grow();
        for (row, slot) in slots.into_iter().enumerate() {
            self.link(slot, row as u32, delta);
            self.set(slot, row as u32, delta.changes.weight(row), degrees);
            if let Some(encoded) = &encoded {
                let identity = row_hash(encoded.get(row));
                self.identities[slot as usize] = identity;
                self.index.insert_unique(identity as u64, slot, |slot| self.identities[*slot as usize] as u64);
            }
        }
        for slot in self.dirty.drain(..) {
            self.flags[slot as usize] &= !DIRTY;
        }
        Ok(())
    }

    pub(super) fn restored(&mut self) {
        self.rows.restored();
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.keys.memory()
            + self.rows.memory()
            + self.heads.capacity() * 4
            + self.links.capacity() * (size_of::<Link>() + 9)
            + self.degrees.capacity() * 8
            + self.identities.capacity() * 16
            + self.index.capacity() * 5
    }
}
