//! What a producer sends: one JSON object a message, read once and laid out as it will be stored.

use super::delivery::SendError;
use super::json::{self, Properties, put_string};
use super::time;
use crate::topic::{Draft, LENIENT, Message};
use base64::Engine as _;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write as _;

/// What all messages of a producer have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sender<'a> {
    /// The name that the producer has given itself.
    pub(super) name: Option<&'a str>,
    /// The keys with which its clients encrypt, as JSON.
    pub(super) encryption: Option<&'a str>,
}

/// A message that is ready to be stored, with what its producer has called it.
pub(super) type Ready = (Draft, Option<Box<str>>);

/// Why a message is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsendable {
    /// Its producer is told, and goes on.
    Told(SendError, String, Option<Box<str>>),
    /// The connection ends; the reference does not catch it.
    Uncaught(String),
}

/// Reads a message.
pub(super) fn read(text: &str, sender: Sender<'_>, now_ms: u64) -> Result<Ready, Unsendable> {
    let said = Said::read(text).map_err(|reason| Unsendable::Told(SendError::Json, reason, None))?;
    let context = said.context.as_deref().map(Box::from);
    let wrong = |reason: String, context| Err(Unsendable::Told(SendError::Encoding, reason, context));
    let Some(payload) = &said.payload else { return wrong("the message has no payload".into(), context) };
    let payload = match LENIENT.decode(payload.as_bytes()) {
        Ok(payload) => payload,
        Err(error) => return wrong(format!("Invalid Base64 message-payload error={error}"), context),
    };
    let mut properties = Vec::with_capacity(said.properties.len());
    for (name, value) in &said.properties {
        let Some(value) = value else {
            return Err(Unsendable::Uncaught(format!("Need Non-Null value for key: {}", json::shown(name))));
        };
        properties.push((&**name, &**value));
    }
    let event_ms = match said.event_time.as_deref().map(|text| (text, time::read(text))) {
        None => None,
        Some((_, Some(event_ms))) if event_ms > 0 => Some(event_ms.unsigned_abs()),
        Some((_, Some(event_ms))) => {
            return Err(Unsendable::Uncaught(format!("Invalid timestamp : '{event_ms}'")));
        }
        Some((text, None)) => {
            return wrong(
                format!("Text {} could not be parsed as an event time", json::shown(text)),
                context,
            );
        }
    };
    let encryption = sender.encryption.map(|keys| said.encryption(keys));
    let message = Message {
        published_ms: now_ms,
        event_ms,
        deliver_ms: said.deliver_ms(now_ms),
        sequence: said.sequence,
        producer: sender.name,
        key: said.key.as_deref(),
        context: said.context.as_deref(),
        encryption: encryption.as_deref(),
        properties,
        payload: &payload,
    };
    Ok((Draft::new(&message), context))
}

/// What is read of a message. Schemas and clusters mean nothing here.
#[derive(Default)]
struct Said<'a> {
    payload: Option<Cow<'a, str>>,
    properties: Properties<'a>,
    context: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    event_time: Option<Cow<'a, str>>,
    deliver_at_ms: i64,
    deliver_after_ms: i64,
    sequence: Option<i64>,
    encryption_param: Option<Cow<'a, str>>,
    compression: Option<Cow<'a, str>>,
    uncompressed_bytes: i64,
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Result<Self, json::Wrong> {
        let mut said = Self::default();
        json::each(text, |key, value| said.take(&key, value))?;
        Ok(said)
    }

    fn take(&mut self, key: &str, value: &'a RawValue) -> Result<(), json::Wrong> {
        let number = || Ok::<_, json::Wrong>(json::integer(key, value)?.unwrap_or(0));
        match key {
            "payload" => self.payload = json::text(key, value)?,
            "properties" => self.properties = json::properties(key, value)?,
            "context" => self.context = json::text(key, value)?,
            "key" => self.key = json::text(key, value)?,
            "eventTime" => self.event_time = json::text(key, value)?,
            "deliverAt" => self.deliver_at_ms = number()?,
            "deliverAfterMs" => self.deliver_after_ms = number()?,
            "sequenceId" => self.sequence = json::integer(key, value)?,
            "encryptionParam" => self.encryption_param = json::text(key, value)?,
            "compressionType" => self.compression = json::text(key, value)?,
            "uncompressedMessageSize" => self.uncompressed_bytes = number()?,
            _ => {}
        }
        Ok(())
    }

    /// When the message is to be delivered, if that is not at once.
    fn deliver_ms(&self, now_ms: u64) -> Option<u64> {
        let deliver_ms = match (self.deliver_at_ms, self.deliver_after_ms) {
            (_, after_ms) if after_ms > 0 => now_ms.saturating_add(after_ms.unsigned_abs()),
            (at_ms, _) if at_ms > 0 => at_ms.unsigned_abs(),
            _ => return None,
        };
        (deliver_ms > now_ms).then_some(deliver_ms)
    }

    /// How the message is encrypted, as consumers are told.
    fn encryption(&self, keys: &str) -> String {
        let mut out = format!("{{\"keys\":{keys}").into_bytes();
        for (name, value) in [("param", &self.encryption_param), ("compressionType", &self.compression)] {
            if let Some(value) = value {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                put_string(value, &mut out);
            }
        }
        let written = write!(out, ",\"uncompressedMessageSize\":{}}}", self.uncompressed_bytes);
        written.expect("writing to a Vec cannot fail");
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_472_575_557_785;

    fn ready(text: &str) -> (Draft, Option<Box<str>>) {
        read(text, Sender::default(), NOW_MS).unwrap()
    }

    fn told(text: &str) -> (u8, String, Option<Box<str>>) {
        match read(text, Sender::default(), NOW_MS) {
            Err(Unsendable::Told(error, reason, context)) => (error as u8, reason, context),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_papers_message_is_read_as_it_is_and_as_python_writes_it() {
        for context in ["\"5\"", "5"] {
            let text = format!(
                r#"{{"payload": "SGVsbG8gV29ybGQ=", "properties": {{"key1": "value1", "key2": 2}}, "context": {context}}}"#
            );
            let (draft, context) = ready(&text);
            let message = draft.message().unwrap();
            assert_eq!((message.payload, message.published_ms), (&b"Hello World"[..], NOW_MS));
            assert_eq!(message.properties, [("key1", "value1"), ("key2", "2")]);
            assert_eq!((context.as_deref(), message.context), (Some("5"), Some("5")));
            assert_eq!((message.key, message.sequence, message.deliver_ms), (None, None, None));
        }
    }

    #[test]
    fn everything_that_means_something_is_kept_and_the_rest_ignored() {
        let (draft, _) = read(
            r#"{"payload":"","key":"k","eventTime":"2016-08-30T16:45:57.785+09:00","sequenceId":"7","deliverAt":1472575557786,
                "replicationClusters":["a"],"schemaVersion":{},"keySchema":[],"disableReplication":"x","payload":"QQ"}"#,
            Sender { name: Some("p"), encryption: None },
            NOW_MS,
        )
        .unwrap();
        let message = draft.message().unwrap();
        assert_eq!((message.payload, message.key, message.producer), (&b"A"[..], Some("k"), Some("p")));
        assert_eq!((message.event_ms, message.sequence), (Some(NOW_MS - 9 * 3_600_000), Some(7)));
        assert_eq!(message.deliver_ms, Some(NOW_MS + 1));
        assert_eq!(
            ready(r#"{"payload":"","deliverAt":1472575557785}"#).0.message().unwrap().deliver_ms,
            None
        );
        assert_eq!(
            ready(r#"{"payload":"","deliverAt":-1,"deliverAfterMs":0}"#).0.message().unwrap().deliver_ms,
            None
        );
        let after = ready(r#"{"payload":"","deliverAt":1,"deliverAfterMs":9223372036854775807}"#);
        assert!(after.0.message().unwrap().deliver_ms.unwrap() > i64::MAX as u64);
    }

    #[test]
    fn what_is_wrong_is_told_by_number_with_the_context_where_there_is_one() {
        for text in [
            "",
            "[]",
            "{",
            "{'payload':''}",
            "{\"payload\":\"\",}",
            "{\"context\":{}}",
            "{\"properties\":[]}",
        ] {
            let (number, reason, context) = told(text);
            assert_eq!((number, context), (3, None), "{text}");
            assert!(!reason.is_empty());
        }
        let (number, reason, context) = told(r#"{"payload":"a\u0000b","context":"1"}"#);
        assert_eq!((number, context.as_deref()), (7, Some("1")));
        assert!(reason.starts_with("Invalid Base64 message-payload error="), "{reason}");
        for payload in ["null", "\"S G\"", "\"SGVsbG8-\"", "\"SGVs\\nbG8=\"", "\"S\"", "\"====\""] {
            assert_eq!(told(&format!("{{\"payload\":{payload}}}")).0, 7, "{payload}");
        }
        for time in ["2016-08-30 16:45:57.785", "x", ""] {
            assert_eq!(told(&format!(r#"{{"payload":"","eventTime":"{time}"}}"#)).0, 7, "{time}");
        }
        assert_eq!(told("{}").0, 7);
    }

    #[test]
    fn what_the_reference_does_not_catch_ends_the_connection() {
        for (text, reason) in [
            (r#"{"payload":"","properties":{"a":null}}"#, "Need Non-Null value for key: \"a\""),
            (r#"{"payload":"","eventTime":"1970-01-01T00:00:00Z"}"#, "Invalid timestamp : '0'"),
        ] {
            assert_eq!(read(text, Sender::default(), NOW_MS), Err(Unsendable::Uncaught(reason.into())));
        }
    }

    #[test]
    fn what_clients_have_encrypted_is_passed_on_with_their_keys() {
        let sender = Sender { name: None, encryption: Some(r#"{"k":{}}"#) };
        let (draft, _) = read(
            r#"{"payload":"","encryptionParam":"IV==","compressionType":"NONE","uncompressedMessageSize":5}"#,
            sender,
            NOW_MS,
        )
        .unwrap();
        assert_eq!(
            draft.message().unwrap().encryption,
            Some(r#"{"keys":{"k":{}},"param":"IV==","compressionType":"NONE","uncompressedMessageSize":5}"#)
        );
    }
}
