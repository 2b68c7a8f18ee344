//! Events fed for a topic: each is like a producer's message.

use super::producer::{self, ProducerMessage, SenderDefaults, Unsendable};
use super::volatile;
use crate::dialect::{AskedTopic, Unusable};
use crate::event::Event;
use crate::service::topic::{MessageDraft, TopicDomain, TopicName};
use crate::wheel::Now;

/// Lays out a fed event for its topic, if that is persistent: its place is `persistent/…`. The
/// event is like a producer's message.
///
/// # Errors
/// When the name of the persistent topic is malformed, or the event is not a message.
pub(super) fn append(
    place: &str,
    event: &Event<'_, '_>,
    now: Now,
) -> Option<Result<(TopicName, MessageDraft), Unusable>> {
    let domain = place.split('/').next().and_then(TopicDomain::named);
    let is_stored = domain == Some(TopicDomain::Persistent);
    is_stored.then(|| Ok((topic_of(place)?, message(event, now)?)))
}

pub(super) fn topic_of(place: &str) -> Result<TopicName, Unusable> {
    let name = place.split_once('/').map(|(domain, rest)| format!("{domain}://{rest}"));
    TopicName::read(&name.unwrap_or_default()).map_err(|error| Unusable(error.to_string()))
}

/// The place of a topic, which has a slash where its name has more.
pub(super) fn place_of(topic: &str) -> String {
    topic.replacen("://", "/", 1)
}

/// The topic of a place that an operator asks about; see
/// [`Dialect::topic`](crate::dialect::Dialect::topic).
pub(super) fn asked(place: &str) -> Result<AskedTopic, &'static str> {
    match topic_of(place) {
        Ok(topic) if topic.domain() == TopicDomain::NonPersistent => {
            Ok(AskedTopic::new(&volatile::prefix(&topic)))
        }
        Ok(_) => Err("GET /topics/stats lists the consumers of a durable topic"),
        Err(_) => Err("write pulsar/non-persistent/TENANT/NAMESPACE/TOPIC"),
    }
}

pub(super) fn message(event: &Event<'_, '_>, now: Now) -> Result<MessageDraft, Unusable> {
    let text = std::str::from_utf8(event.json).map_err(|_| Unusable("it is not UTF-8".into()))?;
    match producer::read(text, SenderDefaults::default(), now.unix_ms) {
        Ok(ProducerMessage::Message(draft, _)) => Ok(draft),
        Ok(ProducerMessage::Token(_)) => Err(Unusable("a line of a feed has no token".into())),
        Err(Unsendable { reason, .. }) => Err(Unusable(reason)),
    }
}
