//! The counters of the daemon: one set per thread, written by that thread alone.
//!
//! Readers add the sets up. [`http`](mod@crate::http) turns the sums into text.

mod cluster;

pub use self::cluster::{ClusterMetrics, LossReason};

use crate::counter::Counter;
use crate::dialect::{DialectTally, Kind};
use crate::reason::{Handshake, Reason};
use crate::service::topic::TopicCensus;
use crate::service::verification::VerificationCounters;
use crate::service::webhook::WebhookCounters;
use std::ops::Deref;
use std::sync::Arc;

/// A counter for each reason.
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

/// The value in microseconds that a part `share` of all latencies does not exceed, by their classes:
/// within one of them all values are taken to be equally frequent. `None` without any latency; the
/// last bound for those beyond it.
///
/// ```
/// # use fanfare::metrics::{LATENCY_BOUNDS_US, quantile};
/// let mut counts = [0; LATENCY_BOUNDS_US.len() + 1];
/// assert_eq!(quantile(&counts, 0.5), None);
/// counts[1] = 100;
/// assert_eq!(quantile(&counts, 0.5), Some(37.5));
/// counts[16] = 10;
/// assert_eq!(quantile(&counts, 0.99), Some(5_000_000.0));
/// ```
#[must_use]
pub fn quantile(counts: &[u64], share: f64) -> Option<f64> {
    let wanted = counts.iter().sum::<u64>() as f64 * share;
    let (mut below, mut start_us) = (0.0, 0.0);
    for (count, end_us) in counts.iter().zip(LATENCY_BOUNDS_US) {
        let (count, end_us) = (*count as f64, end_us as f64);
        if count > 0.0 && below + count >= wanted {
            return Some(start_us + (end_us - start_us) * (wanted - below) / count);
        }
        (below, start_us) = (below + count, end_us);
    }
    (wanted > 0.0).then_some(start_us)
}

/// The outcome of a fed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Handed to every shard.
    Accepted,
    /// Accepted, but for a dialect that no listener speaks.
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

/// The source of an event.
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

/// The class of a response's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    /// The request was served.
    Done,
    /// The request was wrong.
    Refused,
    /// The request could not be served.
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

/// The connection to a broker that events come from.
#[derive(Debug, Default)]
pub struct Broker {
    /// 1 when one is configured.
    pub configured: Counter,
    /// 1 while connected and subscribed.
    pub connected: Counter,
    /// Connections lost.
    pub losses: Counter,
    /// Attempts to connect again.
    pub reconnects: Counter,
}

/// The store of the durable topics.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// 1 when one is configured.
    pub configured: Counter,
    /// 1 while writing to it fails.
    pub failing: Counter,
    /// Commits by duration, in the buckets of [`LATENCY_BOUNDS_US`]; the last one is for the rest.
    pub commits: [Counter; LATENCY_BOUNDS_US.len() + 1],
    /// The sum of their durations in nanoseconds.
    pub commits_sum_ns: Counter,
    /// Messages appended.
    pub messages: Counter,
    /// Bytes of messages appended.
    pub bytes: Counter,
    /// Bytes written for any purpose.
    pub written: Counter,
    /// Bytes of messages copied to free old segments.
    pub compacted: Counter,
    /// Damaged places found.
    pub damaged: Counter,
    /// Topics stored.
    pub topics: Counter,
    /// Topics in memory.
    pub topics_loaded: Counter,
    /// Connected producers.
    pub producers: Counter,
    /// Connected consumers and readers.
    pub consumers: Counter,
    /// Messages acknowledged, once for each subscription.
    pub acknowledged: Counter,
    /// Messages redelivered.
    pub redelivered: Counter,
    /// Messages moved to dead-letter topics.
    pub dead: Counter,
    /// Messages refused.
    pub refused: Counter,
    /// Topics deleted for being unused.
    pub idle: Counter,
    /// Subscriptions deleted for being unused.
    pub expired: Counter,
}

impl StoreMetrics {
    /// Copies the counts of the owner of the topics.
    pub fn census(&self, census: &TopicCensus) {
        // The owner is a value without shared counters, and counts from the start of the process.
        for (counter, value) in [
            (&self.topics, census.topics),
            (&self.topics_loaded, census.loaded),
            (&self.producers, census.producers),
            (&self.consumers, census.consumers),
            (&self.acknowledged, census.acknowledged),
            (&self.redelivered, census.redelivered),
            (&self.dead, census.dead),
            (&self.refused, census.refused),
            (&self.idle, census.idle),
            (&self.expired, census.expired),
        ] {
            counter.set(value);
        }
    }

    /// Counts one commit by its duration.
    pub fn commit(&self, nanoseconds: u64) {
        self.commits[bucket(nanoseconds)].add(1);
        self.commits_sum_ns.add(nanoseconds);
    }
}

/// The index of a duration's bucket.
fn bucket(nanoseconds: u64) -> usize {
    // Bounds are inclusive, as Prometheus's `le` has it.
    let microseconds = nanoseconds / 1000;
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < microseconds)
}

/// The outcome of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HandoverOutcome {
    /// This process has taken over from another.
    Taken,
    /// This process would have handed over, and has gone on.
    GivenBack,
}

/// The counters of one shard, of the bridge, or of the store.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open sockets in any state.
    pub connections: Counter,
    /// Sessions by dialect.
    pub sessions: [Counter; Kind::ALL.len()],
    /// Entries of the trie.
    pub subscriptions: Counter,
    /// Bytes of the trie.
    pub subscription_bytes: Counter,
    /// Encounters of an event with a subscription whose session has gone.
    pub orphaned_subscriptions: Counter,
    /// Handshakes by outcome.
    pub handshakes: [Counter; Handshake::ALL.len()],
    /// HTTP requests to dialects, by dialect and class of status.
    pub requests: [[Counter; StatusClass::ALL.len()]; Kind::ALL.len()],
    /// Events by origin and outcome.
    pub events: [[Counter; Outcome::ALL.len()]; Origin::ALL.len()],
    /// Frames of events handed to sessions, by dialect.
    pub deliveries: [Counter; Kind::ALL.len()],
    /// Events withheld from subscribed sessions by their tokens, by dialect.
    pub acl_denied: [Counter; Kind::ALL.len()],
    /// Messages received, by dialect.
    pub messages: [Counter; Kind::ALL.len()],
    /// Counts of single dialects, by dialect.
    pub tallies: [[Counter; DialectTally::COUNT]; Kind::ALL.len()],
    /// Bytes written to sockets, before TLS.
    pub bytes_out: Counter,
    /// Bytes read from sockets, after TLS.
    pub bytes_in: Counter,
    /// Hand-overs by outcome.
    pub handovers: [Counter; 2],
    /// Connections that were taken over from another process.
    pub handover_passed: Counter,
    /// Connections that the other process has told to come back instead.
    pub handover_told: Counter,
    /// How long no client was served then, in microseconds.
    pub handover_pause_us: Counter,
    /// Bytes of memory held for incomplete messages and requests.
    pub partial_bytes: Counter,
    /// Connections ended because incomplete messages and requests took too much memory.
    pub partial_evictions: Counter,
    /// Bytes waiting for sockets that refused them.
    pub outbox_bytes: Counter,
    /// Sessions ended, by reason.
    pub ends: ByReason,
    /// Connections and requests refused, by reason.
    pub refusals: ByReason,
    /// Accepts that failed for lack of descriptors or memory.
    pub accept_errors: Counter,
    /// Unfinished requests to the admin listener that were displaced by new connections.
    pub admin_displaced: Counter,
    /// Replies to feed lines that were dropped because their publisher does not read.
    pub replies_dropped: Counter,
    /// Open connections of publishers.
    pub publishers: Counter,
    /// The connection to RabbitMQ.
    pub amqp: Broker,
    /// The connection to Redis.
    pub redis: Broker,
    /// Messages from Redis that belong to no dialect.
    pub messages_ignored: Counter,
    /// Messages from Redis that found no room.
    pub messages_dropped: Counter,
    /// Clients' messages relayed to other daemons.
    pub relays_sent: Counter,
    /// Clients' messages that could not be relayed.
    pub relays_lost: Counter,
    /// Publish-to-write latency, in the buckets of [`LATENCY_BOUNDS_US`]; the last one is for the
    /// rest.
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
    /// Counts the time of one event from its acceptance to the end of its last write on this shard.
    pub fn latency(&self, nanoseconds: u64) {
        self.latency[bucket(nanoseconds)].add(1);
        self.latency_sum_ns.add(nanoseconds);
    }
}
