//! The timers of the owner.

use super::Position;
use super::handles::{SubId, TopicId};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;

/// How long an unused topic stays in memory, and the delay of the first sweep (ns).
pub(super) const IDLE_NS: u64 = 60_000_000_000;

/// Timers in order of their times (monotonic, ns).
pub(super) type Timers = BTreeSet<(u64, Timer)>;

/// What a timer does when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Redeliver a pending message.
    Pending(SubId, Position),
    /// Resume a subscription: a delayed message is due, or a failed read is retried.
    Wake(SubId),
    /// Unload or delete a topic if it is idle.
    Idle(TopicId),
    /// Check a topic for deletable messages.
    Tend(TopicId),
    /// Visit the next topics, loaded or not, for maintenance.
    Sweep,
    /// Stop waiting for the probe of this connection.
    Probe(ConnectionRef),
}
