//! The records of a state.

use crate::dialect::Kind;
use crate::feed::FrozenPublisher;
use crate::frame::Publication;
use crate::json::RawValue;
use crate::message::FrozenInbox;
use crate::outbox::FrozenOutbox;
use crate::proxy::Remote;
use crate::service::ConnectionRef;
use crate::service::presence::FrozenPresence;
use crate::service::topic::FrozenTopics;
use crate::service::verification::FrozenToken;
use crate::service::webhook::FrozenWebhook;
use crate::wheel::{NEVER, Tick};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first record: who has written the state, and what is to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverHeader {
    /// The release that has written it, for the log.
    #[serde(default)]
    pub release: String,
    /// The boot of the machine whose monotonic clock all moments are of: in another boot the state
    /// means nothing.
    pub boot_id: String,
    /// The number of shards that the connections were on.
    #[serde(default)]
    pub shards: u16,
}

/// A record of a state.
#[derive(Debug)]
pub enum HandoverRecord {
    /// What the sessions of a dialect share on the shard with this number, before them.
    Shared(u16, Kind, Box<RawValue>),
    /// A connection.
    Connection(Box<FrozenConnection>),
    /// A channel with those who are in it.
    Presence(Kind, FrozenPresence),
    /// The last publication of a topic.
    Retained(Arc<Publication>),
    /// A token at the remote verifier of a dialect.
    Token(Kind, Box<FrozenToken>),
    /// A webhook that waits for its recipient.
    Webhook(Box<FrozenWebhook>),
    /// What an owner of topics knows of connections; one for each, in their order.
    Topics(Box<FrozenTopics>),
    /// A publisher of the unix feed.
    Publisher(Box<FrozenPublisher>),
    /// A record of a kind that a later release has added, which is of no use here.
    Unknown(u8),
    /// The last record.
    End,
}

/// Who takes a record over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPlace {
    /// One shard.
    Shard(usize),
    /// Each shard.
    EveryShard,
    /// The bridge.
    Bridge,
    /// The owners of topics.
    Store,
    /// No one.
    Nowhere,
}

impl HandoverRecord {
    /// Who takes it over, in a process with so many shards.
    #[must_use]
    pub fn place(&self, shards: usize) -> RecordPlace {
        let numbered = |shard: u16| RecordPlace::Shard(usize::from(shard) % shards.max(1));
        match self {
            Self::Shared(shard, ..) => numbered(*shard),
            Self::Connection(connection) => numbered(connection.session.old.shard),
            Self::Presence(_, channel) => RecordPlace::Shard(channel.owner(shards)),
            Self::Publisher(publisher) => numbered(publisher.shard),
            Self::Retained(_) => RecordPlace::EveryShard,
            Self::Token(..) | Self::Webhook(_) => RecordPlace::Bridge,
            Self::Topics(..) => RecordPlace::Store,
            Self::Unknown(_) | Self::End => RecordPlace::Nowhere,
        }
    }
}

/// A connection without its descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenConnection {
    /// The number of its descriptor, among those that are passed with the state.
    pub fd: u32,
    /// The address of the listener that it came to.
    pub listener: SocketAddr,
    /// Its client, if a proxy has named it; otherwise the socket knows the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
    /// Whether the headers of a request have named its client, and not a preamble.
    #[serde(default)]
    pub is_told: bool,
    /// An incomplete message of its client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<FrozenInbox>,
    /// What it means.
    pub session: FrozenSession,
    /// Bytes that the client has sent and that no one has looked at.
    #[serde(skip)]
    pub unread: Vec<u8>,
}

impl FrozenConnection {
    /// A connection with this session, whose client has sent nothing that waits, and whose address
    /// the socket knows.
    #[must_use]
    pub fn new(fd: u32, listener: SocketAddr, session: FrozenSession) -> Self {
        let (remote, inbox, unread) = (None, None, Vec::new());
        Self { fd, listener, remote, is_told: false, inbox, session, unread }
    }
}

/// What a shard knows of a connection. Moments are of the monotonic clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenSession {
    /// The connection, as the services know it that have been frozen with it.
    pub old: ConnectionRef,
    /// What it awaits.
    pub phase: FrozenPhase,
    /// Its dialect; `None` between two requests of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<FrozenDialect>,
    /// When it came.
    #[serde(default)]
    pub since: Tick,
    /// When its deadline passes.
    #[serde(default = "never")]
    pub deadline: Tick,
    /// When the next ping is due.
    #[serde(default = "never")]
    pub ping_at: Tick,
    /// The time between pings.
    #[serde(default)]
    pub ping_interval: Tick,
    /// Pings without an answer so far.
    #[serde(default)]
    pub misses: u8,
    /// Pings without an answer that end the session.
    #[serde(default)]
    pub misses_max: u8,
    /// Bytes that its socket has taken.
    #[serde(default)]
    pub bytes_out: u32,
    /// The number of its question about a token, if that can still be revoked; 0: none.
    #[serde(default)]
    pub attempt: u32,
    /// The owner of topics that knows it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics_owner: Option<u8>,
    /// What is still to be sent to its client.
    #[serde(default, skip_serializing_if = "FrozenOutbox::is_empty")]
    pub unsent: FrozenOutbox,
}

/// What a connection awaits that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrozenPhase {
    /// A session of WebSocket is open.
    Open,
    /// The first request, of which nothing has come.
    New,
    /// The next request, of which nothing has come.
    Idle,
}

/// The state of a dialect's session, which only the dialect understands.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenDialect {
    /// The dialect's name.
    pub name: String,
    /// What it has frozen.
    pub state: Box<RawValue>,
}

/// Why a connection cannot go on in this process: it is told to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdopted {
    /// This release or its configuration has no such dialect.
    #[error("no such dialect")]
    UnknownDialect,
    /// The dialect cannot go on from this state, or not with these settings.
    #[error("its session cannot go on")]
    Unusable,
    /// There is no room for its subscriptions.
    #[error("no room for its subscriptions")]
    Full,
}

fn never() -> Tick {
    NEVER
}
