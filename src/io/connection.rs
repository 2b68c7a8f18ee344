//! The sockets of one shard: accepting them, reading the request's head, reading messages, writing.
//!
//! A socket here is a descriptor and, only while something has come in part, an inbox. What it means and
//! what is answered is the shard's business.

use super::head;
use crate::api;
use crate::dialect::Kind;
use crate::message::{self, Flow, Inbox};
use crate::metrics::{Handshake, Metrics};
use crate::outbox::Sent;
use crate::shard::{Event, Id, Shard};
use crate::wheel::{Now, TICK_MS, Tick};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most connections accepted from one listener in one turn.
const ACCEPTS_MAX: usize = 64;
/// Most sockets that are looked at in one turn.
const EVENTS_MAX: usize = 256;
/// The buffer that every read of a shard goes through.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE_TICKS: Tick = (500 / TICK_MS) as Tick;

/// Tokens of the set that are not connections.
const WAKE: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 32;

/// A listener of this shard.
pub(super) struct Listener {
    /// The socket, one of several on its port.
    pub(super) socket: OwnedFd,
    /// The dialects that it speaks.
    pub(super) kinds: Arc<[Kind]>,
}

struct Socket {
    fd: OwnedFd,
    listener: u8,
    inbox: Option<Box<Inbox>>,
}

/// The sockets of one shard and the set they are in.
pub(super) struct Sockets {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    sockets: Vec<Option<Socket>>,
    scratch: Box<[u8]>,
    ready: Vec<epoll::Event>,
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
        Ok(Self {
            epoll,
            listeners,
            sockets: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            ready: Vec::with_capacity(EVENTS_MAX),
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

    /// The set, to be waited for.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Looks at the sockets that are ready. Returns whether there may be more, and whether the wake-up was
    /// among them. Without room for what clients publish, nobody is read any more once somebody has
    /// published; everything else goes on, or clients that read would look like slow ones.
    pub(super) fn poll(&mut self, shard: &mut Shard, has_room: bool, now: Now) -> (bool, bool) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&immediately));
        let mut woken = false;
        for event in &ready {
            let token = event.data.u64();
            let flags = event.flags;
            if token < LISTENERS && flags.contains(EventFlags::OUT) {
                self.interest(token as Id, EventFlags::empty());
                shard.writable(token as Id);
            }
            if token < LISTENERS && flags != EventFlags::OUT && (has_room || !shard.holds_back()) {
                self.read(token as Id, shard, now);
            }
            woken |= token == WAKE;
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
        (count == Ok(EVENTS_MAX) && (has_room || !shard.holds_back()), woken)
    }

    fn accept(&mut self, index: usize, shard: &mut Shard, now: Now) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = self.listeners.get(index) else { return };
            match rustix::net::accept_with(&listener.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => self.admit(fd, index as u8, shard, now),
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.metrics.accept_errors.add(1);
                    return self.shed(index, now);
                }
                // The peer has gone before it was accepted.
                Err(_) => self.metrics.accept_errors.add(1),
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd, listener: u8, shard: &mut Shard, now: Now) {
        if !shard.has_room(self.total.load(Relaxed)) {
            return self.turn_away(&fd);
        }
        let id = shard.accept(now);
        let flags = EventFlags::IN | EventFlags::RDHUP;
        if epoll::add(&self.epoll, &fd, EventData::new_u64(id.into()), flags).is_err() {
            self.metrics.accept_errors.add(1);
            shard.lost(id, now);
            // Or the next connection would have the number, and be taken for the one that has gone.
            return self.settle(shard);
        }
        self.total.fetch_add(1, Relaxed);
        let index = id as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket { fd, listener, inbox: None });
    }

    /// Tells a connection for which there is no room to come again.
    fn turn_away(&mut self, fd: &OwnedFd) {
        self.metrics.handshakes[Handshake::Shed as usize].add(1);
        // Closing a socket with unread bytes resets the connection, and the peer may lose the answer.
        let _ = rustix::net::recv(fd, &mut self.scratch[..], RecvFlags::DONTWAIT);
        let _ = rustix::net::send(fd, &api::refusal(503), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// No descriptor is left: gives up the spare one to tell the next in line, then pauses.
    fn shed(&mut self, index: usize, now: Now) {
        self.spare = None;
        if let Some(listener) = self.listeners.get(index)
            && let Ok(fd) =
                rustix::net::accept_with(&listener.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            self.turn_away(&fd);
        }
        self.spare = spare();
        self.paused_until = Some(now.tick() + ACCEPT_PAUSE_TICKS);
        for listener in &self.listeners {
            let _ = epoll::delete(&self.epoll, &listener.socket);
        }
    }

    /// Takes accepting up again when its pause is over.
    pub(super) fn tick(&mut self, now: Now) {
        if self.paused_until.is_some_and(|until| until <= now.tick()) {
            self.paused_until = None;
            for (index, listener) in self.listeners.iter().enumerate() {
                let token = EventData::new_u64(LISTENERS + index as u64);
                let _ = epoll::add(&self.epoll, &listener.socket, token, EventFlags::IN);
            }
        }
    }

    /// Accepts no more.
    pub(super) fn stop_accepting(&mut self) {
        self.paused_until = None;
        self.listeners.clear();
        self.listeners.shrink_to_fit();
    }

    fn read(&mut self, id: Id, shard: &mut Shard, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        let received = rustix::net::recv(&socket.fd, &mut self.scratch[..], RecvFlags::DONTWAIT);
        let bytes = match received {
            Ok((_, 0)) => return shard.lost(id, now),
            Ok((_, count)) => &mut self.scratch[..count],
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return shard.lost(id, now),
        };
        self.metrics.bytes_in.add(bytes.len() as u64);
        if shard.awaits_request(id) {
            let Some(listener) = self.listeners.get(usize::from(socket.listener)) else {
                // The daemon stops.
                return shard.respond(id, &api::refusal(503), Handshake::Shed, now);
            };
            let Some(rest) = head::read(&mut socket.inbox, bytes, &listener.kinds, id, shard, now) else {
                return;
            };
            if !rest.is_empty() {
                receive(socket, &mut bytes[rest], id, shard, now);
            }
        } else {
            receive(socket, bytes, id, shard, now);
        }
    }

    /// Gives bytes to a socket.
    pub(super) fn write(&self, id: Id, bytes: &[u8]) -> Sent {
        let Some(Some(socket)) = self.sockets.get(id as usize) else { return Sent::Broken };
        match rustix::net::send(&socket.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => Sent::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Blocked,
            Err(_) => Sent::Broken,
        }
    }

    /// Does to the sockets what the shard has decided about its connections.
    pub(super) fn settle(&mut self, shard: &mut Shard) {
        for event in shard.take_events() {
            match event {
                Event::Blocked(id) => self.interest(id, EventFlags::OUT),
                Event::Finished(id) => {
                    if let Some(Some(socket)) = self.sockets.get(id as usize) {
                        let _ = rustix::net::shutdown(&socket.fd, Shutdown::Write);
                    }
                }
                Event::Gone(id) => {
                    if self.sockets.get_mut(id as usize).and_then(Option::take).is_some() {
                        self.total.fetch_sub(1, Relaxed);
                    }
                }
            }
        }
    }

    fn interest(&self, id: Id, more: EventFlags) {
        if let Some(Some(socket)) = self.sockets.get(id as usize) {
            let flags = EventFlags::IN | EventFlags::RDHUP | more;
            let _ = epoll::modify(&self.epoll, &socket.fd, EventData::new_u64(id.into()), flags);
        }
    }
}

fn receive(socket: &mut Socket, bytes: &mut [u8], id: Id, shard: &mut Shard, now: Now) {
    let Some(limit) = shard.message_bytes_max(id) else { return };
    let read = message::read(&mut socket.inbox, bytes, limit, |received| {
        shard.receive(id, received, now);
        if shard.message_bytes_max(id).is_some() { Flow::On } else { Flow::Stop }
    });
    if let Err(violation) = read {
        socket.inbox = None;
        shard.violate(id, violation, now);
    }
}

fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()
}
