//! Queries about topics and changes to them, from outside a producer's or consumer's connection.

use super::{ArchiveError, MessageId, OwnerIndex, Rights, TopicName, TopicRefusal};
use serde::{Deserialize, Serialize};

/// Limit on the names of one list.
pub(super) const NAMES_MAX: usize = 10_000;
/// Limit on the topics of one page of statistics; a query may ask for fewer.
pub const PAGE_TOPICS_MAX: usize = 1000;

/// A query about topics, or a change to them.
///
/// Answers have status 200 and JSON; for a change `{}`, once it is committed. Otherwise they are a
/// sentence with status 400 for the message id of another topic, 404 for a topic or subscription
/// that does not exist, 409 for a subscription with consumers or a topic with connections, and 503
/// when the archive is broken. Times are unix time (ms), message ids as clients see them, and
/// numbers current; `published` and `delivered` count since the topic was loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TopicInquiry {
    /// Statistics of producers and consumers in the form of Pulsar's WebSocket proxy:
    /// `{"persistent://…": {"producerStats": […], "consumerStats": […]}}`. A page lists the first
    /// topics after `after` that have any, in order of name, up to 1,000 topics and 5,000
    /// connections; a partitioned topic is listed as one. The last page is empty. A single topic
    /// with more connections gives the number `omitted`.
    ProxyStats {
        /// List only topics that these rights allow to consume.
        rights: Rights,
        /// The last topic of the previous page.
        after: Box<str>,
        /// Maximum number of topics.
        count: usize,
    },
    /// The same for one topic; 404 `Topic does not exist` for one without a producer or consumer
    /// here.
    ProxyTopic(TopicName),
    /// Metrics of each namespace in the form of Pulsar's WebSocket proxy, with rates per second
    /// over about the last minute: `[{"metrics": {"ns_msg_publish_rate": 1.0, …}, "dimensions":
    /// {"namespace": "tenant/ns"}}]`. Lists the namespaces that these rights allow to consume as a
    /// whole.
    ProxyMetrics(Rights),
    /// Topic names in order, up to 10,000: `["persistent://…", …]`.
    List {
        /// The start of the names.
        prefix: Box<str>,
        /// The last name of the previous list.
        after: Box<str>,
        /// Maximum number of names.
        count: usize,
    },
    /// The statistics of a topic:
    ///
    /// `messages` are those stored, `backlog` those that the subscription has not acknowledged; of
    /// these, `pending` are held by consumers or wait for redelivery, and `delayed` wait for their
    /// time.
    Stats(TopicName),
    /// The first messages of the topic, or the next that the subscription would deliver, up to 100
    /// messages or one megabyte: `[{"messageId", "publishTime", "eventTime", "deliverAt",
    /// "producerName", "sequenceId", "key", "properties": {}, "payload" (base64)}]`, with `null`
    /// for absent values.
    Peek {
        /// The topic.
        topic: TopicName,
        /// The subscription; `None` for the topic itself.
        subscription: Option<Box<str>>,
        /// Maximum number of messages.
        count: usize,
    },
    /// Deletes the backlog of a subscription, or of all and with it the topic's stored messages.
    Purge {
        /// The topic.
        topic: TopicName,
        /// The subscription; `None` for all.
        subscription: Option<Box<str>>,
    },
    /// Terminates a topic: it accepts no more messages.
    Terminate(TopicName),
    /// Deletes a topic with all its data; for a partitioned topic, all partitions. Refused while
    /// there are producers, consumers or readers, unless `force` is set. A later topic of the same
    /// name reuses none of its ids.
    Delete {
        /// The topic.
        topic: TopicName,
        /// Whether to close its connections.
        force: bool,
    },
    /// Moves a subscription's cursor.
    Reset {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Box<str>,
        /// The new cursor.
        to: CursorReset,
    },
    /// Deletes a subscription without consumers.
    Forget {
        /// The topic.
        topic: TopicName,
        /// The subscription.
        subscription: Box<str>,
    },
}

/// A new cursor of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorReset {
    /// The first stored message.
    Earliest,
    /// The next message to come.
    Latest,
    /// The first message published at this time (unix, ms) or later.
    Published(u64),
    /// This message.
    At(MessageId),
}

impl TopicInquiry {
    /// The one topic concerned; `None` for queries about several.
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

    /// The owner, out of `of`, that answers; 0 for queries about several topics.
    #[must_use]
    pub fn owner(&self, of: usize) -> usize {
        self.topic().map_or(0, |topic| OwnerIndex::of_topic(topic, of))
    }
}

/// Why an inquiry fails: an HTTP status and a sentence.
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

/// The progress of an inquiry; `None` while there is more to do.
pub(super) type InquiryProgress = Result<Option<InquiryOutcome>, InquiryError>;

/// The outcome of an inquiry.
#[derive(Debug)]
pub(super) enum InquiryOutcome {
    /// A status and JSON.
    Answer(u16, String),
    /// A change was made; answered once it is committed.
    Changed,
}
