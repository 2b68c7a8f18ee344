//! A producer's messages: one JSON object each, read once and laid out as it will be stored.

use super::credentials;
use super::delivery::SendError;
use super::jackson::{self, JacksonError, Properties, put_string};
use super::time;
use crate::json::RawValue;
use crate::service::topic::{MessageDraft, TopicMessage};
use crate::text::LENIENT_BASE64;
use base64::Engine as _;
use std::borrow::Cow;
use std::io::Write as _;

/// The properties that all messages of a producer share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SenderDefaults<'a> {
    /// The name that the producer has chosen.
    pub(super) name: Option<&'a str>,
    /// The keys with which its clients encrypt, as JSON.
    pub(super) encryption: Option<&'a str>,
}

/// A message of a producer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProducerMessage {
    /// A message that is ready to be stored, with its producer's name for it.
    Message(MessageDraft, Option<Box<str>>),
    /// The next token; see `credentials`. `None` when the message has none.
    Token(Option<Box<str>>),
}

/// Why a message is not sent: its producer is told, with the message's context, and goes on. No
/// message ends the connection, which would lose the answers to earlier ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsendable {
    /// Its number.
    pub(super) error: SendError,
    /// The reason, for people.
    pub(super) reason: String,
    /// The producer's name for the message.
    pub(super) context: Option<Box<str>>,
}

/// Reads a message.
pub(super) fn read(
    text: &str,
    sender: SenderDefaults<'_>,
    now_ms: u64,
) -> Result<ProducerMessage, Unsendable> {
    let json_error = |reason| Unsendable { error: SendError::Json, reason, context: None };
    let said = ProducerFields::read(text).map_err(json_error)?;
    if said.is_renewal() {
        let token = said.auth_response.map(credentials::renewal).transpose().map_err(json_error)?;
        return Ok(ProducerMessage::Token(token.flatten()));
    }
    // The error of a message that can be read carries its context, so the producer knows which one
    // it is.
    let context: Option<Box<str>> = said.context.as_deref().map(Box::from);
    match lay_out(&said, sender, now_ms) {
        Ok(draft) => Ok(ProducerMessage::Message(draft, context)),
        Err(reason) => Err(Unsendable { error: SendError::Encoding, reason, context }),
    }
}

/// Lays out a message whose fields could be read, or says what is wrong with their contents.
fn lay_out(
    said: &ProducerFields<'_>,
    sender: SenderDefaults<'_>,
    now_ms: u64,
) -> Result<MessageDraft, String> {
    let payload = said.payload.as_deref().ok_or("the message has no payload")?;

    let mut properties = Vec::with_capacity(said.properties.len());
    for (name, value) in &said.properties {
        // The reference's words, although it closes the connection with them (apache/pulsar issue
        // 2751).
        let value = value
            .as_ref()
            .ok_or_else(|| format!("Need Non-Null value for key: {}", jackson::shown(name)))?;
        properties.push((&**name, &**value));
    }
    let event_ms = said.event_time.as_deref().map(event_ms).transpose()?;

    let encryption = sender.encryption.map(|keys| said.encryption(keys));
    let message = TopicMessage {
        published_ms: now_ms,
        event_ms,
        deliver_ms: said.deliver_ms(now_ms),
        sequence: said.sequence,
        producer: sender.name,
        key: said.key.as_deref(),
        context: said.context.as_deref(),
        encryption: encryption.as_deref(),
        properties,
        payload: &[],
    };
    // Decoded into the draft itself: the payload is not copied twice.
    MessageDraft::with(&message, base64::decoded_len_estimate(payload.len()), |out| {
        LENIENT_BASE64.decode_vec(payload, out)
    })
    .map_err(|error| format!("Invalid Base64 message-payload error={error}"))
}

/// The time of an event, which must be later than 1970.
fn event_ms(text: &str) -> Result<u64, String> {
    match time::read(text) {
        Some(event_ms) if event_ms > 0 => Ok(event_ms.unsigned_abs()),
        Some(event_ms) => Err(format!("Invalid timestamp : '{event_ms}'")),
        None => Err(format!("Text {} could not be parsed as an event time", jackson::shown(text))),
    }
}

/// The fields of a message that are read. Schemas and clusters are ignored.
#[derive(Default)]
struct ProducerFields<'a> {
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
    kind: Option<&'a RawValue>,
    auth_response: Option<&'a RawValue>,
}

impl<'a> ProducerFields<'a> {
    fn read(text: &'a str) -> Result<Self, JacksonError> {
        let mut said = Self::default();
        jackson::each(text, |key, value| said.take(&key, value))?;
        Ok(said)
    }

    fn take(&mut self, key: &str, value: &'a RawValue) -> Result<(), JacksonError> {
        let number = || Ok::<_, JacksonError>(jackson::integer(key, value)?.unwrap_or(0));
        match key {
            "payload" => self.payload = jackson::text(key, value)?,
            "properties" => self.properties = jackson::properties(key, value)?,
            "context" => self.context = jackson::text(key, value)?,
            "key" => self.key = jackson::text(key, value)?,
            "eventTime" => self.event_time = jackson::text(key, value)?,
            "deliverAt" => self.deliver_at_ms = number()?,
            "deliverAfterMs" => self.deliver_after_ms = number()?,
            "sequenceId" => self.sequence = jackson::integer(key, value)?,
            "encryptionParam" => self.encryption_param = jackson::text(key, value)?,
            "compressionType" => self.compression = jackson::text(key, value)?,
            "uncompressedMessageSize" => self.uncompressed_bytes = number()?,
            "type" => self.kind = Some(value),
            "authResponse" => self.auth_response = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// Whether this is a token rather than a message.
    fn is_renewal(&self) -> bool {
        let kind = self.kind.and_then(|kind| jackson::text("type", kind).ok().flatten());
        kind.is_some_and(|kind| kind == credentials::RESPONSE)
    }

    /// The time of delivery, if that is not at once.
    fn deliver_ms(&self, now_ms: u64) -> Option<u64> {
        // The delay wins over the time.
        let deliver_ms = match (self.deliver_at_ms, self.deliver_after_ms) {
            (_, after_ms) if after_ms > 0 => now_ms.saturating_add(after_ms.unsigned_abs()),
            (at_ms, _) if at_ms > 0 => at_ms.unsigned_abs(),
            _ => return None,
        };
        // A time that has passed means at once.
        (deliver_ms > now_ms).then_some(deliver_ms)
    }

    /// The encryption context that consumers receive.
    fn encryption(&self, keys: &str) -> String {
        let mut out = format!("{{\"keys\":{keys}").into_bytes();
        for (name, value) in
            [("param", &self.encryption_param), ("compressionType", &self.compression)]
        {
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

    fn ready(text: &str) -> (MessageDraft, Option<Box<str>>) {
        ready_of(text, SenderDefaults::default())
    }

    fn ready_of(text: &str, sender: SenderDefaults<'_>) -> (MessageDraft, Option<Box<str>>) {
        match read(text, sender, NOW_MS) {
            Ok(ProducerMessage::Message(draft, context)) => (draft, context),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn told(text: &str) -> (u8, String, Option<Box<str>>) {
        match read(text, SenderDefaults::default(), NOW_MS) {
            Err(Unsendable { error, reason, context }) => (error as u8, reason, context),
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
        let (draft, _) = ready_of(
            r#"{"payload":"","key":"k","eventTime":"2016-08-30T16:45:57.785+09:00","sequenceId":"7","deliverAt":1472575557786,
                "replicationClusters":["a"],"schemaVersion":{},"keySchema":[],"disableReplication":"x","payload":"QQ"}"#,
            SenderDefaults { name: Some("p"), encryption: None },
        );
        let message = draft.message().unwrap();
        assert_eq!(
            (message.payload, message.key, message.producer),
            (&b"A"[..], Some("k"), Some("p"))
        );
        assert_eq!((message.event_ms, message.sequence), (Some(NOW_MS - 9 * 3_600_000), Some(7)));
        assert_eq!(message.deliver_ms, Some(NOW_MS + 1));
        assert_eq!(
            ready(r#"{"payload":"","deliverAt":1472575557785}"#).0.message().unwrap().deliver_ms,
            None
        );
        assert_eq!(
            ready(r#"{"payload":"","deliverAt":-1,"deliverAfterMs":0}"#)
                .0
                .message()
                .unwrap()
                .deliver_ms,
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
    fn what_the_reference_does_not_catch_is_told_as_everything_else() {
        for (field, reason) in [
            (r#""properties":{"a":null}"#, "Need Non-Null value for key: \"a\""),
            (r#""eventTime":"1970-01-01T00:00:00Z""#, "Invalid timestamp : '0'"),
            (r#""eventTime":"1969-12-31T23:59:59.999Z""#, "Invalid timestamp : '-1'"),
        ] {
            let text = format!(r#"{{"payload":"",{field},"context":"1"}}"#);
            assert_eq!(told(&text), (7, reason.to_owned(), Some("1".into())));
        }
        assert_eq!(
            ready(r#"{"payload":"","properties":null}"#).0.message().unwrap().properties,
            []
        );
    }

    #[test]
    fn a_token_is_told_from_a_message_by_its_type_alone() {
        let token = |text: &str| match read(text, SenderDefaults::default(), NOW_MS) {
            Ok(ProducerMessage::Token(token)) => token,
            other => panic!("{text}: {other:?}"),
        };
        let text =
            r#"{"type": "AUTH_RESPONSE", "authResponse": {"response": {"authData": "a.b.c"}}}"#;
        assert_eq!(token(text).as_deref(), Some("a.b.c"));
        assert_eq!(token(r#"{"type":"AUTH_RESPONSE"}"#), None);
        assert_eq!(told(r#"{"type":"AUTH_RESPONSE","authResponse":5,"context":"1"}"#).0, 3);
        for ignored in [r#""type":{}"#, r#""type":"x""#, r#""authResponse":5"#] {
            ready(&format!("{{{ignored},\"payload\":\"\"}}"));
        }
    }

    #[test]
    fn what_clients_have_encrypted_is_passed_on_with_their_keys() {
        let sender = SenderDefaults { name: None, encryption: Some(r#"{"k":{}}"#) };
        let (draft, _) = ready_of(
            r#"{"payload":"","encryptionParam":"IV==","compressionType":"NONE","uncompressedMessageSize":5}"#,
            sender,
        );
        assert_eq!(
            draft.message().unwrap().encryption,
            Some(
                r#"{"keys":{"k":{}},"param":"IV==","compressionType":"NONE","uncompressedMessageSize":5}"#
            )
        );
    }
}
