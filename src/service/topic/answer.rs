//! What the owner of the topics says to one connection.

use super::{ArchiveError, MessageId};
use serde::{Deserialize, Serialize};

/// What the owner of the topics says to one connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum TopicAnswer {
    /// It is a producer, consumer or reader now.
    Opened,
    /// It is not, and this is why.
    Refused(TopicRefusal),
    /// This owner admits a consumer of several owners; answered by [`TopicQuestion::Join`](super::TopicQuestion::Join).
    Ready,
    /// The message is stored.
    Stored {
        /// Its id.
        id: MessageId,
        /// The context of the question.
        context: Option<Box<str>>,
    },
    /// The message is not stored.
    NotStored {
        /// The reason, for people.
        reason: Box<str>,
        /// The context of the question.
        context: Option<Box<str>>,
    },
    /// Whether there will be no more messages.
    EndOfTopic(bool),
    /// The share of a non-persistent topic from now on: every `of`th message, or by key, beginning with the `place`th;
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
    /// Another connection wants what this one holds: check whether the peer still lives, and answer
    /// [`TopicQuestion::Probed`](super::TopicQuestion::Probed).
    Probe,
    /// The answer to a [`TopicInquiry`](super::TopicInquiry): an HTTP status, and JSON, or a sentence when the status is
    /// an error's.
    Answer(u16, Box<[u8]>),
}

/// Why a connection cannot produce, consume or read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRefusal {
    /// The kind of reason.
    pub cause: Cause,
    /// The reason, for people.
    pub reason: Box<str>,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Cause {
    /// A refusal for this cause.
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
    /// How much memory it holds, for the bounds of queues.
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
