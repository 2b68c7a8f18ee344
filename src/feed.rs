//! The other side: where events come from. A feed is a dialect's twin: bytes in, publications and bytes out.
//!
//! An event comes as an address and JSON: the address's first word names the dialect, the rest is that
//! dialect's to read. A broker's message has its address in its headers and is for one dialect. An event for a
//! dialect that no listener of this daemon speaks is good all the same: nobody is there to receive it.

pub mod amqp;
pub mod redis;
pub mod unix;

use crate::dialect::{Kind, Settings, Unusable, publish_relayed, pulsar};
use crate::event::{EventError, Parser};
use crate::frame::{Draft, Publication};
use crate::service::topic::{MessageDraft, TopicDomain, TopicName};
use crate::text::excerpt;
use crate::wheel::Now;
use std::sync::Arc;

/// Longest address; the longest legal one is a Pulsar topic name.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Characters of a wrong address that its publisher is shown: enough to know it again.
const SHOWN_CHARS_MAX: usize = 64;

/// The words that may start an address, with the least and the most parts that follow each.
const WORDS: [(&str, usize, usize); 6] = [
    ("event", 1, 1),
    ("topic", 3, 3),
    ("wazo", 0, 2),
    ("channel", 0, 0),
    ("echo", 1, 1),
    ("pulsar", 4, 5),
];

/// Why a publisher's line is refused. The text is what the publisher reads.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Rejection {
    /// The address is no address.
    #[error("{0}")]
    Address(String),
    /// The event is no event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The dialect cannot use it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// What has become of a good event.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its publications were given away, if it came to any.
    Published,
    /// Nothing: nobody speaks its dialect.
    NoListener,
    /// It is to be stored, and is good only when it is.
    Append(TopicName, MessageDraft),
}

/// Turns addresses and JSON into publications, with buffers of its own. One per feed.
pub struct Intake {
    parser: Parser,
    draft: Draft,
    spoken: Vec<Kind>,
    settings: Arc<Settings>,
}

impl Intake {
    /// An intake for the dialects that some listener speaks, with the settings of all.
    #[must_use]
    pub fn new(spoken: Vec<Kind>, settings: Arc<Settings>) -> Self {
        Self { parser: Parser::default(), draft: Draft::default(), spoken, settings }
    }

    /// Replaces the settings of the dialects. Returns whether they are others.
    pub fn configure(&mut self, settings: &Arc<Settings>) -> bool {
        let is_other = !Arc::ptr_eq(&self.settings, settings);
        if is_other {
            self.settings = Arc::clone(settings);
        }
        is_other
    }

    /// One event, whose publications are given to `publish` in order. One that nobody speaks the dialect of is good
    /// all the same.
    ///
    /// # Errors
    /// When the address or the event is wrong; the reason is for the publisher.
    pub fn take(
        &mut self,
        address: &str,
        json: &[u8],
        now: Now,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<Taken, Rejection> {
        let (word, place) = split(address)?;
        let kind = Kind::ALL.iter().find(|kind| kind.word() == word && self.spoken.contains(kind));
        let (settings, draft) = (&self.settings, &mut self.draft);
        let taken = self.parser.parse(json, |event| match kind {
            None => Ok(Taken::NoListener),
            Some(Kind::Pulsar) if is_stored(place) => pulsar::append(place, event, settings, now)
                .map(|(topic, message)| Taken::Append(topic, message)),
            Some(kind) => {
                kind.publish(place, event, settings, now, draft, publish).map(|()| Taken::Published)
            }
        })??;
        Ok(taken)
    }

    /// One message that a client of another node has sent in a channel. `None` when it is good but nobody speaks
    /// `channel`.
    ///
    /// # Errors
    /// When it is no such message; the reason is for the log.
    pub fn take_relay(&mut self, json: &[u8], now: Now) -> Result<Option<Publication>, Rejection> {
        publish_relayed(json, &self.settings, &mut self.draft)?;
        Ok(self.spoken.contains(&Kind::Channel).then(|| self.draft.finish(now)))
    }

    /// One message of Wazo's bus. `None` when it is good but nobody speaks `wazo`.
    ///
    /// # Errors
    /// When it is no event; the reason is for the log.
    pub fn take_message(
        &mut self,
        message: &amqp::AmqpMessage<'_>,
        exchange: amqp::ExchangeType,
        now: Now,
    ) -> Result<Option<Publication>, Rejection> {
        message.check()?;
        let spoken = self.spoken.contains(&Kind::Wazo);
        let draft = &mut self.draft;
        self.parser.parse(message.body, |event| message.publish(exchange, event, draft))??;
        Ok(spoken.then(|| self.draft.finish(now)))
    }
}

/// Whether what is fed for a place of `pulsar` is stored.
fn is_stored(place: &str) -> bool {
    place.split('/').next().and_then(TopicDomain::named) == Some(TopicDomain::Persistent)
}

/// The first word of an address and the rest, after a check of its shape.
fn split(address: &str) -> Result<(&str, &str), Rejection> {
    let (word, place) = address.split_once('/').unwrap_or((address, ""));
    let Some((_, least, most)) = WORDS.into_iter().find(|known| known.0 == word) else {
        let words = WORDS.map(|known| known.0).join(", ");
        return Err(Rejection::Address(format!(
            "unknown address \"{}\": its first word is one of {words}",
            excerpt(address, SHOWN_CHARS_MAX)
        )));
    };
    let parts = if address.contains('/') { place.split('/').count() } else { 0 };
    let empty = place.split('/').any(str::is_empty) && parts > 0;
    if parts < least || parts > most || empty || address.len() > ADDRESS_BYTES_MAX {
        return Err(Rejection::Address(format!(
            "malformed address \"{}\": {}",
            excerpt(address, SHOWN_CHARS_MAX),
            shape(word)
        )));
    }
    Ok((word, place))
}

fn shape(word: &str) -> &'static str {
    match word {
        "event" => "write event/CELL",
        "topic" => "write topic/CELL/BOX/PATH",
        "wazo" => "write wazo, wazo/TENANT or wazo/TENANT/USER",
        "channel" => "write channel alone",
        "echo" => "write echo/APP-ID",
        _ => "write pulsar/persistent/TENANT/NAMESPACE/TOPIC, or non-persistent",
    }
}
