//! Bytes on their way to each connection, without a queue for each.
//!
//! A shard works in turns. All frames of a turn stand in one table, once; an outbox holds the
//! number of a *list* of them, and lists are shared: connections with equal lists that get the same
//! frame next have equal lists again. So an idle connection costs 16 bytes, handing a frame to a
//! subscriber is a compare and a store, and at the end of the turn everything a connection has
//! leaves in one write. Frames that several connections have in the same order are joined once for
//! all of them.
//!
//! Only what a socket does not take outlives the turn, in a backlog that shares the frames by
//! reference count.
//!
//! This file does not know sockets: it hands out the bytes of each outbox, and is told how many
//! were taken.

mod handover;

pub use self::handover::FrozenOutbox;

use crate::frame::Publication;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of a backlog given to one write, so that one connection cannot hold the shard.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Most pieces given to one write; the kernel takes 1,024 (`UIO_MAXIOV`).
const WRITE_PIECES_MAX: usize = 256;
/// Bytes of each of the turn's tables that are kept allocated for the next turn.
const TURN_BYTES_KEPT: usize = 256 * 1024;
/// Bytes of joined frames kept for the lists' other users. Lists beyond that are joined anew for
/// each user: many crowds with large frames of their own would else take a copy of everything each.
const JOINED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a frame in a backlog costs beside its own.
const CHUNK_OVERHEAD_BYTES: usize = 32;

/// The number of the list with nothing in it.
const EMPTY: u32 = 0;

/// A frame of this turn.
#[derive(Clone, Copy, Debug)]
pub struct FrameId(u32);

/// The bytes that one connection is still to be sent.
#[derive(Default)]
pub struct Outbox {
    list: u32,
    backlog: Option<Box<OutboxBacklog>>,
}

impl Outbox {
    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list == EMPTY && self.backlog.is_none()
    }

    /// Lets the next flush try the socket again, which has become writable.
    pub fn unblock(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.blocked = false;
        }
    }

    /// Bytes kept from earlier turns, the overhead of keeping them included.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }
}

struct OutboxBacklog {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that have left.
    offset: usize,
    bytes: usize,
    /// Whether the socket must become writable first.
    blocked: bool,
}

impl OutboxBacklog {
    /// Appends a chunk without those of its bytes that have left: the first `skip` of what is
    /// appended.
    fn take(&mut self, chunk: Chunk, skip: &mut usize) {
        let length = chunk.bytes().len();
        if *skip >= length {
            *skip -= length;
            return;
        }
        if *skip > 0 {
            self.offset = std::mem::take(skip);
        }
        self.bytes += length + CHUNK_OVERHEAD_BYTES;
        self.chunks.push_back(chunk);
    }
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

enum ChunkSource {
    Shared(Arc<Publication>, u8),
    /// For any number of connections.
    Own(Range<u32>),
    /// For one connection, and in one list.
    Alone(Range<u32>),
}

impl ChunkSource {
    fn bytes<'a>(&'a self, own: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Shared(publication, form) => publication.frame(*form),
            Self::Own(range) | Self::Alone(range) => &own[range.start as usize..range.end as usize],
        }
    }
}

struct Frame {
    source: ChunkSource,
    /// The steps from list to list that appending this frame has made, the last one first.
    steps: (u32, u32),
    more_steps: Vec<(u32, u32)>,
}

/// A list is its last frame and the list before that; the first one is empty.
#[derive(Default)]
struct List {
    before: u32,
    frame: u32,
    depth: u32,
    bytes: u32,
    /// Of these, the bytes that are no publication's: answers to what a client sent.
    own_bytes: u32,
    /// Outboxes that have this list.
    users: u32,
    joined: Option<Range<u32>>,
}

impl List {
    /// Bytes that count against the client of an outbox with this list.
    fn held(&self, outbox: &Outbox) -> usize {
        match &outbox.backlog {
            Some(backlog) => self.bytes as usize + backlog.bytes,
            None => self.own_bytes as usize,
        }
    }
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The number of bytes that the socket took, possibly fewer than offered.
    Bytes(usize),
    /// The socket takes nothing now.
    Blocked,
    /// The connection is gone.
    Broken,
}

/// What an outbox has for its socket.
#[derive(Debug)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// These bytes of the turn.
    Bytes(Offered),
    /// A backlog, which [`Turn::flush_backlog`] offers.
    Backlog,
}

/// The place of bytes that an outbox has for its socket.
#[derive(Debug)]
pub struct Offered(OfferedPlace);

#[derive(Debug)]
enum OfferedPlace {
    /// The only frame of a list.
    Frame(u32),
    /// Frames that were joined.
    Joined(Range<u32>),
}

/// The outcome of flushing an outbox.
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
    /// The end of each piece in `own` that was appended at once.
    ends: Vec<u32>,
    lists: Vec<List>,
    joined: Vec<u8>,
    /// The lists whose frames were joined, in the order of `joined`, and where each begins.
    joins: Vec<(u32, u32)>,
    order: Vec<u32>,
}

impl Default for Turn {
    fn default() -> Self {
        let mut turn = Self {
            frames: vec![],
            shared_bytes: 0,
            own: vec![],
            ends: vec![],
            lists: vec![],
            joined: vec![],
            joins: vec![],
            order: vec![],
        };
        turn.end();
        turn
    }
}

impl Turn {
    /// Adds a frame of a publication, for any number of outboxes.
    pub fn share(&mut self, publication: &Arc<Publication>, form: u8) -> FrameId {
        self.shared_bytes += publication.frame(form).len();
        self.add(ChunkSource::Shared(Arc::clone(publication), form))
    }

    /// Adds a frame that is no publication's, for any number of outboxes.
    pub fn own(&mut self, bytes: &[u8]) -> FrameId {
        let range = self.put(bytes);
        self.add(ChunkSource::Own(range))
    }

    /// Appends bytes for one connection to its outbox; returns what [`Turn::push`] does. Several in
    /// a row, such as the receipts of a producer, are one frame here.
    pub fn append(&mut self, outbox: &mut Outbox, bytes: &[u8]) -> usize {
        let range = self.put(bytes);
        let list = &mut self.lists[outbox.list as usize];
        if outbox.list != EMPTY
            && let ChunkSource::Alone(last) = &mut self.frames[list.frame as usize].source
            && last.end == range.start
        {
            // No other outbox has this list, and nothing was put behind its last frame, so that
            // grows.
            last.end = range.end;
            list.bytes += bytes.len() as u32;
            list.own_bytes += bytes.len() as u32;
            return list.held(outbox);
        }
        let frame = self.add(ChunkSource::Alone(range));
        self.push(outbox, frame)
    }

    fn put(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.own.len() as u32;
        self.own.extend_from_slice(bytes);
        let end = self.own.len() as u32;
        self.ends.push(end);
        start..end
    }

    fn add(&mut self, source: ChunkSource) -> FrameId {
        self.frames.push(Frame { source, steps: (u32::MAX, 0), more_steps: Vec::new() });
        FrameId(self.frames.len() as u32 - 1)
    }

    /// Appends a frame to an outbox. Returns how many bytes then count against its client: all that
    /// it holds once its socket has refused some; before that only the answers to what it sent
    /// itself, because no client is slow for bytes that were not offered yet, however many one turn
    /// brings.
    #[inline]
    pub fn push(&mut self, outbox: &mut Outbox, frame: FrameId) -> usize {
        let from = outbox.list;
        // A crowd with equal lists takes the same step one after the other: the first finds it, the
        // others repeat it.
        let steps = self.frames[frame.0 as usize].steps;
        let to = if steps.0 == from { steps.1 } else { self.step(from, frame.0) };

        self.lists[from as usize].users -= u32::from(from != EMPTY);
        let list = &mut self.lists[to as usize];
        list.users += 1;
        outbox.list = to;
        list.held(outbox)
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
        // Steps of eight crowds are enough: without its step a list is not shared, but no less
        // right.
        if before.0 != u32::MAX && known.more_steps.len() < 8 {
            known.more_steps.push(before);
        }

        let length = self.frame(frame).len() as u32;
        let is_own = !matches!(self.frames[frame as usize].source, ChunkSource::Shared(..));
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

    /// What an outbox has for its socket. The bytes stay where they are until the outcome is told by
    /// [`Turn::conclude`], and after that until [`Turn::trim`].
    pub fn offer(&mut self, outbox: &mut Outbox) -> Offer {
        if outbox.backlog.is_some() {
            // Bytes of this turn must not overtake those of earlier ones.
            self.keep(outbox, 0);
            return Offer::Backlog;
        }
        match outbox.list {
            EMPTY => Offer::Nothing,
            list => Offer::Bytes(Offered(self.place(list))),
        }
    }

    /// The bytes that were offered.
    #[must_use]
    pub fn offered(&self, Offered(place): &Offered) -> &[u8] {
        match place {
            OfferedPlace::Frame(frame) => self.frame(*frame),
            OfferedPlace::Joined(range) => &self.joined[range.start as usize..range.end as usize],
        }
    }

    /// Notes what has become of the bytes that an outbox had.
    pub fn conclude(&mut self, outbox: &mut Outbox, offered: &Offered, sent: Sent) -> Flushed {
        let list = outbox.list;
        let flushed = match sent {
            Sent::Broken => {
                self.leave(outbox);
                Flushed::Broken
            }
            Sent::Bytes(taken) if taken == self.offered(offered).len() => {
                self.leave(outbox);
                Flushed::Empty
            }
            Sent::Bytes(taken) => {
                self.keep(outbox, taken);
                Flushed::Blocked
            }
            Sent::Blocked => {
                self.keep(outbox, 0);
                Flushed::Blocked
            }
        };
        // After its last user nothing needs the joined bytes of a list.
        let list = &mut self.lists[list as usize];
        if list.users == 0 {
            list.joined = None;
        }
        flushed
    }

    /// Frees joined bytes that no outbox needs any more. Only at the end can they go; in the middle
    /// they wait for those behind them.
    pub fn trim(&mut self) {
        while let Some(&(list, start)) = self.joins.last() {
            let joined = self.lists[list as usize].joined.as_ref();
            if joined.is_some_and(|joined| joined.start == start) {
                return;
            }
            self.joined.truncate(start as usize);
            self.joins.pop();
        }
    }

    /// Bytes of joined frames.
    #[must_use]
    pub fn joined_bytes(&self) -> usize {
        self.joined.len()
    }

    /// The place of a list's bytes in one piece: its only frame, or its frames joined, once for all
    /// users if there is room to keep them.
    fn place(&mut self, number: u32) -> OfferedPlace {
        let list = &self.lists[number as usize];
        if list.depth == 1 {
            return OfferedPlace::Frame(list.frame);
        }
        if let Some(range) = &list.joined {
            return OfferedPlace::Joined(range.clone());
        }

        let start = self.joined.len();
        self.collect(number);
        let Self { frames, own, joined, order, .. } = self;
        for frame in order.iter() {
            joined.extend_from_slice(frames[*frame as usize].source.bytes(own));
        }
        let range = start as u32..joined.len() as u32;
        self.joins.push((number, range.start));
        if self.joined.len() <= JOINED_BYTES_MAX {
            self.lists[number as usize].joined = Some(range.clone());
        }
        OfferedPlace::Joined(range)
    }

    /// Collects the frames of a list in `self.order`, first to last.
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
            Box::new(OutboxBacklog { chunks: VecDeque::new(), offset: 0, bytes: 0, blocked: true })
        });
        let mut skip = taken;
        for frame in self.order.drain(..) {
            match &self.frames[frame as usize].source {
                ChunkSource::Shared(publication, form) => {
                    backlog.take(Chunk::Shared(Arc::clone(publication), *form), &mut skip);
                }
                ChunkSource::Own(range) | ChunkSource::Alone(range) => {
                    // Piece by piece as appended: a backlog frees whole chunks, and one long one
                    // would stay until its last byte has left.
                    let mut start = range.start;
                    let first = self.ends.partition_point(|end| *end <= start);
                    for &end in self.ends[first..].iter().take_while(|end| **end <= range.end) {
                        let bytes = &self.own[start as usize..end as usize];
                        backlog.take(Chunk::Own(bytes.into()), &mut skip);
                        start = end;
                    }
                }
            }
        }
        self.leave(outbox);
    }

    /// Offers a backlog to its socket, unless that has to become writable first.
    pub fn flush_backlog(
        &mut self,
        outbox: &mut Outbox,
        send: impl FnOnce(&[IoSlice<'_>]) -> Sent,
    ) -> Flushed {
        let Some(backlog) = &mut outbox.backlog else { return Flushed::Empty };
        if backlog.blocked {
            return Flushed::Waiting;
        }

        // Whatever this write takes, the rest waits until the socket is reported writable again.
        backlog.blocked = true;

        let mut pieces: SmallVec<[IoSlice<'_>; 16]> = SmallVec::new();
        let (mut offset, mut bytes) = (backlog.offset, 0);
        for chunk in backlog.chunks.iter().take(WRITE_PIECES_MAX) {
            let piece = &chunk.bytes()[std::mem::take(&mut offset)..];
            bytes += piece.len();
            pieces.push(IoSlice::new(piece));
            if bytes >= WRITE_BYTES_MAX {
                break;
            }
        }

        let sent = send(&pieces);
        drop(pieces);
        let mut taken = match sent {
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

    /// Drops everything but a frame that has left in part: it must be finished, or the peer could
    /// not read the close frame behind it.
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

    /// Drops everything; the connection is gone.
    pub fn discard(&mut self, outbox: &mut Outbox) {
        self.leave(outbox);
        outbox.backlog = None;
    }

    /// Ends the turn. Every outbox with a list must have been flushed.
    pub fn end(&mut self) {
        debug_assert!(self.lists.iter().all(|list| list.users == 0), "an outbox was not flushed");
        self.frames.clear();
        self.lists.clear();
        // The empty list, at the number EMPTY.
        self.lists.push(List::default());
        self.joins.clear();
        self.shared_bytes = 0;

        // One heavy turn must not hold its memory until the next.
        for buffer in [&mut self.own, &mut self.joined] {
            buffer.clear();
            buffer.shrink_to(TURN_BYTES_KEPT);
        }
        self.ends.clear();
        self.ends.shrink_to(TURN_BYTES_KEPT / size_of::<u32>());
        self.frames.shrink_to(TURN_BYTES_KEPT / size_of::<Frame>());
        self.lists.shrink_to(TURN_BYTES_KEPT / size_of::<List>());
        self.joins.shrink_to(TURN_BYTES_KEPT / size_of::<(u32, u32)>());
    }

    /// Bytes of the turn's frames, joined copies included, for the bound of a turn.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared_bytes + self.own.len() + self.joined.len()
    }
}

#[cfg(test)]
mod tests;
