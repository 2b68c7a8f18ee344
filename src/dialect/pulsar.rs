//! The WebSocket API of Pulsar: producers, consumers and readers of topics.

use super::{Actions, Admission, Context, Dialect, Input, Unusable, Upgrade};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::token::{Judge, TokenSettings};
use crate::topic::{self, Message, Stored, Taker, TopicName};
use crate::wheel::Now;

/// The table `[pulsar]` of the configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who judges tokens.
    pub token: Option<TokenSettings>,
    /// Whether there are none.
    pub anonymous: bool,
    /// The judge that `token` describes.
    #[serde(skip)]
    pub judge: Option<Judge>,
}

/// One connection.
pub struct Pulsar;

/// Which bytes a message has for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How often it came before.
    pub redeliveries: u32,
    /// The partition in its id.
    pub partition: Option<u32>,
    /// Whether it is told as the first version of the API does.
    pub is_first: bool,
}

/// The frame of a stored message, as the one form of a publication.
pub fn deliver(_message: &Stored, _form: Form, draft: &mut Draft, now: Now) -> Publication {
    draft.finish(now)
}

/// The message that an event fed for `place` comes to, and its topic.
///
/// # Errors
/// When the place is malformed or the event is no message.
pub fn append(
    place: &str,
    event: &Event<'_, '_>,
    _settings: &super::Settings,
    now: Now,
) -> Result<(TopicName, topic::Draft), Unusable> {
    let (domain, rest) = place.split_once('/').unwrap_or_default();
    let topic =
        TopicName::read(&format!("{domain}://{rest}")).map_err(|error| Unusable(error.to_string()))?;
    let payload = event.written("payload").unwrap_or_default();
    let message = Message { published_ms: now.unix_ms, payload, ..Message::default() };
    Ok((topic, topic::Draft::new(&message)))
}

impl Pulsar {
    /// Which bytes a message has for this connection.
    #[must_use]
    pub fn form(&self, taker: &Taker) -> Form {
        Form { redeliveries: taker.redeliveries, partition: taker.partition, is_first: false }
    }
}

impl Dialect for Pulsar {
    const PING: &'static [u8] = b"PING";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "");

    fn message_bytes_max(_settings: &super::Settings) -> usize {
        1024 * 1024
    }

    fn open(_upgrade: &Upgrade<'_>, _context: &mut Context<'_>, _out: &mut Actions) -> Option<Self> {
        None
    }

    fn handle(&mut self, _input: Input<'_>, _context: &mut Context<'_>, _out: &mut Actions) {}

    fn admits(&self, _publication: &Publication, _now: Now) -> Admission {
        Admission::No
    }

    fn publish(
        _place: &str,
        _event: &Event<'_, '_>,
        _settings: &super::Settings,
        _now: Now,
        _draft: &mut Draft,
        _publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        Ok(())
    }
}
