//! Answers from the owner of a topic to one connection.

use super::{ArchiveError, MessageId};
use serde::{Deserialize, Serialize};

/// An answer from the owner of a topic to one connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum TopicAnswer {
    /// The connection is a producer, consumer or reader now.
    Opened,
    /// The connection's request to become one is refused.
    Refused(TopicRefusal),
    /// This owner admits a consumer that spans several owners; answered by
    /// [`TopicQuestion::Join`](super::TopicQuestion::Join).
    Ready,
    /// The message is stored.
    Stored {
        /// Its id.
        id: MessageId,
        /// The context of the request.
        context: Option<Box<str>>,
    },
    /// The message is not stored.
    NotStored {
        /// The reason, as a sentence.
        reason: Box<str>,
        /// The context of the request.
        context: Option<Box<str>>,
    },
    /// Whether the topic is terminated and all its messages are delivered.
    EndOfTopic(bool),
    /// The connection's share of a non-persistent topic from now on: every `of`th message, or key,
    /// starting with the `place`th; none when `of` is 0.
    Share {
        /// Its index among the sharers.
        place: u32,
        /// The number of sharers.
        of: u32,
    },
    /// The subscription could not be deleted.
    StillSubscribed,
    /// The connection's new rights do not allow its role.
    Forbidden,
    /// Another connection wants what this one holds: check whether the peer is alive, and answer
    /// [`TopicQuestion::Probed`](super::TopicQuestion::Probed).
    Probe,
    /// The answer to a [`TopicInquiry`](super::TopicInquiry): an HTTP status, and JSON; for an
    /// error status, a sentence.
    Answer(u16, Box<[u8]>),
}

/// Why a connection cannot produce, consume or read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRefusal {
    /// The kind of reason.
    pub cause: Cause,
    /// The reason, as a sentence.
    pub reason: Box<str>,
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A parameter is invalid.
    Invalid,
    /// The topic does not exist or cannot be used.
    NotFound,
    /// Another consumer or producer holds it.
    Busy,
    /// A limit on numbers is reached.
    TooMany,
    /// The backlog quota is exceeded.
    Quota,
    /// The topic is terminated.
    Terminated,
    /// The store is broken.
    Broken,
}

impl Cause {
    /// A refusal with this cause.
    pub(super) fn because(self, reason: &str) -> TopicRefusal {
        TopicRefusal { cause: self, reason: reason.into() }
    }
}

impl From<ArchiveError> for TopicRefusal {
    fn from(error: ArchiveError) -> Self {
        Self { cause: Cause::Broken, reason: error.0 }
    }
}

impl TopicAnswer {
    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Stored { context, .. } => context.as_deref().map_or(0, str::len),
            Self::NotStored { reason, context } => {
                reason.len() + context.as_deref().map_or(0, str::len)
            }
            Self::Refused(refusal) => refusal.reason.len(),
            Self::Answer(_, body) => body.len(),
            _ => 0,
        };
        bytes + size_of::<Self>()
    }
}
