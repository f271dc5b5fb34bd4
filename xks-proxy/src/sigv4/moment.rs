use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far `x-amz-date` may be from now, either way (Appendix A, task 4).
pub const MAX_SKEW: Duration = Duration::from_mins(5);

const SECONDS_PER_DAY: i64 = 86_400;

/// `YYYYMMDD'T'HHMMSS'Z'`: a second that the calendar has.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    text: [u8; 16],
    /// Since 1970.
    seconds: i64,
}

impl Moment {
    /// Reads the value of `x-amz-date`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; 16] = text.try_into().ok()?;
        let [date @ .., b'T', h1, h2, m1, m2, s1, s2, b'Z'] = text else { return None };
        let days = days_of(&date)?;
        let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
        let of_day = (hour < 24 && minute < 60 && second < 60)
            .then_some(i64::from(hour * 3600 + minute * 60 + second))?;
        Some(Self { text, seconds: days * SECONDS_PER_DAY + of_day })
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.text
    }

    /// `YYYYMMDD`.
    pub(super) fn date(&self) -> [u8; 8] {
        *self.text.first_chunk().expect("8 of 16 bytes")
    }

    /// How many seconds later than `now` it is.
    pub(super) fn seconds_ahead(&self, now: SystemTime) -> i64 {
        self.seconds.saturating_sub(seconds_of(now))
    }

    /// The same, if that is more than may be,
    /// either way.
    pub(super) fn skew(&self, now: SystemTime) -> Option<i64> {
        let ahead = self.seconds_ahead(now);
        (ahead.unsigned_abs() > MAX_SKEW.as_secs()).then_some(ahead)
    }
}

fn seconds_of(time: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => seconds(after),
        Err(before) => -seconds(before.duration()),
    }
}

/// Days since 1970 of a `YYYYMMDD` that is in the Gregorian calendar.
fn days_of(date: &[u8; 8]) -> Option<i64> {
    let [year, month, day] = [&date[..4], &date[4..6], &date[6..]].map(number);
    let (year, month, day) = (year?, month?, day?);
    let valid = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    valid.then(|| days_before_year(year) + days_before_month(year, month) + i64::from(day) - 1)
}

/// Negative before 1970.
fn days_before_year(year: u32) -> i64 {
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let year = i64::from(year);
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn days_before_month(year: u32, month: u32) -> i64 {
    (1..month).map(|month| i64::from(days_in(year, month))).sum()
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        Moment::parse(text.as_bytes()).map(|moment| moment.seconds)
    }

    /// Against `date -u -d … +%s`.
    #[test]
    fn moments_are_those_of_the_calendar() {
        for (text, expected) in [
            ("19700101T000000Z", 0),
            ("19691231T235959Z", -1),
            ("20150830T123600Z", 1_440_938_160),
            ("20000229T000000Z", 951_782_400),
            ("20240229T235959Z", 1_709_251_199),
            ("20240301T000000Z", 1_709_251_200),
            ("21000301T000000Z", 4_107_542_400),
            ("99991231T235959Z", 253_402_300_799),
            ("00000101T000000Z", -62_167_219_200),
            ("00010101T000000Z", -62_135_596_800),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_the_calendar_does_not_have_is_no_moment() {
        for text in [
            "20240230T000000Z",
            "20230229T000000Z",
            "21000229T000000Z",
            "20240431T000000Z",
            "20241301T000000Z",
            "20240001T000000Z",
            "20240100T000000Z",
            "20240132T000000Z",
            "20240101T240000Z",
            "20240101T006000Z",
            "20161231T235960Z", // a leap second: no second of POSIX time
            "20240101T000000z",
            "20240101t000000Z",
            "20240101T000000",
            "20240101T000000Z ",
            " 20240101T000000Z",
            "2024-01-01T00:00Z",
            "+0240101T000000Z",
            "2024010\u{660}T00000Z",
            "",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
        assert!(Moment::parse(&[0xff; 16]).is_none());
        assert!(Moment::parse(&[b'9'; 100_000]).is_none());
    }

    #[test]
    fn five_minutes_either_way_are_accepted() {
        let moment = Moment::parse(b"20150830T123600Z").unwrap();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        for within in [0, 300] {
            assert_eq!(moment.skew(at(1_440_938_160 + within)), None);
            assert_eq!(moment.skew(at(1_440_938_160 - within)), None);
        }
        assert_eq!(moment.skew(at(1_440_938_160 + 301)), Some(-301));
        assert_eq!(moment.skew(at(1_440_938_160 - 301)), Some(301));
        assert_eq!(moment.skew(at(0)), Some(1_440_938_160));
        let before_1970 = UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(moment.skew(before_1970), Some(1_440_938_170));
    }
}
