//! What other services are told over HTTP: the callbacks of `channel`, the webhooks of `echo`.
//!
//! Nobody waits for what becomes of it. A session names what is to be told as a [`Webhook`], and a [`WebhookService`] decides
//! what is told when, in which request, and what is told again. It is a value: it is given webhooks, replies and the
//! time, and says which requests to send and when it wants to be woken. `io` carries them.
//!
//! Each recipient has a queue with a limit of its own, in webhooks, and of [`QUEUE_BYTES_MAX`].

mod callbacks;
mod delayed;
mod hook;
mod news;
mod settings;
mod webhooks;

pub use self::news::{News, Tally, Trouble};
pub use self::settings::{App, CallbackSettings, Recipients, Url, WebhookSettings};

use self::callbacks::Callbacks;
use self::webhooks::AppWebhooks;
use crate::wheel::Now;
use core::net::IpAddr;
use http::Request;
use std::time::Duration;

/// Bytes that may wait for one recipient. A queue of ten thousand webhooks of a KiB has 10 MiB; the longest messages
/// that clients may send would make it a GiB.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a webhook takes beside its texts, about.
const WEBHOOK_BYTES: usize = 100;

/// Something that is to be told to another service.
#[derive(Debug)]
pub enum Webhook {
    /// To the callback of `channel`.
    Callback(Callback),
    /// To the webhooks of an app of `echo`.
    WebhookEvent(WebhookEvent),
}

impl Webhook {
    /// How it is told.
    #[must_use]
    pub fn kind(&self) -> WebhookKind {
        match self {
            Self::Callback(_) => WebhookKind::Callback,
            Self::WebhookEvent(_) => WebhookKind::WebhookEvent,
        }
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match self {
            Self::Callback(callback) => callback.bytes(),
            Self::WebhookEvent(webhook) => webhook.subject.len() + webhook.json.len(),
        };
        WEBHOOK_BYTES + texts
    }
}

/// How something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WebhookKind {
    /// To the callback of `channel`.
    Callback,
    /// To the webhooks of `echo`.
    WebhookEvent,
}

impl WebhookKind {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Callback, "callback"), (Self::WebhookEvent, "webhook")];
}

/// A client's message, for the callback of `channel`.
pub struct Callback {
    /// The channel, whose calls go one after another.
    pub channel: Box<str>,
    /// The token of the client as it was received; never shown.
    pub token: Box<str>,
    /// The whole body, JSON.
    pub body: Box<str>,
    /// The client's address, which those know who have its socket.
    pub client: Option<IpAddr>,
}

impl Callback {
    fn bytes(&self) -> usize {
        self.channel.len() + self.token.len() + self.body.len()
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// An event of an app of `echo`, for those of its webhooks that want it.
#[derive(Debug)]
pub struct WebhookEvent {
    /// The app's id.
    pub app: Box<str>,
    /// What has happened.
    pub name: WebhookName,
    /// What it has happened to, by which a return within the delay of a leave is known: the channel, and the user
    /// after a NUL.
    pub subject: Box<str>,
    /// The event as it stands in a webhook's list of events, JSON.
    pub json: Box<str>,
}

/// What webhooks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookName {
    /// A channel has its first subscription.
    ChannelOccupied,
    /// A channel has lost its last subscription.
    ChannelVacated,
    /// A user has come to a presence channel.
    MemberAdded,
    /// A user has left a presence channel.
    MemberRemoved,
    /// A client has sent an event to the others of its channel.
    ClientEvent,
    /// A cache channel was subscribed to and had nothing, for the first time since it had something.
    CacheMiss,
    /// The number of a channel's subscriptions has changed.
    SubscriptionCount,
}

/// A request that is under way.
pub struct Errand {
    call: Call,
    timeout_s: u64,
}

enum Call {
    Callback(callbacks::Call),
    WebhookEvent(webhooks::Call),
}

impl Errand {
    /// How long it may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}

/// The status of an answer, or why there is none.
pub type Reply = Result<u16, String>;

/// See the module.
#[derive(Default)]
pub struct WebhookService {
    callbacks: Callbacks,
    webhooks: AppWebhooks,
    news: Vec<News>,
}

impl WebhookService {
    /// Tells these from now on. Whoever stays keeps what waits for it, and gets it by the new settings; what waits for
    /// others is dropped. Recipients whose settings have problems are told nothing.
    pub fn configure(&mut self, recipients: Recipients, now: Now) {
        self.callbacks.configure(recipients.callback);
        self.webhooks.configure(recipients.webhooks, now);
    }

    /// Queues a webhook for those who want it.
    pub fn take(&mut self, webhook: Webhook, now: Now) {
        match webhook {
            Webhook::Callback(callback) => self.news.extend(self.callbacks.take(callback, now)),
            Webhook::WebhookEvent(webhook) => self.news.extend(self.webhooks.take(webhook, now)),
        }
    }

    /// WaitingWebhooks that were lost before they came here.
    pub fn lost(&mut self, kind: WebhookKind, webhooks: u64) {
        match kind {
            WebhookKind::Callback => self.callbacks.tally.dropped += webhooks,
            WebhookKind::WebhookEvent => self.webhooks.tally.dropped += webhooks,
        }
    }

    /// The next request to send, if it is time for one.
    pub fn next_errand(&mut self, now: Now) -> Option<(Errand, Request<String>)> {
        if let Some((call, timeout_s, request)) = self.callbacks.next(now) {
            return Some((Errand { call: Call::Callback(call), timeout_s }, request));
        }
        let (call, timeout_s, request) = self.webhooks.next(now)?;
        Some((Errand { call: Call::WebhookEvent(call), timeout_s }, request))
    }

    /// What became of a request.
    pub fn replied(&mut self, errand: Errand, reply: Reply, now: Now) {
        self.news.extend(match errand.call {
            Call::Callback(call) => self.callbacks.replied(call, reply, now),
            Call::WebhookEvent(call) => self.webhooks.replied(call, reply, now),
        });
    }

    /// There will soon be no webhook: whoever has left does not come back, and nothing is gathered any longer.
    pub fn hurry(&mut self, now: Now) {
        self.webhooks.hurry(now);
    }

    /// The moment of the monotonic clock at which to look for errands again, if nothing else happens before.
    #[must_use]
    pub fn wakes_at_ns(&self) -> Option<u64> {
        self.callbacks.wakes_at_ns().into_iter().chain(self.webhooks.wakes_at_ns()).min()
    }

    /// WaitingWebhooks that are queued, held back or under way.
    #[must_use]
    pub fn waiting(&self, kind: WebhookKind) -> usize {
        match kind {
            WebhookKind::Callback => self.callbacks.waiting(),
            WebhookKind::WebhookEvent => self.webhooks.waiting(),
        }
    }

    /// What has become of the others.
    #[must_use]
    pub fn tally(&self, kind: WebhookKind) -> Tally {
        match kind {
            WebhookKind::Callback => self.callbacks.tally,
            WebhookKind::WebhookEvent => self.webhooks.tally,
        }
    }

    /// What is to be logged, since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}
