//! The fields of a JSON object as they are written, for a protocol that passes values on byte for byte.
//!
//! The tape of the feeds' parser does not tell where in the source a value lies, so the source is read with
//! serde_json here, which checks it to the end and keeps nothing but where each field is.

use crate::event::DEPTH_MAX;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Shows each field of the object that `json` is to `each`: the key and the value, both as they are written.
/// `None` when it is no object.
pub(super) fn each<'a>(json: &'a str, each: impl FnMut(&'a RawValue, &'a RawValue)) -> Option<()> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Fields(each)).ok()?;
    reader.end().ok()
}

struct Fields<F>(F);

impl<'de, F: FnMut(&'de RawValue, &'de RawValue)> Visitor<'de> for Fields<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((key, value)) = object.next_entry()? {
            (self.0)(key, value);
        }
        Ok(())
    }
}

/// The values of these keys; of a key that is written twice the last counts. `None` when `json` is no object.
pub(super) fn last<'a, const N: usize>(json: &'a str, keys: [&str; N]) -> Option<[Option<&'a RawValue>; N]> {
    let mut found = [None; N];
    each(json, |key, value| {
        if let Some(at) = keys.iter().position(|wanted| is(key, wanted)) {
            found[at] = Some(value);
        }
    })?;
    Some(found)
}

/// Whether a key as it is written is this one.
pub(super) fn is(key: &RawValue, wanted: &str) -> bool {
    text(key).is_some_and(|key| key == wanted)
}

/// The text of a string as it is written; `None` for anything else, and for half of a surrogate pair.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// Whether it is an object.
pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Whether arrays and objects are nested no deeper than is allowed. Reading does not care, whoever receives it may.
pub(super) fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_they_are_written() {
        let json = r#" {"a" : [1, 2] ,"\u0061":1e999,"big":12345678901234567890123,"\ud800":"\ud800"}"#;
        let mut seen = Vec::new();
        each(json, |key, value| seen.push((key.get(), value.get()))).unwrap();
        assert_eq!(
            seen,
            [
                (r#""a""#, "[1, 2]"),
                (r#""\u0061""#, "1e999"),
                (r#""big""#, "12345678901234567890123"),
                (r#""\ud800""#, r#""\ud800""#)
            ]
        );
        let [a, none] = last(json, ["a", "none"]).unwrap();
        assert_eq!((a.map(RawValue::get), none.is_none()), (Some("1e999"), true));
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for json in [
            "",
            "null",
            "[]",
            "1",
            "\"{}\"",
            "{",
            "{}}",
            "{} {}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1,}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(each(json, |_, _| ()).is_none(), "{json}");
        }
        assert!(each("\n{ }\t", |_, _| ()).is_some());
    }

    #[test]
    fn nesting_counts_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_shallow(&nested(DEPTH_MAX)));
        assert!(!is_shallow(&nested(DEPTH_MAX + 1)));
        assert!(is_shallow(&"[],".repeat(1000)));
        assert!(is_shallow(&format!("{:?}", nested(1000))));
        assert!(is_shallow(&format!(r#"["\\\"{}"]"#, nested(1000))));
        assert!(!is_shallow(&format!(r#"["\\",{}]"#, nested(DEPTH_MAX))));
    }
}
