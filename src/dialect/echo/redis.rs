//! Messages of Laravel's `redis` broadcaster, converted into what the unix feed takes for
//! `echo/<app>`.
//!
//! `{"event":"App\\Events\\X","data":{…,"socket":null},"socket":"1.2"}` on `<prefix><channel>`
//! becomes `{"name":"App\\Events\\X","channels":["<channel>"],"data":"{…}","socket_id":"1.2"}`.
//! Values keep their bytes: no number is read and written anew, and no key changes its place.

use super::name::hides_private;
use super::socket::SocketId;
use crate::dialect::Unusable;
use crate::json::{self, RawValue, quoted};

/// The event of a message on a Redis channel under a prefix, as a publisher of the unix feed would
/// write it. `None` when the message is not the broadcaster's: other programs may publish under the
/// prefix.
///
/// # Errors
/// When the channel is public here, but may be a private one of an application with a longer
/// prefix, whose events are not public.
pub(super) fn event(
    prefix: &str,
    channel: &str,
    payload: &[u8],
) -> Result<Option<String>, Unusable> {
    let Some(channel) = channel.strip_prefix(prefix) else { return Ok(None) };
    // Read before the name is judged: other programs' messages are no mistakes.
    let Some(event) = written(channel, payload) else { return Ok(None) };
    if hides_private(channel) {
        return Err(Unusable(format!(
            "after the prefix {prefix:?} the channel is public here, but looks like a private \
             one under a longer prefix: let no application's prefix begin like another's, and no \
             public channel have \"private-\" or \"presence-\" in its name"
        )));
    }
    Ok(Some(event))
}

/// The broadcaster's message in a channel, as a publisher of the unix feed would write it.
fn written(channel: &str, payload: &[u8]) -> Option<String> {
    let broadcast: LaravelBroadcast<'_> = serde_json::from_slice(payload).ok()?;
    let name = broadcast.event.get();
    if !name.starts_with('"') {
        return None;
    }
    // Any other text that a page has sent as its id, such as the "undefined" of one without a
    // connection, excludes no connection.
    let socket = broadcast
        .socket
        .filter(|raw| json::text(raw).is_some_and(|text| SocketId::read(&text).is_ok()));
    let socket = socket.map_or("null", RawValue::get);

    let data = broadcast.data.get();
    // PHP writes the data of an event without any as an empty list.
    let data = if data.starts_with('[') { quoted(data) } else { quoted(&without(data, "socket")?) };
    let channel = quoted(channel);
    Some(format!(
        "{{\"name\":{name},\"channels\":[{channel}],\"data\":{data},\"socket_id\":{socket}}}"
    ))
}

/// The keys that the broadcaster writes; others are ignored.
#[derive(serde::Deserialize)]
struct LaravelBroadcast<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    socket: Option<&'a RawValue>,
}

/// The text of an object without one of its members, whose name may be written with escapes.
fn without(object: &str, unwanted: &str) -> Option<String> {
    let members = json::all(object)?;
    let wanted =
        members.iter().filter(|(name, _)| json::text(name).is_some_and(|name| name != unwanted));
    let mut text = Vec::with_capacity(object.len());
    json::put_object(wanted.map(|(name, value)| (name.get(), *value)), &mut text);
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    fn event(payload: &str) -> Option<String> {
        super::event("p-", "p-private-Chat.1", payload.as_bytes()).unwrap()
    }

    /// What the event's `data` is, when the broadcaster's is `data`.
    fn data(data: &str) -> String {
        let made = event(&format!("{{\"event\":\"e\",\"data\":{data}}}")).unwrap();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        made["data"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_broadcast_becomes_what_a_publisher_would_write() {
        assert_eq!(
            event(
                r#"{"event":"App\\Events\\ChatMessageSent","data":{"message":"hi","user":{"id":1,"name":"Ann"},"socket":null},"socket":"1.2"}"#
            )
            .unwrap(),
            r#"{"name":"App\\Events\\ChatMessageSent","channels":["private-Chat.1"],"data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}","socket_id":"1.2"}"#
        );
        let quotes =
            super::event("p-", "p-a\"b\\\u{e9}", br#"{"event":"e","data":{}}"#).unwrap().unwrap();
        assert_eq!(quotes, r#"{"name":"e","channels":["a\"b\\é"],"data":"{}","socket_id":null}"#);
    }

    #[test]
    fn whoever_is_no_connection_is_left_out_of_nothing() {
        for (socket, made) in [
            (r#","socket":"1.2""#, r#""1.2""#),
            (r#","socket":"\u0031.2""#, r#""\u0031.2""#),
            (r#","socket":"1394211398.6599677993""#, r#""1394211398.6599677993""#),
            (r#","socket":null"#, "null"),
            ("", "null"),
            (r#","socket":"undefined""#, "null"),
            (r#","socket":"null""#, "null"),
            (r#","socket":"""#, "null"),
            (r#","socket":"Kx2_socketio-AAAB""#, "null"),
            (r#","socket":false"#, "null"),
            (r#","socket":1.2"#, "null"),
            (r#","socket":{"id":"1.2"}"#, "null"),
            (r#","socket":["1.2"]"#, "null"),
        ] {
            let event = event(&format!(r#"{{"event":"e","data":{{"x":1}}{socket}}}"#)).unwrap();
            assert!(event.ends_with(&format!("\"socket_id\":{made}}}")), "{event}");
        }
    }

    #[test]
    fn only_the_outermost_socket_of_the_data_goes() {
        assert_eq!(data(r#"{"socket":null}"#), "{}");
        assert_eq!(data("[]"), "[]");
        assert_eq!(data("[1,{\"socket\":1}]"), "[1,{\"socket\":1}]");
        assert_eq!(data(r#"{"socket":"1.2","a":1}"#), r#"{"a":1}"#);
        assert_eq!(data(r#"{"a":1,"s\u006fcket":"1.2","b":2}"#), r#"{"a":1,"b":2}"#);
        assert_eq!(
            data(r#"{"a":{"socket":1},"b":[{"socket":2}]}"#),
            r#"{"a":{"socket":1},"b":[{"socket":2}]}"#
        );
    }

    #[test]
    fn values_keep_their_bytes_and_keys_their_order() {
        for text in [
            r#"{"z":1,"a":2,"m":3}"#,
            r#"{"big":123456789012345678901234567890,"float":1.10,"exp":1E+2}"#,
            r#"{"text":"\u00e9\/é\n\ud83d\ude00","k\u00e9y":"v"}"#,
            r#"{"same":1,"same":2}"#,
            r#"{"spaced": [ 1 , 2 ]}"#.replace(": [", ":[").as_str(),
        ] {
            assert_eq!(data(text), text);
        }
        assert_eq!(data("{ \"a\" : 1 , \"b\" : [ 2 ] }"), r#"{"a":1,"b":[ 2 ]}"#);
    }

    #[test]
    fn what_others_publish_under_the_prefix_is_nothing() {
        for payload in [
            "",
            "no JSON",
            "null",
            "[]",
            "{}",
            r#"{"channel":"progress:7","data":{"info":{}}}"#,
            r#"{"node":"n","channel":"chat:1","sender":{"name":"Ann","id":1},"data":{}}"#,
            r#"{"event":1,"data":{}}"#,
            r#"{"event":"e"}"#,
            r#"{"event":"e","data":"text"}"#,
            r#"{"event":"e","data":{}} x"#,
            r#"{"uuid":"u","displayName":"Job","job":"call","data":{"command":"O:8"}}"#,
        ] {
            assert_eq!(event(payload), None, "{payload}");
        }
        assert_eq!(super::event("p-", "p-x", b"{\"event\":\"\xff\",\"data\":{}}"), Ok(None));
        assert_eq!(super::event("p-", "q-x", br#"{"event":"e","data":{}}"#), Ok(None));
    }

    #[test]
    fn a_private_channel_under_a_longer_prefix_is_no_public_one_here() {
        let event = |channel: &str, payload: &[u8]| super::event("myapp_", channel, payload);
        let broadcast = br#"{"event":"e","data":{}}"#;
        for channel in [
            "myapp_staging_private-user.1",
            "myapp_staging_presence-room",
            "myapp_stagingprivate-encrypted-x",
            "myapp_staging_private-cache-x",
        ] {
            let refused = event(channel, broadcast).unwrap_err().to_string();
            assert!(
                refused.contains("looks like a private one under a longer prefix"),
                "{refused}"
            );
            assert_eq!(
                event(channel, b"{}"),
                Ok(None),
                "what is not the broadcaster's is nobody's business"
            );
        }
        for channel in [
            "myapp_private-user.1",
            "myapp_presence-room",
            "myapp_private-x.private-y",
            "myapp_news",
        ] {
            assert!(event(channel, broadcast).unwrap().is_some(), "{channel}");
        }
    }
}
