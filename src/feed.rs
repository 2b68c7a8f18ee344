//! Where events come from. A feed is a dialect's twin: bytes in, publications and bytes out.
//!
//! An event is an address and JSON. The address's first word names the dialect, which reads the
//! rest; [`Intake::take`] makes publications of both. A message of RabbitMQ has its address in its
//! headers, and one of Redis in its channel. An event for a dialect that no listener of this daemon
//! speaks is valid all the same: it has no receivers.

pub mod amqp;
pub mod redis;
pub mod unix;

pub use self::unix::FrozenPublisher;

use crate::dialect::{AmqpMessage, FeedAddress, Kind, Settings, Unusable};
use crate::event::{EventError, Parser};
use crate::frame::{Draft, Publication};
use crate::service::topic::{MessageDraft, TopicName};
use crate::text::excerpt;
use crate::wheel::Now;
use std::sync::Arc;

/// Longest address, in bytes; the longest valid one names a durable topic.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Characters of a wrong address that its publisher is shown: enough to recognize it.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a publisher's line is refused. The text is what the publisher reads.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Rejection {
    /// Not an address.
    #[error("{0}")]
    Address(String),
    /// Not an event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The dialect cannot use it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// The outcome of a valid event.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its publications have been handed on; it may come to none.
    Published,
    /// Nothing: no listener speaks its dialect.
    NoListener,
    /// It is for a durable topic, and is accepted only once it is stored.
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
    /// An intake for the dialects that a listener speaks, with the settings of all.
    #[must_use]
    pub fn new(spoken: Vec<Kind>, settings: Arc<Settings>) -> Self {
        Self { parser: Parser::default(), draft: Draft::default(), spoken, settings }
    }

    /// Replaces the settings of the dialects. Returns whether they have changed.
    pub fn configure(&mut self, settings: &Arc<Settings>) -> bool {
        let is_other = !Arc::ptr_eq(&self.settings, settings);
        if is_other {
            self.settings = Arc::clone(settings);
        }
        is_other
    }

    /// Reads one event and hands its publications to `publish` in order. An event for a dialect
    /// that no listener speaks is valid all the same.
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
            // Parsed nonetheless: a publisher hears of its mistakes wherever its clients are
            // connected.
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

    /// Reads a message that a client of another node has sent in a dialect. `None` when it is valid
    /// and no listener speaks the dialect.
    ///
    /// # Errors
    /// When it is not such a message; the reason is for the log.
    pub fn take_relay(
        &mut self,
        kind: Kind,
        json: &[u8],
        now: Now,
    ) -> Result<Option<Publication>, Rejection> {
        kind.publish_relayed(json, &self.settings, &mut self.draft)?;
        Ok(self.spoken.contains(&kind).then(|| self.draft.finish(now)))
    }

    /// Reads a message of the bus once, for all dialects that it feeds and listeners speak, and
    /// hands their publications to `publish`.
    ///
    /// # Errors
    /// When it is an event of none of them; the reason is for the log.
    pub fn take_message(
        &mut self,
        message: &AmqpMessage<'_>,
        exchange: amqp::ExchangeType,
        now: Now,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<Taken, Rejection> {
        amqp::check(message)?;
        let has_headers = exchange == amqp::ExchangeType::Headers;

        let (spoken, draft) = (&self.spoken, &mut self.draft);
        self.parser.parse(message.body, |event| {
            let (mut is_taken, mut refusal) = (false, None);
            for kind in Kind::fed_by_bus().filter(|kind| spoken.contains(kind)) {
                match kind.publish_message(message, has_headers, event, draft) {
                    Ok(()) => {
                        is_taken = true;
                        publish(draft.finish(now));
                    }
                    Err(unusable) => refusal = refusal.or(Some(unusable)),
                }
            }

            match refusal {
                // The bus is for several dialects, and each has messages of its own there.
                _ if is_taken => Ok(Taken::Published),
                Some(unusable) => Err(unusable.into()),
                None => Ok(Taken::NoListener),
            }
        })?
    }
}

/// The dialect of an address and the part after its word, once its shape is checked.
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
    // Splitting an absent part would give one empty part.
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
