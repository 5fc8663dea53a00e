//! Records to one batch.

use bytes::Bytes;

use super::{Compression, HEADER_BYTES, RecordsError, varint};

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
}

/// The identity of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// Sequence number of the first record of the batch.
    pub base_sequence: i32,
}

/// One batch of all `records`, without a producer's identity.
///
/// # Errors
/// When there are no records or they do not fit.
pub fn encode(records: &[Record], compression: Compression) -> Result<Bytes, RecordsError> {
    encode_for(records, compression, Producer { id: -1, epoch: -1, base_sequence: -1 })
}

/// One batch of all `records` of an idempotent producer.
///
/// # Errors
/// When there are no records or they do not fit.
pub fn encode_for(records: &[Record], compression: Compression, producer: Producer) -> Result<Bytes, RecordsError> {
    let first = records.first().ok_or(RecordsError::Malformed { detail: "it has no records" })?;
    let count = i32::try_from(records.len())
        .map_err(|_| RecordsError::TooLarge { what: "a list of records", bytes: records.len() })?;
    let base = first.timestamp_ms;
    let max = records.iter().map(|record| record.timestamp_ms).max().unwrap_or(base);

    let mut out = vec![0; HEADER_BYTES];
    if compression == Compression::None {
        put_records(records, base, &mut out)?;
    } else {
        let mut plain = Vec::new();
        put_records(records, base, &mut plain)?;
        compression.compress(&plain, &mut out)?;
    }
    let length = i32::try_from(out.len() - 12)
        .map_err(|_| RecordsError::TooLarge { what: "a list of records", bytes: out.len() })?;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    out[16] = 2;
    out[21..23].copy_from_slice(&compression.id().to_be_bytes());
    out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    out[27..35].copy_from_slice(&base.to_be_bytes());
    out[35..43].copy_from_slice(&max.to_be_bytes());
    out[43..51].copy_from_slice(&producer.id.to_be_bytes());
    out[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    out[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out.into())
}

fn put_records(records: &[Record], base_timestamp_ms: i64, out: &mut Vec<u8>) -> Result<(), RecordsError> {
    for (delta, record) in records.iter().enumerate() {
        let timestamp_delta = record.timestamp_ms.wrapping_sub(base_timestamp_ms);
        let size = body_size(record, timestamp_delta, delta as i64);
        i32::try_from(size).map_err(|_| RecordsError::TooLarge { what: "a record", bytes: size })?;
        varint::put(out, size as i64);
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, delta as i64);
        put_bytes(out, record.key.as_deref());
        put_bytes(out, record.value.as_deref());
        varint::put(out, record.headers.len() as i64);
        for (name, value) in &record.headers {
            put_bytes(out, Some(name.as_bytes()));
            put_bytes(out, value.as_deref());
        }
    }
    Ok(())
}

fn body_size(record: &Record, timestamp_delta: i64, offset_delta: i64) -> usize {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint::size(bytes.len() as i64) + bytes.len());
    let headers = record.headers.iter().map(|(name, value)| bytes(Some(name.as_bytes())) + bytes(value.as_deref()));
    1 + varint::size(timestamp_delta)
        + varint::size(offset_delta)
        + bytes(record.key.as_deref())
        + bytes(record.value.as_deref())
        + varint::size(record.headers.len() as i64)
        + headers.sum::<usize>()
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
