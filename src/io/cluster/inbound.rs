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
    controls: usize,
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
        self.controls += usize::from(matches!(message, InboundMessage::Control(_)));
        self.messages.push_back(message);
        None
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<InboundMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        self.events -= message.events();
        self.controls -= usize::from(matches!(message, InboundMessage::Control(_)));
        Some(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether control messages wait: what other nodes say of themselves is not heard yet.
    pub(super) fn has_control(&self) -> bool {
        self.controls > 0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{NodeId, NodeName, PacketDraft};
    use crate::dialect::Kind;
    use crate::frame::Draft;
    use crate::wheel::Now;

    fn message(payload: Vec<u8>) -> Message {
        let (subject, length) = ("s".into(), payload.len());
        let (reply, headers, status, description) = (None, None, None, None);
        Message { subject, reply, payload: payload.into(), headers, status, description, length }
    }

    fn packet(events: u32, bytes: usize) -> InboundMessage {
        let name = NodeName::new("a").unwrap();
        let mut packet = PacketDraft::new(NodeId { name, incarnation: 1 });
        let mut draft = Draft::default();
        draft.address(&[&[Kind::ALL[0].topic()]], b"");
        draft.text(|out| out.resize(out.len() + bytes, b'x'));
        let event = draft.finish(Now::default());
        (0..events).for_each(|_| packet.push(&event, 0));
        let message = message(packet.finish(0));
        InboundMessage::Live(LivePacket::read(&message.payload).unwrap(), message)
    }

    #[test]
    fn packets_beyond_the_events_that_may_wait_are_given_back_and_control_messages_are_not() {
        let mut inbound = Inbound::default();
        for _ in 0..EVENTS_MAX / 100 {
            assert!(inbound.push(packet(100, 1)).is_none());
        }
        assert!(matches!(
            inbound.push(packet(1, 1)),
            Some(InboundMessage::Live(packet, _)) if packet.events == 1
        ));
        assert!(!inbound.has_control());
        assert!(inbound.push(InboundMessage::Control(message(b"{}".to_vec()))).is_none());
        assert!(inbound.has_control());
        assert!(inbound.pop().is_some());
        assert!(inbound.push(packet(100, 1)).is_none(), "there is room again");
    }

    #[test]
    fn bytes_have_a_limit_too_and_all_room_comes_back() {
        let mut inbound = Inbound::default();
        for _ in 0..3 {
            assert!(inbound.push(packet(1, BYTES_MAX / 4)).is_none());
        }
        assert!(inbound.push(packet(1, BYTES_MAX / 2)).is_some());
        assert!(
            inbound.push(packet(1, 10)).is_none(),
            "a short one may fit where a long one did not"
        );
        let many = || InboundMessage::Control(message(vec![b'{'; CONTROL_BYTES_MAX / 2]));
        assert!((0..3).all(|_| inbound.push(many()).is_none()));
        assert!(inbound.push(many()).is_some(), "these are bounded too");
        while inbound.pop().is_some() {}
        assert!(inbound.is_empty());
        assert_eq!((inbound.bytes, inbound.events, inbound.controls), (0, 0, 0));
    }
}
