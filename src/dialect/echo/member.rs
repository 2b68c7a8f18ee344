//! The identity of a client, as the app's own server has written it: `channel_data` of a presence
//! channel, and `user_data` of a sign-in.

use super::app::AppSettings;
use super::limit::is_over;
use super::name::{channel_of, user_of};
use crate::event::{Event, Parser, ValueIntoString as _};
use serde::{Deserialize, Serialize};

/// A user, and the public information about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EchoMember {
    pub(super) user: Box<str>,
    /// JSON.
    pub(super) info: Box<str>,
}

impl EchoMember {
    /// Reads `channel_data`. The user's id may be a number, which counts as its text.
    pub(super) fn of_channel_data(
        data: &str,
        app: &AppSettings,
        parser: &mut Parser,
    ) -> Option<Self> {
        parser
            .parse(data.as_bytes(), |event| Self::new(text_of(event, "user_id")?, event, app))
            .ok()?
    }

    /// Reads `user_data`. Here too the id may be a number.
    pub(super) fn of_user_data(data: &str, app: &AppSettings, parser: &mut Parser) -> Option<Self> {
        let read = parser.parse(data.as_bytes(), |event| {
            let user = text_of(event, "id")?;
            // Events for the user go to a channel of that name.
            user_of(&channel_of(user))?;
            Self::new(user, event, app)
        });
        read.ok()?
    }

    fn new(user: &str, event: &Event<'_, '_>, app: &AppSettings) -> Option<Self> {
        if user.is_empty() || is_over(user.chars().count(), app.user_id_chars_max) {
            return None;
        }
        // Kept as written: members get it byte for byte.
        let info = std::str::from_utf8(event.written("user_info").unwrap_or(b"null")).ok()?;
        Some(Self { user: user.into(), info: info.into() })
    }
}

/// The text of a field that is a string or a number.
fn text_of<'a>(event: &Event<'a, 'a>, key: &str) -> Option<&'a str> {
    match event.last(key)?.into_string() {
        Some(text) => Some(text),
        None => number(event.written(key)?),
    }
}

/// The text of a number, as written: ids of 64 bits lose nothing.
fn number(written: &[u8]) -> Option<&str> {
    let is_number = written.first().is_some_and(|first| *first == b'-' || first.is_ascii_digit());
    std::str::from_utf8(written).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str) -> Option<(String, String)> {
        let app = AppSettings::default();
        let member = EchoMember::of_channel_data(data, &app, &mut Parser::default())?;
        Some((member.user.into(), member.info.into()))
    }

    #[test]
    fn a_user_is_a_text_or_the_text_of_a_number() {
        for (data, user, info) in [
            (
                r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#,
                "10",
                r#"{"name":"Mr. Channels"}"#,
            ),
            (r#"{"user_id":"10"}"#, "10", "null"),
            (
                r#"{"user_id":12345678901234567890123,"user_info":null}"#,
                "12345678901234567890123",
                "null",
            ),
            (r#"{"user_id":-1.50,"user_info":[1, "2"]}"#, "-1.50", r#"[1, "2"]"#),
            (r#"{"user_id":1,"user_id":"\u00e9 2","user_info":1,"user_info":2}"#, "é 2", "2"),
        ] {
            assert_eq!(read(data), Some((user.into(), info.into())), "{data}");
        }
        let longest = "é".repeat(128);
        assert!(read(&format!(r#"{{"user_id":"{longest}"}}"#)).is_some());
        let too_long = format!(r#"{{"user_id":"{longest}x"}}"#);
        for bad in [
            "",
            "7",
            "null",
            "[]",
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":{}}"#,
            r#"{"user_id":["7"]}"#,
            r#"{"user_info":{"id":7}}"#,
            &too_long,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn whoever_signs_in_is_a_text_that_can_name_a_channel() {
        let app = AppSettings { user_id_chars_max: 0, ..AppSettings::default() };
        let read = |data: &str| EchoMember::of_user_data(data, &app, &mut Parser::default());
        let member = read(r#"{"id":"7","user_info":{"name":"Ann"},"watchlist":["8"]}"#).unwrap();
        assert_eq!((&*member.user, &*member.info), ("7", r#"{"name":"Ann"}"#));
        let too_long = format!(r#"{{"id":"{}"}}"#, "x".repeat(129));
        assert_eq!(read(r#"{"id":7}"#).map(|member| member.user), Some("7".into()));
        for bad in [
            r#"{"id":[7]}"#,
            r#"{"id":""}"#,
            "{}",
            r#"{"id":null}"#,
            r#"{"id":"a\u0000b"}"#,
            &too_long,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
