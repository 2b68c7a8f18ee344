//! Questions from sessions to services, and their answers: plain data, so that a service may run on
//! any thread.

use super::ConnectionRef;
use super::presence::{PresenceAnswer, PresenceQuestion};
use super::topic::{TopicAnswer, TopicQuestion};
use super::verification::{TokenAnswer, TokenQuestion};
use super::webhook::Webhook;
use crate::frame::Publication;
use serde::{Deserialize, Serialize};

/// A question from a connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum Question {
    /// To token verification, on the bridge.
    Token(TokenQuestion),
    /// To presence, on the shard that owns the channel.
    Presence(Box<PresenceQuestion>),
    /// To durable topics, on the store's thread that owns the topic.
    Topic(TopicQuestion),
    /// To webhooks, on the bridge. No answer.
    Webhook(Box<Webhook>),
    /// To the other nodes, through the bridge. No answer. A JSON object, to which the bridge adds
    /// the node's name.
    Relay(Box<str>),
}

/// An answer to a connection.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// From token verification, with the number of the connection's question.
    Token(u32, TokenAnswer),
    /// From presence.
    Presence(PresenceAnswer),
    /// From the owner of a topic.
    Topic(TopicAnswer),
}

impl Question {
    /// Bytes of memory, for the limits of queues.
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
    /// Bytes of memory, for the limits of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Token(..) => size_of::<Self>(),
            Self::Presence(answer) => answer.weight(),
            Self::Topic(answer) => answer.weight(),
        }
    }
}

/// The output of a service, in order.
#[derive(Debug)]
pub enum Effect {
    /// For all subscribers.
    Publication(Publication),
    /// For one connection.
    Answer(ConnectionRef, Answer),
    /// For another service; nothing comes back.
    Ask(Question),
}

/// Answers, each with its receiver.
pub type Answers = Vec<(ConnectionRef, Answer)>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::DialectId;
    use crate::service::presence::{ChannelCounts, ChannelInquiry, PresenceRequest, WantedCounts};
    use crate::service::topic::{MessageId, Position};
    use crate::service::webhook::{Callback, WebhookEvent, WebhookName, WebhookReceipt};
    use crate::token::{Grant, Refusal};

    /// What it is after it was written down and read again, as its `Debug` tells.
    fn again<T: Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(value: &T) -> String {
        let written = serde_json::to_string(value).unwrap();
        let read: T = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
        format!("{read:?}")
    }

    #[test]
    fn questions_to_every_service_can_be_written_down() {
        let presence = |request| {
            let app = "1".into();
            Question::Presence(Box::new(PresenceQuestion { dialect: DialectId(3), app, request }))
        };
        let wanted = WantedCounts { users: true, subscriptions: false, kept: true };
        let (app, subject) = ("1".into(), "room".into());
        let (name, json) = (WebhookName::CacheMiss, "{}".into());
        let receipt = Some(WebhookReceipt { partition: 3, number: 7 });
        let event = WebhookEvent { app, name, subject, json, receipt };
        let client = Some([127, 0, 0, 1].into());
        let (channel, token) = ("chat:1".into(), "a.b.c".into());
        let callback = Callback { channel, token, body: "{}".into(), client };
        for question in [
            Question::Token(TokenQuestion::Verify {
                dialect: DialectId(5),
                attempt: 7,
                token: "t".into(),
            }),
            Question::Token(TokenQuestion::Doubt { attempt: 7 }),
            Question::Token(TokenQuestion::Forget { attempt: 7 }),
            presence(PresenceRequest::Enter("room".into())),
            presence(PresenceRequest::Join {
                channel: "a".into(),
                user: "7".into(),
                info: "null".into(),
            }),
            presence(PresenceRequest::Leave("room".into())),
            presence(PresenceRequest::Miss("cache-a".into())),
            presence(PresenceRequest::Inquire(ChannelInquiry::Batch(vec![
                None,
                Some(("a".into(), wanted)),
            ]))),
            Question::Topic(TopicQuestion::Ack(MessageId {
                position: Position::END,
                partition: Some(2),
            })),
            Question::Webhook(Box::new(Webhook::Event(event))),
            Question::Webhook(Box::new(Webhook::Callback(callback))),
            Question::Relay("{}".into()),
        ] {
            assert_eq!(again(&question), format!("{question:?}"));
        }
    }

    #[test]
    fn answers_of_every_service_can_be_written_down() {
        let serde_json::Value::Object(claims) = serde_json::json!({"sub": "ann"}) else { panic!() };
        let channel = ChannelCounts { name: "a".into(), subscriptions: 3, users: Some(2) };
        for answer in [
            Answer::Token(1, TokenAnswer::Granted(Grant::new(9, claims))),
            Answer::Token(1, TokenAnswer::Refused(Refusal::Expired)),
            Answer::Token(1, TokenAnswer::Revoked),
            Answer::Presence(PresenceAnswer::Present { channel: "a".into(), list: "{}".into() }),
            Answer::Presence(PresenceAnswer::Full("a".into())),
            Answer::Presence(PresenceAnswer::TooLong("a".into())),
            Answer::Presence(PresenceAnswer::Away("a".into())),
            Answer::Presence(PresenceAnswer::Unavailable),
            Answer::Presence(PresenceAnswer::Dismissed),
            Answer::Presence(PresenceAnswer::Channels(vec![channel])),
            Answer::Presence(PresenceAnswer::Users(vec!["7".into()])),
            Answer::Topic(TopicAnswer::Answer(200, b"{}"[..].into())),
        ] {
            assert_eq!(again(&answer), format!("{answer:?}"));
        }
    }
}
