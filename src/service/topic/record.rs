//! The stored form of a message: some numbers, then the producer's data, in a layout that the
//! producer's shard writes once and nothing changes afterwards.
//!
//! ```text
//! ordinal u64 · bytes before it u64 · published u64 · flags u8 · event time u64?
//! · delivery time u64? · sequence i64? · producer? · key? · context? · encryption context?
//! · properties? · payload
//! ```
//! Numbers are little-endian; `?` marks fields that are present when their flag is set; a text is
//! its length (u32) and its bytes; properties are their count (u32) and twice as many texts; the
//! payload is the rest.

use super::{Position, routing};
use crate::bytes::Cursor;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// Length of the fields that the owner of the topic fills in.
const OWN_BYTES: usize = 16;
/// Offset of the flags.
const FLAGS_AT: usize = OWN_BYTES + 8;

const EVENT: u8 = 1;
const DELIVER: u8 = 2;
const SEQUENCE: u8 = 4;
const PRODUCER: u8 = 8;
const KEY: u8 = 16;
const CONTEXT: u8 = 32;
const ENCRYPTION: u8 = 64;
const PROPERTIES: u8 = 128;

/// The content of a message, as given by its producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMessage<'a> {
    /// When it was published (unix, ms).
    pub published_ms: u64,
    /// The time of the event it describes (unix, ms).
    pub event_ms: Option<u64>,
    /// When to deliver it (unix, ms).
    pub deliver_ms: Option<u64>,
    /// Its sequence number at its producer.
    pub sequence: Option<i64>,
    /// The producer's name, if it chose one.
    pub producer: Option<&'a str>,
    /// Selects its partition, or its consumer.
    pub key: Option<&'a str>,
    /// The producer's own id of the message.
    pub context: Option<&'a str>,
    /// The clients' encryption parameters, a JSON object.
    pub encryption: Option<&'a str>,
    /// Properties: names and values, in order.
    pub properties: Vec<(&'a str, &'a str)>,
    /// The data.
    pub payload: &'a [u8],
}

/// The fields that route a message and reveal duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageHead<'a> {
    /// See [`TopicMessage`].
    pub sequence: Option<i64>,
    /// See [`TopicMessage`].
    pub producer: Option<&'a str>,
    /// See [`TopicMessage`].
    pub key: Option<&'a str>,
}

impl<'a> MessageHead<'a> {
    /// Its producer and sequence number, which identify duplicates; `None` unless both are set.
    #[must_use]
    pub fn number(&self) -> Option<(&'a str, i64)> {
        Some((self.producer?, self.sequence?))
    }
}

/// A message to be stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct MessageDraft(Box<[u8]>);

impl TryFrom<Box<[u8]>> for MessageDraft {
    type Error = &'static str;

    fn try_from(record: Box<[u8]>) -> Result<Self, &'static str> {
        // It comes from another node, so it is validated before it is kept.
        read(&record).ok_or("the record of a message is damaged")?;
        Ok(Self(record))
    }
}

impl MessageDraft {
    /// Encodes a message.
    #[must_use]
    pub fn new(message: &TopicMessage<'_>) -> Self {
        let payload = message.payload;
        let Ok(draft) = Self::with(message, payload.len(), |out| {
            out.extend_from_slice(payload);
            Ok::<_, Infallible>(())
        });
        draft
    }

    /// Encodes a message with the payload that `fill` appends, of about `payload_bytes`, in place
    /// of the message's own: decoded data needs no copy.
    ///
    /// # Errors
    /// The error of `fill`.
    pub fn with<E>(
        message: &TopicMessage<'_>,
        payload_bytes: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut bytes = Vec::with_capacity(head_bytes(message) + payload_bytes);
        bytes.extend_from_slice(&[0; OWN_BYTES]);
        bytes.extend_from_slice(&message.published_ms.to_le_bytes());
        bytes.push(0);
        let sequence = message.sequence.map(|sequence| sequence as u64);
        for (flag, number) in
            [(EVENT, message.event_ms), (DELIVER, message.deliver_ms), (SEQUENCE, sequence)]
        {
            if let Some(number) = number {
                bytes[FLAGS_AT] |= flag;
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let TopicMessage { producer, key, context, encryption, .. } = message;
        for (flag, text) in
            [(PRODUCER, producer), (KEY, key), (CONTEXT, context), (ENCRYPTION, encryption)]
        {
            if let Some(text) = text {
                bytes[FLAGS_AT] |= flag;
                put_text(text, &mut bytes);
            }
        }
        if !message.properties.is_empty() {
            bytes[FLAGS_AT] |= PROPERTIES;
            bytes.extend_from_slice(&(message.properties.len() as u32).to_le_bytes());
            for (name, value) in &message.properties {
                put_text(name, &mut bytes);
                put_text(value, &mut bytes);
            }
        }
        fill(&mut bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Decodes the message; `None` when it is damaged.
    #[must_use]
    pub fn message(&self) -> Option<TopicMessage<'_>> {
        read(&self.0)
    }

    /// Decodes only the head.
    #[must_use]
    pub fn head(&self) -> MessageHead<'_> {
        read_head(&self.0).unwrap_or_default()
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The stored message at a position, with the number and total bytes of the messages before it.
    #[must_use]
    pub fn store(mut self, position: Position, ordinal: u64, bytes_before: u64) -> StoredMessage {
        self.0[..8].copy_from_slice(&ordinal.to_le_bytes());
        self.0[8..OWN_BYTES].copy_from_slice(&bytes_before.to_le_bytes());
        StoredMessage { position, record: self.0 }
    }
}

/// A message with a position in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its position.
    pub position: Position,
    record: Box<[u8]>,
}

impl StoredMessage {
    /// Validates a record read from a position; `None` when it is damaged.
    #[must_use]
    pub fn read(position: Position, record: &[u8]) -> Option<Self> {
        read(record)?;
        Some(Self { position, record: record.into() })
    }

    /// The stored bytes.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// Decodes the message.
    #[must_use]
    pub fn message(&self) -> TopicMessage<'_> {
        read(&self.record).unwrap_or_default()
    }

    /// Decodes only the head.
    #[must_use]
    pub fn head(&self) -> MessageHead<'_> {
        read_head(&self.record).unwrap_or_default()
    }

    /// Number of messages the topic ever had before it.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        number(&self.record, 0).unwrap_or(0)
    }

    /// Their total bytes.
    #[must_use]
    pub fn bytes_before(&self) -> u64 {
        number(&self.record, 8).unwrap_or(0)
    }

    /// When it was published (unix, ms).
    #[must_use]
    pub fn published_ms(&self) -> u64 {
        number(&self.record, OWN_BYTES).unwrap_or(0)
    }

    /// When to deliver it (unix, ms).
    #[must_use]
    pub fn deliver_ms(&self) -> Option<u64> {
        let flags = *self.record.get(FLAGS_AT)?;
        let at = FLAGS_AT + 1 + if flags & EVENT != 0 { 8 } else { 0 };
        if flags & DELIVER != 0 { number(&self.record, at) } else { None }
    }

    /// Whether its delivery time was in the future when it was published.
    pub(super) fn was_delayed(&self) -> bool {
        self.deliver_ms().is_some_and(|deliver_ms| deliver_ms > self.published_ms())
    }

    /// The hash of its key; without a key, of its position, so that any consumer may receive it.
    pub(super) fn key_hash(&self) -> u32 {
        match self.head().key {
            Some(key) => routing::murmur3(key.as_bytes()),
            None => routing::murmur3(&self.position.number().to_le_bytes()),
        }
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.record.len()
    }
}

/// Length of a record up to its payload.
fn head_bytes(message: &TopicMessage<'_>) -> usize {
    let TopicMessage {
        event_ms,
        deliver_ms,
        sequence,
        producer,
        key,
        context,
        encryption,
        properties,
        ..
    } = message;
    let numbers = [event_ms.is_some(), deliver_ms.is_some(), sequence.is_some()];
    let numbers: usize = numbers.into_iter().map(|is_there| if is_there { 8 } else { 0 }).sum();
    let texts = [producer, key, context, encryption].into_iter().flatten();
    let texts: usize = texts.map(|text| text.len() + 4).sum();
    let pairs: usize = properties.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    FLAGS_AT + 1 + numbers + texts + pairs + if properties.is_empty() { 0 } else { 4 }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Decodes a record; `None` when it is damaged.
fn read(record: &[u8]) -> Option<TopicMessage<'_>> {
    let mut rest = Cursor(record.get(OWN_BYTES..)?);
    let published_ms = rest.u64_le()?;
    let flags = rest.take(1)?[0];
    let has = |flag| flags & flag != 0;
    Some(TopicMessage {
        published_ms,
        event_ms: if has(EVENT) { Some(rest.u64_le()?) } else { None },
        deliver_ms: if has(DELIVER) { Some(rest.u64_le()?) } else { None },
        sequence: if has(SEQUENCE) { Some(rest.u64_le()? as i64) } else { None },
        producer: if has(PRODUCER) { Some(text(&mut rest)?) } else { None },
        key: if has(KEY) { Some(text(&mut rest)?) } else { None },
        context: if has(CONTEXT) { Some(text(&mut rest)?) } else { None },
        encryption: if has(ENCRYPTION) { Some(text(&mut rest)?) } else { None },
        properties: if has(PROPERTIES) { properties(&mut rest)? } else { Vec::new() },
        payload: rest.0,
    })
}

/// Decodes no more of a record than the head; `None` when that is damaged.
fn read_head(record: &[u8]) -> Option<MessageHead<'_>> {
    let mut rest = Cursor(record.get(FLAGS_AT..)?);
    let flags = rest.take(1)?[0];
    let has = |flag| flags & flag != 0;
    rest.take(if has(EVENT) { 8 } else { 0 } + if has(DELIVER) { 8 } else { 0 })?;
    Some(MessageHead {
        sequence: if has(SEQUENCE) { Some(rest.u64_le()? as i64) } else { None },
        producer: if has(PRODUCER) { Some(text(&mut rest)?) } else { None },
        key: if has(KEY) { Some(text(&mut rest)?) } else { None },
    })
}

/// A text preceded by its length.
fn text<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let length = rest.u32_le()?;
    rest.text(length as usize)
}

fn properties<'a>(rest: &mut Cursor<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = rest.u32_le()? as usize;
    // A pair takes at least its two lengths, so a larger count is damage, and must not allocate.
    (count <= rest.0.len() / 8).then_some(())?;
    (0..count).map(|_| Some((text(rest)?, text(rest)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> TopicMessage<'static> {
        TopicMessage {
            published_ms: 1_472_575_557_785,
            event_ms: Some(5),
            deliver_ms: Some(6),
            sequence: Some(-1),
            producer: Some("p"),
            key: Some("k"),
            context: Some("1"),
            encryption: Some("{}"),
            properties: vec![("key1", "value1"), ("é", "")],
            payload: b"Hello World",
        }
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let bare = TopicMessage { published_ms: 7, payload: b"", ..TopicMessage::default() };
        for message in [full(), bare] {
            let draft = MessageDraft::new(&message);
            assert_eq!(draft.message(), Some(message.clone()));
            assert_eq!(draft.len(), head_bytes(&message) + message.payload.len());
            let TopicMessage { sequence, producer, key, .. } = message;
            assert_eq!(draft.head(), MessageHead { sequence, producer, key });
            let stored = draft.store(Position::of_number(9), 4, 1000);
            assert_eq!(stored.message(), message);
            assert_eq!((stored.ordinal(), stored.bytes_before()), (4, 1000));
            assert_eq!(
                (stored.published_ms(), stored.deliver_ms()),
                (message.published_ms, message.deliver_ms)
            );
            assert_eq!(StoredMessage::read(stored.position, stored.record()), Some(stored));
        }
    }

    #[test]
    fn a_record_that_is_cut_off_or_no_record_at_all_is_none_or_another_payload() {
        let stored = MessageDraft::new(&full()).store(Position::FIRST, 0, 0);
        let record = stored.record();
        for length in 0..record.len() - b"Hello World".len() {
            assert_eq!(StoredMessage::read(Position::FIRST, &record[..length]), None, "{length}");
        }
        for at in 0..record.len() {
            let mut record = record.to_vec();
            record[at] ^= 0xff;
            let _ = StoredMessage::read(Position::FIRST, &record);
        }
    }
}
