//! Idempotent producers (KIP-98): for each partition the last batches of each producer, so that a batch sent twice is
//! stored once and answered with its first offset.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::records::Batch;

/// Batches remembered for each producer; clients keep at most five in flight.
const REMEMBERED: usize = 5;

/// The producers of one partition, bounded: the one that was silent for longest is forgotten first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, ProducerState>,
    clock: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProducerState {
    epoch: i16,
    batches: VecDeque<Seen>,
    #[serde(skip)]
    used: u64,
}

/// Sequence numbers and place of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub first: i32,
    pub last: i32,
    pub base_offset: i64,
    pub last_offset: i64,
}

/// What a batch is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate(Seen),
    OutOfOrder { expected: i32 },
    Fenced { current: i16 },
}

impl Producers {
    /// Judges a batch without remembering it.
    pub fn judge(&self, batch: &Batch<'_>) -> Verdict {
        if batch.producer_id < 0 {
            return Verdict::New;
        }
        // A producer that is not known (any more) may start anywhere: Kafka since 2.5 does the same.
        let Some(state) = self.by_id.get(&batch.producer_id) else { return Verdict::New };
        if batch.producer_epoch < state.epoch {
            return Verdict::Fenced { current: state.epoch };
        }
        if batch.producer_epoch > state.epoch {
            return if batch.base_sequence == 0 { Verdict::New } else { Verdict::OutOfOrder { expected: 0 } };
        }
        let sequences = (batch.base_sequence, batch.last_sequence());
        if let Some(seen) = state.batches.iter().find(|seen| (seen.first, seen.last) == sequences) {
            return Verdict::Duplicate(*seen);
        }
        match state.batches.back() {
            Some(last) if last.last.wrapping_add(1) & i32::MAX != batch.base_sequence => {
                Verdict::OutOfOrder { expected: last.last.wrapping_add(1) & i32::MAX }
            }
            _ => Verdict::New,
        }
    }

    /// Remembers a batch that got its offsets, and returns what was known before, for [`restore`](Self::restore).
    pub fn remember(
        &mut self,
        batch: &Batch<'_>,
        base_offset: i64,
        limit: usize,
    ) -> Option<(i64, Option<ProducerState>)> {
        if batch.producer_id < 0 {
            return None;
        }
        self.clock += 1;
        let before = self.by_id.get(&batch.producer_id).cloned();
        if before.is_none() && self.by_id.len() >= limit.max(1) {
            let oldest = self.by_id.iter().min_by_key(|(_, state)| state.used).map(|(id, _)| *id);
            oldest.and_then(|id| self.by_id.remove(&id));
        }
        let state = self.by_id.entry(batch.producer_id).or_default();
        if state.epoch != batch.producer_epoch {
            state.epoch = batch.producer_epoch;
            state.batches.clear();
        }
        if state.batches.len() == REMEMBERED {
            state.batches.pop_front();
        }
        state.batches.push_back(Seen {
            first: batch.base_sequence,
            last: batch.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta),
        });
        state.used = self.clock;
        Some((batch.producer_id, before))
    }

    /// Undoes a [`remember`](Self::remember) whose frame was not written.
    pub fn restore(&mut self, (id, before): (i64, Option<ProducerState>)) {
        match before {
            Some(state) => self.by_id.insert(id, state),
            None => self.by_id.remove(&id),
        };
    }

    /// For the snapshot, oldest use first.
    pub fn save(&self) -> Vec<(i64, ProducerState)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, state)| (*id, state.clone())).collect();
        all.sort_by_key(|(_, state)| state.used);
        all
    }

    pub fn load(saved: Vec<(i64, ProducerState)>) -> Self {
        let clock = saved.len() as u64;
        let used = |(at, (id, state)): (usize, (i64, ProducerState))| (id, ProducerState { used: at as u64, ..state });
        Self { by_id: saved.into_iter().enumerate().map(used).collect(), clock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Compression, Producer, Record, encode_for};

    fn check(producers: &mut Producers, epoch: i16, sequence: i32, records: usize, expect: Verdict) {
        let bytes = encode_for(
            &vec![Record::default(); records],
            Compression::None,
            Producer { id: 9, epoch, base_sequence: sequence },
        );
        let bytes = bytes.unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(producers.judge(&batch), expect, "epoch {epoch} sequence {sequence}");
        if expect == Verdict::New {
            producers.remember(&batch, i64::from(sequence) + 100, 2);
        }
    }

    #[test]
    fn sequences_are_dense_duplicates_are_found_and_old_epochs_fenced() {
        let mut producers = Producers::default();
        for at in 0..6 {
            check(&mut producers, 0, at * 2, 2, Verdict::New);
        }
        let seen = Seen { first: 2, last: 3, base_offset: 102, last_offset: 103 };
        check(&mut producers, 0, 2, 2, Verdict::Duplicate(seen));
        check(&mut producers, 0, 0, 2, Verdict::OutOfOrder { expected: 12 });
        check(&mut producers, 0, 13, 1, Verdict::OutOfOrder { expected: 12 });
        check(&mut producers, 1, 5, 1, Verdict::OutOfOrder { expected: 0 });
        check(&mut producers, 1, 0, 1, Verdict::New);
        check(&mut producers, 0, 12, 1, Verdict::Fenced { current: 1 });
    }

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        let mut producers = Producers::default();
        check(&mut producers, 0, i32::MAX, 2, Verdict::New);
        check(&mut producers, 0, 1, 1, Verdict::New);
    }
}
