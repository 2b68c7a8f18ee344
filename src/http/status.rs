//! The state of the daemon that health, readiness and metrics tell.

use crate::dialect::Kind;
use crate::metrics::Metrics;
use std::sync::Arc;

/// The state of the daemon that health and metrics tell.
#[derive(Debug, Default)]
pub struct DaemonStatus {
    /// One set of counters per shard.
    pub shards: Vec<Arc<Metrics>>,
    /// What waits for shards: publications that the slowest has not read, and what is in their mailboxes.
    pub waiting: u64,
    /// Whether new connections are welcome.
    pub ready: bool,
    /// Whether the daemon is stopping.
    pub draining: bool,
    /// The threads that hang, each with the seconds since it has last turned.
    pub hung: Vec<(String, u64)>,
    /// What some dialects lack.
    pub gaps: Vec<Gap>,
    /// The dialects that some listener speaks.
    pub spoken: Vec<Kind>,
}

/// Something that some dialects need is not there.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The dialects.
    pub kinds: Vec<Kind>,
    /// What it is, and why it is not there.
    pub reason: String,
}
