//! The options with which connections become producers, consumers and readers.

use super::{ConsumerWindow, Flow, MessageId, Right, Rights, TopicName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Options of a producer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProducerOptions {
    /// The destination: a topic, a partitioned topic or one partition.
    pub topic: TopicName,
    /// Its name, unique among the topic's producers; `None` to generate one.
    pub name: Option<Box<str>>,
    /// The sequence number before its first, for a producer unknown to the topic.
    pub initial_sequence: Option<i64>,
    /// Whether messages without a key go to the partitions in turn; otherwise all go to one.
    pub round_robin: bool,
    /// How keys select partitions.
    pub hashing: Hashing,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// How a key selects a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hashing {
    /// Java's `String.hashCode`.
    #[default]
    Java,
    /// MurmurHash3, 32 bit.
    Murmur3,
}

/// Options of a consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsumerOptions {
    /// The topics of the subscription; a partitioned one includes all its partitions.
    pub topics: WantedTopics,
    /// The subscription.
    pub subscription: Box<str>,
    /// How its consumers share the messages.
    pub kind: SubscriptionType,
    /// Whether the subscription outlasts its consumers.
    pub durable: bool,
    /// Whether a new subscription starts with the first stored message; otherwise with the next one
    /// published.
    pub earliest: bool,
    /// Flow control between owner and consumer.
    pub flow: Flow,
    /// Milliseconds after which an unacknowledged message is redelivered; 0 for never.
    pub ack_timeout_ms: u64,
    /// Milliseconds after which a negatively acknowledged message is redelivered.
    pub nack_delay_ms: u64,
    /// Redeliveries after which a message goes to the dead-letter topic; 0 for never.
    pub redeliveries_max: u32,
    /// The dead-letter topic; `None` for the subscription's default one.
    pub dead_letters: Option<TopicName>,
    /// Its name.
    pub name: Box<str>,
    /// Consumers with lower numbers are served first.
    pub priority: i32,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
    /// Rights that narrow its pattern; `None` for no limit. Rights to topics that it names are
    /// checked by its session.
    pub rights: Option<Box<Rights>>,
    /// Flow control shared with its other owners on this node; `None` for a consumer with one
    /// owner, see [`Routes`](super::Routes). It is memory shared between threads and is not
    /// serialized: a remote owner keeps a window of its own, with the credits that the asking node
    /// grants it.
    #[serde(skip)]
    pub window: Option<Arc<ConsumerWindow>>,
}

/// The topics of a consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WantedTopics {
    /// One topic.
    One(TopicName),
    /// A list of topics.
    Several(Vec<TopicName>),
    /// All topics of a namespace (`persistent://tenant/ns/`) whose full names match, including
    /// those created later.
    Matching {
        /// The start of the names.
        namespace: Box<str>,
        /// The pattern for full names.
        pattern: TopicPattern,
    },
}

impl WantedTopics {
    /// Whether the rights allow consuming all of them; for a pattern, any.
    pub(super) fn are_allowed(&self, rights: &Rights) -> bool {
        match self {
            Self::One(topic) => rights.allow(Right::Consume, topic),
            Self::Several(topics) => topics.iter().all(|topic| rights.allow(Right::Consume, topic)),
            Self::Matching { namespace, .. } => rights.reach(namespace),
        }
    }
}

/// Limit on the memory of a compiled pattern and of its caches: it lives as long as its consumer.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

/// A regular expression for topic names. Serialized as its text, and compiled on arrival.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern(regex::Regex);

impl TopicPattern {
    /// Compiles a pattern for full names.
    ///
    /// # Errors
    /// When the text is not a regular expression, or compiles to one over the memory limit.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let mut builder = regex::RegexBuilder::new(text);
        builder.size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX).build().map(Self)
    }

    /// Whether a full name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Self::new(&text)
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.0.as_str().into()
    }
}

/// How the consumers of a subscription share its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum SubscriptionType {
    /// Only one consumer.
    #[default]
    Exclusive = 0,
    /// Each message goes to one consumer, in turn.
    Shared = 1,
    /// One consumer receives all messages; the others stand by.
    Failover = 2,
    /// Messages with the same key go to the same consumer.
    KeyShared = 3,
}

impl SubscriptionType {
    /// Its name in Pulsar's protocol.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "Exclusive",
            Self::Shared => "Shared",
            Self::Failover => "Failover",
            Self::KeyShared => "Key_Shared",
        }
    }
}

/// Options of a reader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReaderOptions {
    /// The topic.
    pub topic: TopicName,
    /// Where to start.
    pub start: ReaderStart,
    /// Maximum number of unacknowledged messages; at least 1.
    pub window: u32,
    /// Its name.
    pub name: Box<str>,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderStart {
    /// At the first stored message.
    Earliest,
    /// At the next message published.
    Latest,
    /// After this message.
    After(MessageId),
}
