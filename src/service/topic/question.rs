//! Requests of connections to the owner of the topics.

use super::{
    ConsumerOptions, MessageDraft, MessageId, ProducerOptions, ReaderOptions, Right, Rights,
    TopicInquiry, TopicName,
};
use serde::{Deserialize, Serialize};

/// A request of a connection to the owner of the topics. A connection's first request is `Produce`,
/// `Consume` or `Read`, apart from `Append` and `Inquire`, which need no role.
///
/// [`TopicAnswer`](super::TopicAnswer) defines the answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum TopicQuestion {
    /// Become a producer; answered by `Opened` or `Refused`.
    Produce(Box<ProducerOptions>),
    /// Become a consumer; answered likewise, and then by deliveries.
    Consume(Box<ConsumerOptions>),
    /// Become a reader; answered likewise, and then by deliveries.
    Read(Box<ReaderOptions>),
    /// Store a producer's message; answered by `Stored` or `NotStored`, in the order of the
    /// requests.
    Send {
        /// The message.
        draft: MessageDraft,
        /// Returned with the answer.
        context: Option<Box<str>>,
    },
    /// Store a feed's message in this topic; answered like `Send`.
    Append(TopicName, MessageDraft),
    /// Acknowledge a message.
    Ack(MessageId),
    /// Acknowledge a message negatively: it is redelivered.
    Nack(MessageId),
    /// Request this many more messages; for consumers that pull.
    Permit(u32),
    /// Delete the subscription. The connection stays open, and receives nothing more.
    Unsubscribe,
    /// Ask whether all messages of terminated topics were received; answered by `EndOfTopic`.
    AskEnd,
    /// Everything delivered so far has been sent to the client, including the delivery with
    /// [`Recipient::wants_receipt`](super::Recipient::wants_receipt).
    Took,
    /// Replace the connection's rights. Answered by `Forbidden` if they do not allow its role.
    Renew(Box<Rights>),
    /// The answer to `Probe`. Not sent for a connection that was already reported gone.
    Probed {
        /// Whether the peer has closed, so that [`TopicQuestion::Gone`] follows.
        is_closing: bool,
    },
    /// The connection is gone. Its last request.
    Gone,
    /// After `Ready`: join the subscription now.
    Join,
    /// This owner's turn to deliver to a consumer of several owners.
    Turn,
    /// Another owner's answer about a dead letter.
    Buried {
        /// Whether it is stored.
        is_stored: bool,
    },
    /// A query about topics, or a change to one; answered by `Answer`.
    Inquire(Box<TopicInquiry>),
}

impl TopicQuestion {
    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Send { draft, context } => draft.len() + context.as_deref().map_or(0, str::len),
            Self::Append(_, draft) => draft.len(),
            Self::Produce(_) | Self::Consume(_) | Self::Read(_) | Self::Inquire(_) => 1024,
            _ => 0,
        };
        bytes + size_of::<Self>()
    }

    /// Whether the rights allow a connection's first request. For a pattern, they have to reach its
    /// namespace; topics that they do not allow are left out.
    #[must_use]
    pub fn is_allowed(&self, rights: &Rights) -> bool {
        match self {
            Self::Produce(options) => rights.allow(Right::Produce, &options.topic),
            Self::Consume(options) => {
                options.topics.are_allowed(rights)
                    && rights.allow_dead_letters(options.dead_letters.as_ref())
            }
            Self::Read(options) => rights.allow(Right::Read, &options.topic),
            _ => true,
        }
    }
}
