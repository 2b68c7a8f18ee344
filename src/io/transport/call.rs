//! Sockets by plain system calls.

use crate::outbox::Sent;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags};
use std::io::IoSlice;

/// The flags of accepted sockets.
const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Accepts a connection by a system call.
pub(in crate::io) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, ACCEPTED)
}

/// Offers bytes to a socket by a system call.
pub(in crate::io) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Sent {
    outcome(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
}

/// Offers bytes that lie in several places to a socket by a system call.
pub(in crate::io) fn send_vectored(socket: BorrowedFd<'_>, bytes: &[IoSlice<'_>]) -> Sent {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    outcome(rustix::net::sendmsg(socket, bytes, &mut Default::default(), flags))
}

/// Shuts the sending side of a socket, behind everything that was sent. Not by the ring: the kernel
/// leaves that to another thread, which finds the socket by its number when that may be another
/// connection's.
pub(in crate::io) fn shut_write(socket: BorrowedFd<'_>) {
    // A connection that has gone needs no goodbye.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// What the kernel has done with a send.
pub(super) fn outcome(sent: Result<usize, Errno>) -> Sent {
    match sent {
        Ok(count) => Sent::Bytes(count),
        // NOBUFS passes like a full buffer; it must not cost the connection.
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Blocked,
        Err(_) => Sent::Broken,
    }
}
