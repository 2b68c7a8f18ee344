//! The end of a node: it hands over what it owns, says goodbye, and ends when that is sent.

use crate::cluster::{ClusterStatus, NodeState, PartitionState};
use std::time::{Duration, Instant};

/// Longest wait for a partition to be handed over, which takes half a second. Without it a
/// successor takes it by itself, after the goodbye.
const HANDOVER_MAX: Duration = Duration::from_secs(1);

/// The course of the end.
#[derive(Default)]
pub(super) struct Farewell {
    /// Until when the thread may run, once the daemon stops.
    ends_at: Option<Instant>,
    /// Until when partitions may be handed over.
    hands_over_until: Option<Instant>,
}

impl Farewell {
    /// Begins it; what is not done at `end` is left undone.
    pub(super) fn begin(&mut self, end: Instant) {
        self.ends_at = Some(end);
        self.hands_over_until = Some(end.min(Instant::now() + HANDOVER_MAX));
    }

    /// Whether it has begun and the goodbye is not said.
    pub(super) fn is_handing_over(&self) -> bool {
        self.hands_over_until.is_some()
    }

    /// Whether it is time to say goodbye, which is to be said once.
    pub(super) fn is_due(&mut self, status: &ClusterStatus) -> bool {
        let has_peer = status.nodes.iter().any(|node| node.state == NodeState::Live);
        let owns = status.partitions.iter().any(|partition| {
            matches!(partition.state, PartitionState::Owned | PartitionState::Releasing)
        });
        let may_wait = status.connected && has_peer && owns;
        self.hands_over_until.take_if(|until| !may_wait || *until <= Instant::now()).is_some()
    }

    /// Whether the thread is to end: what was said last is sent, or the time is over.
    pub(super) fn is_over(&self, is_sent: bool) -> bool {
        self.ends_at
            .is_some_and(|end| Instant::now() >= end || (is_sent && !self.is_handing_over()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, ClusterPlan, NodeId, NodeName};
    use crate::wheel::Now;

    #[test]
    fn a_node_that_has_nothing_to_hand_over_or_nobody_to_take_it_says_goodbye_at_once() {
        let me = NodeId { name: NodeName::new("a").unwrap(), incarnation: 1 };
        let plan = ClusterPlan { has_presence: true, settings_hash: 0, versions: vec![1] };
        let status = Cluster::new(me, plan, Now::default()).status(Now::default());
        let mut farewell = Farewell::default();
        assert!(!farewell.is_due(&status) && !farewell.is_over(true));
        farewell.begin(Instant::now() + Duration::from_secs(60));
        assert!(!farewell.is_over(true), "it has not said goodbye");
        assert!(farewell.is_due(&status) && !farewell.is_due(&status), "once");
        assert!(farewell.is_over(true) && !farewell.is_over(false));
        farewell.begin(Instant::now());
        assert!(farewell.is_over(false), "the time is over");
    }
}
