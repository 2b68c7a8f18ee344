//! What sessions ask of services, and what they are answered: plain data, so that a service may live anywhere.

use super::ConnectionRef;
use super::presence::{PresenceAnswer, PresenceQuestion};
use super::topic::{TopicAnswer, TopicQuestion};
use super::verification::{TokenAnswer, TokenQuestion};
use super::webhook::Webhook;
use crate::frame::Publication;

/// A question of a connection.
#[derive(Debug)]
pub enum Question {
    /// To the verification of tokens, on the bridge.
    Token(TokenQuestion),
    /// To the presence of an app, on the shard that owns the channel.
    Presence(Box<PresenceQuestion>),
    /// To the owner of a topic, on the store's thread.
    Topic(TopicQuestion),
    /// To the webhooks, on the bridge. Fire and forget.
    Webhook(Box<Webhook>),
    /// To the other nodes, by the bridge. Fire and forget. The text is a JSON object, to which the node's name is
    /// added.
    Relay(Box<str>),
}

/// An answer to a connection.
#[derive(Debug)]
pub enum Answer {
    /// Of the verification of tokens, to the question of the connection that has this number.
    Token(u32, TokenAnswer),
    /// Of the presence of an app.
    Presence(PresenceAnswer),
    /// Of the owner of a topic.
    Topic(TopicAnswer),
}

impl Question {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Token(TokenQuestion::Verify { token, .. }) => token.len(),
                Self::Token(_) => 0,
                Self::Presence(question) => question.weight(),
                Self::Topic(question) => question.weight(),
                Self::Webhook(webhook) => webhook.weight(),
                Self::Relay(text) => text.len(),
            }
    }
}

impl Answer {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Token(..) => size_of::<Self>(),
            Self::Presence(answer) => answer.weight(),
            Self::Topic(answer) => answer.weight(),
        }
    }
}

/// What a service says, in order.
#[derive(Debug)]
pub enum Effect {
    /// For everybody who is subscribed.
    Publication(Publication),
    /// For one connection.
    Answer(ConnectionRef, Answer),
    /// For another service; nothing comes back.
    Ask(Question),
}

/// Answers, each with the connection that it is for.
pub type Answers = Vec<(ConnectionRef, Answer)>;
