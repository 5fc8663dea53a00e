//! Values of groups, each with a weight: what aggregates remember that a sum cannot.

use super::KeyTable;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
    dirty: bool,
}

/// (group, value) -> weight, listed by group. A value that weighs nothing is gone with the next
/// [`entries`](Self::entries).
#[derive(Default)]
pub(crate) struct ValueBag {
    table: KeyTable,
    weights: Vec<i64>,
    links: Vec<Link>,
    /// First value of each group.
    heads: Vec<u32>,
    dirty: Vec<u32>,
    key: Vec<u8>,
}

/// Bytes of the group before a value.
const GROUP: usize = 4;

impl ValueBag {
    pub(crate) fn resize(&mut self, groups: usize) {
        self.heads.resize(groups.max(self.heads.len()), NONE);
    }

    /// Adds to a value's weight; its weight before and after.
    pub(crate) fn add(&mut self, group: u32, value: &[u8], weight: i64) -> (i64, i64) {
        let slot = self.intern(group, value);
        let at = slot as usize;
        if !self.links[at].dirty {
            self.links[at].dirty = true;
            self.dirty.push(slot);
        }
        let before = self.weights[at];
        self.weights[at] += weight;
        (before, self.weights[at])
    }

    fn intern(&mut self, group: u32, value: &[u8]) -> u32 {
        self.key.clear();
        self.key.extend_from_slice(&group.to_le_bytes());
        self.key.extend_from_slice(value);
        let (slot, new) = self.table.intern(&self.key);
        if new {
            let slots = self.table.slots();
            self.weights.resize(slots, 0);
            self.links.resize(slots, Link { next: NONE, previous: NONE, dirty: false });
            let head = std::mem::replace(&mut self.heads[group as usize], slot);
            if head != NONE {
                self.links[head as usize].previous = slot;
            }
            self.weights[slot as usize] = 0;
            self.links[slot as usize] = Link { next: head, previous: NONE, dirty: false };
        }
        slot
    }

    /// A group's values that weigh something, in no order.
    pub(crate) fn values(&self, group: u32) -> impl Iterator<Item = (&[u8], i64)> {
        let head = self.heads[group as usize];
        std::iter::successors((head != NONE).then_some(head), |slot| {
            let next = self.links[*slot as usize].next;
            (next != NONE).then_some(next)
        })
        .map(|slot| (&self.table.key(slot)[GROUP..], self.weights[slot as usize]))
        .filter(|(_, weight)| *weight != 0)
    }

    /// Forgets a group; `gone` hears of each of its values.
    pub(crate) fn clear(&mut self, group: u32, gone: &mut dyn FnMut(&[u8])) {
        let mut slot = std::mem::replace(&mut self.heads[group as usize], NONE);
        while slot != NONE {
            let link = &mut self.links[slot as usize];
            let next = link.next;
            link.dirty = false;
            gone(&self.table.key(slot)[GROUP..]);
            self.table.remove(slot);
            slot = next;
        }
    }

    /// Tells each value that changed since the last call, with its group and weight, or that it is gone.
    pub(crate) fn entries(&mut self, sink: &mut dyn FnMut(u32, &[u8], Option<i64>)) {
        for slot in std::mem::take(&mut self.dirty) {
            let Link { next, previous, dirty } = self.links[slot as usize];
            if !dirty {
                continue;
            }
            self.links[slot as usize].dirty = false;
            let weight = self.weights[slot as usize];
            let Some((group, value)) = self.table.key(slot).split_first_chunk::<GROUP>() else { continue };
            let group = u32::from_le_bytes(*group);
            sink(group, value, (weight != 0).then_some(weight));
            if weight == 0 {
                match previous {
                    NONE => self.heads[group as usize] = next,
                    previous => self.links[previous as usize].next = next,
                }
                if next != NONE {
                    self.links[next as usize].previous = previous;
                }
                self.table.remove(slot);
            }
        }
    }

    pub(crate) fn restore(&mut self, group: u32, value: &[u8], weight: i64) {
        let slot = self.intern(group, value);
        self.weights[slot as usize] = weight;
    }

    pub(crate) fn memory(&self) -> usize {
        self.table.memory() + self.weights.capacity() * 8 + self.links.capacity() * 12 + self.heads.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn values_and_their_entries_follow_a_model_through_random_changes() {
        let mut bag = ValueBag::default();
        bag.resize(5);
        let mut model: BTreeMap<(u32, Vec<u8>), i64> = BTreeMap::new();
        let mut told: BTreeMap<(u32, Vec<u8>), i64> = BTreeMap::new();
        let mut seed = 9_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..4_000 {
            let (group, value) = (random(5) as u32, vec![b'v'; random(9) as usize]);
            let weight = random(5) as i64 - 2;
            let before = model.get(&(group, value.clone())).copied().unwrap_or_default();
            assert_eq!(bag.add(group, &value, weight), (before, before + weight));
            model.insert((group, value), before + weight);
            model.retain(|_, weight| *weight != 0);
            if round % 97 == 0 {
                bag.clear(group, &mut |value| {
                    told.remove(&(group, value.to_vec()));
                });
                model.retain(|(other, _), _| *other != group);
            }
            if round % 31 == 0 {
                bag.entries(&mut |group, value, weight| {
                    match weight {
                        Some(weight) => told.insert((group, value.to_vec()), weight),
                        None => told.remove(&(group, value.to_vec())),
                    };
                });
                assert_eq!(told, model);
            }
            let held: BTreeMap<Vec<u8>, i64> =
                bag.values(group).map(|(value, weight)| (value.to_vec(), weight)).collect();
            let wanted = model.iter().filter(|((other, _), _)| *other == group);
            assert_eq!(held, wanted.map(|((_, value), weight)| (value.clone(), *weight)).collect());
        }
    }
}
