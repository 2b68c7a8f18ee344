//! The interface behind which topics are stored: everything that has to outlast the process.
//!
//! What is written by one call after the other is stored in that order: when a later write has survived a crash, so
//! have the earlier ones. Nothing is safe before the archive was told to commit, which is its owner's business.

use super::{Position, StoredMessage};
use std::sync::Arc;

/// A topic's number in the archive: from 1 on, greater than all that were given before it, and never given again.
pub type TopicNumber = u32;

/// Why the archive could not do something. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveError(pub Box<str>);

/// What the archive knows of a topic.
#[derive(Debug)]
pub struct StoredTopic {
    /// Its number.
    pub number: TopicNumber,
    /// What was saved of it with [`Archive::save`].
    pub topic: Option<Box<[u8]>>,
    /// What was saved of its subscriptions, by name.
    pub subscriptions: Vec<(Box<str>, Box<[u8]>)>,
    /// The last sequence numbers of its producers, by name.
    pub sequences: Vec<(Box<str>, i64)>,
    /// The last message that is stored.
    pub last: Option<Arc<StoredMessage>>,
}

/// A topic that holds room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub topic: Box<str>,
    /// Bytes of its messages.
    pub bytes: u64,
    /// When the oldest of them was published (unix time, ms), if that is known.
    pub oldest_ms: Option<u64>,
}

impl Holding {
    /// Keeps those that hold most, so many at most, the largest first.
    pub fn keep_largest(holdings: &mut Vec<Self>, count: usize) {
        holdings.sort_by(|one, other| (other.bytes, &one.topic).cmp(&(one.bytes, &other.topic)));
        holdings.truncate(count);
    }
}

/// What is saved of a topic beside its messages.
#[derive(Clone, Copy, Debug)]
pub enum Saved<'a> {
    /// The topic's own state.
    Topic(&'a [u8]),
    /// A subscription's.
    Subscription(&'a str, &'a [u8]),
    /// That a subscription is no more.
    NoSubscription(&'a str),
    /// A producer's last sequence number.
    Sequence(&'a str, i64),
    /// That a producer is forgotten.
    NoSequence(&'a str),
}

/// Where topics are stored.
pub trait Archive: 'static {
    /// The ledger that topics of an earlier run of the daemon go on in: higher than any before. A topic that is
    /// created while none was ever deleted begins in ledger 0, any other in this one or later.
    fn ledger(&self) -> u32;

    /// Loads a topic; `None` when there is none of this name.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    fn load(&mut self, name: &str) -> Result<Option<StoredTopic>, ArchiveError>;

    /// Creates a topic, for good: even if nothing else is ever committed.
    ///
    /// # Errors
    /// When it cannot be written.
    fn create(&mut self, name: &str) -> Result<TopicNumber, ArchiveError>;

    /// Deletes a topic with everything that is stored of it. Its number is never given again.
    ///
    /// # Errors
    /// When it cannot be written.
    fn delete(&mut self, topic: TopicNumber) -> Result<(), ArchiveError>;

    /// The names of topics in order that begin with `prefix` and come after `after`, at most `count`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn names(
        &mut self,
        prefix: &str,
        after: &str,
        count: usize,
    ) -> Result<Vec<Box<str>>, ArchiveError>;

    /// Stores a message, which with a delivery time (unix, ms) also stands in the index of delayed messages, until
    /// [`Archive::trim_delayed`] takes it out there.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append(
        &mut self,
        topic: TopicNumber,
        message: &StoredMessage,
        deliver_ms: Option<u64>,
    ) -> Result<(), ArchiveError>;

    /// Messages in order from `from` on: at most `count`, and no more after `bytes_max`. What is damaged is reported,
    /// counted and left out.
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

    /// Bytes that the messages of a topic take where they are stored.
    fn held(&self, topic: TopicNumber) -> u64;

    /// Deletes the messages below `below`, except for [`Archive::delayed`]. Takes the same short time however many
    /// there are.
    ///
    /// # Errors
    /// When it cannot be written.
    fn trim(&mut self, topic: TopicNumber, below: Position) -> Result<(), ArchiveError>;

    /// Messages of the index of delayed messages, in the order of time and position: those from `from` on whose time
    /// is before `until_ms`, at most `count`, whether or not the log still has them.
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

    /// Takes those below `below` out of the index, at most `count`. Returns how many there were.
    ///
    /// # Errors
    /// When it cannot be written.
    fn trim_delayed(
        &mut self,
        topic: TopicNumber,
        below: (u64, Position),
        count: usize,
    ) -> Result<usize, ArchiveError>;

    /// Saves something of a topic in place of what was saved before.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&mut self, topic: TopicNumber, saved: Saved<'_>) -> Result<(), ArchiveError>;
}
