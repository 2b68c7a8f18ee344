//! Durable topics: what is asked of their owner, what it says, and the one small interface behind which they are
//! stored.
//!
//! One owner has a topic ([`TopicOwner`]), so its messages have one order whatever shards its producers and consumers sit on.
//! Usually it has all topics; there may be several, each with some of them ([`OwnerIndex`]). Shards ask it ([`TopicQuestion`]); it answers a connection ([`TopicAnswer`]) and delivers ([`TopicDelivery`]).
//! It decides alone and writes nothing itself: whatever has to outlast the process goes through an [`Archive`].
//!
//! Nothing of a message is told before it is stored: its producer's receipt and its deliveries leave after
//! [`TopicOwner::committed`]. What consumers acknowledge is saved within a second; a crash before that delivers it again.

mod ack;
mod admission;
mod archive;
mod backlog;
mod consumer;
mod deletion;
mod dispatch;
mod id;
mod inquiry;
mod join;
mod loaded;
mod maintenance;
mod mark;
mod matching;
#[cfg(test)]
mod memory;
mod merge;
mod name;
mod open;
mod opening;
mod owner;
mod owner_index;
mod pending;
mod probe;
mod producer;
mod proxy;
mod purge;
mod record;
mod rights;
mod routes;
mod routing;
mod source;
mod state;
mod stats;
mod subscription;
#[cfg(test)]
mod tests;
mod transient;
mod window;
mod work;

pub use self::archive::{Archive, ArchiveError, Holding, Saved, StoredTopic, TopicNumber};
pub use self::backlog::TopicBacklog;
pub(crate) use self::id::LENIENT;
pub use self::id::{MessageId, Position};
pub use self::merge::Merge;
pub use self::name::{NameError, TopicDomain, TopicName};
pub use self::owner::TopicOwner;
pub use self::owner_index::{OWNERS_MAX, OwnerIndex};
pub use self::proxy::PAGE_TOPICS_MAX;
pub use self::record::{MessageDraft, MessageHead, StoredMessage, TopicMessage};
pub use self::rights::{GLOBS_MAX, Right, Rights, is_glob};
pub use self::routes::Routes;
pub use self::stats::TopicCensus;
pub use self::window::ConsumerWindow;

use crate::service::ConnectionRef;
use std::sync::Arc;

/// What a connection asks of the owner of the topics. The first request of a connection is one of the first three.
#[derive(Debug)]
pub enum TopicQuestion {
    /// It wants to produce; answered by [`TopicAnswer::Opened`] or [`TopicAnswer::Refused`].
    Produce(Box<ProducerOptions>),
    /// It wants to consume; answered likewise, and then by deliveries.
    Consume(Box<ConsumerOptions>),
    /// It wants to read; answered likewise, and then by deliveries.
    Read(Box<ReaderOptions>),
    /// A producer's message; answered by [`TopicAnswer::Stored`] or [`TopicAnswer::NotStored`], in the order of the requests.
    Send {
        /// The message.
        draft: MessageDraft,
        /// Comes back with the answer.
        context: Option<Box<str>>,
    },
    /// A message of a feed for this topic; answered as a producer's. It needs no request before it.
    Append(TopicName, MessageDraft),
    /// A message has been dealt with.
    Ack(MessageId),
    /// A message has not been dealt with and is to come again.
    Nack(MessageId),
    /// The connection pulls, and wants so many more.
    Permit(u32),
    /// The subscription is to be deleted. The connection stays, and gets nothing more.
    Unsubscribe,
    /// Whether there will be more; answered by [`TopicAnswer::EndOfTopic`].
    AskEnd,
    /// The connection has taken everything that was delivered to it so far, the delivery included that had
    /// [`Recipient::wants_receipt`].
    Took,
    /// The connection has other rights from now on. Answered by [`TopicAnswer::Forbidden`] if what it does is not among them.
    Renew(Box<Rights>),
    /// The answer to [`TopicAnswer::Probe`]: whether the connection's peer has sent its last, so that [`TopicQuestion::Gone`] follows.
    /// There is none for a connection whose end was told.
    Probed {
        /// Whether it has.
        is_closing: bool,
    },
    /// The connection is over. The last request.
    Gone,
    /// After [`TopicAnswer::Ready`]: it is to become a consumer now.
    Join,
    /// It is this owner's turn to deliver to a consumer of several.
    Turn,
    /// What has become of a message that this owner has given another for the dead letters.
    Buried {
        /// Whether it is stored there.
        is_stored: bool,
    },
    /// Somebody wants to know or to change something; answered by [`TopicAnswer::PendingAnswer`].
    Inquire(Box<TopicInquiry>),
}

/// What a producer is.
#[derive(Debug)]
pub struct ProducerOptions {
    /// Where its messages go: a topic, a partitioned topic or one partition.
    pub topic: TopicName,
    /// Its name, which no other producer of the topic may have; one is given to it without.
    pub name: Option<Box<str>>,
    /// The sequence number after which its own begin, for a producer that the topic does not know.
    pub initial_sequence: Option<i64>,
    /// Whether messages without a key go to one partition after the other; else all go to one.
    pub round_robin: bool,
    /// How keys choose partitions.
    pub hashing: Hashing,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// How a key chooses a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hashing {
    /// As `String.hashCode` of Java.
    #[default]
    Java,
    /// MurmurHash3, 32 bit.
    Murmur3,
}

/// What a consumer is.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The topics of the subscription; a partitioned one stands for its partitions.
    pub topics: WantedTopics,
    /// The subscription.
    pub subscription: Box<str>,
    /// How its consumers share the messages.
    pub kind: SubscriptionType,
    /// Whether it outlasts its consumers.
    pub durable: bool,
    /// Where it starts when it is new.
    pub earliest: bool,
    /// How messages come to the consumer.
    pub flow: Flow,
    /// Milliseconds after which an unacknowledged message comes again; 0 for never.
    pub ack_timeout_ms: u64,
    /// Milliseconds after which a negatively acknowledged message comes again.
    pub nack_delay_ms: u64,
    /// Redeliveries after which a message goes to the dead letters; 0 for never.
    pub redeliveries_max: u32,
    /// The topic for dead letters; that of the subscription without.
    pub dead_letters: Option<TopicName>,
    /// Its name.
    pub name: Box<str>,
    /// Consumers with lower numbers are served first.
    pub priority: i32,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
    /// What its pattern of topics is narrowed to; nothing without. Topics that it names are its connection's business.
    pub rights: Option<Box<Rights>>,
    /// What it takes of several owners together; nothing when it has to do with one. See [`Routes`].
    pub window: Option<Arc<ConsumerWindow>>,
}

/// Which topics a consumer wants.
#[derive(Clone, Debug)]
pub enum WantedTopics {
    /// This one.
    One(TopicName),
    /// All of these.
    Several(Vec<TopicName>),
    /// All of a namespace (`persistent://tenant/ns/`) whose whole name matches, those included that are still to come.
    Matching {
        /// What the names begin with.
        namespace: Box<str>,
        /// What the whole name has to match.
        pattern: regex::Regex,
    },
}

/// How the consumers of a subscription share its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// How messages come to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As long as no more than so many are unacknowledged; at least 1.
    Push(u32),
    /// As many as it has asked for.
    Pull,
}

/// What a reader is.
#[derive(Debug)]
pub struct ReaderOptions {
    /// What it reads.
    pub topic: TopicName,
    /// Where it begins.
    pub start: ReaderStart,
    /// Messages that may be unacknowledged; at least 1.
    pub window: u32,
    /// Its name.
    pub name: Box<str>,
    /// The client's address, for the statistics.
    pub remote: Box<str>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStart {
    /// With the first message that is kept.
    Earliest,
    /// With the next that comes.
    Latest,
    /// After this one.
    After(MessageId),
}

/// What can be asked about topics, and done to them.
///
/// Answers have status 200 and JSON, `{}` where something was done, which is safe then. Else they have a sentence and
/// 400 for the id of a message of another topic, 404 for a topic or subscription that is not there, 409 for a subscription
/// that has consumers or a topic that has connections, and 503 when the archive does not work. Times are unix time (ms), ids as clients see them, numbers those of now or, where `published`
/// and `delivered` are told, since the topic was loaded.
#[derive(Clone, Debug)]
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
    /// Deletes a topic with everything that is stored of it; of a partitioned one all partitions. Whoever produces,
    /// consumes or reads there is in the way, or is ended if that is asked for. A topic of that name that comes again
    /// is another one, and has none of the old one's ids.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What the owner of the topics says to one connection.
#[derive(Debug)]
pub enum TopicAnswer {
    /// It is a producer, consumer or reader now.
    Opened,
    /// It is not, and this is why.
    Refused(TopicRefusal),
    /// Nothing is in the way of a consumer of several owners; answered by [`TopicQuestion::Join`].
    Ready,
    /// The message is stored.
    Stored {
        /// Which it is.
        id: MessageId,
        /// What came with it.
        context: Option<Box<str>>,
    },
    /// The message is not stored, and this is why.
    NotStored {
        /// The reason, for people.
        reason: Box<str>,
        /// What came with it.
        context: Option<Box<str>>,
    },
    /// Whether there will be no more messages.
    EndOfTopic(bool),
    /// Of a non-persistent topic it gets every `of`th message from now on, or by key, beginning with the `place`th;
    /// none when `of` is 0.
    Share {
        /// Its place among those who share.
        place: u32,
        /// How many they are.
        of: u32,
    },
    /// Deleting the subscription has failed.
    StillSubscribed,
    /// What the connection does is not among its new rights.
    Forbidden,
    /// Whether the peer still lives is to be looked at, because somebody else wants what it holds; answered by
    /// [`TopicQuestion::Probed`].
    Probe,
    /// The answer to an [`TopicInquiry`]: an HTTP status, and JSON, or a sentence when the status is an error's.
    Answer(u16, Box<[u8]>),
}

/// Why a connection cannot produce, consume or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRefusal {
    /// What kind of reason.
    pub cause: Cause,
    /// The reason, for people.
    pub reason: Box<str>,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A parameter makes no sense here.
    Invalid,
    /// The topic cannot be had.
    NotFound,
    /// Another consumer or producer has it.
    Busy,
    /// There are too many.
    TooMany,
    /// The backlog is full.
    Quota,
    /// The topic has ended.
    Terminated,
    /// The store does not work.
    Broken,
}

/// A message on its way to connections of one shard.
#[derive(Debug)]
pub struct TopicDelivery {
    /// The message.
    pub message: Arc<StoredMessage>,
    /// Who gets it.
    pub recipients: Vec<Recipient>,
}

/// A connection that gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Which it is.
    pub connection: ConnectionRef,
    /// How often it came before.
    pub redeliveries: u32,
    /// The partition in the message's id, by which the recipient's acknowledgement finds it again.
    pub partition: Option<u32>,
    /// Whether [`TopicQuestion::Took`] is to follow when it has left: until then there comes nothing more.
    pub wants_receipt: bool,
}

/// What leaves the owner of the topics, in order.
#[derive(Debug)]
pub enum TopicOutgoing {
    /// An answer.
    Reply(ConnectionRef, TopicAnswer),
    /// A message.
    Deliver(Arc<StoredMessage>, Recipient),
    /// A request to the owner with this index.
    Ask(usize, ConnectionRef, TopicQuestion),
}

/// What topics allow.
#[derive(Clone, Debug)]
pub struct TopicRules {
    /// Seconds for which messages that nobody waits for any more are kept.
    pub retention_s: u64,
    /// Bytes of them that are kept.
    pub retention_bytes: u64,
    /// Seconds after which messages that wait for consumers are given up; 0 for never.
    pub message_ttl_s: u64,
    /// Bytes that may wait for the slowest subscription of a topic; 0 for any number.
    pub backlog_quota_bytes: u64,
    /// Whether, at that many, the slowest subscription loses its oldest messages; else producers are refused.
    pub backlog_eviction: bool,
    /// Seconds after which a topic goes by itself that has no message, no subscription and no connection; 0 for never.
    pub idle_delete_s: u64,
    /// Seconds after which a subscription goes by itself that had no consumer meanwhile; 0 for never.
    pub subscription_expiry_s: u64,
    /// Topics that may be.
    pub topics_max: usize,
    /// Topics that one request may create, beside partitions of those that are configured.
    pub new_topics_max: usize,
    /// Messages of one subscription that may be with its consumers or wait to come again.
    pub unacked_max: usize,
    /// Bytes of messages that are kept in memory of all topics together: the last ones, which consumers at the end of a
    /// topic get, and what was read for those that are behind.
    pub cache_bytes: usize,
    /// Partitioned topics, with their number of partitions.
    pub partitioned: Vec<(TopicName, u32)>,
}

impl Default for TopicRules {
    fn default() -> Self {
        Self {
            retention_s: 3600,
            retention_bytes: 64 * 1024 * 1024,
            message_ttl_s: 0,
            backlog_quota_bytes: 10 * 1024 * 1024 * 1024,
            backlog_eviction: false,
            idle_delete_s: 60,
            subscription_expiry_s: 0,
            topics_max: 100_000,
            new_topics_max: 100,
            unacked_max: 50_000,
            cache_bytes: 16 * 1024 * 1024,
            partitioned: Vec::new(),
        }
    }
}

impl TopicQuestion {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Send { draft, context } => {
                draft.len() + context.as_ref().map_or(0, |context| context.len())
            }
            Self::Append(_, draft) => draft.len(),
            Self::Produce(_) | Self::Consume(_) | Self::Read(_) | Self::Inquire(_) => 1024,
            _ => 0,
        };
        bytes + size_of::<Self>()
    }
}

impl TopicAnswer {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let context = |context: &Option<Box<str>>| context.as_ref().map_or(0, |context| context.len());
        let bytes = match self {
            Self::Stored { context: given, .. } => context(given),
            Self::NotStored { reason, context: given } => reason.len() + context(given),
            Self::Refused(refusal) => refusal.reason.len(),
            Self::Answer(_, body) => body.len(),
            _ => 0,
        };
        bytes + size_of::<Self>()
    }
}

impl TopicDelivery {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.message.len() + self.recipients.len() * size_of::<Recipient>() + size_of::<Self>()
    }
}
