//! One node: the real value, with what surrounds it.

use super::super::{Cluster, ClusterPlan, NodeId, NodeName};
use super::sessions::Session;
use crate::frame::Draft;
use crate::service::ConnectionRef;
use crate::service::webhook::WebhookReceipt;
use crate::wheel::Now;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const MS: u64 = 1_000_000;

/// A node of the simulation.
pub(super) struct SimNode {
    pub(super) name: &'static str,
    pub(super) incarnation: u64,
    /// `None` while it is killed.
    pub(super) cluster: Option<Cluster>,
    pub(super) draft: Draft,
    pub(super) sessions: BTreeMap<ConnectionRef, Session>,
    pub(super) last_connection: u32,
    /// What happens to it waits until this moment.
    pub(super) paused_until: u64,
    /// Whether nothing goes to the engine, and nothing comes.
    pub(super) is_cut: bool,
    /// Whether the engine refuses it the journals.
    pub(super) is_barred: bool,
    /// Whether the engine refuses what it writes.
    pub(super) is_read_only: bool,
    /// Whether it was told that it is connected.
    pub(super) is_connected: bool,
    /// Since when nothing is wrong with it; `u64::MAX` while something is.
    pub(super) calm_from: u64,
    /// Webhooks that are not told yet.
    pub(super) webhooks: BTreeSet<WebhookReceipt>,
    /// Topics that it was asked for in vain, as the owner of their channel.
    pub(super) missed: BTreeSet<Vec<u8>>,
    /// By how much its clocks are off (ms).
    pub(super) offset: u64,
}

impl SimNode {
    pub(super) fn new(name: &'static str, offset: u64) -> Self {
        Self {
            name,
            incarnation: 0,
            cluster: None,
            draft: Draft::default(),
            sessions: BTreeMap::new(),
            last_connection: 0,
            paused_until: 0,
            is_cut: false,
            is_barred: false,
            is_read_only: false,
            is_connected: false,
            calm_from: 0,
            webhooks: BTreeSet::new(),
            missed: BTreeSet::new(),
            offset,
        }
    }

    pub(super) fn now(&self, ms: u64) -> Now {
        // Clocks of machines have nothing in common.
        Now { monotonic_ns: (ms + self.offset) * MS, unix_ms: self.offset * 60_000 + ms }
    }

    pub(super) fn start(&mut self, incarnation: u64, ms: u64) {
        let name = NodeName::new(self.name).unwrap();
        let plan = ClusterPlan { has_presence: true, settings_hash: 7, versions: vec![1] };
        self.incarnation = incarnation;
        self.cluster = Some(Cluster::new(NodeId { name, incarnation }, plan, self.now(ms)));
    }

    pub(super) fn kill(&mut self) {
        self.cluster = None;
        self.sessions.clear();
        self.webhooks.clear();
        (self.paused_until, self.is_cut, self.is_connected) = (0, false, false);
    }

    pub(super) fn is_up(&self) -> bool {
        self.cluster.is_some()
    }

    pub(super) fn is_calm(&self, now: u64) -> bool {
        self.is_up() && now >= self.calm_from
    }
}
