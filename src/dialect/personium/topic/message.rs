//! A client's message on a topic: one JSON object with a token; nothing else is accepted.
//!
//! The message is read only up to the end of its first value: the reference's parser ignores what
//! follows.

use crate::json::{self, RawValue};

/// One message.
#[derive(PartialEq, Eq)]
pub(super) enum TokenMessage {
    Token(String),
    /// Not an object with a token.
    Invalid,
    /// Input on which the reference fails without a reply: a null, or a token that is a number.
    Choking,
}

impl TokenMessage {
    pub(super) fn read(text: &str) -> Self {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(value)) if value.get() == "null" => Self::Choking,
            Some(Ok(value)) => Self::of(value.get()).unwrap_or(Self::Invalid),
            _ => Self::Invalid,
        }
    }

    /// Reads an object.
    fn of(json: &str) -> Result<Self, String> {
        let mut said = Self::Invalid;
        json::members(json, |name: String, value: &RawValue| {
            // The last of a repeated key counts, but the first invalid one ends the reading.
            if name == "AccessToken" {
                said = Self::token(value)?;
            }
            Ok(())
        })?;
        Ok(said)
    }

    fn token(value: &RawValue) -> Result<Self, String> {
        if let Some(token) = json::text(value) {
            return Ok(Self::Token(token.into_owned()));
        }
        let is_number = value.get().parse().is_ok_and(f64::is_finite);
        if is_number { Ok(Self::Choking) } else { Err("neither a text nor a number".into()) }
    }
}
