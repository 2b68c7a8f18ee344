//! The state of the daemon, as health, readiness and metrics report it.

use crate::dialect::Kind;
use crate::metrics::{ClusterMetrics, Metrics};
use std::sync::Arc;

/// A snapshot of the daemon.
#[derive(Debug, Default)]
pub struct DaemonStatus {
    /// One set of counters per thread: the shards first, in order, then the bridge, the owners of
    /// topics and the admin listener.
    pub threads: Vec<Arc<Metrics>>,
    /// The number of shards.
    pub shards: usize,
    /// The start of the daemon.
    pub start: DaemonStart,
    /// The time, in milliseconds of unix time.
    pub now_ms: u64,
    /// Items that wait for shards: publications that the slowest has not read, and messages in
    /// mailboxes.
    pub waiting: u64,
    /// Whether new connections are accepted.
    pub ready: bool,
    /// Whether the daemon is stopping.
    pub draining: bool,
    /// The threads that hang, each with the seconds since its last turn.
    pub hung: Vec<(String, u64)>,
    /// Missing dependencies of dialects.
    pub gaps: Vec<Gap>,
    /// The dialects that listeners speak.
    pub spoken: Vec<Kind>,
    /// The counters of the cluster's thread, if there is one.
    pub cluster: Option<Arc<ClusterMetrics>>,
}

/// The start of the daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct DaemonStart {
    /// The time, in milliseconds of unix time.
    pub at_ms: u64,
    /// The number of the process.
    pub pid: u32,
    /// What the shards wait, receive and send with.
    pub driver: &'static str,
}

/// A missing dependency of some dialects, such as a broker.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The dialects.
    pub kinds: Vec<Kind>,
    /// The dependency, and why it is missing.
    pub reason: String,
}
