//! The bridge: one thread with a tokio runtime, for what has a good tokio client only.
//!
//! It asks remote verifiers, tells other services what they want to know, and listens to RabbitMQ and Redis. What it
//! has to say to a shard goes through the shard's mailbox like everything else; what the shards ask, tell or relay,
//! and what a reload brings, waits in [`Bridge`] until the thread takes it. Nothing of it runs when nothing of it is
//! configured.

pub(super) mod amqp;
mod calls;
mod client;
mod handle;
pub(super) mod redis;
mod upkeep;
mod verification;
mod webhook;

pub(super) use self::handle::Bridge;
pub use self::verification::ask_once;

use self::amqp::Bus;
use self::calls::Caller;
use self::handle::BridgeMessage;
use self::redis::Redis;
use self::verification::Verifiers;
use self::webhook::WebhookClient;
use super::{Hub, pulse};
use crate::dialect::{Kind, Settings, webhook_recipients};
use crate::service::verification::Verification;
use crate::service::webhook::{WebhookKind, WebhookService};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Threads of the runtime beside its own. They look host names up, and the resolver may keep one for a minute.
const LOOKUPS_MAX: usize = 16;

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
                pass_webhooks(hub, &mut webhooks);
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
                            finish_webhooks(&mut webhooks, end).await;
                            return hub.bridge.relays.finish(end).await;
                        }
                    }
                }
                verification.ask(questions);
            }
            () = hub.bridge.webhooks.posted() => pass_webhooks(hub, &mut webhooks),
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

/// Gives the service the webhooks that wait, and the numbers of those that were lost.
fn pass_webhooks(hub: &Hub, service: &mut Caller<WebhookService>) {
    let (waiting, lost) = hub.bridge.take_webhooks();
    service.change(|service, _, _| {
        for (kind, count) in lost {
            service.lost(kind, count);
        }
    });
    service.ask(waiting);
}

/// Tells what can be told at once, until `end` at the latest; what would have to be told again is lost.
async fn finish_webhooks(webhooks: &mut Caller<WebhookService>, end: Instant) {
    webhooks.change(|service, now, _| service.hurry(now));
    webhooks.finish(end).await;
    let left: usize =
        WebhookKind::ALL.into_iter().map(|(kind, _)| webhooks.service().waiting(kind)).sum();
    if left > 0 {
        tracing::warn!(
            "{left} webhooks were not delivered: at a stop nothing is tried again, and nothing is waited for beyond drain_s"
        );
    }
}
