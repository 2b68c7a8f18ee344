//! Records of the log: their layout, their checks, and finding them after damage.
//!
//! ```text
//! header   length of the body u32 · check of the header u32 · check of the body u64
//! body     kind u8 · fields
//! padding  zeros up to a multiple of 8
//! ```
//! Numbers are little-endian; a text is its length (u16) and its bytes. Both checks are xxh3 seeded
//! with the segment's number, the header's also with the offset, so that remains of an earlier
//! segment in a reused file never pass for records. A text or list at the end of a body extends to
//! its end.

use super::place::{Address, IndexRun};
use crate::bytes::Cursor;
use crate::service::topic::{Position, TopicNumber};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Length of a record's header.
pub(super) const HEADER_BYTES: usize = 16;
/// Records start at multiples of this, so that the search after damage tries an eighth of the
/// offsets.
const ALIGNMENT: usize = 8;
/// Spreads segment numbers and offsets over the bits of a seed.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Kinds of bodies with a message: without and with a time in the index of delayed messages, and
/// likewise for copies from older segments.
const MESSAGE: u8 = 1;
const DELAYED: u8 = 2;
const MOVED: u8 = 3;
const MOVED_DELAYED: u8 = 4;

/// Defines the records other than messages, each with its kind and its fields in the order of its
/// body.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident = $kind:literal { $($field:ident: $type:ty),* })*) => {
        /// One record. Those about a topic contain its number.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) enum Record<'a> {
            /// A message. One at the position of another replaces that and all after it.
            Message {
                topic: TopicNumber,
                position: Position,
                /// Its time in the index of delayed messages (unix, ms).
                deliver_ms: Option<u64>,
                /// Whether it was copied from an older segment.
                is_moved: bool,
                record: &'a [u8],
            },
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        impl<'a> Record<'a> {
            /// Appends the body.
            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    Self::Message { topic, position, deliver_ms, is_moved, record } => {
                        put_message(*topic, *position, *deliver_ms, *is_moved, record, out);
                    }
                    $(Self::$name { $($field),* } => {
                        out.push($kind);
                        $($field.put(out);)*
                    })*
                }
            }

            /// Parses a body; `None` when it is not of this format.
            pub(super) fn read(body: &'a [u8]) -> Option<Self> {
                let (kind, rest) = body.split_first()?;
                let mut rest = Cursor(rest);
                match *kind {
                    MESSAGE..=MOVED_DELAYED => read_message(*kind, rest),
                    $($kind => Some(Self::$name { $($field: Field::read(&mut rest)?),* }),)*
                    _ => None,
                }
            }
        }
    };
}

records! {
    /// A topic and its state; empty for none.
    Topic = 5 { topic: TopicNumber, name: &'a str, state: &'a [u8] }
    /// A topic was deleted.
    NoTopic = 6 { topic: TopicNumber }
    /// A subscription and its state.
    Subscription = 7 { topic: TopicNumber, name: &'a str, state: &'a [u8] }
    /// A subscription was deleted.
    NoSubscription = 8 { topic: TopicNumber, name: &'a str }
    /// The last sequence number of a producer.
    Sequence = 9 { topic: TopicNumber, name: &'a str, last: i64 }
    /// A producer's sequence number was forgotten.
    NoSequence = 10 { topic: TopicNumber, name: &'a str }
    /// Messages before a position were deleted.
    Trimmed = 11 { topic: TopicNumber, below: Position }
    /// Delayed messages before a time and position were removed from the index.
    TrimmedDelayed = 12 { topic: TopicNumber, below: (u64, Position) }
    /// The places of a topic's messages in the segments before the last two checkpoints.
    Runs = 13 { topic: TopicNumber, runs: Vec<IndexRun> }
    /// Delayed messages of a topic, likewise; the first list of a checkpoint replaces everything up
    /// to its own last entry.
    Delays = 14 { topic: TopicNumber, is_first: bool, delays: Vec<(u64, Position, Address)> }
    /// The start of a segment: the number of times the store was opened, the segment from which to
    /// read the log, and the end of the previous segment.
    Start = 15 { ledger: u32, from: u32, ends_at: u32 }
    /// A segment is no longer needed.
    Dropped = 16 { segment: u32 }
    /// The end of a segment.
    Sealed = 17 {}
    /// The number of the next topic, and the existing older segments with their lengths.
    Counts = 18 { next: TopicNumber, segments: Vec<(u32, u32)> }
    /// A complete checkpoint, which began in segment `began`. The log is read from `from` on, so
    /// that the previous checkpoint is read too: what a damaged record of one lacks, the other has.
    Checkpoint = 19 { from: u32, began: u32 }
    /// Bytes without meaning.
    Padding = 20 { zeros: &'a [u8] }
}

/// A part of a body.
trait Field<'a>: Sized {
    fn put(&self, out: &mut Vec<u8>);

    /// Parses it; `None` when it is cut off or invalid.
    fn read(rest: &mut Cursor<'a>) -> Option<Self>;
}

/// Implements fields stored as an unsigned integer.
macro_rules! numbers {
    ($($type:ty = $read:ident, |$it:ident| $put:expr, |$number:ident| $of:expr;)*) => {
        $(impl Field<'_> for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let $it = self;
                out.extend_from_slice(&$put.to_le_bytes());
            }

            fn read(rest: &mut Cursor<'_>) -> Option<Self> {
                let $number = rest.$read()?;
                Some($of)
            }
        })*
    };
}

numbers! {
    bool = byte, |it| u8::from(*it), |number| number != 0;
    u32 = u32_le, |it| it, |number| number;
    u64 = u64_le, |it| it, |number| number;
    i64 = u64_le, |it| it, |number| number.cast_signed();
    Position = u64_le, |it| it.number(), |number| Self::of_number(number);
}

impl<'a> Field<'a> for &'a str {
    fn put(&self, out: &mut Vec<u8>) {
        // Names come from addresses of at most a few thousand bytes.
        out.extend_from_slice(&(self.len() as u16).to_le_bytes());
        out.extend_from_slice(self.as_bytes());
    }

    fn read(rest: &mut Cursor<'a>) -> Option<Self> {
        let length = rest.u16_le()?;
        rest.text(length.into())
    }
}

/// Extends to the end.
impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(rest: &mut Cursor<'a>) -> Option<Self> {
        rest.take(rest.0.len())
    }
}

/// As many elements as there are up to the end.
impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|one| one.put(out));
    }

    fn read(rest: &mut Cursor<'a>) -> Option<Self> {
        let mut all = Self::new();
        while !rest.0.is_empty() {
            all.push(T::read(rest)?);
        }
        Some(all)
    }
}

impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn read(rest: &mut Cursor<'a>) -> Option<Self> {
        Some((A::read(rest)?, B::read(rest)?))
    }
}

impl Field<'_> for (u64, Position, Address) {
    fn put(&self, out: &mut Vec<u8>) {
        let (deliver_ms, position, Address { segment, offset, length }) = self;
        (*deliver_ms, *position).put(out);
        [segment, offset, length].into_iter().for_each(|number| number.put(out));
    }

    fn read(rest: &mut Cursor<'_>) -> Option<Self> {
        let (deliver_ms, position) = Field::read(rest)?;
        let (segment, offset, length) = (rest.u32_le()?, rest.u32_le()?, rest.u32_le()?);
        Some((deliver_ms, position, Address { segment, offset, length }))
    }
}

impl Field<'_> for IndexRun {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { first, segment, entry, count, bytes } = self;
        first.put(out);
        [segment, entry, count, bytes].into_iter().for_each(|number| number.put(out));
    }

    fn read(rest: &mut Cursor<'_>) -> Option<Self> {
        let (first, segment) = Field::read(rest)?;
        let (entry, count, bytes) = (rest.u32_le()?, rest.u32_le()?, rest.u32_le()?);
        let run = Self { first, segment, entry, count, bytes };
        // A run beyond the last position is invalid.
        run.first.number().checked_add(count.into()).filter(|_| count > 0)?;
        Some(run)
    }
}

fn put_message(
    topic: TopicNumber,
    position: Position,
    deliver_ms: Option<u64>,
    is_moved: bool,
    record: &[u8],
    out: &mut Vec<u8>,
) {
    out.push(match (is_moved, deliver_ms) {
        (false, None) => MESSAGE,
        (false, Some(_)) => DELAYED,
        (true, None) => MOVED,
        (true, Some(_)) => MOVED_DELAYED,
    });
    (topic, position).put(out);
    if let Some(deliver_ms) = deliver_ms {
        deliver_ms.put(out);
    }
    out.extend_from_slice(record);
}

fn read_message(kind: u8, mut rest: Cursor<'_>) -> Option<Record<'_>> {
    let (topic, position) = Field::read(&mut rest)?;
    let is_delayed = matches!(kind, DELAYED | MOVED_DELAYED);
    let deliver_ms = if is_delayed { Some(rest.u64_le()?) } else { None };
    let is_moved = matches!(kind, MOVED | MOVED_DELAYED);
    Some(Record::Message { topic, position, deliver_ms, is_moved, record: rest.0 })
}

/// The seed of both checks.
fn seed(segment: u32, offset: usize) -> u64 {
    (u64::from(segment) << 32 | offset as u64).wrapping_mul(SPREAD)
}

fn header_check(length: [u8; 4], segment: u32, offset: usize) -> [u8; 4] {
    (xxh3_64_with_seed(&length, seed(segment, offset)) as u32).to_le_bytes()
}

/// Length of a record with a body of `body_bytes`, including the padding.
pub(super) const fn room(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Appends a record for this place in the log, with the body that `write` appends. Returns its
/// length without the padding.
pub(super) fn put(
    segment: u32,
    offset: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let body = start + HEADER_BYTES;
    let length = ((out.len() - body) as u32).to_le_bytes();
    let check = xxh3_64_with_seed(&out[body..], seed(segment, 0)).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&header_check(length, segment, offset));
    out[start + 8..body].copy_from_slice(&check);
    let taken = out.len() - start;
    out.resize(start + taken.next_multiple_of(ALIGNMENT), 0);
    taken
}

/// The body of the record at the start of `bytes`; `None` when it is damaged.
pub(super) fn body(bytes: &[u8], segment: u32, offset: usize) -> Option<&[u8]> {
    let length = length(bytes, segment, offset)?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let check = u64::from_le_bytes(bytes[8..HEADER_BYTES].try_into().ok()?);
    (xxh3_64_with_seed(body, seed(segment, 0)) == check).then_some(body)
}

/// The length of the body, if the header is valid for this place.
fn length(bytes: &[u8], segment: u32, offset: usize) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length: [u8; 4] = header[..4].try_into().ok()?;
    (header[4..8] == header_check(length, segment, offset))
        .then_some(u32::from_le_bytes(length) as usize)
}

/// A body read and written again; `None` when it is invalid. For fuzz targets, which cannot see
/// records.
#[must_use]
pub fn rewritten(body: &[u8]) -> Option<Vec<u8>> {
    let record = Record::read(body)?;
    let mut again = Vec::new();
    record.write(&mut again);
    assert_eq!(Record::read(&again).as_ref(), Some(&record), "what is written is read");
    Some(again)
}

/// A segment of records with these bodies. For fuzz targets.
#[must_use]
pub fn segment_of(bodies: &[&[u8]], segment: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for body in bodies {
        let offset = bytes.len();
        put(segment, offset, &mut bytes, |out| out.extend_from_slice(body));
    }
    bytes
}

/// The bodies of the records that a scan finds in a segment, with their offsets. For fuzz targets.
#[must_use]
pub fn bodies(bytes: &[u8], segment: u32) -> Vec<(usize, &[u8])> {
    let found = RecordScan::new(bytes, segment, 0);
    found
        .filter_map(|found| match found {
            FoundRecord::Record { body, offset, .. } => Some((offset, body)),
            FoundRecord::Damage { .. } | FoundRecord::End { .. } => None,
        })
        .collect()
}

/// An item of a scan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundRecord<'a> {
    /// A record's body, and its length with the header.
    Record { body: &'a [u8], offset: usize, length: usize },
    /// A damaged range, after which there are records again.
    Damage { from: usize, to: usize },
    /// The end of the last record, and the bytes of an unfinished one after it.
    End { offset: usize, cut_bytes: usize },
}

/// An iterator over the records of a segment, in order.
pub(super) struct RecordScan<'a> {
    bytes: &'a [u8],
    segment: u32,
    next: usize,
    is_over: bool,
}

impl<'a> RecordScan<'a> {
    /// Scans the bytes of a segment, starting at an offset.
    pub(super) fn new(bytes: &'a [u8], segment: u32, from: usize) -> Self {
        Self { bytes, segment, next: from, is_over: false }
    }

    fn at(&self, offset: usize) -> Option<&'a [u8]> {
        body(self.bytes.get(offset..)?, self.segment, offset)
    }

    /// The next offset after damage at which there is a record.
    fn resume(&self) -> Option<usize> {
        let from = self.next + ALIGNMENT;
        (from..self.bytes.len()).step_by(ALIGNMENT).find(|offset| self.at(*offset).is_some())
    }
}

impl<'a> Iterator for RecordScan<'a> {
    type Item = FoundRecord<'a>;

    fn next(&mut self) -> Option<FoundRecord<'a>> {
        if self.is_over {
            return None;
        }
        let offset = self.next;
        if let Some(body) = self.at(offset) {
            self.next = offset + room(body.len());
            return Some(FoundRecord::Record { body, offset, length: HEADER_BYTES + body.len() });
        }
        if let Some(to) = self.resume() {
            self.next = to;
            return Some(FoundRecord::Damage { from: offset, to });
        }
        self.is_over = true;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let cut_bytes =
            length(rest, self.segment, offset).map_or(0, |length| room(length).min(rest.len()));
        Some(FoundRecord::End { offset, cut_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Record<'static>> {
        let run =
            IndexRun { first: Position::of_number(7), segment: 3, entry: 9, count: 2, bytes: 100 };
        let at = Address { segment: 3, offset: 64, length: 50 };
        let position = Position::new(2, 5).unwrap();
        let message = |deliver_ms, is_moved| Record::Message {
            topic: 1,
            position,
            deliver_ms,
            is_moved,
            record: b"what a producer has sent",
        };
        vec![
            message(None, false),
            message(Some(17), false),
            message(None, true),
            message(Some(17), true),
            Record::Topic { topic: 1, name: "persistent://a/b/c", state: b"state" },
            Record::NoTopic { topic: 1 },
            Record::Subscription { topic: 1, name: "s", state: b"" },
            Record::NoSubscription { topic: 1, name: "s" },
            Record::Sequence { topic: 1, name: "p", last: -7 },
            Record::NoSequence { topic: 1, name: "p" },
            Record::Trimmed { topic: 1, below: position },
            Record::TrimmedDelayed { topic: 1, below: (9, position) },
            Record::Runs { topic: 1, runs: vec![run, run] },
            Record::Delays { topic: 1, is_first: true, delays: vec![(5, position, at)] },
            Record::Start { ledger: 4, from: 2, ends_at: 640 },
            Record::Dropped { segment: 9 },
            Record::Sealed {},
            Record::Counts { next: 3, segments: vec![(1, 2), (3, 4)] },
            Record::Checkpoint { from: 5, began: 7 },
            Record::Padding { zeros: &[0; 100] },
        ]
    }

    fn log(segment: u32) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        for record in all() {
            offsets.push(bytes.len());
            let offset = bytes.len();
            put(segment, offset, &mut bytes, |out| record.write(out));
        }
        (bytes, offsets)
    }

    fn records(bytes: &[u8], segment: u32) -> Vec<Record<'_>> {
        let scan = RecordScan::new(bytes, segment, 0);
        scan.filter_map(|found| match found {
            FoundRecord::Record { body, .. } => Record::read(body),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn every_record_comes_back_and_in_another_segment_there_is_none() {
        let (bytes, offsets) = log(6);
        assert_eq!(records(&bytes, 6), all());
        assert_eq!(records(&bytes, 7), []);
        let end = RecordScan::new(&bytes, 6, 0).last();
        assert_eq!(end, Some(FoundRecord::End { offset: bytes.len(), cut_bytes: 0 }));
        assert!(offsets.iter().all(|offset| offset % ALIGNMENT == 0));
    }

    #[test]
    fn a_damaged_record_costs_itself_alone_wherever_it_is_damaged() {
        let (bytes, offsets) = log(6);
        for at in 0..*offsets.last().unwrap() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let found = records(&damaged, 6);
            let hit = offsets.partition_point(|offset| *offset <= at) - 1;
            let mut expected = all();
            // Padding may be anything.
            if found.len() < expected.len() {
                expected.remove(hit);
                let damage = RecordScan::new(&damaged, 6, 0)
                    .find(|found| matches!(found, FoundRecord::Damage { .. }))
                    .unwrap();
                assert_eq!(
                    damage,
                    FoundRecord::Damage { from: offsets[hit], to: offsets[hit + 1] },
                    "at {at}"
                );
            }
            assert_eq!(found, expected, "at {at}");
        }
    }

    #[test]
    fn an_unfinished_record_ends_the_log() {
        let (bytes, offsets) = log(6);
        let last = *offsets.last().unwrap();
        for end in last..bytes.len() - ALIGNMENT {
            let found = RecordScan::new(&bytes[..end], 6, 0).last().unwrap();
            let FoundRecord::End { offset, cut_bytes } = found else { panic!("{found:?}") };
            assert_eq!(offset, last);
            assert_eq!(cut_bytes > 0, end >= last + HEADER_BYTES, "{end}");
        }
    }

    #[test]
    fn no_body_that_is_cut_short_is_taken_for_a_whole_one_or_ends_the_program() {
        for record in all() {
            let mut body = Vec::new();
            record.write(&mut body);
            for end in 0..body.len() {
                if let Some(shorter) = Record::read(&body[..end]) {
                    assert_ne!(shorter, record);
                }
            }
        }
    }
}
