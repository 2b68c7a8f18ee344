//! Delivery of durable topics' messages to the connections that their owner has chosen.

use super::session::Phase;
use super::{Id, Shard, add_counts};
use crate::dialect::{DeliveryForm, Kind};
use crate::outbox::FrameId;
use crate::service::topic::TopicDelivery;
use crate::wheel::Now;
use std::sync::Arc;

/// Bytes that the owner of the topics delivers to a connection before it asks for a receipt. One
/// message more may follow: of [`Kind::message_bytes_max`], or a line of a feed, which fits an
/// outbox.
const DELIVERED_BYTES_MAX: usize = 256 * 1024;

impl Shard {
    /// Hands a message of a topic to the connections that its owner has chosen. None is closed as
    /// too slow: the owner waits for their receipts.
    pub fn take_delivery(&mut self, delivery: &TopicDelivery, now: Now) {
        let mut frames: Vec<(Kind, DeliveryForm, FrameId)> = Vec::new();
        let mut delivered = [0u64; Kind::ALL.len()];
        for recipient in &delivery.recipients {
            let id = recipient.connection.id;
            let Some(session) = self.sessions.get_mut(id as usize) else { continue };
            // The owner may not have heard yet that the connection has gone, or that another has
            // its number.
            let dialect = match &session.dialect {
                Some(dialect)
                    if session.serial == recipient.connection.serial
                        && session.phase == Phase::Open =>
                {
                    dialect
                }
                _ => continue,
            };
            // Paid by the flush that empties the outbox.
            session.owes_receipt |= recipient.wants_receipt;

            let (kind, form) = (dialect.kind(), dialect.delivery_form(recipient, now));
            // Recipients differ in few forms, and each form is built once.
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
        add_counts(&self.metrics.deliveries, delivered);
    }

    /// Whether a connection's backlog may be no more than deliveries of the owner of the topics,
    /// and the answers that a client may leave unread beside. The owner delivers nothing more to a
    /// client that does not read; closing it for a ping on top of one long message would only have
    /// that message delivered again.
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
