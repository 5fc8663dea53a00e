//! Batches to records, borrowed from the batch's bytes or from one reused buffer.

use bytes::Bytes;
use rivermere_base::Offset;

use super::{Batch, Batches, Compression, RecordsError, TimestampType, varint};

/// Bytes a batch may expand to in [`decode`].
const DEFAULT_LIMIT_BYTES: usize = 128 << 20;
/// Capacity of the reused buffer that is given back after a large batch.
const KEPT_BYTES: usize = 4 << 20;

/// A record, valid during the visit.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, read on demand.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    count: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        // Lengths and UTF-8 were checked before the visit.
        let name = take_bytes(&mut self.rest).ok()??;
        let value = take_bytes(&mut self.rest).ok()?;
        Some((std::str::from_utf8(name).unwrap_or_default(), value))
    }
}

/// Visits every record of `batches` in order, skipping transaction markers. The first batch may start before the offset
/// that was asked for in a read: skip what is below it.
///
/// # Errors
/// When a batch is malformed; records before it have been visited.
pub fn decode(batches: &Bytes, visit: impl FnMut(RecordRef<'_>)) -> Result<(), RecordsError> {
    Decoder::new(DEFAULT_LIMIT_BYTES).decode(batches, visit)
}

/// A decoder that keeps its buffer between calls.
#[derive(Debug)]
pub struct Decoder {
    limit_bytes: usize,
    expanded: Vec<u8>,
}

impl Decoder {
    /// A decoder that refuses batches which expand to more than `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, expanded: Vec::new() }
    }

    /// See [`decode`].
    pub fn decode(&mut self, batches: &[u8], mut visit: impl FnMut(RecordRef<'_>)) -> Result<(), RecordsError> {
        for batch in Batches::of(batches) {
            let batch = batch?;
            if !batch.attributes.is_control() {
                self.batch(&batch, &mut visit)?;
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch<'_>, visit: &mut impl FnMut(RecordRef<'_>)) -> Result<(), RecordsError> {
        match batch.attributes.compression()? {
            Compression::None => records(batch, batch.payload(), visit),
            codec => {
                codec.decompress(batch.payload(), self.limit_bytes, &mut self.expanded)?;
                let visited = records(batch, &self.expanded, visit);
                if self.expanded.capacity() > KEPT_BYTES {
                    self.expanded = Vec::new();
                }
                visited
            }
        }
    }
}

fn records(batch: &Batch<'_>, mut data: &[u8], visit: &mut impl FnMut(RecordRef<'_>)) -> Result<(), RecordsError> {
    let append_time = batch.attributes.timestamp_type() == TimestampType::Append;
    for _ in 0..batch.count {
        let size = varint::take(&mut data)?;
        let size =
            usize::try_from(size).map_err(|_| RecordsError::Malformed { detail: "a record's size is negative" })?;
        let truncated = RecordsError::Truncated { have: data.len(), need: size };
        let (mut body, rest) = data.split_at_checked(size).ok_or(truncated)?;
        data = rest;
        body = body.get(1..).ok_or(RecordsError::Malformed { detail: "a record is empty" })?;
        let timestamp_delta = varint::take(&mut body)?;
        let offset_delta = varint::take(&mut body)?;
        let key = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        let headers = take_headers(body)?;
        visit(RecordRef {
            offset: Offset(batch.base_offset.wrapping_add(offset_delta)),
            timestamp_ms: if append_time {
                batch.max_timestamp_ms
            } else {
                batch.base_timestamp_ms.wrapping_add(timestamp_delta)
            },
            key,
            value,
            headers,
        });
    }
    Ok(())
}

#[inline]
fn take_bytes<'a>(data: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordsError> {
    let size = varint::take(data)?;
    if size < 0 {
        return Ok(None);
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let truncated = RecordsError::Truncated { have: data.len(), need: size };
    let (bytes, rest) = data.split_at_checked(size).ok_or(truncated)?;
    *data = rest;
    Ok(Some(bytes))
}

fn take_headers(mut data: &[u8]) -> Result<Headers<'_>, RecordsError> {
    let count = varint::take(&mut data)?;
    let headers = Headers { count: usize::try_from(count).unwrap_or(0), rest: data };
    for _ in 0..headers.count {
        let name = take_bytes(&mut data)?;
        if name.is_none_or(|name| std::str::from_utf8(name).is_err()) {
            return Err(RecordsError::Malformed { detail: "a header's name is missing or not UTF-8" });
        }
        take_bytes(&mut data)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::super::{Record, encode};
    use super::*;

    fn sample() -> Vec<Record> {
        (0..5_i64)
            .map(|n| Record {
                key: (n % 2 == 0).then(|| Bytes::from(format!("k{n}"))),
                value: (n != 3).then(|| Bytes::from(vec![b'v'; n as usize * 100])),
                headers: vec![("a".into(), Some(Bytes::from_static(b"1"))), ("b".into(), None)],
                timestamp_ms: 1_700_000_000_000 - n * 7,
            })
            .collect()
    }

    fn collect(batch: &Bytes) -> Result<Vec<Record>, RecordsError> {
        let mut out = Vec::new();
        decode(batch, |record| {
            out.push(Record {
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice),
                headers: record.headers.map(|(name, value)| (name.into(), value.map(Bytes::copy_from_slice))).collect(),
                timestamp_ms: record.timestamp_ms,
            });
        })?;
        Ok(out)
    }

    #[test]
    fn records_survive_every_codec() {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let batch = encode(&sample(), Compression::from_name(codec).unwrap()).unwrap();
            Batch::parse(&batch).unwrap().verify().unwrap();
            assert_eq!(collect(&batch).unwrap(), sample(), "{codec}");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_other_records_but_no_panic() {
        for codec in ["none", "zstd", "snappy", "lz4", "gzip"] {
            let batch = encode(&sample(), Compression::from_name(codec).unwrap()).unwrap();
            for at in 0..batch.len() {
                assert!(at == 0 || collect(&batch.slice(..at)).is_err());
                let mut flipped = batch.to_vec();
                flipped[at] ^= 0xff;
                let flipped = Bytes::from(flipped);
                let intact = Batch::parse(&flipped).and_then(|batch| batch.verify());
                assert_eq!(intact.is_ok(), at < 8 || (12..16).contains(&at), "{codec} {at}");
                let _ = collect(&flipped);
            }
        }
    }
}
