//! Who is in a newcomer's way may be dead already: its last packet lies in the socket of a shard that has not come to it,
//! while its successor's request came through another shard. So nobody is refused because of somebody else before that
//! one's shard has looked ([`TopicAnswer::Probe`]). If the peer lives, the newcomer is refused; else it waits until its shard
//! says that it is gone, and is then let in as if there had been nobody.

use super::owner::{ConnectionRole, Timer, TopicOwner};
use super::{Archive, ArchiveError, Cause, TopicAnswer, TopicQuestion, TopicRefusal};
use crate::service::ConnectionRef;
use std::collections::HashMap;

/// How long a newcomer waits for the shard of who is in its way. That shard answers within a turn or two, and within this
/// time unless it cannot keep up; the newcomer's own client waits for thirty seconds.
const ANSWER_NS: u64 = 5_000_000_000;
/// Newcomers that wait because of one connection, each with its request; those beyond are refused at once. One of them
/// gets what they all want.
const NEWCOMERS_MAX: usize = 64;

/// What there is against an opening.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// It cannot be.
    Refused(TopicRefusal),
    /// It cannot be while this connection is there.
    Held(ConnectionRef, TopicRefusal),
}

/// The connections that are being looked at.
pub(super) type Probes = HashMap<ConnectionRef, Probe, ahash::RandomState>;

/// A connection that is being looked at.
#[derive(Debug)]
pub(super) struct Probe {
    /// When it is waited for no longer (monotonic, ns).
    due_ns: u64,
    newcomers: Vec<WaitingConnection>,
}

/// A connection that waits for what becomes of another.
#[derive(Debug)]
struct WaitingConnection {
    connection: ConnectionRef,
    /// What it wants.
    request: TopicQuestion,
    /// What it is told if the other lives.
    refusal: TopicRefusal,
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

impl Hindrance {
    /// What is told where nobody is looked at.
    pub(super) fn into_refusal(self) -> TopicRefusal {
        match self {
            Self::Refused(refusal) | Self::Held(_, refusal) => refusal,
        }
    }

    /// Somebody has what may be had once.
    pub(super) fn busy(holder: ConnectionRef, reason: &str) -> Self {
        Self::Held(holder, super::owner::refusal(Cause::Busy, reason))
    }
}

impl<A: Archive> TopicOwner<A> {
    /// A connection wants to be something.
    pub(super) fn open(&mut self, connection: ConnectionRef, request: TopicQuestion) {
        match request {
            TopicQuestion::Produce(producing) => self.produce_after_loading(connection, *producing),
            TopicQuestion::Consume(consuming) => self.consume(connection, *consuming),
            TopicQuestion::Read(reading) => self.read(connection, *reading),
            _ => {}
        }
    }

    /// Refuses a connection what it wants, or has who is in its way looked at.
    pub(super) fn hinder(&mut self, connection: ConnectionRef, hindrance: Hindrance, request: TopicQuestion) {
        let (holder, refusal) = match hindrance {
            Hindrance::Refused(refusal) => return self.refuse(connection, refusal),
            Hindrance::Held(holder, refusal) => (holder, refusal),
        };
        if !self.probes.contains_key(&holder) {
            let due_ns = self.now.monotonic_ns.saturating_add(ANSWER_NS);
            self.probes.insert(holder, Probe { due_ns, newcomers: Vec::new() });
            self.arm(ANSWER_NS, Timer::Probe(holder));
            self.reply(holder, TopicAnswer::Probe);
        }
        match self.probes.get_mut(&holder) {
            Some(probe) if probe.newcomers.len() < NEWCOMERS_MAX => {
                probe.newcomers.push(WaitingConnection { connection, request, refusal });
                self.connections.insert(connection, ConnectionRole::Waiting(holder));
            }
            _ => self.refuse(connection, refusal),
        }
    }

    /// A connection lives, or does not answer in time: who wants to be in its place is refused.
    pub(super) fn confirm(&mut self, holder: ConnectionRef) {
        for WaitingConnection { connection, refusal, .. } in self.take_newcomers(holder) {
            self.refuse(connection, refusal);
        }
    }

    /// A connection holds nothing any more: who wants to be in its place tries again, in the order they came.
    pub(super) fn succeed(&mut self, holder: ConnectionRef) {
        for WaitingConnection { connection, request, .. } in self.take_newcomers(holder) {
            self.open(connection, request);
        }
    }

    /// Those that still wait because of a connection.
    fn take_newcomers(&mut self, holder: ConnectionRef) -> Vec<WaitingConnection> {
        let Some(probe) = self.probes.remove(&holder) else { return Vec::new() };
        self.timers.remove(&(probe.due_ns, Timer::Probe(holder)));
        let mut newcomers = probe.newcomers;
        // Who has left meanwhile waits no more.
        newcomers.retain(|newcomer| {
            matches!(self.connections.get(&newcomer.connection), Some(ConnectionRole::Waiting(other)) if *other == holder)
        });
        for newcomer in &newcomers {
            self.connections.remove(&newcomer.connection);
        }
        newcomers
    }
}
