//! The webhooks that sessions hand over.

use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Limit on the bytes queued for one recipient. A queue of ten thousand webhooks of a KiB takes 10
/// MiB; at the largest messages clients may send it would take a GiB.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Estimated bytes of a webhook apart from its texts.
const WEBHOOK_BYTES: usize = 100;

/// A notification for another service.
#[derive(Debug, Serialize, Deserialize)]
pub enum Webhook {
    /// To the callback of `channel`.
    Callback(Callback),
    /// To the webhooks of an app of `echo`.
    Event(WebhookEvent),
}

impl Webhook {
    /// The kind of recipient.
    #[must_use]
    pub fn kind(&self) -> WebhookKind {
        match self {
            Self::Callback(_) => WebhookKind::Callback,
            Self::Event(_) => WebhookKind::Event,
        }
    }

    /// Its identity, if a journal knows it.
    #[must_use]
    pub fn receipt(&self) -> Option<WebhookReceipt> {
        match self {
            Self::Callback(_) => None,
            Self::Event(event) => event.receipt,
        }
    }

    /// Estimated bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match self {
            Self::Callback(callback) => callback.bytes(),
            Self::Event(webhook) => webhook.subject.len() + webhook.json.len(),
        };
        WEBHOOK_BYTES + texts
    }
}

/// The kinds of recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WebhookKind {
    /// To the callback of `channel`.
    Callback,
    /// To the webhooks of `echo`.
    Event,
}

impl WebhookKind {
    /// All kinds, with their names in metrics.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Callback, "callback"), (Self::Event, "webhook")];
}

/// A client's message, for the callback of `channel`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Callback {
    /// The channel; its calls are made one at a time.
    pub channel: Box<str>,
    /// The client's token as received; never logged.
    pub token: Box<str>,
    /// The whole request body, JSON.
    pub body: Box<str>,
    /// The client's address; the shard that holds the socket fills it in.
    pub client: Option<IpAddr>,
}

impl Callback {
    pub(super) fn bytes(&self) -> usize {
        self.channel.len() + self.token.len() + self.body.len()
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// An event of an `echo` app, for the webhooks that subscribe to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookEvent {
    /// The app's id.
    pub app: Box<str>,
    /// What has happened.
    pub name: WebhookName,
    /// The subject, by which a return cancels a departure: the channel, or channel, NUL and user.
    pub subject: Box<str>,
    /// The event as it appears in the request's list of events, JSON.
    pub json: Box<str>,
    /// Its identity, if the journal of a cluster knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<WebhookReceipt>,
}

/// The identity of a webhook that a journal knows: the recipient sees it, and the owner is told
/// with it what became of the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WebhookReceipt {
    /// The partition.
    pub partition: u8,
    /// Its number in the partition.
    pub number: u64,
}

impl std::fmt::Display for WebhookReceipt {
    /// As recipients see it: `pp-N`, the partition with two digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}-{}", self.partition, self.number)
    }
}

/// The events that webhooks can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookName {
    /// A channel got its first subscription.
    ChannelOccupied,
    /// A channel lost its last subscription.
    ChannelVacated,
    /// A user joined a presence channel.
    MemberAdded,
    /// A user left a presence channel.
    MemberRemoved,
    /// A client sent an event to the other members of its channel.
    ClientEvent,
    /// A subscriber found nothing retained in a cache channel, for the first time since something
    /// was.
    CacheMiss,
    /// The number of a channel's subscriptions changed.
    SubscriptionCount,
}

/// The status of a response, or the reason there is none.
pub(super) type StatusReply = Result<u16, String>;
