//! The bridge: one thread with a tokio runtime, for everything whose clients are written for tokio.
//!
//! It asks remote verifiers, delivers webhooks, and consumes from RabbitMQ and Redis. Its answers
//! go through the shards' mailboxes like everything else; questions, webhooks and relays of the
//! shards, and reloads, wait in [`Bridge`] until the thread takes them. It runs only when one of
//! these is configured.

pub(super) mod amqp;
mod backoff;
mod calls;
pub(super) mod client;
mod handle;
mod handover;
mod order;
mod probe;
pub(super) mod redis;
mod verification;
mod webhook;

pub(super) use self::handle::Bridge;
pub use self::probe::{
    ProbeAnswer, probe_amqp, probe_otlp, probe_redis, probe_verifier, probe_webhook,
};
pub use self::verification::ask_once;

use self::amqp::Bus;
use self::calls::Caller;
use self::handle::{BridgeMessage, WebhookMessage};
use self::redis::Redis;
use self::verification::Verifiers;
use self::webhook::WebhookClient;
use super::{Hub, lookups, pulse};
use crate::dialect::{Kind, Settings, webhook_recipients};
use crate::service::Service as _;
use crate::service::verification::Verification;
use crate::service::webhook::{WebhookKind, WebhookService};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Maximum number of the runtime's threads for look-ups of host names; the resolver may block one
/// for a minute.
const LOOKUPS_MAX: usize = 16;

/// The feeds that run on the bridge.
#[derive(Default)]
pub(super) struct Feeds {
    amqp: Option<amqp::AmqpFeed>,
    redis: Option<redis::RedisFeed>,
}

impl Feeds {
    /// Feeds that are not connected yet, which readiness and sessions learn at once; if another
    /// process has fed these until now, sessions learn it only when the first attempt fails.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn new(
        bus: Option<Bus>,
        redis: Option<Redis>,
        spoken: &[Kind],
        hub: &Arc<Hub>,
        takes_over: bool,
    ) -> io::Result<Self> {
        let metrics = hub.bridge_metrics();
        let amqp = bus.map(|bus| {
            amqp::AmqpFeed::new(bus, spoken.to_vec(), hub, Arc::clone(metrics), takes_over)
        });
        let redis = redis
            .map(|redis| redis::RedisFeed::new(redis, spoken.to_vec(), hub, Arc::clone(metrics)))
            .transpose()?;
        Ok(Self { amqp, redis })
    }

    fn is_empty(&self) -> bool {
        self.amqp.is_none() && self.redis.is_none()
    }

    /// Runs each as a task.
    async fn run(self) {
        if let Some(feed) = self.amqp {
            tokio::spawn(feed.run());
        }
        if let Some(feed) = self.redis {
            tokio::spawn(feed.run());
        }
    }
}

/// Gives the bridge new settings, and starts it when they are the first that need it. Give them to
/// the shards afterwards, so that none asks a verifier that the bridge does not know.
///
/// # Errors
/// When the thread cannot be started, or TLS has no certificates to verify a host with.
pub(super) fn configure(hub: &Arc<Hub>, settings: &Settings, feeds: Feeds) -> io::Result<()> {
    let verifiers = Verifiers::new(settings)?;
    let webhooks = WebhookClient::new(webhook_recipients(settings))?;
    // A running bridge is kept even without work: the next reload may bring some.
    if hub.bridge.running.load(Relaxed) {
        hub.bridge.inbox.post([BridgeMessage::Configure(Box::new((verifiers, webhooks)))]);
    } else if !verifiers.is_empty() || !webhooks.is_empty() || !feeds.is_empty() {
        start(hub, verifiers, webhooks, feeds)?;
    }
    Ok(())
}

/// Starts feeds when the process before has handed over.
///
/// # Errors
/// As of [`configure`].
pub(super) fn feed(hub: &Arc<Hub>, settings: &Settings, feeds: Feeds) -> io::Result<()> {
    if feeds.is_empty() {
        return Ok(());
    }
    if hub.bridge.running.load(Relaxed) {
        hub.bridge.inbox.post([BridgeMessage::Feed(Box::pin(feeds.run()))]);
        return Ok(());
    }
    configure(hub, settings, feeds)
}

fn start(
    hub: &Arc<Hub>,
    verifiers: Verifiers,
    webhooks: WebhookClient,
    feeds: Feeds,
) -> io::Result<()> {
    let runtime = lookups::runtime(LOOKUPS_MAX)?;
    let for_thread = Arc::clone(hub);
    std::thread::Builder::new().name("bridge".into()).spawn(move || {
        runtime.block_on(run(&for_thread, verifiers, webhooks, feeds));
        for_thread.bridge.running.store(false, Relaxed);
        for_thread.pulses.bridge.end();
        // The resolver may block for a minute, and a stop does not wait for it.
        runtime.shutdown_background();
    })?;
    hub.bridge.running.store(true, Relaxed);
    Ok(())
}

/// The bridge's thread: feeds as tasks, the services in this loop.
async fn run(hub: &Arc<Hub>, verifiers: Verifiers, client: WebhookClient, feeds: Feeds) {
    tokio::spawn(pulse::beat(Arc::clone(hub), |hub| &hub.pulses.bridge));
    feeds.run().await;

    let metrics = hub.bridge_metrics();
    let verification = Verification::new(Arc::clone(&metrics.verification));
    let mut verification = Caller::new(verification, Arc::clone(hub));
    let webhooks =
        WebhookService::new(Arc::clone(&metrics.webhooks), Arc::clone(&hub.bridge.lease));
    let mut webhooks = Caller::new(webhooks, Arc::clone(hub));
    configure_services(&mut verification, &mut webhooks, verifiers, client);

    loop {
        // What the last turn has settled.
        hub.settle(webhooks.service_mut().take_settled());
        // Each branch may be dropped while it waits: only a ready one takes anything.
        tokio::select! {
            () = hub.bridge.inbox.posted() => {
                let (mut messages, mut questions) = (VecDeque::new(), Vec::new());
                hub.bridge.inbox.take(&mut messages);
                // Webhooks have an inbox of their own, which is read after this one: all that was
                // offered before a stop was posted is there by then, and what shards offer under
                // new settings finds the service configured.
                for message in messages {
                    match message {
                        BridgeMessage::Question(from, question) => questions.push((from, question)),
                        BridgeMessage::Configure(configured) => {
                            let (verifiers, client) = *configured;
                            configure_services(&mut verification, &mut webhooks, verifiers, client);
                        }
                        BridgeMessage::Feed(run) => run.await,
                        BridgeMessage::Handover(order) => {
                            pass_webhooks(hub, &mut webhooks);
                            verification.ask(std::mem::take(&mut questions));
                            handover::carry_out(order, &mut verification, &mut webhooks).await;
                        }
                        BridgeMessage::Drain => {
                            pass_webhooks(hub, &mut webhooks);
                            webhooks.change(|service, now, _| service.hurry(now));
                        }
                        BridgeMessage::Stop(end) => {
                            pass_webhooks(hub, &mut webhooks);
                            finish_webhooks(&mut webhooks, end).await;
                            hub.settle(webhooks.service_mut().take_settled());
                            // Last: what clients have said while the daemon drains is still
                            // relayed.
                            return hub.bridge.relays.finish(end).await;
                        }
                    }
                }
                pass_webhooks(hub, &mut webhooks);
                verification.ask(questions);
            }
            () = hub.bridge.webhooks.posted() => {
                // Messages that came with them are read first, and pass them on.
                if hub.bridge.inbox.depth() == 0 {
                    pass_webhooks(hub, &mut webhooks);
                }
            }
            () = verification.step() => {}
            () = webhooks.step() => {}
        }
    }
}

/// Gives the services new settings, and the HTTP clients that belong to them.
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

/// Passes waiting webhooks to the service, and the numbers of lost ones for its metrics.
fn pass_webhooks(hub: &Hub, service: &mut Caller<WebhookService>) {
    let (waiting, lost) = hub.bridge.take_webhooks();
    service.change(|service, now, answers| {
        for (kind, count) in lost {
            service.lost(kind, count);
        }
        for message in waiting {
            match message {
                WebhookMessage::Webhook(from, webhook) => service.ask(from, webhook, now, answers),
                WebhookMessage::Forget(partition) => service.forget(partition),
                // Both are looked at after this.
                WebhookMessage::Changed => {}
            }
        }
    });
}

/// Delivers webhooks that can be delivered at once, until `end` at the latest; retries are dropped.
async fn finish_webhooks(webhooks: &mut Caller<WebhookService>, end: Instant) {
    webhooks.change(|service, now, _| service.hurry(now));
    webhooks.finish(end).await;
    let service = webhooks.service();
    let left: usize = WebhookKind::ALL.into_iter().map(|(kind, _)| service.waiting(kind)).sum();
    // What a journal knows is told by a successor.
    let left = left - service.journaled();
    if left > 0 {
        tracing::warn!(
            "{left} webhooks were not delivered: a stop makes no retries, and waits for answers no \
             longer than drain_s"
        );
    }
}
