//! Sockets in an epoll set.

use super::event::{EVENTS_MAX, Readiness, SocketEvent, SocketInterest};
use crate::shard::Id;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;

/// Tokens in the set that are not connections.
const WAKE: u64 = u64::MAX;
const LISTENERS: u64 = 1 << 32;

/// The set, level-triggered: what is not received is reported again.
pub(in crate::io) struct EpollSockets {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    /// Whether nothing is reported as readable.
    pub(super) is_paused: bool,
}

impl EpollSockets {
    pub(super) fn new(wake: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, ready: Vec::with_capacity(EVENTS_MAX), is_paused: false })
    }

    pub(super) fn wait(&mut self, events: &mut Vec<SocketEvent>, first: Option<Id>) -> bool {
        self.ready.clear();
        let immediately = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::buffer::spare_capacity(&mut self.ready);
        let count = epoll::wait(&self.epoll, room, Some(&immediately));

        events.extend(self.ready.iter().map(|event| event_of(*event)));
        if self.is_paused {
            events.retain_mut(|event| match event {
                SocketEvent::Wake => true,
                SocketEvent::Listener(_) => false,
                SocketEvent::Socket(readiness) => {
                    readiness.is_readable = false;
                    readiness.is_writable
                }
            });
        }
        // Sockets that the turn before had no room for come first: those before them may be ready
        // again already.
        let is_first =
            |event: &SocketEvent| matches!(event, SocketEvent::Socket(it) if Some(it.id) == first);
        let next = events.iter().position(is_first);
        events.rotate_left(next.unwrap_or(0));
        count == Ok(EVENTS_MAX)
    }

    pub(super) fn listen(&self, number: usize, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        let token = EventData::new_u64(LISTENERS + number as u64);
        epoll::add(&self.epoll, listener, token, EventFlags::IN)
    }

    pub(super) fn unlisten(&self, listener: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, listener);
    }

    pub(super) fn add(&self, id: Id, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::RDHUP;
        epoll::add(&self.epoll, socket, EventData::new_u64(id.into()), flags)
    }

    pub(super) fn interest(&self, id: Id, socket: BorrowedFd<'_>, interest: SocketInterest) {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN | EventFlags::RDHUP, interest.reads);
        flags.set(EventFlags::OUT, interest.writes);
        let _ = epoll::modify(&self.epoll, socket, EventData::new_u64(id.into()), flags);
    }

    pub(super) fn receive(
        &self,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(_, count)| count)
    }
}

impl AsFd for EpollSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn event_of(event: epoll::Event) -> SocketEvent {
    let flags = event.flags;
    match event.data.u64() {
        WAKE => SocketEvent::Wake,
        token @ ..LISTENERS => SocketEvent::Socket(Readiness {
            id: token as Id,
            is_readable: flags != EventFlags::OUT,
            is_writable: flags.contains(EventFlags::OUT),
            is_broken: flags.intersects(EventFlags::ERR | EventFlags::HUP),
        }),
        token => SocketEvent::Listener((token - LISTENERS) as usize),
    }
}
