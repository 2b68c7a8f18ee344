//! The cluster's thread as other threads see it: an inbox, its state, and its counters.

use super::super::handoff::inbox::{Bounds, Fill, Inbox, Weigh};
use super::super::lookups::await_end;
use super::place::Nats;
use crate::cluster::WebhookReceipt;
use crate::frame::{Publication, PublicationScope};
use crate::metrics::ClusterMetrics;
use crate::service::ConnectionRef;
use crate::service::presence::PresenceQuestion;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bounds of what waits for the thread, at which publishers and clients wait: half a second of
/// events at a hundred thousand a second. The thread takes everything at least every
/// [`STALL_MAX`](super::outbound::STALL_MAX), so they wait no longer.
const POSTS: Bounds = Bounds { count: 50_000, bytes: 32 * 1024 * 1024 };
/// The time beyond its own that a stop waits for the thread, which may be amid a write.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// A message to the cluster's thread.
pub(in crate::io) enum ClusterPost {
    /// An event that this node's subscribers get, for the other nodes.
    Live(Arc<Publication>),
    /// An event for the subscribers of all nodes, this one included, that every node retains.
    Retained(Publication),
    /// A connection's question about presence.
    Asked(ConnectionRef, Box<PresenceQuestion>),
    /// What became of the webhooks with these receipts is known.
    Settled(Vec<WebhookReceipt>),
    /// New settings are in force.
    Configure,
    /// Hand everything over to other nodes, and take nothing.
    Drain,
    /// Say goodbye, and end.
    Stop(Instant),
}

impl Weigh for ClusterPost {
    fn weight(&self) -> usize {
        match self {
            Self::Live(publication) => publication.weight(),
            Self::Retained(publication) => publication.weight(),
            Self::Asked(_, question) => question.weight(),
            Self::Settled(receipts) => size_of_val(&receipts[..]),
            // Few.
            Self::Configure | Self::Drain | Self::Stop(_) => 0,
        }
    }
}

/// What the hub has of the cluster.
pub(in crate::io) struct ClusterHandle {
    inbox: Inbox<ClusterPost, Notify>,
    /// Whether the inbox is full.
    fill: Fill,
    pub(in crate::io) metrics: Arc<ClusterMetrics>,
    /// The last status, JSON.
    status: Mutex<String>,
    running: AtomicBool,
}

impl ClusterHandle {
    /// One for a thread that will be started, if one is to be.
    pub(in crate::io) fn wanted(nats: Option<&Nats>) -> Option<Arc<Self>> {
        nats.map(|_| Arc::new(Self::new()))
    }

    pub(in crate::io) fn new() -> Self {
        let fill = Fill::default();
        Self {
            inbox: Inbox::new(Notify::new(), POSTS, &fill),
            fill,
            metrics: Arc::default(),
            status: Mutex::default(),
            running: AtomicBool::new(true),
        }
    }

    /// Whether there is room for more.
    pub(in crate::io) fn has_room(&self) -> bool {
        self.fill.has_room()
    }

    /// Posts publications that this node's subscribers are about to see, as far as they are for
    /// other nodes too; without a wake-up, see [`ClusterHandle::nudge`].
    pub(in crate::io) fn announce(&self, publications: &[Arc<Publication>]) {
        let is_for_all =
            |it: &&Arc<Publication>| it.scope == PublicationScope::Everywhere && it.retain_s == 0;
        let mut live = publications.iter().filter(is_for_all).peekable();
        // Publications of other nodes pass here too, and would take the lock for nothing.
        if live.peek().is_some() {
            self.inbox.post_quietly(live.map(|it| ClusterPost::Live(Arc::clone(it))));
        }
    }

    /// Wakes the thread for what was announced.
    pub(in crate::io) fn nudge(&self) {
        if self.inbox.depth() > 0 {
            self.inbox.nudge();
        }
    }

    /// Whether a publication is to be ordered among the nodes before any subscriber sees it. Those
    /// of a broker that every node reads are among them, so that a node that starts later gets them
    /// too.
    pub(in crate::io) fn orders(publication: &Publication) -> bool {
        publication.retain_s > 0
    }

    /// Posts a publication that [`ClusterHandle::orders`].
    pub(in crate::io) fn divert(&self, publication: Publication) {
        // One part until the shards' parts are announced, so that no publisher takes it for told.
        if let Some(tally) = &publication.tally {
            tally.expect(1);
        }
        self.inbox.post([ClusterPost::Retained(publication)]);
    }

    /// Posts a question of a connection about presence.
    pub(in crate::io) fn ask(&self, from: ConnectionRef, question: Box<PresenceQuestion>) {
        self.inbox.post([ClusterPost::Asked(from, question)]);
    }

    /// Posts the receipts of webhooks that need no more care.
    pub(in crate::io) fn settle(&self, receipts: Vec<WebhookReceipt>) {
        self.inbox.post([ClusterPost::Settled(receipts)]);
    }

    /// Posts that new settings are in force.
    pub(in crate::io) fn configure(&self) {
        self.inbox.post([ClusterPost::Configure]);
    }

    /// Has the node hand everything over, and take nothing.
    pub(in crate::io) fn drain(&self) {
        self.inbox.post([ClusterPost::Drain]);
    }

    /// Ends the thread, which has `time` to send what waits.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let latest = Instant::now() + time;
        self.inbox.post([ClusterPost::Stop(latest)]);
        await_end(&self.running, latest + STOP_GRACE);
    }

    /// The state of the cluster as this node sees it, JSON.
    pub(in crate::io) fn status(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, status: String) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Waits until there is a message. May be dropped while it waits.
    pub(super) async fn posted(&self) {
        self.inbox.posted().await;
    }

    /// Takes all messages.
    pub(super) fn take(&self, into: &mut VecDeque<ClusterPost>) {
        self.inbox.take(into);
    }

    /// The receipts that wait, for tests without the thread.
    #[cfg(test)]
    pub(in crate::io) fn settled(&self) -> Vec<WebhookReceipt> {
        let mut posts = VecDeque::new();
        self.inbox.take(&mut posts);
        let receipts = posts.into_iter().filter_map(|post| match post {
            ClusterPost::Settled(receipts) => Some(receipts),
            _ => None,
        });
        receipts.flatten().collect()
    }

    /// Notes that the thread has ended; messages are dropped from now on.
    pub(super) fn end(&self) {
        self.inbox.close();
        self.running.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Hub;
    use super::*;
    use crate::dialect::Kind;
    use crate::frame::{Draft, Tally};
    use crate::wheel::Now;

    fn hub() -> (Hub, Arc<ClusterHandle>) {
        let mut hub = Hub::new(1, 1, &[], &Arc::default()).unwrap();
        let handle = Arc::new(ClusterHandle::new());
        hub.cluster = Some(Arc::clone(&handle));
        (hub, handle)
    }

    fn publication(text: &str, retain_s: u32) -> Publication {
        let mut draft = Draft::default();
        draft.address(&[&[Kind::ALL[0].topic()], text.as_bytes()], b"");
        draft.retain(retain_s);
        draft.text(|out| out.extend_from_slice(text.as_bytes()));
        draft.finish(Now::default())
    }

    fn with_tally(tally: &Arc<Tally>) -> Publication {
        let mut kept = publication("kept", 9);
        kept.tally = Some(Arc::clone(tally));
        kept
    }

    /// What was posted: the kind of each message, and its text.
    fn posted(handle: &ClusterHandle) -> Vec<(&'static str, String)> {
        let text = |publication: &Publication| {
            String::from_utf8(publication.topic()[1..].to_vec()).unwrap()
        };
        let mut posts = VecDeque::new();
        handle.take(&mut posts);
        let read = posts.iter().map(|post| match post {
            ClusterPost::Live(publication) => ("live", text(publication)),
            ClusterPost::Retained(publication) => ("retained", text(publication)),
            _ => ("other", String::new()),
        });
        read.collect()
    }

    #[test]
    fn other_nodes_get_what_is_for_them_in_the_order_of_its_lane() {
        let (hub, handle) = hub();
        let here = publication("of another node", 0).for_this_node();
        hub.broadcast(vec![publication("one", 0), here, publication("two", 0)], None);
        hub.broadcast(vec![publication("three", 0)], None);
        let expected = ["one", "two", "three"].map(|text| ("live", text.to_owned()));
        assert_eq!(posted(&handle), expected);
    }

    #[test]
    fn what_every_node_retains_is_ordered_first_and_is_not_told_to_be_reached_before() {
        let (hub, handle) = hub();
        let tally = Arc::new(Tally::default());
        let kept = with_tally(&tally);
        hub.broadcast(vec![kept], None);
        assert!(!tally.is_complete());
        assert_eq!(hub.mailboxes[0].depth(), 0, "no shard has it yet");
        assert_eq!(posted(&handle), [("retained", "kept".to_owned())]);

        // As the cluster's thread publishes it.
        let kept = with_tally(&tally);
        hub.broadcast_shared(vec![Arc::new(kept.for_this_node())]);
        assert_eq!((hub.mailboxes[0].depth(), posted(&handle).len()), (1, 0));
        tally.add(0);
        assert!(!tally.is_complete(), "the shard's part is awaited");
        tally.add(3);
        assert!(tally.is_complete() && tally.reached() == 3);
    }

    #[test]
    fn publishers_wait_while_the_inbox_is_full() {
        let (hub, handle) = hub();
        assert!(hub.all_have_room());
        hub.broadcast((0..POSTS.count).map(|_| publication("x", 0)).collect(), None);
        assert!(!hub.all_have_room() && hub.shards_have_room());
        assert_eq!(posted(&handle).len(), POSTS.count);
        assert!(hub.all_have_room());
    }
}
