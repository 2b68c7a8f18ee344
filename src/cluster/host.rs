//! What a node's part of the cluster is given: its plan once, its host at each step.

use super::boundary::ClusterOutput;
use crate::frame::Draft;
use crate::service::DialectId;
use crate::service::presence::PresenceVoice;

/// How a node takes part in the cluster, for its whole life.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Whether a dialect has presence. Without it the node takes no partition.
    pub has_presence: bool,
    /// A hash of the settings that all nodes must have in common.
    pub settings_hash: u64,
    /// Versions of live packets that the node reads.
    pub versions: Vec<u8>,
}

/// What the cluster's thread lends for one step.
pub struct ClusterHost<'a> {
    /// The wording and rules of a dialect; `None` for one without presence.
    pub voice: &'a dyn Fn(DialectId) -> Option<&'a dyn PresenceVoice>,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// The limit on bytes queued for one client.
    pub outbox_bytes_max: usize,
    /// Counts this node's connections by app.
    pub connections: &'a dyn Fn() -> Vec<(Box<str>, u64)>,
    /// Receives the outputs, in order.
    pub out: &'a mut Vec<ClusterOutput>,
}

impl ClusterHost<'_> {
    pub(super) fn news(&mut self, is_good: bool, text: String) {
        self.out.push(ClusterOutput::News(is_good, text));
    }
}
