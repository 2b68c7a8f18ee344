//! What a shard has for the shards, itself included, in order.

use crate::frame::Publication;
use crate::service::{Answer, ConnectionRef};

/// What a shard has for the shards, itself included.
#[derive(Debug)]
pub enum Outgoing {
    /// For all.
    Publication(Publication),
    /// For the one that has the connection: what a service of this shard answers it.
    Answer(ConnectionRef, Answer),
}

impl Outgoing {
    /// How much memory it holds.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Publication(publication) => publication.weight(),
            Self::Answer(_, answer) => answer.weight(),
        }
    }
}

/// What waits to be handed to the shards.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) list: Vec<Outgoing>,
    pub(super) bytes: usize,
}

impl Outbound {
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.weight();
        self.list.push(outgoing);
    }
}
