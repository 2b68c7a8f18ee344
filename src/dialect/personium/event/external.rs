//! Events that clients publish.

use super::text::{EventField, EventFields};
use crate::event::{Event, TypedScalarValue as _, ValueIntoString as _};
use crate::frame::{Draft, Publication};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};

/// Longest `Info`, `Type` and `Object` that a client may publish, in characters; Personium's own
/// limit.
const EXTERNAL_CHARS_MAX: usize = 51_200;
/// Longest RequestKey that a client may choose, in characters; Personium's own limit.
const REQUEST_KEY_CHARS_MAX: usize = 128;

/// An event that a client publishes.
pub(super) struct External<'a> {
    kind: &'a str,
    object: &'a str,
    info: &'a str,
    request_key: Option<&'a str>,
}

/// The author of events, from the token.
#[derive(Serialize, Deserialize)]
pub(super) struct Author {
    pub(super) subject: Option<Box<str>>,
    pub(super) schema: Option<Box<str>>,
    pub(super) cell_id: Option<Box<str>>,
}

impl<'a> External<'a> {
    pub(super) fn read(event: &Event<'_, 'a>) -> Option<Self> {
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

    /// The event as if a publisher had fed it; `None` when a part is too long, which is not
    /// answered.
    pub(super) fn publication(
        &self,
        cell: &str,
        author: &Author,
        now: Now,
        draft: &mut Draft,
    ) -> Option<Publication> {
        // Bytes are the quick test: a text has no more characters than bytes.
        let texts_fit = [self.kind, self.object, self.info].into_iter().all(|text| {
            text.len() <= EXTERNAL_CHARS_MAX || text.chars().count() <= EXTERNAL_CHARS_MAX
        });
        let key_chars = self.request_key.map_or(0, |key| key.chars().count());
        if !texts_fit || key_chars > REQUEST_KEY_CHARS_MAX {
            return None;
        }

        // Personium makes a key of the time too, where the client gives none.
        let made_key = format!("PCS-{}", now.unix_ms);
        let fields = EventFields {
            kind: EventField::Text(self.kind),
            request_key: EventField::Text(self.request_key.unwrap_or(&made_key)),
            schema: EventField::Text(author.schema.as_deref().unwrap_or("")),
            external: true,
            object: EventField::Text(self.object),
            info: EventField::Text(self.info),
            timestamp_ms: None,
            subject: EventField::of(author.subject.as_deref()),
        };

        fields.address(cell, draft);
        draft.text(|out| fields.classic(author.cell_id.as_deref().unwrap_or(cell), out));
        draft.text(|out| fields.current(now, out));
        Some(draft.finish(now))
    }
}
