//! An event, parsed once.
//!
//! A publisher's JSON is read by simd-json into a reused tape, shown to the dialect that its
//! address names, and dropped: what travels further is a [`Publication`](crate::frame::Publication)
//! of ready bytes. simd-json unescapes strings in place, so it works on a scratch copy, and the fed
//! bytes stay as they were for the dialects that pass them on verbatim. An integer beyond 64 bits
//! is read as a double; in the fed bytes it has all its digits.
//!
//! This file knows JSON. It does not know what any dialect expects in it.

mod source;

use crate::json::DEPTH_MAX;
pub use simd_json::prelude::{TypedScalarValue, ValueAsScalar, ValueIntoString, Writable};
pub use simd_json::tape::{Object, Value};
use simd_json::{Buffers, Tape};

/// Scratch kept between events; what one large event grew beyond this is given back.
const SCRATCH_BYTES_KEPT: usize = 256 * 1024;

/// Why bytes are not an event; the publisher gets this text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventError {
    /// Not JSON.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("the event is JSON but not an object: write {{…}}")]
    NotAnObject,
}

/// Reads JSON objects, keeping its buffers from one to the next. One per thread that reads a feed.
pub struct Parser {
    scratch: Vec<u8>,
    buffers: Buffers,
    nodes: Tape<'static>,
}

impl Default for Parser {
    fn default() -> Self {
        Self { scratch: Vec::new(), buffers: new_buffers(), nodes: Tape(Vec::new()) }
    }
}

impl Parser {
    /// Parses `json` and shows it to `read`. The event cannot outlive the call: its strings live in
    /// the parser's scratch.
    ///
    /// # Errors
    /// When `json` is not one JSON object nested at most [`DEPTH_MAX`] deep.
    pub fn parse<R>(
        &mut self,
        json: &[u8],
        read: impl FnOnce(&Event<'_, '_>) -> R,
    ) -> Result<R, EventError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(json);
        // simd-json loads whole vectors, also beyond the last byte.
        self.scratch.resize(json.len() + simd_json::INPUT_PADDING, 0);

        // The tape borrows the scratch for this call only; `reset` ends the borrow and keeps the
        // memory.
        let mut tape = std::mem::replace(&mut self.nodes, Tape(Vec::new())).reset();

        let parsed = simd_json::fill_tape_padded(
            &mut self.scratch,
            json.len(),
            &mut self.buffers,
            &mut tape,
        );
        let result = match parsed {
            Err(error) => Err(EventError::NotJson(in_words(&error))),
            Ok(()) => match tape.as_value().as_object() {
                None => Err(EventError::NotAnObject),
                Some(object) => Ok(read(&Event { json, object })),
            },
        };

        self.nodes = tape.reset();
        // The tape and the buffers grow with the scratch, so all go together.
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            *self = Self::default();
        }
        result
    }
}

/// One JSON object, as fed and as parsed.
pub struct Event<'t, 'i> {
    /// The bytes as they were fed.
    pub json: &'t [u8],
    object: Object<'t, 'i>,
}

impl<'t, 'i> Event<'t, 'i> {
    /// The object's keys and values in the order they were written, duplicates included.
    pub fn fields(&self) -> impl Iterator<Item = (&'i str, Value<'t, 'i>)> + '_ {
        self.object.iter()
    }

    /// The object itself.
    #[must_use]
    pub fn object(&self) -> &Object<'t, 'i> {
        &self.object
    }

    /// The value of a top-level key; the first when it is written twice.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'t, 'i>> {
        self.object.get(key)
    }

    /// The value of a top-level key; the last when it is written twice, as most readers of JSON
    /// have it.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<Value<'t, 'i>> {
        last(&self.object, key)
    }

    /// The bytes of the value of a top-level key; of the last when the key is written twice.
    #[must_use]
    pub fn written(&self, key: &str) -> Option<&'t [u8]> {
        written(&self.object, self.json, key)
    }
}

/// The keys and values of any object, each value also as its bytes in `text`, the text of that
/// object.
pub fn entries<'t, 'i, 's>(
    object: &Object<'t, 'i>,
    text: &'s [u8],
) -> impl Iterator<Item = (&'i str, Value<'t, 'i>, &'s [u8])> {
    // The tape has no positions, so the text is walked beside it. Both give duplicates, in the same
    // order.
    object.iter().zip(source::values(text)).map(|((key, value), written)| (key, value, written))
}

/// The elements of an array as they are written, byte for byte, in the text of that array.
pub fn elements(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    source::elements(text)
}

/// The bytes of the value of `key` in `text`, the text of that object; of the last when the key is
/// written twice.
#[must_use]
pub fn written<'s>(object: &Object<'_, '_>, text: &'s [u8], key: &str) -> Option<&'s [u8]> {
    let pairs = object.iter().map(|(name, _)| name).zip(source::values(text));
    pairs.filter(|(name, _)| *name == key).last().map(|(_, value)| value)
}

/// The value of a key of any object; the last when it is written twice.
#[must_use]
pub fn last<'t, 'i>(object: &Object<'t, 'i>, key: &str) -> Option<Value<'t, 'i>> {
    object.iter().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
}

fn new_buffers() -> Buffers {
    Buffers::with_max_depth(0, DEPTH_MAX)
}

/// simd-json's reason and position, for a publisher to read.
fn in_words(error: &simd_json::Error) -> String {
    use simd_json::ErrorType;
    let position = error.index();

    match error.error() {
        ErrorType::InvalidUtf8 => "it is not UTF-8".into(),
        ErrorType::Eof => "it is empty or ends too early".into(),
        ErrorType::DepthLimitExceeded => format!("nested deeper than {DEPTH_MAX}"),
        ErrorType::Syntax | ErrorType::InternalError => format!("syntax error at byte {position}"),
        // The variant's name is all that simd-json says of the others.
        other => format!("{} at byte {position}", spaced(&format!("{other:?}"))),
    }
}

/// `ExpectedColon` as "expected colon".
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars().take_while(char::is_ascii_alphanumeric) {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<String>, EventError> {
        Parser::default().parse(json.as_bytes(), |event| {
            event.fields().map(|(key, value)| format!("{key}={:?}", value.into_string())).collect()
        })
    }

    #[test]
    fn fields_come_unescaped_and_in_order_while_the_fed_bytes_stay() {
        let json = br#"{"b":"x\/\n","a":null,"b":"2"}"#;
        let (raw, fields) = Parser::default()
            .parse(json, |event| {
                let fields: Vec<_> = event
                    .fields()
                    .map(|(key, value)| (key.to_owned(), value.into_string().map(str::to_owned)))
                    .collect();
                (event.json.to_vec(), fields)
            })
            .unwrap();
        assert_eq!(raw, json);
        assert_eq!(
            fields,
            [("b".into(), Some("x/\n".into())), ("a".into(), None), ("b".into(), Some("2".into()))]
        );
    }

    #[test]
    fn what_is_no_object_is_refused_with_a_reason() {
        assert_eq!(read("[1]"), Err(EventError::NotAnObject));
        assert_eq!(read("null"), Err(EventError::NotAnObject));
        for bad in [
            "",
            " ",
            "{",
            "{}}",
            "{} {}",
            "{\"a\":}",
            "nul",
            "{\"a\":1e999}",
            "{'a':1}",
            "\u{feff}{}",
        ] {
            assert!(matches!(read(bad), Err(EventError::NotJson(_))), "{bad:?}");
        }
        assert!(Parser::default().parse(b"{\"a\":\"\xff\"}", |_| ()).is_err());
    }

    #[test]
    fn an_integer_of_any_size_is_a_number() {
        for (json, expected) in [
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "-9.223372036854776e18"),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
        ] {
            let event = format!("{{\"a\":{json}}}");
            let (raw, read, whole) = Parser::default()
                .parse(event.as_bytes(), |event| {
                    let value = event.get("a").unwrap();
                    (event.json.to_vec(), value.encode(), value.as_u64())
                })
                .unwrap();
            assert_eq!((raw, &read[..]), (event.into_bytes(), expected));
            assert_eq!(whole, expected.parse().ok());
        }
        // As long as a double can be as great.
        assert!(read(&format!("{{\"a\":1{}}}", "0".repeat(308))).is_ok());
        assert!(read(&format!("{{\"a\":1{}}}", "0".repeat(309))).is_err());
        for bad in [
            "{\"a\":123456789012345678901234567890x}",
            "{\"a\":-}",
            "{\"a\":01234567890123456789012}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_had_as_they_are_written() {
        let json = br#" { "a" : "x\\" , "b":[1,{"c":"]}\",\"d"}],"d\u0061ta":12345678901234567890123 , "e":{},"a":-1.50e+2 } "#;
        Parser::default()
            .parse(json, |event| {
                let written =
                    |key| event.written(key).map(|value| std::str::from_utf8(value).unwrap());
                assert_eq!(written("a"), Some("-1.50e+2"), "the last counts");
                assert_eq!(written("b"), Some(r#"[1,{"c":"]}\",\"d"}]"#));
                assert_eq!(
                    written("data"),
                    Some("12345678901234567890123"),
                    "a key may be escaped"
                );
                assert_eq!(written("e"), Some("{}"));
                assert_eq!(written("c"), None);
                let first: Vec<_> = source::values(event.json).take(1).collect();
                assert_eq!(first, [br#""x\\""#]);
            })
            .unwrap();
        let elements: Vec<_> = super::elements(br#" [ {"a":"]"} ,[1,2], "x,\"" ] "#).collect();
        assert_eq!(elements, [&br#"{"a":"]"}"#[..], b"[1,2]", br#""x,\"""#]);
        assert_eq!(super::elements(b"[ ]").count() + super::elements(b"[").count(), 0);
        assert_eq!(source::values(b"{}").count(), 0);
        assert_eq!(source::values(b"{\"a").count(), 0, "what is no JSON does no harm");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested =
            |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEPTH_MAX - 2)).is_ok());
        let error = read(&nested(100_000)).unwrap_err().to_string();
        assert!(error.contains("nested deeper than 128"), "{error}");
    }

    #[test]
    fn one_parser_reads_event_after_event() {
        let mut parser = Parser::default();
        for turn in 0..1000 {
            let json = format!("{{\"n\":\"{turn}\",\"pad\":\"{}\"}}", "x".repeat(turn * 7 % 900));
            let seen = parser.parse(json.as_bytes(), |event| {
                event.get("n").unwrap().into_string().map(str::to_owned)
            });
            assert_eq!(seen.unwrap(), Some(turn.to_string()));
            assert!(parser.parse(b"{broken", |_| ()).is_err());
        }
    }
}
