//! The output of the owner of the topics: answers, and messages with their recipients.

use super::{StoredMessage, TopicAnswer, TopicQuestion};
use crate::service::ConnectionRef;
use std::sync::Arc;

/// An output of the owner of the topics, in order.
#[derive(Debug)]
pub enum TopicOutgoing {
    /// An answer to a connection.
    Reply(ConnectionRef, TopicAnswer),
    /// A message for one recipient.
    Deliver(Arc<StoredMessage>, Recipient),
    /// A question to the owner with this index, on behalf of a connection.
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

/// A connection that receives a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The connection.
    pub connection: ConnectionRef,
    /// How often the message was delivered to this subscription before.
    pub redeliveries: u32,
    /// The partition in the message id; an acknowledgement returns it, which identifies the source.
    pub partition: Option<u32>,
    /// Whether the shard answers [`TopicQuestion::Took`] once the message is sent; no more messages
    /// come before that.
    pub wants_receipt: bool,
}

impl TopicDelivery {
    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.message.len() + self.recipients.len() * size_of::<Recipient>() + size_of::<Self>()
    }
}
