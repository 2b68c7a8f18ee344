//! What other services are told over HTTP: the callbacks of `channel`, the webhooks of `echo`.
//!
//! Fire and forget: a session asks for a [`Webhook`], and a [`WebhookService`] decides what is told when, in which
//! request, and what is told again. Its host makes the requests.
//!
//! Each recipient has a queue with a limit of its own, in webhooks, and of [`QUEUE_BYTES_MAX`].

mod callbacks;
mod counters;
mod delayed;
mod hook;
mod news;
mod question;
mod settings;
mod webhooks;

pub use self::counters::{WebhookCounters, WebhookOutcome};
pub use self::news::{WebhookNews, WebhookTally, WebhookTrouble};
pub use self::question::{
    Callback, QUEUE_BYTES_MAX, Webhook, WebhookEvent, WebhookKind, WebhookName,
};
pub use self::settings::{CallbackSettings, Recipients, WebhookApp, WebhookSettings, WebhookUrl};

pub use self::callbacks::CallbackCall;
pub use self::webhooks::HookCall;

use self::callbacks::Callbacks;
use self::webhooks::AppWebhooks;
use super::{Answers, ConnectionRef, HttpCall, HttpReply, HttpService, Service, ServiceNews};
use crate::wheel::Now;
use std::sync::Arc;
use std::time::Duration;

/// A request that is under way.
pub enum WebhookCall {
    /// To the callback.
    Callback(CallbackCall),
    /// To a webhook of an app.
    Event(HookCall),
}

/// See the module.
#[derive(Default)]
pub struct WebhookService {
    callbacks: Callbacks,
    webhooks: AppWebhooks,
    news: Vec<WebhookNews>,
    counters: Arc<WebhookCounters>,
}

impl WebhookService {
    /// A service without recipients. `counters` are those of the thread that it lives on.
    #[must_use]
    pub fn new(counters: Arc<WebhookCounters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Tells these from now on. Whoever stays keeps what waits for it, and gets it by the new settings; what waits for
    /// others is dropped. Recipients whose settings have problems are told nothing.
    pub fn configure(&mut self, recipients: Recipients, now: Now) {
        self.callbacks.configure(recipients.callback);
        self.webhooks.configure(recipients.webhooks, now);
    }

    /// Webhooks that were lost before they came here.
    pub fn lost(&mut self, kind: WebhookKind, webhooks: u64) {
        match kind {
            WebhookKind::Callback => self.callbacks.tally.dropped += webhooks,
            WebhookKind::Event => self.webhooks.tally.dropped += webhooks,
        }
    }

    /// There will soon be no webhook: whoever has left does not come back, and nothing is gathered any longer.
    pub fn hurry(&mut self, now: Now) {
        self.webhooks.hurry(now);
    }

    /// Those that are queued, held back or under way.
    #[must_use]
    pub fn waiting(&self, kind: WebhookKind) -> usize {
        match kind {
            WebhookKind::Callback => self.callbacks.waiting(),
            WebhookKind::Event => self.webhooks.waiting(),
        }
    }

    /// What has become of the others.
    #[must_use]
    pub fn tally(&self, kind: WebhookKind) -> WebhookTally {
        match kind {
            WebhookKind::Callback => self.callbacks.tally,
            WebhookKind::Event => self.webhooks.tally,
        }
    }
}

impl Service for WebhookService {
    type Question = Webhook;
    type Out<'a> = Answers;

    /// Queues a webhook for those who want it. There is no answer.
    fn ask(&mut self, _: ConnectionRef, webhook: Webhook, now: Now, _: &mut Answers) {
        match webhook {
            Webhook::Callback(callback) => self.news.extend(self.callbacks.take(callback, now)),
            Webhook::Event(webhook) => self.news.extend(self.webhooks.take(webhook, now)),
        }
    }

    /// Nothing: what is due is the next call.
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
