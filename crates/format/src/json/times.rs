//! Dates and times from ISO 8601 text.

use super::misfit::Misfit;
use crate::calendar::{self, NANOS_PER_SECOND, SECONDS_PER_DAY};
use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::TimeUnit;

const BAD_DATE: Misfit = Misfit::Reason("not a date like 2013-01-31");
const BAD_TIME: Misfit = Misfit::Reason("not a time like 09:30:00.25");
const BAD_TIMESTAMP: Misfit = Misfit::Reason("not a time like 2013-01-31T09:30:00.25 or 2013-01-31T09:30:00Z");

/// Where a text without an offset is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zone {
    Utc,
    Other(Tz),
}

impl Zone {
    /// The zone of a column; `None` when the name is unknown.
    pub(super) fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("UTC" | "Z" | "+00:00" | "Etc/UTC") => Some(Self::Utc),
            Some(name) => name.parse().ok().map(Self::Other),
        }
    }
}

/// Units in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

/// Days since 1970-01-01.
pub(super) fn date(text: &str) -> Result<i32, Misfit> {
    match split_date(text.as_bytes()) {
        Some((days, [])) => Ok(days),
        _ => Err(BAD_DATE),
    }
}

/// Units since midnight.
pub(super) fn time(text: &str, unit: TimeUnit) -> Result<i64, Misfit> {
    match split_time(text.as_bytes()) {
        Some((seconds, nanos, [])) => Ok(seconds * per_second(unit) + nanos / (NANOS_PER_SECOND / per_second(unit))),
        _ => Err(BAD_TIME),
    }
}

/// Units since 1970-01-01 UTC, digits below the unit cut off.
#[inline]
pub(super) fn timestamp(text: &str, unit: TimeUnit, zone: Zone) -> Result<i64, Misfit> {
    let (days, rest) = split_date(text.as_bytes()).ok_or(BAD_TIMESTAMP)?;
    let (seconds, nanos, rest) = match rest {
        [] => (0, 0, rest),
        [b'T' | b't' | b' ', rest @ ..] => split_time(rest).ok_or(BAD_TIMESTAMP)?,
        _ => return Err(BAD_TIMESTAMP),
    };
    let local = i64::from(days) * SECONDS_PER_DAY + seconds;
    let seconds = match (rest, zone) {
        ([], Zone::Utc) | ([b'Z' | b'z'], _) => local,
        ([], Zone::Other(zone)) => string_to_datetime(&zone, text).map_err(|_| BAD_TIMESTAMP)?.timestamp(),
        (offset, _) => local - offset_seconds(offset).ok_or(BAD_TIMESTAMP)?,
    };
    let units = per_second(unit);
    let below = nanos / (NANOS_PER_SECOND / units);
    // In two's steps: the first seconds of the nanosecond range only fit together with their fraction.
    match seconds.checked_mul(units) {
        Some(whole) => whole.checked_add(below).ok_or(Misfit::Range),
        None => {
            (seconds + 1).checked_mul(units).and_then(|whole| whole.checked_add(below - units)).ok_or(Misfit::Range)
        }
    }
}

/// A number of milliseconds since 1970-01-01 UTC in units.
pub(super) fn from_milliseconds(milliseconds: i64, unit: TimeUnit) -> Result<i64, Misfit> {
    match unit {
        TimeUnit::Second => Ok(milliseconds.div_euclid(1000)),
        _ => milliseconds.checked_mul(per_second(unit) / 1000).ok_or(Misfit::Range),
    }
}

/// `2013-01-31` and what follows.
#[inline]
fn split_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *date else { return None };
    let year = number([y0, y1])? * 100 + number([y2, y3])?;
    Some((calendar::days(i64::from(year), number([m0, m1])?, number([d0, d1])?)?, rest))
}

/// `09:30`, `09:30:00` or `09:30:00.123456789` (one to nine digits, more are cut off) and what follows: seconds of the
/// day and nanoseconds of the second.
#[inline]
fn split_time(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let (&[h0, h1, b':', m0, m1], rest) = text.split_first_chunk::<5>()? else { return None };
    let (hour, minute) = (number([h0, h1])?, number([m0, m1])?);
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (number([*s0, *s1])?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    let [b'.' | b',', digits @ ..] = rest else { return Some((seconds, 0, rest)) };
    let mut nanos = 0;
    let mut scale = NANOS_PER_SECOND / 10;
    let mut rest = digits;
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        nanos += i64::from(byte - b'0') * scale;
        scale /= 10;
        rest = after;
    }
    if rest.len() == digits.len() { None } else { Some((seconds, nanos, rest)) }
}

/// `+02:00`, `+0200` or `+02`, in seconds east.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, [h0, h1], minutes) = match *text {
        [sign, h0, h1] => (sign, [h0, h1], [b'0', b'0']),
        [sign, h0, h1, m0, m1] | [sign, h0, h1, b':', m0, m1] => (sign, [h0, h1], [m0, m1]),
        _ => return None,
    };
    let (hours, minutes) = (number([h0, h1])?, number(minutes)?);
    let seconds = i64::from(hours * 3600 + minutes * 60);
    match sign {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Two digits.
#[inline]
fn number(digits: [u8; 2]) -> Option<u32> {
    let [tens, ones] = digits.map(|byte| byte.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| u32::from(tens) * 10 + u32::from(ones))
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    #[test]
    fn timestamps_in_all_spellings() {
        for (text, expected) in [
            ("2013-01-31T09:30:00Z", 1_359_624_600_000),
            ("2013-01-31 09:30:00", 1_359_624_600_000),
            ("2013-01-31T09:30", 1_359_624_600_000),
            ("2013-01-31T09:30:00.25", 1_359_624_600_250),
            ("2013-01-31T09:30:00.1239999999999", 1_359_624_600_123),
            ("2013-01-31T11:30:00+02:00", 1_359_624_600_000),
            ("2013-01-31T04:00:00-0530", 1_359_624_600_000),
            ("2013-01-31T08:30:00-01", 1_359_624_600_000),
            ("2013-01-31", 1_359_590_400_000),
            ("1969-12-31T23:59:59.5Z", -500),
        ] {
            assert_eq!(timestamp(text, Millisecond, Zone::Utc), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2013",
            "2013-1-31",
            "2013-02-29",
            "2013-01-31T",
            "2013-01-31T24:00:00",
            "2013-01-31T09:60",
            "2013-01-31x",
            "2013-01-31T09:30:00.",
            "2013-01-31T09:30:00+25:00",
            "2013-01-31T09:30:00 UTC",
            "2013-01-31T09:30:0",
            "2013-01-31T09:30:00Zx",
            "+013-01-31",
            "２013-01-31",
        ] {
            assert!(timestamp(text, Millisecond, Zone::Utc).is_err(), "{text}");
        }
    }

    #[test]
    fn the_whole_nanosecond_range_is_read_and_nothing_beyond() {
        assert_eq!(timestamp("1677-09-21T00:12:43.145224192Z", Nanosecond, Zone::Utc), Ok(i64::MIN));
        assert_eq!(timestamp("2262-04-11T23:47:16.854775807Z", Nanosecond, Zone::Utc), Ok(i64::MAX));
        assert_eq!(timestamp("2262-04-11T23:47:16.854775808Z", Nanosecond, Zone::Utc), Err(Misfit::Range));
        assert_eq!(timestamp("1677-09-21T00:12:43.145224191Z", Nanosecond, Zone::Utc), Err(Misfit::Range));
        assert!(timestamp("9999-12-31T23:59:59.999999Z", Microsecond, Zone::Utc).is_ok());
    }

    #[test]
    fn text_without_an_offset_is_local_to_the_zone() {
        let zone = Zone::of(Some("+02:00")).unwrap();
        assert_eq!(timestamp("1970-01-01T02:00:00", Second, zone), Ok(0));
        assert_eq!(timestamp("1970-01-01T02:00:00Z", Second, zone), Ok(7200));
        assert!(Zone::of(Some("nowhere")).is_none());
    }

    #[test]
    fn times_of_the_day() {
        assert_eq!(time("23:59:59.999999999", Nanosecond), Ok(86_399_999_999_999));
        assert_eq!(time("09:30", Microsecond), Ok(34_200_000_000));
        assert!(time("24:00", Microsecond).is_err() && time("9:30", Microsecond).is_err());
        assert_eq!(date("2000-02-29"), Ok(11_016));
        assert!(date("2000-02-29T00:00").is_err());
    }

    #[test]
    fn milliseconds_to_every_unit() {
        assert_eq!(from_milliseconds(-1, Second), Ok(-1));
        assert_eq!(from_milliseconds(1500, Microsecond), Ok(1_500_000));
        assert_eq!(from_milliseconds(i64::MAX, Nanosecond), Err(Misfit::Range));
    }
}
