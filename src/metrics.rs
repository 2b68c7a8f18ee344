//! What is counted, and how: one set of counters per shard, written by that shard alone.
//!
//! Reading adds the shards up. Turning the counters into text is [`http`](mod@crate::http)'s business.

use crate::counter::Counter;
use crate::dialect::{DialectTally, Kind};
use crate::reason::{Handshake, Reason};
use crate::service::topic::TopicCensus;
use crate::service::verification::VerificationCounters;
use crate::service::webhook::WebhookCounters;
use std::ops::Deref;
use std::sync::Arc;

/// A number for each reason.
#[derive(Debug)]
pub struct ByReason([Counter; Reason::COUNT]);

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Deref for ByReason {
    type Target = [Counter];

    fn deref(&self) -> &[Counter] {
        &self.0
    }
}

/// Upper bounds of the latency buckets, in microseconds: from one loopback send to a stuck shard.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// What became of a fed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Handed to every shard.
    Accepted,
    /// Good, but for a dialect that no listener speaks.
    NoListener,
    /// Answered with an error.
    Rejected,
}

impl Outcome {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Accepted, "accepted"),
        (Self::NoListener, "no_listener"),
        (Self::Rejected, "rejected"),
    ];
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// The unix feed.
    Unix,
    /// The RabbitMQ feed.
    Amqp,
    /// The Redis feed.
    Redis,
    /// WebSocket clients.
    Client,
    /// Requests to dialects.
    Http,
}

impl Origin {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Unix, "unix"),
        (Self::Amqp, "amqp"),
        (Self::Redis, "redis"),
        (Self::Client, "client"),
        (Self::Http, "http"),
    ];

    /// The name that metrics use.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What kind of answer a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    /// It was done.
    Done,
    /// It was not right.
    Refused,
    /// It could not be done.
    Failed,
}

impl StatusClass {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Done, "2xx"), (Self::Refused, "4xx"), (Self::Failed, "5xx")];

    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            ..400 => Self::Done,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// A server that events come from.
#[derive(Debug, Default)]
pub struct Broker {
    /// 1 when there is to be one.
    pub configured: Counter,
    /// 1 while events do come from it.
    pub connected: Counter,
    /// Connections that were lost.
    pub losses: Counter,
    /// Attempts to connect again.
    pub reconnects: Counter,
}

/// The store of the durable topics.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// 1 when there is one.
    pub configured: Counter,
    /// 1 while it cannot be written.
    pub failing: Counter,
    /// Commits by how long they took, the last bucket for the rest.
    pub commits: [Counter; LATENCY_BOUNDS_US.len() + 1],
    /// The sum of that in nanoseconds.
    pub commits_sum_ns: Counter,
    /// Messages that were appended.
    pub messages: Counter,
    /// Bytes of them.
    pub bytes: Counter,
    /// Bytes that were written, whatever for.
    pub written: Counter,
    /// Bytes of messages that were copied so that old segments could go.
    pub compacted: Counter,
    /// Places that were damaged.
    pub damaged: Counter,
    /// Topics that are stored.
    pub topics: Counter,
    /// Those of them that are in memory.
    pub topics_loaded: Counter,
    /// Producers of them.
    pub producers: Counter,
    /// Consumers and readers of them.
    pub consumers: Counter,
    /// Messages that were acknowledged, once for each subscription.
    pub acknowledged: Counter,
    /// Messages that were delivered again.
    pub redelivered: Counter,
    /// Messages that have gone to the dead letters.
    pub dead: Counter,
    /// Messages that were refused.
    pub refused: Counter,
    /// Topics that were deleted because nobody had any use for them.
    pub idle: Counter,
    /// Subscriptions that were deleted because nobody had come for them.
    pub expired: Counter,
}

impl StoreMetrics {
    /// Takes over what the owner of the topics has counted.
    pub fn census(&self, census: &TopicCensus) {
        let TopicCensus {
            topics,
            loaded,
            producers,
            consumers,
            acknowledged,
            redelivered,
            dead,
            refused,
            ..
        } = *census;
        for (number, value) in [
            (&self.topics, topics),
            (&self.topics_loaded, loaded),
            (&self.producers, producers),
            (&self.consumers, consumers),
            (&self.acknowledged, acknowledged),
            (&self.redelivered, redelivered),
            (&self.dead, dead),
            (&self.refused, refused),
            (&self.idle, census.idle),
            (&self.expired, census.expired),
        ] {
            number.set(value);
        }
    }

    /// Counts one commit.
    pub fn commit(&self, nanoseconds: u64) {
        self.commits[bucket(nanoseconds)].add(1);
        self.commits_sum_ns.add(nanoseconds);
    }
}

/// The bucket that a time belongs to.
fn bucket(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds / 1000;
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < microseconds)
}

/// The counters of one shard, of the bridge, or of the store.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open sockets, whatever their state.
    pub connections: Counter,
    /// Sessions by dialect.
    pub sessions: [Counter; Kind::ALL.len()],
    /// Entries of the trie.
    pub subscriptions: Counter,
    /// Bytes of the trie.
    pub subscription_bytes: Counter,
    /// Times that an event met a subscription whose session has gone.
    pub orphaned_subscriptions: Counter,
    /// Handshakes by end.
    pub handshakes: [Counter; Handshake::ALL.len()],
    /// Requests that dialects have answered, by dialect and status.
    pub requests: [[Counter; StatusClass::ALL.len()]; Kind::ALL.len()],
    /// Events by origin and outcome.
    pub events: [[Counter; Outcome::ALL.len()]; Origin::ALL.len()],
    /// Frames of events handed to sessions, by dialect.
    pub deliveries: [Counter; Kind::ALL.len()],
    /// Events that sessions subscribe to and their tokens do not let them have, by dialect.
    pub acl_denied: [Counter; Kind::ALL.len()],
    /// Messages received, by dialect.
    pub messages: [Counter; Kind::ALL.len()],
    /// What dialects count of their own.
    pub tallies: [[Counter; DialectTally::COUNT]; Kind::ALL.len()],
    /// Bytes given to sockets, before TLS.
    pub bytes_out: Counter,
    /// Bytes taken from sockets, after TLS.
    pub bytes_in: Counter,
    /// Bytes of memory for what clients have sent in part.
    pub partial_bytes: Counter,
    /// Connections that were ended because all together had sent too much in part.
    pub partial_evictions: Counter,
    /// Bytes waiting for sockets that refused them.
    pub outbox_bytes: Counter,
    /// Sessions that have ended, by reason.
    pub ends: ByReason,
    /// Connections and requests that were refused, by reason.
    pub refusals: ByReason,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Counter,
    /// Unfinished requests to the admin listener that were ended for newcomers.
    pub admin_displaced: Counter,
    /// Feed lines' replies that were dropped because their publisher does not read.
    pub replies_dropped: Counter,
    /// Open connections of publishers.
    pub publishers: Counter,
    /// The RabbitMQ that events come from.
    pub amqp: Broker,
    /// The Redis that events come from.
    pub redis: Broker,
    /// Messages from Redis that were not meant for any dialect.
    pub messages_ignored: Counter,
    /// Messages from Redis that came while there was no room for them.
    pub messages_dropped: Counter,
    /// Clients' messages that other daemons were told of.
    pub relays_sent: Counter,
    /// Those that they could not be told of.
    pub relays_lost: Counter,
    /// Publish-to-write latency: counts per bucket, the last one for the rest.
    pub latency: [Counter; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of the latencies in nanoseconds.
    pub latency_sum_ns: Counter,
    /// The verification of tokens by remote verifiers.
    pub verification: Arc<VerificationCounters>,
    /// Webhooks to other services.
    pub webhooks: Arc<WebhookCounters>,
    /// The store of the durable topics.
    pub store: StoreMetrics,
}

impl Metrics {
    /// Counts one event's time from its acceptance to the end of its last write on this shard.
    pub fn latency(&self, nanoseconds: u64) {
        self.latency[bucket(nanoseconds)].add(1);
        self.latency_sum_ns.add(nanoseconds);
    }
}
