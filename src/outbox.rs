//! What is on its way to each connection, without a queue for each.
//!
//! A shard works in turns. All frames of a turn stand in one table, once; an outbox holds the number of a
//! *list* of them, and lists are shared: whoever had the same frames before and gets the same frame next has
//! the same list again. So an idle connection costs 16 bytes, handing a frame to a subscriber is a compare
//! and a store, and at the end of the turn everything a connection has leaves in one write. Frames that
//! several connections have in the same order are joined once for all of them.
//!
//! Only what a socket did not take is kept beyond the turn, in a backlog that shares the frames by
//! reference count.
//!
//! This file does not know sockets: writing is a closure's business.

use crate::frame::Publication;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes given to one write, so that one connection cannot hold the shard.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Memory of the turn's tables that is kept for the next turn.
const TURN_BYTES_KEPT: usize = 256 * 1024;
/// Bytes of joined frames that are kept for the lists' other users. Lists beyond that are joined anew for
/// each user: many crowds with large frames of their own would else take a copy of everything each.
const JOINED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a frame in a backlog costs beside its bytes.
const CHUNK_OVERHEAD_BYTES: usize = 32;

/// The number of the list with nothing in it.
const EMPTY: u32 = 0;

/// A frame of this turn.
#[derive(Clone, Copy, Debug)]
pub struct FrameId(u32);

/// What one connection is still to be sent.
#[derive(Default)]
pub struct Outbox {
    list: u32,
    backlog: Option<Box<Backlog>>,
}

impl Outbox {
    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list == EMPTY && self.backlog.is_none()
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.blocked = false;
        }
    }

    /// Bytes kept from earlier turns, with what keeping them costs.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }
}

struct Backlog {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk has left.
    offset: usize,
    bytes: usize,
    /// Whether the socket must become writable first.
    blocked: bool,
}

enum Chunk {
    Shared(Arc<Publication>, u8),
    Own(Box<[u8]>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(publication, form) => publication.frame(*form),
            Self::Own(bytes) => bytes,
        }
    }
}

enum Source {
    Shared(Arc<Publication>, u8),
    Own(Range<u32>),
}

impl Source {
    fn bytes<'a>(&'a self, own: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Shared(publication, form) => publication.frame(*form),
            Self::Own(range) => &own[range.start as usize..range.end as usize],
        }
    }
}

struct Frame {
    source: Source,
    /// The steps from list to list that this frame has made, the last one first.
    steps: (u32, u32),
    more_steps: Vec<(u32, u32)>,
}

struct List {
    before: u32,
    frame: u32,
    depth: u32,
    bytes: u32,
    /// Of these, the bytes that are for one connection alone: answers to what it sent.
    own_bytes: u32,
    /// Outboxes whose list this is.
    users: u32,
    joined: Option<Range<u32>>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, possibly fewer than offered.
    Bytes(usize),
    /// The socket takes nothing now.
    Blocked,
    /// The connection is gone.
    Broken,
}

/// What became of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything has left.
    Empty,
    /// The socket has just refused the rest.
    Blocked,
    /// Nothing was tried: the socket had refused before.
    Waiting,
    /// The connection is gone.
    Broken,
}

/// The frames of one turn and the lists made of them.
pub struct Turn {
    frames: Vec<Frame>,
    /// Bytes of the frames that are shared.
    shared_bytes: usize,
    own: Vec<u8>,
    lists: Vec<List>,
    joined: Vec<u8>,
    order: Vec<u32>,
}

impl Default for Turn {
    fn default() -> Self {
        let mut turn = Self {
            frames: vec![],
            shared_bytes: 0,
            own: vec![],
            lists: vec![],
            joined: vec![],
            order: vec![],
        };
        turn.end();
        turn
    }
}

impl Turn {
    /// Adds a publication's frame, to be handed to many.
    pub fn share(&mut self, publication: &Arc<Publication>, form: u8) -> FrameId {
        self.shared_bytes += publication.frame(form).len();
        self.add(Source::Shared(Arc::clone(publication), form))
    }

    /// Adds bytes for one connection.
    pub fn own(&mut self, bytes: &[u8]) -> FrameId {
        let start = self.own.len() as u32;
        self.own.extend_from_slice(bytes);
        self.add(Source::Own(start..self.own.len() as u32))
    }

    fn add(&mut self, source: Source) -> FrameId {
        self.frames.push(Frame { source, steps: (u32::MAX, 0), more_steps: Vec::new() });
        FrameId(self.frames.len() as u32 - 1)
    }

    /// Appends a frame to an outbox. Returns how many bytes then count against its client: all that it holds
    /// once its socket has refused some; before that only the answers to what it sent itself, as nobody is
    /// slow for what was not offered yet, however much one turn brings.
    #[inline]
    pub fn push(&mut self, outbox: &mut Outbox, frame: FrameId) -> usize {
        let from = outbox.list;
        let steps = self.frames[frame.0 as usize].steps;
        let to = if steps.0 == from { steps.1 } else { self.step(from, frame.0) };
        self.lists[from as usize].users -= u32::from(from != EMPTY);
        let list = &mut self.lists[to as usize];
        list.users += 1;
        outbox.list = to;
        match &outbox.backlog {
            Some(backlog) => list.bytes as usize + backlog.bytes,
            None => list.own_bytes as usize,
        }
    }

    #[cold]
    fn step(&mut self, from: u32, frame: u32) -> u32 {
        let known = &mut self.frames[frame as usize];
        let found = known.more_steps.iter().position(|step| step.0 == from);
        if let Some(found) = found {
            std::mem::swap(&mut known.steps, &mut known.more_steps[found]);
            return known.steps.1;
        }
        let step = (from, self.lists.len() as u32);
        let before = std::mem::replace(&mut known.steps, step);
        // Direct replies differ per connection and are not looked up again; a few steps are enough.
        if before.0 != u32::MAX && known.more_steps.len() < 8 {
            known.more_steps.push(before);
        }
        let length = self.frame(frame).len() as u32;
        let is_own = matches!(self.frames[frame as usize].source, Source::Own(_));
        let List { depth, bytes, own_bytes, .. } = self.lists[from as usize];
        self.lists.push(List {
            before: from,
            frame,
            depth: depth + 1,
            bytes: bytes + length,
            own_bytes: own_bytes + if is_own { length } else { 0 },
            users: 0,
            joined: None,
        });
        step.1
    }

    fn frame(&self, frame: u32) -> &[u8] {
        self.frames[frame as usize].source.bytes(&self.own)
    }

    /// Writes what an outbox holds, unless it waits for the socket.
    pub fn flush(&mut self, outbox: &mut Outbox, mut write: impl FnMut(&[u8]) -> Sent) -> Flushed {
        if outbox.backlog.is_some() {
            self.keep(outbox, 0);
            return self.flush_backlog(outbox, write);
        }
        if outbox.list == EMPTY {
            return Flushed::Empty;
        }
        let joined = self.joined.len();
        let bytes = self.bytes_of(outbox.list);
        let length = bytes.len();
        let sent = write(bytes);
        self.unjoin(outbox.list, joined);
        let taken = match sent {
            Sent::Broken => return Flushed::Broken,
            Sent::Blocked => 0,
            Sent::Bytes(taken) => taken,
        };
        if taken == length {
            self.leave(outbox);
            return Flushed::Empty;
        }
        self.keep(outbox, taken);
        Flushed::Blocked
    }

    /// The bytes of a list in one piece: its only frame's, or its frames' joined, once for all users if
    /// there is room to keep them.
    fn bytes_of(&mut self, number: u32) -> &[u8] {
        let list = &self.lists[number as usize];
        if list.depth == 1 {
            return self.frame(list.frame);
        }
        let range = match &list.joined {
            Some(range) => range.start as usize..range.end as usize,
            None => {
                let start = self.joined.len();
                self.collect(number);
                let Self { frames, own, joined, order, .. } = self;
                for frame in order.iter() {
                    joined.extend_from_slice(frames[*frame as usize].source.bytes(own));
                }
                let end = self.joined.len();
                if end <= JOINED_BYTES_MAX {
                    self.lists[number as usize].joined = Some(start as u32..end as u32);
                }
                start..end
            }
        };
        &self.joined[range]
    }

    /// Gives the room of a joined list back when its last user has had it, or what was joined for one user
    /// only, beyond the first `kept` bytes.
    fn unjoin(&mut self, number: u32, kept: usize) {
        let list = &mut self.lists[number as usize];
        match &list.joined {
            None => self.joined.truncate(kept),
            Some(range) if list.users == 1 => {
                let range = range.clone();
                list.joined = None;
                if range.end as usize == self.joined.len() {
                    self.joined.truncate(range.start as usize);
                }
            }
            Some(_) => {}
        }
    }

    /// Puts the frames of a list into `self.order`, first to last.
    fn collect(&mut self, number: u32) {
        self.order.clear();
        let mut at = number;
        while at != EMPTY {
            let list = &self.lists[at as usize];
            self.order.push(list.frame);
            at = list.before;
        }
        self.order.reverse();
    }

    fn leave(&mut self, outbox: &mut Outbox) {
        if outbox.list != EMPTY {
            self.lists[outbox.list as usize].users -= 1;
            outbox.list = EMPTY;
        }
    }

    /// Moves the outbox's list to its backlog, except the first `taken` bytes, which have left.
    fn keep(&mut self, outbox: &mut Outbox, taken: usize) {
        if outbox.list == EMPTY {
            return;
        }
        self.collect(outbox.list);
        let backlog = outbox.backlog.get_or_insert_with(|| {
            Box::new(Backlog { chunks: VecDeque::new(), offset: 0, bytes: 0, blocked: true })
        });
        let mut skip = taken;
        for frame in self.order.drain(..) {
            let chunk = match &self.frames[frame as usize].source {
                Source::Shared(publication, form) => Chunk::Shared(Arc::clone(publication), *form),
                Source::Own(own) => Chunk::Own(self.own[own.start as usize..own.end as usize].into()),
            };
            let length = chunk.bytes().len();
            if skip >= length {
                skip -= length;
                continue;
            }
            if skip > 0 {
                backlog.offset = std::mem::take(&mut skip);
            }
            backlog.bytes += length + CHUNK_OVERHEAD_BYTES;
            backlog.chunks.push_back(chunk);
        }
        self.leave(outbox);
    }

    fn flush_backlog(&mut self, outbox: &mut Outbox, mut write: impl FnMut(&[u8]) -> Sent) -> Flushed {
        let Some(backlog) = &mut outbox.backlog else { return Flushed::Empty };
        if backlog.blocked {
            return Flushed::Waiting;
        }
        backlog.blocked = true;
        let start = self.joined.len();
        for (index, chunk) in backlog.chunks.iter().enumerate() {
            self.joined.extend_from_slice(&chunk.bytes()[if index == 0 { backlog.offset } else { 0 }..]);
            if self.joined.len() - start >= WRITE_BYTES_MAX {
                break;
            }
        }
        let outcome = write(&self.joined[start..]);
        self.joined.truncate(start);
        let mut taken = match outcome {
            Sent::Broken => return Flushed::Broken,
            Sent::Blocked => return Flushed::Blocked,
            Sent::Bytes(taken) => taken,
        };
        while let Some(first) = backlog.chunks.front() {
            let left = first.bytes().len() - backlog.offset;
            if taken < left {
                backlog.offset += taken;
                return Flushed::Blocked;
            }
            taken -= left;
            backlog.offset = 0;
            backlog.bytes -= first.bytes().len() + CHUNK_OVERHEAD_BYTES;
            backlog.chunks.pop_front();
        }
        outbox.backlog = None;
        Flushed::Empty
    }

    /// Forgets everything that has not begun to leave: what is half sent has to be finished, or the peer
    /// could not read what follows.
    pub fn abandon(&mut self, outbox: &mut Outbox) {
        self.leave(outbox);
        if let Some(mut backlog) = outbox.backlog.take()
            && backlog.offset > 0
        {
            backlog.chunks.truncate(1);
            backlog.chunks.shrink_to_fit();
            backlog.bytes = backlog.chunks[0].bytes().len() + CHUNK_OVERHEAD_BYTES;
            outbox.backlog = Some(backlog);
        }
    }

    /// Forgets everything; the connection is gone.
    pub fn discard(&mut self, outbox: &mut Outbox) {
        self.leave(outbox);
        outbox.backlog = None;
    }

    /// Ends the turn: every outbox must have been flushed.
    pub fn end(&mut self) {
        debug_assert!(self.lists.iter().all(|list| list.users == 0), "an outbox was not flushed");
        self.frames.clear();
        self.lists.clear();
        self.lists.push(List {
            before: EMPTY,
            frame: 0,
            depth: 0,
            bytes: 0,
            own_bytes: 0,
            users: 0,
            joined: None,
        });
        self.shared_bytes = 0;
        for buffer in [&mut self.own, &mut self.joined] {
            buffer.clear();
            buffer.shrink_to(TURN_BYTES_KEPT);
        }
        self.frames.shrink_to(TURN_BYTES_KEPT / size_of::<Frame>());
        self.lists.shrink_to(TURN_BYTES_KEPT / size_of::<List>());
    }

    /// Bytes of the turn's frames and of its own tables, for the bound of a turn.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared_bytes + self.own.len() + self.joined.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use crate::wheel::Now;

    fn publication(text: &str) -> Arc<Publication> {
        let mut draft = Draft::default();
        draft.address(&[], b"");
        draft.text(|out| out.extend_from_slice(text.as_bytes()));
        Arc::new(draft.finish(Now::default()))
    }

    fn drain(turn: &mut Turn, outbox: &mut Outbox, room: usize) -> (Vec<u8>, Flushed) {
        let mut wire = Vec::new();
        outbox.unblock();
        let flushed = turn.flush(outbox, |bytes| {
            let taken = bytes.len().min(room);
            wire.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Sent::Blocked } else { Sent::Bytes(taken) }
        });
        (wire, flushed)
    }

    #[test]
    fn outboxes_with_the_same_frames_share_one_list_and_one_joined_buffer() {
        let mut turn = Turn::default();
        let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
        for text in ["one", "two", "three"] {
            let frame = turn.share(&publication(text), 0);
            for outbox in &mut outboxes {
                turn.push(outbox, frame);
            }
        }
        assert_eq!(turn.lists.len(), 4, "the empty list and three steps");
        for outbox in &mut outboxes {
            let (wire, flushed) = drain(&mut turn, outbox, usize::MAX);
            assert_eq!(wire, b"\x81\x03one\x81\x03two\x81\x05three");
            assert_eq!(flushed, Flushed::Empty);
            assert!(outbox.is_empty());
        }
        turn.end();
        assert_eq!(turn.bytes(), 0);
    }

    #[test]
    fn crowds_that_take_turns_have_one_list_each() {
        let mut turn = Turn::default();
        let mut outboxes: Vec<Outbox> = (0..90).map(|_| Outbox::default()).collect();
        for (crowd, text) in ["a", "b"].into_iter().enumerate() {
            let frame = turn.share(&publication(text), 0);
            outboxes.iter_mut().skip(crowd).step_by(3).for_each(|outbox| _ = turn.push(outbox, frame));
        }
        let frame = turn.share(&publication("all"), 0);
        outboxes.iter_mut().for_each(|outbox| _ = turn.push(outbox, frame));
        assert_eq!(turn.lists.len(), 6, "the empty list, a, b, a all, b all, all");
        outboxes.iter_mut().for_each(|outbox| _ = drain(&mut turn, outbox, usize::MAX));
    }

    #[test]
    fn crowds_without_number_do_not_each_keep_a_copy_of_large_frames() {
        const CROWDS: usize = 100;
        let text = "x".repeat(1024 * 1024);
        let mut turn = Turn::default();
        let mut outboxes: Vec<Outbox> = (0..3 * CROWDS).map(|_| Outbox::default()).collect();
        for crowd in 0..CROWDS {
            let own = turn.share(&publication(&crowd.to_string()), 0);
            outboxes.iter_mut().skip(crowd).step_by(CROWDS).for_each(|outbox| _ = turn.push(outbox, own));
        }
        let large = turn.share(&publication(&text), 0);
        outboxes.iter_mut().for_each(|outbox| _ = turn.push(outbox, large));
        for (number, outbox) in outboxes.iter_mut().enumerate() {
            let expected = publication(&(number % CROWDS).to_string()).frame(0).len() + 10 + text.len();
            assert_eq!(drain(&mut turn, outbox, usize::MAX).0.len(), expected);
            assert!(turn.joined.len() <= JOINED_BYTES_MAX);
        }
        turn.end();
    }

    #[test]
    fn what_was_not_offered_yet_counts_against_nobody_but_the_one_who_asked_for_it() {
        let mut turn = Turn::default();
        let mut outbox = Outbox::default();
        let (shared, own) = (turn.share(&publication("hello"), 0), turn.own(b"own"));
        assert_eq!(turn.push(&mut outbox, shared), 0);
        assert_eq!(turn.push(&mut outbox, own), 3);
        assert_eq!(turn.bytes(), 10);
        assert_eq!(turn.flush(&mut outbox, |_| Sent::Bytes(7)), Flushed::Blocked);
        turn.end();
        let shared = turn.share(&publication("hello"), 0);
        assert_eq!(turn.push(&mut outbox, shared), 3 + CHUNK_OVERHEAD_BYTES + 7);
        assert_eq!(turn.flush(&mut outbox, |_| panic!("written")), Flushed::Waiting);
    }

    #[test]
    fn own_frames_keep_their_place_among_shared_ones() {
        let mut turn = Turn::default();
        let (mut a, mut b) = (Outbox::default(), Outbox::default());
        let first = turn.share(&publication("1"), 0);
        turn.push(&mut a, first);
        turn.push(&mut b, first);
        let own = turn.own(b"own");
        turn.push(&mut a, own);
        let second = turn.share(&publication("2"), 0);
        turn.push(&mut a, second);
        turn.push(&mut b, second);
        assert_eq!(drain(&mut turn, &mut a, 99).0, b"\x81\x011own\x81\x012");
        assert_eq!(drain(&mut turn, &mut b, 99).0, b"\x81\x011\x81\x012");
    }

    #[test]
    fn what_a_socket_refuses_waits_and_leaves_in_order_byte_by_byte() {
        for room in 1..30 {
            let mut turn = Turn::default();
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut wire = Vec::new();
            for round in 0..20 {
                let text = "x".repeat(round % 7) + &round.to_string();
                let frame = turn.share(&publication(&text), 0);
                turn.push(&mut outbox, frame);
                let own = turn.own(&[round as u8; 3]);
                turn.push(&mut outbox, own);
                expected.extend_from_slice(publication(&text).frame(0));
                expected.extend_from_slice(&[round as u8; 3]);
                wire.extend(drain(&mut turn, &mut outbox, room).0);
                turn.end();
            }
            while !outbox.is_empty() {
                wire.extend(drain(&mut turn, &mut outbox, room).0);
            }
            assert_eq!(wire, expected, "room {room}");
            assert_eq!(outbox.backlog_bytes(), 0);
        }
    }

    #[test]
    fn a_blocked_outbox_is_not_written_until_it_is_writable_and_its_size_is_known() {
        let mut turn = Turn::default();
        let mut outbox = Outbox::default();
        for _ in 0..2 {
            let frame = turn.share(&publication("hello"), 0);
            turn.push(&mut outbox, frame);
            assert_ne!(turn.flush(&mut outbox, |_| Sent::Blocked), Flushed::Empty);
            turn.end();
        }
        assert_eq!(outbox.backlog_bytes(), 2 * (7 + CHUNK_OVERHEAD_BYTES));
        assert_eq!(turn.flush(&mut outbox, |_| panic!("written")), Flushed::Waiting);
    }

    #[test]
    fn abandoning_finishes_the_frame_that_has_begun_to_leave() {
        let mut turn = Turn::default();
        let mut outbox = Outbox::default();
        for text in ["hello", "never"] {
            let frame = turn.share(&publication(text), 0);
            turn.push(&mut outbox, frame);
        }
        assert_eq!(drain(&mut turn, &mut outbox, 3).0, b"\x81\x05h");
        turn.abandon(&mut outbox);
        let close = turn.own(b"close");
        turn.push(&mut outbox, close);
        assert_eq!(drain(&mut turn, &mut outbox, 99).0, b"elloclose");
    }
}
