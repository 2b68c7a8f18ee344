//! What leaves the owner of the topics: answers, and messages with their recipients.

use super::{StoredMessage, TopicAnswer, TopicQuestion};
use crate::service::ConnectionRef;
use std::sync::Arc;

/// What leaves the owner of the topics, in order.
#[derive(Debug)]
pub enum TopicOutgoing {
    /// An answer.
    Reply(ConnectionRef, TopicAnswer),
    /// A message.
    Deliver(Arc<StoredMessage>, Recipient),
    /// A question to the owner with this index.
    Ask(usize, ConnectionRef, TopicQuestion),
}

/// A message on its way to connections of one shard.
#[derive(Debug)]
pub struct TopicDelivery {
    /// The message.
    pub message: Arc<StoredMessage>,
    /// Its recipients.
    pub recipients: Vec<Recipient>,
}

/// A connection that gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The connection.
    pub connection: ConnectionRef,
    /// How often it came before.
    pub redeliveries: u32,
    /// The partition in the message's id, by which the recipient's acknowledgement finds it again.
    pub partition: Option<u32>,
    /// Whether [`TopicQuestion::Took`] is to follow when it has left: nothing more comes before.
    pub wants_receipt: bool,
}

impl TopicDelivery {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.message.len() + self.recipients.len() * size_of::<Recipient>() + size_of::<Self>()
    }
}
