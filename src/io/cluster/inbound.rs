//! What comes from other nodes and waits until the shards have room.
//!
//! NATS keeps nothing for a subscriber that is slow, so reading goes on; packets beyond the bounds
//! are lost and counted. Control messages keep their place among the packets, since they cause
//! publications too.

use crate::cluster::LivePacket;
use async_nats::message::Message;
use std::collections::VecDeque;

/// Waiting events before newer packets are dropped: about as many as wait for a shard.
const EVENTS_MAX: u64 = 50_000;
/// Bytes of waiting messages, likewise.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes beyond that for control messages, which packets must not crowd out.
const CONTROL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory of a message besides its payload.
const MESSAGE_BYTES: usize = 256;

/// A message from another node.
pub(super) enum InboundMessage {
    /// Live events.
    Live(LivePacket, Message),
    /// A control message.
    Control(Message),
    /// A question for retained publications, or an answer with them.
    Kept(Message),
}

/// Messages in the order in which they came.
#[derive(Default)]
pub(super) struct Inbound {
    messages: VecDeque<InboundMessage>,
    bytes: usize,
    events: u64,
}

impl Inbound {
    /// Adds a message, or returns it when there is no room.
    pub(super) fn push(&mut self, message: InboundMessage) -> Option<InboundMessage> {
        let (bytes, events) = (message.bytes(), message.events());
        let has_room = match &message {
            InboundMessage::Live(..) => {
                self.events + events <= EVENTS_MAX.max(events) && self.bytes + bytes <= BYTES_MAX
            }
            InboundMessage::Control(_) | InboundMessage::Kept(_) => {
                self.bytes + bytes <= BYTES_MAX + CONTROL_BYTES_MAX
            }
        };
        if !has_room {
            return Some(message);
        }
        self.bytes += bytes;
        self.events += events;
        self.messages.push_back(message);
        None
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<InboundMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        self.events -= message.events();
        Some(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl InboundMessage {
    fn bytes(&self) -> usize {
        let (Self::Live(_, message) | Self::Control(message) | Self::Kept(message)) = self;
        message.payload.len() + MESSAGE_BYTES
    }

    fn events(&self) -> u64 {
        match self {
            Self::Live(packet, _) => packet.events.into(),
            Self::Control(_) | Self::Kept(_) => 0,
        }
    }
}
