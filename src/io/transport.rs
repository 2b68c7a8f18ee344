//! How the sockets of a shard wait, receive and send: on io_uring, or on epoll.
//!
//! Both tell of the same [`SocketEvent`]s and take the same calls, so that `connection` does not
//! know which it has. On epoll each accept, receive and send is a system call of its own. On a ring the
//! kernel accepts and receives by itself, and what a turn sends leaves in one call, as does what it
//! closes.
//!
//! What is rare goes by plain system calls on either, because sockets keep their descriptors: the
//! backlog of a slow client, records of TLS that a handshake or an alert causes, refusals.

mod call;
mod epoll;
mod event;
mod received;
mod ring;

pub(super) use self::call::{accept, send, send_vectored, shut_write};
pub(super) use self::event::{Readiness, SocketEvent, SocketInterest};
pub(super) use self::ring::accepted_ahead_max;

use self::epoll::EpollSockets;
use self::ring::RingSockets;
use super::ring::ORDERS_MAX;
use super::runtime::ChosenDriver;
use crate::outbox::Sent;
use crate::shard::Id;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io;

/// The sockets of one shard, as the kernel sees them.
pub(super) enum Transport {
    Epoll(EpollSockets),
    Ring(Box<RingSockets>),
}

impl Transport {
    /// A transport that waits for the shard's wake-up.
    pub(super) fn new(driver: ChosenDriver, wake: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(match driver {
            ChosenDriver::Epoll => Self::Epoll(EpollSockets::new(wake)?),
            ChosenDriver::IoUring => Self::Ring(Box::new(RingSockets::new(wake)?)),
        })
    }

    /// A descriptor that is readable when there are events.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        match self {
            Self::Epoll(sockets) => sockets.as_fd(),
            Self::Ring(sockets) => sockets.as_fd(),
        }
    }

    /// Collects the events of now. Returns whether there may be more. Sockets that the caller does
    /// not receive from are reported again, in the same order and before all others, from `first`
    /// on; `socket` knows the descriptors of all.
    pub(super) fn wait<'a>(
        &mut self,
        events: &mut Vec<SocketEvent>,
        first: Option<Id>,
        socket: impl Fn(Id) -> Option<BorrowedFd<'a>>,
    ) -> bool {
        events.clear();
        match self {
            Self::Epoll(sockets) => sockets.wait(events, first),
            Self::Ring(sockets) => sockets.wait(events, socket),
        }
    }

    /// Hands what was ordered to the kernel, which it must be before the shard waits. Returns
    /// whether there are events already.
    pub(super) fn submit<'a>(&mut self, socket: impl Fn(Id) -> Option<BorrowedFd<'a>>) -> bool {
        match self {
            Self::Epoll(_) => false,
            Self::Ring(sockets) => sockets.submit(socket),
        }
    }

    /// Starts to wait for a listener's connections.
    pub(super) fn listen(&mut self, number: usize, listener: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Epoll(sockets) => sockets.listen(number, listener)?,
            Self::Ring(sockets) => sockets.listen(number, listener),
        }
        Ok(())
    }

    /// Whether the kernel may accept connections before their turn, each of which takes a
    /// descriptor that is not counted yet: [`accepted_ahead_max`] of them at most.
    pub(super) fn accept_ahead(&mut self, is_allowed: bool) {
        match self {
            Self::Epoll(_) => {}
            Self::Ring(sockets) => sockets.accept_ahead(is_allowed),
        }
    }

    /// Takes a connection of a listener that is accepted already and waits.
    pub(super) fn take_accepted(&mut self, number: usize) -> Option<OwnedFd> {
        match self {
            Self::Epoll(_) => None,
            Self::Ring(sockets) => sockets.take_accepted(number),
        }
    }

    /// Closes the connections of a listener that are accepted and wait: nobody takes them any more.
    pub(super) fn forget_listener(&mut self, number: usize) {
        match self {
            Self::Epoll(_) => {}
            Self::Ring(sockets) => sockets.forget_listener(number),
        }
    }

    /// Reports a socket that is left unreceived behind all others, next time.
    pub(super) fn postpone(&mut self, id: Id) {
        match self {
            // The kernel goes through its list.
            Self::Epoll(_) => {}
            Self::Ring(sockets) => sockets.postpone(id),
        }
    }

    /// Forgets what a socket that is not read has received.
    pub(super) fn forget_kept(&mut self, id: Id) {
        match self {
            Self::Epoll(_) => {}
            Self::Ring(sockets) => sockets.forget_kept(id),
        }
    }

    /// Stops waiting for a listener's connections; those that the kernel has accepted until then
    /// can still be had from [`Transport::accept`].
    pub(super) fn unlisten(&mut self, number: usize, listener: BorrowedFd<'_>) {
        match self {
            Self::Epoll(sockets) => sockets.unlisten(listener),
            Self::Ring(sockets) => sockets.unlisten(number),
        }
    }

    /// Takes the next connection of a listener.
    pub(super) fn accept(
        &mut self,
        number: usize,
        listener: BorrowedFd<'_>,
    ) -> Result<OwnedFd, Errno> {
        match self {
            Self::Epoll(_) => accept(listener),
            Self::Ring(sockets) => sockets.accept(number, listener),
        }
    }

    /// Adds an accepted socket, which is read from now on.
    pub(super) fn add(&mut self, id: Id, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        match self {
            Self::Epoll(sockets) => sockets.add(id, socket),
            Self::Ring(sockets) => {
                sockets.add(id, socket);
                Ok(())
            }
        }
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, id: Id, socket: OwnedFd) {
        match self {
            // Closing takes it out of the set.
            Self::Epoll(_) => drop(socket),
            Self::Ring(sockets) => sockets.close(id, socket),
        }
    }

    /// Sets what a socket waits for.
    pub(super) fn interest(&mut self, id: Id, socket: BorrowedFd<'_>, interest: SocketInterest) {
        match self {
            Self::Epoll(sockets) => sockets.interest(id, socket, interest),
            Self::Ring(sockets) => sockets.interest(id, socket, interest),
        }
    }

    /// Receives bytes of a socket; none is its end.
    pub(super) fn receive(
        &mut self,
        id: Id,
        socket: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        match self {
            Self::Epoll(sockets) => sockets.receive(socket, buffer),
            Self::Ring(sockets) => sockets.receive(id, buffer),
        }
    }

    /// Has nothing received, nor anything reported that can be, until [`Transport::resume`].
    pub(super) fn pause(&mut self) {
        match self {
            Self::Epoll(sockets) => sockets.is_paused = true,
            Self::Ring(sockets) => sockets.pause(),
        }
    }

    /// Whether the pause has come into force, so that the kernel takes no more from the sockets.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Epoll(sockets) => sockets.is_paused,
            Self::Ring(sockets) => sockets.is_quiet(),
        }
    }

    /// Ends the pause.
    pub(super) fn resume(&mut self) {
        match self {
            Self::Epoll(sockets) => sockets.is_paused = false,
            Self::Ring(sockets) => sockets.resume(),
        }
    }

    /// A copy of what has been received of a socket and was not taken; `None` when it is broken.
    pub(super) fn unread(&self, id: Id) -> Option<Vec<u8>> {
        match self {
            // It is all in the socket.
            Self::Epoll(_) => Some(Vec::new()),
            Self::Ring(sockets) => sockets.unread(id),
        }
    }

    /// Bytes of memory that hold what a socket that is not read has received.
    pub(super) fn kept_bytes(&self, id: Id) -> usize {
        match self {
            Self::Epoll(_) => 0,
            Self::Ring(sockets) => sockets.kept_bytes(id),
        }
    }

    /// The same of all sockets.
    pub(super) fn all_kept_bytes(&self) -> usize {
        match self {
            Self::Epoll(_) => 0,
            Self::Ring(sockets) => sockets.all_kept_bytes(),
        }
    }

    /// Maximum number of sockets that one call of [`Transport::send_all`] serves.
    pub(super) fn batch_max(&self) -> usize {
        match self {
            Self::Epoll(_) => 1,
            Self::Ring(_) => ORDERS_MAX as usize,
        }
    }

    /// Offers bytes to sockets, and appends the outcome of each.
    pub(super) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])> + Clone,
        sent: &mut Vec<Sent>,
    ) {
        match self {
            Self::Epoll(_) => sent.extend(sends.map(|(socket, bytes)| send(socket, bytes))),
            Self::Ring(sockets) => sockets.send_all(sends, sent),
        }
    }
}

#[cfg(test)]
mod tests;
