//! The interface behind which topics are stored: everything that outlasts the process.
//!
//! Writes are stored in the order of the calls: if a later write survives a crash, so do the
//! earlier ones. Nothing is safe before a commit, which is the business of the archive's owner.

use super::{Position, StoredMessage};
use std::sync::Arc;

/// A topic's number in the archive: starts at 1, increases, and is never reused.
pub type TopicNumber = u32;

/// Why an operation of the archive failed, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveError(pub Box<str>);

/// A topic as loaded from the archive.
#[derive(Debug)]
pub struct StoredTopic {
    /// Its number.
    pub number: TopicNumber,
    /// The state last saved with [`Archive::save`].
    pub topic: Option<Box<[u8]>>,
    /// The saved states of its subscriptions, by name.
    pub subscriptions: Vec<(Box<str>, Box<[u8]>)>,
    /// The last sequence numbers of its producers, by name.
    pub sequences: Vec<(Box<str>, i64)>,
    /// The last stored message.
    pub last: Option<Arc<StoredMessage>>,
}

/// The storage that a topic uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub topic: Box<str>,
    /// Bytes of its messages.
    pub bytes: u64,
    /// When the oldest of them was published (unix time, ms), if known.
    pub oldest_ms: Option<u64>,
}

impl Holding {
    /// Keeps the `count` largest, in descending order.
    pub fn keep_largest(holdings: &mut Vec<Self>, count: usize) {
        holdings.sort_by(|one, other| (other.bytes, &one.topic).cmp(&(one.bytes, &other.topic)));
        holdings.truncate(count);
    }

    /// Adds one to a list of which the `count` largest will be kept; the list never has more than
    /// twice as many.
    pub fn add(holdings: &mut Vec<Self>, holding: Self, count: usize) {
        holdings.push(holding);
        // Truncates only now and then, to avoid sorting for each of very many topics.
        if holdings.len() >= 2 * count {
            Self::keep_largest(holdings, count);
        }
    }
}

/// State of a topic to save, apart from its messages.
#[derive(Clone, Copy, Debug)]
pub enum Saved<'a> {
    /// The topic's own state.
    Topic(&'a [u8]),
    /// The state of a subscription, by name.
    Subscription(&'a str, &'a [u8]),
    /// The deletion of a subscription.
    NoSubscription(&'a str),
    /// The last sequence number of a producer.
    Sequence(&'a str, i64),
    /// The removal of a producer's sequence number.
    NoSequence(&'a str),
}

/// A store of topics.
pub trait Archive: 'static {
    /// The ledger in which topics of earlier runs continue: higher than any before. A topic created
    /// while none was ever deleted starts in ledger 0, any other in this one or later.
    fn ledger(&self) -> u32;

    /// Loads a topic; `None` when there is none of this name.
    ///
    /// # Errors
    /// When the stored data cannot be read.
    fn load(&mut self, name: &str) -> Result<Option<StoredTopic>, ArchiveError>;

    /// Creates a topic permanently, even if nothing else is ever committed.
    ///
    /// # Errors
    /// When it cannot be written.
    fn create(&mut self, name: &str) -> Result<TopicNumber, ArchiveError>;

    /// Deletes a topic and all its data. Its number is never reused.
    ///
    /// # Errors
    /// When it cannot be written.
    fn delete(&mut self, topic: TopicNumber) -> Result<(), ArchiveError>;

    /// The names of topics that start with `prefix` and follow `after`, in order, at most `count`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn names(
        &mut self,
        prefix: &str,
        after: &str,
        count: usize,
    ) -> Result<Vec<Box<str>>, ArchiveError>;

    /// Stores a message. With a delivery time (unix, ms), it is also added to the index of delayed
    /// messages, until [`Archive::trim_delayed`] removes it there.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append(
        &mut self,
        topic: TopicNumber,
        message: &StoredMessage,
        deliver_ms: Option<u64>,
    ) -> Result<(), ArchiveError>;

    /// Messages in order, starting at `from`: at most `count`, and none after `bytes_max` bytes are
    /// reached. Damaged messages are logged, counted and skipped.
    ///
    /// # Errors
    /// When nothing can be read.
    fn read(
        &mut self,
        topic: TopicNumber,
        from: Position,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<StoredMessage>>, ArchiveError>;

    /// Bytes that the topic's messages occupy in the store.
    fn held(&self, topic: TopicNumber) -> u64;

    /// Deletes the messages before `below`, except for those in [`Archive::delayed`]. Takes the
    /// same short time however many there are.
    ///
    /// # Errors
    /// When it cannot be written.
    fn trim(&mut self, topic: TopicNumber, below: Position) -> Result<(), ArchiveError>;

    /// Delayed messages in order of time and position: at most `count`, starting at `from`, due
    /// before `until_ms`, whether or not the log still has them.
    ///
    /// # Errors
    /// When nothing can be read.
    fn delayed(
        &mut self,
        topic: TopicNumber,
        from: (u64, Position),
        until_ms: u64,
        count: usize,
    ) -> Result<Vec<(u64, Arc<StoredMessage>)>, ArchiveError>;

    /// Removes at most `count` entries before `below` from the index of delayed messages. Returns
    /// how many were removed.
    ///
    /// # Errors
    /// When it cannot be written.
    fn trim_delayed(
        &mut self,
        topic: TopicNumber,
        below: (u64, Position),
        count: usize,
    ) -> Result<usize, ArchiveError>;

    /// Saves a state of the topic, replacing the one saved before.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&mut self, topic: TopicNumber, saved: Saved<'_>) -> Result<(), ArchiveError>;
}
