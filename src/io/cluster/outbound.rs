//! What leaves the node: packets of live events and control messages, in one order.
//!
//! A packet is numbered when it is complete, and a heartbeat tells the number that has been
//! reached; so what is numbered before must leave before. What cannot be sent keeps its number: the
//! other nodes count it as lost.

use super::engine::Subjects;
use crate::cluster::live::OVERHEAD_BYTES_MAX;
use crate::cluster::{Cluster, Destination, NodeId, PacketDraft};
use crate::frame::Publication;
use crate::metrics::{ClusterMetrics, LossReason};
use async_nats::{Client, PublishError, Subject};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time that the client may take nothing before what waits is given up: publishers wait no
/// longer for an engine that has stopped.
pub(super) const STALL_MAX: Duration = Duration::from_secs(2);
/// Messages that wait for the client at which nothing more is taken from the inbox. A message is at
/// most what one inbox holds in packets, so the two together bound the memory.
const WAITING_MAX: usize = 64;

/// A message on its way out.
struct OutboundMessage {
    subject: Subject,
    payload: Vec<u8>,
    /// The live events in it.
    events: u64,
}

type Sending = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

/// What leaves the node.
pub(super) struct ClusterOutbound {
    client: Client,
    live: Subject,
    notes: Subject,
    /// The subject of one node, but for its name.
    to: String,
    draft: PacketDraft,
    waiting: VecDeque<OutboundMessage>,
    /// The message that the client is taking, with its events.
    sending: Option<(Sending, u64)>,
    /// Since when the client has taken nothing.
    since: Option<Instant>,
    is_open: bool,
    metrics: Arc<ClusterMetrics>,
}

impl ClusterOutbound {
    pub(super) fn new(
        client: Client,
        subjects: &Subjects,
        me: NodeId,
        metrics: Arc<ClusterMetrics>,
    ) -> Self {
        Self {
            client,
            live: subjects.live.as_str().into(),
            notes: subjects.notes.as_str().into(),
            to: subjects.to.clone(),
            draft: PacketDraft::new(me),
            waiting: VecDeque::new(),
            sending: None,
            since: None,
            is_open: false,
            metrics,
        }
    }

    /// Begins to send.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Gives up what waits, and everything until [`ClusterOutbound::open`].
    pub(super) fn close(&mut self, cluster: &mut Cluster) {
        self.seal(cluster);
        self.is_open = false;
        self.since = None;
        let waiting = self.waiting.drain(..).map(|message| message.events);
        // What the client has not taken yet can still be taken back.
        let sending = self.sending.take().map(|(_, events)| events);
        self.metrics.lose(LossReason::Away, waiting.chain(sending).sum());
    }

    /// Whether more may be taken from the inbox.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Whether everything has been handed to the client.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_none()
    }

    /// Whether the client has taken nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= STALL_MAX)
    }

    /// Adds a live event. Returns whether it is too long to be sent.
    pub(super) fn add(&mut self, event: &Publication, stamp: u64, cluster: &mut Cluster) -> bool {
        if !self.is_open {
            cluster.send_live(1);
            self.metrics.lose(LossReason::Away, 1);
            return false;
        }
        if event.encoded_bytes() + OVERHEAD_BYTES_MAX > self.client.max_payload() {
            self.seal(cluster);
            cluster.send_live(1);
            self.metrics.lose(LossReason::TooLong, 1);
            return true;
        }
        if !self.draft.has_room_for(event) {
            self.seal(cluster);
        }
        self.draft.push(event, stamp);
        false
    }

    /// Completes the packet.
    pub(super) fn seal(&mut self, cluster: &mut Cluster) {
        let events = self.draft.events();
        if events > 0 {
            let first = cluster.send_live(events);
            let (subject, payload) = (self.live.clone(), self.draft.finish(first));
            self.waiting.push_back(OutboundMessage { subject, payload, events: events.into() });
        }
    }

    /// Adds a control message; without a connection it is dropped.
    pub(super) fn send(&mut self, to: &Destination, payload: Vec<u8>) {
        if self.is_open {
            let subject = match to {
                Destination::All => self.notes.clone(),
                Destination::Node(name) => format!("{}{name}", self.to).into(),
            };
            self.waiting.push_back(OutboundMessage { subject, payload, events: 0 });
        }
    }

    /// Hands all messages to the client. Without any it waits for ever. May be dropped while it
    /// waits.
    pub(super) async fn run(&mut self) {
        if self.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if self.sending.is_none() {
                // Then more can be taken from the inbox.
                let Some(message) = self.waiting.pop_front() else { return };
                let OutboundMessage { subject, payload, events } = message;
                self.metrics.bytes_out.add(payload.len() as u64);
                let client = self.client.clone();
                let sending = async move { client.publish(subject, payload.into()).await };
                self.sending = Some((Box::pin(sending), events));
                self.since = Some(Instant::now());
            }

            let Some((sending, events)) = &mut self.sending else { continue };
            let (outcome, events) = (sending.await, *events);
            self.sending = None;
            self.since = None;
            match outcome {
                Ok(()) => self.metrics.events_out.add(events),
                // It has ended, or another server takes less: what is lost is counted either way.
                Err(_) => self.metrics.lose(LossReason::Away, events),
            }
        }
    }
}
