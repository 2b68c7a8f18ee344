//! The saved state of a topic and of a subscription, as bytes that start with a version.
//!
//! ```text
//! topic:        2 · flags u8 · next (position, ordinal, bytes) · first position · used (ms)
//! subscription: 2 · kind u8 · flags u8 · used (ms) · start · read (position, ordinal, bytes)
//!               · skipped · delayed (ms, position) · count
//!               · count times (position since the one before, length, delivery time)
//! ```
//! All numbers after the flags are variable-length integers, 7 bits a byte, the lowest first.

use super::pending::{Pending, PendingState};
use super::{Position, StoredMessage, SubscriptionType};
use crate::bytes::{Cursor, put_varint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version written and read.
const VERSION: u8 = 2;
const TERMINATED: u8 = 1;
const BY_INDEX: u8 = 1;

/// A place between two messages, with the totals of what is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPlace {
    /// The position of the next message, or an earlier free one.
    pub(super) position: Position,
    /// Number of messages the topic ever had before it.
    pub(super) ordinal: u64,
    /// Their total bytes.
    pub(super) bytes: u64,
}

impl LogPlace {
    /// The place before a message.
    pub(super) fn before(message: &StoredMessage) -> Self {
        Self {
            position: message.position,
            ordinal: message.ordinal(),
            bytes: message.bytes_before(),
        }
    }

    /// The place after a message.
    pub(super) fn behind(message: &StoredMessage) -> Self {
        Self {
            position: message.position.after(),
            ordinal: message.ordinal() + 1,
            bytes: message.bytes_before() + message.len() as u64,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        [self.position.number(), self.ordinal, self.bytes]
            .into_iter()
            .for_each(|it| put_varint(it, out));
    }

    fn read(rest: &mut Cursor<'_>) -> Option<Self> {
        let position = Position::of_number(rest.varint()?);
        Some(Self { position, ordinal: rest.varint()?, bytes: rest.varint()? })
    }
}

/// The saved state of a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TopicState {
    /// The place of the next message.
    pub(super) next: LogPlace,
    /// The first position that may have a stored message.
    pub(super) first: Position,
    /// Whether the topic accepts no more messages.
    pub(super) terminated: bool,
    /// When a connection last used it (unix, ms), as of its last unloading; 0 while in use.
    pub(super) used_ms: u64,
}

/// The saved state of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubscriptionState {
    /// How consumers share the messages.
    pub(super) kind: SubscriptionType,
    /// Whether delayed messages are delivered from the index.
    pub(super) by_index: bool,
    /// Messages before it are not delivered from the index.
    pub(super) start: Position,
    /// The cursor: everything before it was read from the log.
    pub(super) read: LogPlace,
    /// Number of delayed messages skipped in the log, minus those delivered from the index.
    pub(super) skipped: i64,
    /// The cursor of the index: everything before it was delivered from there.
    pub(super) delayed: (u64, Position),
    /// When its last consumer left (unix, ms); 0 while it has one.
    pub(super) used_ms: u64,
}

impl TopicState {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION, if self.terminated { TERMINATED } else { 0 }];
        self.next.put(&mut out);
        put_varint(self.first.number(), &mut out);
        put_varint(self.used_ms, &mut out);
        out
    }

    /// Decodes a state; `None` when it is damaged or of another version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let ([VERSION, flags], rest) = bytes.split_first_chunk()? else { return None };
        let mut rest = Cursor(rest);
        Some(Self {
            terminated: flags & TERMINATED != 0,
            next: LogPlace::read(&mut rest)?,
            first: Position::of_number(rest.varint()?),
            used_ms: rest.varint()?,
        })
    }
}

impl SubscriptionState {
    pub(super) fn write(&self, pending: &BTreeMap<Position, Pending>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + pending.len() * 4);
        out.extend([VERSION, self.kind as u8, if self.by_index { BY_INDEX } else { 0 }]);
        put_varint(self.used_ms, &mut out);
        put_varint(self.start.number(), &mut out);
        self.read.put(&mut out);
        put_varint(self.skipped.cast_unsigned(), &mut out);
        put_varint(self.delayed.0, &mut out);
        put_varint(self.delayed.1.number(), &mut out);
        put_varint(pending.len() as u64, &mut out);
        // Positions are written as differences, most of which take one byte.
        let mut before = 0;
        for (position, pending) in pending {
            put_varint(position.number() - before, &mut out);
            put_varint(pending.bytes.into(), &mut out);
            put_varint(pending.deliver_ms, &mut out);
            before = position.number();
        }
        out
    }

    /// Decodes a state; `None` when it is damaged or of another version.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, BTreeMap<Position, Pending>)> {
        let ([VERSION, kind, flags], rest) = bytes.split_first_chunk()? else { return None };
        let kinds = [
            SubscriptionType::Exclusive,
            SubscriptionType::Shared,
            SubscriptionType::Failover,
            SubscriptionType::KeyShared,
        ];
        let mut rest = Cursor(rest);
        let state = Self {
            kind: kinds.into_iter().find(|known| *known as u8 == *kind)?,
            by_index: flags & BY_INDEX != 0,
            used_ms: rest.varint()?,
            start: Position::of_number(rest.varint()?),
            read: LogPlace::read(&mut rest)?,
            skipped: rest.varint()?.cast_signed(),
            delayed: (rest.varint()?, Position::of_number(rest.varint()?)),
        };
        let mut pending = BTreeMap::new();
        let mut position = 0u64;
        // No allocation in advance: the count may be damaged.
        for _ in 0..rest.varint()? {
            position = position.checked_add(rest.varint()?)?;
            let bytes = u32::try_from(rest.varint()?).ok()?;
            let deliver_ms = rest.varint()?;
            let waiting =
                Pending { bytes, deliver_ms, state: PendingState::Waiting, ..Pending::default() };
            pending.insert(Position::of_number(position), waiting);
        }
        Some((state, pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_what_is_cut_off_is_told_apart() {
        let read = LogPlace {
            position: Position::new(3, 700).unwrap(),
            ordinal: 1 << 40,
            bytes: u64::MAX,
        };
        let topic = TopicState {
            next: read,
            first: Position::new(2, 0).unwrap(),
            terminated: true,
            used_ms: 7,
        };
        let bytes = topic.write();
        assert_eq!(TopicState::read(&bytes), Some(topic));
        assert_eq!(TopicState::read(&bytes[..bytes.len() - 1]), None);
        assert_eq!(TopicState::read(&[1, 0, 0, 0, 0, 0, 0]), None, "of another version");

        let delayed = (5, Position::END);
        let state = SubscriptionState {
            kind: SubscriptionType::KeyShared,
            by_index: true,
            start: Position::FIRST,
            read,
            skipped: -4,
            delayed,
            used_ms: 1_700_000_000_000,
        };
        let waiting = |bytes, deliver_ms| Pending { bytes, deliver_ms, ..Pending::default() };
        let pending: BTreeMap<_, _> = [
            (Position::FIRST, waiting(100, 0)),
            (Position::new(0, 9).unwrap(), waiting(1 << 20, 1_700_000_000_000)),
            (Position::new(3, 0).unwrap(), waiting(0, 1)),
        ]
        .into();
        let bytes = state.write(&pending);
        let (again, came) = SubscriptionState::read(&bytes).unwrap();
        assert_eq!((again, came.len()), (state, 3));
        for ((position, pending), (came_at, came)) in pending.iter().zip(&came) {
            assert_eq!(
                (position, pending.bytes, pending.deliver_ms),
                (came_at, came.bytes, came.deliver_ms)
            );
        }
        for length in 0..bytes.len() {
            assert!(SubscriptionState::read(&bytes[..length]).is_none(), "{length}");
        }
    }
}
