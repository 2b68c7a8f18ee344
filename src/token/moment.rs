//! Times of tokens as milliseconds since 1970-01-01 UTC: dates as people write them, and the
//! NumericDates of claims.

use serde_json::Value;
use toml::value::{Datetime, Offset};

use crate::calendar;

/// Latest time a claim may name, in unix seconds: the end of the year 9999. It keeps every time
/// derived from a claim far from overflow, and catches the common slip of writing `exp` in
/// milliseconds.
pub const UNIX_S_MAX: u64 = 253_402_300_799;

/// The moment of a date with a time, at `zone` when it has no offset itself. `None` for a date
/// without a time, and without any offset, which is not a moment. Fractions of a millisecond are
/// cut off.
pub(super) fn unix_ms(written: &Datetime, zone: Option<Offset>) -> Option<i64> {
    let (date, time) = (written.date?, written.time?);
    let offset_s = match written.offset.or(zone)? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let date = [date.year.into(), date.month.into(), date.day.into()];
    let minute_ms = calendar::unix_ms(date, [time.hour.into(), time.minute.into(), 0], offset_s)?;
    // Added afterwards, because a leap second (60) is the first of the next minute.
    let second_ms = i64::from(time.second.unwrap_or(0)) * 1000;
    Some(minute_ms + second_ms + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}

/// A NumericDate (RFC 7519 section 2) in milliseconds, to the nearest one: a float has no better
/// fractions. `None` for anything but a number from 0 to [`UNIX_S_MAX`].
pub(super) fn numeric_date_ms(value: &Value) -> Option<u64> {
    match value.as_u64() {
        Some(seconds) => (seconds <= UNIX_S_MAX).then(|| seconds * 1000),
        None => {
            // The range is checked on the float, NaN failing it, so that the conversion is exact.
            let seconds = value.as_f64()?;
            (0.0..UNIX_S_MAX as f64 + 1.0)
                .contains(&seconds)
                .then(|| (seconds * 1000.0).round() as u64)
        }
    }
}

/// The first whole millisecond at or after a number of seconds, saturating, or 0 before 1970.
/// `None` for anything but a number.
pub(super) fn any_numeric_date_ms(value: &Value) -> Option<u64> {
    match value.as_u64() {
        Some(seconds) => Some(seconds.saturating_mul(1000)),
        // `as` saturates: negative numbers become 0.
        None => Some((value.as_f64()? * 1000.0).ceil() as u64),
    }
}
