//! The Gregorian calendar in UTC: milliseconds of unix time as the parts of a date and time, and
//! back.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use std::fmt;

/// The start of unix time.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// The length of 400 years, after which the calendar repeats. jiff ends at the year 9999; cycles
/// are counted apart, so later moments have a text too.
const CYCLE_MS: u64 = 146_097 * 24 * 60 * 60 * 1000;

/// A moment in parts; displayed as `2016-08-30 16:45:57.785`.
#[derive(Clone, Copy, Debug)]
pub struct Utc {
    /// The year, which may have more than four digits.
    pub year: u64,
    /// The month, day and time. Its year is not the moment's.
    pub rest: DateTime,
}

impl Utc {
    /// The parts of a moment.
    #[must_use]
    pub fn of(unix_ms: u64) -> Self {
        // At most 400 years are left, which jiff has from 1970 on.
        let (cycles, left_ms) = (unix_ms / CYCLE_MS, unix_ms % CYCLE_MS);
        let rest = EPOCH.saturating_add(SignedDuration::from_millis(left_ms.cast_signed()));
        Self { year: rest.year().unsigned_abs() as u64 + cycles * 400, rest }
    }

    /// The date and the time to the second, with `joint` between them. As with Java, a year of more
    /// than four digits has a sign.
    #[must_use]
    pub fn seconds(&self, joint: char) -> impl fmt::Display {
        let Self { year, rest } = *self;
        fmt::from_fn(move |f| {
            let sign = if year > 9999 { "+" } else { "" };
            write!(f, "{sign}{year:04}-{:02}-{:02}{joint}", rest.month(), rest.day())?;
            write!(f, "{:02}:{:02}:{:02}", rest.hour(), rest.minute(), rest.second())
        })
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.seconds(' '), self.rest.millisecond())
    }
}

/// The moment (unix time, ms) of a date and time at an offset from UTC; negative before 1970.
/// `None` when there is no such date or time.
#[must_use]
pub fn unix_ms(
    [year, month, day]: [i64; 3],
    [hour, minute, second]: [i64; 3],
    offset_s: i64,
) -> Option<i64> {
    let year = i16::try_from(year).ok()?;
    // A part that is out of range becomes -1, which is no month, day or hour either.
    let [month, day, hour, minute, second] =
        [month, day, hour, minute, second].map(|part| i8::try_from(part).unwrap_or(-1));
    let there = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let since = there.duration_since(EPOCH).as_secs() - offset_s;
    Some(since * 1000)
}

/// The moment (unix time, ms) that an HTTP header names (RFC 9110 section 5.6.7); `None` for the
/// obsolete forms.
///
/// ```
/// # use fanfare::calendar::http_date_ms;
/// assert_eq!(http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
/// ```
#[must_use]
pub fn http_date_ms(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [_, day, month, year, time, "GMT"] = text.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let date = [year.parse().ok()?, month as i64 + 1, day.parse().ok()?];
    let mut parts = time.split(':').map(|part| part.parse().ok());
    unix_ms(date, [parts.next()??, parts.next()??, parts.next()??], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..146_097_u64 {
            let unix_ms = day * 86_400_000 + 12_345_678;
            let Utc { year, rest } = Utc::of(unix_ms);
            let date = [year.cast_signed(), rest.month().into(), rest.day().into()];
            let time = [rest.hour(), rest.minute(), rest.second()].map(i64::from);
            assert_eq!(super::unix_ms(date, time, 0), Some((unix_ms - 678).cast_signed()));
        }
    }

    #[test]
    fn a_moment_of_any_year_has_a_text() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (1_472_575_557_785, "2016-08-30 16:45:57.785"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (253_402_300_799_999, "9999-12-31 23:59:59.999"),
            (253_402_300_800_000, "+10000-01-01 00:00:00.000"),
            (u64::MAX, "+584556019-04-03 14:25:51.615"),
        ] {
            assert_eq!(Utc::of(unix_ms).to_string(), text);
        }
    }

    #[test]
    fn there_are_no_other_dates_than_those_of_the_calendar() {
        assert_eq!(super::unix_ms([1969, 12, 31], [23, 59, 59], 0), Some(-1000));
        assert_eq!(super::unix_ms([2016, 8, 31], [1, 45, 57], 9 * 3600), Some(1_472_575_557_000));
        for (date, time) in [
            ([2015, 2, 29], [0; 3]),
            ([2016, 13, 1], [0; 3]),
            ([2016, 0, 1], [0; 3]),
            ([40_000, 1, 1], [0; 3]),
            ([2016, 1, 1], [24, 0, 0]),
            ([2016, 1, 1], [0, 60, 0]),
            ([2016, 1, 1], [0, 0, 300]),
        ] {
            assert_eq!(super::unix_ms(date, time, 0), None, "{date:?} {time:?}");
        }
    }
}
