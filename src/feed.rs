//! The other side: where events come from. A feed is a dialect's twin: bytes in, publications and bytes out.
//!
//! An event comes as an address and JSON: the address's first word names the dialect, the rest is that
//! dialect's to read. A broker's message has its address in its headers and is for one dialect. An event for a
//! dialect that no listener of this daemon speaks is good all the same: nobody is there to receive it.

pub mod amqp;
pub mod redis;
pub mod unix;

use crate::dialect::{AmqpMessage, FeedAddress, Kind, Settings, Unusable};
use crate::event::{EventError, Parser};
use crate::frame::{Draft, Publication};
use crate::service::topic::{MessageDraft, TopicName};
use crate::text::excerpt;
use crate::wheel::Now;
use std::sync::Arc;

/// Longest address; the longest legal one has the name of a durable topic.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Characters of a wrong address that its publisher is shown: enough to know it again.
const SHOWN_CHARS_MAX: usize = 64;

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
        let (kind, place) = split(address)?;
        if !self.spoken.contains(&kind) {
            self.parser.parse(json, |_| ())?;
            return Ok(Taken::NoListener);
        }
        let (settings, draft) = (&self.settings, &mut self.draft);
        let taken = self.parser.parse(json, |event| match kind.append(place, event, now) {
            Some(stored) => stored.map(|(topic, message)| Taken::Append(topic, message)),
            None => {
                kind.publish(place, event, settings, now, draft, publish).map(|()| Taken::Published)
            }
        })??;
        Ok(taken)
    }

    /// One message that a client of another node has sent in a dialect. `None` when it is good but nobody speaks that.
    ///
    /// # Errors
    /// When it is no such message; the reason is for the log.
    pub fn take_relay(
        &mut self,
        kind: Kind,
        json: &[u8],
        now: Now,
    ) -> Result<Option<Publication>, Rejection> {
        kind.publish_relayed(json, &self.settings, &mut self.draft)?;
        Ok(self.spoken.contains(&kind).then(|| self.draft.finish(now)))
    }

    /// One message of the bus, for a dialect that it feeds. `None` when it is good but nobody speaks that.
    ///
    /// # Errors
    /// When it is no event; the reason is for the log.
    pub fn take_message(
        &mut self,
        kind: Kind,
        message: &AmqpMessage<'_>,
        exchange: amqp::ExchangeType,
        now: Now,
    ) -> Result<Option<Publication>, Rejection> {
        amqp::check(message)?;
        let has_headers = exchange == amqp::ExchangeType::Headers;
        let (spoken, draft) = (self.spoken.contains(&kind), &mut self.draft);
        self.parser.parse(message.body, |event| {
            kind.publish_message(message, has_headers, event, draft)
        })??;
        Ok(spoken.then(|| self.draft.finish(now)))
    }
}

/// The dialect of an address and the part after its word, after a check of its shape.
fn split(address: &str) -> Result<(Kind, &str), Rejection> {
    let place = address.split_once('/').map_or("", |(_, place)| place);
    let Some(kind) = Kind::of_address(address) else {
        let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.feed().word).collect();
        return Err(Rejection::Address(format!(
            "unknown address \"{}\": its first word is one of {}",
            excerpt(address, SHOWN_CHARS_MAX),
            words.join(", ")
        )));
    };
    let FeedAddress { parts: (least, most), shape, .. } = kind.feed();
    let parts = if address.contains('/') { place.split('/').count() } else { 0 };
    let empty = place.split('/').any(str::is_empty) && parts > 0;
    if parts < least || parts > most || empty || address.len() > ADDRESS_BYTES_MAX {
        return Err(Rejection::Address(format!(
            "malformed address \"{}\": {shape}",
            excerpt(address, SHOWN_CHARS_MAX)
        )));
    }
    Ok((kind, place))
}
