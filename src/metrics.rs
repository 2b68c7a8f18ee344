//! What is counted, and how: one set of counters per shard, written by that shard alone.
//!
//! A single writer needs no locked instruction: a counter is loaded and stored relaxed, which costs what an
//! ordinary addition costs, and whoever reads the metrics adds the shards up. Turning them into text is
//! [`api`](crate::api)'s business.

use crate::courier::NoticeKind;
use crate::dialect::{Kind, Tally};
use crate::reason::{Handshake, Reason};
use crate::topic::Census;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that its one writer raises, lowers or sets.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds; the caller is the only writer.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Subtracts; the caller is the only writer.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// Sets; the caller is the only writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Reads, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number for each reason.
#[derive(Debug)]
pub struct ByReason([Number; Reason::COUNT]);

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Number::default()))
    }
}

impl Deref for ByReason {
    type Target = [Number];

    fn deref(&self) -> &[Number] {
        &self.0
    }
}

/// Upper bounds of the latency buckets, in microseconds: from one loopback send to a stuck shard.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// What became of a fed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Handed to every shard.
    Accepted,
    /// Good, but for a dialect that no listener speaks.
    Unspoken,
    /// Answered with an error.
    Rejected,
}

impl Outcome {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Accepted, "accepted"), (Self::Unspoken, "unspoken"), (Self::Rejected, "rejected")];
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

/// How a question about a token, for a remote judge, was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ruling {
    /// The judge granted it.
    Granted,
    /// The judge refused it.
    Refused,
    /// The judge could not be asked, or not be understood.
    Unavailable,
    /// By what the judge had said a moment before.
    Cached,
    /// Not at all: the client had gone, or had sent another token.
    Forgotten,
}

impl Ruling {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Granted, "granted"),
        (Self::Refused, "refused"),
        (Self::Unavailable, "unavailable"),
        (Self::Cached, "cached"),
        (Self::Forgotten, "forgotten"),
    ];
}

/// What became of a notice to another service; one for two webhooks counts twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Delivery {
    /// Answered with 2xx.
    Delivered,
    /// Given up after it was told in vain.
    Failed,
    /// Not told for want of room, or of the recipient.
    Dropped,
}

impl Delivery {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Delivered, "delivered"), (Self::Failed, "failed"), (Self::Dropped, "dropped")];
}

/// A server that events come from.
#[derive(Debug, Default)]
pub struct Broker {
    /// 1 when there is to be one.
    pub configured: Number,
    /// 1 while events do come from it.
    pub connected: Number,
    /// Connections that were lost.
    pub losses: Number,
    /// Attempts to connect again.
    pub reconnects: Number,
}

/// The store of the durable topics.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// 1 when there is one.
    pub configured: Number,
    /// 1 while it cannot be written.
    pub failing: Number,
    /// Commits by how long they took, the last bucket for the rest.
    pub commits: [Number; LATENCY_BOUNDS_US.len() + 1],
    /// The sum of that in nanoseconds.
    pub commits_sum_ns: Number,
    /// Messages that were appended.
    pub messages: Number,
    /// Bytes of them.
    pub bytes: Number,
    /// Bytes that were written, whatever for.
    pub written: Number,
    /// Bytes of messages that were copied so that old segments could go.
    pub compacted: Number,
    /// Places that were damaged.
    pub damaged: Number,
    /// Topics that are stored.
    pub topics: Number,
    /// Those of them that are in memory.
    pub topics_loaded: Number,
    /// Producers of them.
    pub producers: Number,
    /// Consumers and readers of them.
    pub consumers: Number,
    /// Messages that were acknowledged, once for each subscription.
    pub acknowledged: Number,
    /// Messages that were delivered again.
    pub redelivered: Number,
    /// Messages that have gone to the dead letters.
    pub dead: Number,
    /// Messages that were refused.
    pub refused: Number,
    /// Topics that were deleted because nobody had any use for them.
    pub idle: Number,
    /// Subscriptions that were deleted because nobody had come for them.
    pub expired: Number,
}

impl StoreMetrics {
    /// Takes over what the owner of the topics has counted.
    pub fn census(&self, census: &Census) {
        let Census { topics, loaded, producers, consumers, acknowledged, redelivered, dead, refused, .. } =
            *census;
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
    pub connections: Number,
    /// Sessions by dialect.
    pub sessions: [Number; Kind::ALL.len()],
    /// Entries of the trie.
    pub subscriptions: Number,
    /// Bytes of the trie.
    pub subscription_bytes: Number,
    /// Times that an event met a subscription whose session has gone.
    pub orphaned_subscriptions: Number,
    /// Handshakes by end.
    pub handshakes: [Number; Handshake::ALL.len()],
    /// Requests that dialects have answered, by dialect and status.
    pub requests: [[Number; StatusClass::ALL.len()]; Kind::ALL.len()],
    /// Events by origin and outcome.
    pub events: [[Number; Outcome::ALL.len()]; Origin::ALL.len()],
    /// Frames of events handed to sessions, by dialect.
    pub deliveries: [Number; Kind::ALL.len()],
    /// Events that sessions subscribe to and their tokens do not let them have, by dialect.
    pub denials: [Number; Kind::ALL.len()],
    /// Messages received, by dialect.
    pub messages: [Number; Kind::ALL.len()],
    /// What dialects count of their own.
    pub tallies: [Number; Tally::COUNT],
    /// Bytes given to sockets, before TLS.
    pub bytes_out: Number,
    /// Bytes taken from sockets, after TLS.
    pub bytes_in: Number,
    /// Bytes of memory for what clients have sent in part.
    pub partial_bytes: Number,
    /// Connections that were ended because all together had sent too much in part.
    pub partial_evictions: Number,
    /// Bytes waiting for sockets that refused them.
    pub outbox_bytes: Number,
    /// Sessions that have ended, by reason.
    pub ends: ByReason,
    /// Connections and requests that were refused, by reason.
    pub refusals: ByReason,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Number,
    /// Unfinished requests to the admin listener that were ended for newcomers.
    pub admin_displaced: Number,
    /// Feed lines' replies that were dropped because their publisher does not read.
    pub replies_dropped: Number,
    /// Open connections of publishers.
    pub publishers: Number,
    /// The RabbitMQ that events come from.
    pub amqp: Broker,
    /// The Redis that events come from.
    pub redis: Broker,
    /// Messages from Redis that were not meant for any dialect.
    pub messages_ignored: Number,
    /// Messages from Redis that came while there was no room for them.
    pub messages_dropped: Number,
    /// Clients' messages that other daemons were told of.
    pub relays_sent: Number,
    /// Those that they could not be told of.
    pub relays_lost: Number,
    /// Publish-to-write latency: counts per bucket, the last one for the rest.
    pub latency: [Number; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of the latencies in nanoseconds.
    pub latency_sum_ns: Number,
    /// Questions about tokens, by how they were answered.
    pub judge_rulings: [Number; Ruling::ALL.len()],
    /// Requests to remote judges.
    pub judge_requests: Number,
    /// Those of them that were not answered, or not in a way that can be understood.
    pub judge_failures: Number,
    /// Requests under way.
    pub judge_requests_in_flight: Number,
    /// Sessions that wait for an answer or live on a grant.
    pub judge_askers: Number,
    /// Tokens that are asked about from time to time.
    pub judge_tokens_watched: Number,
    /// Sessions whose grant was taken back.
    pub judge_revocations: Number,
    /// Notices to other services, by kind and by what became of them.
    pub notices: [[Number; Delivery::ALL.len()]; NoticeKind::ALL.len()],
    /// Notices that wait or are under way, by kind.
    pub notices_waiting: [Number; NoticeKind::ALL.len()],
    /// Requests with notices that were made again, by kind.
    pub notice_retries: [Number; NoticeKind::ALL.len()],
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
