//! The 61-byte header in front of every batch, and how batches follow each other.

use bytes::Bytes;

use super::{Compression, RecordsError};

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 61;

/// Bytes of offset and length, which `batch_length` does not count.
const PREFIX_BYTES: usize = 12;
/// The checksum covers everything from here.
const CRC_FROM: usize = 21;

/// Who gave the records their timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    Create,
    Append,
}

/// Flags of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    pub fn compression(self) -> Result<Compression, RecordsError> {
        Compression::from_id(self.0 & 7)
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & 8 == 0 { TimestampType::Create } else { TimestampType::Append }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & 16 != 0
    }

    /// Whether the records are transaction markers instead of a user's records.
    pub fn is_control(self) -> bool {
        self.0 & 32 != 0
    }
}

/// One batch: its header, and where its bytes are.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch at the front of `bytes`, which must hold all of it. The checksum is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordsError> {
        let size = Self::size(bytes)?;
        let truncated = RecordsError::Truncated { have: bytes.len(), need: size };
        let bytes = bytes.get(..size).ok_or(truncated)?;
        let batch = Self::parse_header(bytes)?;
        Ok(Self { bytes, ..batch })
    }

    /// Reads only the header; `bytes` may end after it.
    pub(crate) fn parse_header(bytes: &'a [u8]) -> Result<Self, RecordsError> {
        let header: &[u8; HEADER_BYTES] =
            bytes.first_chunk().ok_or(RecordsError::Truncated { have: bytes.len(), need: HEADER_BYTES })?;
        let magic = header[16] as i8;
        if magic != 2 {
            return Err(RecordsError::Format { magic });
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            attributes: Attributes(i16::from_be_bytes(field(header, 21))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp_ms: i64::from_be_bytes(field(header, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            count: i32::from_be_bytes(field(header, 57)),
            bytes,
        })
    }

    /// Bytes of the batch at the front of `bytes`, which needs to hold only the first 17 of them.
    pub(crate) fn size(bytes: &[u8]) -> Result<usize, RecordsError> {
        let prefix: &[u8; PREFIX_BYTES + 5] =
            bytes.first_chunk().ok_or(RecordsError::Truncated { have: bytes.len(), need: HEADER_BYTES })?;
        let magic = prefix[16] as i8;
        if magic != 2 {
            return Err(RecordsError::Format { magic });
        }
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let length = usize::try_from(length).unwrap_or(0) + PREFIX_BYTES;
        if length < HEADER_BYTES {
            return Err(RecordsError::Malformed { detail: "its length is shorter than its header" });
        }
        Ok(length)
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// Header and records, verbatim.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, perhaps compressed.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Checks the bytes against the stored checksum.
    pub fn verify(&self) -> Result<(), RecordsError> {
        let header: &[u8; HEADER_BYTES] =
            self.bytes.first_chunk().ok_or(RecordsError::Truncated { have: self.bytes.len(), need: HEADER_BYTES })?;
        let stored = u32::from_be_bytes(field(header, 17));
        let computed = crc32c::crc32c(self.bytes.get(CRC_FROM..).unwrap_or_default());
        if stored == computed { Ok(()) } else { Err(RecordsError::Checksum { stored, computed }) }
    }
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[from..from + N]);
    out
}

/// The batches in a run of bytes, one after the other. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    pub fn new(bytes: &'a Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.get(batch.bytes.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// Gives the batch at the front of `bytes` its place in the log. The checksum does not cover these fields.
pub(crate) fn patch(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if let Some(offset) = bytes.get_mut(0..8) {
        offset.copy_from_slice(&base_offset.to_be_bytes());
    }
    if let Some(epoch) = bytes.get_mut(12..16) {
        epoch.copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

/// Gives a batch the time of its append (`message.timestamp.type=LogAppendTime`) and a fitting checksum.
pub(crate) fn patch_append_time(batch: &mut [u8], now_ms: i64) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    batch[22] |= 8;
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
