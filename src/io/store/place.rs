//! Where messages are: a record in a segment, many in a row of its index, and positions at which there is none.

use crate::service::topic::{Position, TopicNumber};

/// Where a record is: its segment, its offset there, and its length with the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Bytes of a record beyond which none is: more than a hundred times the largest message.
pub(super) const RECORD_BYTES_MAX: u32 = 256 * 1024 * 1024;

impl Address {
    /// Whether a record can be there; what is damaged may say anything.
    pub(super) fn is_sound(&self) -> bool {
        self.length <= RECORD_BYTES_MAX && self.offset.checked_add(self.length).is_some()
    }
}

/// Messages of a topic with positions in a row, in one segment that has an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexRun {
    pub(super) first: Position,
    pub(super) segment: u32,
    /// Where the first one stands in the index.
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
    /// The message of a position whose offset and length are these.
    pub(super) fn of((position, &(offset, length)): (Position, &(u32, u32))) -> Self {
        Self { position, offset, length }
    }

    /// Where it is, in its segment.
    pub(super) fn at(&self, segment: u32) -> Address {
        Address { segment, offset: self.offset, length: self.length }
    }
}

impl IndexRun {
    /// The position behind the last one.
    pub(super) fn end(&self) -> Position {
        Position::of_number(self.first.number().saturating_add(self.count.into()))
    }

    /// Takes away what is below a position. Returns how many bytes that were, by the average.
    pub(super) fn advance(&mut self, below: Position) -> u32 {
        let gone = below.number().saturating_sub(self.first.number()).min(self.count.into()) as u32;
        let bytes = self.share(gone);
        self.first = Position::of_number(self.first.number() + u64::from(gone));
        self.entry += gone;
        self.count -= gone;
        self.bytes -= bytes;
        bytes
    }

    /// Takes away what is at a position and behind it, likewise.
    pub(super) fn cut(&mut self, from: Position) -> u32 {
        let kept = from.number().saturating_sub(self.first.number()).min(self.count.into()) as u32;
        let bytes = self.share(self.count - kept);
        self.count = kept;
        self.bytes -= bytes;
        bytes
    }

    /// What is before one of its positions and what is behind it, and how many bytes that one takes, by the average.
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

/// Messages in a row, as they can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// These of an index.
    Indexed(IndexRun),
    /// These of the newest segment.
    Newest(Vec<IndexEntry>),
}

/// Positions of a topic between two of its messages, where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexGap {
    pub(super) topic: TopicNumber,
    pub(super) from: Position,
    pub(super) to: Position,
}

impl IndexGap {
    /// Those from one position up to another, if there are some.
    pub(super) fn between(topic: TopicNumber, from: Position, to: Position) -> Option<Self> {
        (from < to).then_some(Self { topic, from, to })
    }
}

/// Where the messages of a segment are: grouped by topic, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) runs: Vec<(TopicNumber, IndexRun)>,
    /// Offset and length of each.
    pub(super) entries: Vec<(u32, u32)>,
}

impl Index {
    /// Adds messages of a topic, which are in order. Returns the runs that they are.
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
