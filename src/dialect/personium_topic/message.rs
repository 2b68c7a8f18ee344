//! What a client of a topic says: one JSON object with a token, and nothing else is understood.
//!
//! The message is read as it comes, without a tree of its values, and only up to the end of its first value:
//! the reference's parser does not look at what follows.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// One message.
#[derive(PartialEq, Eq)]
pub(super) enum TokenMessage {
    Token(String),
    /// No object with a token.
    Invalid,
    /// What the reference chokes on without a word: a null, or a token that is a number.
    Choking,
}

impl TokenMessage {
    pub(super) fn read(text: &str) -> Self {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Self>();
        values.next().and_then(Result::ok).unwrap_or(Self::Invalid)
    }
}

impl<'de> Deserialize<'de> for TokenMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Message)
    }
}

/// Reads a whole message; what has no method here is an error, and so invalid.
struct Message;

impl<'de> Visitor<'de> for Message {
    type Value = TokenMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<TokenMessage, E> {
        Ok(TokenMessage::Choking)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TokenMessage, A::Error> {
        let mut said = TokenMessage::Invalid;
        while let Some(key) = map.next_key::<String>()? {
            if key == "AccessToken" {
                // Of several the last counts.
                said = map.next_value::<Token>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(said)
    }
}

/// Reads the value of `AccessToken`, likewise.
struct Token(TokenMessage);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenVisitor).map(Self)
    }
}

struct TokenVisitor;

impl Visitor<'_> for TokenVisitor {
    type Value = TokenMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, token: &str) -> Result<TokenMessage, E> {
        Ok(TokenMessage::Token(token.to_owned()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<TokenMessage, E> {
        Ok(TokenMessage::Choking)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<TokenMessage, E> {
        Ok(TokenMessage::Choking)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<TokenMessage, E> {
        Ok(TokenMessage::Choking)
    }
}
