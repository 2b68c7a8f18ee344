//! Webhooks: HTTP requests that notify other services. The callbacks of `channel`, the webhooks of
//! `echo`.
//!
//! A session hands over a [`Webhook`] and gets no answer. [`WebhookService`] queues, batches and
//! retries; its host makes the requests.
//!
//! Each recipient has its own queue, limited in entries by its settings and in bytes by
//! [`QUEUE_BYTES_MAX`].
//!
//! `hook` is one webhook of `echo`, with a `lane` of batches, retried for five minutes, and another
//! for events whose fate a journal wants to know, by their `receipts`. `callbacks` are those of
//! `channel`: each retried once. `departures` holds departures back for a few seconds. `webhooks`
//! holds all hooks of all apps, `settings` their configuration; `news` words the log lines,
//! `counters` are the metrics; `handover` passes what is queued to another process.

mod callbacks;
mod counters;
mod departures;
mod handover;
mod hook;
mod lane;
mod news;
mod question;
mod receipts;
mod settings;
mod webhooks;

pub use self::counters::{WebhookCounters, WebhookOutcome};
pub use self::handover::{FrozenEvent, FrozenWebhook};
pub use self::news::{WebhookNews, WebhookTally, WebhookTrouble};
pub use self::question::{
    Callback, QUEUE_BYTES_MAX, Webhook, WebhookEvent, WebhookKind, WebhookName, WebhookReceipt,
};
pub use self::receipts::WebhookLease;
pub use self::settings::{CallbackSettings, Recipients, WebhookApp, WebhookSettings, WebhookUrl};

pub use self::callbacks::CallbackCall;
pub use self::webhooks::HookCall;

use self::callbacks::Callbacks;
use self::webhooks::AppWebhooks;
use super::{Answers, ConnectionRef, HttpCall, HttpReply, HttpService, Service, ServiceNews};
use crate::wheel::Now;
use std::sync::Arc;
use std::time::Duration;

/// A request in flight.
pub enum WebhookCall {
    /// To the callback.
    Callback(CallbackCall),
    /// To a webhook of an app.
    Event(HookCall),
}

/// The queues and retries of all recipients.
#[derive(Default)]
pub struct WebhookService {
    callbacks: Callbacks,
    webhooks: AppWebhooks,
    news: Vec<WebhookNews>,
    counters: Arc<WebhookCounters>,
}

impl WebhookService {
    /// A service without recipients. `counters` belong to the thread it runs on. When a lease that
    /// was over is set anew, the service is to be asked for its next call.
    #[must_use]
    pub fn new(counters: Arc<WebhookCounters>, lease: Arc<WebhookLease>) -> Self {
        Self { counters, webhooks: AppWebhooks::new(lease), ..Self::default() }
    }

    /// Replaces the recipients. Those that stay keep their queues, sent by the new settings; the
    /// queues of removed ones are dropped. A recipient with invalid settings receives nothing.
    pub fn configure(&mut self, recipients: Recipients, now: Now) {
        self.callbacks.configure(recipients.callback);
        self.webhooks.configure(recipients.webhooks, now);
    }

    /// Counts webhooks that were dropped before they reached this service.
    pub fn lost(&mut self, kind: WebhookKind, webhooks: u64) {
        match kind {
            WebhookKind::Callback => self.callbacks.tally.dropped += webhooks,
            WebhookKind::Event => self.webhooks.accounts.tally.dropped += webhooks,
        }
    }

    /// Prepares for shutdown: departures are sent without waiting for a return, and batches without
    /// waiting for more events.
    pub fn hurry(&mut self, now: Now) {
        self.webhooks.hurry(now);
    }

    /// Webhooks queued, held back or in flight.
    #[must_use]
    pub fn waiting(&self, kind: WebhookKind) -> usize {
        match kind {
            WebhookKind::Callback => self.callbacks.waiting(),
            WebhookKind::Event => self.webhooks.waiting(),
        }
    }

    /// Drops the events with receipts of a partition, which has another owner: they are not told
    /// from here any more, and not reported as settled. Requests in flight are not made again.
    pub fn forget(&mut self, partition: u8) {
        self.webhooks.forget(partition);
    }

    /// The receipts, each once, of the events that need not be told any more: all recipients have
    /// accepted them, have not wanted them, or have failed for too long.
    #[must_use]
    pub fn take_settled(&mut self) -> Vec<WebhookReceipt> {
        self.webhooks.take_settled()
    }

    /// Events with receipts among those that are queued, held back or in flight. They are not lost
    /// with this service: their journal has them.
    #[must_use]
    pub fn journaled(&self) -> usize {
        self.webhooks.journaled()
    }

    /// The totals of webhooks by outcome.
    #[must_use]
    pub fn tally(&self, kind: WebhookKind) -> WebhookTally {
        match kind {
            WebhookKind::Callback => self.callbacks.tally,
            WebhookKind::Event => self.webhooks.accounts.tally,
        }
    }
}

impl Service for WebhookService {
    type Question = Webhook;
    type Out<'a> = Answers;

    /// Queues a webhook for its recipients. There is no answer.
    fn ask(&mut self, _: ConnectionRef, webhook: Webhook, now: Now, _: &mut Answers) {
        match webhook {
            Webhook::Callback(callback) => self.news.extend(self.callbacks.take(callback, now)),
            Webhook::Event(webhook) => self.news.extend(self.webhooks.take(webhook, now)),
        }
    }

    /// Does nothing: due requests are made by `next_call`.
    fn tick(&mut self, _: Now, _: &mut Answers) {}

    fn next_at_ns(&self) -> Option<u64> {
        self.callbacks.wakes_at_ns().into_iter().chain(self.webhooks.wakes_at_ns()).min()
    }
}

impl HttpService for WebhookService {
    type Call = WebhookCall;

    fn next_call(&mut self, now: Now) -> Option<HttpCall<WebhookCall>> {
        let (call, timeout_s, request) = match self.callbacks.next(now) {
            Some((call, timeout_s, request)) => (WebhookCall::Callback(call), timeout_s, request),
            None => {
                let (call, timeout_s, request) = self.webhooks.next(now)?;
                (WebhookCall::Event(call), timeout_s, request)
            }
        };
        let timeout = Duration::from_secs(timeout_s);
        Some(HttpCall { call, client: 0, request, timeout, wants_body: false })
    }

    fn replied(&mut self, call: WebhookCall, reply: HttpReply, now: Now, _: &mut Answers) {
        let reply = reply.map(|(status, _)| status);
        self.news.extend(match call {
            WebhookCall::Callback(call) => self.callbacks.replied(call, reply, now),
            WebhookCall::Event(call) => self.webhooks.replied(call, reply, now),
        });
    }

    fn count(&self) {
        for (kind, _) in WebhookKind::ALL {
            self.counters.set(kind, self.tally(kind), self.waiting(kind));
        }
    }

    fn take_news(&mut self) -> Vec<ServiceNews> {
        let news = self.news.drain(..);
        news.map(|news| ServiceNews { is_good: false, text: news.to_string() }).collect()
    }
}
