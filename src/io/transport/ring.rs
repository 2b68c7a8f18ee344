//! Sockets on a ring, which reports that something was done, told as if they were polled.
//!
//! Each socket that is read has one order to receive, which lasts: bytes come into buffers that all
//! sockets of the shard share, and wait there, in order, until [`RingSockets::receive`] copies
//! them. So an idle connection owns no buffer. When all buffers are full the kernel ends such
//! orders; they are given again once there is room, and until then the bytes stay in the sockets.
//!
//! A socket that is not read for a while has its order cancelled. What had come before that is
//! moved out of the shared buffers, or a few such clients could stop all others.

mod pausing;

use super::super::ring::{COMPLETIONS_MAX, Completion, Order, Payload, Ring};
use super::call;
use super::event::{EVENTS_MAX, Readiness, SocketEvent, SocketInterest};
use super::received::{BufferChain, ReceivedBuffers};
use crate::outbox::Sent;
use crate::shard::Id;
use ahash::AHashMap;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;

/// Buffers that the sockets of a shard share, 1 MiB together. A turn in which more than this many
/// messages come receives the rest in the next.
const BUFFERS: u16 = 256;
/// Accepted connections of a listener that wait for their turn, beyond which the kernel accepts no
/// more: four turns' worth. It may have accepted as many more as there is room for completions.
const ACCEPTED_MAX: usize = 256;
/// Entries kept allocated when no socket keeps bytes of its own.
const KEPT_PLACES: usize = 64;

/// Maximum number of connections of so many listeners that the kernel has accepted and the shard has
/// not counted yet.
pub(in crate::io) fn accepted_ahead_max(listeners: usize) -> usize {
    listeners * ACCEPTED_MAX + COMPLETIONS_MAX as usize
}

/// The kinds of orders, in the upper bits of a tag.
const IGNORED: u64 = 0;
const WAKE: u64 = 1 << 56;
const ACCEPT: u64 = 2 << 56;
const RECEIVE: u64 = 3 << 56;
const POLL: u64 = 4 << 56;
const KINDS: u64 = 0x3f << 56;

fn tag(kind: u64, serial: u16, number: u32) -> u64 {
    kind | u64::from(serial) << 32 | u64::from(number)
}

fn serial_of(tag: u64) -> u16 {
    (tag >> 32) as u16
}

/// The state of a socket's order to receive.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Receiving {
    #[default]
    Idle,
    Ordered,
    Cancelling,
}

/// A socket.
#[derive(Default)]
struct RingSlot {
    /// Tells the completions of this connection from those of an earlier one with its number, of
    /// which none is left by the time that it comes around.
    serial: u16,
    receiving: Receiving,
    /// Whether it is to be read.
    reads: bool,
    /// Whether it is told when the socket takes bytes.
    writes: bool,
    /// Whether the socket is polled: for taking bytes, and for breaking while it is not read.
    polls: bool,
    /// Whether it is in the list of those that can be received from.
    is_listed: bool,
    /// Whether it is in the list of those that lack an order to receive.
    is_unordered: bool,
    /// Whether bytes are kept outside the shared buffers.
    keeps: bool,
    /// The end behind all bytes: of the peer's side, or by an error.
    end: Option<Result<(), Errno>>,
    /// The shared buffers with its bytes.
    buffers: BufferChain,
}

// One for each connection of the shard, idle ones included.
const _: () = assert!(size_of::<RingSlot>() == 16);

impl RingSlot {
    fn has_bytes(&self) -> bool {
        self.keeps || !self.buffers.is_empty()
    }

    fn is_readable(&self) -> bool {
        self.reads && (self.has_bytes() || self.end.is_some())
    }
}

/// A listener.
#[derive(Default)]
struct ListenerSlot {
    serial: u16,
    /// Whether connections are wanted.
    is_wanted: bool,
    is_ordered: bool,
    accepted: VecDeque<OwnedFd>,
    error: Option<Errno>,
}

impl ListenerSlot {
    /// Whether there are connections to accept, an error to tell, or an order to give again.
    fn has_news(&self) -> bool {
        !self.accepted.is_empty() || self.error.is_some() || (self.is_wanted && !self.is_ordered)
    }
}

/// The sockets of one shard on its ring.
pub(in crate::io) struct RingSockets {
    ring: Ring,
    wake: OwnedFd,
    is_woken: bool,
    slots: Vec<RingSlot>,
    listeners: Vec<ListenerSlot>,
    /// Whether the kernel accepts connections before their turn.
    accepts_ahead: bool,
    received: ReceivedBuffers,
    /// The bytes, and how many of them were received, of sockets that are not read.
    kept: AHashMap<Id, (Vec<u8>, usize)>,
    kept_bytes: usize,
    /// Sockets that can be received from, in order.
    readable: VecDeque<Id>,
    /// Those that the last wait has reported.
    reported: Vec<Id>,
    /// Sockets that may lack an order to receive.
    unordered: VecDeque<Id>,
    /// Other events for the next wait.
    events: Vec<SocketEvent>,
    /// Whether nothing is received, nor reported as received.
    is_paused: bool,
}

impl RingSockets {
    pub(super) fn new(wake: BorrowedFd<'_>) -> io::Result<Self> {
        Self::with_buffers(wake, BUFFERS)
    }

    pub(super) fn with_buffers(wake: BorrowedFd<'_>, buffers: u16) -> io::Result<Self> {
        let mut sockets = Self {
            ring: Ring::new(buffers)?,
            wake: wake.try_clone_to_owned()?,
            is_woken: false,
            slots: Vec::new(),
            listeners: Vec::new(),
            accepts_ahead: false,
            received: ReceivedBuffers::new(buffers),
            kept: AHashMap::new(),
            kept_bytes: 0,
            readable: VecDeque::new(),
            reported: Vec::new(),
            unordered: VecDeque::new(),
            events: Vec::new(),
            is_paused: false,
        };
        sockets.ring.order(Order::Poll(sockets.wake.as_fd(), PollFlags::IN), WAKE);
        sockets.ring.submit();
        Ok(sockets)
    }

    #[cfg(test)]
    pub(super) fn inject(&mut self, faults: super::super::ring::faults::Faults) {
        self.ring.faults = faults;
    }

    pub(super) fn wait<'a>(
        &mut self,
        events: &mut Vec<SocketEvent>,
        socket: impl Fn(Id) -> Option<BorrowedFd<'a>>,
    ) -> bool {
        // Those that were not received from come first, in their order.
        while let Some(id) = self.reported.pop() {
            let slot = &mut self.slots[id as usize];
            if slot.is_readable() && !slot.is_listed {
                slot.is_listed = true;
                self.readable.push_front(id);
            }
        }
        self.order_receives(socket);
        self.ring.reap();
        self.sort();

        if std::mem::take(&mut self.is_woken) {
            events.push(SocketEvent::Wake);
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            if listener.has_news() {
                events.push(SocketEvent::Listener(number));
            }
        }
        events.append(&mut self.events);
        while !self.is_paused
            && self.reported.len() < EVENTS_MAX
            && let Some(id) = self.readable.pop_front()
        {
            let slot = &mut self.slots[id as usize];
            slot.is_listed = false;
            if slot.is_readable() {
                self.reported.push(id);
                events.push(SocketEvent::Socket(Readiness {
                    id,
                    is_readable: true,
                    is_writable: false,
                    is_broken: matches!(slot.end, Some(Err(_))),
                }));
            }
        }
        self.has_readable() || self.ring.has_collected()
    }

    pub(super) fn submit<'a>(&mut self, socket: impl Fn(Id) -> Option<BorrowedFd<'a>>) -> bool {
        self.order_receives(socket);
        self.ring.submit();
        self.ring.has_collected()
            || self.has_readable()
            || !self.events.is_empty()
            || self.listeners.iter().any(ListenerSlot::has_news)
            || self.can_order_receives()
    }

    pub(super) fn listen(&mut self, number: usize, listener: BorrowedFd<'_>) {
        while self.listeners.len() <= number {
            self.listeners.push(ListenerSlot::default());
        }
        let slot = &mut self.listeners[number];
        slot.serial = slot.serial.wrapping_add(1);
        (slot.is_wanted, slot.is_ordered) = (true, true);
        let order =
            if self.accepts_ahead { Order::Accept(listener) } else { Order::AcceptOne(listener) };
        self.ring.order(order, tag(ACCEPT, slot.serial, number as u32));
    }

    pub(super) fn accept_ahead(&mut self, is_allowed: bool) {
        if self.accepts_ahead == is_allowed {
            return;
        }
        self.accepts_ahead = is_allowed;
        // The other kind is ordered when this one's end is met.
        for (number, slot) in self.listeners.iter().enumerate().filter(|(_, slot)| slot.is_ordered)
        {
            self.ring.order(Order::CancelAccept(tag(ACCEPT, slot.serial, number as u32)), IGNORED);
        }
    }

    pub(super) fn unlisten(&mut self, number: usize) {
        let Some(slot) = self.listeners.get_mut(number) else { return };
        slot.is_wanted = false;
        if std::mem::take(&mut slot.is_ordered) {
            self.ring.order(Order::CancelAccept(tag(ACCEPT, slot.serial, number as u32)), IGNORED);
            // At once, and not with the next orders: the kernel would accept connections until
            // then, and the listener may be closed before.
            self.ring.reap();
            self.sort();
        }
    }

    pub(super) fn take_accepted(&mut self, number: usize) -> Option<OwnedFd> {
        self.listeners.get_mut(number)?.accepted.pop_front()
    }

    pub(super) fn forget_listener(&mut self, number: usize) {
        if let Some(slot) = self.listeners.get_mut(number) {
            slot.accepted = VecDeque::new();
            slot.error = None;
        }
    }

    pub(super) fn accept(
        &mut self,
        number: usize,
        listener: BorrowedFd<'_>,
    ) -> Result<OwnedFd, Errno> {
        let Some(slot) = self.listeners.get_mut(number) else { return Err(Errno::AGAIN) };
        if let Some(socket) = slot.accepted.pop_front() {
            return Ok(socket);
        }
        if let Some(error) = slot.error.take() {
            return Err(error);
        }
        if !slot.is_wanted {
            return call::accept(listener);
        }
        if !slot.is_ordered && !self.accepts_ahead {
            // One after the other, until the backlog is empty: then the kernel waits for the next.
            match call::accept(listener) {
                Err(Errno::AGAIN) => {}
                accepted => return accepted,
            }
        }
        if !slot.is_ordered {
            // An error that concerns one connection only has ended the order.
            self.listen(number, listener);
        }
        Err(Errno::AGAIN)
    }

    pub(super) fn add(&mut self, id: Id, socket: BorrowedFd<'_>) {
        let index = id as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, RingSlot::default);
        }
        self.slots[index].reads = true;
        self.order_receive(id, socket);
    }

    pub(super) fn close(&mut self, id: Id, socket: OwnedFd) {
        self.free_kept(id);
        let slot = &mut self.slots[id as usize];
        self.received.free(&mut slot.buffers, &mut self.ring);
        // What is ordered holds the socket open.
        if slot.receiving != Receiving::Idle {
            self.ring.order(Order::Cancel(tag(RECEIVE, slot.serial, id)), IGNORED);
        }
        if slot.polls {
            self.ring.order(Order::Cancel(tag(POLL, slot.serial, id)), IGNORED);
        }
        let serial = slot.serial.wrapping_add(1);
        let (is_listed, is_unordered) = (slot.is_listed, slot.is_unordered);
        *slot = RingSlot { serial, is_listed, is_unordered, ..RingSlot::default() };
        self.ring.order(Order::Close(socket), IGNORED);
    }

    pub(super) fn interest(&mut self, id: Id, socket: BorrowedFd<'_>, interest: SocketInterest) {
        let slot = &mut self.slots[id as usize];
        let (reads, writes) = (slot.reads, slot.writes);
        (slot.reads, slot.writes) = (interest.reads, interest.writes);
        if interest.writes && !writes {
            self.await_room(id, socket);
        }
        match (reads, interest.reads) {
            (false, true) => {
                self.list(id);
                self.order_receive(id, socket);
            }
            (true, false) => self.stop_reading(id, socket),
            _ => {}
        }
    }

    pub(super) fn receive(&mut self, id: Id, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut count = self.take_kept(id, buffer);
        let slot = &mut self.slots[id as usize];
        // What is kept came before what is in buffers.
        while !slot.keeps
            && let Some(read) =
                self.received.read(&mut slot.buffers, &mut self.ring, &mut buffer[count..])
        {
            count += read;
        }
        let end = slot.end;
        match end {
            _ if count > 0 => {
                // Behind the others, which have not had their turn yet.
                self.list(id);
                Ok(count)
            }
            Some(end) => end.map(|()| 0),
            None => Err(Errno::AGAIN),
        }
    }

    /// Reports a socket behind all others that can be received from.
    pub(super) fn postpone(&mut self, id: Id) {
        self.list(id);
    }

    pub(super) fn kept_bytes(&self, id: Id) -> usize {
        self.kept.get(&id).map_or(0, |(bytes, _)| bytes.capacity())
    }

    pub(super) fn all_kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    pub(super) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])> + Clone,
        sent: &mut Vec<Sent>,
    ) {
        let start = sent.len();
        sent.extend(sends.clone().map(|(_, bytes)| Sent::Bytes(bytes.len())));
        self.ring.send_all(sends, |number, result| sent[start + number] = call::outcome(result));
    }

    /// Orders that a socket be received from, if it is read and has no such order.
    fn order_receive(&mut self, id: Id, socket: BorrowedFd<'_>) {
        let slot = &mut self.slots[id as usize];
        // What is kept comes first, or a client that is read for a moment at a time would have all
        // that it sends kept.
        let can_receive = slot.receiving == Receiving::Idle && slot.end.is_none();
        if !slot.reads || slot.keeps || !can_receive || self.is_paused {
            return;
        }
        slot.receiving = Receiving::Ordered;
        self.ring.order(Order::Receive(socket), tag(RECEIVE, slot.serial, id));
    }

    /// Orders receives for the sockets that lack one, as many as there are buffers for. Those that
    /// have bytes to be read already come later: one that sends much would take all buffers again.
    fn order_receives<'a>(&mut self, socket: impl Fn(Id) -> Option<BorrowedFd<'a>>) {
        let mut free = self.received.unlent();
        if self.unordered.is_empty() || free == 0 || self.is_paused {
            return;
        }
        let mut later = VecDeque::new();
        for id in std::mem::take(&mut self.unordered) {
            let slot = &mut self.slots[id as usize];
            if free == 0 || slot.has_bytes() {
                later.push_back(id);
                continue;
            }
            slot.is_unordered = false;
            if let Some(socket) = socket(id) {
                free -= 1;
                self.order_receive(id, socket);
            }
        }
        self.unordered = later;
    }

    /// Whether a socket lacks an order to receive that can be given.
    fn can_order_receives(&self) -> bool {
        !self.is_paused
            && self.received.unlent() > 0
            && self.unordered.iter().any(|id| !self.slots[*id as usize].has_bytes())
    }

    /// Orders that a socket be polled, once.
    fn order_poll(&mut self, id: Id, socket: BorrowedFd<'_>) {
        let slot = &mut self.slots[id as usize];
        if !std::mem::replace(&mut slot.polls, true) {
            self.ring.order(Order::Poll(socket, PollFlags::OUT), tag(POLL, slot.serial, id));
        }
    }

    /// Notes that a socket which is read lacks an order to receive. Those that have got nothing by
    /// their last one come first: an order can take all buffers that there are.
    fn lack_order(&mut self, id: Id) {
        let slot = &mut self.slots[id as usize];
        // Reading on, and the last of what is kept, give the order themselves.
        if !slot.reads || slot.keeps {
            return;
        }
        let has_bytes = slot.has_bytes();
        match (std::mem::replace(&mut slot.is_unordered, true), has_bytes) {
            (true, _) => {}
            (false, true) => self.unordered.push_back(id),
            (false, false) => self.unordered.push_front(id),
        }
    }

    /// Has the next wait tell when a socket takes bytes.
    fn await_room(&mut self, id: Id, socket: BorrowedFd<'_>) {
        if !self.slots[id as usize].polls {
            return self.order_poll(id, socket);
        }
        // A poll that was ordered before tells only of what begins from now on.
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
        if rustix::event::poll(&mut polled, Some(&immediately)) == Ok(1) {
            let readiness =
                Readiness { id, is_readable: false, is_writable: true, is_broken: false };
            self.events.push(SocketEvent::Socket(readiness));
        }
    }

    fn stop_reading(&mut self, id: Id, socket: BorrowedFd<'_>) {
        let slot = &mut self.slots[id as usize];
        if slot.receiving == Receiving::Ordered {
            slot.receiving = Receiving::Cancelling;
            self.ring.order(Order::Cancel(tag(RECEIVE, slot.serial, id)), IGNORED);
        }
        if matches!(slot.end, Some(Err(_))) {
            self.events.push(broken(id));
        }
        self.order_poll(id, socket);
        self.keep(id);
    }

    /// Lists a socket among those that can be received from, if it can.
    fn list(&mut self, id: Id) {
        let slot = &mut self.slots[id as usize];
        if slot.is_readable() && !std::mem::replace(&mut slot.is_listed, true) {
            self.readable.push_back(id);
        }
    }

    /// Turns completions into what the next wait reports.
    fn sort(&mut self) {
        while let Some(completion) = self.ring.pop() {
            let (serial, number) = (serial_of(completion.tag), completion.tag as u32);
            match completion.tag & KINDS {
                WAKE => {
                    self.is_woken = true;
                    if !completion.goes_on {
                        self.ring.order(Order::Poll(self.wake.as_fd(), PollFlags::IN), WAKE);
                    }
                }
                ACCEPT => self.accepted(completion, serial, number as usize),
                RECEIVE => self.received(completion, serial, number),
                POLL => self.polled(&completion, serial, number),
                _ => {}
            }
        }
    }

    fn accepted(&mut self, completion: Completion, serial: u16, number: usize) {
        let slot = &mut self.listeners[number];
        if let Payload::Socket(socket) = completion.payload {
            slot.accepted.push_back(socket);
        }
        // An earlier order has been cancelled, and has nothing to say about this one.
        if serial != slot.serial {
            return;
        }
        if !completion.goes_on {
            slot.is_ordered = false;
            // Some ends say nothing: a cancellation, or that there was no room for completions.
            let is_silent =
                |error: &Errno| matches!(*error, Errno::CANCELED | Errno::AGAIN | Errno::INTR);
            slot.error = completion.result.err().filter(|error| !is_silent(error));
        } else if slot.accepted.len() == ACCEPTED_MAX {
            self.ring.order(Order::CancelAccept(tag(ACCEPT, serial, number as u32)), IGNORED);
        }
    }

    fn received(&mut self, completion: Completion, serial: u16, id: Id) {
        let is_current = self.slots.get(id as usize).is_some_and(|slot| slot.serial == serial);
        if let Payload::Bytes(lent) = completion.payload {
            if is_current && completion.result != Ok(0) {
                self.received.append(&mut self.slots[id as usize].buffers, lent);
            } else {
                self.ring.give_back(lent);
            }
        }
        if !is_current {
            return;
        }
        let slot = &mut self.slots[id as usize];
        if !completion.goes_on {
            slot.receiving = Receiving::Idle;
            match completion.result {
                Ok(0) => slot.end = Some(Ok(())),
                // The kernel may end an order for reasons of its own: no buffer, no room for the
                // completion.
                Ok(_) | Err(Errno::NOBUFS | Errno::CANCELED | Errno::AGAIN | Errno::INTR) => {
                    self.lack_order(id);
                }
                Err(error) => {
                    slot.end = Some(Err(error));
                    if !slot.reads {
                        self.events.push(broken(id));
                    }
                }
            }
        }
        if self.slots[id as usize].reads { self.list(id) } else { self.keep(id) }
    }

    fn polled(&mut self, completion: &Completion, serial: u16, id: Id) {
        let Some(slot) = self.slots.get_mut(id as usize) else { return };
        if slot.serial != serial {
            return;
        }
        slot.polls &= completion.goes_on;
        // The end of the peer's side alone is told too, and is no news for those that do not read.
        let found = PollFlags::from_bits_truncate(completion.result.unwrap_or(0) as u16);
        let is_broken = found.intersects(PollFlags::ERR | PollFlags::HUP) && !slot.reads;
        let is_writable = found.contains(PollFlags::OUT) && slot.writes;
        if is_broken || is_writable {
            let is_readable = is_broken;
            let readiness = Readiness { id, is_readable, is_writable, is_broken };
            self.events.push(SocketEvent::Socket(readiness));
        }
    }

    /// Moves what a socket that is not read has received out of the shared buffers.
    fn keep(&mut self, id: Id) {
        let slot = &mut self.slots[id as usize];
        if slot.buffers.is_empty() {
            return;
        }
        slot.keeps = true;
        let (bytes, _) = self.kept.entry(id).or_default();
        self.kept_bytes -= bytes.capacity();
        self.received.empty(&mut slot.buffers, &mut self.ring, bytes);
        self.kept_bytes += bytes.capacity();
    }

    /// Copies kept bytes of a socket, which came before those in buffers. Returns their number.
    fn take_kept(&mut self, id: Id, buffer: &mut [u8]) -> usize {
        if !self.slots[id as usize].keeps {
            return 0;
        }
        let Some((bytes, taken)) = self.kept.get_mut(&id) else { return 0 };
        let left = &bytes[*taken..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        *taken += count;
        if *taken == bytes.len() {
            self.forget_kept(id);
        }
        count
    }

    /// Forgets what is kept of a socket, which can be received from again then.
    pub(super) fn forget_kept(&mut self, id: Id) {
        self.free_kept(id);
        self.lack_order(id);
    }

    fn free_kept(&mut self, id: Id) {
        if std::mem::take(&mut self.slots[id as usize].keeps)
            && let Some((bytes, _)) = self.kept.remove(&id)
        {
            self.kept_bytes -= bytes.capacity();
            if self.kept.is_empty() {
                // A flood of such clients must not leave its table behind.
                self.kept.shrink_to(KEPT_PLACES);
            }
        }
    }
}

impl AsFd for RingSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// The event of a connection that broke while it was not read.
fn broken(id: Id) -> SocketEvent {
    SocketEvent::Socket(Readiness { id, is_readable: true, is_writable: false, is_broken: true })
}
