//! JSON as Jackson reads it for Pulsar: scalars become texts where texts are expected, the last of
//! a repeated key counts, and anything after the object is ignored.

use crate::json::{self, Escapes, RawValue};
use crate::text::excerpt;
use std::borrow::Cow;

/// Why a value cannot be read.
pub(super) type JacksonError = String;

/// Calls `each` with each field of the object that a text begins with: the key, and the value as
/// written.
pub(super) fn each<'a>(
    text: &'a str,
    mut each: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), JacksonError>,
) -> Result<(), JacksonError> {
    // The error is the client's to read, and the parser's own would speak of Rust's types.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err("this is not a JSON object".into());
    }
    json::leading_members(text, |name, value| each(string(name)?, value))
}

/// The text of a value; `None` for null.
pub(super) fn text<'a>(
    key: &str,
    value: &'a RawValue,
) -> Result<Option<Cow<'a, str>>, JacksonError> {
    match value.get().as_bytes() {
        [b'"', ..] => string(value).map(Some),
        [b'n', ..] => Ok(None),
        [b'{' | b'[', ..] => Err(format!("{} is not a string", shown(key))),
        // Numbers and booleans count as their text, as Jackson coerces them.
        _ => Ok(Some(Cow::Borrowed(value.get()))),
    }
}

/// The whole number of a value; `None` for null and for an empty string.
pub(super) fn integer(key: &str, value: &RawValue) -> Result<Option<i64>, JacksonError> {
    let wrong = || format!("{} is not a whole number of 64 bits", shown(key));
    let written = value.get();
    match written.as_bytes() {
        [b'n', ..] => Ok(None),
        [b'"', ..] => match string(value)?.trim() {
            "" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| wrong()),
        },
        // Jackson cuts the fraction off: 1.9 is 1.
        [b'-' | b'0'..=b'9', ..] if written.contains(['.', 'e', 'E']) => {
            let number: f64 = written.parse().map_err(|_| wrong())?;
            // The cast saturates; the value just below the upper limit is the last that fits.
            let fits = number.trunc() >= i64::MIN as f64 && number.trunc() < i64::MAX as f64;
            fits.then_some(Some(number as i64)).ok_or_else(wrong)
        }
        _ => written.parse().map(Some).map_err(|_| wrong()),
    }
}

/// Names and values as texts; a null value is `None`.
pub(super) type Properties<'a> = Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>;

/// Characters of a wrong value that its client is shown: enough to recognize it.
const SHOWN_CHARS_MAX: usize = 64;
/// Number of properties from which names are looked up in a table rather than one by one.
const FEW_PROPERTIES: usize = 16;

/// The object of texts that a value is; empty for null.
pub(super) fn properties<'a>(
    key: &str,
    value: &'a RawValue,
) -> Result<Properties<'a>, JacksonError> {
    let mut found: Properties<'a> = Vec::new();
    let mut places: ahash::AHashMap<Cow<'a, str>, usize> = ahash::AHashMap::new();
    match value.get().as_bytes() {
        [b'n', ..] => return Ok(found),
        [b'{', ..] => {}
        _ => return Err(format!("{} is not an object", shown(key))),
    }
    each(value.get(), |name, value| {
        let value = text(&name, value)?;
        // Nearly every message has a few: no table for these.
        let place = if places.is_empty() {
            found.iter().position(|(known, _)| *known == name)
        } else {
            places.get(&name).copied()
        };
        match place {
            Some(place) => found[place].1 = value,
            // The table starts when the few are exceeded, with the names so far.
            None => {
                if found.len() == FEW_PROPERTIES {
                    places
                        .extend(found.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)));
                }
                if found.len() >= FEW_PROPERTIES {
                    places.insert(name.clone(), found.len());
                }
                found.push((name, value));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Appends a string with its quotes, escaped as by Jackson.
pub(super) fn put_string(text: &str, out: &mut Vec<u8>) {
    json::put_string(text, Escapes::Needed, out);
}

/// The first characters of a client's text, quoted.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", excerpt(text, SHOWN_CHARS_MAX))
}

/// The text of a string as written.
fn string(value: &RawValue) -> Result<Cow<'_, str>, JacksonError> {
    json::text(value).ok_or_else(|| "a string has half of a surrogate pair".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<(String, Option<String>)>, JacksonError> {
        let mut seen = Vec::new();
        each(json, |key, value| {
            seen.push((key.to_string(), text(&key, value)?.map(Cow::into_owned)));
            Ok(())
        })?;
        Ok(seen)
    }

    fn value(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_no_string_is_made_one() {
        let seen =
            read(" {\"a\":5,\"b\":1.50e2,\"c\":true,\"d\":null,\"\\u0065\":\"x\\ny\"} {garbage")
                .unwrap();
        let seen: Vec<_> =
            seen.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let expected = [
            ("a", Some("5")),
            ("b", Some("1.50e2")),
            ("c", Some("true")),
            ("d", None),
            ("e", Some("x\ny")),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_jackson_would_not_read_is_wrong() {
        for bad in [
            "",
            " ",
            "null",
            "[]",
            "1",
            "\"{}\"",
            "{",
            "{'a':1}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":[]}",
            "{\"a\":{}}",
            "{\"a\":01}",
            "{\"a\":\"\n\"}",
            "{\"a\":NaN}",
            "\u{feff}{}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("{\"a\":[[[").is_err());
        assert!(
            read(&format!("{{\"a\":{}", "[".repeat(1_000_000))).is_err(),
            "deep nesting does no harm"
        );
    }

    #[test]
    fn whole_numbers_may_be_strings_and_lose_their_fraction() {
        for (json, expected) in [
            ("5", Some(5)),
            ("-5.9", Some(-5)),
            ("1e3", Some(1000)),
            ("\" 7 \"", Some(7)),
            ("\"\"", None),
            ("null", None),
            ("9223372036854775807", Some(i64::MAX)),
        ] {
            assert_eq!(integer("k", value(json)), Ok(expected), "{json}");
        }
        for bad in ["true", "{}", "[]", "\"x\"", "1e300", "9223372036854775808", "\"1.5\""] {
            assert!(integer("k", value(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_a_property_that_is_written_twice_the_last_value_counts_at_the_first_place() {
        let read = properties("p", value(r#"{"a":1,"b":"x","a":true,"c":null}"#)).unwrap();
        let expected = [("a", Some("true")), ("b", Some("x")), ("c", None)];
        assert_eq!(read, expected.map(|(name, value)| (name.into(), value.map(Cow::from))));
        let many: Vec<String> =
            (0..200_000).map(|at| format!("\"{}\":{at}", at % 50_000)).collect();
        let many = format!("{{{}}}", many.join(","));
        let read = properties("p", value(&many)).unwrap();
        assert_eq!((read.len(), &read[7]), (50_000, &("7".into(), Some("150007".into()))));
        assert!(
            properties("p", value("[]")).is_err()
                && properties("p", value("null")).unwrap().is_empty()
        );
    }
}
