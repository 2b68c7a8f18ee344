//! Times as clients read and write them: the first version's format, and ISO 8601 with an offset.

use crate::calendar::{self, Utc};
use std::io::Write as _;

/// Appends `2016-08-30 16:45:57.785`, in UTC.
pub(super) fn put_plain(unix_ms: u64, out: &mut Vec<u8>) {
    write!(out, "{}", Utc::of(unix_ms)).expect("writing to a Vec cannot fail");
}

/// Appends `2016-08-30T16:45:57.785Z`, without trailing zeros of the fraction, nor a fraction of
/// zeros only.
pub(super) fn put_iso(unix_ms: u64, out: &mut Vec<u8>) {
    let (fraction, seconds) = (unix_ms % 1000, Utc::of(unix_ms));
    let seconds = seconds.seconds('T');
    let written = match fraction {
        0 => write!(out, "{seconds}Z"),
        _ if fraction.is_multiple_of(100) => write!(out, "{seconds}.{}Z", fraction / 100),
        _ if fraction.is_multiple_of(10) => write!(out, "{seconds}.{:02}Z", fraction / 10),
        _ => write!(out, "{seconds}.{fraction:03}Z"),
    };
    written.expect("writing to a Vec cannot fail");
}

/// Reads ISO 8601 with `T` and an offset; seconds and their fraction are optional. Milliseconds of
/// unix time.
pub(super) fn read(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.digits(4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(2)?;
    rest.one_of(b"Tt")?;
    let hour = rest.digits(2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2)?;
    let (mut second, mut fraction_ms) = (0, 0);
    if rest.one_of(b":").is_some() {
        second = rest.digits(2)?;
        if rest.one_of(b".").is_some() {
            fraction_ms = rest.fraction_ms()?;
        }
    }
    let offset_s = rest.offset_s()?;
    if !rest.0.is_empty() {
        return None;
    }
    Some(calendar::unix_ms([year, month, day], [hour, minute, second], offset_s)? + fraction_ms)
}

/// The unread rest.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| wanted.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    /// Up to nine digits, of which three count.
    fn fraction_ms(&mut self) -> Option<i64> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count > 9 {
            return None;
        }
        let value = self.digits(count)?;
        Some(
            (0..3 - count.min(3)).fold(value, |value, _| value * 10)
                / 10_i64.pow(count.saturating_sub(3) as u32),
        )
    }

    /// `Z`, or hours with optional minutes and seconds, with or without colons.
    fn offset_s(&mut self) -> Option<i64> {
        if self.one_of(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let mut seconds = self.digits(2)? * 3600;
        for unit in [60, 1] {
            if self.0.is_empty() {
                break;
            }
            let _ = self.one_of(b":");
            seconds += self.digits(2).filter(|value| *value < 60)? * unit;
        }
        // Java's limit: no zone is further from Greenwich.
        (seconds <= 18 * 3600).then_some(sign * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(unix_ms: u64) -> String {
        let mut out = Vec::new();
        put_iso(unix_ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_in_both_forms() {
        let mut out = Vec::new();
        put_plain(1_472_575_557_785, &mut out);
        assert_eq!(out, b"2016-08-30 16:45:57.785");
        for (unix_ms, expected) in [
            (1_472_575_557_785, "2016-08-30T16:45:57.785Z"),
            (1_472_575_557_780, "2016-08-30T16:45:57.78Z"),
            (1_472_575_557_700, "2016-08-30T16:45:57.7Z"),
            (1_472_575_557_005, "2016-08-30T16:45:57.005Z"),
            (1_472_575_557_000, "2016-08-30T16:45:57Z"),
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (253_402_300_800_000, "+10000-01-01T00:00:00Z"),
        ] {
            assert_eq!(iso(unix_ms), expected);
        }
        assert_eq!(iso(u64::MAX), "+584556019-04-03T14:25:51.615Z");
    }

    #[test]
    fn times_need_a_t_and_an_offset_and_are_else_read_as_java_does() {
        let moment = 1_472_575_557_785;
        for (text, expected) in [
            ("2016-08-30T16:45:57.785Z", moment),
            ("2016-08-31t01:45:57.785999999+09:00", moment),
            ("2016-08-30T11:15:57.785-05:30", moment),
            ("2016-08-30T16:45:57z", moment - 785),
            ("2016-08-30T16:45+0000", moment - 57_785),
            ("2016-08-30T16:45:57.78+00", moment - 5),
            ("1969-12-31T23:59:59Z", -1000),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "2016-08-30 16:45:57.785Z",
            "2016-08-30T16:45:57.785",
            "2016-08-30T16:45:57.Z0",
            "2016-08-30T16:45:57.1234567890Z",
            "2016-02-30T16:45:57Z",
            "2016-13-01T16:45:57Z",
            "2016-08-30T24:00:00Z",
            "2016-08-30T16:45:57+19:00",
            "2016-08-30T16:45:57Zx",
            "2016-08-30T1é:45:57Z",
            "1472575557785",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
