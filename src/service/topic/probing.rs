//! Connections that want what another one holds: that one's shard is asked whether its peer still lives.

use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::probe::{Hindrance, Probe, WaitingConnection};
use super::timers::Timer;
use super::{Archive, TopicAnswer, TopicQuestion};
use crate::service::ConnectionRef;

/// How long a newcomer waits for the shard of who is in its way. That shard answers within a turn or two, and within this
/// time unless it cannot keep up; the newcomer's own client waits for thirty seconds.
const ANSWER_NS: u64 = 5_000_000_000;
/// Newcomers that wait because of one connection, each with its request; those beyond are refused at once. One of them
/// gets what they all want.
const NEWCOMERS_MAX: usize = 64;

impl<A: Archive> TopicOwner<A> {
    /// Refuses a connection what it wants, or has who is in its way looked at.
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
        // One question to the holder's shard, however many wait for it.
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
        let Some(probe) = self.peers.probes.remove(&holder) else { return Vec::new() };
        self.loaded.timers.remove(&(probe.due_ns, Timer::Probe(holder)));
        let mut newcomers = probe.newcomers;
        // Who has left meanwhile waits no more.
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
