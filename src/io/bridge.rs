//! The bridge: one thread with a tokio runtime, for what has a good tokio client only.
//!
//! It asks remote verifiers, tells other services what they want to know, and listens to RabbitMQ and Redis. What it
//! has to say to a shard goes through the shard's mailbox like everything else; what the shards ask, tell or relay,
//! and what a reload brings, waits in [`Bridge`] until the thread takes it. Nothing of it runs when nothing of it is
//! configured.

pub(super) mod amqp;
mod calls;
mod client;
pub(super) mod redis;
mod upkeep;
mod verification;
mod webhook;

pub use self::verification::ask_once;

use self::amqp::Bus;
use self::calls::Caller;
use self::redis::{Redis, Relays};
use self::verification::Verifiers;
use self::webhook::WebhookClient;
use super::handoff::inbox::{Bounds, Fill, Inbox, Weigh};
use super::{Hub, clock, pulse};
use crate::dialect::{Kind, Settings, webhook_recipients};
use crate::service::ConnectionRef;
use crate::service::verification::{self as verification_service, TokenQuestion, Verification};
use crate::service::webhook::{Webhook, WebhookKind, WebhookService};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Questions that wait for the bridge before the shards read no more from clients. It takes them all at once,
/// so they wait only while the machine has no time for it.
const QUESTIONS_MAX: usize = 10_000;

/// Webhooks that wait for the bridge; more are dropped, as they are fire and forget. It takes them all at once too.
const WEBHOOKS_MAX: usize = 10_000;

/// Bytes of them: some messages of clients are long.
const WEBHOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much longer than it may a stop waits for the thread to say what it has not told.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// Threads of the runtime beside its own. They look host names up, and the resolver may keep one for a minute.
const LOOKUPS_MAX: usize = 16;

/// The other threads' end of the bridge.
pub(super) struct Bridge {
    /// What the thread is told.
    inbox: Inbox<BridgeMessage, Notify>,
    fill: Fill,
    /// Webhooks of the shards.
    webhooks: Inbox<(ConnectionRef, Webhook), Notify>,
    /// Those for which there was no room.
    lost: [AtomicU64; WebhookKind::ALL.len()],
    running: AtomicBool,
    /// The daemon stops: whatever is fed from here comes to its end.
    draining: Notify,
    relays: Relays,
}

/// What the bridge is told. Questions alone may be many.
enum BridgeMessage {
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
    pub(super) fn has_room(&self) -> bool {
        !self.running.load(Relaxed) || self.fill.has_room()
    }

    /// Lets the feed finish what it has taken, and the webhook wait for nobody's return.
    pub(super) fn drain(&self) {
        self.draining.notify_one();
        self.inbox.post([BridgeMessage::Drain]);
    }

    /// Waits until the daemon is told to stop, for which there may be several feeds.
    async fn drained(&self) {
        self.draining.notified().await;
        self.draining.notify_one();
    }

    /// Waits for a time. Returns whether the daemon has been told to stop meanwhile.
    async fn drains_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.drained()).await.is_ok()
    }

    /// Ends the thread, which has this time to tell what can be told yet.
    pub(super) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.inbox.post([BridgeMessage::Stop(start + time)]);
        while self.running.load(Relaxed) && start.elapsed() < time + STOP_GRACE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes webhooks as far as there is room.
    fn offer(&self, webhooks: Vec<(ConnectionRef, Webhook)>) {
        self.webhooks.offer(webhooks, |(_, webhook)| {
            self.lost[webhook.kind() as usize].fetch_add(1, Relaxed);
        });
    }

    /// Gives the service the webhooks that wait, and the number of those that were lost.
    fn pass_webhooks(&self, service: &mut Caller<WebhookService>) {
        let mut waiting = VecDeque::new();
        self.webhooks.take(&mut waiting);
        service.change(|service, _, _| {
            for (kind, _) in WebhookKind::ALL {
                service.lost(kind, self.lost[kind as usize].swap(0, Relaxed));
            }
        });
        service.ask(waiting);
    }
}

impl Hub {
    /// Asks the remote verifiers. Without a bridge there is none to ask.
    pub(super) fn ask_verifiers(&self, questions: Vec<(ConnectionRef, TokenQuestion)>) {
        if questions.is_empty() {
            return;
        }
        if self.bridge.running.load(Relaxed) {
            let questions = questions.into_iter();
            let messages =
                questions.map(|(from, question)| BridgeMessage::Question(from, question));
            return self.bridge.inbox.post(messages);
        }
        let refused = questions.into_iter().filter_map(|(from, question)| match question {
            TokenQuestion::Verify { attempt, .. } => {
                Some((from, verification_service::unavailable(attempt)))
            }
            TokenQuestion::Doubt { .. } | TokenQuestion::Forget { .. } => None,
        });
        self.answer(refused.collect());
    }

    /// Tells other services what a shard has for them. Without a bridge there is none to be told.
    pub(super) fn notify(&self, webhooks: Vec<(ConnectionRef, Webhook)>) {
        if !webhooks.is_empty() && self.bridge.running.load(Relaxed) {
            self.bridge.offer(webhooks);
        }
    }

    /// Tells other daemons what clients of a shard have said. Fire and forget.
    pub(super) fn relay(&self, shard: usize, texts: Vec<Box<str>>) {
        if !texts.is_empty() {
            let lost = self.bridge.relays.post(texts);
            self.metrics[shard].relays_lost.add(lost as u64);
        }
    }
}

/// The feeds that run on the bridge.
#[derive(Default)]
pub(super) struct Feeds {
    amqp: Option<amqp::AmqpFeed>,
    redis: Option<redis::RedisFeed>,
}

impl Feeds {
    /// Feeds that are not connected, which is what everybody is told from now on.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn new(
        bus: Option<Bus>,
        redis: Option<Redis>,
        spoken: &[Kind],
        hub: &Arc<Hub>,
    ) -> io::Result<Self> {
        let metrics = &hub.metrics[hub.mailboxes.len()];
        let feed = |bus| amqp::AmqpFeed::new(bus, spoken.to_vec(), hub, Arc::clone(metrics));
        let amqp = bus.map(feed);
        let feed = |redis| redis::RedisFeed::new(redis, spoken.to_vec(), hub, Arc::clone(metrics));
        Ok(Self { amqp, redis: redis.map(feed).transpose()? })
    }

    fn is_empty(&self) -> bool {
        self.amqp.is_none() && self.redis.is_none()
    }
}

/// Gives the bridge these settings, and starts it when they are the first that need it. The shards are to get
/// them afterwards, so that nobody asks a verifier that the bridge does not know.
///
/// # Errors
/// When the thread cannot be had, or somebody cannot be reached over TLS for want of certificates.
pub(super) fn configure(hub: &Arc<Hub>, settings: &Settings, feeds: Feeds) -> io::Result<()> {
    let verifiers = Verifiers::new(settings)?;
    let webhooks = WebhookClient::new(webhook_recipients(settings))?;
    if hub.bridge.running.load(Relaxed) {
        hub.bridge.inbox.post([BridgeMessage::Configure(Box::new((verifiers, webhooks)))]);
    } else if !verifiers.is_empty() || !webhooks.is_empty() || !feeds.is_empty() {
        start(hub, verifiers, webhooks, feeds)?;
    }
    Ok(())
}

fn start(
    hub: &Arc<Hub>,
    verifiers: Verifiers,
    webhooks: WebhookClient,
    feeds: Feeds,
) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_all().max_blocking_threads(LOOKUPS_MAX).thread_name("lookup").build()?;
    let for_thread = Arc::clone(hub);
    std::thread::Builder::new().name("bridge".into()).spawn(move || {
        runtime.block_on(run(&for_thread, verifiers, webhooks, feeds));
        for_thread.bridge.running.store(false, Relaxed);
        for_thread.pulses.bridge.end();
        // A host name that is being looked up is not waited for.
        runtime.shutdown_background();
    })?;
    hub.bridge.running.store(true, Relaxed);
    Ok(())
}

async fn run(hub: &Arc<Hub>, verifiers: Verifiers, client: WebhookClient, feeds: Feeds) {
    tokio::spawn(pulse::beat(Arc::clone(hub), |hub| &hub.pulses.bridge));
    if let Some(feed) = feeds.amqp {
        tokio::spawn(feed.run());
    }
    if let Some(feed) = feeds.redis {
        tokio::spawn(feed.run());
    }

    let metrics = &hub.metrics[hub.mailboxes.len()];
    let verification = Verification::new(Arc::clone(&metrics.verification));
    let mut verification = Caller::new(verification, Arc::clone(hub));
    let mut webhooks =
        Caller::new(WebhookService::new(Arc::clone(&metrics.webhooks)), Arc::clone(hub));
    configure_services(&mut verification, &mut webhooks, verifiers, client);
    loop {
        tokio::select! {
            () = hub.bridge.inbox.posted() => {
                // What was said before a stop is told before it.
                hub.bridge.pass_webhooks(&mut webhooks);
                let (mut messages, mut questions) = (VecDeque::new(), Vec::new());
                hub.bridge.inbox.take(&mut messages);
                for message in messages {
                    match message {
                        BridgeMessage::Question(from, question) => questions.push((from, question)),
                        BridgeMessage::Configure(configured) => {
                            let (verifiers, client) = *configured;
                            configure_services(&mut verification, &mut webhooks, verifiers, client);
                        }
                        BridgeMessage::Drain => webhooks.change(|service, now, _| service.hurry(now)),
                        BridgeMessage::Stop(end) => {
                            webhook::finish(&mut webhooks, end).await;
                            return hub.bridge.relays.finish(end).await;
                        }
                    }
                }
                verification.ask(questions);
            }
            () = hub.bridge.webhooks.posted() => hub.bridge.pass_webhooks(&mut webhooks),
            () = verification.step() => {}
            () = webhooks.step() => {}
        }
    }
}

/// Gives the services new settings, with the clients that go with them.
fn configure_services(
    verification: &mut Caller<Verification>,
    webhooks: &mut Caller<WebhookService>,
    verifiers: Verifiers,
    client: WebhookClient,
) {
    let Verifiers { remotes, clients } = verifiers;
    verification
        .configure(clients, |service, now, answers| service.configure(&remotes, now, answers));
    let WebhookClient { recipients, client } = client;
    webhooks.configure(vec![Some(client)], |service, now, _| service.configure(recipients, now));
}

/// Waits for a moment of the monotonic clock, or for ever.
async fn moment(at_ns: Option<u64>) {
    match at_ns {
        Some(at_ns) => {
            let wait_ns = at_ns.saturating_sub(clock::now().monotonic_ns);
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
        None => std::future::pending().await,
    }
}
