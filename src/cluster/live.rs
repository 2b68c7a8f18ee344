//! Packets of live events: finished publications on their way from one node to all others.
//!
//! The layout, with the lowest byte of a number first: the version, the kind of packet, the length
//! of the sender's name and the name, its incarnation (`u64`), the number of the first event in the
//! sender's count (`u64`), the number of events (`u32`), and for each event its stamp (`u64`; 0
//! unless it is retained), its length (`u32`) and the publication as [`Publication::encode`] writes
//! it.
//!
//! Events are counted by their sender, lost ones included, so that a receiver knows to the event
//! what it has missed.

use super::node::{NodeId, NodeName};
use crate::bytes::Cursor;
use crate::dialect::Kind;
use crate::frame::Publication;
use crate::wheel::Now;

/// The version of the layout, and of what dialects make of an event: forms and meta.
pub const VERSION: u8 = 1;
/// The kind of packet: live events. There is no other yet.
const LIVE: u8 = b'L';

/// Bytes of events at which a packet is sent: large enough that the engine's cost of a message is
/// spread over a thousand small events, and small enough that a receiver's turn is short. One
/// longer event goes alone.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an event besides the publication.
const EVENT_BYTES: usize = 8 + 4;
/// Bytes of a header besides the sender's name.
const HEADER_BYTES: usize = 3 + 8 + 8 + 4;
/// Most bytes that a packet of one event has besides the publication.
pub const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES + 64 + EVENT_BYTES;

/// A packet in the making, for one after the other.
#[derive(Debug)]
pub struct PacketDraft {
    sender: NodeId,
    bytes: Vec<u8>,
    events: u32,
}

impl PacketDraft {
    /// An empty packet.
    #[must_use]
    pub fn new(sender: NodeId) -> Self {
        Self { sender, bytes: Vec::new(), events: 0 }
    }

    /// The number of events in it.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Whether an event may be added: any to an empty packet.
    #[must_use]
    pub fn has_room_for(&self, publication: &Publication) -> bool {
        let longer = self.bytes.len() + EVENT_BYTES + publication.encoded_bytes();
        self.events == 0 || longer <= PACKET_BYTES_MAX
    }

    /// Adds an event.
    pub fn push(&mut self, publication: &Publication, stamp: u64) {
        if self.events == 0 {
            self.begin();
        }
        self.events += 1;
        self.bytes.extend_from_slice(&stamp.to_le_bytes());
        self.bytes.extend_from_slice(&(publication.encoded_bytes() as u32).to_le_bytes());
        publication.encode(&mut self.bytes);
    }

    /// The packet whose first event has this number in the sender's count. The next is empty.
    #[must_use]
    pub fn finish(&mut self, first: u64) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let place = 3 + self.sender.name.as_str().len() + 8;
        bytes[place..place + 8].copy_from_slice(&first.to_le_bytes());
        bytes[place + 8..place + 12].copy_from_slice(&self.events.to_le_bytes());
        self.events = 0;
        bytes
    }

    /// Writes the header, with room for the numbers that [`PacketDraft::finish`] knows.
    fn begin(&mut self) {
        self.bytes.extend_from_slice(&[VERSION, LIVE]);
        self.sender.name.encode(&mut self.bytes);
        self.bytes.extend_from_slice(&self.sender.incarnation.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 12]);
    }
}

/// The header of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePacket {
    /// The sender.
    pub sender: NodeId,
    /// The number of its first event.
    pub first: u64,
    /// The number of its events.
    pub events: u32,
    /// The place of the first event in the bytes.
    start: usize,
}

/// Why a packet is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadablePacket {
    /// It is of another version of the program.
    #[error("a packet of live events has version {0}, and this release reads {VERSION}")]
    Version(u8),
    /// It is no packet.
    #[error("a message is no packet of live events")]
    Garbage,
}

impl LivePacket {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is not a packet of this version.
    pub fn read(bytes: &[u8]) -> Result<Self, UnreadablePacket> {
        match bytes.first() {
            Some(&VERSION) => Self::header(bytes).ok_or(UnreadablePacket::Garbage),
            Some(version) => Err(UnreadablePacket::Version(*version)),
            None => Err(UnreadablePacket::Garbage),
        }
    }

    fn header(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(&bytes[1..]);
        if cursor.byte()? != LIVE {
            return None;
        }
        let name = NodeName::read(&mut cursor)?;
        let sender = NodeId { name, incarnation: cursor.u64_le()? };
        let (first, events) = (cursor.u64_le()?, cursor.u32_le()?);
        // A count that its sender could not reach, or that the bytes cannot hold, is no count.
        first.checked_add(events.into())?;
        if events as usize > cursor.0.len() / EVENT_BYTES {
            return None;
        }
        Some(Self { sender, first, events, start: bytes.len() - cursor.0.len() })
    }

    /// Reads the events of the packet with these bytes, in order, with their stamps. `None` for
    /// each that is unreadable.
    pub fn publications<'a>(
        &self,
        bytes: &'a [u8],
        accepted: Now,
    ) -> impl Iterator<Item = Option<(Publication, u64)>> + use<'a> {
        let mut rest = Cursor(bytes.get(self.start..).unwrap_or_default());
        (0..self.events).map(move |_| {
            let stamp = rest.u64_le()?;
            let length = rest.u32_le()?;
            let publication = Publication::decode(rest.take(length as usize)?, accepted)?;
            is_whole(&publication).then_some((publication, stamp))
        })
    }
}

/// Whether a publication has what its dialect's sessions will ask of it.
pub(super) fn is_whole(publication: &Publication) -> bool {
    Kind::of_topic(publication.topic()).is_some_and(|kind| publication.forms() == kind.forms())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use proptest::prelude::*;

    fn sender() -> NodeId {
        NodeId { name: NodeName::new("node-a").unwrap(), incarnation: 77 }
    }

    /// A publication as a dialect makes it, but for its content.
    fn publication(kind: Kind, text: &str) -> Publication {
        let mut draft = Draft::default();
        draft.address(&[&[kind.topic()], text.as_bytes()], b"");
        for _ in 0..kind.forms() {
            draft.text(|out| out.extend_from_slice(text.as_bytes()));
        }
        draft.finish(Now::default())
    }

    fn packet(texts: &[&str], first: u64) -> Vec<u8> {
        let mut draft = PacketDraft::new(sender());
        for (stamp, text) in texts.iter().enumerate() {
            assert!(draft.has_room_for(&publication(Kind::ALL[0], text)));
            draft.push(&publication(Kind::ALL[0], text), stamp as u64);
        }
        draft.finish(first)
    }

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let bytes = packet(&["one", "two", "three"], 500);
        let packet = LivePacket::read(&bytes).unwrap();
        assert_eq!((&packet.sender, packet.first, packet.events), (&sender(), 500, 3));
        let read: Vec<_> = packet
            .publications(&bytes, Now::default())
            .map(|it| it.map(|(publication, stamp)| (publication.topic()[1..].to_vec(), stamp)))
            .collect();
        let expected = [(&b"one"[..], 0), (b"two", 1), (b"three", 2)];
        assert_eq!(read, expected.map(|(text, stamp)| Some((text.to_vec(), stamp))));
    }

    #[test]
    fn a_draft_is_empty_again_after_each_packet() {
        let mut draft = PacketDraft::new(sender());
        let long = publication(Kind::ALL[0], &"x".repeat(PACKET_BYTES_MAX));
        assert!(draft.has_room_for(&long), "one long event goes alone");
        draft.push(&long, 0);
        assert!(!draft.has_room_for(&long));
        assert!(draft.finish(0).len() <= long.encoded_bytes() + OVERHEAD_BYTES_MAX);
        draft.push(&publication(Kind::ALL[0], "x"), 0);
        let bytes = draft.finish(1);
        assert_eq!(LivePacket::read(&bytes).unwrap().events, 1);
    }

    #[test]
    fn an_event_without_the_forms_of_its_dialect_is_left_out_and_the_others_are_read() {
        let mut draft = PacketDraft::new(sender());
        let mut formless = Draft::default();
        formless.address(&[&[Kind::ALL[0].topic()]], b"");
        draft.push(&publication(Kind::ALL[0], "one"), 0);
        draft.push(&formless.finish(Now::default()), 0);
        formless.address(&[b"\xff"], b"");
        draft.push(&formless.finish(Now::default()), 0);
        draft.push(&publication(Kind::ALL[0], "two"), 0);
        let bytes = draft.finish(0);
        let packet = LivePacket::read(&bytes).unwrap();
        let read: Vec<bool> =
            packet.publications(&bytes, Now::default()).map(|it| it.is_some()).collect();
        assert_eq!(read, [true, false, false, true]);
    }

    #[test]
    fn other_versions_and_garbage_are_told_apart() {
        let mut bytes = packet(&["one"], 0);
        bytes[0] = 2;
        assert_eq!(LivePacket::read(&bytes), Err(UnreadablePacket::Version(2)));
        assert_eq!(LivePacket::read(b""), Err(UnreadablePacket::Garbage));
        assert_eq!(LivePacket::read(b"\x01L\xff"), Err(UnreadablePacket::Garbage));
        let mut endless = packet(&["one"], u64::MAX - 1);
        assert!(LivePacket::read(&endless).is_ok());
        endless = packet(&["one", "two"], u64::MAX - 1);
        assert_eq!(LivePacket::read(&endless), Err(UnreadablePacket::Garbage));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_daemon_down(
            bytes: Vec<u8>,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            cut: proptest::sample::Index,
        ) {
            let mut damaged = packet(&["one", "two", "three"], 1);
            for (place, byte) in changes {
                let place = place.index(damaged.len());
                damaged[place] = byte;
            }
            let cut = &damaged[..cut.index(damaged.len())];
            for bytes in [&bytes[..], &damaged, cut] {
                let Ok(packet) = LivePacket::read(bytes) else { continue };
                let read = packet.publications(bytes, Now::default()).count();
                prop_assert_eq!(read, packet.events as usize);
            }
        }
    }
}
