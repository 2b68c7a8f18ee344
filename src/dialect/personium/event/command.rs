//! What a client of the event bus says: one JSON object, read into one command.
//!
//! Of several keys in one message only the first of this order counts: token, subscribe, unsubscribe,
//! state, external event. A key whose value is null is as if it were absent; further keys are ignored.

use super::external::External;
use super::rule::EventRule;
use super::text::Spelling;
use crate::event::{Event, TypedScalarValue as _, Value, ValueIntoString as _};

/// One message.
pub(super) enum EventCommand<'a> {
    Token(&'a str),
    /// The token's key with a value that is no string.
    BadToken,
    Subscribe(EventRule),
    Unsubscribe(EventRule),
    /// What of the state is wanted, as the client wrote it.
    State(&'a str),
    /// `None` when a part of the event is no text, which has no answer.
    Publish(Option<External<'a>>),
    /// A JSON object that is no command, or the named command with a wrong value.
    Malformed(Option<&'static str>),
    /// No JSON object at all.
    Unreadable,
}

/// The keys of both spellings in the order of precedence, and what replies call the command.
const KEYS: [(&str, &str); 4] = [
    ("access_token", "AccessToken"),
    ("subscribe", "Subscribe"),
    ("unsubscribe", "Unsubscribe"),
    ("state", "State"),
];

impl<'a> EventCommand<'a> {
    /// Reads a message and tells how its key is written. Once a session has a spelling, its `own`, only the
    /// token may be written in the other.
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
