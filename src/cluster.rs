//! Several daemons (*nodes*) that are one service: values without I/O.
//!
//! Nodes meet on NATS. Live events travel as finished publications, packed, on one subject that every
//! node reads; they are lost when NATS loses them, and counted. What needs one decider, the presence
//! of a channel, is hashed into 16 partitions. Each has one owner among the nodes and one journal, a
//! stream of JetStream: the owner decides, appends, and announces what it has decided once it is
//! stored. Ownership is taken by a compare-and-set of the journal's epoch. An append states the
//! sequence that it expects to be the last; that alone does not stop an owner that has been replaced
//! while several of its appends were on their way, so every entry names its epoch and round as well,
//! and readers leave out those that do not follow.
//!
//! In reading order:
//! - `node`, `settings` and `servers`: who a node is and what it is told.
//! - `live` and `misses`: live events, packed and counted; `kept`: the newest of each cache channel.
//! - `wire` and `peers`: control messages, and the other nodes.
//! - `partition`, `takes` and `ownership`: who takes a partition and who lets go of it.
//! - `journal` and `rounds`: what is stored; `owner`, `owner_channels` and `announcer`: what an owner
//!   decides and says.
//! - `node_presence`, `local_channel` and `local_news`: a node's side of it; `link` lies between.
//! - `inquiries` asks all owners; `status` is what operators see; `traffic` carries on until nothing
//!   more follows.
//!
//! A node's part in this is one value: what it hears, what its connections ask and what its journals
//! answer go in, what it says and does comes out. `io/cluster` carries both.

mod announcer;
pub mod boundary;
mod channel_name;
mod host;
mod inquiries;
mod inquiry_message;
mod journal;
pub mod kept;
mod link;
pub mod live;
mod local_channel;
mod local_news;
mod misses;
pub mod node;
mod node_presence;
mod owner;
mod owner_channels;
mod owner_node;
mod ownership;
mod partition;
mod partition_number;
mod peers;
mod rounds;
pub mod servers;
pub mod settings;
mod status;
mod takes;
mod traffic;
mod wire;

pub use self::boundary::{
    ClusterInput, ClusterOutput, Destination, JournalCall, JournalOutcome, WebhookReceipt,
};
pub use self::host::{ClusterHost, ClusterPlan};
pub use self::kept::{KeptExchange, KeptPlace, KeptPublications, KeptStamp};
pub use self::live::{LivePacket, PacketDraft, UnreadablePacket};
pub use self::node::{NodeId, NodeName};
pub use self::servers::{NatsLogin, NatsServers};
pub use self::settings::{ClusterSettings, OnIsolation};
#[cfg(test)]
pub(crate) use self::simulation::simulate;
pub use self::status::{
    ClusterStatus, ClusterTotals, NodeState, NodeStatus, PartitionState, PartitionStatus,
};

use self::inquiries::NodeInquiries;
use self::link::LinkTail;
use self::node_presence::NodePresence;
use self::partition::ClusterPartition;
use self::partition_number::PartitionNumber;
use self::peers::{ClusterPeers, PeerChange, PeerNumber, SELF};
use self::takes::TakeRecord;
use self::wire::{ControlError, ControlKind, Heartbeat};
use crate::wheel::{Now, SECOND_NS, US_NS};

/// Interval of heartbeats. A node is gone when five are missing.
const HEARTBEAT_NS: u64 = SECOND_NS;
/// The time between two steps at rest: what is due is done at most this late.
const TICK_NS: u64 = SECOND_NS / 10;
/// Interval of log lines about messages that cannot be read.
const GARBAGE_NEWS_NS: u64 = 10 * SECOND_NS;
/// Apps whose connections a heartbeat tells. More would make it a message of 100 KiB each second.
const HEARTBEAT_APPS_MAX: usize = 1000;

/// One node's part of the cluster.
#[derive(Debug)]
pub struct Cluster {
    me: NodeId,
    plan: ClusterPlan,
    peers: ClusterPeers,
    totals: ClusterTotals,
    /// Live events sent so far.
    live_sent: u64,
    partitions: Vec<ClusterPartition>,
    presence: NodePresence,
    inquiries: NodeInquiries,
    /// The number of the last call of the engine.
    last_call: u64,
    is_draining: bool,
    /// Whether it has said bye: nothing follows.
    is_stopped: bool,
    /// How its takes go.
    takes: TakeRecord,
    /// The partition that was handed over last for balance.
    handed: Option<PartitionNumber>,
    /// Since when a partition waits to be handed over.
    falling_since_ns: u64,
    /// Whether the others have to be told at once what this node owns.
    is_claiming: bool,
    next_balance_ns: u64,
    next_heartbeat_ns: u64,
    next_tick_ns: u64,
    next_garbage_news_ns: u64,
}

impl Cluster {
    /// A node that is not connected yet.
    #[must_use]
    pub fn new(me: NodeId, plan: ClusterPlan, now: Now) -> Self {
        // Half of the numbers remain for what begins anew.
        let first_generation = (me.incarnation as u32) >> 1;
        Self {
            peers: ClusterPeers::new(me.clone(), now),
            me,
            plan,
            totals: ClusterTotals::default(),
            live_sent: 0,
            partitions: PartitionNumber::all().map(ClusterPartition::new).collect(),
            presence: NodePresence::new(first_generation),
            inquiries: NodeInquiries::default(),
            last_call: 0,
            is_draining: false,
            is_stopped: false,
            takes: TakeRecord::default(),
            handed: None,
            falling_since_ns: 0,
            is_claiming: false,
            next_balance_ns: 0,
            next_heartbeat_ns: now.monotonic_ns,
            next_tick_ns: now.monotonic_ns,
            next_garbage_news_ns: 0,
        }
    }

    /// Handles an input.
    pub fn handle(&mut self, input: ClusterInput<'_>, now: Now, host: &mut ClusterHost<'_>) {
        self.peers.step(now);
        match input {
            ClusterInput::Connected => self.connected(now, host),
            ClusterInput::Lost => self.peers.disconnected(now),
            ClusterInput::Heard(bytes) => self.heard(bytes, now, host),
            ClusterInput::Asked(from, question) => self.asked(from, *question, now, host),
            ClusterInput::Journal(outcome) => self.journal(outcome, now, host),
            ClusterInput::Settled(receipts) => self.settled(&receipts),
            ClusterInput::Drain => self.drain(now, host),
            ClusterInput::Stop => {
                self.send(Destination::All, &ControlKind::Bye, host);
                self.is_stopped = true;
            }
        }
        self.settle_changes(now, host);
        self.run(now, host);
    }

    /// Does what is due. To be called at [`Cluster::next_at_ns`].
    pub fn tick(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        self.peers.step(now);
        self.peers.tick(now);
        if self.peers.is_connected() && now.monotonic_ns >= self.next_heartbeat_ns {
            self.beat(now, host);
            self.send_tails(host);
        }
        self.settle_changes(now, host);
        self.tick_ownership(now, host);
        self.inquiries.tick(now);
        self.presence.tick(now, host);
        let (nodes, words) = (self.present_nodes(), host.words());
        for partition in &mut self.partitions {
            if let Some(owner) = partition.owned() {
                owner.tick(&nodes, &words, now);
                let lost = owner.take_webhooks_lost();
                if lost > 0 {
                    host.out.push(ClusterOutput::WebhooksLost(partition.number.get(), lost));
                }
            }
        }
        self.run(now, host);
        self.next_tick_ns = now.monotonic_ns + TICK_NS;
    }

    /// The moment of the next tick, on the monotonic clock.
    #[must_use]
    pub fn next_at_ns(&self) -> u64 {
        self.next_tick_ns
    }

    /// Announces that a packet with `events` live events is about to be sent. Returns the number of
    /// the first. The packet has to leave before anything that comes out of a later step.
    pub fn send_live(&mut self, events: u32) -> u64 {
        let first = self.live_sent;
        self.live_sent += u64::from(events);
        first
    }

    /// Notes a packet of live events from another node, in the order in which packets and control
    /// messages came. Returns how many events were lost before it; `None` if it must not be taken,
    /// because it is of this node or of a former run of another, or so late that its events were
    /// counted as lost.
    pub fn heard_live(&mut self, from: &NodeId, first: u64, events: u32, now: Now) -> Option<u64> {
        self.peers.heard_live(from, first, events, now)
    }

    /// Excuses the silence of other nodes: what they have said waits here for room.
    pub fn excuse(&mut self, now: Now) {
        self.peers.excuse(now);
    }

    /// Live events of other nodes that were lost by what their heartbeats told, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        self.peers.take_lost()
    }

    /// The moment (ns of the monotonic clock) until which no other node can own any partition of
    /// this one; 0 when it owns none.
    pub fn confirmed_until_ns(&mut self) -> u64 {
        let owners = self.partitions.iter_mut().filter_map(ClusterPartition::owner);
        owners.map(|owner| owner.confirmed_until_ns()).min().unwrap_or(0)
    }

    /// Connections of an app on the other nodes, by their last heartbeats; `None` when one of them
    /// has not told.
    #[must_use]
    pub fn connections(&self, app: &str) -> Option<u64> {
        self.peers.live().try_fold(0u64, |sum, peer| {
            let connections = &peer.heartbeat.connections;
            if !peer.has_told() {
                return None;
            }
            let count = match connections.get(app) {
                Some(count) => *count,
                // It may be one of those that a heartbeat has no room for.
                None if connections.len() >= HEARTBEAT_APPS_MAX => return None,
                None => 0,
            };
            Some(sum.saturating_add(count))
        })
    }

    /// Replaces the hash of the settings that all nodes must have in common.
    pub fn configure(&mut self, settings_hash: u64) {
        self.plan.settings_hash = settings_hash;
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn status(&self, now: Now) -> ClusterStatus {
        ClusterStatus {
            node: self.me.name.clone(),
            incarnation: self.me.incarnation,
            // Known to the thread that carries for this value.
            connections: 0,
            fault: None,
            connected: self.peers.is_connected(),
            draining: self.is_draining,
            unready: self.peers.unready(now),
            nodes: self.peers.status(self.plan.settings_hash, now),
            partitions: self.partition_status(),
            totals: ClusterTotals {
                link_resets: self.presence.resets,
                unanswered: self.presence.unanswered + self.inquiries.unanswered,
                ..self.totals
            },
        }
    }

    fn partition_status(&self) -> Vec<PartitionStatus> {
        let status = |partition: &ClusterPartition| {
            let (owner, epoch) = match partition.known {
                Some((SELF, epoch)) => (Some(self.me.name.clone()), epoch),
                Some((node, epoch)) => {
                    (self.peers.by_number(node).map(|peer| peer.id.name.clone()), epoch)
                }
                None => (None, 0),
            };
            let (partition, state) = (partition.number.get(), partition.state());
            PartitionStatus { partition, owner, epoch, state }
        };
        let has_presence = self.plan.has_presence;
        self.partitions.iter().filter(|_| has_presence).map(status).collect()
    }

    /// Hands everything over, and takes nothing from now on.
    fn drain(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        self.is_draining = true;
        // Before the partitions are released, so that others know that they fall to them.
        self.beat(now, host);
        self.release_all(now);
    }

    fn connected(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        self.peers.connected(now);
        let hello = ControlKind::Hello(self.heartbeat(now, host));
        self.send(Destination::All, &hello, host);
        // What was said during the outage is missed at once.
        self.send_tails(host);
        self.next_heartbeat_ns = now.monotonic_ns + HEARTBEAT_NS;
    }

    /// Sends a heartbeat.
    fn beat(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        let heartbeat = ControlKind::Heartbeat(self.heartbeat(now, host));
        self.send(Destination::All, &heartbeat, host);
        self.next_heartbeat_ns = now.monotonic_ns + HEARTBEAT_NS;
    }

    fn heartbeat(&self, now: Now, host: &ClusterHost<'_>) -> Heartbeat {
        Heartbeat {
            live: self.live_sent,
            versions: self.plan.versions.clone(),
            release: env!("CARGO_PKG_VERSION").into(),
            settings: self.plan.settings_hash,
            presence: self.plan.has_presence,
            draining: self.is_draining,
            able: self.takes.is_able() && !self.peers.is_doubled(now),
            owned: self.owned(),
            connections: (host.connections)().into_iter().take(HEARTBEAT_APPS_MAX).collect(),
            sent_us: now.monotonic_ns / US_NS,
            echoes: self.peers.echoes(now),
        }
    }

    fn send(&self, to: Destination, kind: &ControlKind, host: &mut ClusterHost<'_>) {
        // The others take nothing of a node that has said bye.
        if self.is_stopped {
            return;
        }
        host.out.push(ClusterOutput::Send(to, wire::encode(&self.me, kind)));
    }

    /// Handles a control message.
    fn heard(&mut self, bytes: &[u8], now: Now, host: &mut ClusterHost<'_>) {
        let message = match wire::decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.unreadable(error, now, host),
        };
        let Some(from) = self.peers.heard(&message.from, now) else { return };
        // A new run of a node has nothing in common with the one before.
        self.settle_changes(now, host);

        let name = &message.from.name;
        match message.kind {
            ControlKind::Hello(heartbeat) => {
                self.heard_heartbeat(from, name, heartbeat, now, host);
                self.beat(now, host);
            }
            ControlKind::Heartbeat(heartbeat) => {
                self.heard_heartbeat(from, name, heartbeat, now, host);
            }
            ControlKind::Bye => self.peers.bye(name),
            ControlKind::Release { partition, epoch } => self.note_release(from, partition, epoch),
            ControlKind::Notes(batch) => self.notes(from, batch, now, host),
            ControlKind::News(batch) => self.presence.news(from, batch, now, host),
            ControlKind::Reset(link) => self.presence.reset(from, link, now),
            ControlKind::Tails { notes, news } => self.heard_tails(from, &notes, &news, now, host),
            ControlKind::Inquire(call) => {
                let owner = self.partitions[call.partition.index()].owned();
                if let Some(owner) = owner.filter(|owner| owner.epoch() == call.epoch) {
                    owner.inquire(from, call, now);
                }
            }
            ControlKind::Answer(part) => self.inquiries.answered(from, part),
            ControlKind::Dismiss { id, app, user } => {
                self.presence.dismiss(&app, &user, host);
                self.send_to(from, &ControlKind::Dismissed { id }, host);
            }
            ControlKind::Dismissed { id } => self.inquiries.dismissed(from, id),
            ControlKind::Missed { dialect, app, channel } => {
                self.tell_miss(dialect, &app, &channel, now, host);
            }
        }
    }

    fn heard_heartbeat(
        &mut self,
        from: PeerNumber,
        name: &NodeName,
        heartbeat: Heartbeat,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        self.note_owned(from, &heartbeat.owned, now);
        if self.peers.heartbeat(name, heartbeat, self.plan.settings_hash, now) {
            host.news(false, format!("the settings of node {name} differ from this node's"));
        }
    }

    /// The last numbers of what another node has sent.
    fn heard_tails(
        &mut self,
        from: PeerNumber,
        notes: &[LinkTail],
        news: &[LinkTail],
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        for tail in notes {
            let owner = self.partitions[tail.link.partition.index()].owned();
            let owner = owner.filter(|owner| owner.epoch() == tail.link.epoch);
            if owner.is_some_and(|owner| owner.tail(from, tail, now)) {
                self.send_to(from, &ControlKind::Reset(tail.link), host);
            }
        }
        for tail in news {
            self.presence.tail(from, tail, now);
        }
    }

    fn unreadable(&mut self, error: ControlError, now: Now, host: &mut ClusterHost<'_>) {
        match error {
            ControlError::Version => self.totals.other_version += 1,
            ControlError::Garbage => self.totals.garbage += 1,
        }
        if now.monotonic_ns >= self.next_garbage_news_ns {
            self.next_garbage_news_ns = now.monotonic_ns + GARBAGE_NEWS_NS;
            let ClusterTotals { other_version, garbage, .. } = self.totals;
            host.news(
                false,
                format!(
                    "control messages that this release does not read: {other_version} of another \
                     version, {garbage} that are none"
                ),
            );
        }
    }

    /// Tells what the others have become.
    fn settle_changes(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        for change in self.peers.take_changes() {
            if let PeerChange::Left(number) = change {
                self.left(number, now, host);
            }
            let (PeerChange::Came(number) | PeerChange::Left(number) | PeerChange::Doubled(number)) =
                change;
            let name = match self.peers.by_number(number) {
                Some(peer) => &peer.id.name,
                None if number == SELF => &self.me.name,
                // Replaced by another run, which tells.
                None => continue,
            };
            let text = match change {
                PeerChange::Came(_) => format!("node {name} is here"),
                PeerChange::Left(_) => format!("node {name} is gone"),
                PeerChange::Doubled(_) => format!("two nodes have the name {name}"),
            };
            host.news(matches!(change, PeerChange::Came(_)), text);
        }
    }

    /// A node is gone, with all that it had.
    fn left(&mut self, number: PeerNumber, now: Now, host: &mut ClusterHost<'_>) {
        self.note_gone(number);
        let words = host.words();
        for partition in &mut self.partitions {
            if let Some(owner) = partition.owned() {
                owner.gone(number, &words, now);
            }
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests {
    mod bad_input;
    mod membership;
    mod world;
}
