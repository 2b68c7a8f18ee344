//! What a shard sends through: the sockets of its connections, or a function in their place.

use super::event::Id;
use crate::outbox::{Offered, Sent};
use std::io::IoSlice;

/// What carries bytes to the sockets of connections.
pub trait Transmit {
    /// Maximum number of connections that are sent to at once.
    fn batch_max(&self) -> usize {
        1
    }

    /// Offers bytes to one connection.
    fn send(&mut self, id: Id, bytes: &[u8]) -> Sent;

    /// Offers bytes that lie in several places to one connection.
    fn send_vectored(&mut self, id: Id, bytes: &[IoSlice<'_>]) -> Sent {
        let joined: Vec<u8> = bytes.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.send(id, &joined)
    }

    /// Offers bytes to each connection of a batch, and appends the outcome of each. With a batch of
    /// one it is never called.
    fn send_all(&mut self, batch: &[(Id, &[u8])], sent: &mut Vec<Sent>) {
        sent.extend(batch.iter().map(|(id, bytes)| self.send(*id, bytes)));
    }
}

/// A function stands for sockets where there are none.
impl<F: FnMut(Id, &[u8]) -> Sent> Transmit for F {
    fn send(&mut self, id: Id, bytes: &[u8]) -> Sent {
        self(id, bytes)
    }
}

/// Scratch for a batch.
#[derive(Default)]
pub(super) struct SendBatch {
    pub(super) offers: Vec<(Id, Offered)>,
    pub(super) sent: Vec<Sent>,
}
