//! The position of a message in its topic, and the ids by which clients name messages.
//!
//! A client sees a protobuf message in base64 (Pulsar's `MessageIdData`): field 1 is the ledger, 2
//! the entry, 3 the partition. Every run of the daemon starts a ledger of its own, so no position
//! is ever reused.

use crate::bytes::{Cursor, put_varint};
use crate::text::{LENIENT_BASE64, put_base64};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Low bits of a position, which count entries; the high bits are the ledger.
const ENTRY_BITS: u32 = 40;
/// Limit on the bytes of an id before base64: three tags, two numbers of 64 bits and one of 32.
const ID_BYTES_MAX: usize = 28;
/// The first topic label in the partition field of an id: above all partition numbers, and above
/// the list indexes that older versions put there, which clients may still hold.
const TOPICS_FROM: u32 = 1 << 20;

/// The position of a message in its topic: ledger, then entry. Positions order messages.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position(u64);

impl Position {
    /// Before every message.
    pub const FIRST: Self = Self(0);
    /// After every message.
    pub const END: Self = Self(u64::MAX);

    /// The position of an entry of a ledger; `None` for numbers out of range.
    #[must_use]
    pub fn new(ledger: u64, entry: u64) -> Option<Self> {
        let fits = ledger < 1 << (u64::BITS - ENTRY_BITS) && entry < 1 << ENTRY_BITS;
        fits.then_some(Self(ledger << ENTRY_BITS | entry))
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(self) -> u64 {
        self.0 >> ENTRY_BITS
    }

    /// The entry in the ledger, counted from 0.
    #[must_use]
    pub fn entry(self) -> u64 {
        self.0 & ((1 << ENTRY_BITS) - 1)
    }

    /// The next possible position, whether or not it has a message.
    #[must_use]
    pub fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its number in the archive; numbers and positions have the same order.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The position with this number.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }
}

/// The id by which clients name a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The position in the topic.
    pub position: Position,
    /// The partition; for a consumer of several topics, the topic's label, see
    /// [`MessageId::topic_label`].
    pub partition: Option<u32>,
}

impl MessageId {
    /// The label that replaces the partition in ids for consumers of several topics, derived from
    /// the topic's number in the archive. Numbers are never reused, so the id refers to this topic
    /// forever, whatever other topics a consumer has. `None` for a number out of range, which takes
    /// four billion topics.
    #[must_use]
    pub fn topic_label(number: u32) -> Option<u32> {
        TOPICS_FROM.checked_add(number)
    }

    /// The number of the topic with this label; `None` for the number of a partition.
    #[must_use]
    pub fn topic_number(label: u32) -> Option<u32> {
        label.checked_sub(TOPICS_FROM)
    }

    /// Whether its partition is the label of a topic.
    #[must_use]
    pub fn names_topic(self) -> bool {
        self.partition.is_some_and(|label| label >= TOPICS_FROM)
    }

    /// Appends the id as base64.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut bytes = SmallVec::<[u8; ID_BYTES_MAX]>::new();
        for (tag, value) in [(8, self.position.ledger()), (16, self.position.entry())] {
            bytes.push(tag);
            put_varint(value, &mut bytes);
        }
        if let Some(partition) = self.partition {
            bytes.push(24);
            put_varint(partition.into(), &mut bytes);
        }
        put_base64(&bytes, out);
    }

    /// The id as base64.
    #[must_use]
    pub fn text(self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Parses an id sent by a client.
    ///
    /// # Errors
    /// Describes what is wrong with the text.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let bytes = LENIENT_BASE64.decode(text).map_err(|_| "the message id is not base64")?;
        let (mut rest, mut ledger, mut entry, mut partition) = (Cursor(&bytes), None, None, None);
        while let Some(tag) = rest.byte() {
            if tag & 7 != 0 || tag >= 128 {
                return Err("the message id is not one of Pulsar's");
            }
            let value = rest.varint().ok_or("the message id is cut off")?;
            match tag >> 3 {
                1 => ledger = Some(value),
                2 => entry = Some(value),
                // Java writes -1 for no partition, as ten bytes.
                3 => partition = u32::try_from(value).ok(),
                _ => {}
            }
        }
        let (Some(ledger), Some(entry)) = (ledger, entry) else {
            return Err("the message id has no ledger or no entry");
        };
        // A position out of range is after all messages.
        let position = Position::new(ledger, entry).unwrap_or(Position::END);
        Ok(Self { position, partition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ledger: u64, entry: u64, partition: Option<u32>) -> MessageId {
        MessageId { position: Position::new(ledger, entry).unwrap(), partition }
    }

    #[test]
    fn ids_are_pulsars() {
        for (known, text) in [
            (id(0, 3, None), "CAAQAw=="),
            (id(7, 300, Some(2)), "CAcQrAIYAg=="),
            (id(0, 0, None), "CAAQAA=="),
        ] {
            assert_eq!(known.text(), text);
            assert_eq!(MessageId::read(text), Ok(known));
        }
        assert_eq!(
            MessageId::read("CAAQAzAA"),
            Ok(id(0, 3, None)),
            "newer clients of Java say a batch size"
        );
        assert_eq!(MessageId::read("CAAQAw"), Ok(id(0, 3, None)), "without padding");
    }

    #[test]
    fn what_is_no_id_is_told() {
        for bad in ["", "!", "CAAQ", "CAA=", "CgNhYmM=", "CAAQAw==\n", "////////////////"] {
            assert!(MessageId::read(bad).is_err(), "{bad}");
        }
        let beyond = MessageId::read("CP///////////wEQAA==").unwrap();
        assert_eq!(beyond.position, Position::END);
    }

    #[test]
    fn positions_are_ordered_by_ledger_then_entry() {
        let positions = [id(0, 0, None), id(0, 9, None), id(1, 0, None), id(2, 1 << 39, None)];
        assert!(positions.is_sorted());
        assert_eq!(positions[3].position.entry(), 1 << 39);
        assert_eq!(Position::new(1 << 24, 0), None);
    }
}
