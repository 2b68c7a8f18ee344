//! The event bus's messages to clients, byte for byte.
//!
//! The reference prints its replies from Java hash maps with json-simple, so the order of keys is
//! odd but stable, and the escaping is json-simple's: `/` is escaped, and so are all control
//! characters and U+2000–20FF. Both are reproduced, as existing clients may depend on the exact
//! text.

use super::address::{NAMED, TOPIC, UNNAMED};
use super::rule::EventRule;
use crate::dialect::personium::reply::{put, put_error, put_session};
use crate::dialect::{Actions, Unusable};
use crate::event::{
    Event, TypedScalarValue as _, Value, ValueAsScalar as _, ValueIntoString as _, Writable as _,
};
use crate::frame::Draft;
use crate::json::{self, Escapes};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::io::Write as _;

/// The spelling of keys, and thereby the form of everything the session is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(super) enum Spelling {
    /// Lower case; Personium 1.6.2.
    Classic = 0,
    /// Capitalised; 1.6.3 and later.
    Current = 1,
}

/// Why a command failed.
#[derive(Clone, Copy)]
pub(super) enum ErrorReason {
    Unauthorized,
    Format,
    NotFound,
    State,
}

impl ErrorReason {
    fn text(self, spelling: Spelling) -> &'static str {
        match (self, spelling) {
            (Self::Unauthorized, Spelling::Classic) => "unauthorized",
            (Self::Unauthorized, Spelling::Current) => "Unauthorized",
            (Self::Format, Spelling::Classic) => "format error",
            (Self::Format, Spelling::Current) => "Format error",
            (Self::NotFound, Spelling::Classic) => "subscriptions not found",
            (Self::NotFound, Spelling::Current) => "Subscriptions not found",
            (Self::State, Spelling::Classic) => {
                "invalid state type. allowed status type: [all, subscriptions]"
            }
            (Self::State, Spelling::Current) => {
                "Invalid state type. Allowed status type: [All, Subscriptions]"
            }
        }
    }
}

/// Accepts a token.
pub(super) fn session(spelling: Spelling, expires_in_s: u64, now: Now, out: &mut Actions) {
    out.send(|out| match spelling {
        Spelling::Classic => put!(
            out,
            r#"{{"response":"success","expires_in":{expires_in_s},"timestamp":{}}}"#,
            now.unix_ms / 1000
        ),
        Spelling::Current => put_session(expires_in_s, now, out),
    });
}

/// Confirms a command.
pub(super) fn done(spelling: Spelling, command: &str, now: Now, out: &mut Actions) {
    out.send(|out| match spelling {
        Spelling::Classic => {
            put!(out, r#"{{"response":"success","timestamp":{}}}"#, now.unix_ms / 1000)
        }
        Spelling::Current => {
            put!(
                out,
                r#"{{"Response":"{command}","Timestamp":{},"Result":"Success"}}"#,
                now.unix_ms
            );
        }
    });
}

/// Refuses a command. `command` is `None` when the intended one is unknown.
pub(super) fn error(
    spelling: Spelling,
    command: Option<&str>,
    reason: ErrorReason,
    now: Now,
    out: &mut Actions,
) {
    let reason = reason.text(spelling);
    out.send(|out| match spelling {
        Spelling::Classic => {
            put!(
                out,
                r#"{{"reason":"{reason}","response":"error","timestamp":{}}}"#,
                now.unix_ms / 1000
            )
        }
        Spelling::Current => put_error(command, reason, now, out),
    });
}

/// The state of the session: its rules, and with `all` also its cell and remaining seconds.
pub(super) fn state(
    spelling: Spelling,
    wanted: &str,
    cell: &str,
    expires_in_s: u64,
    rules: &[EventRule],
    now: Now,
    out: &mut Actions,
) {
    let all = match (spelling, wanted) {
        (Spelling::Classic, "all") | (Spelling::Current, "All") => true,
        (Spelling::Classic, "subscriptions") | (Spelling::Current, "Subscriptions") => false,
        _ => return error(spelling, Some("State"), ErrorReason::State, now, out),
    };
    out.send(|out| match spelling {
        Spelling::Classic => {
            put!(out, r#"{{"subscriptions":"#);
            put_rules(rules, ["type", "object"], out);
            put!(out, r#","response":"success""#);
            if all {
                put!(out, r#","cell":"#);
                put_string(cell, out);
                put!(out, r#","expires_in":{expires_in_s}"#);
            }
            put!(out, r#","timestamp":{}}}"#, now.unix_ms / 1000);
        }
        Spelling::Current => {
            put!(out, r#"{{"Response":"State""#);
            if all {
                put!(out, r#","ExpiresIn":{expires_in_s}"#);
            }
            put!(out, r#","Subscriptions":"#);
            put_rules(rules, ["Type", "Object"], out);
            put!(out, r#","Timestamp":{}"#, now.unix_ms);
            if all {
                put!(out, r#","Cell":"#);
                put_string(cell, out);
            }
            put!(out, r#","Result":"Success"}}"#);
        }
    });
}

fn put_rules(rules: &[EventRule], [kind, object]: [&str; 2], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, rule) in rules.iter().enumerate() {
        put!(out, r#"{}{{"{kind}":"#, if index == 0 { "" } else { "," });
        put_string(&rule.kind, out);
        put!(out, r#","{object}":"#);
        put_string(&rule.object, out);
        out.push(b'}');
    }
    out.push(b']');
}

/// The fields of which an event's forms are made.
pub(super) struct EventFields<'t, 'i> {
    pub(super) kind: EventField<'t, 'i>,
    pub(super) request_key: EventField<'t, 'i>,
    pub(super) schema: EventField<'t, 'i>,
    pub(super) external: bool,
    pub(super) object: EventField<'t, 'i>,
    pub(super) info: EventField<'t, 'i>,
    /// As fed; `None` is the moment of its arrival.
    pub(super) timestamp_ms: Option<u64>,
    pub(super) subject: EventField<'t, 'i>,
}

/// A field's value: usually text or null, else any JSON.
#[derive(Clone, Copy)]
pub(super) enum EventField<'t, 'i> {
    Null,
    Text(&'i str),
    Other(Value<'t, 'i>),
}

impl<'t, 'i> EventFields<'t, 'i> {
    /// Reads a fed event in one walk over its keys.
    pub(super) fn read(event: &Event<'t, 'i>) -> Result<Self, Unusable> {
        let mut found: [Option<Value<'t, 'i>>; 8] = [None; 8];
        for (key, value) in event.fields() {
            let index = match key {
                "Type" => 0,
                "RequestKey" => 1,
                "Schema" => 2,
                "External" => 3,
                "Object" => 4,
                "Info" => 5,
                "Timestamp" => 6,
                "Subject" => 7,
                _ => continue,
            };
            // Two parsers might see either value; a subscriber must not get an event that was
            // filtered by the other.
            if found[index].replace(value).is_some() {
                return Err(Unusable(format!("the key \"{key}\" is written twice")));
            }
        }

        let field = |index: usize| found[index].map_or(EventField::Null, EventField::of_value);
        let fields = Self {
            kind: field(0),
            request_key: field(1),
            schema: field(2),
            // Anything but true counts as false.
            external: found[3].and_then(|value| value.as_bool()).unwrap_or(false),
            object: field(4),
            info: field(5),
            timestamp_ms: found[6].and_then(|value| value.as_u64()),
            subject: field(7),
        };

        // Rules match texts; an object in their place is a publisher's mistake.
        for (name, field) in [("Type", fields.kind), ("Object", fields.object)] {
            if matches!(field, EventField::Other(_)) {
                return Err(Unusable(format!("\"{name}\" must be a string or null")));
            }
        }
        Ok(fields)
    }

    /// Starts `draft` with the event's topic and facet.
    pub(super) fn address(&self, cell: &str, draft: &mut Draft) {
        match (self.kind, self.object) {
            (EventField::Text(kind), EventField::Text(object)) => {
                draft.address(
                    &[&[TOPIC], cell.as_bytes(), b"\0", &[NAMED], object.as_bytes()],
                    kind.as_bytes(),
                );
            }
            // Such events reach sessions that watch the whole cell, and no rule.
            _ => draft.address(&[&[TOPIC], cell.as_bytes(), b"\0", &[UNNAMED]], b""),
        }
    }

    /// Appends the classic form of an event that no publisher wrote.
    pub(super) fn classic(&self, cell_id: &str, out: &mut Vec<u8>) {
        self.put_common(self.schema, out);
        out.extend_from_slice(br#","cellId":"#);
        put_string(cell_id, out);
        out.extend_from_slice(br#","Subject":"#);
        self.subject.put(out);
        out.push(b'}');
    }

    /// Appends the current form.
    pub(super) fn current(&self, now: Now, out: &mut Vec<u8>) {
        // The reference has no empty schema in this form.
        let schema = if matches!(self.schema, EventField::Text("")) {
            EventField::Null
        } else {
            self.schema
        };
        self.put_common(schema, out);
        out.extend_from_slice(br#","Timestamp":"#);
        put!(out, "{}", self.timestamp_ms.unwrap_or(now.unix_ms));
        out.extend_from_slice(br#","Subject":"#);
        self.subject.put(out);
        out.push(b'}');
    }

    fn put_common(&self, schema: EventField<'_, '_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"Type":"#);
        self.kind.put(out);
        out.extend_from_slice(br#","RequestKey":"#);
        self.request_key.put(out);
        out.extend_from_slice(br#","Schema":"#);
        schema.put(out);
        out.extend_from_slice(if self.external {
            br#","External":true"#
        } else {
            br#","External":false"#
        });
        out.extend_from_slice(br#","Object":"#);
        self.object.put(out);
        out.extend_from_slice(br#","Info":"#);
        self.info.put(out);
    }
}

impl<'t, 'i> EventField<'t, 'i> {
    pub(super) fn of(text: Option<&'i str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    fn of_value(value: Value<'t, 'i>) -> Self {
        match value.into_string() {
            Some(text) => Self::Text(text),
            None if value.is_null() => Self::Null,
            None => Self::Other(value),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Text(text) => put_string(text, out),
            Self::Other(value) => out.extend_from_slice(value.encode().as_bytes()),
        }
    }
}

/// Appends a JSON string with json-simple's escapes.
fn put_string(text: &str, out: &mut Vec<u8>) {
    json::put_string(text, Escapes::JsonSimple, out);
}
