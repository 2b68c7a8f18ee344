//! What time brings.

use super::Position;
use super::handles::{SubId, TopicId};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;

/// How long a topic that nothing uses stays in memory (ns), and the first sweep comes after the start.
pub(super) const IDLE_NS: u64 = 60_000_000_000;

/// Timers in the order of their times (monotonic, ns).
pub(super) type Timers = BTreeSet<(u64, Timer)>;

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A pending message is redelivered.
    Pending(SubId, Position),
    /// A delayed message is due, or what went wrong is tried again.
    Wake(SubId),
    /// A topic may have been idle for long enough.
    Idle(TopicId),
    /// A topic may have messages to drop.
    Tend(TopicId),
    /// Topics that are not loaded may have messages to drop.
    Sweep,
    /// A shard has not said in time whether this connection lives.
    Probe(ConnectionRef),
}
