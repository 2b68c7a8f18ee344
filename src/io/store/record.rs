//! Records of the log: how they are laid out, checked, and found again behind damage.
//!
//! ```text
//! header   length of the body u32 · check of the header u32 · check of the body u64
//! body     kind u8 · fields
//! padding  zeros up to a multiple of 8
//! ```
//! Numbers are little-endian; a text is its length (u16) and its bytes. Both checks are xxh3 seeded with the segment's
//! number, that of the header also with its offset, so nothing that an earlier segment has left in a file that is used
//! again passes for a record. A text or a list at the end of a body takes all that is left.

use super::place::{Address, IndexRun};
use crate::bytes::Cursor;
use crate::service::topic::{Position, TopicNumber};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before a body.
pub(super) const HEADER_BYTES: usize = 16;
/// Records begin at multiples of it, so that the search for one behind damage has an eighth of the places to try.
const ALIGNMENT: usize = 8;
/// Spreads the numbers of segments and offsets over the bits of a seed.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

const MESSAGE: u8 = 1;
const DELAYED: u8 = 2;
const MOVED: u8 = 3;
const MOVED_DELAYED: u8 = 4;
const TOPIC: u8 = 5;
const NO_TOPIC: u8 = 6;
const SUBSCRIPTION: u8 = 7;
const NO_SUBSCRIPTION: u8 = 8;
const SEQUENCE: u8 = 9;
const NO_SEQUENCE: u8 = 10;
const TRIMMED: u8 = 11;
const TRIMMED_DELAYED: u8 = 12;
const RUNS: u8 = 13;
const DELAYS: u8 = 14;
const START: u8 = 15;
const DROPPED: u8 = 16;
const SEALED: u8 = 17;
const COUNTS: u8 = 18;
const CHECKPOINT: u8 = 19;
const PADDING: u8 = 20;

/// One record. Those of a topic name it by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A message. One that has a position at which there is another takes the place of that and of all behind it.
    Message {
        topic: TopicNumber,
        position: Position,
        /// Its time in the index of delayed messages (unix, ms).
        deliver_ms: Option<u64>,
        /// Whether it was copied from an older segment.
        is_moved: bool,
        record: &'a [u8],
    },
    /// A topic and its state; empty for none.
    Topic {
        topic: TopicNumber,
        name: &'a str,
        state: &'a [u8],
    },
    /// A topic was deleted.
    NoTopic {
        topic: TopicNumber,
    },
    Subscription {
        topic: TopicNumber,
        name: &'a str,
        state: &'a [u8],
    },
    NoSubscription {
        topic: TopicNumber,
        name: &'a str,
    },
    /// The last sequence number of a producer.
    Sequence {
        topic: TopicNumber,
        name: &'a str,
        last: i64,
    },
    NoSequence {
        topic: TopicNumber,
        name: &'a str,
    },
    /// Messages below a position were deleted.
    Trimmed {
        topic: TopicNumber,
        below: Position,
    },
    /// Delayed messages below a time and position were taken out of the index.
    TrimmedDelayed {
        topic: TopicNumber,
        below: (u64, Position),
    },
    /// Where the messages of a topic are in the segments before the last two checkpoints.
    Runs {
        topic: TopicNumber,
        runs: Vec<IndexRun>,
    },
    /// Delayed messages of a topic, likewise; the first list of a checkpoint replaces all up to its last.
    Delays {
        topic: TopicNumber,
        is_first: bool,
        delays: Vec<(u64, Position, Address)>,
    },
    /// The beginning of a segment: how often the store was opened, the segment from which on the log is to be read, and
    /// where the segment before ends.
    Start {
        ledger: u32,
        from: u32,
        ends_at: u32,
    },
    /// A segment is needed no more.
    Dropped {
        segment: u32,
    },
    /// The end of a segment.
    Sealed,
    /// The number of the next topic, and the older segments that there are with their lengths.
    Counts {
        next: TopicNumber,
        segments: Vec<(u32, u32)>,
    },
    /// A checkpoint is complete, which began in segment `began`. The log is to be read from `from` on, so that the
    /// checkpoint before is read too: what a damaged record of one has told, the other tells.
    Checkpoint {
        from: u32,
        began: u32,
    },
    /// So many bytes of nothing.
    Padding(usize),
}

/// The seed of both checks.
fn seed(segment: u32, offset: usize) -> u64 {
    (u64::from(segment) << 32 | offset as u64).wrapping_mul(SPREAD)
}

fn header_check(length: [u8; 4], segment: u32, offset: usize) -> [u8; 4] {
    (xxh3_64_with_seed(&length, seed(segment, offset)) as u32).to_le_bytes()
}

/// Bytes that a record with a body of so many takes.
pub(super) const fn room(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Appends a record whose body `write` appends, for this place in the log. Returns its length without the padding.
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

fn put_u32s(numbers: &[u32], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| put_u32(*number, out));
}

fn put_run(run: &IndexRun, out: &mut Vec<u8>) {
    put_u64(run.first.number(), out);
    put_u32s(&[run.segment, run.entry, run.count, run.bytes], out);
}

fn put_delay((deliver_ms, position, at): &(u64, Position, Address), out: &mut Vec<u8>) {
    put_u64(*deliver_ms, out);
    put_u64(position.number(), out);
    put_u32s(&[at.segment, at.offset, at.length], out);
}

impl<'a> Record<'a> {
    /// Appends the body.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message { topic, position, deliver_ms, is_moved, record } => {
                out.push(match (is_moved, deliver_ms) {
                    (false, None) => MESSAGE,
                    (false, Some(_)) => DELAYED,
                    (true, None) => MOVED,
                    (true, Some(_)) => MOVED_DELAYED,
                });
                put_u32(*topic, out);
                put_u64(position.number(), out);
                if let Some(deliver_ms) = deliver_ms {
                    put_u64(*deliver_ms, out);
                }
                out.extend_from_slice(record);
            }
            Self::Topic { topic, name, state } => put_named(TOPIC, *topic, name, state, out),
            Self::NoTopic { topic } => put_kind(NO_TOPIC, *topic, out),
            Self::Subscription { topic, name, state } => {
                put_named(SUBSCRIPTION, *topic, name, state, out);
            }
            Self::NoSubscription { topic, name } => {
                put_named(NO_SUBSCRIPTION, *topic, name, &[], out);
            }
            Self::Sequence { topic, name, last } => {
                put_named(SEQUENCE, *topic, name, &last.to_le_bytes(), out);
            }
            Self::NoSequence { topic, name } => put_named(NO_SEQUENCE, *topic, name, &[], out),
            Self::Trimmed { topic, below } => {
                put_kind(TRIMMED, *topic, out);
                put_u64(below.number(), out);
            }
            Self::TrimmedDelayed { topic, below } => {
                put_kind(TRIMMED_DELAYED, *topic, out);
                put_u64(below.0, out);
                put_u64(below.1.number(), out);
            }
            Self::Runs { topic, runs } => {
                put_kind(RUNS, *topic, out);
                runs.iter().for_each(|run| put_run(run, out));
            }
            Self::Delays { topic, is_first, delays } => {
                put_kind(DELAYS, *topic, out);
                out.push(u8::from(*is_first));
                delays.iter().for_each(|delay| put_delay(delay, out));
            }
            Self::Start { ledger, from, ends_at } => {
                put_kind(START, *ledger, out);
                put_u32s(&[*from, *ends_at], out);
            }
            Self::Dropped { segment } => put_kind(DROPPED, *segment, out),
            Self::Sealed => out.push(SEALED),
            Self::Counts { next, segments } => {
                put_kind(COUNTS, *next, out);
                for (number, length) in segments {
                    put_u32s(&[*number, *length], out);
                }
            }
            Self::Padding(bytes) => {
                out.push(PADDING);
                out.resize(out.len() + bytes, 0);
            }
            Self::Checkpoint { from, began } => {
                put_kind(CHECKPOINT, *from, out);
                put_u32(*began, out);
            }
        }
    }

    /// The record of a body; `None` when it is none of this format.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = body.split_first().map(|(kind, rest)| (*kind, Cursor(rest)))?;
        match kind {
            SEALED => return Some(Self::Sealed),
            PADDING => return Some(Self::Padding(rest.0.len())),
            _ => {}
        }
        // A topic's, or whatever number stands in its place.
        let topic = rest.u32_le()?;
        Some(match kind {
            MESSAGE | DELAYED | MOVED | MOVED_DELAYED => {
                let position = position(&mut rest)?;
                let is_delayed = matches!(kind, DELAYED | MOVED_DELAYED);
                let deliver_ms = if is_delayed { Some(rest.u64_le()?) } else { None };
                let is_moved = matches!(kind, MOVED | MOVED_DELAYED);
                Self::Message { topic, position, deliver_ms, is_moved, record: rest.0 }
            }
            TOPIC => Self::Topic { topic, name: name(&mut rest)?, state: rest.0 },
            NO_TOPIC => Self::NoTopic { topic },
            SUBSCRIPTION => Self::Subscription { topic, name: name(&mut rest)?, state: rest.0 },
            NO_SUBSCRIPTION => Self::NoSubscription { topic, name: name(&mut rest)? },
            SEQUENCE => {
                Self::Sequence { topic, name: name(&mut rest)?, last: rest.u64_le()?.cast_signed() }
            }
            NO_SEQUENCE => Self::NoSequence { topic, name: name(&mut rest)? },
            TRIMMED => Self::Trimmed { topic, below: position(&mut rest)? },
            TRIMMED_DELAYED => {
                Self::TrimmedDelayed { topic, below: (rest.u64_le()?, position(&mut rest)?) }
            }
            RUNS => Self::Runs { topic, runs: all(&mut rest, run)? },
            DELAYS => {
                let is_first = rest.take(1)?[0] != 0;
                Self::Delays { topic, is_first, delays: all(&mut rest, delay)? }
            }
            START => Self::Start { ledger: topic, from: rest.u32_le()?, ends_at: rest.u32_le()? },
            DROPPED => Self::Dropped { segment: topic },
            COUNTS => Self::Counts {
                next: topic,
                segments: all(&mut rest, |rest| Some((rest.u32_le()?, rest.u32_le()?)))?,
            },
            CHECKPOINT => Self::Checkpoint { from: topic, began: rest.u32_le()? },
            _ => return None,
        })
    }
}

fn put_u32(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_kind(kind: u8, number: u32, out: &mut Vec<u8>) {
    out.push(kind);
    put_u32(number, out);
}

fn put_named(kind: u8, topic: TopicNumber, name: &str, rest: &[u8], out: &mut Vec<u8>) {
    put_kind(kind, topic, out);
    // Names come from addresses of at most some thousand bytes.
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(rest);
}

fn position(rest: &mut Cursor<'_>) -> Option<Position> {
    rest.u64_le().map(Position::of_number)
}

fn name<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let length = rest.u16_le()?;
    rest.text(length.into())
}

fn run(rest: &mut Cursor<'_>) -> Option<IndexRun> {
    let first = position(rest)?;
    let (segment, entry, count, bytes) =
        (rest.u32_le()?, rest.u32_le()?, rest.u32_le()?, rest.u32_le()?);
    // One that would go on behind the last position is none.
    first.number().checked_add(count.into()).filter(|_| count > 0)?;
    Some(IndexRun { first, segment, entry, count, bytes })
}

fn delay(rest: &mut Cursor<'_>) -> Option<(u64, Position, Address)> {
    let (deliver_ms, position) = (rest.u64_le()?, position(rest)?);
    let at = Address { segment: rest.u32_le()?, offset: rest.u32_le()?, length: rest.u32_le()? };
    Some((deliver_ms, position, at))
}

/// As many as there are up to the end.
fn all<'a, T>(
    rest: &mut Cursor<'a>,
    mut one: impl FnMut(&mut Cursor<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        found.push(one(rest)?);
    }
    Some(found)
}

/// The body of the record of this length (without padding) that begins a piece of the log; `None` when it is damaged.
pub(super) fn body(bytes: &[u8], segment: u32, offset: usize) -> Option<&[u8]> {
    let length = length(bytes, segment, offset)?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let check = u64::from_le_bytes(bytes[8..HEADER_BYTES].try_into().ok()?);
    (xxh3_64_with_seed(body, seed(segment, 0)) == check).then_some(body)
}

/// The length of the body, if the header is one of this place.
fn length(bytes: &[u8], segment: u32, offset: usize) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length: [u8; 4] = header[..4].try_into().ok()?;
    (header[4..8] == header_check(length, segment, offset))
        .then_some(u32::from_le_bytes(length) as usize)
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundRecord<'a> {
    /// A record's body, and its length with the header.
    Record { body: &'a [u8], offset: usize, length: usize },
    /// From here to there something is damaged; behind it there are records.
    Damage { from: usize, to: usize },
    /// The last record ends here; so many bytes of an unfinished one follow.
    End { offset: usize, cut_bytes: usize },
}

/// The records of a segment, in order.
pub(super) struct RecordScan<'a> {
    bytes: &'a [u8],
    segment: u32,
    next: usize,
    is_over: bool,
}

impl<'a> RecordScan<'a> {
    /// Scans the bytes of a segment from an offset on.
    pub(super) fn new(bytes: &'a [u8], segment: u32, from: usize) -> Self {
        Self { bytes, segment, next: from, is_over: false }
    }

    fn at(&self, offset: usize) -> Option<&'a [u8]> {
        body(self.bytes.get(offset..)?, self.segment, offset)
    }

    /// The next place behind a damaged one at which there is a record.
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
            Record::Sealed,
            Record::Counts { next: 3, segments: vec![(1, 2), (3, 4)] },
            Record::Checkpoint { from: 5, began: 7 },
            Record::Padding(100),
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
