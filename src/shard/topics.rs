//! The durable topics: what the sessions of this shard ask of their owner, and what it says and delivers.

use super::{Event, Id, Shard};
use crate::dialect::{AnyDialect, Input, Kind, pulsar};
use crate::service::ConnectionRef;
use crate::service::topic::{TopicAnswer, TopicDelivery, TopicQuestion};
use crate::shard::session::Phase;
use crate::wheel::Now;
use std::sync::Arc;

/// Bytes that the owner of the topics has delivered to a connection when it asks for a receipt, and one message more:
/// that is [`Kind::message_bytes_max`] or a line of a feed, which fits an outbox.
const DELIVERED_BYTES_MAX: usize = 256 * 1024;

impl Shard {
    /// What the owner of the topics is to be asked since the last call.
    pub fn take_requests(&mut self) -> Vec<(ConnectionRef, TopicQuestion)> {
        std::mem::take(&mut self.requests)
    }

    /// Whether there is something to be asked.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Keeps a request of a session for the owner of the topics.
    pub(super) fn request(&mut self, id: Id, request: TopicQuestion) {
        let serial = self.sessions[id as usize].serial;
        self.requests.push((ConnectionRef { shard: self.number, id, serial }, request));
    }

    /// What the owner of the topics says to a connection of this shard, if it is still the same.
    pub fn take_told(&mut self, connection: ConnectionRef, reply: TopicAnswer, now: Now) {
        if self
            .sessions
            .get(connection.id as usize)
            .is_some_and(|session| session.serial == connection.serial)
        {
            match reply {
                TopicAnswer::Answer(status, body) => self.answer_inquiry(connection.id, status, &body, now),
                TopicAnswer::Probe => self.events.push(Event::Probe(connection.id)),
                reply => self.tell(connection.id, Input::Told(reply), now),
            }
        }
    }

    /// Whether the peer of a connection has sent its last, which is then still to be read. The answer to
    /// [`Event::Probe`]. Of a session that has ended the owner of the topics knows.
    pub fn probed(&mut self, id: Id, is_closing: bool) {
        if self.sessions.get(id as usize).is_some_and(|session| session.dialect.is_some()) {
            self.request(id, TopicQuestion::Probed { is_closing });
        }
    }

    /// Hands a message of a topic to the connections that its owner has chosen. They are not judged by what their
    /// outboxes hold: the owner waits for their receipts.
    pub fn take_delivery(&mut self, delivery: &TopicDelivery, now: Now) {
        let mut frames: Vec<(pulsar::DeliveryForm, crate::outbox::FrameId)> = Vec::new();
        let mut delivered = 0;
        for recipient in &delivery.recipients {
            let Some(session) = self.sessions.get_mut(recipient.connection.id as usize) else { continue };
            let AnyDialect::Pulsar(dialect) = (match &session.dialect {
                Some(dialect)
                    if session.serial == recipient.connection.serial && session.phase == Phase::Open =>
                {
                    dialect
                }
                _ => continue,
            }) else {
                continue;
            };
            session.owes_receipt |= recipient.wants_receipt;
            let form = dialect.form(recipient, now);
            let frame = match frames.iter().find(|made| made.0 == form) {
                Some(made) => made.1,
                None => {
                    let publication = pulsar::deliver(&delivery.message, form, &mut self.shared.draft, now);
                    let frame = self.turn.share(&Arc::new(publication), 0);
                    frames.push((form, frame));
                    frame
                }
            };
            delivered += 1;
            self.push(recipient.connection.id, frame);
        }
        if delivered > 0 {
            self.metrics.deliveries[Kind::Pulsar as usize].add(delivered);
        }
    }

    /// Whether what waits for a connection may be no more than what the owner of the topics has delivered to it and the
    /// answers that it may leave unread beside. That owner delivers nothing more to who does not read; a ping on top of
    /// one long message is no reason to cut it off, which would get the same message again.
    pub(super) fn is_delivered_to(&self, id: Id) -> bool {
        let session = &self.sessions[id as usize];
        let Some(AnyDialect::Pulsar(_)) = &session.dialect else { return false };
        let longest = Kind::Pulsar.message_bytes_max(&self.shared.settings).max(self.limits.outbox_bytes_max);
        session.outbox.backlog_bytes() <= self.limits.outbox_bytes_max + longest + DELIVERED_BYTES_MAX
    }
}
