//! Rows by slot, in the batches they came in.
//!
//! A batch is kept as it is (its columns are shared, not copied) until most of its rows are gone or it can be put
//! together with others as small. A row's slot stays the same all the while, so that chains and indices may name it.

use crate::error::Result;
use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;

const NONE: u32 = u32::MAX;

/// Chunks of this many rows or more are not put together with others.
const MERGED_ROWS: usize = 4096;
/// A chunk is written again without its dead rows when fewer than one in this many are alive.
const SPARSE: usize = 4;
/// Chunks beyond the full ones that are let be.
const FEW_CHUNKS: usize = 64;

#[derive(Clone, Copy)]
struct Place {
    chunk: u32,
    row: u32,
}

const NOWHERE: Place = Place { chunk: NONE, row: NONE };

struct Chunk {
    columns: Vec<ArrayRef>,
    /// Slot of each row; `NONE` for a dead one.
    slots: Vec<u32>,
    live: usize,
}

/// Rows of fixed types, each with a slot number below [`slots`](Self::slots).
pub(crate) struct RowStore {
    types: Vec<DataType>,
    /// By number; those of no chunk are in `free_chunks`.
    chunks: Vec<Option<Chunk>>,
    free_chunks: Vec<u32>,
    /// Chunk numbers, oldest first.
    order: Vec<u32>,
    sparse: Vec<u32>,
    places: Vec<Place>,
    free: Vec<u32>,
}

impl RowStore {
    pub(crate) fn new(types: Vec<DataType>) -> Self {
        Self { types, chunks: vec![], free_chunks: vec![], order: vec![], sparse: vec![], places: vec![], free: vec![] }
    }

    /// Slots ever used at once.
    pub(crate) fn slots(&self) -> usize {
        self.places.len()
    }

    /// Rows that are there.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn is_there(&self, slot: u32) -> bool {
        self.places.get(slot as usize).is_some_and(|place| place.chunk != NONE)
    }

    pub(crate) fn width(&self) -> usize {
        self.types.len()
    }

    /// A free slot. A row is [`put`](Self::put) under it next.
    pub(crate) fn reserve(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(NOWHERE);
            (self.places.len() - 1) as u32
        })
    }

    /// Keeps rows under slots that were reserved for them.
    pub(crate) fn put(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>) -> Result<()> {
        self.add_chunk(columns, slots);
        self.merge()
    }

    /// Keeps rows under slots of which none is in use; [`restored`](Self::restored) ends it.
    pub(crate) fn restore(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>) {
        let most = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        self.places.resize(self.places.len().max(most), NOWHERE);
        self.add_chunk(columns, slots);
    }

    pub(crate) fn restored(&mut self) {
        self.free = (0..self.places.len() as u32).filter(|slot| !self.is_there(*slot)).rev().collect();
    }

    /// Frees a slot that is in use.
    pub(crate) fn remove(&mut self, slot: u32) {
        let place = std::mem::replace(&mut self.places[slot as usize], NOWHERE);
        self.free.push(slot);
        let Some(chunk) = self.chunks.get_mut(place.chunk as usize).and_then(Option::as_mut) else { return };
        chunk.slots[place.row as usize] = NONE;
        chunk.live -= 1;
        if chunk.live == 0 {
            self.drop_chunk(place.chunk);
        } else if chunk.live == chunk.slots.len() / SPARSE {
            self.sparse.push(place.chunk);
        }
    }

    /// Writes chunks again that are mostly dead; once a step is often enough.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.sparse) {
            let Some(Some(chunk)) = self.chunks.get(number as usize) else { continue };
            // The number may be that of a younger chunk by now.
            if chunk.live > chunk.slots.len() / SPARSE {
                continue;
            }
            let live: Vec<u32> = chunk.slots.iter().copied().filter(|slot| *slot != NONE).collect();
            let columns = self.gather(&live, self.types.len())?;
            self.drop_chunk(number);
            self.add_chunk(columns, live);
            self.merge()?;
        }
        // What is left of many large chunks may stand between larger ones.
        if self.order.len() > FEW_CHUNKS + 2 * self.len() / MERGED_ROWS {
            let live = |number: u32| self.chunks[number as usize].as_ref().map_or(0, |chunk| chunk.live);
            self.put_together(self.order.iter().copied().filter(|number| live(*number) < MERGED_ROWS).collect())?;
        }
        Ok(())
    }

    /// The first `width` columns of the rows in `slots`, in that order; all are in use.
    pub(crate) fn gather(&self, slots: &[u32], width: usize) -> Result<Vec<ArrayRef>> {
        let mut local = vec![NONE; self.chunks.len()];
        let mut used: Vec<&Chunk> = vec![];
        let mut indices = Vec::with_capacity(slots.len());
        for slot in slots {
            let place = self.places[*slot as usize];
            let at = &mut local[place.chunk as usize];
            if *at == NONE
                && let Some(chunk) = &self.chunks[place.chunk as usize]
            {
                *at = used.len() as u32;
                used.push(chunk);
            }
            indices.push((*at as usize, place.row as usize));
        }
        match used.as_slice() {
            [] => Ok(self.types[..width].iter().map(new_empty_array).collect()),
            [chunk] => {
                let indices = UInt32Array::from_iter_values(indices.iter().map(|index| index.1 as u32));
                let columns = chunk.columns[..width].iter();
                Ok(columns.map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?)
            }
            several => (0..width)
                .map(|column| {
                    let arrays: Vec<&dyn Array> = several.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
                    Ok(interleave(&arrays, &indices)?)
                })
                .collect(),
        }
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        let bytes = |chunk: &Chunk| -> usize {
            let columns: usize = chunk.columns.iter().map(|column| column.get_array_memory_size()).sum();
            columns + chunk.slots.capacity() * 4
        };
        self.chunks.iter().flatten().map(bytes).sum::<usize>() + self.places.capacity() * size_of::<Place>()
    }

    fn add_chunk(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>) {
        if slots.is_empty() {
            return;
        }
        let number = self.free_chunks.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            (self.chunks.len() - 1) as u32
        });
        for (row, slot) in slots.iter().enumerate() {
            self.places[*slot as usize] = Place { chunk: number, row: row as u32 };
        }
        let live = slots.len();
        self.chunks[number as usize] = Some(Chunk { columns, slots, live });
        self.order.push(number);
    }

    fn drop_chunk(&mut self, number: u32) {
        self.chunks[number as usize] = None;
        self.free_chunks.push(number);
        self.order.retain(|other| *other != number);
    }

    /// Puts the youngest chunks together while they are small and of like size, so that chunks are few and each row is
    /// copied a logarithmic number of times.
    fn merge(&mut self) -> Result<()> {
        while let [.., before, last] = self.order[..] {
            let live = |number: u32| self.chunks[number as usize].as_ref().map_or(0, |chunk| chunk.live);
            if live(before) > 2 * live(last) || live(before).max(live(last)) >= MERGED_ROWS {
                break;
            }
            self.put_together(vec![before, last])?;
        }
        Ok(())
    }

    fn put_together(&mut self, numbers: Vec<u32>) -> Result<()> {
        let slots: Vec<u32> = numbers
            .iter()
            .filter_map(|number| self.chunks[*number as usize].as_ref())
            .flat_map(|chunk| chunk.slots.iter().copied().filter(|slot| *slot != NONE))
            .collect();
        let columns = self.gather(&slots, self.types.len())?;
        numbers.into_iter().for_each(|number| self.drop_chunk(number));
        self.add_chunk(columns, slots);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn columns(ids: &[i64]) -> Vec<ArrayRef> {
        let texts = StringArray::from_iter_values(ids.iter().map(|id| format!("row {id}")));
        vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(texts)]
    }

    fn check(store: &RowStore, model: &BTreeMap<u32, i64>) {
        assert_eq!(store.len(), model.len());
        let slots: Vec<u32> = model.keys().copied().collect();
        let found = store.gather(&slots, 2).unwrap();
        let ids: Vec<i64> = found[0].as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(ids, model.values().copied().collect::<Vec<_>>());
        for (row, id) in ids.iter().enumerate() {
            assert_eq!(found[1].as_string::<i32>().value(row), format!("row {id}"));
        }
    }

    #[test]
    fn rows_stay_under_their_slots_while_chunks_are_merged_and_written_again() {
        let mut store = RowStore::new(vec![DataType::Int64, DataType::Utf8]);
        let mut model = BTreeMap::new();
        let mut seed = 3_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..300 {
            let size = if round % 50 == 49 { 9_000 } else { random(40) };
            let ids: Vec<i64> = (0..size as i64).map(|id| round * 10_000 + id).collect();
            let slots: Vec<u32> = ids.iter().map(|_| store.reserve()).collect();
            store.put(columns(&ids), slots.clone()).unwrap();
            model.extend(slots.into_iter().zip(ids));
            let gone: Vec<u32> = model.keys().copied().filter(|_| random(3) == 0).collect();
            for slot in gone {
                store.remove(slot);
                model.remove(&slot);
            }
            store.tidy().unwrap();
            check(&store, &model);
        }
        assert!(store.order.len() < 80, "{} chunks", store.order.len());
    }

    #[test]
    fn restored_rows_are_under_the_slots_they_had_and_the_gaps_are_used_again() {
        let mut store = RowStore::new(vec![DataType::Int64, DataType::Utf8]);
        store.restore(columns(&[7, 9]), vec![1, 4]);
        store.restore(columns(&[8]), vec![2]);
        store.restored();
        let slots: Vec<u32> = (0..3).map(|_| store.reserve()).collect();
        assert_eq!(slots, [0, 3, 5]);
        store.put(columns(&[1, 2, 3]), slots).unwrap();
        check(&store, &BTreeMap::from([(0, 1), (1, 7), (2, 8), (3, 2), (4, 9), (5, 3)]));
    }
}
