//! Deletion vectors: positions of a data file in a blob of a Puffin file.
//!
//! Puffin spec, "`deletion-vector-v1` blob type".

use roaring::RoaringTreemap;

const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

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
        let mut body = MAGIC.to_vec();
        rows.serialize_into(&mut body).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        let mut blob = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        blob.extend(&body);
        blob.extend(crc.sum().to_be_bytes());
        assert_eq!(decode(&blob), Ok(rows));
        for at in [0, 5, 9, blob.len() - 1] {
            let mut damaged = blob.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
        }
        assert!(decode(&blob[..20]).is_err());
    }
}
