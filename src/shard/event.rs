//! Events of a shard's connections, for the owner of the sockets.

/// The number of a connection of this shard; reused after the connection is gone.
pub type Id = u32;

/// A connection that its socket's owner has to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Everything has been sent: shut the sending side.
    Finished(Id),
    /// The socket refuses bytes: call [`Shard::writable`](super::Shard::writable) when it takes
    /// them again.
    Blocked(Id),
    /// The connection no longer exists here: close the socket.
    Gone(Id),
    /// The connection takes requests again: read what it has sent meanwhile.
    Ready(Id),
    /// Look whether the peer has closed, and answer with [`Shard::probed`](super::Shard::probed).
    Probe(Id),
    /// The handshake has been answered: read what the client has sent behind it.
    Opened(Id),
}
