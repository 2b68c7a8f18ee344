//! What the webhook promises, under a clock of the test's own: what is told when, in which request, what is told
//! again, and what becomes of the rest.

#![allow(clippy::unwrap_used)]

mod callbacks;
mod handover;
mod leaves;
mod receipts;
mod reload;
mod settings;
mod webhooks;

use fanfare::service::webhook::{
    Callback, CallbackSettings, Recipients, Webhook, WebhookApp, WebhookCall, WebhookEvent,
    WebhookKind, WebhookLease, WebhookName, WebhookService, WebhookSettings, WebhookTally,
};
use fanfare::service::{Answers, ConnectionRef, HttpCall, HttpService as _, Service as _};
use fanfare::wheel::Now;
use std::collections::VecDeque;
use std::sync::Arc;

/// The unix time of a test's beginning, in milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// A webhook whose requests wait for the test to reply.
struct Stage {
    webhook: WebhookService,
    lease: Arc<WebhookLease>,
    now: Now,
    requests: VecDeque<HttpCall<WebhookCall>>,
}

fn callback(more: &str) -> CallbackSettings {
    toml::from_str(&format!("url = 'http://app.example/api/chat?x=1'\n{more}")).unwrap()
}

/// The settings of a webhook of the app `a`, at this path.
fn webhook(path: &str, more: &str) -> (WebhookApp, WebhookSettings) {
    let app = WebhookApp { id: "a".into(), key: "the key".into(), secret: "hush".into() };
    (app, toml::from_str(&format!("url = 'http://app.example/{path}'\n{more}")).unwrap())
}

fn refused() -> Result<u16, String> {
    Err("connection refused".into())
}

impl Stage {
    fn new(recipients: Recipients) -> Self {
        let now = Now { monotonic_ns: 5_000_000_000, unix_ms: START_MS };
        let lease = Arc::<WebhookLease>::default();
        lease.set(u64::MAX);
        let mut webhook = WebhookService::new(Arc::default(), Arc::clone(&lease));
        webhook.configure(recipients, now);
        Self { webhook, lease, now, requests: VecDeque::new() }
    }

    fn calling(more: &str) -> Self {
        Self::new(Recipients { callback: Some(callback(more)), webhooks: Vec::new() })
    }

    fn hooked(more: &str) -> Self {
        Self::new(Recipients { callback: None, webhooks: vec![webhook("hook", more)] })
    }

    fn configure(&mut self, recipients: Recipients) {
        self.webhook.configure(recipients, self.now);
        self.send();
    }

    /// A client's message on a channel.
    fn call(&mut self, channel: &str, body: &str) {
        let (channel, body) = (channel.into(), body.into());
        self.take(Webhook::Callback(Callback {
            channel,
            token: "a.b.c".into(),
            body,
            client: None,
        }));
    }

    /// An event of the app `a`.
    fn event(&mut self, name: WebhookName, subject: &str, json: &str) {
        let (app, subject, json) = ("a".into(), subject.into(), json.into());
        self.take(Webhook::Event(WebhookEvent { app, name, subject, json, receipt: None }));
    }

    fn take(&mut self, webhook: Webhook) {
        let from = ConnectionRef { shard: 0, id: 0, serial: 0 };
        self.webhook.ask(from, webhook, self.now, &mut Answers::new());
        self.send();
    }

    fn send(&mut self) {
        while let Some(call) = self.webhook.next_call(self.now) {
            self.requests.push_back(call);
        }
    }

    /// Replies to the oldest request; returns its body.
    #[track_caller]
    fn reply(&mut self, reply: Result<u16, String>) -> String {
        let HttpCall { call, request, .. } = self.requests.pop_front().expect("there is a request");
        self.webhook.replied(
            call,
            reply.map(|status| (status, Vec::new())),
            self.now,
            &mut Answers::new(),
        );
        self.send();
        request.into_body()
    }

    /// Lets time pass, waking the webhook whenever it wants to be.
    fn wait_ms(&mut self, milliseconds: u64) {
        let end_ns = self.now.monotonic_ns + milliseconds * 1_000_000;
        while self.now.monotonic_ns < end_ns {
            let wakes_at_ns = self.webhook.next_at_ns().map_or(end_ns, |at_ns| at_ns.min(end_ns));
            assert!(wakes_at_ns > self.now.monotonic_ns, "it would not let the thread sleep");
            self.pass_ns(wakes_at_ns - self.now.monotonic_ns);
            self.send();
        }
    }

    fn pass_ns(&mut self, ns: u64) {
        self.now.monotonic_ns += ns;
        self.now.unix_ms = START_MS + (self.now.monotonic_ns - 5_000_000_000) / 1_000_000;
    }

    /// The bodies of the requests under way.
    fn bodies(&self) -> Vec<&str> {
        self.requests.iter().map(|call| call.request.body().as_str()).collect()
    }

    /// What the log would have.
    fn news(&mut self) -> Vec<String> {
        self.webhook.take_news().into_iter().map(|news| news.text).collect()
    }

    #[track_caller]
    fn assert_tally(&self, kind: WebhookKind, [delivered, failed, dropped, retried]: [u64; 4]) {
        assert_eq!(self.webhook.tally(kind), WebhookTally { delivered, failed, dropped, retried });
    }
}
