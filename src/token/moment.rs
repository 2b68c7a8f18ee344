//! Dates and times as milliseconds since 1970-01-01 UTC.

use toml::value::{Datetime, Offset};

use crate::calendar;

/// The moment that a date with a time means, at `zone` when it names no offset itself. `None` for a date
/// without a time, and without an offset from UTC anywhere, which is no moment. What is less than a millisecond is cut off.
pub(super) fn unix_ms(written: &Datetime, zone: Option<Offset>) -> Option<i64> {
    let (date, time) = (written.date?, written.time?);
    let offset_s = match written.offset.or(zone)? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let date = [date.year.into(), date.month.into(), date.day.into()];
    let minute_ms = calendar::unix_ms(date, [time.hour.into(), time.minute.into(), 0], offset_s)?;
    // A leap second is the first of the next minute.
    let second_ms = i64::from(time.second.unwrap_or(0)) * 1000;
    Some(minute_ms + second_ms + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}
