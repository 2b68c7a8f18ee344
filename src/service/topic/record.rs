//! A message as it is stored: some numbers, then what its producer has sent, in a layout that is written once by the
//! producer's shard and never changed.
//!
//! ```text
//! ordinal u64 · bytes before it u64 · published u64 · flags u8 · event time u64? · delivery time u64? · sequence i64?
//! · producer? · key? · context? · encryption context? · properties? · payload
//! ```
//! Numbers are little-endian; `?` stands there when its flag is set; a text is its length (u32) and its bytes;
//! properties are their count (u32) and twice as many texts; the payload is all that is left.

use super::{Position, routing};
use crate::bytes::Cursor;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// What the owner of the topic fills in.
const OWN_BYTES: usize = 16;
/// Where the flags stand.
const FLAGS_AT: usize = OWN_BYTES + 8;

const EVENT: u8 = 1;
const DELIVER: u8 = 2;
const SEQUENCE: u8 = 4;
const PRODUCER: u8 = 8;
const KEY: u8 = 16;
const CONTEXT: u8 = 32;
const ENCRYPTION: u8 = 64;
const PROPERTIES: u8 = 128;

/// A message, as far as its producer knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMessage<'a> {
    /// When it was published, in unix time (ms).
    pub published_ms: u64,
    /// When what it tells of has happened, in unix time (ms).
    pub event_ms: Option<u64>,
    /// When it is to be delivered, in unix time (ms).
    pub deliver_ms: Option<u64>,
    /// Its number among its producer's.
    pub sequence: Option<i64>,
    /// The producer's name, if it has given itself one.
    pub producer: Option<&'a str>,
    /// What chooses its partition, or its consumer.
    pub key: Option<&'a str>,
    /// What the producer has called it.
    pub context: Option<&'a str>,
    /// How clients have encrypted it: a JSON object.
    pub encryption: Option<&'a str>,
    /// Names and values, in order.
    pub properties: Vec<(&'a str, &'a str)>,
    /// What it says.
    pub payload: &'a [u8],
}

/// What tells where a message goes, and whether it has come before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageHead<'a> {
    /// As of [`TopicMessage`].
    pub sequence: Option<i64>,
    /// As of [`TopicMessage`].
    pub producer: Option<&'a str>,
    /// As of [`TopicMessage`].
    pub key: Option<&'a str>,
}

impl<'a> MessageHead<'a> {
    /// Its producer and its number, by which it is known when it comes again; without both it is not.
    #[must_use]
    pub fn number(&self) -> Option<(&'a str, i64)> {
        Some((self.producer?, self.sequence?))
    }
}

/// A message that is to be stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>")]
pub struct MessageDraft(Box<[u8]>);

impl TryFrom<Box<[u8]>> for MessageDraft {
    type Error = &'static str;

    fn try_from(record: Box<[u8]>) -> Result<Self, &'static str> {
        // It has come from another node, and is kept as it is.
        read(&record).ok_or("the record of a message is damaged")?;
        Ok(Self(record))
    }
}

impl MessageDraft {
    /// Lays a message out.
    #[must_use]
    pub fn new(message: &TopicMessage<'_>) -> Self {
        let payload = message.payload;
        let Ok(draft) = Self::with(message, payload.len(), |out| {
            out.extend_from_slice(payload);
            Ok::<_, Infallible>(())
        });
        draft
    }

    /// Lays a message out whose payload is what `fill` appends, of about so many bytes, and not that of the message: what
    /// is decoded stands at its place at once.
    ///
    /// # Errors
    /// That of `fill`.
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

    /// What is in it.
    #[must_use]
    pub fn message(&self) -> Option<TopicMessage<'_>> {
        read(&self.0)
    }

    /// What tells where it goes.
    #[must_use]
    pub fn head(&self) -> MessageHead<'_> {
        read_head(&self.0).unwrap_or_default()
    }

    /// Its size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The message at its place: with so many before it in its topic, which have so many bytes.
    #[must_use]
    pub fn store(mut self, position: Position, ordinal: u64, bytes_before: u64) -> StoredMessage {
        self.0[..8].copy_from_slice(&ordinal.to_le_bytes());
        self.0[8..OWN_BYTES].copy_from_slice(&bytes_before.to_le_bytes());
        StoredMessage { position, record: self.0 }
    }
}

/// A message that has a place in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place.
    pub position: Position,
    record: Box<[u8]>,
}

impl StoredMessage {
    /// The message of a record that was read at a position; `None` when it is none.
    #[must_use]
    pub fn read(position: Position, record: &[u8]) -> Option<Self> {
        read(record)?;
        Some(Self { position, record: record.into() })
    }

    /// The bytes that are stored.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// What is in it.
    #[must_use]
    pub fn message(&self) -> TopicMessage<'_> {
        read(&self.record).unwrap_or_default()
    }

    /// What tells where it went.
    #[must_use]
    pub fn head(&self) -> MessageHead<'_> {
        read_head(&self.record).unwrap_or_default()
    }

    /// How many messages the topic had before it, ever.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        number(&self.record, 0).unwrap_or(0)
    }

    /// How many bytes they had.
    #[must_use]
    pub fn bytes_before(&self) -> u64 {
        number(&self.record, 8).unwrap_or(0)
    }

    /// When it was published, in unix time (ms).
    #[must_use]
    pub fn published_ms(&self) -> u64 {
        number(&self.record, OWN_BYTES).unwrap_or(0)
    }

    /// When it is to be delivered, in unix time (ms).
    #[must_use]
    pub fn deliver_ms(&self) -> Option<u64> {
        let flags = *self.record.get(FLAGS_AT)?;
        let at = FLAGS_AT + 1 + if flags & EVENT != 0 { 8 } else { 0 };
        if flags & DELIVER != 0 { number(&self.record, at) } else { None }
    }

    /// Whether it had to wait for its time when it was appended.
    pub(super) fn was_delayed(&self) -> bool {
        self.deliver_ms().is_some_and(|deliver_ms| deliver_ms > self.published_ms())
    }

    /// What stands for its key; without one any consumer may have it.
    pub(super) fn key_hash(&self) -> u32 {
        match self.head().key {
            Some(key) => routing::murmur3(key.as_bytes()),
            None => routing::murmur3(&self.position.number().to_le_bytes()),
        }
    }

    /// Its size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.record.len()
    }
}

/// Bytes that a record has before its payload.
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

/// Takes a record apart; `None` when it is damaged.
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

/// Reads no further than it must; `None` when that is damaged.
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

/// A text behind its length.
fn text<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let length = rest.u32_le()?;
    rest.text(length as usize)
}

fn properties<'a>(rest: &mut Cursor<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = rest.u32_le()? as usize;
    // Each takes at least its two lengths.
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
