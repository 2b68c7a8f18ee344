//! What clients say, and what they are answered with.
//!
//! A message is one JSON object with a string `event`; of a key that is written twice the last
//! counts, and keys that an event does not know are ignored. The `data` of the protocol's own
//! events is an object, or a string that holds one. What a client is told is written compactly,
//! with `data` as a string that holds JSON, except in errors.

use super::announce::put_frame;
use crate::dialect::Actions;
use crate::event::{Event, Object, Parser, Value, ValueIntoString as _, Writable as _, last};
use crate::json::quoted;

/// What the names of the events begin with that clients send to each other.
const CLIENT: &str = "client-";

/// One thing that a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EchoMessage {
    /// Answer.
    Ping,
    /// An answer.
    Pong,
    /// Receive what is published to a channel.
    Subscribe(SubscribeMessage),
    /// The opposite.
    Unsubscribe(String),
    /// Know who I am.
    SignIn(SignInMessage),
    /// Tell the others of a channel.
    Client(ClientEvent),
    /// Something that is not known.
    Unknown,
}

/// A wish to subscribe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubscribeMessage {
    pub(super) channel: String,
    /// The signature; empty when there is none.
    pub(super) auth: String,
    /// Who subscribes, JSON as it was signed. One that is no text is an empty one.
    pub(super) data: Option<String>,
}

/// A wish to be known as a user. What is missing or no text is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SignInMessage {
    pub(super) auth: String,
    /// Who it is, JSON as it was signed.
    pub(super) user_data: String,
}

/// An event for the others of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientEvent {
    pub(super) channel: String,
    pub(super) name: String,
    /// As it was written.
    pub(super) data: String,
    /// Its length, that of the text if it is a string.
    pub(super) data_bytes: usize,
}

/// No message of this protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MalformedMessage;

impl EchoMessage {
    /// Reads a message.
    pub(super) fn read(json: &[u8], parser: &mut Parser) -> Result<Self, MalformedMessage> {
        match parser.parse(json, read).map_err(|_| MalformedMessage)?? {
            Read::Whole(request) => Ok(request),
            Read::Inside(verb, data) => {
                let read = parser.parse(data.as_bytes(), |event| verb.read(|key| event.last(key)));
                read.map_err(|_| MalformedMessage)?
            }
        }
    }
}

/// How far a message was read at once.
enum Read {
    Whole(EchoMessage),
    /// The data are JSON in a string.
    Inside(Verb, String),
}

/// The events of the protocol that have data.
enum Verb {
    Subscribe,
    Unsubscribe,
    SignIn,
}

fn read(event: &Event<'_, '_>) -> Result<Read, MalformedMessage> {
    let name = event.last("event").and_then(Value::into_string).ok_or(MalformedMessage)?;
    let verb = match name {
        "pusher:ping" => return Ok(Read::Whole(EchoMessage::Ping)),
        "pusher:pong" => return Ok(Read::Whole(EchoMessage::Pong)),
        "pusher:subscribe" => Verb::Subscribe,
        "pusher:unsubscribe" => Verb::Unsubscribe,
        "pusher:signin" => Verb::SignIn,
        client if client.starts_with(CLIENT) => {
            return client_event(client, event).map(Read::Whole);
        }
        _ => return Ok(Read::Whole(EchoMessage::Unknown)),
    };
    let data = event.last("data").ok_or(MalformedMessage)?;
    match data.into_string() {
        Some(inside) => Ok(Read::Inside(verb, inside.to_owned())),
        None => {
            let object: Object<'_, '_> = data.as_object().ok_or(MalformedMessage)?;
            verb.read(|key| last(&object, key)).map(Read::Whole)
        }
    }
}

impl Verb {
    fn read<'t, 'i: 't>(
        &self,
        get: impl Fn(&str) -> Option<Value<'t, 'i>>,
    ) -> Result<EchoMessage, MalformedMessage> {
        let text = |key| get(key).and_then(Value::into_string).map(str::to_owned);
        let is_there = |key| get(key).is_some_and(|value| value.encode() != "null");
        let channel = || text("channel").ok_or(MalformedMessage);
        Ok(match self {
            Self::Subscribe => {
                let auth = text("auth").or_else(|| (!is_there("auth")).then(String::new));
                let data =
                    is_there("channel_data").then(|| text("channel_data").unwrap_or_default());
                EchoMessage::Subscribe(SubscribeMessage {
                    channel: channel()?,
                    auth: auth.ok_or(MalformedMessage)?,
                    data,
                })
            }
            Self::Unsubscribe => EchoMessage::Unsubscribe(channel()?),
            Self::SignIn => EchoMessage::SignIn(SignInMessage {
                auth: text("auth").unwrap_or_default(),
                user_data: text("user_data").unwrap_or_default(),
            }),
        })
    }
}

fn client_event(name: &str, event: &Event<'_, '_>) -> Result<EchoMessage, MalformedMessage> {
    let channel = event.last("channel").and_then(Value::into_string).ok_or(MalformedMessage)?;
    let data = event.written("data").unwrap_or(b"null");
    let text = event.last("data").and_then(Value::into_string);
    Ok(EchoMessage::Client(ClientEvent {
        channel: channel.to_owned(),
        name: name.to_owned(),
        data: std::str::from_utf8(data).map_err(|_| MalformedMessage)?.to_owned(),
        data_bytes: text.map_or(data.len(), str::len),
    }))
}

/// The first thing that a client is told.
pub(super) fn established(socket: &str, activity_timeout_s: u32, out: &mut Actions) {
    let data = format!(r#"{{"socket_id":"{socket}","activity_timeout":{activity_timeout_s}}}"#);
    event("pusher:connection_established", &data, out);
}

/// An event of the protocol that is no channel's. `data` is JSON.
pub(super) fn event(name: &str, data: &str, out: &mut Actions) {
    let data = quoted(data);
    out.send(|payload| {
        payload.extend_from_slice(format!(r#"{{"event":"{name}","data":{data}}}"#).as_bytes());
    });
}

/// An event of the protocol for one subscriber of a channel. `data` is JSON.
pub(super) fn channel_event(name: &str, channel: &str, data: &str, out: &mut Actions) {
    out.send(|payload| put_frame(name, channel, data, payload));
}

/// Nothing is kept in a cache channel. The only event of the protocol without data.
pub(super) fn cache_miss(channel: &str, out: &mut Actions) {
    let text = format!(r#"{{"event":"pusher:cache_miss","channel":{}}}"#, quoted(channel));
    out.send(|payload| payload.extend_from_slice(text.as_bytes()));
}

/// What went wrong that is no channel's.
pub(super) fn error(code: u16, message: &str, out: &mut Actions) {
    out.send(|payload| put_error(None, code, message, payload));
}

/// What went wrong with something that was for a channel and is no subscription.
pub(super) fn channel_error(channel: &str, code: u16, message: &str, out: &mut Actions) {
    out.send(|payload| put_error(Some(channel), code, message, payload));
}

/// The payload of the frame that tells an error.
pub(super) fn put_error(channel: Option<&str>, code: u16, message: &str, payload: &mut Vec<u8>) {
    let channel =
        channel.map_or_else(String::new, |name| format!(r#""channel":{},"#, quoted(name)));
    let message = quoted(message);
    let text = format!(
        r#"{{"event":"pusher:error",{channel}"data":{{"code":{code},"message":{message}}}}}"#
    );
    payload.extend_from_slice(text.as_bytes());
}

/// Why a subscription was refused.
pub(super) fn subscription_error(
    channel: &str,
    kind: &str,
    error: &str,
    status: u16,
    out: &mut Actions,
) {
    let (channel, error) = (quoted(channel), quoted(error));
    out.send(|payload| {
        let head = format!(r#"{{"event":"pusher:subscription_error","channel":{channel},"#);
        let data = format!(r#""data":{{"type":"{kind}","error":{error},"status":{status}}}}}"#);
        payload.extend_from_slice(head.as_bytes());
        payload.extend_from_slice(data.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<EchoMessage, MalformedMessage> {
        EchoMessage::read(json.as_bytes(), &mut Parser::default())
    }

    fn subscribe(
        channel: &str,
        auth: &str,
        data: Option<&str>,
    ) -> Result<EchoMessage, MalformedMessage> {
        let (channel, auth) = (channel.to_owned(), auth.to_owned());
        Ok(EchoMessage::Subscribe(SubscribeMessage {
            channel,
            auth,
            data: data.map(str::to_owned),
        }))
    }

    #[test]
    fn data_are_an_object_or_a_string_that_holds_one_and_the_last_of_a_key_counts() {
        for json in [
            r#"{"event":"pusher:subscribe","data":{"channel":"c","auth":"a"}}"#,
            r#"{"event":"pusher:subscribe","data":"{\"channel\":\"c\",\"auth\":\"a\"}"}"#,
            r#"{"event":1,"event":"pusher:subscribe","data":2,"data":{"channel":3,"channel":"c","auth":"a"}}"#,
            r#" { "data" : {"auth":"a","channel":"\u0063","more":[{}]} , "x":1, "event" : "pusher:subscribe" } "#,
            r#"{"event":"pusher:subscribe","data":{"channel":"c","auth":"a","channel_data":null}}"#,
        ] {
            assert_eq!(read(json), subscribe("c", "a", None), "{json}");
        }
        let data = r#"{"event":"pusher:subscribe","data":{"channel":"c","channel_data":"{}"}}"#;
        assert_eq!(read(data), subscribe("c", "", Some("{}")));
        let no_text = r#"{"event":"pusher:subscribe","data":{"channel":"c","channel_data":{}}}"#;
        assert_eq!(read(no_text), subscribe("c", "", Some("")), "no text was ever signed");
    }

    #[test]
    fn what_is_no_message_is_told_from_what_is_not_known() {
        for json in [
            "",
            "{",
            "[]",
            "null",
            "\"pusher:ping\"",
            "{}",
            "[{\"event\":\"pusher:ping\"}]",
            r#"{"event":null}"#,
            r#"{"event":7}"#,
            r#"{"event":["pusher:ping"]}"#,
            r#"{"event":"pusher:subscribe"}"#,
            r#"{"event":"pusher:subscribe","data":null}"#,
            r#"{"event":"pusher:subscribe","data":[]}"#,
            r#"{"event":"pusher:subscribe","data":{}}"#,
            r#"{"event":"pusher:subscribe","data":""}"#,
            r#"{"event":"pusher:subscribe","data":"[]"}"#,
            r#"{"event":"pusher:subscribe","data":"\"{}\""}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":7}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":"c","auth":7}}"#,
            r#"{"event":"pusher:unsubscribe","data":{"channel":{}}}"#,
            r#"{"event":"pusher:signin"}"#,
            r#"{"event":"client-x"}"#,
            r#"{"event":"client-x","channel":1}"#,
        ] {
            assert_eq!(read(json), Err(MalformedMessage), "{json}");
        }
        for json in
            [r#"{"event":""}"#, r#"{"event":"pusher:x","data":7}"#, r#"{"event":"Client-x"}"#]
        {
            assert_eq!(read(json), Ok(EchoMessage::Unknown), "{json}");
        }
        for data in ["", r#","data":{}"#, r#","data":"{}""#, r#","data":[7]"#] {
            assert_eq!(read(&format!(r#"{{"event":"pusher:ping"{data}}}"#)), Ok(EchoMessage::Ping));
        }
    }

    #[test]
    fn the_data_of_a_client_event_are_as_they_were_written() {
        for (written, data, data_bytes) in [
            (r#","data":{"a": "\u00e9", "b":1.50}"#, r#"{"a": "\u00e9", "b":1.50}"#, 25),
            (r#","data":"\u0041\n""#, r#""\u0041\n""#, 2),
            (r#","data":7"#, "7", 1),
            ("", "null", 4),
        ] {
            let expected = ClientEvent {
                channel: "private-x".into(),
                name: "client-t".into(),
                data: data.into(),
                data_bytes,
            };
            let json = format!(r#"{{"event":"client-t","channel":"private-x"{written}}}"#);
            assert_eq!(read(&json), Ok(EchoMessage::Client(expected)));
        }
    }

    #[test]
    fn what_would_break_the_reader_of_a_client_event_is_no_message() {
        // What is passed on as it was written has to be JSON for every reader.
        for bad in
            ["{\"a\":\"\n\"}", "\"\u{1}\"", "{\"a\":\"\\x\"}", "[1,]", "01", "{\"a\" 1}", "\"\t\""]
        {
            let json =
                format!("{{\"event\":\"client-t\",\"channel\":\"private-x\",\"data\":{bad}}}");
            assert_eq!(read(&json), Err(MalformedMessage), "{bad:?}");
        }
    }
}
