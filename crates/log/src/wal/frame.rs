//! The write-ahead frame: one group commit, one fsync, one atomic unit.
//!
//! ```text
//! magic u32 | length u32 | LSN u64 | CRC32C u32 | entry count u32 | entries
//! entry: kind u8, then
//!   1 batch   topic id 16 bytes, partition i32, length u32, record batches v2 verbatim with their final offsets
//!   2 marker  name length u16, name, length u32, bytes
//!   3 change  length u32, a JSON change of topics, groups or producers
//! ```
//! All numbers are little-endian; `length` counts the whole frame. LSNs are dense. The checksum starts from the file's
//! random salt, so frames of the file's earlier life, and bytes that a user made look like a frame, never match.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::changes::Change;

pub(crate) const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = u32::from_le_bytes(*b"RMF1");
const CRC_AT: usize = 16;

const BATCH: u8 = 1;
const MARKER: u8 = 2;
const CHANGE: u8 = 3;

/// One thing in a frame.
#[derive(Debug)]
pub(crate) enum Entry {
    Batch { topic: Uuid, partition: i32, batches: Bytes },
    Marker { sink: String, bytes: Bytes },
    Change(Change),
}

/// A frame being filled.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    out: BytesMut,
    count: u32,
}

impl FrameBuilder {
    pub fn with_capacity(bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(bytes + FRAME_HEADER_BYTES);
        out.put_bytes(0, FRAME_HEADER_BYTES);
        Self { out, count: 0 }
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A place to come back to.
    pub fn mark(&self) -> (usize, u32) {
        (self.out.len(), self.count)
    }

    /// Forgets what was added after `mark`.
    pub fn back_to(&mut self, mark: (usize, u32)) {
        self.out.truncate(mark.0);
        self.count = mark.1;
    }

    /// Adds batches and tells where in the frame they start.
    pub fn batch(&mut self, topic: Uuid, partition: i32, batches: &[u8]) -> usize {
        self.out.put_u8(BATCH);
        self.out.put_slice(topic.as_bytes());
        self.out.put_i32_le(partition);
        self.out.put_u32_le(batches.len() as u32);
        let at = self.out.len();
        self.out.put_slice(batches);
        self.count += 1;
        at
    }

    pub fn marker(&mut self, sink: &str, bytes: &[u8]) {
        self.out.put_u8(MARKER);
        self.out.put_u16_le(sink.len() as u16);
        self.out.put_slice(sink.as_bytes());
        self.out.put_u32_le(bytes.len() as u32);
        self.out.put_slice(bytes);
        self.count += 1;
    }

    pub fn change(&mut self, json: &[u8]) {
        self.out.put_u8(CHANGE);
        self.out.put_u32_le(json.len() as u32);
        self.out.put_slice(json);
        self.count += 1;
    }

    /// The bytes from `at` on, to be patched.
    pub fn bytes_mut(&mut self, at: usize) -> &mut [u8] {
        self.out.get_mut(at..).unwrap_or_default()
    }

    /// The finished frame.
    pub fn seal(mut self, lsn: u64, salt: u32) -> Bytes {
        let length = self.out.len() as u32;
        let mut header = &mut self.out[..];
        header.put_u32_le(MAGIC);
        header.put_u32_le(length);
        header.put_u64_le(lsn);
        header.put_u32_le(0);
        header.put_u32_le(self.count);
        let crc = checksum(&self.out, salt);
        self.out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        self.out.freeze()
    }
}

fn checksum(frame: &[u8], salt: u32) -> u32 {
    let (before, after) = frame.split_at(CRC_AT);
    crc32c::crc32c_append(crc32c::crc32c_append(salt, before), after.get(4..).unwrap_or_default())
}

/// What a frame header promises.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub length: usize,
    pub lsn: u64,
}

impl FrameHeader {
    /// Reads a header that could be one: the magic is right and the length possible.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u32()? != MAGIC {
            return None;
        }
        let length = reader.u32()? as usize;
        let lsn = reader.u64()?;
        (length >= FRAME_HEADER_BYTES).then_some(Self { length, lsn })
    }
}

/// Where a frame header may start in `bytes`.
pub(crate) fn find_magic(bytes: &[u8]) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == magic[0]) {
        if bytes.get(from + at..)?.starts_with(&magic) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Whether the checksum of a whole frame is right.
pub(crate) fn is_intact(frame: &[u8], salt: u32) -> bool {
    frame.get(CRC_AT..CRC_AT + 4).is_some_and(|stored| stored == checksum(frame, salt).to_le_bytes())
}

/// The entries of an intact frame; batches share its memory. `None` when they are not what this version writes.
pub(crate) fn entries(frame: &Bytes) -> Option<Vec<Entry>> {
    let mut reader = Reader(frame.get(20..)?);
    let count = reader.u32()?;
    let mut out = Vec::with_capacity(count.min(1024) as usize);
    for _ in 0..count {
        out.push(match reader.u8()? {
            BATCH => Entry::Batch {
                topic: Uuid::from_bytes(reader.array()?),
                partition: i32::from_le_bytes(reader.array()?),
                batches: {
                    let size = reader.u32()? as usize;
                    frame.slice_ref(reader.take(size)?)
                },
            },
            MARKER => {
                let size = u16::from_le_bytes(reader.array()?) as usize;
                let sink = std::str::from_utf8(reader.take(size)?).ok()?.to_owned();
                let size = reader.u32()? as usize;
                // A copy, because a marker outlives the other megabytes of its frame.
                Entry::Marker { sink, bytes: Bytes::copy_from_slice(reader.take(size)?) }
            }
            CHANGE => {
                let size = reader.u32()? as usize;
                Entry::Change(serde_json::from_slice(reader.take(size)?).ok()?)
            }
            _ => return None,
        });
    }
    reader.0.is_empty().then_some(out)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_back_its_entries_and_no_flipped_bit_passes() {
        let mut builder = FrameBuilder::with_capacity(100);
        let topic = Uuid::from_u128(7);
        builder.batch(topic, 3, b"batch");
        builder.marker("sink", b"17");
        let frame = builder.seal(42, 99);
        let header = FrameHeader::parse(&frame).unwrap();
        assert_eq!((header.length, header.lsn), (frame.len(), 42));
        assert!(is_intact(&frame, 99) && !is_intact(&frame, 98));
        let entries = entries(&frame).unwrap();
        assert!(
            matches!(&entries[0], Entry::Batch { topic: t, partition: 3, batches } if *t == topic && batches == "batch")
        );
        assert!(matches!(&entries[1], Entry::Marker { sink, bytes } if sink == "sink" && bytes == "17"));
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_intact(&flipped, 99), "bit {bit}");
        }
    }
}
