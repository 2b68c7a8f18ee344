//! Probes of connections that hold what another wants, such as a producer's name.
//!
//! The holder may be dead already: its last packet lies in the socket of a shard that has not come to it, while its
//! successor's question came through another shard. So no connection is refused before the holder's shard has looked
//! ([`TopicAnswer::Probe`](super::TopicAnswer::Probe)). If the peer lives, the newcomer is refused; else it waits until
//! the holder is gone, and is then admitted.

use super::{ArchiveError, Cause, TopicQuestion, TopicRefusal};
use crate::service::ConnectionRef;
use std::collections::HashMap;

/// Why a connection cannot be opened.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// It cannot be.
    Refused(TopicRefusal),
    /// It cannot be while this connection is there.
    Held(ConnectionRef, TopicRefusal),
}

impl Hindrance {
    /// The refusal, where the holder is not probed.
    pub(super) fn into_refusal(self) -> TopicRefusal {
        match self {
            Self::Refused(refusal) | Self::Held(_, refusal) => refusal,
        }
    }

    /// Another producer of the topic has the name.
    pub(super) fn same_name(holder: ConnectionRef, name: &str) -> Self {
        Self::busy(holder, &format!("Producer with name '{name}' is already connected to topic"))
    }

    /// A connection has what may be had once.
    pub(super) fn busy(holder: ConnectionRef, reason: &str) -> Self {
        Self::Held(holder, Cause::Busy.because(reason))
    }
}

impl From<TopicRefusal> for Hindrance {
    fn from(refusal: TopicRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ArchiveError> for Hindrance {
    fn from(fault: ArchiveError) -> Self {
        Self::Refused(fault.into())
    }
}

/// The connections that are being looked at.
pub(super) type Probes = HashMap<ConnectionRef, Probe, ahash::RandomState>;

/// A connection that is being looked at.
#[derive(Debug)]
pub(super) struct Probe {
    /// When it is waited for no longer (monotonic, ns).
    pub(super) due_ns: u64,
    pub(super) newcomers: Vec<WaitingConnection>,
}

impl Probe {
    /// What a connection wants that waits.
    pub(super) fn request_of(&self, connection: ConnectionRef) -> Option<&TopicQuestion> {
        self.newcomers
            .iter()
            .find(|newcomer| newcomer.connection == connection)
            .map(|newcomer| &newcomer.request)
    }
}

/// A connection that waits for what becomes of another.
#[derive(Debug)]
pub(super) struct WaitingConnection {
    pub(super) connection: ConnectionRef,
    /// What it wants.
    pub(super) request: TopicQuestion,
    /// What it is told if the other lives.
    pub(super) refusal: TopicRefusal,
}
