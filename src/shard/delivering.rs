//! The messages of durable topics, which their owner delivers to the connections that it has chosen.

use super::session::Phase;
use super::{Id, Shard};
use crate::dialect::{DeliveryForm, Kind};
use crate::outbox::FrameId;
use crate::service::topic::TopicDelivery;
use crate::wheel::Now;
use std::sync::Arc;

/// Bytes that the owner of the topics has delivered to a connection when it asks for a receipt, and one message more:
/// that is [`Kind::message_bytes_max`] or a line of a feed, which fits an outbox.
const DELIVERED_BYTES_MAX: usize = 256 * 1024;

impl Shard {
    /// Hands a message of a topic to the connections that its owner has chosen. They are not judged by what their
    /// outboxes hold: the owner waits for their receipts.
    pub fn take_delivery(&mut self, delivery: &TopicDelivery, now: Now) {
        let mut frames: Vec<(Kind, DeliveryForm, FrameId)> = Vec::new();
        let mut delivered = [0u64; Kind::ALL.len()];
        for recipient in &delivery.recipients {
            let id = recipient.connection.id;
            let Some(session) = self.sessions.get_mut(id as usize) else { continue };
            let dialect = match &session.dialect {
                Some(dialect)
                    if session.serial == recipient.connection.serial
                        && session.phase == Phase::Open =>
                {
                    dialect
                }
                _ => continue,
            };
            session.owes_receipt |= recipient.wants_receipt;

            let (kind, form) = (dialect.kind(), dialect.delivery_form(recipient, now));
            let frame = match frames.iter().find(|made| (made.0, made.1) == (kind, form)) {
                Some(made) => made.2,
                None => {
                    let publication =
                        kind.deliver(&delivery.message, form, &mut self.shared.draft, now);
                    let frame = self.turn.share(&Arc::new(publication), 0);
                    frames.push((kind, form, frame));
                    frame
                }
            };
            delivered[kind as usize] += 1;
            self.push(id, frame);
        }
        for (counter, count) in self.metrics.deliveries.iter().zip(delivered) {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Whether what waits for a connection may be no more than what the owner of the topics has delivered to it and the
    /// answers that it may leave unread beside. That owner delivers nothing more to who does not read; a ping on top of
    /// one long message is no reason to cut it off, which would get the same message again.
    pub(super) fn has_only_deliveries(&self, id: Id) -> bool {
        let session = &self.sessions[id as usize];
        let Some(dialect) = session.dialect.as_ref().filter(|_| session.asks_topics) else {
            return false;
        };
        let longest = dialect
            .kind()
            .message_bytes_max(&self.shared.settings)
            .max(self.limits.outbox_bytes_max);
        session.outbox.backlog_bytes()
            <= self.limits.outbox_bytes_max + longest + DELIVERED_BYTES_MAX
    }
}
