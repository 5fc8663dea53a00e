//! Which partition a record goes to: by its key as Kafka's Java client does it (murmur2), so that a key stays in its
//! partition whoever writes it; records without a key take turns, a batch each.

/// Chooses partitions for one topic.
#[derive(Debug)]
pub struct Partitioner {
    partitions: i32,
    turn: i32,
}

impl Partitioner {
    /// `partitions` is at least 1.
    pub fn new(partitions: i32) -> Self {
        Self { partitions: partitions.max(1), turn: 0 }
    }

    pub fn choose(&self, key: Option<&[u8]>) -> i32 {
        match key {
            Some(key) => ((murmur2(key) & 0x7fff_ffff) as i32) % self.partitions,
            None => self.turn,
        }
    }

    /// A batch ends: records without a key go to the next partition.
    pub fn next_batch(&mut self) {
        self.turn = (self.turn + 1) % self.partitions;
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn keys_stay_and_the_others_take_turns() {
        let mut partitioner = Partitioner::new(3);
        let of_key = partitioner.choose(Some(b"k"));
        let mut turns = vec![];
        for _ in 0..4 {
            assert_eq!(partitioner.choose(Some(b"k")), of_key);
            turns.push(partitioner.choose(None));
            partitioner.next_batch();
        }
        assert_eq!(turns, [0, 1, 2, 0]);
    }
}
