//! The five codecs of record batches.

use std::io::{Read, Write};

use super::RecordsError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Start of the framing that Java's snappy library (xerial) puts around its blocks.
const XERIAL: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

impl Compression {
    pub(super) fn from_id(id: i16) -> Result<Self, RecordsError> {
        Ok(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return Err(RecordsError::Malformed { detail: "its compression codec is unknown" }),
        })
    }

    pub(super) fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name of the codec.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.name() == name)
    }

    fn failed(self, error: impl std::fmt::Display) -> RecordsError {
        RecordsError::Codec { codec: self.name(), detail: error.to_string() }
    }

    /// Appends the compressed `data` to `out`.
    pub(super) fn compress(self, data: &[u8], out: &mut Vec<u8>) -> Result<(), RecordsError> {
        match self {
            Self::None => out.extend_from_slice(data),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut *out, flate2::Compression::default());
                encoder.write_all(data).and_then(|()| encoder.finish()).map_err(|error| self.failed(error))?;
            }
            Self::Snappy => {
                out.extend_from_slice(XERIAL);
                out.extend_from_slice(&1_i32.to_be_bytes());
                out.extend_from_slice(&1_i32.to_be_bytes());
                let mut encoder = snap::raw::Encoder::new();
                for block in data.chunks(XERIAL_BLOCK_BYTES) {
                    let block = encoder.compress_vec(block).map_err(|error| self.failed(error))?;
                    out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                    out.extend_from_slice(&block);
                }
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut *out);
                encoder.write_all(data).map_err(|error| self.failed(error))?;
                encoder.finish().map_err(|error| self.failed(error))?;
            }
            Self::Zstd => zstd::stream::copy_encode(data, out, 3).map_err(|error| self.failed(error))?,
        }
        Ok(())
    }

    /// Replaces `out` by the expanded `data`, refusing more than `limit` bytes.
    pub(super) fn decompress(self, data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), RecordsError> {
        out.clear();
        match self {
            Self::None => {
                out.extend_from_slice(data);
                Ok(())
            }
            Self::Gzip => self.drain(flate2::read::MultiGzDecoder::new(data), limit, out),
            Self::Snappy => self.unsnap(data, limit, out),
            Self::Lz4 => self.drain(lz4_flex::frame::FrameDecoder::new(data), limit, out),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(|error| self.failed(error))?;
                self.drain(decoder, limit, out)
            }
        }
    }

    fn drain(self, reader: impl Read, limit: usize, out: &mut Vec<u8>) -> Result<(), RecordsError> {
        reader.take(limit as u64 + 1).read_to_end(out).map_err(|error| self.failed(error))?;
        if out.len() > limit { Err(RecordsError::Bomb { limit }) } else { Ok(()) }
    }

    fn unsnap(self, data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), RecordsError> {
        let mut decoder = snap::raw::Decoder::new();
        let mut block = |block: &[u8], out: &mut Vec<u8>| {
            let size = snap::raw::decompress_len(block).map_err(|error| self.failed(error))?;
            let from = out.len();
            if size > limit.saturating_sub(from) {
                return Err(RecordsError::Bomb { limit });
            }
            out.resize(from + size, 0);
            let written = decoder.decompress(block, &mut out[from..]).map_err(|error| self.failed(error))?;
            out.truncate(from + written);
            Ok(())
        };
        if !data.starts_with(XERIAL) {
            return block(data, out);
        }
        let mut rest = data.get(XERIAL_HEADER_BYTES..).unwrap_or_default();
        while let Some((size, after)) = rest.split_first_chunk::<4>() {
            let size = u32::from_be_bytes(*size) as usize;
            let truncated = RecordsError::Truncated { have: after.len(), need: size };
            let (this, next) = after.split_at_checked(size).ok_or(truncated)?;
            block(this, out)?;
            rest = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    #[test]
    fn every_codec_gives_back_what_it_got() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for codec in ALL {
            let (mut small, mut back) = (Vec::new(), Vec::new());
            codec.compress(&data, &mut small).unwrap();
            codec.decompress(&small, data.len(), &mut back).unwrap();
            assert!(back == data, "{}", codec.name());
        }
    }

    #[test]
    fn an_expansion_over_the_limit_is_refused() {
        for codec in &ALL[1..] {
            let (mut small, mut back) = (Vec::new(), Vec::new());
            codec.compress(&vec![0; 1 << 20], &mut small).unwrap();
            assert_eq!(codec.decompress(&small, 1 << 16, &mut back), Err(RecordsError::Bomb { limit: 1 << 16 }));
        }
    }

    #[test]
    fn raw_snappy_without_framing_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"librdkafka").unwrap();
        let mut back = Vec::new();
        Compression::Snappy.decompress(&raw, 100, &mut back).unwrap();
        assert_eq!(back, b"librdkafka");
    }

    #[test]
    fn garbage_is_an_error_for_every_codec() {
        for codec in &ALL[1..] {
            assert!(codec.decompress(&[0x55; 64], 1 << 16, &mut Vec::new()).is_err(), "{}", codec.name());
        }
    }
}
