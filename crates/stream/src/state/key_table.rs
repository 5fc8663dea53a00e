//! Byte keys to dense slots.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    start: usize,
    len: u32,
}

/// A set of byte keys, each with a slot number that stays the same while the key is there. Slots of removed keys are
/// used again, so columns beside the table stay dense.
#[derive(Debug, Default)]
pub struct KeyTable {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    bytes: Vec<u8>,
    garbage: usize,
}

/// Key bytes are compacted when this many and half of all are garbage.
const COMPACT_AFTER_BYTES: usize = 1 << 16;

fn hash(key: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

impl KeyTable {
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys that are there.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Slots ever used at once; every slot number is below it.
    pub fn slots(&self) -> usize {
        self.entries.len()
    }

    /// The key's slot, and whether it is new.
    pub fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = hash(key);
        let Self { table, entries, bytes, .. } = self;
        if let Some(slot) = table.find(hash, |slot| key_at(bytes, entries[*slot as usize]) == key) {
            return (*slot, false);
        }
        let entry = Entry { hash, start: self.bytes.len(), len: key.len() as u32 };
        self.bytes.extend_from_slice(key);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.table.insert_unique(hash, slot, |slot| entries[*slot as usize].hash);
        (slot, true)
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(hash(key), |slot| key_at(&self.bytes, self.entries[*slot as usize]) == key).copied()
    }

    /// The key of a slot that is in use.
    pub fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.bytes, self.entries[slot as usize])
    }

    /// Frees a slot that is in use.
    pub fn remove(&mut self, slot: u32) {
        let entry = self.entries[slot as usize];
        if let Ok(found) = self.table.find_entry(entry.hash, |other| *other == slot) {
            found.remove();
            self.garbage += entry.len as usize;
            self.free.push(slot);
            if self.garbage > COMPACT_AFTER_BYTES && self.garbage * 2 > self.bytes.len() {
                self.compact();
            }
        }
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>() + self.table.capacity() * 5
    }

    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.garbage);
        for slot in self.table.iter() {
            let entry = &mut self.entries[*slot as usize];
            let start = bytes.len();
            bytes.extend_from_slice(key_at(&self.bytes, *entry));
            entry.start = start;
        }
        self.bytes = bytes;
        self.garbage = 0;
    }
}

fn key_at(bytes: &[u8], entry: Entry) -> &[u8] {
    &bytes[entry.start..entry.start + entry.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn slots_stay_with_their_keys_through_removal_and_compaction() {
        let mut table = KeyTable::new();
        let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut state = 12345_u64;
        for round in 0..60_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let key = format!("key-{:0>24}", (state >> 33) % 2_000).into_bytes();
            if round % 3 == 2 {
                if let Some(slot) = model.remove(&key) {
                    assert_eq!(table.find(&key), Some(slot));
                    table.remove(slot);
                }
            } else {
                let (slot, new) = table.intern(&key);
                assert_eq!(model.insert(key, slot).is_none(), new);
            }
        }
        assert_eq!(table.len(), model.len());
        for (key, slot) in &model {
            assert_eq!(table.find(key), Some(*slot));
            assert_eq!(table.key(*slot), key.as_slice());
        }
        assert!(table.slots() <= 2_000);
    }
}
