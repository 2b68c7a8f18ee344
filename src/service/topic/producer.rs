//! One producer: the destinations of its messages, and the sequence numbers that reveal duplicates.

use super::handles::TopicId;
use super::{Hashing, MessageDraft, Position, ProducerOptions, TopicName, routing};
use crate::service::ConnectionRef;
use serde::{Deserialize, Serialize};

/// A producer.
#[derive(Debug)]
pub(super) struct TopicProducer {
    pub(super) connection: ConnectionRef,
    pub(super) name: Box<str>,
    pub(super) remote: Box<str>,
    /// The destinations, with the partition in their message ids.
    pub(super) targets: Vec<(TopicId, Option<u32>)>,
    /// Number of messages stored for it.
    pub(super) published: u64,
    round_robin: bool,
    hashing: Hashing,
    /// The partition for messages without a key, or the next one in turn.
    turn: usize,
}

/// A producer as data for another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenProducer {
    pub(super) connection: ConnectionRef,
    pub(super) name: Box<str>,
    /// Its destinations, with the partition in their message ids, and the sequence number before
    /// its first where it has not sent any.
    pub(super) targets: Vec<(TopicName, Option<u32>, Option<i64>)>,
    remote: Box<str>,
    published: u64,
    round_robin: bool,
    hashing: Hashing,
    turn: usize,
}

impl TopicProducer {
    /// It as data, with what `target` tells of each destination.
    pub(super) fn freeze(
        &self,
        target: impl FnMut((TopicId, Option<u32>)) -> (TopicName, Option<u32>, Option<i64>),
    ) -> FrozenProducer {
        FrozenProducer {
            connection: self.connection,
            name: self.name.clone(),
            targets: self.targets.iter().copied().map(target).collect(),
            remote: self.remote.clone(),
            published: self.published,
            round_robin: self.round_robin,
            hashing: self.hashing,
            turn: self.turn,
        }
    }

    /// A producer of another process, whose connection has this reference here.
    pub(super) fn thaw(
        frozen: FrozenProducer,
        connection: ConnectionRef,
        targets: Vec<(TopicId, Option<u32>)>,
    ) -> Self {
        let FrozenProducer { name, remote, published, round_robin, hashing, turn, .. } = frozen;
        Self { connection, name, remote, targets, published, round_robin, hashing, turn }
    }

    /// A producer for these topics. `serial` selects the partition of one without a name; a named
    /// producer that returns continues with its partition, so that duplicates are recognized.
    pub(super) fn new(
        connection: ConnectionRef,
        name: Box<str>,
        options: &ProducerOptions,
        targets: Vec<(TopicId, Option<u32>)>,
        serial: u64,
    ) -> Self {
        let turn = match &options.name {
            Some(name) => routing::murmur3(name.as_bytes()) as usize,
            None => serial as usize,
        };
        let ProducerOptions { remote, round_robin, hashing, .. } = options;
        let (remote, round_robin, hashing) = (remote.clone(), *round_robin, *hashing);
        Self { connection, name, remote, targets, published: 0, round_robin, hashing, turn }
    }

    /// The destination of a message.
    pub(super) fn choose(&mut self, draft: &MessageDraft) -> Option<(TopicId, Option<u32>)> {
        let count = self.targets.len();
        if count <= 1 {
            return self.targets.first().copied();
        }
        let head = draft.head();
        let at = match (head.key, head.sequence) {
            (Some(key), _) => routing::partition(key, self.hashing, count as u32) as usize,
            // A repeated message goes to the same partition as the first time.
            (None, Some(sequence)) if self.round_robin && head.producer.is_some() => {
                sequence.rem_euclid(count as i64) as usize
            }
            (None, _) => {
                self.turn = self.turn.wrapping_add(self.round_robin.into());
                self.turn % count
            }
        };
        self.targets.get(at).copied()
    }
}

/// The last sequence number of a producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// The number.
    pub(super) last: i64,
    /// The message with that number, if known.
    pub(super) id: Option<Position>,
    /// When it was used, as a serial number.
    pub(super) used: u64,
    /// Whether it is saved.
    pub(super) is_saved: bool,
}

impl Sequence {
    /// The number before a producer's first.
    pub(super) fn initial(last: i64, used: u64) -> Self {
        Self { last, id: None, used, is_saved: false }
    }

    /// The number of a message.
    pub(super) fn of(last: i64, id: Position, used: u64) -> Self {
        Self { last, id: Some(id), used, is_saved: true }
    }

    /// A number saved earlier.
    pub(super) fn saved(last: i64) -> Self {
        Self { last, id: None, used: 0, is_saved: true }
    }
}
