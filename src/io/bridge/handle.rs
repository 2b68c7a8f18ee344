//! The other threads' end of the bridge: its queues for questions, webhooks and relays.

use super::order::BridgeOrder;
use super::redis::Relays;
use super::verification::Verifiers;
use super::webhook::WebhookClient;
use crate::handover::HandoverRecord;
use crate::io::handoff::inbox::{Bounds, Fill, Inbox, Weigh};
use crate::io::lookups::await_end;
use crate::service::verification::{self, TokenQuestion};
use crate::service::webhook::{Webhook, WebhookKind, WebhookLease, WebhookReceipt};
use crate::service::{Answers, ConnectionRef, NewRefs};
use crate::wheel::{Now, SECOND_NS};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Questions in the queue at which the shards read no more from clients. The bridge takes them all
/// at once, so they wait only while the machine is overloaded.
const QUESTIONS_MAX: usize = 10_000;
/// Bytes of tokens in the queue at which the shards read no more from clients: as many questions
/// with tokens of 1.6 KiB, twice what issuers usually make.
const QUESTIONS_BYTES_MAX: usize = 16 << 20;

/// Maximum number of queued webhooks; more are dropped, as they are fire and forget.
pub(super) const WEBHOOKS_MAX: usize = 10_000;

/// Maximum bytes of queued webhooks: some contain long messages of clients.
const WEBHOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time beyond its own that a stop grants the thread to log the webhooks it could not deliver.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The other threads' end of the bridge.
pub(in crate::io) struct Bridge {
    /// Messages to the thread.
    pub(super) inbox: Inbox<BridgeMessage, Notify>,
    fill: Fill,
    /// Webhooks of the shards, in an inbox of their own because they may be dropped, and those of
    /// the cluster, with what is to become of them.
    pub(super) webhooks: Inbox<WebhookMessage, Notify>,
    /// The number of webhooks of each kind that found no room.
    pub(super) lost: [AtomicU64; WebhookKind::ALL.len()],
    /// Until when the webhooks of journals may be told.
    pub(super) lease: Arc<WebhookLease>,
    pub(super) running: AtomicBool,
    /// Notified when the daemon stops, for the feeds.
    draining: Notify,
    pub(super) relays: Relays,
}

/// The number of lost webhooks, by kind.
pub(super) type LostWebhooks = [(WebhookKind, u64); WebhookKind::ALL.len()];

/// A message to the bridge. Only questions can be many.
pub(super) enum BridgeMessage {
    Question(ConnectionRef, TokenQuestion),
    Configure(Box<(Verifiers, WebhookClient)>),
    /// An order of a hand-over.
    Handover(BridgeOrder),
    /// Start feeds by this.
    Feed(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Retry nothing any more.
    Drain,
    /// End, at this moment at the latest.
    Stop(Instant),
}

impl Weigh for BridgeMessage {
    /// The token of a question; there is only a handful of other messages.
    fn weight(&self) -> usize {
        match self {
            Self::Question(_, TokenQuestion::Verify { token, .. }) => token.len(),
            _ => 0,
        }
    }
}

/// A message about webhooks, in order.
pub(super) enum WebhookMessage {
    Webhook(ConnectionRef, Webhook),
    /// Drop what the journal of this partition knows: another node tells it.
    Forget(u8),
    /// The lease or the numbers of lost webhooks have changed.
    Changed,
}

impl Weigh for WebhookMessage {
    fn weight(&self) -> usize {
        match self {
            Self::Webhook(_, webhook) => webhook.weight(),
            Self::Forget(_) | Self::Changed => 0,
        }
    }
}

impl Default for Bridge {
    fn default() -> Self {
        let fill = Fill::default();
        let questions = Bounds { count: QUESTIONS_MAX, bytes: QUESTIONS_BYTES_MAX };
        let webhooks = Bounds { count: WEBHOOKS_MAX, bytes: WEBHOOKS_BYTES_MAX };
        Self {
            // Questions count for the shards' room; webhooks have bounds of their own and are
            // dropped instead.
            inbox: Inbox::new(Notify::new(), questions, &fill),
            fill,
            webhooks: Inbox::new(Notify::new(), webhooks, &Fill::default()),
            lost: Default::default(),
            lease: Arc::default(),
            running: AtomicBool::new(false),
            draining: Notify::new(),
            relays: Relays::default(),
        }
    }
}

impl Bridge {
    /// Whether there is room for more questions.
    pub(in crate::io) fn has_room(&self) -> bool {
        !self.running.load(Relaxed) || self.fill.has_room()
    }

    /// Has feeds finish the messages they have taken, and webhooks give up retries.
    pub(in crate::io) fn drain(&self) {
        self.draining.notify_one();
        self.inbox.post([BridgeMessage::Drain]);
    }

    /// Waits until the daemon stops.
    pub(super) async fn drained(&self) {
        self.draining.notified().await;
        // Passed on: several feeds wait, and each of them may ask more than once.
        self.draining.notify_one();
    }

    /// Waits for `time`. Returns whether the daemon stops meanwhile.
    pub(super) async fn drains_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.drained()).await.is_ok()
    }

    /// Everything that the next process is to know, as records; nothing where no bridge runs. It
    /// asks and answers nothing more until it hears by the sender that the next process has it, or
    /// the sender is dropped.
    ///
    /// # Errors
    /// When it does not answer within `time`.
    pub(in crate::io) fn freeze(
        &self,
        time: Duration,
    ) -> Result<(Vec<u8>, oneshot::Sender<()>), mpsc::RecvTimeoutError> {
        let (passed, hears) = oneshot::channel();
        if !self.running.load(Relaxed) {
            return Ok((Vec::new(), passed));
        }
        let (reply, records) = mpsc::channel();
        self.inbox.post([BridgeMessage::Handover(BridgeOrder::Freeze(reply, hears))]);
        Ok((records.recv_timeout(time)?, passed))
    }

    /// Takes over what the process before knew.
    pub(in crate::io) fn import(&self, records: Vec<HandoverRecord>, refs: Arc<NewRefs>) {
        if self.running.load(Relaxed) {
            self.inbox.post([BridgeMessage::Handover(BridgeOrder::Import(records, refs))]);
        }
    }

    /// Ends the thread, which has `time` for the webhooks that it can still deliver.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let latest = Instant::now() + time;
        self.inbox.post([BridgeMessage::Stop(latest)]);
        await_end(&self.running, latest + STOP_GRACE);
    }

    /// Asks the remote verifiers. Returns the answers that are known at once: refusals, when no
    /// bridge runs.
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

        // A reload may have taken the verifiers away; a session must not wait for ever.
        let refused = questions.into_iter().filter_map(|(from, question)| match question {
            TokenQuestion::Verify { attempt, .. } => {
                Some((from, verification::unavailable(attempt)))
            }
            TokenQuestion::Doubt { .. } | TokenQuestion::Forget { .. } => None,
        });
        refused.collect()
    }

    /// Queues webhooks as far as there is room; without a running bridge they are dropped.
    pub(in crate::io) fn notify(&self, webhooks: Vec<(ConnectionRef, Webhook)>) {
        if webhooks.is_empty() || !self.running.load(Relaxed) {
            return;
        }
        let messages = webhooks.into_iter().map(|(from, it)| WebhookMessage::Webhook(from, it));
        // Counted here, and logged and measured by the service on the bridge's own thread.
        self.webhooks.offer(messages, |message| {
            if let WebhookMessage::Webhook(_, webhook) = message {
                self.lost[webhook.kind() as usize].fetch_add(1, Relaxed);
            }
        });
    }

    /// Queues webhooks that a journal knows. None is dropped here: their owner has each in memory
    /// anyway, and the service, which takes them all at once, has the limits. Returns the receipts
    /// of those that nobody is to be told of, as no bridge runs.
    pub(in crate::io) fn notify_journaled(
        &self,
        from: ConnectionRef,
        webhooks: Vec<Webhook>,
    ) -> Vec<WebhookReceipt> {
        if self.running.load(Relaxed) {
            let webhooks = webhooks.into_iter();
            self.webhooks.post(webhooks.map(|webhook| WebhookMessage::Webhook(from, webhook)));
            return Vec::new();
        }
        webhooks.iter().filter_map(Webhook::receipt).collect()
    }

    /// Counts webhooks of `echo` that were dropped before they came here.
    pub(in crate::io) fn lose_webhooks(&self, webhooks: u64) {
        self.lost[WebhookKind::Event as usize].fetch_add(webhooks, Relaxed);
        // The service takes the count with the next that comes, or now.
        if self.running.load(Relaxed) {
            self.webhooks.post([WebhookMessage::Changed]);
        }
    }

    /// Has the webhooks of a partition's journal forgotten that were queued before.
    pub(in crate::io) fn forget_webhooks(&self, partition: u8) {
        if self.running.load(Relaxed) {
            self.webhooks.post([WebhookMessage::Forget(partition)]);
        }
    }

    /// Lets webhooks of journals be told until this moment of the monotonic clock.
    pub(in crate::io) fn lease_webhooks(&self, until_ns: u64, now: Now) {
        let former_ns = self.lease.set(until_ns);
        // Also where the former one may be over by the time that it is looked at there.
        let is_news = former_ns < now.monotonic_ns + SECOND_NS && until_ns > now.monotonic_ns;
        if is_news && until_ns != former_ns && self.running.load(Relaxed) {
            self.webhooks.post([WebhookMessage::Changed]);
        }
    }

    /// Queues clients' messages for other daemons as far as there is room. Returns the number of
    /// lost ones.
    pub(in crate::io) fn relay(&self, texts: Vec<Box<str>>) -> usize {
        self.relays.post(texts)
    }

    /// Takes the queued webhooks, and the numbers of those lost since the last call.
    pub(super) fn take_webhooks(&self) -> (VecDeque<WebhookMessage>, LostWebhooks) {
        let mut waiting = VecDeque::new();
        self.webhooks.take(&mut waiting);
        let lost =
            WebhookKind::ALL.map(|(kind, _)| (kind, self.lost[kind as usize].swap(0, Relaxed)));
        (waiting, lost)
    }
}
