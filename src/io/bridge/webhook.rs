//! The webhook at work: carries requests between its queues and the network.
//!
//! What to tell when, and what to tell again, is the webhook's to decide; here are the clock and the connections.

#[cfg(test)]
mod tests;

use super::super::clock;
use super::client::{Client, tls_of_the_system};
use super::{WaitingWebhooks, moment};
use crate::dialect::Settings;
use crate::dialect::echo::AppSettings;
use crate::metrics::{Delivery, Metrics};
use crate::service::webhook::{App, Errand, Recipients, Reply, WebhookKind, WebhookService};
use crate::wheel::Now;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// Connections that are kept to a host; a callback has as many requests under way by default.
const KEPT_MAX: usize = 16;

/// Everybody whom these settings tell anything.
pub(super) fn recipients(settings: &Settings) -> Recipients {
    let enabled = settings.echo.apps.iter().filter(|app| app.settings.enabled);
    let webhooks = enabled.flat_map(|app| {
        let AppSettings { id, key, webhook, .. } = &app.settings;
        let of =
            App { id: id.as_str().into(), key: key.as_str().into(), secret: app.secret.0.as_str().into() };
        webhook.iter().map(move |hook| (of.clone(), hook.clone()))
    });
    Recipients { callback: settings.channel.callback.clone(), webhooks: webhooks.collect() }
}

/// Whom to tell, and the client to do it with.
pub(super) struct Post {
    recipients: Recipients,
    client: Client,
}

impl Post {
    /// # Errors
    /// When somebody cannot be told over TLS for want of certificates.
    pub(super) fn new(recipients: Recipients) -> io::Result<Self> {
        let secure = recipients.endpoints().find(|endpoint| endpoint.is_https());
        let client =
            Client::new(tls_of_the_system(secure.as_ref().map(|endpoint| endpoint.host()))?, KEPT_MAX);
        Ok(Self { recipients, client })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}

/// See the module.
pub(super) struct Carrier {
    webhook: WebhookService,
    client: Client,
    requests: JoinSet<(Errand, Reply)>,
    metrics: Arc<Metrics>,
}

impl Carrier {
    /// `metrics` are those of the thread that it lives on.
    pub(super) fn new(post: Post, metrics: Arc<Metrics>) -> Self {
        let Post { recipients, client } = post;
        let mut webhook = WebhookService::default();
        webhook.configure(recipients, clock::now());
        Self { webhook, client, requests: JoinSet::new(), metrics }
    }

    /// A reload: whoever stays is told what waits for it.
    pub(super) fn configure(&mut self, post: Post) {
        let now = clock::now();
        self.client = post.client;
        self.webhook.configure(post.recipients, now);
        self.proceed(now);
    }

    /// Takes what the shards have to tell.
    pub(super) fn take(&mut self, webhooks: WaitingWebhooks) {
        let now = clock::now();
        for (kind, _) in WebhookKind::ALL {
            self.webhook.lost(kind, webhooks.lost[kind as usize]);
        }
        webhooks.list.into_iter().for_each(|webhook| self.webhook.take(webhook, now));
        self.proceed(now);
    }

    /// The daemon stops.
    pub(super) fn hurry(&mut self) {
        let now = clock::now();
        self.webhook.hurry(now);
        self.proceed(now);
    }

    /// Waits for the next reply or moment, and does what it asks for. May be dropped while it waits.
    pub(super) async fn step(&mut self) {
        let wakes_at_ns = self.webhook.wakes_at_ns();
        tokio::select! {
            Some(reply) = self.requests.join_next() => {
                // What has panicked is ours to know of.
                let (errand, reply) =
                    reply.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                self.webhook.replied(errand, reply, clock::now());
            }
            () = moment(wakes_at_ns) => {}
        }
        self.proceed(clock::now());
    }

    /// Tells what can be told at once, until `end` at the latest; what would have to be told again is lost.
    pub(super) async fn finish(mut self, end: Instant) {
        self.hurry();
        let all = async {
            while !self.requests.is_empty() {
                self.step().await;
            }
        };
        let _ = tokio::time::timeout_at(end.into(), all).await;
        let left: usize = WebhookKind::ALL.into_iter().map(|(kind, _)| self.webhook.waiting(kind)).sum();
        if left > 0 {
            tracing::warn!(
                "{left} webhooks were not delivered to callbacks and webhooks: at a stop nothing is tried again, and nothing is waited for beyond drain_s"
            );
        }
    }

    /// Sends what is due, and says what is worth it.
    fn proceed(&mut self, now: Now) {
        while let Some((errand, request)) = self.webhook.next_errand(now) {
            let (client, timeout) = (self.client.clone(), errand.timeout());
            self.requests.spawn(async move { (errand, client.tell(request, timeout).await) });
        }
        self.webhook.take_news().into_iter().for_each(|news| tracing::warn!("{news}"));
        for (kind, _) in WebhookKind::ALL {
            let tally = self.webhook.tally(kind);
            let webhooks = &self.metrics.webhooks[kind as usize];
            webhooks[Delivery::Delivered as usize].set(tally.delivered);
            webhooks[Delivery::Failed as usize].set(tally.failed);
            webhooks[Delivery::Dropped as usize].set(tally.dropped);
            self.metrics.webhook_retries[kind as usize].set(tally.retried);
            self.metrics.webhooks_waiting[kind as usize].set(self.webhook.waiting(kind) as u64);
        }
    }
}
