//! Probing: before a newcomer is refused, the holder's shard checks whether its peer is alive.

use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::probe::{Hindrance, Probe, WaitingConnection};
use super::timers::Timer;
use super::{Archive, TopicAnswer, TopicQuestion};
use crate::service::ConnectionRef;

/// How long a newcomer waits for the holder's shard. The shard answers within a turn or two, and
/// within this time unless it cannot keep up; the newcomer's client usually waits thirty seconds.
const ANSWER_NS: u64 = 5_000_000_000;
/// Limit on the newcomers waiting for one holder, each with its request; further ones are refused
/// at once. Only one of them gets what they all want.
const NEWCOMERS_MAX: usize = 64;

impl<A: Archive> TopicOwner<A> {
    /// Refuses a connection, or probes the one in its way.
    pub(super) fn hinder(
        &mut self,
        connection: ConnectionRef,
        hindrance: Hindrance,
        request: TopicQuestion,
    ) {
        let (holder, refusal) = match hindrance {
            Hindrance::Refused(refusal) => return self.refuse(connection, refusal),
            Hindrance::Held(holder, refusal) => (holder, refusal),
        };
        // One probe of the holder, however many wait for it.
        if !self.peers.probes.contains_key(&holder) {
            let due_ns = self.now.monotonic_ns.saturating_add(ANSWER_NS);
            self.peers.probes.insert(holder, Probe { due_ns, newcomers: Vec::new() });
            self.arm(ANSWER_NS, Timer::Probe(holder));
            self.reply(holder, TopicAnswer::Probe);
        }
        match self.peers.probes.get_mut(&holder) {
            Some(probe) if probe.newcomers.len() < NEWCOMERS_MAX => {
                probe.newcomers.push(WaitingConnection { connection, request, refusal });
                self.peers.roles.insert(connection, ConnectionRole::Waiting(holder));
            }
            _ => self.refuse(connection, refusal),
        }
    }

    /// Handles that a holder is alive or did not answer in time: refuses those waiting for its
    /// place.
    pub(super) fn confirm(&mut self, holder: ConnectionRef) {
        for WaitingConnection { connection, refusal, .. } in self.take_newcomers(holder) {
            self.refuse(connection, refusal);
        }
    }

    /// Handles that a holder is gone: those waiting for its place try again, in order of arrival.
    pub(super) fn succeed(&mut self, holder: ConnectionRef) {
        for WaitingConnection { connection, request, .. } in self.take_newcomers(holder) {
            self.open(connection, request);
        }
    }

    /// Removes and returns the connections still waiting for a holder.
    fn take_newcomers(&mut self, holder: ConnectionRef) -> Vec<WaitingConnection> {
        let Some(probe) = self.peers.probes.remove(&holder) else { return Vec::new() };
        self.loaded.timers.remove(&(probe.due_ns, Timer::Probe(holder)));
        let mut newcomers = probe.newcomers;
        // A newcomer that has left does not wait any more.
        newcomers.retain(|newcomer| {
            let role = self.peers.roles.get(&newcomer.connection);
            matches!(role, Some(ConnectionRole::Waiting(other)) if *other == holder)
        });
        for newcomer in &newcomers {
            self.peers.roles.remove(&newcomer.connection);
        }
        newcomers
    }
}
