//! Days and dates of the Gregorian calendar, in UTC: what certificates and logs
//! need, and no more.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment as RFC 3339 has it, to the millisecond: `2026-11-23T02:25:48.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let (year, month, day) = date_of(seconds / DAY);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const DAY: u64 = 24 * 60 * 60;

/// `[year, month, day, hour, minute, second]` since 1970, if there is such a
/// moment. A second of 60 is none here: certificates have no leap seconds.
pub(crate) fn moment([year, month, day, hour, minute, second]: [u64; 6]) -> Option<SystemTime> {
    let valid = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let seconds =
        valid.then(|| days_until(year, month, day) * DAY + hour * 3600 + minute * 60 + second);
    seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Days from 1970-01-01 until a date of that year or later.
fn days_until(year: u64, month: u64, day: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

fn date_of(mut days: u64) -> (u64, u64, u64) {
    // Four centuries always have the same number of days.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn days_in_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(is_leap(year)),
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_000_000_000, "2001-09-09T01:46:40.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Timestamp(time).to_string(), text);
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let number = |range: std::ops::Range<usize>| digits[range].parse::<u64>().unwrap();
            let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14];
            assert_eq!(moment(parts.map(number)), Some(time));
        }
    }

    #[test]
    fn every_day_has_one_date() {
        for day in (0..150_000).chain([2_932_896]) {
            let (year, month, of_month) = date_of(day);
            assert_eq!(days_until(year, month, of_month), day);
        }
    }

    #[test]
    fn what_is_no_moment() {
        for bad in [
            [1969, 1, 1, 0, 0, 0],
            [2023, 2, 29, 0, 0, 0],
            [1970, 0, 1, 0, 0, 0],
            [1970, 13, 1, 0, 0, 0],
            [1970, 1, 0, 0, 0, 0],
            [1970, 1, 32, 0, 0, 0],
            [1970, 1, 1, 24, 0, 0],
            [1970, 1, 1, 0, 60, 0],
            [1970, 1, 1, 0, 0, 60],
            [u64::MAX, 1, 1, 0, 0, 0],
        ] {
            assert_eq!(moment(bad), None, "{bad:?}");
        }
    }
}
