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

/// A missing dependency of some dialects, such as a broker.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The dialects.
    pub kinds: Vec<Kind>,
    /// The dependency, and why it is missing.
    pub reason: String,
}
