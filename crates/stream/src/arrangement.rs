//! A maintained view: its rows as immutable Arrow chunks, with an index by row so that deletions find them.
//!
//! A [`Snapshot`] shares the chunks, so a reader never blocks a step and a step never copies what did not change.

use crate::error::{Result, StreamError};
use crate::operators::StateSink;
use crate::state::{RowCodec, consolidate, row_hash, take};
use arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;
use rivermere_base::Changes;
use std::collections::HashMap;
use std::sync::Arc;

/// Chunks grow by merging up to this many rows.
const CHUNK_ROWS: usize = 64 * 1024;

#[derive(Clone, Debug)]
struct Chunk {
    serial: u32,
    batch: RecordBatch,
    /// Identity of each row; empty when rows are never deleted.
    hashes: Arc<Vec<u128>>,
    /// Set bits are deleted rows.
    dead: Option<Arc<Vec<u64>>>,
    live: usize,
}

impl Chunk {
    fn is_dead(&self, row: usize) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead[row / 64] >> (row % 64) & 1 == 1)
    }

    fn kill(&mut self, row: usize) {
        let words = self.batch.num_rows().div_ceil(64);
        let dead = self.dead.get_or_insert_with(|| Arc::new(vec![0; words]));
        Arc::make_mut(dead)[row / 64] |= 1 << (row % 64);
        self.live -= 1;
    }

    fn live_rows(&self) -> Result<RecordBatch> {
        if self.dead.is_none() {
            return Ok(self.batch.clone());
        }
        let mask = BooleanBuffer::collect_bool(self.batch.num_rows(), |row| !self.is_dead(row));
        Ok(filter_record_batch(&self.batch, &BooleanArray::new(mask, None))?)
    }
}

#[derive(Clone, Copy)]
struct Place {
    hash: u128,
    serial: u32,
    row: u32,
}

/// The rows of one view after the last step.
pub struct Arrangement {
    schema: SchemaRef,
    codec: RowCodec,
    append_only: bool,
    chunks: Vec<Arc<Chunk>>,
    index: HashTable<Place>,
    position: HashMap<u32, usize, foldhash::fast::FixedState>,
    next_serial: u32,
    rows: usize,
    /// Rows appended, over all time: keys of append-only state.
    appended: u64,
    /// Of an append-only view: batches since the last checkpoint.
    fresh: Vec<RecordBatch>,
    /// Of a changing view: rows since the last checkpoint.
    dirty: HashMap<u128, Box<[u8]>, foldhash::fast::FixedState>,
    restored: Vec<Box<[u8]>>,
}

/// A view's rows at the end of one step: cheap to take, and never changing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    schema: SchemaRef,
    chunks: Vec<Arc<Chunk>>,
    rows: usize,
}

impl Snapshot {
    pub fn empty(schema: SchemaRef) -> Self {
        Self { schema, chunks: vec![], rows: 0 }
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub fn num_rows(&self) -> usize {
        self.rows
    }

    /// The rows, in no order.
    ///
    /// # Errors
    /// Never for batches that the engine made.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        self.chunks.iter().map(|chunk| chunk.live_rows()).collect()
    }
}

fn fold(hash: u128) -> u64 {
    hash as u64
}

impl Arrangement {
    /// # Errors
    /// When a column's type cannot be encoded.
    pub fn new(schema: SchemaRef, append_only: bool) -> Result<Self> {
        Ok(Self {
            codec: RowCodec::of_schema(&schema)?,
            schema,
            append_only,
            chunks: vec![],
            index: HashTable::new(),
            position: HashMap::default(),
            next_serial: 0,
            rows: 0,
            appended: 0,
            fresh: vec![],
            dirty: HashMap::default(),
            restored: vec![],
        })
    }

    pub fn num_rows(&self) -> usize {
        self.rows
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { schema: self.schema.clone(), chunks: self.chunks.clone(), rows: self.rows }
    }

    /// Applies one step's change, and gives it back consolidated.
    ///
    /// # Errors
    /// When a row is deleted that is not there: the plan's input was no relation.
    pub fn apply(&mut self, changes: Vec<Changes>) -> Result<Changes> {
        let changes = Changes::concat(&self.schema, &changes)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        if self.append_only {
            let inserted = if changes.is_append_only() { changes.batch().clone() } else { self.repeat(&changes)? };
            self.appended += inserted.num_rows() as u64;
            self.fresh.push(inserted.clone());
            self.push(inserted, vec![])?;
            return Ok(changes);
        }
        let changes = consolidate(changes, &self.codec)?;
        let encoded = self.codec.encode(changes.batch().columns(), changes.num_rows())?;
        let mut inserted: Vec<u64> = vec![];
        let mut hashes = vec![];
        for (row, bytes) in encoded.iter().enumerate() {
            let weight = changes.weight(row);
            let hash = row_hash(bytes);
            self.dirty.entry(hash).or_insert_with(|| bytes.into());
            for _ in 0..weight.max(0) {
                inserted.push(row as u64);
                hashes.push(hash);
            }
            for _ in weight.min(0)..0 {
                self.delete(hash)?;
            }
        }
        if !inserted.is_empty() {
            let batch = take(changes.batch(), &UInt64Array::from(inserted))?;
            self.push(batch, hashes)?;
        }
        self.compact()?;
        Ok(changes)
    }

    /// Rows with weights above 1 as that many rows.
    fn repeat(&self, changes: &Changes) -> Result<RecordBatch> {
        let mut rows: Vec<u64> = vec![];
        for row in 0..changes.num_rows() {
            let weight = usize::try_from(changes.weight(row)).map_err(|_| missing_row())?;
            rows.extend(std::iter::repeat_n(row as u64, weight));
        }
        take(changes.batch(), &UInt64Array::from(rows))
    }

    fn delete(&mut self, hash: u128) -> Result<()> {
        let entry = self.index.find_entry(fold(hash), |place| place.hash == hash).map_err(|_| missing_row())?;
        let (place, _) = entry.remove();
        let at = *self.position.get(&place.serial).ok_or_else(missing_row)?;
        Arc::make_mut(&mut self.chunks[at]).kill(place.row as usize);
        self.rows -= 1;
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch, hashes: Vec<u128>) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        for (row, hash) in hashes.iter().enumerate() {
            let place = Place { hash: *hash, serial, row: row as u32 };
            self.index.insert_unique(fold(*hash), place, |place| fold(place.hash));
        }
        self.rows += rows;
        self.position.insert(serial, self.chunks.len());
        self.chunks.push(Arc::new(Chunk { serial, batch, hashes: Arc::new(hashes), dead: None, live: rows }));
        self.compact()
    }

    /// Merges neighbours of like size, so that a view has few chunks and each row is copied a logarithmic number of
    /// times; drops chunks that are mostly dead.
    fn compact(&mut self) -> Result<()> {
        while let [.., before, last] = self.chunks.as_slice() {
            let together = before.live + last.live;
            if before.live > 2 * last.live || together > CHUNK_ROWS {
                break;
            }
            self.merge(self.chunks.len() - 2, 2)?;
        }
        let sparse = self.chunks.iter().position(|chunk| chunk.live * 2 < chunk.batch.num_rows());
        if let Some(at) = sparse {
            self.merge(at, 1)?;
        }
        Ok(())
    }

    /// Puts `count` chunks from `at` on into one, without their dead rows.
    fn merge(&mut self, at: usize, count: usize) -> Result<()> {
        let merged: Vec<Arc<Chunk>> = self.chunks.drain(at..at + count).collect();
        let live: Vec<RecordBatch> = merged.iter().map(|chunk| chunk.live_rows()).collect::<Result<_>>()?;
        let batch = concat_batches(&self.schema, &live)?;
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut hashes = vec![];
        for chunk in &merged {
            self.position.remove(&chunk.serial);
            for (row, hash) in chunk.hashes.iter().enumerate() {
                if !chunk.is_dead(row) {
                    let old =
                        |place: &Place| place.serial == chunk.serial && place.row == row as u32 && place.hash == *hash;
                    if let Some(place) = self.index.find_mut(fold(*hash), old) {
                        (place.serial, place.row) = (serial, hashes.len() as u32);
                    }
                    hashes.push(*hash);
                }
            }
        }
        if batch.num_rows() > 0 {
            let live = batch.num_rows();
            self.chunks.insert(at, Arc::new(Chunk { serial, batch, hashes: Arc::new(hashes), dead: None, live }));
        }
        for (index, chunk) in self.chunks.iter().enumerate().skip(at) {
            self.position.insert(chunk.serial, index);
        }
        Ok(())
    }

    /// Tells the entries that changed since the last call.
    ///
    /// # Errors
    /// Never for batches that the engine made.
    pub(crate) fn checkpoint(&mut self, sink: &mut StateSink) -> Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let mut number = self.appended - fresh.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        for batch in fresh {
            let encoded = self.codec.encode(batch.columns(), batch.num_rows())?;
            for row in encoded.iter() {
                sink(&number.to_be_bytes(), Some(row));
                number += 1;
            }
        }
        for (hash, row) in std::mem::take(&mut self.dirty) {
            let count = self.index.iter_hash(fold(hash)).filter(|place| place.hash == hash).count() as u64;
            sink(&row, (count > 0).then(|| count.to_le_bytes()).as_ref().map(|bytes| bytes.as_slice()));
        }
        Ok(())
    }

    /// Puts one entry back. Entries come in order and at most once for each key; [`restored`](Self::restored) follows.
    ///
    /// # Errors
    /// When the entry is damaged.
    pub(crate) fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        if self.append_only {
            self.restored.push(value.into());
        } else {
            let count = value.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(missing_row)?;
            for _ in 0..count {
                self.restored.push(key.into());
            }
        }
        if self.restored.len() >= CHUNK_ROWS {
            self.restored()?;
        }
        Ok(())
    }

    /// Ends a restore.
    ///
    /// # Errors
    /// When an entry is damaged.
    pub(crate) fn restored(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.restored);
        if rows.is_empty() {
            return Ok(());
        }
        let columns = self.codec.decode(rows.iter().map(AsRef::as_ref))?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let hashes = if self.append_only { vec![] } else { rows.iter().map(|row| row_hash(row)).collect() };
        self.appended += rows.len() as u64;
        self.push(batch, hashes)
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let chunks: usize =
            self.chunks.iter().map(|chunk| chunk.batch.get_array_memory_size() + chunk.hashes.len() * 16).sum();
        chunks + self.index.capacity() * size_of::<Place>()
    }
}

fn missing_row() -> StreamError {
    StreamError::Operator { view: String::new(), message: "a row is taken back that is not there".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::collections::BTreeMap;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    fn step(rows: &[(i64, i64)]) -> Changes {
        let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(ids)]).unwrap();
        Changes::with_weights(batch, Int64Array::from_iter_values(rows.iter().map(|row| row.1))).unwrap()
    }

    fn contents(snapshot: &Snapshot) -> BTreeMap<i64, i64> {
        let mut counts = BTreeMap::new();
        for batch in snapshot.batches().unwrap() {
            for id in batch.column(0).as_primitive::<Int64Type>().iter().flatten() {
                *counts.entry(id).or_insert(0) += 1;
            }
        }
        counts
    }

    #[test]
    fn a_snapshot_equals_the_model_after_every_random_step_and_stays_as_it_was() {
        let mut view = Arrangement::new(schema(), false).unwrap();
        let mut model: BTreeMap<i64, i64> = BTreeMap::new();
        let mut kept = vec![];
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..400 {
            let mut rows = vec![];
            for _ in 0..random(40) {
                let id = random(60) as i64;
                let held = model.get(&id).copied().unwrap_or(0);
                let weight = if held > 0 && random(2) == 0 { -1 } else { 1 + random(2) as i64 };
                *model.entry(id).or_insert(0) += weight;
                rows.push((id, weight));
            }
            model.retain(|_, count| *count != 0);
            view.apply(vec![step(&rows)]).unwrap();
            assert_eq!(contents(&view.snapshot()), model);
            assert_eq!(view.num_rows() as i64, model.values().sum::<i64>());
            kept.push((view.snapshot(), model.clone()));
        }
        for (snapshot, model) in kept {
            assert_eq!(contents(&snapshot), model);
        }
        assert!(view.chunks.len() < 20, "{} chunks", view.chunks.len());
    }

    #[test]
    fn deleting_a_row_that_is_not_there_is_an_error() {
        let mut view = Arrangement::new(schema(), false).unwrap();
        assert!(view.apply(vec![step(&[(1, -1)])]).is_err());
    }
}
