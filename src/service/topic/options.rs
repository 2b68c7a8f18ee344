//! What a connection asks to be: the options of producers, consumers and readers.

use super::{ConsumerWindow, Flow, MessageId, Right, Rights, TopicName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Options of a producer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProducerOptions {
    /// Where its messages go: a topic, a partitioned topic or one partition.
    pub topic: TopicName,
    /// Its name, unique among the topic's producers; one is generated without.
    pub name: Option<Box<str>>,
    /// The sequence number before its first, for a producer that the topic does not know.
    pub initial_sequence: Option<i64>,
    /// Whether messages without a key go to the partitions in turn; else all go to one.
    pub round_robin: bool,
    /// How keys choose partitions.
    pub hashing: Hashing,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// How a key chooses a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hashing {
    /// As `String.hashCode` of Java.
    #[default]
    Java,
    /// MurmurHash3, 32 bit.
    Murmur3,
}

/// Options of a consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsumerOptions {
    /// The topics of the subscription; a partitioned one stands for its partitions.
    pub topics: WantedTopics,
    /// The subscription.
    pub subscription: Box<str>,
    /// How its consumers share the messages.
    pub kind: SubscriptionType,
    /// Whether the subscription outlasts its consumers.
    pub durable: bool,
    /// Whether a new subscription starts with the first message that is kept; else with the next one.
    pub earliest: bool,
    /// How messages come to the consumer.
    pub flow: Flow,
    /// Milliseconds after which an unacknowledged message is redelivered; 0 for never.
    pub ack_timeout_ms: u64,
    /// Milliseconds after which a negatively acknowledged message is redelivered.
    pub nack_delay_ms: u64,
    /// Redeliveries after which a message goes to the dead letter topic; 0 for never.
    pub redeliveries_max: u32,
    /// The dead letter topic; the subscription's own without.
    pub dead_letters: Option<TopicName>,
    /// Its name.
    pub name: Box<str>,
    /// Consumers with lower numbers are served first.
    pub priority: i32,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
    /// What its pattern of topics is narrowed to; everything without. The rights to topics that it names are checked
    /// by its session.
    pub rights: Option<Box<Rights>>,
    /// The flow control that it has in common with its other owners on this node; nothing when it has one owner, see
    /// [`Routes`](super::Routes). It is memory that threads share and is not sent: a remote owner keeps a window of
    /// its own, with the credits that the asking node grants it.
    #[serde(skip)]
    pub window: Option<Arc<ConsumerWindow>>,
}

/// The topics of a consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WantedTopics {
    /// This one.
    One(TopicName),
    /// All of these.
    Several(Vec<TopicName>),
    /// All of a namespace (`persistent://tenant/ns/`) whose whole name matches, including those created later.
    Matching {
        /// What the names begin with.
        namespace: Box<str>,
        /// What the whole name has to match.
        pattern: TopicPattern,
    },
}

impl WantedTopics {
    /// Whether rights let all of them be consumed; of a pattern some.
    pub(super) fn are_allowed(&self, rights: &Rights) -> bool {
        match self {
            Self::One(topic) => rights.allow(Right::Consume, topic),
            Self::Several(topics) => topics.iter().all(|topic| rights.allow(Right::Consume, topic)),
            Self::Matching { namespace, .. } => rights.reach(namespace),
        }
    }
}

/// Memory of a compiled pattern and of its caches: a consumer's pattern lives as long as its consumer.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

/// A regular expression for names of topics. It is sent as its text, and compiled where it arrives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern(regex::Regex);

impl TopicPattern {
    /// Compiles a pattern of whole names.
    ///
    /// # Errors
    /// When the text is no regular expression, or one that takes too much memory.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let mut builder = regex::RegexBuilder::new(text);
        builder.size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX).build().map(Self)
    }

    /// Whether a name matches.
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
    /// There is one consumer.
    #[default]
    Exclusive = 0,
    /// Each message goes to one of them, in turn.
    Shared = 1,
    /// One gets all; the others stand by.
    Failover = 2,
    /// Messages with the same key go to the same one.
    KeyShared = 3,
}

impl SubscriptionType {
    /// Its name as Pulsar writes it.
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
    /// What it reads.
    pub topic: TopicName,
    /// Where it begins.
    pub start: ReaderStart,
    /// Maximum number of unacknowledged messages; at least 1.
    pub window: u32,
    /// Its name.
    pub name: Box<str>,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderStart {
    /// With the first message that is kept.
    Earliest,
    /// With the next that comes.
    Latest,
    /// After this one.
    After(MessageId),
}
