//! What a shard tells of its connections to those who have the sockets.

/// A connection of this shard. Reused after the connection is gone.
pub type Id = u32;

/// What flushing found out about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Everything has been said: shut the sending side.
    Finished(Id),
    /// The socket refuses bytes: call [`Shard::writable`](super::Shard::writable) when it takes them again.
    Blocked(Id),
    /// The connection no longer exists here: close the socket.
    Gone(Id),
    /// The connection takes requests again: what it has sent meanwhile is to be read.
    Ready(Id),
    /// Whether the peer still lives is to be looked at; answered by [`Shard::probed`](super::Shard::probed).
    Probe(Id),
    /// The handshake has been answered: what the client has sent behind it is to be read.
    Opened(Id),
}
