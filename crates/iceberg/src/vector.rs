//! Deletion vectors: positions of a data file in a blob of a Puffin file.
//!
//! Puffin spec, "`deletion-vector-v1` blob type".

use roaring::RoaringTreemap;
use serde_json::{Value, json};

const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

const PUFFIN_MAGIC: &[u8] = b"PFA1";
/// The metadata column of a row's place, which vectors are said to be about.
const ROW_PLACE: i32 = 2_147_483_645;

/// A Puffin file of vectors.
pub(crate) struct Puffin {
    bytes: Vec<u8>,
    blobs: Vec<Value>,
}

impl Default for Puffin {
    fn default() -> Self {
        Self { bytes: PUFFIN_MAGIC.to_vec(), blobs: vec![] }
    }
}

impl Puffin {
    /// Where the vector is in the file, and how long.
    ///
    /// # Errors
    /// For a vector that is too long for the format.
    pub(crate) fn add(&mut self, data_file: &str, rows: &RoaringTreemap) -> Result<(i64, i64), String> {
        let (offset, blob) = (self.bytes.len(), encode(rows)?);
        self.bytes.extend(&blob);
        self.blobs.push(json!({
            "type": "deletion-vector-v1",
            "fields": [ROW_PLACE],
            // Those of the snapshot that will name the file, which are not known yet.
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": offset,
            "length": blob.len(),
            "properties": { "referenced-data-file": data_file, "cardinality": rows.len().to_string() },
        }));
        let number = |count: usize| i64::try_from(count).map_err(|error| error.to_string());
        Ok((number(offset)?, number(blob.len())?))
    }

    /// "File structure": the blobs, and a footer that lists them.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let created = concat!("rivermere version ", env!("CARGO_PKG_VERSION"));
        let footer = json!({ "blobs": self.blobs, "properties": { "created-by": created } }).to_string();
        self.bytes.extend(PUFFIN_MAGIC);
        self.bytes.extend(footer.as_bytes());
        self.bytes.extend(u32::try_from(footer.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(PUFFIN_MAGIC);
        self.bytes
    }
}

fn encode(rows: &RoaringTreemap) -> Result<Vec<u8>, String> {
    let mut body = MAGIC.to_vec();
    let mut rows = rows.clone();
    rows.optimize();
    rows.serialize_into(&mut body).map_err(|error| error.to_string())?;
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let length = u32::try_from(body.len()).map_err(|error| error.to_string())?;
    Ok([length.to_be_bytes().as_slice(), &body, &crc.sum().to_be_bytes()].concat())
}

/// # Errors
/// With what is wrong with the bytes.
pub(crate) fn decode(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let short = || "a deletion vector that is cut off".to_owned();
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    let (body, sum) = rest.split_at_checked(length).ok_or_else(short)?;
    let sum = sum.first_chunk::<4>().ok_or_else(short)?;
    let mut crc = flate2::Crc::new();
    crc.update(body);
    if crc.sum().to_be_bytes() != *sum {
        return Err("a deletion vector whose checksum is wrong".to_owned());
    }
    let bitmap = body.strip_prefix(MAGIC.as_slice()).ok_or("a deletion vector of an unknown kind")?;
    RoaringTreemap::deserialize_from(bitmap).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_and_a_damaged_one_refused() {
        let rows: RoaringTreemap = [1, 5, 1 << 33].into_iter().collect();
        let blob = encode(&rows).unwrap();
        assert_eq!(decode(&blob), Ok(rows));
        for at in [0, 5, 9, blob.len() - 1] {
            let mut damaged = blob.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
        }
        assert!(decode(&blob[..20]).is_err());
    }
}
