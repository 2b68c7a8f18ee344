//! What a connection has that was let in: its app, its channels, and what only few connections need.

use super::entrance::AppPlace;
use super::member::EchoMember;
use super::socket::SocketId;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// A connection that was let in.
pub(super) struct EchoLive {
    pub(super) place: AppPlace,
    pub(super) socket: SocketId,
    /// When the client was heard last.
    pub(super) heard_ns: u64,
    /// Whether it was asked since whether it is there.
    pub(super) is_asked: bool,
    /// Counts the presence channels that were asked for.
    pub(super) asked: u32,
    pub(super) channels: SmallVec<[EchoChannel; 1]>,
    pub(super) rare: Option<Box<Rare>>,
}

/// What most connections never have, or not for long.
#[derive(Default)]
pub(super) struct Rare {
    /// Who has signed in.
    pub(super) user: Option<EchoMember>,
    /// What the owners of channels' presence have not answered, in order.
    pub(super) joins: VecDeque<Join>,
    /// When the events of the last second were sent to other clients.
    pub(super) sent_ns: VecDeque<u64>,
}

/// A channel that a connection is in, or has asked to join.
pub(super) struct EchoChannel {
    pub(super) name: Box<str>,
    /// On a presence channel, who the connection is there.
    pub(super) user: Option<Box<str>>,
    /// Which of the connection's wishes to join it was made by; 0 for a channel without members.
    pub(super) wish: u32,
    /// Whether its events flow.
    pub(super) is_in: bool,
}

/// A wish to join that has not been answered.
pub(super) struct Join {
    pub(super) channel: Box<str>,
    /// The number of the channel's first wish.
    pub(super) wish: u32,
    pub(super) user: Box<str>,
}

impl EchoLive {
    /// What a rare connection has.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured over 200,000 connections with a channel of its own each: 97 bytes for the session beyond a bare
    /// connection, and 162 for the channel's name, the trie and the owner's presence.
    #[test]
    fn a_connection_with_one_channel_takes_96_bytes_beside_the_name() {
        assert!(size_of::<EchoLive>() <= 96, "{}", size_of::<EchoLive>());
    }
}
