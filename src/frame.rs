//! Ready wire bytes: WebSocket frames with their header, and the publication that carries them.
//!
//! A frame is built once and shared: by every session of a shard, and by every shard. Servers do
//! not mask (RFC 6455 section 5.1), so the bytes are the same for every receiver. A dialect fills a
//! [`Draft`] with where the event goes and one frame for each form its clients may want;
//! [`Draft::finish`] makes it one allocation that never changes again.
//!
//! This file does not know who subscribes, and nothing of sockets.

mod portable;

use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::wheel::Now;

/// The longest header a server writes: 2 bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

/// What a control frame's payload may hold (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Appends a whole frame: FIN set, unmasked.
pub fn put_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(payload.len() as u64, out).expect("writing to a Vec cannot fail");
    out.extend_from_slice(payload);
}

/// Appends a text frame whose payload `fill` writes; returns the range of the whole frame in `out`.
///
/// The header's size depends on the payload's, so room for the longest is left and the header is
/// put directly before the payload: the range may start a few bytes after the old end of `out`.
pub fn put_text(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Range<u32> {
    let gap = out.len();
    out.resize(gap + HEADER_BYTES_MAX, 0);
    let payload = out.len();
    fill(out);

    let length = (out.len() - payload) as u64;
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    // The unused front of the gap belongs to no frame.
    let start = payload - header.len(length);
    header.format(length, &mut &mut out[start..payload]).expect("the gap holds the longest header");
    start as u32..out.len() as u32
}

/// The payload of a frame that a server sends: unmasked, and never fragmented.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// A close frame with a code and the first 123 bytes of a reason, cut between characters.
#[must_use]
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    // The code takes two of the 125 bytes, and the reason must stay UTF-8 (RFC 6455 section 5.5.1).
    let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    let mut out = Vec::with_capacity(2 + payload.len());
    put_frame(OpCode::Control(Control::Close), &payload, &mut out);
    out
}

/// An event on its way to its subscribers: where it goes, and its bytes in each form they may want.
#[derive(Debug)]
pub struct Publication {
    bytes: Box<[u8]>,
    topic_end: u32,
    facet_end: u32,
    meta_end: u32,
    frames: SmallVec<[(u32, u32); 2]>,
    /// Seconds for which each shard retains it for later subscribers; 0: not retained.
    pub retain_s: u32,
    /// When the daemon accepted it.
    pub accepted: Now,
    /// The counter of its deliveries, if its publisher has asked for one.
    pub tally: Option<Arc<Tally>>,
    /// The nodes whose sessions it is for.
    pub scope: PublicationScope,
}

/// The nodes of a cluster whose sessions a publication is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicationScope {
    /// All nodes.
    #[default]
    Everywhere,
    /// This node: it comes from another, or every node makes or reads its own.
    Node,
}

/// The number of sessions that a publisher's events reach; each shard adds its part.
#[derive(Debug, Default)]
pub struct Tally {
    /// Parts still to come.
    awaited: AtomicUsize,
    reached: AtomicU64,
}

impl Tally {
    /// Announces parts, before the publication is handed to the shards.
    pub fn expect(&self, parts: usize) {
        self.awaited.fetch_add(parts, Relaxed);
    }

    /// One shard's part of one publication.
    pub fn add(&self, sessions: u64) {
        self.reached.fetch_add(sessions, Relaxed);
        // Released after the part: a reader that finds the tally complete sees every part in it.
        self.awaited.fetch_sub(1, Release);
    }

    /// Whether every announced part has been added.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.awaited.load(Acquire) == 0
    }

    /// Deliveries so far.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached.load(Relaxed)
    }
}

impl Publication {
    /// The topic it is published under; the first byte is the dialect's.
    #[must_use]
    pub fn topic(&self) -> &[u8] {
        &self.bytes[..self.topic_end as usize]
    }

    /// The second dimension that subscriptions select by; empty where a dialect has none.
    #[must_use]
    pub fn facet(&self) -> &[u8] {
        &self.bytes[self.topic_end as usize..self.facet_end as usize]
    }

    /// Input of the dialect's exact filter, in a layout of its own; most dialects have none.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.bytes[self.facet_end as usize..self.meta_end as usize]
    }

    /// The wire bytes of one form.
    ///
    /// # Panics
    /// When the dialect that made the publication made no such form.
    #[must_use]
    pub fn frame(&self, form: u8) -> &[u8] {
        let (start, end) = self.frames[form as usize];
        &self.bytes[start as usize..end as usize]
    }

    /// The same, for this node's sessions only.
    #[must_use]
    pub fn for_this_node(mut self) -> Self {
        self.scope = PublicationScope::Node;
        self
    }

    /// The number of its forms.
    #[must_use]
    pub fn forms(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// A publication in the making, reused from one to the next.
#[derive(Default)]
pub struct Draft {
    bytes: Vec<u8>,
    topic_end: u32,
    facet_end: u32,
    meta_end: u32,
    frames: SmallVec<[(u32, u32); 2]>,
    retain_s: u32,
}

impl Draft {
    /// Starts over with the address: the topic in parts, then the facet.
    pub fn address(&mut self, topic: &[&[u8]], facet: &[u8]) {
        self.bytes.clear();
        self.frames.clear();
        self.retain_s = 0;
        for part in topic {
            self.bytes.extend_from_slice(part);
        }
        self.topic_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(facet);
        self.facet_end = self.bytes.len() as u32;
        // No meta yet; the first frame may follow at once.
        self.meta_end = self.facet_end;
    }

    /// Appends to the input of the dialect's filter; only before the first form.
    pub fn meta(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.meta_end = self.bytes.len() as u32;
    }

    /// Has every shard retain the publication for `seconds`, as the last of its topic.
    pub fn retain(&mut self, seconds: u32) {
        self.retain_s = seconds;
    }

    /// Adds the next form: a text frame whose payload `fill` appends.
    pub fn text(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let range = put_text(&mut self.bytes, fill);
        self.frames.push((range.start, range.end));
    }

    /// Adds the next form: a frame of any kind.
    pub fn frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let start = self.bytes.len() as u32;
        put_frame(opcode, payload, &mut self.bytes);
        self.frames.push((start, self.bytes.len() as u32));
    }

    /// The finished publication.
    #[must_use]
    pub fn finish(&self, accepted: Now) -> Publication {
        // One exact allocation for its whole life; the draft keeps its larger one for the next.
        Publication {
            bytes: self.bytes.as_slice().into(),
            topic_end: self.topic_end,
            facet_end: self.facet_end,
            meta_end: self.meta_end,
            frames: self.frames.clone(),
            retain_s: self.retain_s,
            accepted,
            tally: None,
            scope: PublicationScope::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_frame_has_the_shortest_header_that_fits() {
        for (length, header) in [(0usize, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = b"before".to_vec();
            let range = put_text(&mut out, |payload| payload.resize(payload.len() + length, b'x'));
            let frame = &out[range.start as usize..range.end as usize];
            assert_eq!(frame.len(), header + length);
            let mut whole = Vec::new();
            put_frame(OpCode::Data(Data::Text), &vec![b'x'; length], &mut whole);
            assert_eq!(frame, whole);
        }
    }

    #[test]
    fn a_publication_keeps_its_address_and_forms_apart() {
        let mut draft = Draft::default();
        draft.address(&[b"\x01", b"cell\0", b"obj"], b"type");
        draft.meta(b"me");
        draft.meta(b"ta");
        draft.text(|out| out.extend_from_slice(b"one"));
        draft.text(|out| out.extend_from_slice(b"second"));
        let publication = draft.finish(Now::default());
        assert_eq!(publication.topic(), b"\x01cell\0obj");
        assert_eq!(publication.facet(), b"type");
        assert_eq!(publication.meta(), b"meta");
        assert_eq!(publication.frame(0), b"\x81\x03one");
        assert_eq!(publication.frame(1), b"\x81\x06second");
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(close(1000, ""), b"\x88\x02\x03\xe8");
        assert_eq!(close(1001, "bye"), b"\x88\x05\x03\xe9bye");
        assert_eq!(close(1001, &"x".repeat(500)).len(), 127);
        assert_eq!(
            close(1001, &"é".repeat(100))[4..],
            *"é".repeat(61).as_bytes(),
            "whole characters"
        );
    }
}
