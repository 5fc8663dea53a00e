//! Record batches: Kafka's message format v2, as bytes that are kept and sent verbatim.
//!
//! Specification: <https://kafka.apache.org/documentation/#recordbatch>. The log itself looks only at batch headers;
//! records are decoded by whoever wants rows, and without an allocation for each.

mod batch;
mod compression;
mod decode;
mod encode;
mod varint;

pub use batch::{Attributes, Batch, Batches, HEADER_BYTES, TimestampType};
pub use compression::Compression;
pub use decode::{Decoder, Headers, RecordRef, decode};
pub use encode::{Producer, Record, encode, encode_for};

pub(crate) use batch::{patch, patch_append_time};

/// Why bytes are not acceptable record batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    #[error("RM-2050: the bytes end inside a record batch ({have} of {need} bytes)")]
    Truncated { have: usize, need: usize },
    #[error("RM-2051: message format {magic} is not supported; use a client of Kafka 0.11 or newer (format 2)")]
    Format { magic: i8 },
    #[error("RM-2052: the checksum of a record batch is {stored:08x} but its bytes give {computed:08x}; send it again")]
    Checksum { stored: u32, computed: u32 },
    #[error("RM-2053: a record batch is malformed: {detail}")]
    Malformed { detail: &'static str },
    #[error("RM-2054: a compressed batch expands to more than {limit} bytes")]
    Bomb { limit: usize },
    #[error("RM-2055: {codec} could not be read or written: {detail}")]
    Codec { codec: &'static str, detail: String },
    #[error("RM-2056: {what} of {bytes} bytes does not fit into a record batch")]
    TooLarge { what: &'static str, bytes: usize },
}
