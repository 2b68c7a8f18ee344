//! Clients' requests and their answers, in both versions of the protocol.
//!
//! A request is one JSON object with a string `op`; the last of a repeated key counts, and keys
//! that an operation does not know are ignored. Answers have one space after `:` and `,`, as Python
//! writes them; version 1 has a `msg`, version 2 does not.

use crate::dialect::Actions;
use crate::event::{Event, ValueIntoString as _, last};
use serde::{Deserialize, Serialize};

/// The version of the protocol that a client asked for. Its number is that of the events' form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(super) enum WazoVersion {
    /// Events as they were fed, and silence once they flow.
    One = 0,
    /// Everything in an envelope.
    Two = 1,
}

/// One operation of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WazoRequest<'a> {
    /// Receive events of this name; `*` is every name.
    Subscribe(&'a str),
    /// Let events flow.
    Start,
    /// Continue with this token.
    Token(&'a str),
    /// Answer with this payload.
    Ping(&'a str),
}

impl<'a> WazoRequest<'a> {
    /// Reads a message; `None` is a protocol error.
    pub(super) fn read(event: &Event<'_, 'a>) -> Option<Self> {
        let text = |key| last(&event.last("data")?.as_object()?, key)?.into_string();
        match event.last("op")?.into_string()? {
            "subscribe" => text("event_name").map(Self::Subscribe),
            "start" => Some(Self::Start),
            "token" => text("token").map(Self::Token),
            "ping" => text("payload").map(Self::Ping),
            _ => None,
        }
    }
}

/// Answers an operation. `data` is JSON.
pub(super) fn answer(version: WazoVersion, op: &str, data: &str, out: &mut Actions) {
    let message = match version {
        WazoVersion::One => r#""msg": "", "#,
        WazoVersion::Two => "",
    };
    let parts = [r#"{"op": ""#, op, r#"", "code": 0, "#, message, r#""data": "#, data, "}"];
    out.send(|payload| parts.iter().for_each(|part| payload.extend_from_slice(part.as_bytes())));
}

/// Answers a `ping`, in version 2 only.
pub(super) fn pong(payload: &str, out: &mut Actions) {
    // Serializing fails only for values that JSON lacks; every text has a form.
    let payload = serde_json::to_string(payload).unwrap_or_default();
    answer(WazoVersion::Two, "pong", &format!(r#"{{"payload": {payload}}}"#), out);
}
