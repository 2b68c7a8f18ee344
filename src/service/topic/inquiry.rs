//! What can be asked about topics, and done to them from outside.

use super::{ArchiveError, MessageId, OwnerIndex, Rights, TopicName, TopicRefusal};
use serde::{Deserialize, Serialize};

/// Names in one list.
pub(super) const NAMES_MAX: usize = 10_000;
/// Topics in one answer about all, unless fewer are asked for.
pub const PAGE_TOPICS_MAX: usize = 1000;

/// What can be asked about topics, and done to them.
///
/// Answers have status 200 and JSON, `{}` where something was done, which is safe then. Else they have a sentence and
/// 400 for the id of a message of another topic, 404 for a topic or subscription that is not there, 409 for a subscription
/// that has consumers or a topic that has connections, and 503 when the archive does not work. Times are unix time (ms), ids as clients see them, numbers those of now or, where `published`
/// and `delivered` are told, since the topic was loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TopicInquiry {
    /// The statistics of producers and consumers as Pulsar's WebSocket proxy tells them: `{"persistent://…":
    /// {"producerStats": […], "consumerStats": […]}}` of the first topics that have one and come after that one, in the
    /// order of their names, at most so many, of 1,000, and of 5,000 connections; a partitioned topic is told as one. A
    /// page without topics is the last. A single topic with more connections says how many are `omitted`.
    ProxyStats {
        /// Only topics that these let consume are told.
        rights: Rights,
        /// The last one of the page before.
        after: Box<str>,
        /// How many at most.
        count: usize,
    },
    /// The same of one topic; 404 `Topic does not exist` for one that has no producer and no consumer here.
    ProxyTopic(TopicName),
    /// The metrics of each namespace as Pulsar's WebSocket proxy tells them, with rates per second over about the last
    /// minute: `[{"metrics": {"ns_msg_publish_rate": 1.0, …}, "dimensions": {"namespace": "tenant/ns"}}]`. Namespaces are
    /// those that these rights let consume as a whole.
    ProxyMetrics(Rights),
    /// The names of topics in order: those that begin so and come after that one, at most so many, of 10,000:
    /// `["persistent://…", …]`.
    List {
        /// What they begin with.
        prefix: Box<str>,
        /// The last one of the list before.
        after: Box<str>,
        /// How many at most.
        count: usize,
    },
    /// Everything that is known of a topic:
    ///
    /// ```json
    /// {"name": "persistent://…", "terminated": false,
    ///  "messages": 3, "bytes": 300, "messagesEver": 5, "bytesEver": 500,
    ///  "firstMessageId": "CAAQAg==", "lastMessageId": "CAAQBA==",
    ///  "published": 5, "publishedBytes": 500, "delivered": 5, "deliveredBytes": 500, "rememberedProducers": 1,
    ///  "producers": [{"name": "p", "address": "127.0.0.1:7", "messages": 5}],
    ///  "subscriptions": {"s": {"type": "Exclusive", "durable": true, "backlog": 3, "backlogBytes": 300,
    ///    "pending": 1, "delayed": 0, "consumers": [{"name": "c", "address": "127.0.0.1:5", "priority": 0,
    ///      "messages": 3, "unacknowledged": 1, "permits": 0}]}}}
    /// ```
    /// `messages` are those that are kept, `backlog` those that the subscription has not acknowledged; of these
    /// `pending` are with consumers or come again, and `delayed` wait for their time.
    Stats(TopicName),
    /// Some messages: of the topic from its first, or the next that the subscription would deliver, at most so many,
    /// of 100, and none behind the first megabyte: `[{"messageId", "publishTime", "eventTime", "deliverAt", "producerName", "sequenceId", "key",
    /// "properties": {}, "payload" (base64)}]`, with `null` for what a message does not have.
    Peek {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Option<Box<str>>,
        /// How many at most.
        count: usize,
    },
    /// Deletes the messages that wait in a subscription, or in all and with them what the topic has stored.
    Purge {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Option<Box<str>>,
    },
    /// Ends a topic: nothing more is taken.
    Terminate(TopicName),
    /// Deletes a topic with everything that is stored of it; of a partitioned one all partitions. Producers, consumers
    /// and readers are in the way, or are ended by force. A topic that gets its name later has none of its ids.
    Delete {
        /// The topic.
        topic: TopicName,
        /// Whether connections are ended.
        force: bool,
    },
    /// Moves a subscription to another message, from which it goes on.
    Reset {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Box<str>,
        /// Where it goes on.
        to: CursorReset,
    },
    /// Deletes a subscription that has no consumer.
    Forget {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Box<str>,
    },
}

/// Where a subscription is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorReset {
    /// The first message that is kept.
    Earliest,
    /// The next that comes.
    Latest,
    /// The first that was published at this time (unix, ms) or later.
    Published(u64),
    /// This one.
    At(MessageId),
}

impl TopicInquiry {
    /// The topic that is asked about, if it is one.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        match self {
            Self::ProxyTopic(topic)
            | Self::Stats(topic)
            | Self::Terminate(topic)
            | Self::Delete { topic, .. }
            | Self::Peek { topic, .. }
            | Self::Purge { topic, .. }
            | Self::Reset { topic, .. }
            | Self::Forget { topic, .. } => Some(topic),
            Self::ProxyStats { .. } | Self::ProxyMetrics(_) | Self::List { .. } => None,
        }
    }

    /// Which of so many owners answers, where it is one.
    #[must_use]
    pub fn owner(&self, of: usize) -> usize {
        self.topic().map_or(0, |topic| OwnerIndex::of_topic(topic, of))
    }
}

/// Why an inquiry fails: an HTTP status, and a sentence.
#[derive(Debug)]
pub(super) struct InquiryError(pub(super) u16, pub(super) Box<str>);

impl InquiryError {
    pub(super) fn no_topic() -> Self {
        Self(404, "Topic does not exist".into())
    }
}

impl From<ArchiveError> for InquiryError {
    fn from(error: ArchiveError) -> Self {
        Self(503, error.0)
    }
}

impl From<TopicRefusal> for InquiryError {
    fn from(refusal: TopicRefusal) -> Self {
        Self(503, refusal.reason)
    }
}

/// How far the answer to an inquiry is; `None` while there is more to do.
pub(super) type InquiryProgress = Result<Option<InquiryOutcome>, InquiryError>;

/// What becomes of an inquiry.
#[derive(Debug)]
pub(super) enum InquiryOutcome {
    /// A status, and JSON.
    Told(u16, String),
    /// Something is changed; it is told when that is safe.
    Changed,
}
