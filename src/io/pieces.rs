//! The requests of one connection as they come in pieces, without a socket: what tests and fuzz
//! targets drive, to hold a request that comes whole against the same one in pieces. They are read
//! by the function that reads those of sockets, [`partial::read`].

use super::clients::Clients;
use super::partial::{self, PartialRequest};
use super::request::{Next, RequestContext};
use crate::dialect::Kind;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::{AsFd as _, OwnedFd};
use std::io;

/// A connection, and what is kept of it between two pieces.
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
    /// No piece: what has come is read on in a later turn, or when the shard is ready for it.
    Later,
    /// Frames: the connection is a session. So many of the bytes that have come are frames.
    Session(usize),
    /// Nothing that is read.
    Over,
}

impl Pieces {
    /// A connection that the shard has accepted.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn new(id: Id) -> io::Result<Self> {
        let null =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        Ok(Self { id, held: None, clients: Clients::new(Default::default()), socket: null })
    }

    /// Reads a piece, behind what is kept; without room for what requests publish, none is
    /// answered.
    pub fn take(
        &mut self,
        piece: &[u8],
        kinds: &[Kind],
        has_room: bool,
        shard: &mut Shard,
        now: Now,
    ) -> PiecesNext {
        let context = RequestContext {
            kinds,
            id: self.id,
            has_room,
            is_draining: false,
            socket: self.socket.as_fd(),
            clients: &self.clients,
            now,
        };
        let mut piece = piece.to_vec();
        let (next, used) = partial::read(&mut self.held, &mut piece, &context, shard);

        match next {
            Next::More => PiecesNext::More,
            Next::Wait | Next::Asked | Next::Opening => PiecesNext::Later,
            Next::Session => {
                let bytes = self.held.take().map_or(piece, |held| held.bytes);
                PiecesNext::Session(bytes.len() - used)
            }
            Next::Over => {
                self.held = None;
                PiecesNext::Over
            }
        }
    }
}
