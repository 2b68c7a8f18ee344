//! The other threads' end of the bridge: what they ask, tell and relay waits here until its thread takes it.

use super::redis::Relays;
use super::verification::Verifiers;
use super::webhook::WebhookClient;
use crate::io::handoff::inbox::{Bounds, Fill, Inbox, Weigh};
use crate::service::verification::{self, TokenQuestion};
use crate::service::webhook::{Webhook, WebhookKind};
use crate::service::{Answers, ConnectionRef};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Questions that wait for the bridge before the shards read no more from clients. It takes them all at once,
/// so they wait only while the machine has no time for it.
const QUESTIONS_MAX: usize = 10_000;

/// Webhooks that wait for the bridge; more are dropped, as they are fire and forget. It takes them all at once too.
pub(super) const WEBHOOKS_MAX: usize = 10_000;

/// Bytes of them: some messages of clients are long.
const WEBHOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much longer than it may a stop waits for the thread to say what it has not told.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The other threads' end of the bridge.
pub(in crate::io) struct Bridge {
    /// What the thread is told.
    pub(super) inbox: Inbox<BridgeMessage, Notify>,
    fill: Fill,
    /// Webhooks of the shards.
    pub(super) webhooks: Inbox<(ConnectionRef, Webhook), Notify>,
    /// Those for which there was no room.
    pub(super) lost: [AtomicU64; WebhookKind::ALL.len()],
    pub(super) running: AtomicBool,
    /// The daemon stops: whatever is fed from here comes to its end.
    draining: Notify,
    pub(super) relays: Relays,
}

/// How many webhooks of each kind were lost.
pub(super) type LostWebhooks = [(WebhookKind, u64); WebhookKind::ALL.len()];

/// What the bridge is told. Questions alone may be many.
pub(super) enum BridgeMessage {
    Question(ConnectionRef, TokenQuestion),
    Configure(Box<(Verifiers, WebhookClient)>),
    /// Wait for no other side's return.
    Drain,
    /// End, at this moment at the latest.
    Stop(Instant),
}

impl Weigh for BridgeMessage {
    /// Nothing: a handshake's head bounds the token in a question, and their number is bounded.
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for (ConnectionRef, Webhook) {
    fn weight(&self) -> usize {
        self.1.weight()
    }
}

impl Default for Bridge {
    fn default() -> Self {
        let fill = Fill::default();
        let questions = Bounds { count: QUESTIONS_MAX, bytes: usize::MAX };
        let webhooks = Bounds { count: WEBHOOKS_MAX, bytes: WEBHOOKS_BYTES_MAX };
        Self {
            inbox: Inbox::new(Notify::new(), questions, &fill),
            fill,
            webhooks: Inbox::new(Notify::new(), webhooks, &Fill::default()),
            lost: Default::default(),
            running: AtomicBool::new(false),
            draining: Notify::new(),
            relays: Relays::default(),
        }
    }
}

impl Bridge {
    /// Whether shards may ask more.
    pub(in crate::io) fn has_room(&self) -> bool {
        !self.running.load(Relaxed) || self.fill.has_room()
    }

    /// Lets the feed finish what it has taken, and the webhook wait for nobody's return.
    pub(in crate::io) fn drain(&self) {
        self.draining.notify_one();
        self.inbox.post([BridgeMessage::Drain]);
    }

    /// Waits until the daemon is told to stop, for which there may be several feeds.
    pub(super) async fn drained(&self) {
        self.draining.notified().await;
        self.draining.notify_one();
    }

    /// Waits for a time. Returns whether the daemon has been told to stop meanwhile.
    pub(super) async fn drains_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.drained()).await.is_ok()
    }

    /// Ends the thread, which has this time to tell what can be told yet.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.inbox.post([BridgeMessage::Stop(start + time)]);
        while self.running.load(Relaxed) && start.elapsed() < time + STOP_GRACE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks the remote verifiers, and returns the answers that are known at once: without a bridge there is no verifier to
    /// ask.
    pub(in crate::io) fn ask_verifiers(
        &self,
        questions: Vec<(ConnectionRef, TokenQuestion)>,
    ) -> Answers {
        if self.running.load(Relaxed) {
            let questions = questions.into_iter();
            self.inbox
                .post(questions.map(|(from, question)| BridgeMessage::Question(from, question)));
            return Answers::new();
        }
        let refused = questions.into_iter().filter_map(|(from, question)| match question {
            TokenQuestion::Verify { attempt, .. } => {
                Some((from, verification::unavailable(attempt)))
            }
            TokenQuestion::Doubt { .. } | TokenQuestion::Forget { .. } => None,
        });
        refused.collect()
    }

    /// Takes webhooks as far as there is room; without a bridge they are dropped.
    pub(in crate::io) fn notify(&self, webhooks: Vec<(ConnectionRef, Webhook)>) {
        if webhooks.is_empty() || !self.running.load(Relaxed) {
            return;
        }
        self.webhooks.offer(webhooks, |(_, webhook)| {
            self.lost[webhook.kind() as usize].fetch_add(1, Relaxed);
        });
    }

    /// Relays what clients have said to other daemons, as far as there is room. Returns how many messages are lost.
    pub(in crate::io) fn relay(&self, texts: Vec<Box<str>>) -> usize {
        self.relays.post(texts)
    }

    /// Takes the webhooks that wait, and the numbers of those of each kind that were lost since the last time.
    pub(super) fn take_webhooks(&self) -> (VecDeque<(ConnectionRef, Webhook)>, LostWebhooks) {
        let mut waiting = VecDeque::new();
        self.webhooks.take(&mut waiting);
        let lost =
            WebhookKind::ALL.map(|(kind, _)| (kind, self.lost[kind as usize].swap(0, Relaxed)));
        (waiting, lost)
    }
}
