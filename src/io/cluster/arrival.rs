//! What arrives from other nodes, on its way to the shards, and what the thread tells of it.

use super::super::gaps::GapSource;
use super::super::handoff::Parcel;
use super::inbound::InboundMessage;
use super::isolation;
use super::node::ClusterNode;
use crate::cluster::kept::answer;
use crate::cluster::{
    ClusterInput, ClusterStatus, Destination, KeptExchange, KeptStamp, LivePacket, NodeState,
    PartitionState,
};
use crate::metrics::LossReason;
use crate::throttle::LogLine;
use crate::wheel::Now;
use async_nats::message::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of an answer with one retained event besides the event: both nodes' names and numbers.
const KEPT_OVERHEAD_BYTES: usize = 256;
/// Events that one turn hands on: some milliseconds of work.
const TURN_EVENTS_MAX: u32 = 4_096;

impl ClusterNode {
    /// Takes a message of the engine.
    pub(super) fn receive(&mut self, message: Message, now: Now) {
        // A server that will not do may lose or cut what passes it.
        if !self.is_connected {
            return;
        }
        self.metrics.bytes_in.add(message.payload.len() as u64);
        let message = if message.payload.first() == Some(&b'{') {
            InboundMessage::Control(message)
        } else if KeptExchange::is_for(&message.payload) {
            InboundMessage::Kept(message)
        } else {
            let Some(packet) = self.read(&message, now) else { return };
            InboundMessage::Live(packet, message)
        };

        match self.inbound.push(message) {
            None => {}
            Some(InboundMessage::Live(packet, _)) => {
                let events = u64::from(packet.events);
                self.metrics.lose(LossReason::Full, events);
                self.exchange.lost(&packet.sender.name);
                LogLine::ClusterDropped.warn(now, || {
                    format!(
                        "{events} events of other nodes are lost: they arrive faster than clients \
                         receive them; see fanfare_cluster_lost_total"
                    )
                });
            }
            // These are numbered or asked for again.
            Some(InboundMessage::Control(_) | InboundMessage::Kept(_)) => {
                self.metrics.ignored.add(1);
            }
        }
    }

    /// Reads the header of a packet, and counts what was lost before it.
    fn read(&mut self, message: &Message, now: Now) -> Option<LivePacket> {
        let packet = match LivePacket::read(&message.payload) {
            Ok(packet) => packet,
            Err(error) => {
                self.metrics.ignored.add(1);
                LogLine::ClusterIgnored
                    .warn(now, || format!("a message on {} was ignored: {error}", message.subject));
                return None;
            }
        };
        let lost = self.cluster.heard_live(&packet.sender, packet.first, packet.events, now)?;
        if lost > 0 {
            self.lost(lost, now);
            self.exchange.lost(&packet.sender.name);
        }
        Some(packet)
    }

    /// Counts events of other nodes that did not arrive.
    pub(super) fn lost(&mut self, events: u64, now: Now) {
        self.metrics.lose(LossReason::Gap, events);
        LogLine::ClusterGap.warn(now, || {
            format!("{events} events of other nodes are lost: they did not arrive over NATS")
        });
    }

    /// Passes on what has arrived, as far as the shards have room. Returns whether there is more
    /// that they have room for.
    pub(super) fn pass_on(&mut self, now: Now) -> bool {
        let mut events = 0;
        while events < TURN_EVENTS_MAX && self.hub.shards_have_room() {
            match self.inbound.pop() {
                None => return false,
                Some(InboundMessage::Control(message)) => {
                    let input = ClusterInput::Heard(&message.payload);
                    self.step(|cluster, host| cluster.handle(input, now, host));
                }
                Some(InboundMessage::Kept(message)) => self.exchange_kept(&message.payload, now),
                Some(InboundMessage::Live(packet, message)) => {
                    events += packet.events;
                    self.deliver(&packet, &message.payload, now);
                }
            }
        }
        events >= TURN_EVENTS_MAX && !self.inbound.is_empty()
    }

    /// Delivers the events of a packet to this node's subscribers.
    fn deliver(&mut self, packet: &LivePacket, bytes: &[u8], now: Now) {
        let mut publications = Vec::with_capacity(packet.events as usize);
        let mut unreadable = 0;
        for event in packet.publications(bytes, now) {
            let Some((publication, stamp)) = event else {
                unreadable += 1;
                continue;
            };
            publications.push(match publication.retain_s {
                0 => Arc::new(publication),
                _ => {
                    let entries_max = self.settings.retained_max(publication.topic());
                    let stamp = KeptStamp { number: stamp, node: packet.sender.name.clone() };
                    self.exchange.heard(&stamp);
                    self.kept.heard(publication, stamp, entries_max, now)
                }
            });
        }

        self.metrics.events_in.add(publications.len() as u64);
        if unreadable > 0 {
            self.metrics.ignored.add(unreadable);
            LogLine::ClusterIgnored.warn(now, || {
                format!(
                    "{unreadable} events of node {} were ignored: this release cannot read them",
                    packet.sender.name
                )
            });
        }
        self.hub.broadcast_shared(publications);
    }

    /// Asks another node for retained events that were not heard, if there is room for them.
    pub(super) fn ask_for_kept(&mut self, now: Now) {
        if !self.is_connected || !self.hub.shards_have_room() {
            return;
        }
        if let Some((node, question)) = self.exchange.next(now) {
            self.outbound.send(&Destination::Node(node), question);
        }
    }

    /// Answers another node's question for retained events, or takes its answer.
    fn exchange_kept(&mut self, message: &[u8], now: Now) {
        let bytes_max = self.engine.client.max_payload().saturating_sub(KEPT_OVERHEAD_BYTES);
        // Whoever gets no answer asks again.
        if self.outbound.has_room()
            && let Some((node, answer)) = answer(&self.name, message, &self.kept, bytes_max, now)
        {
            return self.outbound.send(&Destination::Node(node), answer);
        }

        let (settings, kept) = (&self.settings, &mut self.kept);
        let entries_max = |topic: &[u8]| settings.retained_max(topic);
        let news = self.exchange.take(message, kept, &entries_max, now).unwrap_or_default();
        for publication in news {
            self.hub.post_to_all(|| Parcel::Retain(Arc::clone(&publication)));
        }
        self.ask_for_kept(now);
    }

    /// Shows the state of the cluster in readiness, metrics and for operators.
    pub(super) fn tell(&mut self, now: Now) {
        self.outbox_bytes_max = self.hub.configured.lock().limits.outbox_bytes_max;
        let mut status = self.cluster.status(now);
        status.connections = self.hub.connections.load(Relaxed) as u64;
        status.fault = self.journals.fault();
        self.count(&status);
        let live = status.nodes.iter().filter(|node| node.state == NodeState::Live);
        self.exchange.see(live.map(|node| node.name.clone()).collect());
        // What is lost later is no reason to send clients elsewhere.
        self.has_kept |= status.unready.is_empty() && self.exchange.is_complete();
        match self.reason(&status) {
            Some(reason) => self.hub.gaps.begin(GapSource::Cluster, &self.hub.spoken, &reason),
            None => self.hub.gaps.end(GapSource::Cluster),
        }
        let has = |state| status.nodes.iter().any(|node| node.state == state);
        let is_heard = has(NodeState::Live);
        // One that has said goodbye is missed by no node.
        let has_lost =
            status.nodes.iter().any(|node| node.state == NodeState::Gone && !node.stopped);
        // Without a quorum of JetStream it is this node's side that is cut off, and not the others
        // that have gone.
        self.is_cut_off = self.is_connected
            && has_lost
            && !is_heard
            && !has(NodeState::Suspected)
            && status.fault.is_some();
        let is_alone = self.is_cut_off || has(NodeState::Suspected) && !is_heard;
        self.search.look(is_alone, has_lost, self.journals.is_silent(), now);
        self.tell_fault();
        // A stop ends the sessions itself.
        let is_isolated = !self.is_connected || self.is_cut_off;
        let is_isolated = is_isolated && !self.hub.draining.load(Relaxed);
        if let Some(part) = self.isolation.look(is_isolated, now) {
            self.hub.post_to_all(|| Parcel::Isolated(part, isolation::PARTS));
        }
        // A status has only names and numbers, which can be written.
        self.handle.tell(serde_json::to_string(&status).unwrap_or_default());
        self.kept.sweep(now);
    }

    /// Logs what the journals suffer from, when that changes. It is no reason to leave the service:
    /// the journals are those of all nodes.
    fn tell_fault(&mut self) {
        let fault = self.journals.fault();
        if fault != self.fault {
            match &fault {
                Some(fault) => tracing::warn!("cluster: {fault}"),
                None => tracing::info!("cluster: JetStream does what it is asked again"),
            }
            self.fault = fault;
        }
    }

    /// Why this node is not ready.
    fn reason(&self, status: &ClusterStatus) -> Option<String> {
        if let Some(objection) = &self.objection {
            return Some(format!("no cluster: {objection}"));
        }
        if self.is_cut_off {
            let fault = status.fault.as_deref().unwrap_or_default();
            return Some(format!("cut off: no other node is heard, and {fault}"));
        }
        if status.unready.is_empty() {
            let coming = "no cluster yet: the events that other nodes retain are coming";
            return (!self.has_kept).then(|| coming.into());
        }
        let why = status.unready.join(", ");
        let error = self.engine.error().map(|error| format!(" ({error})")).unwrap_or_default();
        Some(format!("no cluster at {}: {why}{error}", self.servers))
    }

    fn count(&self, status: &ClusterStatus) {
        let metrics = &self.metrics;
        let live = status.nodes.iter().filter(|node| node.state == NodeState::Live);
        metrics.peers.set(live.clone().count() as u64);
        let round_trips = live.clone().filter_map(|node| node.round_trip_us);
        metrics.round_trip_us.set(round_trips.max().unwrap_or(0));
        metrics.settings_differ.set(live.filter(|node| node.settings_differ).count() as u64);
        let in_state = |state| {
            status.partitions.iter().filter(|partition| partition.state == state).count() as u64
        };
        metrics.partitions_owned.set(in_state(PartitionState::Owned));
        metrics.partitions_orphaned.set(in_state(PartitionState::Orphaned));
        metrics.journal_failing.set(status.fault.is_some().into());
        metrics.takeovers.set(status.totals.takeovers);
        metrics.fenced.set(status.totals.fenced);
        metrics.link_resets.set(status.totals.link_resets);
        metrics.unanswered.set(status.totals.unanswered);
        metrics.unreadable.set(status.totals.garbage + status.totals.other_version);
    }
}
