//! The sockets of one shard: accepting, reading requests and messages, writing.
//!
//! A socket here is a descriptor and, only while a message is incomplete, an inbox; one that speaks
//! TLS has its keys too. Incomplete requests stand beside them, for the few that have any. The
//! meaning of the bytes, and the answers, are the shard's business.

mod accept;
mod handover;
mod inspecting;
mod intake;
mod sending;

use super::clients::Clients;
use super::handoff::Change;
use super::listen::{Listener, ListenerTerms};
use super::partial::Partials;
use super::tls::{Failure, PeerState, Scratch, Tls};
use super::transport::{self, Readiness, SocketEvent, SocketInterest, Transport};
use crate::http;
use crate::inspect::SessionEnd;
use crate::message::MessageInbox;
use crate::metrics::Metrics;
use crate::outbox::Sent;
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::shard::{ConnectionEvent, Id, Shard};
use crate::wheel::{Now, Tick};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// Whether a socket is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Read when it is readable.
    On,
    /// Not read in this turn.
    Waits,
    /// Not read, nor waited for, until the shard says that the connection is ready.
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
}

/// What has come of the ready sockets of one turn.
#[derive(Default)]
struct PollRound {
    /// The number of TLS handshakes among them.
    handshakes: usize,
    /// Whether some were left unread.
    is_left: bool,
}

/// A descriptor in reserve.
fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
}

/// The sockets of one shard and what carries their bytes.
pub(super) struct Sockets {
    transport: Transport,
    /// By number; those that a reload has removed leave `None`. Empty once the daemon stops.
    listeners: Vec<Option<Listener>>,
    /// Those of each listener, removed ones included, whose connections stay.
    terms: Vec<ListenerTerms>,
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
    /// Scratch for the outcomes of a batch of sends.
    outcomes: Vec<Sent>,
    events: Vec<SocketEvent>,
    /// Connections that were accepted for other shards, with their listeners.
    passed: Vec<(usize, u8, OwnedFd)>,
    /// The first ready socket that the turn before had no room for.
    unserved: Option<Id>,
    /// Of the incomplete, the bytes that the transport keeps.
    kept_bytes: usize,
    /// Ends of sessions that are to be kept.
    ended: Vec<SessionEnd>,
    /// The number of connections of the whole daemon.
    total: Arc<AtomicUsize>,
    /// A descriptor in reserve, to refuse a connection with when none is left.
    spare: Option<OwnedFd>,
    paused_until: Option<Tick>,
    /// Whether nothing is read or accepted, because the process is handing over or taking over.
    is_paused: bool,
    /// What the process before has received of connections that it has handed over.
    unread: Vec<(Id, Vec<u8>)>,
    metrics: Arc<Metrics>,
}

impl Sockets {
    /// Sockets of the shard's listeners on a transport, which are not accepted from yet.
    pub(super) fn new(
        listeners: Vec<Listener>,
        transport: Transport,
        total: Arc<AtomicUsize>,
        clients: Clients,
        metrics: Arc<Metrics>,
    ) -> Self {
        let terms = listeners.iter().map(Listener::terms).collect();
        Self {
            transport,
            listeners: listeners.into_iter().map(Some).collect(),
            terms,
            sockets: Vec::new(),
            clients,
            partials: Partials::default(),
            waiting: Vec::new(),
            probed: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            tls: Scratch::default(),
            outcomes: Vec::new(),
            events: Vec::new(),
            passed: Vec::new(),
            unserved: None,
            kept_bytes: 0,
            ended: Vec::new(),
            total,
            spare: spare(),
            paused_until: None,
            is_paused: false,
            unread: Vec::new(),
            metrics,
        }
    }

    /// Accepts from now on.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let Self { transport, listeners, .. } = self;
        let open = listeners.iter().enumerate();
        let open = open.filter_map(|(number, listener)| Some((number, listener.as_ref()?)));
        let mut accepting = open.filter(|(_, listener)| listener.accepts());
        accepting
            .try_for_each(|(number, listener)| transport.listen(number, listener.socket.as_fd()))
    }

    /// The number of connections of the whole daemon.
    pub(super) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Whether there is no socket, and no pause in accepting to end.
    pub(super) fn is_idle(&self) -> bool {
        self.total() == 0 && self.paused_until.is_none()
    }

    /// A descriptor that is readable when any socket is ready.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.transport.set()
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
        let mut events = std::mem::take(&mut self.events);
        let probed = std::mem::take(&mut self.probed);
        let Self { transport, sockets, .. } = self;
        let is_full =
            transport.wait(&mut events, self.unserved.take(), |id| descriptor(sockets, id));
        self.count_kept();

        // Requests that were held back come before newer bytes.
        if has_room {
            for id in std::mem::take(&mut self.waiting) {
                self.go_on(id, shard, now);
            }
        }

        let mut round = PollRound::default();
        for event in &events {
            let SocketEvent::Socket(readiness) = *event else { continue };
            if self.unserved.is_none() && !shard.takes_more() {
                self.unserved = Some(readiness.id);
            }
            if readiness.is_writable {
                self.go_on_writing(readiness.id, shard);
            }
            if readiness.is_readable {
                self.serve(readiness, &mut round, shard, has_room, now);
            }
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
        for event in &events {
            if let SocketEvent::Listener(number) = *event {
                self.accept(number, shard, now);
            }
        }

        let woken = events.contains(&SocketEvent::Wake);
        self.events = events;
        let more = is_full
            || round.is_left
            || round.handshakes > HANDSHAKES_MAX
            || self.unserved.is_some()
            || !self.probed.is_empty();
        (more, woken)
    }

    /// Reads a socket that is readable, if it is its turn.
    fn serve(
        &mut self,
        Readiness { id, is_broken, .. }: Readiness,
        round: &mut PollRound,
        shard: &mut Shard,
        has_room: bool,
        now: Now,
    ) {
        if !self.hears(id) {
            // A connection that is reset takes no answer, so its request need not go on.
            if is_broken {
                shard.lost(id, now);
            }
            return;
        }
        if (!has_room && shard.holds_back()) || self.unserved.is_some() {
            round.is_left = true;
            return;
        }
        let shakes_hands = self.shakes_hands(id);
        round.handshakes += usize::from(shakes_hands);
        // The handshakes beyond are reported again, behind what others say.
        if shakes_hands && round.handshakes > HANDSHAKES_MAX {
            self.transport.postpone(id);
        } else {
            self.read(id, shard, has_room, now);
        }
    }

    /// Counts what the transport keeps among the incomplete.
    fn count_kept(&mut self) {
        let kept = self.transport.all_kept_bytes();
        self.partials.change(std::mem::replace(&mut self.kept_bytes, kept), kept);
    }

    /// Hands to the kernel what the turn has ordered. Returns whether there are events already.
    pub(super) fn submit(&mut self) -> bool {
        let Self { transport, sockets, .. } = self;
        transport.submit(|id| descriptor(sockets, id))
    }

    fn go_on_writing(&mut self, id: Id, shard: &mut Shard) {
        self.interest(id, false);
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

    /// The connections that were accepted for other shards.
    pub(super) fn take_passed(&mut self) -> std::vec::Drain<'_, (usize, u8, OwnedFd)> {
        self.passed.drain(..)
    }

    /// Stops accepting, and closes the listeners. Connections that the kernel has accepted until
    /// then are let in: closed now, they would be reset.
    pub(super) fn stop_accepting(&mut self, shard: &mut Shard, now: Now) {
        self.paused_until = None;
        self.unlisten();
        for number in 0..self.listeners.len() {
            self.accept_last(number, shard, now);
        }
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
                    self.terms.push(listener.terms());
                }
                self.listeners[number] = Some(listener);
                self.watch_listener(number);
            }
            Change::Serve { kinds, tls, proxied } => {
                if let Some(Some(_)) = self.listeners.get(number) {
                    self.terms[number] = ListenerTerms { kinds, tls, proxied };
                }
            }
            Change::Close => {
                if let Some(Some(listener)) = self.listeners.get(number) {
                    self.transport.unlisten(number, listener.socket.as_fd());
                }
                // Clients in the backlog would be reset; as many as one call accepts are let in.
                self.accept(number, shard, now);
                self.transport.forget_listener(number);
                if let Some(listener) = self.listeners.get_mut(number) {
                    *listener = None;
                }
            }
        }
    }

    /// Waits for a listener's connections, unless accepting pauses: then the end of the pause does.
    fn watch_listener(&mut self, number: usize) {
        if let (None, Some(Some(listener))) = (self.paused_until, self.listeners.get(number))
            && listener.accepts()
            && let Err(error) = self.transport.listen(number, listener.socket.as_fd())
        {
            tracing::error!(
                "listener {number} cannot be waited for ({error}) and accepts nothing more: restart \
                 the daemon"
            );
        }
    }

    /// Waits for no listener any more.
    fn unlisten(&mut self) {
        for (number, listener) in self.listeners.iter().enumerate() {
            if let Some(listener) = listener {
                self.transport.unlisten(number, listener.socket.as_fd());
            }
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
            return self.interest(id, true);
        }
        let before = std::mem::replace(&mut socket.reading, Reading::On);
        if before == Reading::Off {
            // A session that has just begun may already have more to get than its socket takes.
            let is_blocked =
                !shard.is_answered(id) || socket.tls.as_ref().is_some_and(|tls| tls.is_blocked());
            self.interest(id, is_blocked);
        }
        self.take(id, NewBytes::None, shard, true, now);
    }

    fn read(&mut self, id: Id, shard: &mut Shard, has_room: bool, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        let kept =
            if socket.awaits_preamble { self.clients.recall(id, &mut self.scratch) } else { 0 };
        let received = self.transport.receive(id, socket.fd.as_fd(), &mut self.scratch[kept..]);
        let mut count = match received {
            Ok(0) => return shard.lost(id, now),
            Ok(count) => kept + count,
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
            transport::send(socket.fd.as_fd(), records)
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
            self.interest(id, true);
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

    /// Sends the TLS records that wait for a socket, and shuts it if they are the last.
    fn flush(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls: Some(tls), .. })) = self.sockets.get_mut(id as usize)
        else {
            return;
        };
        match tls.flush(|records| transport::send(fd.as_fd(), records)) {
            Sent::Blocked => self.interest(id, true),
            Sent::Bytes(_) if tls.is_over() => transport::shut_write(fd.as_fd()),
            // A broken socket is also readable, and reading ends the connection.
            Sent::Bytes(_) | Sent::Broken => {}
        }
    }

    /// Shuts the sending side, after everything has been sent.
    fn finish(&mut self, id: Id) {
        let Some(Some(Socket { fd, tls, .. })) = self.sockets.get_mut(id as usize) else { return };
        if let Some(tls) = tls
            && tls.close(&mut self.tls, |records| transport::send(fd.as_fd(), records))
                == Sent::Blocked
        {
            return self.interest(id, true);
        }
        transport::shut_write(fd.as_fd());
    }

    /// Carries out the shard's decisions about its connections.
    pub(super) fn settle(&mut self, shard: &mut Shard) {
        // Addresses first: an event below may forget them with the socket.
        shard.address_callbacks(|id| self.remote(id).map(|remote| remote.ip));
        for report in shard.take_reports() {
            let remote = report.id.and_then(|id| self.remote(id));
            self.ended.extend(report.complete(remote));
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
                    self.interest(id, true);
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
                        self.transport.close(id, socket.fd);
                    }
                }
            }
        }
    }

    /// The ends of sessions since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<SessionEnd> {
        std::mem::take(&mut self.ended)
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

    /// Has the transport wait for what the socket is to do next.
    fn interest(&mut self, id: Id, writes: bool) {
        if let Some(Some(socket)) = self.sockets.get(id as usize) {
            let reads = socket.reading != Reading::Off;
            self.transport.interest(id, socket.fd.as_fd(), SocketInterest { reads, writes });
        }
    }
}

/// The descriptor of a connection.
fn descriptor(sockets: &[Option<Socket>], id: Id) -> Option<BorrowedFd<'_>> {
    sockets.get(id as usize)?.as_ref().map(|socket| socket.fd.as_fd())
}
