//! Durable topics: requests to their owner, its answers, and the one small interface behind which
//! topics are stored.
//!
//! Each topic has one owner ([`TopicOwner`]), so its messages have one order whichever shards its
//! producers and consumers are on. Usually one owner has all topics; there may be several, each
//! with a part of them ([`OwnerIndex`]). Shards send it requests ([`TopicQuestion`]); it answers
//! connections ([`TopicAnswer`]) and delivers messages ([`TopicDelivery`]). It makes all decisions
//! and performs no I/O itself: everything that outlasts the process goes through an [`Archive`].
//!
//! A message is announced only once it is stored: the producer's receipt and the deliveries leave
//! after [`TopicOwner::committed`]. Acknowledgements are saved within a second; a crash before that
//! redelivers.
//!
//! The map of the files is in `owner`.

mod ack;
mod admin;
mod admission;
mod answer;
mod archive;
mod backlog;
mod catalog;
mod commits;
mod consumer;
mod deletion;
mod delivery;
mod dispatch;
mod foreign_letters;
mod handles;
mod handover;
mod id;
mod inquiry;
mod join;
mod load;
mod loaded_topic;
mod maintenance;
mod mark;
mod matching;
mod merge;
mod name;
mod narrowing;
mod opening;
mod options;
mod owner;
mod owner_index;
mod peers;
mod pending;
mod probe;
mod probing;
mod producer;
mod proxy;
mod publish;
mod purge;
mod question;
mod record;
mod rights;
mod routes;
mod routing;
mod rules;
mod source;
mod state;
mod stats;
mod subscription;
mod survey;
#[cfg(test)]
mod tests;
mod timers;
mod transient;
mod window;
mod work;

pub use self::answer::{Cause, TopicAnswer, TopicRefusal};
pub use self::archive::{Archive, ArchiveError, Holding, Saved, StoredTopic, TopicNumber};
pub use self::backlog::TopicBacklog;
pub use self::delivery::{Recipient, TopicDelivery, TopicOutgoing};
pub use self::handover::FrozenTopics;
pub use self::id::{MessageId, Position};
pub use self::inquiry::{CursorReset, PAGE_TOPICS_MAX, TopicInquiry};
pub use self::merge::Merge;
pub use self::name::{NameError, TopicDomain, TopicName};
pub use self::options::{
    ConsumerOptions, Hashing, ProducerOptions, ReaderOptions, ReaderStart, SubscriptionType,
    TopicPattern, WantedTopics,
};
pub use self::owner::TopicOwner;
pub use self::owner_index::{OWNERS_MAX, OwnerIndex};
pub use self::question::TopicQuestion;
pub use self::record::{MessageDraft, MessageHead, StoredMessage, TopicMessage};
pub use self::rights::{GLOBS_MAX, Right, Rights, is_glob};
pub use self::routes::Routes;
pub use self::rules::TopicRules;
pub use self::stats::TopicCensus;
pub use self::window::{ConsumerWindow, Flow};
