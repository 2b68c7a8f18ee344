//! Dates and times as milliseconds since 1970-01-01 UTC.

use toml::value::{Datetime, Offset};

/// The moment that a date with a time means, at `zone` when it names no offset itself. `None` for a date
/// without a time, and without an offset from UTC anywhere, which is no moment. What is less than a millisecond is cut off.
pub(super) fn unix_ms(written: &Datetime, zone: Option<Offset>) -> Option<i64> {
    let (date, time) = (written.date?, written.time?);
    let offset_s = match written.offset.or(zone)? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let days = days_from_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let seconds_of_day =
        i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    let ms = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    Some((days * 86_400 + seconds_of_day - offset_s) * 1000 + ms)
}

/// Days from 1970-01-01 in the Gregorian calendar, for years from 0 on. Years are counted from March, so that
/// the leap day is the last of its year, as in Howard Hinnant's `days_from_civil`.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}
