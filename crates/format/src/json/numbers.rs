//! Numbers from the text of JSON numbers, exactly or not at all.

use super::misfit::Misfit;
use super::scan::{Cell, is_number};

/// The text of a number: a JSON number, or a string that holds exactly one.
#[inline]
pub(super) fn number_text(cell: Cell<'_>) -> Result<&str, Misfit> {
    match cell {
        Cell::Number(text) => Ok(text),
        Cell::Text(text) if is_number(text) => Ok(text),
        _ => Err(Misfit::Type),
    }
}

/// A whole number of type `T`.
#[inline]
pub(super) fn integer<T: TryFrom<i64> + TryFrom<i128>>(text: &str) -> Result<T, Misfit> {
    if let Some(value) = short_integer(text) {
        return T::try_from(value).map_err(|_| Misfit::Range);
    }
    T::try_from(decimal(text, 0, Rounding::Refuse)?).map_err(|_| Misfit::Range)
}

/// At most 18 digits and nothing else: cannot overflow.
#[inline]
fn short_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// What to do with digits below the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rounding {
    Refuse,
    /// As PostgreSQL rounds a numeric.
    HalfAwayFromZero,
}

/// `text` times ten to the power `scale`, as a whole number.
pub(super) fn decimal(text: &str, scale: i32, rounding: Rounding) -> Result<i128, Misfit> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or_default(), exponent(text.get(at + 1..).unwrap_or_default())),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(positive) => (true, positive),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    // Digits of the result: those left of the point after it is moved by `shift`, then the ones that are cut off.
    let shift = i64::from(scale) + i64::from(exponent);
    let kept = whole.len() as i64 + shift;
    let mut value = 0_i128;
    let mut index = 0_i64;
    let mut first_cut = None;
    let mut cut_is_zero = true;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.wrapping_sub(b'0');
        if index < kept {
            value = append_digit(value, digit)?;
        } else {
            if index == kept {
                first_cut = Some(digit);
            }
            cut_is_zero &= digit == 0;
        }
        index += 1;
    }
    while index < kept && value != 0 {
        value = append_digit(value, 0)?;
        index += 1;
    }
    if !cut_is_zero && rounding == Rounding::Refuse {
        return Err(Misfit::Fraction);
    }
    if first_cut.is_some_and(|digit| digit >= 5) {
        value = value.checked_add(1).ok_or(Misfit::Range)?;
    }
    Ok(if negative { -value } else { value })
}

fn append_digit(value: i128, digit: u8) -> Result<i128, Misfit> {
    value.checked_mul(10).and_then(|value| value.checked_add(i128::from(digit))).ok_or(Misfit::Range)
}

/// Saturates: whatever is beyond a million is beyond every type.
fn exponent(text: &str) -> i32 {
    let limit = 1_000_000;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = digits.bytes().fold(0, |value: i32, byte| limit.min(value * 10 + i32::from(byte.wrapping_sub(b'0'))));
    if negative { -value } else { value }
}

/// The nearest double; an infinite one is out of range.
#[inline]
pub(super) fn float64(text: &str) -> Result<f64, Misfit> {
    match short_decimal(text) {
        Some((mantissa, places)) => Ok(mantissa as f64 / POWERS_OF_TEN[places]),
        None => text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Misfit::Range),
    }
}

/// The nearest single; an infinite one is out of range.
#[inline]
pub(super) fn float32(text: &str) -> Result<f32, Misfit> {
    text.parse().ok().filter(|value: &f32| value.is_finite()).ok_or(Misfit::Range)
}

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Digits without their point and the places behind it, when both are exact doubles: then one division rounds correctly
/// (Clinger's fast path).
#[inline]
fn short_decimal(text: &str) -> Option<(i64, usize)> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Fifteen digits are below 2^53. The sign of "-0.0" would be lost: left to the slow path.
    if digits.len() > 16 {
        return None;
    }
    let mut value = 0_i64;
    let mut point = None;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + i64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return None;
        }
    }
    if value == 0 || (digits.len() == 16 && point.is_none()) {
        return None;
    }
    let places = point.map_or(0, |point| digits.len() - point - 1);
    Some((if negative { -value } else { value }, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact_in_every_spelling() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("127", Ok(127)),
            ("-128", Ok(-128)),
            ("128", Err(Misfit::Range)),
            ("1e2", Ok(100)),
            ("1.2e1", Ok(12)),
            ("1200E-2", Ok(12)),
            ("12.0", Ok(12)),
            ("0e999999999999", Ok(0)),
            ("1e999999999999", Err(Misfit::Range)),
            ("12.5", Err(Misfit::Fraction)),
            ("1e-1", Err(Misfit::Fraction)),
            ("99999999999999999999999999999999999999999999", Err(Misfit::Range)),
        ] {
            assert_eq!(integer::<i8>(text), expected, "{text}");
        }
        assert_eq!(integer::<i64>("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer::<i64>("9223372036854775808"), Err(Misfit::Range));
        assert_eq!(integer::<u64>("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(integer::<u64>("-1"), Err(Misfit::Range));
    }

    #[test]
    fn decimals_are_exact_and_rounded_half_away_from_zero() {
        let round = |text| decimal(text, 2, Rounding::HalfAwayFromZero);
        for (text, expected) in [
            ("1", 100),
            ("1.5", 150),
            ("-1.005", -101),
            ("1.0049999", 100),
            ("0.005", 1),
            ("0.004", 0),
            ("5e-3", 1),
            ("5e-4", 0),
            ("9e-5", 0),
            ("9.999", 1000),
            ("1.5e3", 150_000),
            ("0.000000000000000000000000000000000000000000000000000001", 0),
            ("123456789012345678901234567890.12", 12_345_678_901_234_567_890_123_456_789_012),
            ("1e-1000000000", 0),
        ] {
            assert_eq!(round(text), Ok(expected), "{text}");
        }
        assert_eq!(round("1e40"), Err(Misfit::Range));
        assert_eq!(decimal("15", -1, Rounding::HalfAwayFromZero), Ok(2));
    }

    #[test]
    fn floats_are_those_of_the_standard_library() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0.1",
            "1.5",
            "-273.15",
            "3.141592653589793",
            "123456789.123456",
            "999999999999999",
            "1e22",
            "1e-22",
            "1.7976931348623157e308",
            "5e-324",
            "0.000000000000001",
            "12345678901234567890",
            "100000.00000001",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(float64(text).map(f64::to_bits), Ok(expected.to_bits()), "{text}");
        }
        assert_eq!(float64("1e309"), Err(Misfit::Range));
        assert_eq!(float32("1e39"), Err(Misfit::Range));
        assert_eq!(float32("0.1"), Ok(0.1));
    }
}
