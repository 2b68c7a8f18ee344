//! The other nodes: who lives, how many of their live events are lost, and whether a name is taken
//! twice.
//!
//! Only this node's monotonic clock decides: clocks of machines may be minutes apart.

use super::node::{NodeId, NodeName};
use super::status::{NodeState, NodeStatus};
use super::wire::{Heartbeat, HeartbeatEcho};
use crate::wheel::{Now, SECOND_NS, US_NS};
use std::collections::{BTreeMap, VecDeque};

/// A node that has been silent for this long is suspected: four heartbeats are missing, more than a
/// busy machine or a reconnect of its NATS connection explains.
const SUSPECTED_NS: u64 = 4 * SECOND_NS;
/// A node that has been silent for this long is gone. Shorter, and pauses of a virtual machine would
/// cost every member of a node; longer, and ghosts stay in the lists.
const GONE_NS: u64 = 5 * SECOND_NS;
/// Time after the connection within which live nodes answer, and after which this node decides
/// without those that have not.
pub(super) const SETTLING_NS: u64 = 3 * SECOND_NS / 2;
/// A lost connection makes the node unready after this, so that a change of the NATS server does
/// not.
const UNREADY_NS: u64 = 2 * SECOND_NS;
/// A step that comes this late means that this process was stopped, not that all others were silent.
const PAUSE_NS: u64 = SECOND_NS;
/// A former run of a node that is heard this long after its successor lives on: what is still under
/// way of an ended one is older.
const FORMER_NS: u64 = 2 * SECOND_NS;
/// Two nodes of a name are told until one has been silent for this long.
const DOUBLED_NS: u64 = GONE_NS;
/// Nodes that are known at a time, gone ones too: heartbeats to all cost the square of it.
const NODES_MAX: usize = 64;
/// Former runs of a node that are told apart from new ones.
const FORMERS_MAX: usize = 8;

/// A number for one run of one node, unique on this node; this node's own is 0.
pub(super) type PeerNumber = u32;

/// The number of this node itself.
pub(super) const SELF: PeerNumber = 0;

/// A run of another node.
#[derive(Debug)]
pub(super) struct ClusterPeer {
    pub(super) number: PeerNumber,
    pub(super) id: NodeId,
    pub(super) heartbeat: Heartbeat,
    /// When the heartbeat came; 0 before the first.
    beaten_ns: u64,
    /// Microseconds that a message took there and back, by the last heartbeat.
    round_trip_us: Option<u64>,
    /// Whether it is not gone.
    pub(super) is_live: bool,
    /// Whether it has said that it stops: what is still under way of it does not bring it back.
    has_stopped: bool,
    /// Since when it has lived without being gone.
    pub(super) live_since_ns: u64,
    heard_ns: u64,
    /// Whether it has been heard since the engine was connected: its server routes to this node.
    is_answered: bool,
    /// The number of the live event that comes next; `None` until it is known.
    live_next: Option<u64>,
    /// Former runs of the node with the moments when they were replaced.
    formers: VecDeque<(u64, u64)>,
    /// When a former run was last heard to live on.
    doubled_ns: Option<u64>,
}

/// What the others have become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerChange {
    /// A node has come, or is back.
    Came(PeerNumber),
    /// A node is gone, or has been replaced by another run of it.
    Left(PeerNumber),
    /// Two nodes have the name of this one.
    Doubled(PeerNumber),
}

/// The other nodes.
#[derive(Debug)]
pub(super) struct ClusterPeers {
    me: NodeId,
    peers: BTreeMap<NodeName, ClusterPeer>,
    last_number: PeerNumber,
    /// When the engine was connected; `None` while it is not.
    connected_ns: Option<u64>,
    /// When the connection was lost, or the node started.
    lost_ns: u64,
    /// When the last step was.
    stepped_ns: u64,
    /// When another run of this node was heard.
    doubled_ns: Option<u64>,
    changes: Vec<PeerChange>,
    lost: u64,
}

impl ClusterPeers {
    pub(super) fn new(me: NodeId, now: Now) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            last_number: SELF,
            connected_ns: None,
            lost_ns: now.monotonic_ns,
            stepped_ns: now.monotonic_ns,
            doubled_ns: None,
            changes: Vec::new(),
            lost: 0,
        }
    }

    /// Begins a step: when this process was stopped, no node was silent meanwhile.
    pub(super) fn step(&mut self, now: Now) {
        let passed_ns = now.monotonic_ns.saturating_sub(self.stepped_ns);
        self.stepped_ns = now.monotonic_ns;
        if passed_ns > PAUSE_NS {
            self.peers.values_mut().for_each(|peer| peer.heard_ns += passed_ns);
            // They may have taken this one for gone, and have to find it again first.
            self.connected_ns = self.connected_ns.map(|_| now.monotonic_ns);
        }
    }

    pub(super) fn connected(&mut self, now: Now) {
        self.connected_ns = Some(now.monotonic_ns);
        for peer in self.peers.values_mut() {
            // What they said meanwhile could not be heard.
            (peer.heard_ns, peer.is_answered) = (now.monotonic_ns, false);
        }
    }

    pub(super) fn disconnected(&mut self, now: Now) {
        if self.connected_ns.take().is_some() {
            self.lost_ns = now.monotonic_ns;
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected_ns.is_some()
    }

    /// Whether the live nodes have had the time to answer.
    pub(super) fn is_settled(&self, now: Now) -> bool {
        self.connected_ns.is_some_and(|since_ns| now.monotonic_ns >= since_ns + SETTLING_NS)
    }

    /// Whether another run of this node lives.
    pub(super) fn is_doubled(&self, now: Now) -> bool {
        self.doubled_ns.is_some_and(|at_ns| now.monotonic_ns < at_ns + DOUBLED_NS)
    }

    /// Notes that a node was heard. Returns its number; `None` for a message that must not be taken:
    /// of a former run of a node, or of another run of this one.
    pub(super) fn heard(&mut self, from: &NodeId, now: Now) -> Option<PeerNumber> {
        if from.name == self.me.name {
            self.heard_namesake(from, now);
            return None;
        }

        let now_ns = now.monotonic_ns;
        if let Some(peer) = self.peers.get_mut(&from.name) {
            if peer.id.incarnation == from.incarnation {
                if peer.has_stopped {
                    return None;
                }
                (peer.heard_ns, peer.is_answered) = (now_ns, true);
                if !std::mem::replace(&mut peer.is_live, true) {
                    peer.live_since_ns = now_ns;
                    self.changes.push(PeerChange::Came(peer.number));
                }
                return Some(peer.number);
            }
            let mut formers = peer.formers.iter();
            if let Some((_, replaced_ns)) = formers.find(|(former, _)| *former == from.incarnation)
                // Of two nodes of a name the later is gone: the one that goes on is heard again.
                && (peer.is_live || now_ns <= replaced_ns + FORMER_NS)
            {
                if now_ns > replaced_ns + FORMER_NS && peer.doubled_ns.replace(now_ns).is_none() {
                    self.changes.push(PeerChange::Doubled(peer.number));
                }
                return None;
            }
        }
        self.admit(from, now_ns)
    }

    /// Notes a message with this node's own name. Its own messages do not come back; those of an
    /// ended run may still be under way for a moment.
    fn heard_namesake(&mut self, from: &NodeId, now: Now) {
        let is_other = from.incarnation != self.me.incarnation;
        let settled_ns = self.connected_ns.map(|since_ns| since_ns + FORMER_NS);
        if is_other && settled_ns.is_some_and(|settled_ns| now.monotonic_ns > settled_ns) {
            if !self.is_doubled(now) {
                self.changes.push(PeerChange::Doubled(SELF));
            }
            self.doubled_ns = Some(now.monotonic_ns);
        }
    }

    /// Admits a new run of a node.
    fn admit(&mut self, from: &NodeId, now_ns: u64) -> Option<PeerNumber> {
        let mut formers = VecDeque::new();
        if let Some(former) = self.peers.remove(&from.name) {
            if former.is_live {
                self.changes.push(PeerChange::Left(former.number));
            }
            formers = former.formers;
            formers.retain(|(incarnation, _)| *incarnation != from.incarnation);
            formers.push_back((former.id.incarnation, now_ns));
            if formers.len() > FORMERS_MAX {
                formers.pop_front();
            }
        }
        if self.peers.len() >= NODES_MAX {
            let gone = self.peers.values().filter(|peer| !peer.is_live);
            let name = gone.min_by_key(|peer| peer.heard_ns)?.id.name.clone();
            self.peers.remove(&name);
        }

        self.last_number += 1;
        let peer = ClusterPeer {
            number: self.last_number,
            id: from.clone(),
            heartbeat: Heartbeat::default(),
            beaten_ns: 0,
            round_trip_us: None,
            is_live: true,
            has_stopped: false,
            live_since_ns: now_ns,
            heard_ns: now_ns,
            is_answered: true,
            live_next: None,
            formers,
            doubled_ns: None,
        };
        self.peers.insert(from.name.clone(), peer);
        self.changes.push(PeerChange::Came(self.last_number));
        Some(self.last_number)
    }

    /// Notes the state of a node that was just heard. Returns whether its settings have become other
    /// than `settings`.
    pub(super) fn heartbeat(
        &mut self,
        name: &NodeName,
        heartbeat: Heartbeat,
        settings: u64,
        now: Now,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(name) else { return false };
        let differed = peer.heartbeat.settings != settings && !peer.heartbeat.release.is_empty();
        let differs = heartbeat.settings != settings && !differed;
        let lost = peer.pass(heartbeat.live, 0);
        let is_mine = |echo: &&HeartbeatEcho| {
            echo.node == self.me.name && echo.incarnation == self.me.incarnation
        };
        if let Some(echo) = heartbeat.echoes.iter().find(is_mine) {
            let passed_us = (now.monotonic_ns / US_NS).checked_sub(echo.sent_us);
            peer.round_trip_us = passed_us.and_then(|passed| passed.checked_sub(echo.held_us));
        }
        (peer.heartbeat, peer.beaten_ns) = (heartbeat, now.monotonic_ns);
        self.lost = self.lost.saturating_add(lost);
        differs
    }

    /// Notes a packet of live events; see [`super::Cluster::heard_live`].
    pub(super) fn heard_live(
        &mut self,
        from: &NodeId,
        first: u64,
        events: u32,
        now: Now,
    ) -> Option<u64> {
        self.heard(from, now)?;
        let peer = self.peers.get_mut(&from.name)?;
        // A server that has stood still passes on what it has read of a connection that its client
        // has given up, after what came by the next one. It was counted as lost then, and its place
        // in the order is gone.
        let is_late = peer.live_next.is_some_and(|next| first < next);
        (!is_late).then(|| peer.pass(first, events.into()))
    }

    /// The losses that heartbeats told of, once.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Notes that a node stops.
    pub(super) fn bye(&mut self, name: &NodeName) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.has_stopped = true;
            if std::mem::replace(&mut peer.is_live, false) {
                self.changes.push(PeerChange::Left(peer.number));
            }
        }
    }

    /// Declares the nodes gone that have been silent for too long.
    pub(super) fn tick(&mut self, now: Now) {
        // Without the engine no node can be heard.
        if !self.is_connected() {
            return;
        }
        for peer in self.peers.values_mut() {
            if peer.is_live && now.monotonic_ns >= peer.heard_ns + GONE_NS {
                peer.is_live = false;
                self.changes.push(PeerChange::Left(peer.number));
            }
            if peer.doubled_ns.is_some_and(|at_ns| now.monotonic_ns >= at_ns + DOUBLED_NS) {
                peer.doubled_ns = None;
            }
        }
    }

    /// Excuses the silence of the nodes that live.
    pub(super) fn excuse(&mut self, now: Now) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_live) {
            peer.heard_ns = now.monotonic_ns;
        }
    }

    /// What the others have become since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<PeerChange> {
        std::mem::take(&mut self.changes)
    }

    /// The nodes that live.
    pub(super) fn live(&self) -> impl Iterator<Item = &ClusterPeer> {
        self.peers.values().filter(|peer| peer.is_live)
    }

    /// What the nodes that live are told of their heartbeats.
    pub(super) fn echoes(&self, now: Now) -> Vec<HeartbeatEcho> {
        let told = self.live().filter(|peer| peer.beaten_ns > 0);
        let echo = |peer: &ClusterPeer| HeartbeatEcho {
            node: peer.id.name.clone(),
            incarnation: peer.id.incarnation,
            sent_us: peer.heartbeat.sent_us,
            held_us: now.monotonic_ns.saturating_sub(peer.beaten_ns) / US_NS,
        };
        told.map(echo).collect()
    }

    /// A node by its number, gone or not.
    pub(super) fn by_number(&self, number: PeerNumber) -> Option<&ClusterPeer> {
        self.peers.values().find(|peer| peer.number == number)
    }

    /// Why this node is not ready for clients.
    pub(super) fn unready(&self, now: Now) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        match self.connected_ns {
            // One that answers is enough: another may be gone and not known to be. All nodes are
            // connected again at once after an outage, which a moment's reason would prolong.
            Some(since_ns)
                if self.live().next().is_some()
                    && self.live().all(|peer| !peer.is_answered)
                    && now.monotonic_ns >= since_ns + UNREADY_NS =>
            {
                reasons.push("no peer's answer yet");
            }
            Some(_) if self.live().next().is_none() && !self.is_settled(now) => {
                reasons.push("no peer's answer yet");
            }
            // A node that has just started has never been ready.
            None if self.last_number == SELF || now.monotonic_ns >= self.lost_ns + UNREADY_NS => {
                reasons.push("not connected");
            }
            _ => {}
        }
        if self.is_doubled(now) {
            reasons.push("a node of the same name");
        }
        reasons
    }

    /// The state of all nodes, by name.
    pub(super) fn status(&self, settings: u64, now: Now) -> Vec<NodeStatus> {
        self.peers.values().map(|peer| peer.status(settings, now)).collect()
    }
}

impl ClusterPeer {
    /// Whether it has told its state since this node is connected.
    pub(super) fn has_told(&self) -> bool {
        self.is_answered && !self.heartbeat.release.is_empty()
    }

    /// Notes `events` numbered from `first`. Returns how many are missing before them.
    fn pass(&mut self, first: u64, events: u64) -> u64 {
        // What was sent before the first message that came may have been sent before this node's
        // subscription was known there.
        let next = self.live_next.unwrap_or(first);
        self.live_next = Some(next.max(first.saturating_add(events)));
        first.saturating_sub(next)
    }

    fn status(&self, settings: u64, now: Now) -> NodeStatus {
        let silent_ns = now.monotonic_ns.saturating_sub(self.heard_ns);
        let heartbeat = &self.heartbeat;
        NodeStatus {
            name: self.id.name.clone(),
            incarnation: self.id.incarnation,
            state: match self.is_live {
                true if silent_ns >= SUSPECTED_NS => NodeState::Suspected,
                true => NodeState::Live,
                false => NodeState::Gone,
            },
            silent_ms: silent_ns / 1_000_000,
            round_trip_us: self.round_trip_us.filter(|_| self.is_live),
            release: heartbeat.release.clone(),
            versions: heartbeat.versions.clone(),
            draining: heartbeat.draining,
            settings_differ: self.is_live && heartbeat.settings != settings,
            doubled: self.doubled_ns.is_some(),
            stopped: self.has_stopped,
            connections: heartbeat.connections.values().copied().fold(0, u64::saturating_add),
            partitions: heartbeat.owned.iter().map(|(partition, _)| partition.get()).collect(),
        }
    }
}
