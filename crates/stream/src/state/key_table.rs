//! Byte keys to dense slots.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// A set of byte keys, each with a slot number that stays the same while the key is there. Slots of removed keys are
/// used again, so columns beside the table stay dense.
#[derive(Debug, Default)]
pub struct KeyTable {
    table: HashTable<Place>,
    layout: Layout,
    bytes: Vec<u8>,
    slots: usize,
    free: Vec<u32>,
}

/// A slot with half of its key's hash: it tells most other keys apart without a look at their bytes, and is all that a
/// growing table needs.
#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u32,
    slot: u32,
}

impl Place {
    fn hash(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.tag)
    }
}

/// Where a slot's key is.
#[derive(Debug)]
enum Layout {
    /// Every key so far had this length: slot `s` is at `s * length`. Keys of numbers and times are like that.
    Fixed(Option<usize>),
    Varied {
        spans: Vec<(usize, u32)>,
        garbage: usize,
    },
}

impl Default for Layout {
    fn default() -> Self {
        Self::Fixed(None)
    }
}

/// Key bytes are compacted when this many and half of all are garbage.
const COMPACT_AFTER_BYTES: usize = 1 << 16;

/// The hash of a key, for the functions that take one.
pub fn key_hash(key: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

fn place(hash: u64, slot: u32) -> Place {
    Place { tag: (hash >> 32) as u32, slot }
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
        self.slots
    }

    /// The key's slot, and whether it is new.
    pub fn intern(&mut self, key: &[u8]) -> (u32, bool) {
        self.intern_hashed(key_hash(key), key)
    }

    /// [`intern`](Self::intern) of a key whose [`key_hash`] is known.
    pub fn intern_hashed(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        if let Some(slot) = self.find_hashed(hash, key) {
            return (slot, false);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            (self.slots - 1) as u32
        });
        self.put(slot, key);
        let place = place(hash, slot);
        self.table.insert_unique(place.hash(), place, |place| place.hash());
        (slot, true)
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_hashed(key_hash(key), key)
    }

    /// [`find`](Self::find) of a key whose [`key_hash`] is known.
    #[inline]
    pub fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let wanted = place(hash, 0);
        let found = match &self.layout {
            Layout::Fixed(length) if length.is_some_and(|length| length != key.len()) => None,
            Layout::Fixed(_) => self.table.find(wanted.hash(), |place| {
                let start = place.slot as usize * key.len();
                place.tag == wanted.tag && self.bytes[start..start + key.len()] == *key
            }),
            Layout::Varied { spans, .. } => self.table.find(wanted.hash(), |place| {
                place.tag == wanted.tag && span(&self.bytes, spans[place.slot as usize]) == key
            }),
        };
        found.map(|place| place.slot)
    }

    /// The key of a slot that is in use.
    pub fn key(&self, slot: u32) -> &[u8] {
        match &self.layout {
            Layout::Fixed(length) => {
                let length = length.unwrap_or_default();
                &self.bytes[slot as usize * length..][..length]
            }
            Layout::Varied { spans, .. } => span(&self.bytes, spans[slot as usize]),
        }
    }

    /// Frees a slot that is in use.
    pub fn remove(&mut self, slot: u32) {
        let wanted = place(key_hash(self.key(slot)), slot);
        let Ok(found) = self.table.find_entry(wanted.hash(), |place| place.slot == slot) else { return };
        found.remove();
        self.free.push(slot);
        if let Layout::Varied { spans, garbage } = &mut self.layout {
            *garbage += spans[slot as usize].1 as usize;
            if *garbage > COMPACT_AFTER_BYTES && *garbage * 2 > self.bytes.len() {
                self.compact();
            }
        }
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        let spans = match &self.layout {
            Layout::Fixed(_) => 0,
            Layout::Varied { spans, .. } => spans.capacity() * size_of::<(usize, u32)>(),
        };
        self.bytes.capacity() + spans + self.table.capacity() * (size_of::<Place>() + 1) + self.free.capacity() * 4
    }

    fn put(&mut self, slot: u32, key: &[u8]) {
        let at = slot as usize;
        if let Layout::Fixed(length) = &mut self.layout {
            let length = *length.get_or_insert(key.len());
            if length == key.len() {
                if self.bytes.len() < (at + 1) * length {
                    self.bytes.resize((at + 1) * length, 0);
                }
                self.bytes[at * length..][..length].copy_from_slice(key);
                return;
            }
            let spans = (0..self.slots).map(|slot| (slot * length, length as u32)).collect();
            self.layout = Layout::Varied { spans, garbage: self.free.len() * length };
        }
        if let Layout::Varied { spans, .. } = &mut self.layout {
            spans.resize(self.slots.max(spans.len()), (0, 0));
            spans[at] = (self.bytes.len(), key.len() as u32);
            self.bytes.extend_from_slice(key);
        }
    }

    fn compact(&mut self) {
        let Layout::Varied { spans, garbage } = &mut self.layout else { return };
        let mut bytes = Vec::with_capacity(self.bytes.len() - *garbage);
        for place in &self.table {
            let held = &mut spans[place.slot as usize];
            let start = bytes.len();
            bytes.extend_from_slice(span(&self.bytes, *held));
            held.0 = start;
        }
        self.bytes = bytes;
        *garbage = 0;
    }
}

fn span(bytes: &[u8], (start, length): (usize, u32)) -> &[u8] {
    &bytes[start..start + length as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Clone, Copy)]
    enum Lengths {
        One,
        Two,
    }

    #[test]
    fn slots_stay_with_their_keys_through_removal_and_compaction() {
        for lengths in [Lengths::One, Lengths::Two] {
            slots_stay(lengths);
        }
    }

    fn slots_stay(lengths: Lengths) {
        let mut table = KeyTable::new();
        let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut state = 12345_u64;
        for round in 0..60_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (state >> 33) % 2_000;
            let key = match lengths {
                Lengths::One => format!("key-{number:0>24}").into_bytes(),
                // The other length comes late, so that the table has to change its layout.
                Lengths::Two if round > 20_000 && number % 3 == 0 => format!("longer-key-{number:0>24}").into_bytes(),
                Lengths::Two => format!("key-{number:0>24}").into_bytes(),
            };
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
        assert!(table.slots() <= 2_700);
    }
}
