//! Days and times of the proleptic Gregorian calendar, without time zones (Howard Hinnant, "chrono-Compatible Low-Level
//! Date Algorithms").

pub(crate) const SECONDS_PER_DAY: i64 = 86_400;
pub(crate) const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Days since 1970-01-01, if there is such a date. Years -9999 to 9999.
pub(crate) fn days(year: i64, month: u32, day: u32) -> Option<i32> {
    if !(-9999..=9999).contains(&year) || day == 0 || day > days_of_month(year, month)? {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// Year, month and day of a day since 1970-01-01.
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

fn days_of_month(year: i64, month: u32) -> Option<u32> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for day in (-4_000_000..2_900_000).step_by(17) {
            let (year, month, date) = civil(day);
            if (-9999..=9999).contains(&year) {
                assert_eq!(days(year, month, date), Some(day as i32), "{year}-{month}-{date}");
            }
        }
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
    }

    #[test]
    fn dates_that_are_none_are_refused() {
        for (year, month, day) in
            [(1900, 2, 29), (2013, 13, 1), (2013, 0, 1), (2013, 4, 31), (2013, 1, 0), (10_000, 1, 1)]
        {
            assert_eq!(days(year, month, day), None);
        }
    }
}
