//! Places of messages: one record in a segment, a run of them in an index, and gaps without any.

use crate::service::topic::{Position, TopicNumber};

/// The place of a record: segment, offset, and length with its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Limit on a record's length in bytes: more than a hundred times the largest message.
pub(super) const RECORD_BYTES_MAX: u32 = 256 * 1024 * 1024;

impl Address {
    /// Whether a record can be there; damaged data may claim anything.
    pub(super) fn is_sound(&self) -> bool {
        self.length <= RECORD_BYTES_MAX && self.offset.checked_add(self.length).is_some()
    }
}

/// Messages of a topic with consecutive positions, in one segment with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexRun {
    pub(super) first: Position,
    pub(super) segment: u32,
    /// The index entry of the first one.
    pub(super) entry: u32,
    pub(super) count: u32,
    pub(super) bytes: u32,
}

/// A message in the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) position: Position,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl IndexEntry {
    /// The message at a position, with its offset and length.
    pub(super) fn of((position, &(offset, length)): (Position, &(u32, u32))) -> Self {
        Self { position, offset, length }
    }

    /// Its place in its segment.
    pub(super) fn at(&self, segment: u32) -> Address {
        Address { segment, offset: self.offset, length: self.length }
    }
}

impl IndexRun {
    /// The position after the last one.
    pub(super) fn end(&self) -> Position {
        Position::of_number(self.first.number().saturating_add(self.count.into()))
    }

    /// Removes messages before a position. Returns their bytes, estimated from the average.
    pub(super) fn advance(&mut self, below: Position) -> u32 {
        let gone = below.number().saturating_sub(self.first.number()).min(self.count.into()) as u32;
        let bytes = self.share(gone);
        self.first = Position::of_number(self.first.number() + u64::from(gone));
        self.entry += gone;
        self.count -= gone;
        self.bytes -= bytes;
        bytes
    }

    /// Removes messages from a position on. Returns their bytes, estimated likewise.
    pub(super) fn cut(&mut self, from: Position) -> u32 {
        let kept = from.number().saturating_sub(self.first.number()).min(self.count.into()) as u32;
        let bytes = self.share(self.count - kept);
        self.count = kept;
        self.bytes -= bytes;
        bytes
    }

    /// The runs before and after one of its positions, and the bytes of that one, estimated
    /// likewise.
    pub(super) fn without(&self, position: Position) -> (Self, Self, u32) {
        let mut behind = *self;
        let bytes = behind.advance(position.after());
        let mut before = Self { count: self.count - behind.count, bytes, ..*self };
        let gone = before.cut(position);
        (before, behind, gone)
    }

    fn share(&self, count: u32) -> u32 {
        (u64::from(self.bytes) * u64::from(count) / u64::from(self.count.max(1))) as u32
    }
}

/// Messages that can be read together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A run of an index.
    Indexed(IndexRun),
    /// Messages of the newest segment.
    Newest(Vec<IndexEntry>),
}

/// A range of positions of a topic without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexGap {
    pub(super) topic: TopicNumber,
    pub(super) from: Position,
    pub(super) to: Position,
}

impl IndexGap {
    /// The range from one position up to another; `None` if it is empty.
    pub(super) fn between(topic: TopicNumber, from: Position, to: Position) -> Option<Self> {
        (from < to).then_some(Self { topic, from, to })
    }
}

/// The places of a segment's messages, grouped by topic and in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) runs: Vec<(TopicNumber, IndexRun)>,
    /// Offset and length of each message.
    pub(super) entries: Vec<(u32, u32)>,
}

impl Index {
    /// Adds messages of a topic, in order. Returns the runs they form.
    pub(super) fn add(
        &mut self,
        topic: TopicNumber,
        segment: u32,
        entries: &[IndexEntry],
    ) -> &[(TopicNumber, IndexRun)] {
        let before = self.runs.len();
        for entry in entries {
            let place = self.entries.len() as u32;
            self.entries.push((entry.offset, entry.length));
            match self.runs[before..].last_mut().filter(|(_, run)| run.end() == entry.position) {
                Some((_, run)) => {
                    run.count += 1;
                    run.bytes += entry.length;
                }
                None => {
                    let (first, bytes) = (entry.position, entry.length);
                    self.runs
                        .push((topic, IndexRun { first, segment, entry: place, count: 1, bytes }));
                }
            }
        }
        &self.runs[before..]
    }
}
