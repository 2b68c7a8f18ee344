//! Records as bytes: the kind, the length of the JSON and the JSON, the number of blobs, and of each
//! blob the length and the bytes. Lengths are `u64` with the lowest byte first, and kind and number
//! are a byte. A reader takes the blobs that it knows of and skips the others; one that is missing
//! is empty.
//!
//! In front stand [`MAGIC`], the version as a `u32` and the header, as a record.

use super::record::{FrozenConnection, HandoverHeader, HandoverRecord};
use super::{FORMAT, OLDEST};
use crate::bytes::Cursor;
use crate::dialect::Kind;
use crate::feed::FrozenPublisher;
use crate::frame::Publication;
use crate::json::RawValue;
use crate::service::presence::FrozenPresence;
use crate::service::verification::FrozenToken;
use crate::wheel::Now;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The first bytes of a state.
const MAGIC: &[u8; 8] = b"fanfare\0";

/// The kinds of records.
const HEADER: u8 = 0;
const END: u8 = 1;
const CONNECTION: u8 = 2;
const SHARED: u8 = 3;
const PRESENCE: u8 = 4;
const RETAINED: u8 = 5;
const TOKEN: u8 = 6;
const WEBHOOK: u8 = 7;
const TOPICS: u8 = 8;
const PUBLISHER: u8 = 16;

/// Why bytes are no state that can be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// Other bytes.
    #[error("it is no state of fanfare")]
    Foreign,
    /// A version that this release does not read.
    #[error("it has format {0}, and this release reads {OLDEST} to {FORMAT}")]
    Format(u32),
    /// It ends within a record.
    #[error("it is cut off")]
    CutOff,
    /// A record does not have the form of its kind.
    #[error("a record of kind {0} is malformed")]
    Malformed(u8),
}

/// Appends the beginning of a state.
pub fn begin(header: &HandoverHeader, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    put(HEADER, header, &[], out);
}

/// Appends the end of a state.
pub fn end(out: &mut Vec<u8>) {
    put(END, &(), &[], out);
}

/// Appends a record.
pub fn write(record: &HandoverRecord, out: &mut Vec<u8>) {
    match record {
        HandoverRecord::Connection(connection) => {
            let inbox = connection.inbox.as_ref();
            let (pending, message) =
                inbox.map_or(Default::default(), |inbox| (&inbox.pending[..], &inbox.message[..]));
            let blobs =
                [&connection.unread, &connection.session.unsent.bytes[..], pending, message];
            put(CONNECTION, connection, &blobs, out);
        }
        HandoverRecord::Shared(shard, kind, state) => {
            put(SHARED, &(shard, kind.name(), state), &[], out);
        }
        HandoverRecord::Presence(kind, channel) => {
            put(PRESENCE, &(kind.name(), channel), &[], out);
        }
        HandoverRecord::Retained(publication) => {
            let mut encoded = Vec::with_capacity(publication.encoded_bytes());
            publication.encode(&mut encoded);
            let Now { monotonic_ns, unix_ms } = publication.accepted;
            put(RETAINED, &(monotonic_ns, unix_ms), &[&encoded], out);
        }
        HandoverRecord::Token(kind, token) => put(TOKEN, &(kind.name(), token), &[], out),
        HandoverRecord::Webhook(webhook) => put(WEBHOOK, webhook, &[], out),
        HandoverRecord::Topics(topics) => put(TOPICS, topics, &[], out),
        HandoverRecord::Publisher(publisher) => {
            put(PUBLISHER, publisher, &[&publisher.unread, &publisher.replies], out);
        }
        HandoverRecord::Unknown(_) => {}
        HandoverRecord::End => end(out),
    }
}

/// Reads the beginning of a state. Returns the header, and the bytes behind it, which [`read`]
/// takes.
///
/// # Errors
/// When the bytes are no state that this release can read.
pub fn open(state: &[u8]) -> Result<(HandoverHeader, &[u8]), BadState> {
    let rest = state.strip_prefix(MAGIC).ok_or(BadState::Foreign)?;
    let mut cursor = Cursor(rest);
    let format = cursor.u32_le().ok_or(BadState::CutOff)?;
    if !(OLDEST..=FORMAT).contains(&format) {
        return Err(BadState::Format(format));
    }
    let (record, rest) = RawRecord::read(cursor.0)?;
    if record.kind != HEADER {
        return Err(BadState::Malformed(record.kind));
    }
    Ok((record.json()?, rest))
}

/// Reads a record from the front. Returns the bytes behind it too.
///
/// # Errors
/// When the bytes are cut off, or do not have the form of their kind.
pub fn read(bytes: &[u8]) -> Result<(HandoverRecord, &[u8]), BadState> {
    let (record, rest) = RawRecord::read(bytes)?;
    let [first, second, third, fourth] = record.blobs;
    let known = match record.kind {
        END => HandoverRecord::End,
        CONNECTION => {
            let mut connection: Box<FrozenConnection> = record.json()?;
            connection.unread = first.into();
            connection.session.unsent.bytes = second.into();
            if let Some(inbox) = &mut connection.inbox {
                (inbox.pending, inbox.message) = (third.into(), fourth.into());
            }
            HandoverRecord::Connection(connection)
        }
        SHARED => {
            let (shard, name, state): (u16, String, Box<RawValue>) = record.json()?;
            of_dialect(&record, &name, |kind| HandoverRecord::Shared(shard, kind, state))
        }
        PRESENCE => {
            let (name, channel): (String, FrozenPresence) = record.json()?;
            of_dialect(&record, &name, |kind| HandoverRecord::Presence(kind, channel))
        }
        RETAINED => {
            let (monotonic_ns, unix_ms) = record.json()?;
            let publication = Publication::decode(first, Now { monotonic_ns, unix_ms });
            HandoverRecord::Retained(Arc::new(publication.ok_or(BadState::Malformed(RETAINED))?))
        }
        TOKEN => {
            let (name, token): (String, Box<FrozenToken>) = record.json()?;
            of_dialect(&record, &name, |kind| HandoverRecord::Token(kind, token))
        }
        WEBHOOK => HandoverRecord::Webhook(record.json()?),
        TOPICS => HandoverRecord::Topics(record.json()?),
        PUBLISHER => {
            let publisher: FrozenPublisher = record.json()?;
            let (unread, replies) = (first.into(), second.into());
            HandoverRecord::Publisher(Box::new(FrozenPublisher { unread, replies, ..publisher }))
        }
        kind => HandoverRecord::Unknown(kind),
    };
    Ok((known, rest))
}

/// A record of a dialect; an unknown one when this release has no such dialect.
fn of_dialect(
    record: &RawRecord<'_>,
    name: &str,
    known: impl FnOnce(Kind) -> HandoverRecord,
) -> HandoverRecord {
    Kind::named(name).map_or(HandoverRecord::Unknown(record.kind), known)
}

/// The blobs of a record that are read.
const BLOBS: usize = 4;

/// The parts of a record.
struct RawRecord<'a> {
    kind: u8,
    json: &'a [u8],
    blobs: [&'a [u8]; BLOBS],
}

impl<'a> RawRecord<'a> {
    fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BadState> {
        let mut cursor = Cursor(bytes);
        Self::parts(&mut cursor).map(|record| (record, cursor.0)).ok_or(BadState::CutOff)
    }

    fn parts(cursor: &mut Cursor<'a>) -> Option<Self> {
        let kind = cursor.byte()?;
        let json = sized(cursor)?;
        let mut blobs = [&[][..]; BLOBS];
        for place in 0..usize::from(cursor.byte()?) {
            let bytes = sized(cursor)?;
            if let Some(blob) = blobs.get_mut(place) {
                *blob = bytes;
            }
        }
        Some(Self { kind, json, blobs })
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, BadState> {
        serde_json::from_slice(self.json).map_err(|_| BadState::Malformed(self.kind))
    }
}

/// The next bytes behind their length.
fn sized<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.u64_le()?;
    cursor.take(usize::try_from(length).ok()?)
}

fn put(kind: u8, value: &impl Serialize, blobs: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    serde_json::to_writer(&mut *out, value)
        .expect("records are structs of plain values, and memory takes any bytes");
    let length = (out.len() - start - 8) as u64;
    out[start..start + 8].copy_from_slice(&length.to_le_bytes());

    // A handful of blobs at most.
    out.push(blobs.len() as u8);
    for blob in blobs {
        out.extend_from_slice(&(blob.len() as u64).to_le_bytes());
        out.extend_from_slice(blob);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::{FrozenPhase, FrozenSession};
    use crate::message::{Interest, MessageInbox};
    use crate::service::ConnectionRef;
    use crate::wheel::NEVER;
    use proptest::prelude::*;

    fn header() -> HandoverHeader {
        HandoverHeader { release: "0.1.0".into(), boot_id: "this".into(), shards: 4 }
    }

    /// A connection with an incomplete message and everything else that there may be.
    fn connection(unread: &[u8]) -> HandoverRecord {
        let mut inbox: Option<Box<MessageInbox>> = None;
        let mut half = *b"\x01\x83\0\0\0\0abc\x80";
        let read = crate::message::read(&mut inbox, &mut half, Interest::Messages(9), |_| {
            unreachable!("it is half a message")
        });
        read.unwrap();
        HandoverRecord::Connection(Box::new(FrozenConnection {
            fd: 7,
            listener: ([127, 0, 0, 1], 80).into(),
            remote: Some(([192, 0, 2, 1], 4711).into()).map(|at: core::net::SocketAddr| at.into()),
            is_told: true,
            inbox: inbox.and_then(|inbox| inbox.freeze()),
            session: FrozenSession {
                old: ConnectionRef { shard: 1, id: 2, serial: 3 },
                phase: FrozenPhase::Idle,
                dialect: None,
                since: 1,
                deadline: 2,
                ping_at: NEVER,
                ping_interval: 3,
                misses: 4,
                misses_max: 5,
                bytes_out: 6,
                attempt: 8,
                topics_owner: Some(9),
                unsent: Default::default(),
            },
            unread: unread.into(),
        }))
    }

    fn state(records: &[HandoverRecord]) -> Vec<u8> {
        let mut state = Vec::new();
        begin(&header(), &mut state);
        records.iter().for_each(|record| write(record, &mut state));
        end(&mut state);
        state
    }

    /// The records of a state, the last one included, as their `Debug` tells.
    fn records(state: &[u8]) -> Result<Vec<String>, BadState> {
        let (_, mut rest) = open(state)?;
        let mut found = Vec::new();
        loop {
            let (record, behind) = read(rest)?;
            rest = behind;
            found.push(format!("{record:?}"));
            if matches!(record, HandoverRecord::End) {
                return Ok(found);
            }
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_not_when_it_is_cut_off() {
        let topics = HandoverRecord::Topics(Box::default());
        let written = [connection(b"unread"), connection(b""), topics];
        let whole = state(&written);
        assert_eq!(open(&whole).unwrap().0, header());
        let expected: Vec<String> = written.iter().map(|record| format!("{record:?}")).collect();
        assert_eq!(records(&whole).unwrap(), [&expected[..], &["End".to_owned()]].concat());
        for length in 0..whole.len() {
            let error = records(&whole[..length]).unwrap_err();
            let expected = if length < MAGIC.len() { BadState::Foreign } else { BadState::CutOff };
            assert_eq!(error, expected, "{length}");
        }
    }

    #[test]
    fn only_the_formats_of_the_window_are_read() {
        for (format, is_read) in [(OLDEST - 1, false), (OLDEST, true), (FORMAT + 1, false)] {
            let mut state = state(&[]);
            state[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&format.to_le_bytes());
            let expected =
                if is_read { Ok(vec!["End".to_owned()]) } else { Err(BadState::Format(format)) };
            assert_eq!(records(&state), expected);
        }
    }

    #[test]
    fn what_a_later_release_adds_is_skipped_and_what_is_missing_has_a_value() {
        let mut with_more = Vec::new();
        begin(&header(), &mut with_more);
        put(200, &serde_json::json!({"what": "ever"}), &[b"", b"blob"], &mut with_more);
        put(
            PRESENCE,
            &("no dialect", serde_json::json!({"app": "1", "channel": "a"})),
            &[],
            &mut with_more,
        );
        let least = serde_json::json!({
            "fd": 1, "listener": "[::1]:80", "later": true,
            "session": {"old": {"shard": 0, "id": 0, "serial": 1}, "phase": "New"},
        });
        let blobs: [&[u8]; 6] = [b"unread", b"", b"", b"", b"fifth", b"sixth"];
        put(CONNECTION, &least, &blobs, &mut with_more);
        end(&mut with_more);

        let (_, rest) = open(&with_more).unwrap();
        let (unknown, rest) = read(rest).unwrap();
        assert!(matches!(unknown, HandoverRecord::Unknown(200)));
        let (unknown, rest) = read(rest).unwrap();
        assert!(matches!(unknown, HandoverRecord::Unknown(PRESENCE)));
        let (HandoverRecord::Connection(connection), _) = read(rest).unwrap() else { panic!() };
        let FrozenSession { deadline, ping_at, attempt, .. } = connection.session;
        assert_eq!((deadline, ping_at, attempt), (NEVER, NEVER, 0));
        assert_eq!((connection.unread, connection.is_told), (b"unread".to_vec(), false));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_a_process_down(
            bytes: Vec<u8>,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut damaged = state(&[connection(b"unread")]);
            for (place, byte) in changes {
                let place = place.index(damaged.len());
                damaged[place] = byte;
            }
            let framed = [&state(&[])[..MAGIC.len() + 4], &bytes].concat();
            for state in [&bytes, &damaged, &framed] {
                let _ = records(state);
            }
        }
    }
}
