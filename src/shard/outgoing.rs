//! Publications and answers of a shard for the shards, itself included.

use crate::frame::Publication;
use crate::service::{Answer, ConnectionRef};

/// A publication or answer for the shards, this one included.
#[derive(Debug)]
pub enum Outgoing {
    /// For all shards.
    Publication(Publication),
    /// A service's answer, for the shard that has the connection.
    Answer(ConnectionRef, Answer),
}

impl Outgoing {
    /// Bytes of memory it holds.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Publication(publication) => publication.weight(),
            Self::Answer(_, answer) => answer.weight(),
        }
    }
}

/// The queue of these, in order; bounded by [`Shard::takes_more`](super::Shard::takes_more).
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
