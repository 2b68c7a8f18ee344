//! Nodes whose messages a test carries by hand.

use super::super::*;
use crate::frame::Draft;
use crate::service::presence::PresenceAnswer;
use crate::service::{Answer, Effect};

pub(super) const MS: u64 = 1_000_000;

/// A moment; the two clocks have nothing to do with each other.
pub(super) fn at(ms: u64) -> Now {
    Now { monotonic_ns: ms * MS, unix_ms: 7 }
}

pub(super) fn id(name: &str, incarnation: u64) -> NodeId {
    NodeId { name: NodeName::new(name).unwrap(), incarnation }
}

/// A node without presence, whose outputs are kept.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) out: Vec<ClusterOutput>,
}

impl Stage {
    pub(super) fn new(name: &str, incarnation: u64) -> Self {
        let plan = ClusterPlan { has_presence: false, settings_hash: 1, versions: vec![1] };
        let cluster = Cluster::new(id(name, incarnation), plan, at(0));
        Self { cluster, out: Vec::new() }
    }

    pub(super) fn connected(name: &str, incarnation: u64, now: Now) -> Self {
        let mut stage = Self::new(name, incarnation);
        stage.handle(ClusterInput::Connected, now);
        stage
    }

    fn step(&mut self, step: impl FnOnce(&mut Cluster, &mut ClusterHost<'_>)) {
        let mut host = ClusterHost {
            voice: &|_| None,
            draft: &mut Draft::default(),
            outbox_bytes_max: 1 << 20,
            connections: &|| vec![("1".into(), 3)],
            misses: &mut |_, _, _| false,
            out: &mut self.out,
        };
        step(&mut self.cluster, &mut host);
    }

    pub(super) fn handle(&mut self, input: ClusterInput<'_>, now: Now) {
        self.step(|cluster, host| cluster.handle(input, now, host));
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.step(|cluster, host| cluster.tick(now, host));
    }

    /// The messages to all nodes since the last call.
    pub(super) fn said(&mut self) -> Vec<Vec<u8>> {
        let out = std::mem::take(&mut self.out).into_iter();
        out.filter_map(|output| match output {
            ClusterOutput::Send(_, bytes) => Some(bytes),
            _ => None,
        })
        .collect()
    }

    /// The answers to this node's connections since the last call; messages are dropped with them.
    pub(super) fn answers(&mut self) -> Vec<PresenceAnswer> {
        let out = std::mem::take(&mut self.out).into_iter();
        out.filter_map(|output| match output {
            ClusterOutput::Effect(Effect::Answer(_, Answer::Presence(answer))) => Some(answer),
            _ => None,
        })
        .collect()
    }

    /// Hears all that another node has said since the last call.
    pub(super) fn hears(&mut self, other: &mut Self, now: Now) {
        for bytes in other.said() {
            self.handle(ClusterInput::Heard(&bytes), now);
        }
    }

    /// The lines for the log since the last call; messages are dropped with them.
    pub(super) fn news(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out).into_iter();
        out.filter_map(|output| match output {
            ClusterOutput::News(_, text) => Some(text),
            _ => None,
        })
        .collect()
    }

    pub(super) fn unready(&self, now: Now) -> Vec<&'static str> {
        self.cluster.status(now).unready
    }
}
