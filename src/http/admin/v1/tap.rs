//! Events as they pass: a stream of server-sent events (the HTML standard, section 9.2), each with
//! one JSON object.

use crate::dialect::Kind;
use crate::frame::{self, Publication};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The head of the response, whose body has no end of its own.
pub const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
/// What is sent while nothing passes, and means nothing.
pub const STREAM_BEAT: &[u8] = b":\n\n";
/// Longest event that is shown in full, in bytes.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// An event that has passed, or events that were missed.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct V1Passed<'a> {
    /// When it was accepted, in milliseconds of unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The length of the event in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// The event in the first of its dialect's forms: JSON, or a text where it is none or longer
    /// than 65,536 bytes, of which it has the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<V1PassedEvent<'a>>,
    /// The number of events that have passed since the last one and were not told, because this is
    /// read too slowly. There is nothing else then.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// An event as it is shown.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum V1PassedEvent<'a> {
    #[schemars(with = "serde_json::Value")]
    Json(Box<RawValue>),
    Text(Cow<'a, str>),
}

/// Appends an event that has passed.
pub fn put_passed(publication: &Publication, out: &mut Vec<u8>) {
    // Another node's may have none.
    let has_form = publication.forms() > 0;
    let payload = if has_form { frame::payload(publication.frame(0)) } else { b"" };
    let kind = Kind::of_topic(publication.topic());
    let body = V1Passed {
        at_ms: Some(publication.accepted.unix_ms),
        address: kind.map(|kind| kind.address_of(publication)),
        bytes: Some(payload.len()),
        event: Some(shown(payload)),
        missed: None,
    };
    put(&body, out);
}

/// Appends that events were missed.
pub fn put_missed(count: u64, out: &mut Vec<u8>) {
    put(&V1Passed { missed: Some(count), ..V1Passed::default() }, out);
}

fn put(body: &V1Passed<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    // Values of ours always have a form in JSON.
    out.extend_from_slice(serde_json::to_string(body).unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn shown(payload: &[u8]) -> V1PassedEvent<'_> {
    let start = &payload[..payload.len().min(SHOWN_BYTES_MAX)];
    let text = String::from_utf8_lossy(start);
    if start.len() < payload.len() {
        return V1PassedEvent::Text(text);
    }
    // In JSON, line ends stand between tokens only, where a space means the same; in the stream
    // they would end the line.
    let line = text.replace(['\n', '\r'], " ");
    match RawValue::from_string(line) {
        Ok(json) => V1PassedEvent::Json(json),
        Err(_) => V1PassedEvent::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use crate::wheel::Now;

    fn told(payload: &[u8]) -> String {
        let mut draft = Draft::default();
        draft.address(&[b"e", b"7\0room\0"], b"");
        draft.text(|out| out.extend_from_slice(payload));
        let now = Now { monotonic_ns: 1, unix_ms: 1_518_612_600_000 };
        let mut out = Vec::new();
        put_passed(&draft.finish(now), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_it_is() {
        let head = r#"data: {"at_ms":1518612600000,"address":"echo/7/room","bytes":"#;
        assert_eq!(
            told(b"{\n\"a\":\r\n \"b\\n\"}"),
            format!("{head}15,\"event\":{{ \"a\":   \"b\\n\"}}}}\n\n")
        );
        assert_eq!(told(b"no\njson"), format!("{head}7,\"event\":\"no\\njson\"}}\n\n"));
        let long = told(&[b'1'; SHOWN_BYTES_MAX + 1]);
        assert!(long.starts_with(&format!("{head}65537,\"event\":\"1111")), "{}", &long[..99]);
        assert_eq!(long.matches('\n').count(), 2);
        let mut out = Vec::new();
        put_missed(7, &mut out);
        assert_eq!(out, b"data: {\"missed\":7}\n\n");
    }
}
