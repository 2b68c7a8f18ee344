//! What a client of the event bus says: one JSON object, read into one command.
//!
//! Of several keys in one message only the first of this order counts: token, subscribe, unsubscribe,
//! state, external event. A key whose value is null is as if it were absent; further keys are ignored.

use super::{
    Author, EXTERNAL_CHARS_MAX, NAMED, REQUEST_KEY_CHARS_MAX, RULE_BYTES_MAX, TOPIC, text,
};
use crate::event::{Event, TypedScalarValue as _, Value, ValueIntoString as _};
use crate::frame::{Draft, Publication};
use crate::wheel::Now;

/// How keys are written, and with it the shape of everything the session is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Spelling {
    /// Lower case; Personium 1.6.2.
    Classic = 0,
    /// Capitalised; 1.6.3 and later.
    Current = 1,
}

/// A subscription as the client wrote it: two prefixes, where `*` alone is the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventRule {
    pub(super) kind: Box<str>,
    pub(super) object: Box<str>,
}

impl EventRule {
    /// The prefix of the topics it selects, in parts.
    pub(super) fn prefix<'a>(&'a self, cell: &'a str) -> [&'a [u8]; 5] {
        [&[TOPIC], cell.as_bytes(), b"\0", &[NAMED], prefix(&self.object)]
    }

    /// The prefix of the facets it selects.
    pub(super) fn facet(&self) -> &[u8] {
        prefix(&self.kind)
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        self.kind.len() + self.object.len()
    }

    /// Whether two rules are one subscription, if not one text: `*` and the empty prefix.
    pub(super) fn selects_the_same(&self, other: &EventRule) -> bool {
        prefix(&self.object) == prefix(&other.object) && self.facet() == other.facet()
    }
}

fn prefix(pattern: &str) -> &[u8] {
    if pattern == "*" { b"" } else { pattern.as_bytes() }
}

/// An event that a client publishes.
pub(super) struct External<'a> {
    kind: &'a str,
    object: &'a str,
    info: &'a str,
    request_key: Option<&'a str>,
}

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
            1 => rule(value).map_or(Self::Malformed(Some(name)), Self::Subscribe),
            2 => rule(value).map_or(Self::Malformed(Some(name)), Self::Unsubscribe),
            _ => value.into_string().map_or(Self::Malformed(Some(name)), Self::State),
        }
    }
}

fn rule(value: Value<'_, '_>) -> Option<EventRule> {
    let object = value.as_object()?;
    let fits = |text: &&str| text.len() <= RULE_BYTES_MAX;
    let text = |key: &str| object.get(key)?.into_string().filter(fits).map(Box::from);
    Some(EventRule { kind: text("Type")?, object: text("Object")? })
}

impl<'a> External<'a> {
    fn read(event: &Event<'_, 'a>) -> Option<Self> {
        let text = |key: &str| event.get(key)?.into_string();
        let request_key = match event.get("RequestKey") {
            None => None,
            Some(value) if value.is_null() => None,
            Some(value) => Some(value.into_string()?),
        };
        Some(Self {
            kind: text("Type")?,
            object: text("Object")?,
            info: text("Info")?,
            request_key,
        })
    }

    /// The event as if a publisher had fed it; `None` when a part is too long, which has no answer.
    pub(super) fn publication(
        &self,
        cell: &str,
        author: &Author,
        now: Now,
        draft: &mut Draft,
    ) -> Option<Publication> {
        let fits = |text: &str| {
            text.len() <= EXTERNAL_CHARS_MAX || text.chars().count() <= EXTERNAL_CHARS_MAX
        };
        let key_fits = |key: &str| key.chars().count() <= REQUEST_KEY_CHARS_MAX;
        if ![self.kind, self.object, self.info].into_iter().all(fits)
            || !self.request_key.is_none_or(key_fits)
        {
            return None;
        }
        let made_key = format!("PCS-{}", now.unix_ms);
        let fields = text::EventFields {
            kind: text::EventField::Text(self.kind),
            request_key: text::EventField::Text(self.request_key.unwrap_or(&made_key)),
            schema: text::EventField::Text(author.schema.as_deref().unwrap_or("")),
            external: true,
            object: text::EventField::Text(self.object),
            info: text::EventField::Text(self.info),
            timestamp_ms: None,
            subject: text::EventField::of(author.subject.as_deref()),
        };
        fields.address(cell, draft);
        draft.text(|out| fields.classic(author.cell_id.as_deref().unwrap_or(cell), out));
        draft.text(|out| fields.current(now, out));
        Some(draft.finish(now))
    }
}
