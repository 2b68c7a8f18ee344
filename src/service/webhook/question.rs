//! What other services can be told.

use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Bytes that may wait for one recipient. A queue of ten thousand webhooks of a KiB has 10 MiB; the longest messages
/// that clients may send would make it a GiB.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a webhook takes beside its texts, about.
const WEBHOOK_BYTES: usize = 100;

/// Something that is to be told to another service.
#[derive(Debug, Serialize, Deserialize)]
pub enum Webhook {
    /// To the callback of `channel`.
    Callback(Callback),
    /// To the webhooks of an app of `echo`.
    Event(WebhookEvent),
}

impl Webhook {
    /// How it is told.
    #[must_use]
    pub fn kind(&self) -> WebhookKind {
        match self {
            Self::Callback(_) => WebhookKind::Callback,
            Self::Event(_) => WebhookKind::Event,
        }
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match self {
            Self::Callback(callback) => callback.bytes(),
            Self::Event(webhook) => webhook.subject.len() + webhook.json.len(),
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
    Event,
}

impl WebhookKind {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Callback, "callback"), (Self::Event, "webhook")];
}

/// A client's message, for the callback of `channel`.
#[derive(Serialize, Deserialize)]
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
    pub(super) fn bytes(&self) -> usize {
        self.channel.len() + self.token.len() + self.body.len()
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// An event of an app of `echo`, for those of its webhooks that want it.
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
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

/// The status of an answer, or why there is none.
pub(super) type StatusReply = Result<u16, String>;
