//! What a model of the promises knows of messages, subscriptions and consumers.

use crate::service::topic::{MessageId, Position, SubscriptionType};
use std::collections::{BTreeMap, BTreeSet};

/// A message, as its sender knows it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) topic: usize,
    pub(super) key: u8,
    pub(super) deliver_ms: u64,
    pub(super) is_delayed: bool,
}

/// A subscription of a topic.
#[derive(Debug, Default)]
pub(super) struct Sub {
    /// Messages that it must get.
    pub(super) owed: BTreeSet<String>,
    /// Messages that it must not get again, with the time of the acknowledgement.
    pub(super) acked: BTreeMap<String, u64>,
    /// Messages that may or may not come: acknowledged shortly before a crash.
    pub(super) limbo: BTreeSet<String>,
    /// Messages that went to the dead letters.
    pub(super) dead: BTreeSet<String>,
    /// First deliveries since the start: the last position of each key, and of all.
    pub(super) last: BTreeMap<Option<u8>, Position>,
    pub(super) seen: BTreeSet<String>,
    pub(super) counts: BTreeMap<String, u32>,
    /// Who has got messages of a key since its consumers changed last, where keys choose.
    pub(super) homes: BTreeMap<u8, u32>,
    /// Since when it has had no consumer (monotonic, ns).
    pub(super) unused_ns: Option<u64>,
}

/// A consumer.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) kind: SubscriptionType,
    pub(super) topics: Vec<usize>,
    pub(super) window: u32,
    pub(super) pulls: bool,
    pub(super) timeout_ns: u64,
    pub(super) is_open: bool,
    pub(super) outstanding: u32,
    pub(super) permits: u32,
    /// What it has: text, topic, id, and when it came.
    pub(super) held: Vec<(String, usize, MessageId, u64)>,
    pub(super) awaits: bool,
    pub(super) unsubscribed: bool,
    pub(super) is_pattern: bool,
}
