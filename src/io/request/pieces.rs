//! The requests of one connection as they come in pieces, without a socket: what tests and fuzz
//! targets drive, to hold a request that comes whole against the same one in pieces. The sockets of
//! a shard do the same with what they read.

use super::{Next, Progress, RequestContext};
use crate::dialect::Kind;
use crate::io::clients::Clients;
use crate::io::partial::PartialRequest;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::{AsFd as _, OwnedFd};
use std::io;

/// What has been read of one connection.
pub struct Pieces {
    id: Id,
    held: Option<PartialRequest>,
    clients: Clients,
    /// No socket, so that no address is known.
    socket: OwnedFd,
}

/// What follows a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PiecesNext {
    /// The rest of a request, or another one.
    More,
    /// Nothing, until what has been said already can be read in another turn, or when the shard is
    /// ready for it.
    Later,
    /// Frames: the connection is a session. Those that came with its request begin here, counted
    /// from the end.
    Session(usize),
    /// Nothing that is read.
    Over,
}

impl Pieces {
    /// A connection that the shard has accepted.
    ///
    /// # Errors
    /// When no descriptor is to be had.
    pub fn new(id: Id) -> io::Result<Self> {
        let null =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        Ok(Self { id, held: None, clients: Clients::new(Default::default()), socket: null })
    }

    /// Reads a piece, behind what is held; without room for what requests publish, none is
    /// answered.
    pub fn take(
        &mut self,
        piece: &[u8],
        kinds: &[Kind],
        has_room: bool,
        shard: &mut Shard,
        now: Now,
    ) -> PiecesNext {
        let mut held = self
            .held
            .take()
            .unwrap_or_else(|| PartialRequest::new(Vec::new(), Progress::default()));
        held.bytes.extend_from_slice(piece);
        if !shard.awaits_request(self.id) {
            return PiecesNext::Session(held.bytes.len());
        }

        let mut progress = std::mem::take(&mut held.progress);
        let context = RequestContext {
            kinds,
            id: self.id,
            has_room,
            is_draining: false,
            socket: self.socket.as_fd(),
            clients: &self.clients,
            now,
        };
        let (used, next) = super::read(&mut held.bytes, &mut progress, &context, shard);
        let left = held.bytes.len() - used;
        if matches!(next, Next::More | Next::Wait | Next::Asked | Next::Opening) && left > 0 {
            self.held = Some(held.after(used, progress));
        }
        match next {
            Next::More => PiecesNext::More,
            Next::Wait | Next::Asked | Next::Opening => PiecesNext::Later,
            Next::Session => PiecesNext::Session(left),
            Next::Over => PiecesNext::Over,
        }
    }
}
