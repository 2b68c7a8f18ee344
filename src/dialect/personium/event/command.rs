//! A client's message on the event bus: one JSON object, read into one command.
//!
//! Of several keys in one message only the first in this order counts: token, subscribe,
//! unsubscribe, state, external event. A null value counts as absent; other keys are ignored.

use super::external::External;
use super::rule::EventRule;
use super::text::Spelling;
use crate::event::{Event, TypedScalarValue as _, Value, ValueIntoString as _};

/// One message.
pub(super) enum EventCommand<'a> {
    Token(&'a str),
    /// The token's key with a value that is not a string.
    BadToken,
    Subscribe(EventRule),
    Unsubscribe(EventRule),
    /// The requested part of the state, as the client wrote it.
    State(&'a str),
    /// `None` when a part of the event is not text, which is not answered.
    Publish(Option<External<'a>>),
    /// A JSON object that is not a command, or the named command with an invalid value.
    Malformed(Option<&'static str>),
    /// Not a JSON object.
    Unreadable,
}

/// The keys of both spellings in the order of precedence, and the command's name in replies.
const KEYS: [(&str, &str); 4] = [
    ("access_token", "AccessToken"),
    ("subscribe", "Subscribe"),
    ("unsubscribe", "Unsubscribe"),
    ("state", "State"),
];

impl<'a> EventCommand<'a> {
    /// Reads a message and the spelling of its key. Once a session has a spelling, its `own`, only
    /// the token may be written in the other.
    pub(super) fn read(event: &Event<'_, 'a>, own: Option<Spelling>) -> (Spelling, Self) {
        for (index, (classic, current)) in KEYS.into_iter().enumerate() {
            for (key, spelling) in [(classic, Spelling::Classic), (current, Spelling::Current)] {
                if index > 0 && own.is_some_and(|own| own != spelling) {
                    continue;
                }
                if let Some(value) = event.get(key).filter(|value| !value.is_null()) {
                    return (spelling, Self::of_key(index, current, value));
                }
            }
        }

        // The classic bus has no events of clients.
        let present = |key| event.get(key).is_some_and(|value| !value.is_null());
        if own == Some(Spelling::Classic) || !["Type", "Object", "Info"].into_iter().all(present) {
            return (own.unwrap_or(Spelling::Classic), Self::Malformed(None));
        }
        (Spelling::Current, Self::Publish(External::read(event)))
    }

    fn of_key(index: usize, name: &'static str, value: Value<'_, 'a>) -> Self {
        match index {
            0 => value.into_string().map_or(Self::BadToken, Self::Token),
            1 => EventRule::read(value).map_or(Self::Malformed(Some(name)), Self::Subscribe),
            2 => EventRule::read(value).map_or(Self::Malformed(Some(name)), Self::Unsubscribe),
            _ => value.into_string().map_or(Self::Malformed(Some(name)), Self::State),
        }
    }
}
