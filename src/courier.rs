//! What other services are told over HTTP: the callbacks of `channel`, the webhooks of `echo`.
//!
//! Nobody waits for what becomes of it. A session names what is to be told as a [`Notice`]; `io` carries it.

/// Something that is to be told to another service.
#[derive(Debug)]
pub enum Notice {
    /// To the callback of `channel`.
    Callback(Callback),
    /// To the webhooks of an app of `echo`.
    Webhook(Webhook),
}

/// A client's message, for the callback of `channel`.
pub struct Callback {
    /// The channel, whose calls go one after another.
    pub channel: Box<str>,
    /// The token of the client as it was received; never shown.
    pub token: Box<str>,
    /// The whole body, JSON.
    pub body: Box<str>,
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// An event of an app of `echo`, for those of its webhooks that want it.
#[derive(Debug)]
pub struct Webhook {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
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
    /// A cache channel was subscribed to and had nothing.
    CacheMiss,
    /// The number of a channel's subscriptions has changed.
    SubscriptionCount,
}
