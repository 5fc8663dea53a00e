//! Zigzag variable-length integers of the record format.

use super::RecordsError;

const CUT: RecordsError = RecordsError::Malformed { detail: "a number is cut off or too long" };

/// Reads a zigzag number of at most 64 bits from the front of `bytes`.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Result<i64, RecordsError> {
    let mut value = 0_u64;
    for shift in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(CUT)
}

/// Appends a zigzag number.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put`] needs.
#[inline]
pub(super) fn size(value: i64) -> usize {
    let value = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_round_trip_in_the_announced_size() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            assert_eq!(take(&mut out.as_slice()), Ok(value));
        }
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        assert!(take(&mut [0xff; 11].as_slice()).is_err());
        assert!(take(&mut [0x80].as_slice()).is_err());
    }
}
