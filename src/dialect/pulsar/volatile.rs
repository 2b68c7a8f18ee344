//! Non-persistent topics: their messages are ordinary publications, received by those who are
//! connected.
//!
//! The owner of the topics knows only the members of each subscription, and gives each consumer its
//! share. A consumer without room for a message misses it, as in Pulsar.

use super::delivery;
use super::path::ApiVersion;
use crate::dialect::{Admission, Explanation};
use crate::frame::{Draft, Publication};
use crate::service::topic::{Flow, MessageDraft, MessageId, Position, SubscriptionType, TopicName};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// The byte that starts this dialect's topics.
pub(super) const TOPIC: u8 = b'P';
/// Most permits that a consumer may have left. More would be as good as these.
const PERMITS_MAX: u32 = i32::MAX as u32;

/// The id of every such message: none is kept, so none needs a name.
pub(super) const ID: MessageId = MessageId { position: Position::FIRST, partition: None };

/// Makes a message a publication. `serial` distinguishes it from others of its topic, for sharing.
pub(super) fn publication(
    topic: &TopicName,
    message: &MessageDraft,
    serial: u64,
    draft: &mut Draft,
    now: Now,
) -> Publication {
    let message = message.message().unwrap_or_default();
    draft.address(&prefix(topic), b"");
    // Key_Shared consumers share by key; a message without one is shared like any other.
    let by_key = message.key.map_or(serial, |key| hash(key.as_bytes()));
    draft.meta(&serial.to_le_bytes());
    draft.meta(&by_key.to_le_bytes());
    // The forms of both versions, once for all who receive the message.
    for version in [ApiVersion::First, ApiVersion::Later] {
        draft.text(|out| delivery::put_message(&message, ID, 0, version, out));
    }
    draft.finish(now)
}

/// The topic of publications, in parts; no other topic begins so.
pub(super) fn prefix(topic: &TopicName) -> [&[u8]; 3] {
    [&[TOPIC], topic.as_str().as_bytes(), b"\0"]
}

/// A hash of bytes: FNV-1a, then mixed so that its remainders are evenly distributed (the end of
/// SplitMix64).
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        hash = (hash ^ hash >> shift).wrapping_mul(factor);
    }
    hash ^ hash >> 31
}

/// A consumer or reader of such a topic.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct VolatileListener {
    pub(super) topic: TopicName,
    kind: SubscriptionType,
    /// Its place among the sharing consumers, and their number.
    share: (u32, u32),
    flow: Flow,
    /// Messages that it has room for.
    room: Cell<u32>,
}

impl VolatileListener {
    /// A consumer. One that shares gets nothing before it has its share.
    pub(super) fn consumer(topic: TopicName, kind: SubscriptionType, flow: Flow) -> Self {
        let share = (0, u32::from(kind == SubscriptionType::Exclusive));
        let room = match flow {
            Flow::Push(window) => window,
            Flow::Pull => 0,
        };
        Self { topic, kind, share, flow, room: Cell::new(room) }
    }

    /// A reader, which shares with no other.
    pub(super) fn reader(topic: TopicName, window: u32) -> Self {
        Self::consumer(topic, SubscriptionType::Exclusive, Flow::Push(window))
    }

    pub(super) fn share(&mut self, place: u32, of: u32) {
        self.share = (place, of);
    }

    /// Makes room for one more message.
    pub(super) fn free(&self) {
        if let Flow::Push(window) = self.flow {
            self.room.set((self.room.get() + 1).min(window));
        }
    }

    /// Makes room for this many more, in pull mode.
    pub(super) fn permit(&self, permits: u32) {
        if self.flow == Flow::Pull {
            self.room.set(self.room.get().saturating_add(permits).min(PERMITS_MAX));
        }
    }

    /// Whether a message is in its share. Every consumer of the subscription computes this, and
    /// exactly one finds its place.
    fn shares(&self, publication: &Publication) -> bool {
        let Some((serial, by_key)) = publication.meta().split_at_checked(8) else { return false };
        let number = if self.kind == SubscriptionType::KeyShared { by_key } else { serial };
        let number = number.try_into().map_or(0, u64::from_le_bytes);
        let (place, of) = self.share;
        of != 0 && number % u64::from(of) == u64::from(place)
    }

    /// Whether it would get a message.
    pub(super) fn explain(&self, publication: &Publication) -> Explanation {
        match self.share {
            _ if self.room.get() == 0 => Explanation::no("it has no room for another message"),
            (_, 0) => Explanation::no("it is a stand-by: another consumer is active"),
            _ if self.shares(publication) => Explanation::yes("the message is in its share"),
            (place, of) => {
                Explanation::no(format!("it is for another consumer; this is {place} of {of}"))
            }
        }
    }

    /// Whether it gets a message, and in which form.
    pub(super) fn admits(&self, publication: &Publication, version: ApiVersion) -> Admission {
        let room = self.room.get();
        if room == 0 || !self.shares(publication) {
            return Admission::No;
        }
        // Only now: room is for messages of its own share.
        self.room.set(room - 1);
        Admission::Form(match version {
            ApiVersion::First => 0,
            ApiVersion::Later => 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::topic::TopicMessage;

    fn publications(keys: &[Option<&'static str>]) -> Vec<Publication> {
        let topic = TopicName::read("non-persistent://t/n/x").unwrap();
        let mut draft = Draft::default();
        let message = |key| {
            MessageDraft::new(&TopicMessage { key, payload: b"x", ..TopicMessage::default() })
        };
        let made = keys.iter().enumerate();
        made.map(|(at, key)| {
            publication(&topic, &message(*key), at as u64, &mut draft, Now::default())
        })
        .collect()
    }

    fn listener(kind: SubscriptionType, flow: Flow) -> VolatileListener {
        VolatileListener::consumer(TopicName::read("non-persistent://t/n/x").unwrap(), kind, flow)
    }

    fn taken(listener: &VolatileListener, publications: &[Publication]) -> Vec<bool> {
        let admits =
            |publication| listener.admits(publication, ApiVersion::Later) == Admission::Form(1);
        publications.iter().map(admits).collect()
    }

    #[test]
    fn consumers_share_messages_in_turn() {
        let messages = publications(&[None; 6]);
        let mut consumer = listener(SubscriptionType::Shared, Flow::Push(1000));
        assert_eq!(taken(&consumer, &messages), [false; 6], "nothing before the share is known");
        consumer.share(1, 3);
        assert_eq!(taken(&consumer, &messages), [false, true, false, false, true, false]);
        consumer.share(0, 0);
        assert_eq!(taken(&consumer, &messages), [false; 6], "a stand-by gets nothing");
        consumer.share(0, 1);
        assert_eq!(taken(&consumer, &messages), [true; 6]);
    }

    #[test]
    fn messages_of_one_key_go_to_one_consumer() {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"].map(Some);
        let messages = publications(&[keys, keys].concat());
        let mut all = vec![0; 16];
        for place in 0..3 {
            let mut consumer = listener(SubscriptionType::KeyShared, Flow::Push(1000));
            consumer.share(place, 3);
            let taken = taken(&consumer, &messages);
            assert_eq!(taken[..8], taken[8..]);
            assert!(taken.contains(&true) && taken.contains(&false));
            taken.iter().zip(&mut all).for_each(|(taken, count)| *count += u32::from(*taken));
        }
        assert_eq!(all, [1; 16]);
    }

    #[test]
    fn who_has_no_room_misses_messages() {
        let messages = publications(&[None; 3]);
        let push = listener(SubscriptionType::Exclusive, Flow::Push(2));
        assert_eq!(taken(&push, &messages), [true, true, false]);
        (0..5).for_each(|_| push.free());
        push.permit(5);
        assert_eq!(taken(&push, &messages), [true, true, false]);
        let pull = listener(SubscriptionType::Exclusive, Flow::Pull);
        pull.free();
        assert_eq!(taken(&pull, &messages), [false; 3]);
        pull.permit(1);
        pull.permit(1);
        assert_eq!(taken(&pull, &messages), [true, true, false]);
        pull.permit(u32::MAX);
        pull.permit(u32::MAX);
        assert_eq!(taken(&pull, &messages), [true; 3]);
    }
}
