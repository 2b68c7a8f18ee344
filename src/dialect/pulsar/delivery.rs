//! Messages to clients: deliveries, acknowledgements and errors, byte for byte.

use super::jackson::put_string;
use super::path::ApiVersion;
use super::time;
use crate::dialect::DeliveryForm;
use crate::frame::{Draft, Publication};
use crate::service::topic::{MessageId, StoredMessage, TopicMessage};
use crate::text::put_base64;
use crate::wheel::Now;
use std::io::Write as _;

/// The frame of a stored message, as the only form of a publication.
pub(super) fn deliver(
    message: &StoredMessage,
    form: DeliveryForm,
    draft: &mut Draft,
    now: Now,
) -> Publication {
    let id = MessageId { position: message.position, partition: form.partition };
    let version =
        if form.variant == ApiVersion::First as u8 { ApiVersion::First } else { ApiVersion::Later };
    draft.address(&[], b"");
    draft.text(|out| put_message(&message.message(), id, form.redeliveries, version, out));
    draft.finish(now)
}

/// Appends a message as consumers and readers receive it.
pub(super) fn put_message(
    message: &TopicMessage<'_>,
    id: MessageId,
    redeliveries: u32,
    version: ApiVersion,
    out: &mut Vec<u8>,
) {
    // Mostly payload; there are some 130 bytes around it.
    out.reserve(message.payload.len() / 3 * 4 + 200);
    out.extend_from_slice(br#"{"messageId":""#);
    id.write(out);
    out.extend_from_slice(br#"","payload":""#);
    put_base64(message.payload, out);
    out.extend_from_slice(br#"","properties":{"#);
    for (at, (name, value)) in message.properties.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_string(name, out);
        out.push(b':');
        put_string(value, out);
    }
    out.extend_from_slice(br#"},"publishTime":""#);
    match version {
        ApiVersion::First => time::put_plain(message.published_ms, out),
        ApiVersion::Later => time::put_iso(message.published_ms, out),
    }
    out.push(b'"');
    // The first version has the producer's context, later ones the redeliveries, in the same place.
    match version {
        ApiVersion::First => put_field("context", message.context, out),
        ApiVersion::Later => {
            let written = write!(out, ",\"redeliveryCount\":{redeliveries}");
            written.expect("writing to a Vec cannot fail");
        }
    }
    if let Some(event_ms) = message.event_ms {
        out.extend_from_slice(br#","eventTime":""#);
        time::put_iso(event_ms, out);
        out.push(b'"');
    }
    if let Some(encryption) = message.encryption {
        out.extend_from_slice(br#","encryptionContext":"#);
        out.extend_from_slice(encryption.as_bytes());
    }
    put_field("key", message.key, out);
    out.push(b'}');
}

/// Appends the answer to a producer whose message is stored.
pub(super) fn put_ack(
    id: MessageId,
    context: Option<&str>,
    version: ApiVersion,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(br#"{"result":"ok","messageId":""#);
    id.write(out);
    out.push(b'"');
    put_field("context", context, out);
    put_end(version, out);
}

/// A producer's error, by the numbers of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The message is not JSON, or a value has the wrong type.
    Json = 3,
    /// Its payload or its event time is invalid.
    Encoding = 7,
    /// It could not be stored.
    Unknown = 8,
}

/// Appends the answer to a producer whose message is not stored.
pub(super) fn put_error(
    error: SendError,
    reason: &str,
    context: Option<&str>,
    version: ApiVersion,
    out: &mut Vec<u8>,
) {
    let written = write!(out, "{{\"result\":\"send-error:{}\",\"errorMsg\":", error as u8);
    written.expect("writing to a Vec cannot fail");
    put_string(reason, out);
    put_field("context", context, out);
    put_end(version, out);
}

/// Appends whether there will be no more messages.
pub(super) fn put_end_of_topic(has_ended: bool, out: &mut Vec<u8>) {
    let written = write!(out, "{{\"endOfTopic\":{has_ended}}}");
    written.expect("writing to a Vec cannot fail");
}

fn put_field(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        put_string(value, out);
    }
}

fn put_end(version: ApiVersion, out: &mut Vec<u8>) {
    out.extend_from_slice(match version {
        ApiVersion::First => b"}",
        ApiVersion::Later => br#","errorCode":0,"schemaVersion":0}"#,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::topic::Position;

    fn said(fill: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        fill(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn third() -> MessageId {
        MessageId { position: Position::new(0, 3).unwrap(), partition: None }
    }

    fn seed() -> TopicMessage<'static> {
        TopicMessage {
            published_ms: 1_472_575_557_785,
            context: Some("1"),
            properties: vec![("key1", "value1"), ("key2", "value2")],
            payload: b"Hello World",
            ..TopicMessage::default()
        }
    }

    #[test]
    fn the_first_version_says_what_its_paper_says() {
        assert_eq!(
            said(|out| put_message(&seed(), third(), 0, ApiVersion::First, out)),
            r#"{"messageId":"CAAQAw==","payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"publishTime":"2016-08-30 16:45:57.785","context":"1"}"#
        );
        assert_eq!(
            said(|out| put_ack(third(), Some("1"), ApiVersion::First, out)),
            r#"{"result":"ok","messageId":"CAAQAw==","context":"1"}"#
        );
        assert_eq!(
            said(|out| put_error(
                SendError::Unknown,
                "no \"room\"",
                Some("1"),
                ApiVersion::First,
                out
            )),
            r#"{"result":"send-error:8","errorMsg":"no \"room\"","context":"1"}"#
        );
    }

    #[test]
    fn later_versions_say_everything_in_the_order_of_the_reference() {
        let full = TopicMessage {
            event_ms: Some(1_472_575_557_780),
            encryption: Some(r#"{"keys":{}}"#),
            key: Some("k\"é"),
            ..seed()
        };
        assert_eq!(
            said(|out| put_message(&full, third(), 2, ApiVersion::Later, out)),
            r#"{"messageId":"CAAQAw==","payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"publishTime":"2016-08-30T16:45:57.785Z","redeliveryCount":2,"eventTime":"2016-08-30T16:45:57.78Z","encryptionContext":{"keys":{}},"key":"k\"é"}"#
        );
        let bare = TopicMessage { published_ms: 1_472_575_557_000, ..TopicMessage::default() };
        let id = MessageId { position: Position::new(7, 300).unwrap(), partition: Some(2) };
        assert_eq!(
            said(|out| put_message(&bare, id, 0, ApiVersion::Later, out)),
            r#"{"messageId":"CAcQrAIYAg==","payload":"","properties":{},"publishTime":"2016-08-30T16:45:57Z","redeliveryCount":0}"#
        );
        assert_eq!(
            said(|out| put_ack(third(), None, ApiVersion::Later, out)),
            r#"{"result":"ok","messageId":"CAAQAw==","errorCode":0,"schemaVersion":0}"#
        );
        assert_eq!(
            said(|out| put_error(SendError::Encoding, "x", Some("1"), ApiVersion::Later, out)),
            r#"{"result":"send-error:7","errorMsg":"x","context":"1","errorCode":0,"schemaVersion":0}"#
        );
    }
}
