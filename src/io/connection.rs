//! The sockets of one shard: accepting, reading requests and messages, writing.
//!
//! A socket here is a descriptor and, only while a message is incomplete, an inbox; one that speaks
//! TLS has its keys too. Incomplete requests stand beside them, for the few that have any. The
//! meaning of the bytes, and the answers, are the shard's business.

mod accept;
mod intake;

use super::clients::Clients;
use super::handoff::Change;
use super::listen::Listener;
use super::partial::Partials;
use super::tls::{Failure, PeerState, Scratch, Tls};
use crate::dialect::Kind;
use crate::http;
use crate::message::MessageInbox;
use crate::metrics::Metrics;
use crate::outbox::Sent;
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::shard::{ConnectionEvent, Id, Shard};
use crate::wheel::{Now, Tick};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Maximum number of ready sockets handled in one turn.
const EVENTS_MAX: usize = 256;
/// Maximum number of TLS handshakes that one turn continues. Each is up to a millisecond of
/// arithmetic (a signature with RSA), and when all clients reconnect at once, established ones must
/// not wait for hundreds of them.
const HANDSHAKES_MAX: usize = 8;
/// Size of the buffer that every read of a shard goes through.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The log's detail for TLS on a listener without it.
const TLS_UNEXPECTED: &str = "a client speaks TLS (https:// or wss://) to a listener without: \
                              give it http:// or ws://, or the [[listen]] a tls";
/// A fatal alert of TLS: the handshake has failed (RFC 8446 section 6.2).
const TLS_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// Tokens in the epoll set that are not connections.
const WAKE: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 32;

/// Whether a socket is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Read when it is readable.
    On,
    /// Not read in this turn.
    Waits,
    /// Not read, and taken out of the set's interest, until the shard says that the connection is
    /// ready.
    Off,
}

/// The place of a connection's new bytes.
enum NewBytes {
    /// The first bytes of the scratch buffer, as received.
    Plain(usize),
    /// The plaintext of TLS.
    Decrypted,
    /// None: earlier bytes are to be read on.
    None,
}

struct Socket {
    fd: OwnedFd,
    listener: u8,
    reading: Reading,
    /// Whether bytes of a request are kept for it.
    holds: bool,
    /// Whether its preamble of the PROXY protocol is still to come or incomplete.
    awaits_preamble: bool,
    inbox: Option<Box<MessageInbox>>,
    tls: Option<Box<Tls>>,
}

impl Socket {
    /// Bytes of memory held by an incomplete message and an incomplete TLS record.
    fn part_bytes(&self) -> usize {
        MessageInbox::bytes(self.inbox.as_deref())
            + self.tls.as_ref().map_or(0, |tls| tls.part_bytes())
    }

    /// Offers bytes to the kernel.
    fn send(fd: &OwnedFd, bytes: &[u8]) -> Sent {
        match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => Sent::Bytes(count),
            // NOBUFS passes like a full buffer; it must not cost the connection.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Blocked,
            Err(_) => Sent::Broken,
        }
    }
}

/// A descriptor in reserve.
fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
}

/// The sockets of one shard and the set they are in.
pub(super) struct Sockets {
    epoll: OwnedFd,
    /// By number; those that a reload has removed leave `None`. Empty once the daemon stops.
    listeners: Vec<Option<Listener>>,
    /// The dialects of each listener, removed ones included, whose connections stay.
    kinds: Vec<Arc<[Kind]>>,
    sockets: Vec<Option<Socket>>,
    clients: Clients,
    /// Incomplete requests, and the memory of everything incomplete.
    partials: Partials,
    /// The connections that are to be read on in the next turn with room.
    waiting: Vec<Id>,
    /// The connections whose owner of topics asks whether the peer has closed.
    probed: Vec<Id>,
    scratch: Box<[u8]>,
    /// The buffers that TLS of all sockets goes through.
    tls: Scratch,
    ready: Vec<epoll::Event>,
    /// The first ready socket that the turn before had no room for.
    unserved: Option<u64>,
    /// The number of connections of the whole daemon.
    total: Arc<AtomicUsize>,
    /// A descriptor in reserve, to refuse a connection with when none is left.
    spare: Option<OwnedFd>,
    paused_until: Option<Tick>,
    metrics: Arc<Metrics>,
}

impl Sockets {
    /// A set with the shard's listeners and its wake-up.
    pub(super) fn new(
        listeners: Vec<Listener>,
        wake: BorrowedFd<'_>,
        total: Arc<AtomicUsize>,
        clients: Clients,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        for (index, listener) in listeners.iter().enumerate() {
            epoll::add(
                &epoll,
                &listener.socket,
                EventData::new_u64(LISTENERS + index as u64),
                EventFlags::IN,
            )?;
        }
        let kinds = listeners.iter().map(|listener| Arc::clone(&listener.kinds)).collect();
        Ok(Self {
            epoll,
            listeners: listeners.into_iter().map(Some).collect(),
            kinds,
            sockets: Vec::new(),
            clients,
            partials: Partials::default(),
            waiting: Vec::new(),
            probed: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            tls: Scratch::default(),
            ready: Vec::with_capacity(EVENTS_MAX),
            unserved: None,
            total,
            spare: spare(),
            paused_until: None,
            metrics,
        })
    }

    /// The number of connections of the whole daemon.
    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Whether there is no socket, and no pause in accepting to end.
    pub(super) fn is_idle(&self) -> bool {
        self.total() == 0 && self.paused_until.is_none()
    }

    /// The epoll set, which is readable when any socket is ready.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether a request is to be read as soon as there is room for what it may publish.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Handles the sockets that are ready. Returns whether there may be more, and whether the
    /// wake-up was among them. Without room for what clients publish, no client is read any more
    /// once one has published, and no request is answered; writing goes on, or clients that read
    /// would look like slow ones.
    pub(super) fn poll(&mut self, shard: &mut Shard, has_room: bool, now: Now) -> (bool, bool) {
        let mut ready = std::mem::take(&mut self.ready);
        let probed = std::mem::take(&mut self.probed);
        let is_full = self.wait(&mut ready);
        let mut handshakes = 0;
        let mut woken = false;

        // Requests that were held back come before newer bytes.
        if has_room {
            for id in std::mem::take(&mut self.waiting) {
                self.go_on(id, shard, now);
            }
        }

        let mut unserved = None;
        for event in &ready {
            let token = event.data.u64();
            let flags = event.flags;
            if unserved.is_none() && token < LISTENERS && !shard.takes_more() {
                unserved = Some(token);
            }
            if token < LISTENERS && flags.contains(EventFlags::OUT) {
                self.go_on_writing(token as Id, shard);
            }
            if token < LISTENERS && flags != EventFlags::OUT && !self.hears(token as Id) {
                // A connection that is reset takes no answer, so its request need not go on.
                if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
                    shard.lost(token as Id, now);
                }
            } else if token < LISTENERS
                && flags != EventFlags::OUT
                && (has_room || !shard.holds_back())
                && unserved.is_none()
            {
                let shakes_hands = self.shakes_hands(token as Id);
                handshakes += usize::from(shakes_hands);
                // Level-triggered: the handshakes beyond are reported again.
                if !shakes_hands || handshakes <= HANDSHAKES_MAX {
                    self.read(token as Id, shard, has_room, now);
                }
            }
            woken |= token == WAKE;
        }

        // After reading: a peer that has closed may have said why in its last bytes.
        if has_room || !shard.holds_back() {
            probed.iter().for_each(|id| shard.probed(*id, self.has_ended(*id), now));
        } else {
            self.probed = probed;
        }
        // Before accepting: the number of a connection that has ended is free only once its socket
        // is settled.
        self.settle(shard);
        for event in &ready {
            let token = event.data.u64();
            if token >= LISTENERS && token != WAKE {
                self.accept((token - LISTENERS) as usize, shard, now);
            }
        }

        self.ready = ready;
        let more =
            is_full || handshakes > HANDSHAKES_MAX || unserved.is_some() || !self.probed.is_empty();
        self.unserved = unserved;
        (more && (has_room || !shard.holds_back()), woken)
    }

    /// Collects the sockets that are ready now. Returns whether there may be more.
    fn wait(&self, ready: &mut Vec<epoll::Event>) -> bool {
        ready.clear();
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::buffer::spare_capacity(ready);
        let count = epoll::wait(&self.epoll, room, Some(&immediately));

        // Sockets that the turn before had no room for come first: those before them may be ready
        // again already.
        let next = ready.iter().position(|event| Some(event.data.u64()) == self.unserved);
        ready.rotate_left(next.unwrap_or(0));
        count == Ok(EVENTS_MAX)
    }

    fn go_on_writing(&mut self, id: Id, shard: &mut Shard) {
        self.interest(id, EventFlags::empty());
        self.flush(id);
        shard.writable(id);
    }

    fn hears(&self, id: Id) -> bool {
        let socket = self.sockets.get(id as usize).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.reading == Reading::On)
    }

    fn is_off(&self, id: Id) -> bool {
        let socket = self.sockets.get(id as usize).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.reading == Reading::Off)
    }

    fn shakes_hands(&self, id: Id) -> bool {
        let socket = self.sockets.get(id as usize).and_then(Option::as_ref);
        socket.and_then(|socket| socket.tls.as_ref()).is_some_and(|tls| tls.shakes_hands())
    }

    /// Stops accepting, and closes the listeners.
    pub(super) fn stop_accepting(&mut self) {
        self.paused_until = None;
        self.listeners.clear();
        self.listeners.shrink_to_fit();
    }

    /// Applies a reload's change of a listener.
    pub(super) fn change(&mut self, number: usize, change: Change, shard: &mut Shard, now: Now) {
        match change {
            Change::Open(listener) => {
                // Numbers come in order, each once.
                while self.listeners.len() <= number {
                    self.listeners.push(None);
                    self.kinds.push(Arc::clone(&listener.kinds));
                }
                self.listeners[number] = Some(listener);
                self.watch_listener(number);
            }
            Change::Serve { kinds, tls, proxied } => {
                if let Some(Some(listener)) = self.listeners.get_mut(number) {
                    (listener.tls, listener.proxied) = (tls, proxied);
                    self.kinds[number] = kinds;
                }
            }
            Change::Close => {
                // Clients in the backlog would be reset; as many as one call accepts are let in.
                self.accept(number, shard, now);
                if let Some(Some(listener)) = self.listeners.get_mut(number).map(Option::take) {
                    let _ = epoll::delete(&self.epoll, &listener.socket);
                }
            }
        }
    }

    /// Adds a listener to the set, unless accepting pauses: then the end of the pause does.
    fn watch_listener(&self, number: usize) {
        if let (None, Some(Some(listener))) = (self.paused_until, self.listeners.get(number)) {
            let token = EventData::new_u64(LISTENERS + number as u64);
            let _ = epoll::add(&self.epoll, &listener.socket, token, EventFlags::IN);
        }
    }

    /// Applies a reload: counts connections by address when there is a limit now.
    pub(super) fn configure(&mut self, shard: &Shard) {
        let sockets = self
            .sockets
            .iter()
            .enumerate()
            .filter_map(|(id, socket)| Some((id as Id, socket.as_ref()?.fd.as_fd())));
        self.clients.configure(shard.limits(), &shard.settings().trusted_proxies, sockets);
    }

    /// Reads on after bytes that a connection has sent while its requests could not be read.
    fn go_on(&mut self, id: Id, shard: &mut Shard, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        if shard.is_asked(id) {
            // Listed twice, for two reasons: the first has read its next request already.
            return;
        }
        if shard.awaits_request(id) && !shard.is_answered(id) {
            // Its answers must leave before its next request is read; the flush that empties them
            // makes it ready.
            socket.reading = Reading::Off;
            return self.interest(id, EventFlags::OUT);
        }
        let before = std::mem::replace(&mut socket.reading, Reading::On);
        if before == Reading::Off {
            // A session that has just begun may already have more to get than its socket takes.
            let is_blocked =
                !shard.is_answered(id) || socket.tls.as_ref().is_some_and(|tls| tls.is_blocked());
            self.interest(id, if is_blocked { EventFlags::OUT } else { EventFlags::empty() });
        }
        self.take(id, NewBytes::None, shard, true, now);
    }

    fn read(&mut self, id: Id, shard: &mut Shard, has_room: bool, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        let kept =
            if socket.awaits_preamble { self.clients.recall(id, &mut self.scratch) } else { 0 };
        let received =
            rustix::net::recv(&socket.fd, &mut self.scratch[kept..], RecvFlags::DONTWAIT);
        let mut count = match received {
            Ok((_, 0)) => return shard.lost(id, now),
            Ok((_, count)) => kept + count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return shard.lost(id, now),
        };

        if socket.awaits_preamble {
            // Before TLS: the proxy sends it in front of the client's handshake.
            let Some(length) = self.preamble(id, count, shard, now) else { return };
            self.scratch.copy_within(length..count, 0);
            count -= length;
            if count == 0 {
                return;
            }
        }

        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        let Some(tls) = &mut socket.tls else {
            self.metrics.bytes_in.add(count as u64);
            return self.take(id, NewBytes::Plain(count), shard, has_room, now);
        };

        let before = tls.part_bytes();
        let peer = tls.read(&mut self.scratch[..count], &mut self.tls, |records| {
            Socket::send(&socket.fd, records)
        });
        self.partials.change(before, tls.part_bytes());
        let is_blocked = tls.is_blocked();
        if !self.tls.plaintext.is_empty() {
            self.metrics.bytes_in.add(self.tls.plaintext.len() as u64);
            self.take(id, NewBytes::Decrypted, shard, has_room, now);
        }
        // Plaintext before a failure was said in good order, and counts.
        match peer {
            Ok(PeerState::Open) => {}
            Ok(PeerState::Closed) => shard.hang_up(id, now),
            Err(failure) => return self.fail(id, &failure, shard, now),
        }
        if is_blocked {
            self.interest(id, EventFlags::OUT);
        }
        self.bound_parts(shard, now);
    }

    /// Ends a connection whose TLS has failed.
    fn fail(&mut self, id: Id, failure: &Failure, shard: &mut Shard, now: Now) {
        if !shard.awaits_request(id) || matches!(failure, Failure::Gone) {
            return shard.lost(id, now);
        }
        let mut answer = vec![];
        // A client of plain HTTP is answered in its own protocol.
        if let (Failure::Http, Some(Some(socket))) = (failure, self.sockets.get_mut(id as usize)) {
            self.partials.change(socket.tls.take().map_or(0, |tls| tls.part_bytes()), 0);
            answer = http::speaks_tls();
        }
        shard.respond_saying(id, &answer, (Reason::Tls, &failure.to_string()), now);
    }

    /// Refuses TLS on a listener without it: with an alert, or the client would wait for an answer.
    fn refuse_tls(&mut self, id: Id, shard: &mut Shard, now: Now) {
        shard.respond_saying(id, &TLS_ALERT, (Reason::TlsUnexpected, TLS_UNEXPECTED), now);
    }

    /// Offers bytes to a connection's socket, through TLS if it speaks that.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8]) -> Sent {
        let Some(Some(Socket { fd, tls, .. })) = self.sockets.get_mut(id as usize) else {
            return Sent::Broken;
        };
        match tls {
            None => Socket::send(fd, bytes),
            Some(tls) => tls.write(bytes, &mut self.tls, |records| Socket::send(fd, records)),
        }
    }

    /// Sends the TLS records that wait for a socket, and shuts it if they are the last.
    fn flush(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls: Some(tls), .. })) = self.sockets.get_mut(id as usize)
        else {
            return;
        };
        match tls.flush(|records| Socket::send(fd, records)) {
            Sent::Blocked => self.interest(id, EventFlags::OUT),
            Sent::Bytes(_) if tls.is_over() => drop(rustix::net::shutdown(fd, Shutdown::Write)),
            // A broken socket is also readable, and reading ends the connection.
            Sent::Bytes(_) | Sent::Broken => {}
        }
    }

    /// Shuts the sending side, after everything has been sent.
    fn finish(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls, .. })) = self.sockets.get_mut(id as usize) else { return };
        if let Some(tls) = tls
            && tls.close(&mut self.tls, |records| Socket::send(fd, records)) == Sent::Blocked
        {
            return self.interest(id, EventFlags::OUT);
        }
        let _ = rustix::net::shutdown(fd, Shutdown::Write);
    }

    /// Carries out the shard's decisions about its connections.
    pub(super) fn settle(&mut self, shard: &mut Shard) {
        // Addresses first: an event below may forget them with the socket.
        shard.address_callbacks(|id| self.remote(id).map(|remote| remote.ip));
        for report in shard.take_reports() {
            report.log(self.remote(report.id));
        }
        for event in shard.take_events() {
            match event {
                ConnectionEvent::Blocked(id) => {
                    // A client that does not read its answers gets no further request read.
                    if let Some(Some(socket)) = self.sockets.get_mut(id as usize)
                        && shard.awaits_request(id)
                    {
                        socket.reading = Reading::Off;
                    }
                    self.interest(id, EventFlags::OUT);
                }
                ConnectionEvent::Ready(id) => self.waiting.push(id),
                ConnectionEvent::Probe(id) => self.probed.push(id),
                ConnectionEvent::Opened(id) if self.is_off(id) => self.waiting.push(id),
                ConnectionEvent::Opened(_) => {}
                ConnectionEvent::Finished(id) => self.finish(id),
                ConnectionEvent::Gone(id) => {
                    if let Some(socket) = self.sockets.get_mut(id as usize).and_then(Option::take) {
                        self.total.fetch_sub(1, Relaxed);
                        self.clients.forget(id);
                        self.partials.change(socket.part_bytes(), 0);
                        if socket.holds {
                            self.partials.take(id);
                        }
                    }
                }
            }
        }
    }

    /// Whether the peer has shut its side. Reading tells so only after all bytes before it, which
    /// may be many.
    fn has_ended(&self, id: Id) -> bool {
        let Some(Some(Socket { fd, .. })) = self.sockets.get(id as usize) else { return true };
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked_at = [PollFd::new(fd, PollFlags::RDHUP)];
        let looked = poll(&mut looked_at, Some(&immediately));
        looked.is_ok_and(|found| found > 0)
    }

    /// The address of a client, if it is still known.
    fn remote(&self, id: Id) -> Option<Remote> {
        let socket = self.sockets.get(id as usize)?.as_ref()?;
        self.clients.remote(id, socket.fd.as_fd())
    }

    fn interest(&self, id: Id, more: EventFlags) {
        if let Some(Some(socket)) = self.sockets.get(id as usize) {
            let heard = match socket.reading {
                Reading::Off => EventFlags::empty(),
                Reading::On | Reading::Waits => EventFlags::IN | EventFlags::RDHUP,
            };
            let flags = heard | more;
            let _ = epoll::modify(&self.epoll, &socket.fd, EventData::new_u64(id.into()), flags);
        }
    }
}
