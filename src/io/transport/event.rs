//! What a transport reports, and what it is asked to wait for.

use crate::shard::Id;

/// Maximum number of ready sockets reported at once.
pub(super) const EVENTS_MAX: usize = 256;

/// Something that a shard's sockets wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum SocketEvent {
    /// Another thread has woken this one.
    Wake,
    /// Connections can be accepted from the listener with this number.
    Listener(usize),
    /// A socket is ready.
    Socket(Readiness),
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct Readiness {
    pub(in crate::io) id: Id,
    /// Bytes, an end or an error can be received.
    pub(in crate::io) is_readable: bool,
    /// It takes bytes again.
    pub(in crate::io) is_writable: bool,
    /// The connection was reset, or both sides are shut.
    pub(in crate::io) is_broken: bool,
}

/// What a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct SocketInterest {
    /// Whether bytes are received.
    pub(in crate::io) reads: bool,
    /// Whether it is told when the socket takes bytes.
    pub(in crate::io) writes: bool,
}
