//! JSON objects member by member, for callers that pass values on verbatim or ask for more than the
//! values: whether a name is repeated, how a number is spelled, where the object ends.
//!
//! serde_json checks the text; only what the caller keeps is kept. Feed events, which are far more
//! numerous, are read by [`event`](crate::event) instead, whose tape does not record where in the
//! text a value is.

use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, Visitor};
pub use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Deepest nesting of arrays and objects that is read. serde_json stops at 128 too; no protocol
/// here nests deeper than 4.
pub const DEPTH_MAX: usize = 128;

/// Calls `each` with every member of the one object that `json` is, in order and with repeated
/// names. Read as [`RawValue`], names and values are as they are written.
///
/// # Errors
/// When `json` is not exactly one object, when a name or value has another type, or what `each`
/// returns.
///
/// ```
/// use fanfare::json::{RawValue, members};
///
/// let mut seen = Vec::new();
/// members(r#"{"a" : 1.0,"a":[ 2 ]}"#, |name: String, value: &RawValue| {
///     seen.push((name, value.get().to_owned()));
///     Ok(())
/// })?;
/// assert_eq!(seen, [("a".into(), "1.0".into()), ("a".into(), "[ 2 ]".into())]);
/// assert!(members("{} {}", |_: String, _: &RawValue| Ok(())).is_err());
/// # Ok::<(), String>(())
/// ```
pub fn members<'a, K: Deserialize<'a>, V: Deserialize<'a>>(
    json: &'a str,
    each: impl FnMut(K, V) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = reader.deserialize_map(Members(each, PhantomData)).and_then(|()| reader.end());
    read.map_err(|error| error.to_string())
}

/// Like [`members`], of the object that `json` begins with; anything after it is ignored.
///
/// # Errors
/// As [`members`].
pub fn leading_members<'a, K: Deserialize<'a>, V: Deserialize<'a>>(
    json: &'a str,
    each: impl FnMut(K, V) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Members(each, PhantomData)).map_err(|error| error.to_string())
}

/// Reads an object for a function that is shown its members.
struct Members<F, K, V>(F, PhantomData<fn(K, V)>);

impl<'a, K, V, F> Visitor<'a> for Members<F, K, V>
where
    K: Deserialize<'a>,
    V: Deserialize<'a>,
    F: FnMut(K, V) -> Result<(), String>,
{
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut object: A) -> Result<(), A::Error> {
        while let Some((name, value)) = object.next_entry()? {
            (self.0)(name, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The values of these names; the last one of a repeated name. `None` when `json` is not an object.
#[must_use]
pub fn last<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut found = [None; N];
    members(json, |name, value| {
        // Names are compared decoded: "\u0061" is the name "a" to every other reader too.
        if let Some(at) = names.iter().position(|wanted| is(name, wanted)) {
            found[at] = Some(value);
        }
        Ok(())
    })
    .ok()?;

    Some(found)
}

/// All names and values as they are written. `None` when `json` is not an object.
#[must_use]
pub fn all(json: &str) -> Option<Vec<(&RawValue, &RawValue)>> {
    let mut all = Vec::new();
    members(json, |name, value| {
        all.push((name, value));
        Ok(())
    })
    .ok()?;

    Some(all)
}

/// The text of a string as it is written; `None` for anything else, and for half of a surrogate
/// pair.
#[must_use]
pub fn text(written: &RawValue) -> Option<Cow<'_, str>> {
    let inside = written.get().strip_prefix('"')?.strip_suffix('"')?;
    // Without an escape the text is what is written, so the usual string is not copied.
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str(written.get()).ok().map(Cow::Owned)
}

/// Whether a string decodes to this text.
#[must_use]
pub fn is(written: &RawValue, wanted: &str) -> bool {
    text(written).is_some_and(|text| text == wanted)
}

/// Whether the value is an object. A [`RawValue`] has no white space before it.
#[must_use]
pub fn is_object(written: &RawValue) -> bool {
    written.get().starts_with('{')
}

/// Whether arrays and objects are nested no deeper than [`DEPTH_MAX`]. Reading as [`RawValue`] does
/// not check this, while a receiver's parser may give up on it.
#[must_use]
pub fn is_shallow(json: impl AsRef<[u8]>) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    // Bytes are enough: those of characters beyond ASCII are never equal to these.
    for byte in json.as_ref() {
        match byte {
            // Before the arms below: an escaped quote neither opens nor closes a string.
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            // The text may be unbalanced here; serde_json checks that.
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Appends an object with these members as they are written.
pub fn put_object<'a, K: AsRef<str>>(
    members: impl IntoIterator<Item = (K, &'a RawValue)>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_ref().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
}

/// The text as a JSON string with minimal escapes.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Serializing fails only for values that JSON lacks; every text has a form.
    serde_json::to_string(text).unwrap_or_default()
}

/// The characters that are escaped in a string, where a protocol's reference decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// Those that must be, as Jackson has it.
    Needed,
    /// Those of json-simple: slashes, other control characters and punctuation too.
    JsonSimple,
}

impl Escapes {
    /// Whether a byte may begin a character to be escaped; beyond ASCII, json-simple's begin with
    /// C2 (U+0080–009F) and E2 (U+2000–20FF). Continuation bytes are never asked about.
    #[inline]
    fn may_begin(self, byte: u8) -> bool {
        byte < 0x20
            || matches!(byte, b'"' | b'\\')
            || self == Self::JsonSimple && matches!(byte, b'/' | 0x7F | 0xC2 | 0xE2)
    }

    fn has(self, character: char) -> bool {
        match self {
            Self::Needed => true,
            Self::JsonSimple => {
                character.is_ascii()
                    || matches!(character, '\u{80}'..='\u{9F}' | '\u{2000}'..='\u{20FF}')
            }
        }
    }
}

/// Appends a string with its quotes. Hexadecimal digits of escapes are upper-case.
#[inline]
pub fn put_string(text: &str, escapes: Escapes, out: &mut Vec<u8>) {
    out.push(b'"');

    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        // Nearly every byte: unescaped runs are copied at once, further down.
        if !escapes.may_begin(byte) {
            at += 1;
            continue;
        }
        // Only ASCII and leading bytes may begin an escape, so `at` is the start of a character.
        let character = text[at..].chars().next().expect("a leading byte starts a character");
        let next = at + character.len_utf8();
        // E2 begins other characters than json-simple's too.
        if escapes.has(character) {
            out.extend_from_slice(&bytes[copied..at]);
            put_escape(character, out);
            copied = next;
        }
        at = next;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

fn put_escape(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' | '\\' | '/' => character as u8,
        '\x08' => b'b',
        '\x0C' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        // Up to U+20FF, so one UTF-16 unit is enough: no surrogate pairs.
        _ => return out.extend_from_slice(format!("\\u{:04X}", u32::from(character)).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_as_they_are_written() {
        let json =
            r#" {"a" : [1, 2] ,"\u0061":1e999,"big":12345678901234567890123,"\ud800":"\ud800"}"#;
        let seen: Vec<_> =
            all(json).unwrap().iter().map(|(name, value)| (name.get(), value.get())).collect();
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
    fn what_is_no_object_has_no_members() {
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
            assert!(last(json, []).is_none(), "{json}");
        }
        assert!(last("\n{ }\t", []).is_some());
        assert!(leading_members("{} {garbage", |_: &RawValue, _: &RawValue| Ok(())).is_ok());
    }

    #[test]
    fn the_first_member_that_is_refused_ends_the_reading() {
        let mut seen = 0;
        let read = leading_members(r#"{"a":1,"b":2"#, |_: &RawValue, _: &RawValue| {
            seen += 1;
            Err("enough".into())
        });
        assert_eq!((read, seen), (Err("enough at line 1 column 6".into()), 1));
    }

    #[test]
    fn nesting_counts_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_shallow(nested(DEPTH_MAX)));
        assert!(!is_shallow(nested(DEPTH_MAX + 1)));
        assert!(is_shallow("[],".repeat(1000)));
        assert!(is_shallow(format!("{:?}", nested(1000))));
        assert!(is_shallow(format!(r#"["\\\"{}"]"#, nested(1000))));
        assert!(!is_shallow(format!(r#"["\\",{}]"#, nested(DEPTH_MAX))));
    }

    fn string(text: &str, escapes: Escapes) -> String {
        let mut out = Vec::new();
        put_string(text, escapes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn jackson_escapes_only_what_must_be() {
        assert_eq!(
            string("é\"\\/\n\r\t\u{8}\u{c}\u{1f}\u{7f}\u{2028}", Escapes::Needed),
            "\"é\\\"\\\\/\\n\\r\\t\\b\\f\\u001F\u{7f}\u{2028}\""
        );
    }

    #[test]
    fn json_simple_escapes_slashes_controls_and_punctuation() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a/b\"c\\d", r#""a\/b\"c\\d""#),
            ("\x08\x0C\n\r\t\0\x1F\x7F", r#""\b\f\n\r\t\u0000\u001F\u007F""#),
            ("\u{80}\u{9F}\u{A0}é", "\"\\u0080\\u009F\u{A0}é\""),
            (
                "\u{1FFF}\u{2000}\u{2028}\u{20FF}\u{2100}",
                "\"\u{1FFF}\\u2000\\u2028\\u20FF\u{2100}\"",
            ),
            ("日本語😀/", r#""日本語😀\/""#),
        ] {
            assert_eq!(string(text, Escapes::JsonSimple), expected);
        }
    }
}
