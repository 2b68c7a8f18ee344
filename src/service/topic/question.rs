//! What connections ask of the owner of the topics.

use super::{
    ConsumerOptions, MessageDraft, MessageId, ProducerOptions, ReaderOptions, Right, Rights,
    TopicInquiry, TopicName,
};
use serde::{Deserialize, Serialize};

/// What a connection asks of the owner of the topics. The first question of a connection is one of the first three.
///
/// [`TopicAnswer`](super::TopicAnswer) has the answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum TopicQuestion {
    /// To be a producer; answered by `Opened` or `Refused`.
    Produce(Box<ProducerOptions>),
    /// To be a consumer; answered likewise, and then by deliveries.
    Consume(Box<ConsumerOptions>),
    /// To be a reader; answered likewise, and then by deliveries.
    Read(Box<ReaderOptions>),
    /// A producer's message; answered by `Stored` or `NotStored`, in the order of the questions.
    Send {
        /// The message.
        draft: MessageDraft,
        /// Comes back with the answer.
        context: Option<Box<str>>,
    },
    /// A feed's message for this topic; answered as a producer's. It needs no question before it.
    Append(TopicName, MessageDraft),
    /// Acknowledges a message.
    Ack(MessageId),
    /// Acknowledges a message negatively: it is redelivered.
    Nack(MessageId),
    /// Asks for so many messages more; for consumers that pull.
    Permit(u32),
    /// Deletes the subscription. The connection stays, and gets nothing more.
    Unsubscribe,
    /// Whether there will be more messages; answered by `EndOfTopic`.
    AskEnd,
    /// Everything delivered so far has left, including the delivery that had
    /// [`Recipient::wants_receipt`](super::Recipient::wants_receipt).
    Took,
    /// Replaces the connection's rights. Answered by `Forbidden` if what it does is not among the new ones.
    Renew(Box<Rights>),
    /// The answer to `Probe`: whether the peer has sent its last, so that [`TopicQuestion::Gone`] follows. Not sent for a
    /// connection whose end was told.
    Probed {
        /// Whether it has.
        is_closing: bool,
    },
    /// The connection is over. The last question.
    Gone,
    /// After `Ready`: enter the subscription now.
    Join,
    /// It is this owner's turn to deliver to a consumer of several owners.
    Turn,
    /// The outcome of a dead letter that this owner has sent to another.
    Buried {
        /// Whether it is stored there.
        is_stored: bool,
    },
    /// A question about topics, or a change of one; answered by `Answer`.
    Inquire(Box<TopicInquiry>),
}

impl TopicQuestion {
    /// How much memory it holds, for the bounds of queues.
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

    /// Whether rights allow the first question of a connection. A pattern stands for those of its topics that may be
    /// consumed, and needs a namespace where there can be some.
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
