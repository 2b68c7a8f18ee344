//! The sockets of one shard: accepting them, reading the request's head, reading messages, writing.
//!
//! A socket here is a descriptor and, only while a message has come in part, an inbox; one that speaks TLS
//! has its keys too. What has come of a request in part stands beside them, for the few that have any. What it
//! means and what is answered is the shard's business.

mod accept;
mod intake;

use super::clients::Clients;
use super::handoff::Change;
use super::listen::Listener;
use super::partial::Partials;
use super::tls::{Failure, Heard, Scratch, Tls};
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

/// Most sockets that are looked at in one turn.
const EVENTS_MAX: usize = 256;
/// Most TLS handshakes that one turn goes on with. Each is up to a millisecond of arithmetic (a signature with
/// RSA), and when everybody comes back at once, those who are there already should not wait for hundreds.
const HANDSHAKES_MAX: usize = 8;
/// The buffer that every read of a shard goes through.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What the log says of TLS where none is spoken.
const TLS_UNEXPECTED: &str = "a client speaks TLS (https:// or wss://) to a listener without: give it http:// or ws://, or the \
                              [[listen]] a tls";
/// A fatal alert of TLS: the handshake has failed (RFC 8446 section 6.2).
const TLS_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// Tokens of the set that are not connections.
const WAKE: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 32;

/// Whether a socket is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// When something has come.
    On,
    /// Not in this turn.
    Waits,
    /// Not before the shard says that the connection is ready, and nothing is heard of it until then.
    Off,
}

/// Where what has come of a connection lies.
enum Came {
    /// So many bytes, as they were received.
    Plain(usize),
    /// Decrypted.
    Encrypted,
    /// Earlier: it is held.
    Before,
}

struct Socket {
    fd: OwnedFd,
    listener: u8,
    reading: Reading,
    /// Whether something of a request is held for it.
    holds: bool,
    /// Whether its preamble of the PROXY protocol has not come in full.
    awaits_preamble: bool,
    inbox: Option<Box<MessageInbox>>,
    tls: Option<Box<Tls>>,
}

impl Socket {
    /// Bytes of memory for what has come in part of a message, and of a record of TLS.
    fn part_bytes(&self) -> usize {
        MessageInbox::bytes(self.inbox.as_deref())
            + self.tls.as_ref().map_or(0, |tls| tls.part_bytes())
    }

    /// Offers bytes to the kernel as they are.
    fn send(fd: &OwnedFd, bytes: &[u8]) -> Sent {
        match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => Sent::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Blocked,
            Err(_) => Sent::Broken,
        }
    }
}

/// Keeps a descriptor back.
fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
}

/// The sockets of one shard and the set they are in.
pub(super) struct Sockets {
    epoll: OwnedFd,
    /// By number; those that a reload has taken away leave their places. None at all when nobody is accepted any more.
    listeners: Vec<Option<Listener>>,
    /// The dialects of each listener, also when it listens no more.
    kinds: Vec<Arc<[Kind]>>,
    sockets: Vec<Option<Socket>>,
    clients: Clients,
    /// What has come in part.
    partials: Partials,
    /// The connections whose next request may be read.
    waiting: Vec<Id>,
    /// The connections of which somebody wants to know whether the peer lives.
    probed: Vec<Id>,
    scratch: Box<[u8]>,
    /// What TLS of all sockets goes through.
    tls: Scratch,
    ready: Vec<epoll::Event>,
    /// The first of those that were ready for which the turn before had no time.
    unserved: Option<u64>,
    /// Connections of the whole daemon.
    total: Arc<AtomicUsize>,
    /// A descriptor kept back, to answer when there is none left.
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

    /// Connections of the whole daemon.
    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Whether there is no socket, and no listener that is to be looked at again later.
    pub(super) fn is_idle(&self) -> bool {
        self.total() == 0 && self.paused_until.is_none()
    }

    /// The set, to be waited for.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether somebody's request can be read as soon as there is room for what it publishes.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Looks at the sockets that are ready. Returns whether there may be more, and whether the wake-up was
    /// among them. Without room for what clients publish, nobody is read any more once somebody has
    /// published, and no request is answered; everything else goes on, or clients that read would look like slow
    /// ones.
    pub(super) fn poll(&mut self, shard: &mut Shard, has_room: bool, now: Now) -> (bool, bool) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let probed = std::mem::take(&mut self.probed);
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::buffer::spare_capacity(&mut ready);
        let count = epoll::wait(&self.epoll, room, Some(&immediately));
        let mut handshakes = 0;
        let mut woken = false;
        if has_room {
            for id in std::mem::take(&mut self.waiting) {
                self.go_on(id, shard, now);
            }
        }
        // Those that the turn before had no time for come first: whoever has been read may be among the others again.
        let is_next = |event: &epoll::Event| Some(event.data.u64()) == self.unserved;
        let next = ready.iter().position(is_next).unwrap_or(0);
        ready.rotate_left(next);
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
                // Whoever is gone for good wants no answer.
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
                // The others are reported again.
                if !shakes_hands || handshakes <= HANDSHAKES_MAX {
                    self.read(token as Id, shard, has_room, now);
                }
            }
            woken |= token == WAKE;
        }
        // What has come of them until now has been read, a close frame perhaps; or it could not be, and they wait.
        if has_room || !shard.holds_back() {
            probed.iter().for_each(|id| shard.probed(*id, self.has_ended(*id), now));
        } else {
            self.probed = probed;
        }
        // Numbers of connections that have just ended are free for new ones only when they are settled.
        self.settle(shard);
        for event in &ready {
            let token = event.data.u64();
            if token >= LISTENERS && token != WAKE {
                self.accept((token - LISTENERS) as usize, shard, now);
            }
        }
        self.ready = ready;
        let more = count == Ok(EVENTS_MAX)
            || handshakes > HANDSHAKES_MAX
            || unserved.is_some()
            || !self.probed.is_empty();
        self.unserved = unserved;
        (more && (has_room || !shard.holds_back()), woken)
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

    /// Accepts no more.
    pub(super) fn stop_accepting(&mut self) {
        self.paused_until = None;
        self.listeners.clear();
        self.listeners.shrink_to_fit();
    }

    /// Takes over what becomes of a listener.
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
                // Those who have connected already are let in, as far as one look at the backlog goes.
                self.accept(number, shard, now);
                if let Some(Some(listener)) = self.listeners.get_mut(number).map(Option::take) {
                    let _ = epoll::delete(&self.epoll, &listener.socket);
                }
            }
        }
    }

    /// Has a listener waited for, unless accepting pauses: then that is done at the end of the pause.
    fn watch_listener(&self, number: usize) {
        if let (None, Some(Some(listener))) = (self.paused_until, self.listeners.get(number)) {
            let token = EventData::new_u64(LISTENERS + number as u64);
            let _ = epoll::add(&self.epoll, &listener.socket, token, EventFlags::IN);
        }
    }

    /// Counts by address from now on, when there is a limit.
    pub(super) fn configure(&mut self, shard: &Shard) {
        let sockets = self.sockets.iter().enumerate();
        let sockets =
            sockets.filter_map(|(id, socket)| Some((id as Id, socket.as_ref()?.fd.as_fd())));
        self.clients.configure(shard.limits(), &shard.settings().trusted_proxies, sockets);
    }

    /// Reads what a connection has sent while its requests could not be read.
    fn go_on(&mut self, id: Id, shard: &mut Shard, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        if shard.is_asked(id) {
            // It was ready for two reasons, and the first has had its next request read.
            return;
        }
        if shard.awaits_request(id) && !shard.is_answered(id) {
            // Its answers have not all left. It is ready again when they have, for which they must be able to.
            socket.reading = Reading::Off;
            return self.interest(id, EventFlags::OUT);
        }
        let before = std::mem::replace(&mut socket.reading, Reading::On);
        if before == Reading::Off {
            // A session that has just begun may have been told more already than its socket takes.
            let is_blocked =
                !shard.is_answered(id) || socket.tls.as_ref().is_some_and(|tls| tls.is_blocked());
            self.interest(id, if is_blocked { EventFlags::OUT } else { EventFlags::empty() });
        }
        self.take(id, Came::Before, shard, true, now);
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
            return self.take(id, Came::Plain(count), shard, has_room, now);
        };
        let before = tls.part_bytes();
        let heard = tls.read(&mut self.scratch[..count], &mut self.tls, |records| {
            Socket::send(&socket.fd, records)
        });
        self.partials.change(before, tls.part_bytes());
        let is_blocked = tls.is_blocked();
        if !self.tls.plaintext.is_empty() {
            self.metrics.bytes_in.add(self.tls.plaintext.len() as u64);
            self.take(id, Came::Encrypted, shard, has_room, now);
        }
        match heard {
            Ok(Heard::More) => {}
            Ok(Heard::Close) => shard.hang_up(id, now),
            Err(failure) => return self.fail(id, &failure, shard, now),
        }
        if is_blocked {
            self.interest(id, EventFlags::OUT);
        }
        self.bound_parts(shard, now);
    }

    /// Ends a connection that cannot go on with TLS.
    fn fail(&mut self, id: Id, failure: &Failure, shard: &mut Shard, now: Now) {
        if !shard.awaits_request(id) || matches!(failure, Failure::Gone) {
            return shard.lost(id, now);
        }
        let mut answer = vec![];
        if let (Failure::Http, Some(Some(socket))) = (failure, self.sockets.get_mut(id as usize)) {
            self.partials.change(socket.tls.take().map_or(0, |tls| tls.part_bytes()), 0);
            answer = http::speaks_tls();
        }
        shard.respond_saying(id, &answer, (Reason::Tls, &failure.to_string()), now);
    }

    /// A client speaks TLS where none is spoken: it is told in its own words, or it would wait for an answer.
    fn refuse_tls(&mut self, id: Id, shard: &mut Shard, now: Now) {
        shard.respond_saying(id, &TLS_ALERT, (Reason::TlsUnexpected, TLS_UNEXPECTED), now);
    }

    /// Gives bytes to a socket.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8]) -> Sent {
        let Some(Some(Socket { fd, tls, .. })) = self.sockets.get_mut(id as usize) else {
            return Sent::Broken;
        };
        match tls {
            None => Socket::send(fd, bytes),
            Some(tls) => tls.write(bytes, &mut self.tls, |records| Socket::send(fd, records)),
        }
    }

    /// Sends the records that wait for a socket, and what is to come after them.
    fn flush(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls: Some(tls), .. })) = self.sockets.get_mut(id as usize)
        else {
            return;
        };
        match tls.flush(|records| Socket::send(fd, records)) {
            Sent::Blocked => self.interest(id, EventFlags::OUT),
            Sent::Bytes(_) if tls.is_over() => drop(rustix::net::shutdown(fd, Shutdown::Write)),
            // What is broken is found out by reading.
            Sent::Bytes(_) | Sent::Broken => {}
        }
    }

    /// Ends what is sent: everything has been said.
    fn finish(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls, .. })) = self.sockets.get_mut(id as usize) else { return };
        if let Some(tls) = tls
            && tls.close(&mut self.tls, |records| Socket::send(fd, records)) == Sent::Blocked
        {
            return self.interest(id, EventFlags::OUT);
        }
        let _ = rustix::net::shutdown(fd, Shutdown::Write);
    }

    /// Does to the sockets what the shard has decided about its connections.
    pub(super) fn settle(&mut self, shard: &mut Shard) {
        shard.address_callbacks(|id| self.remote(id).map(|remote| remote.ip));
        for report in shard.take_reports() {
            report.log(self.remote(report.id));
        }
        for event in shard.take_events() {
            match event {
                ConnectionEvent::Blocked(id) => {
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

    /// Whether the peer has sent its last: that is read after what came before it, which may be much.
    fn has_ended(&self, id: Id) -> bool {
        let Some(Some(Socket { fd, .. })) = self.sockets.get(id as usize) else { return true };
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut looked_at = [PollFd::new(fd, PollFlags::RDHUP)];
        let looked = poll(&mut looked_at, Some(&immediately));
        looked.is_ok_and(|found| found > 0)
    }

    /// Where a client is, as far as that can be known still.
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
