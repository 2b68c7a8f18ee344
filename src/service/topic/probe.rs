//! Probes of connections that hold what another connection wants, such as a producer's name.
//!
//! The holder may be dead already: its last packet may lie unread in a socket of its shard while
//! its successor's request arrived through another shard. So no connection is refused before the
//! holder's shard has checked ([`TopicAnswer::Probe`](super::TopicAnswer::Probe)). If the peer is
//! alive, the newcomer is refused; otherwise it waits until the holder is gone, and is then
//! admitted.

use super::{ArchiveError, Cause, TopicQuestion, TopicRefusal};
use crate::service::ConnectionRef;
use std::collections::HashMap;

/// Why a connection cannot be opened.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// It is refused.
    Refused(TopicRefusal),
    /// It is refused because of this connection, unless that one is dead.
    Held(ConnectionRef, TopicRefusal),
}

impl Hindrance {
    /// The refusal, without probing the holder.
    pub(super) fn into_refusal(self) -> TopicRefusal {
        match self {
            Self::Refused(refusal) | Self::Held(_, refusal) => refusal,
        }
    }

    /// Another producer of the topic uses the name.
    pub(super) fn same_name(holder: ConnectionRef, name: &str) -> Self {
        Self::busy(holder, &format!("Producer with name '{name}' is already connected to topic"))
    }

    /// A connection holds what only one may have.
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

/// The probes in progress, by holder.
pub(super) type Probes = HashMap<ConnectionRef, Probe, ahash::RandomState>;

/// A probe in progress.
#[derive(Debug)]
pub(super) struct Probe {
    /// When to stop waiting for its result (monotonic, ns).
    pub(super) due_ns: u64,
    pub(super) newcomers: Vec<WaitingConnection>,
}

impl Probe {
    /// The request of a waiting connection.
    pub(super) fn request_of(&self, connection: ConnectionRef) -> Option<&TopicQuestion> {
        self.newcomers
            .iter()
            .find(|newcomer| newcomer.connection == connection)
            .map(|newcomer| &newcomer.request)
    }
}

/// A connection waiting for the result of a probe.
#[derive(Debug)]
pub(super) struct WaitingConnection {
    pub(super) connection: ConnectionRef,
    /// Its request.
    pub(super) request: TopicQuestion,
    /// The refusal it receives if the holder is alive.
    pub(super) refusal: TopicRefusal,
}
