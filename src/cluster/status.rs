//! The state of the cluster as one node sees it, for operators.

use super::node::NodeName;
use serde::Serialize;

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// This node.
    pub node: NodeName,
    /// This run of it.
    pub incarnation: u64,
    /// Its connections.
    pub connections: u64,
    /// What the journals suffer from, with what to do.
    pub fault: Option<String>,
    /// Whether the engine is connected.
    pub connected: bool,
    /// Whether the node takes no partition, because it is being emptied.
    pub draining: bool,
    /// Why the node is not ready for clients; empty when it is.
    pub unready: Vec<&'static str>,
    /// The other nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// The partitions of presence, in order; empty on a node without presence.
    pub partitions: Vec<PartitionStatus>,
    /// What has happened since the start.
    pub totals: ClusterTotals,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// This run of it.
    pub incarnation: u64,
    /// Whether it lives.
    pub state: NodeState,
    /// Milliseconds since it was heard.
    pub silent_ms: u64,
    /// Microseconds that a message takes there and back; `None` while it is not known.
    pub round_trip_us: Option<u64>,
    /// The release of its program.
    pub release: Box<str>,
    /// The versions of live packets that it reads.
    pub versions: Vec<u8>,
    /// Whether it takes no partition, because it is being emptied.
    pub draining: bool,
    /// Whether settings that should be the same differ from this node's.
    pub settings_differ: bool,
    /// Whether two nodes of this name are running.
    pub doubled: bool,
    /// Whether it has said goodbye.
    pub stopped: bool,
    /// Its connections.
    pub connections: u64,
    /// The partitions it says it owns.
    pub partitions: Vec<u8>,
}

/// Whether a node lives, as another sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Heard lately.
    Live,
    /// Silent for longer than a lost heartbeat explains.
    Suspected,
    /// Silent for so long that its members have left.
    Gone,
}

/// A partition of presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: u8,
    /// Its owner; `None` while it has none.
    pub owner: Option<NodeName>,
    /// The owner's epoch; 0 when it is not known.
    pub epoch: u64,
    /// What this node does about it.
    pub state: PartitionState,
}

/// What a node does about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// Another node owns it.
    Elsewhere,
    /// No node is known to own it.
    Orphaned,
    /// This node is taking it.
    Taking,
    /// This node owns it.
    Owned,
    /// This node hands it over.
    Releasing,
}

/// What has happened on a node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterTotals {
    /// Partitions taken.
    pub takeovers: u64,
    /// Partitions lost to another node.
    pub fenced: u64,
    /// Links between a node and an owner that began anew because a message was lost.
    pub link_resets: u64,
    /// Control messages of another version.
    pub other_version: u64,
    /// Messages that are no control messages.
    pub garbage: u64,
    /// Joins and inquiries that no owner answered in time.
    pub unanswered: u64,
}
