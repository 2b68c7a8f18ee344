//! The roles of connections, their state, and the errors when a role is refused.

use super::delivery;
use super::params::ParamError;
use super::path::ApiVersion;
use super::producer::{self, ProducerMessage, SenderDefaults, Unsendable};
use super::volatile::{self, VolatileListener};
use crate::dialect::{Action, Actions, Context};
use crate::service::Question;
use crate::service::topic::{Cause, TopicDomain, TopicName, TopicQuestion};
use serde::{Deserialize, Serialize};

/// The role of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PulsarRole {
    PingPong,
    Producer,
    Consumer,
    Reader,
}

impl PulsarRole {
    /// The first version's close when a role is refused, and every version's, with a reason, when
    /// it is lost.
    pub(super) fn failed(self) -> (u16, &'static str) {
        match self {
            Self::Producer => (4001, "Failed to create producer"),
            _ => (4002, "Failed to subscribe"),
        }
    }

    pub(super) fn failed_because(self, reason: &str) -> String {
        let what = match self {
            Self::Producer => "producer",
            Self::Reader => "reader",
            Self::Consumer | Self::PingPong => "consumer",
        };
        format!("Failed to create {what}: {reason}")
    }
}

/// The state of a role. A consumer or reader of a persistent topic has none.
pub(super) enum RoleState {
    None,
    /// A consumer in pull mode.
    Pull,
    /// The question for the owner, or what is wrong with it, and the state to follow. Until the
    /// owner has answered.
    Wish(Box<PulsarWish>),
    Producer(Box<ProducerState>),
    Listener(Box<VolatileListener>),
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ProducerState {
    pub(super) topic: TopicName,
    /// The name that it has chosen.
    pub(super) name: Option<Box<str>>,
    /// The keys with which its clients encrypt.
    pub(super) encryption: Option<Box<str>>,
    /// Number of messages sent to a non-persistent topic.
    pub(super) sent: u64,
}

/// The question for the owner of the topics, and the session's state when it is granted.
pub(super) struct PulsarWish {
    /// The question, or what is wrong with it. `None` once it was asked.
    pub(super) request: Option<Result<TopicQuestion, ParamError>>,
    /// The state of the role then.
    pub(super) then: RoleState,
}

impl PulsarWish {
    pub(super) fn none(reason: ParamError) -> Self {
        Self { request: Some(Err(reason)), then: RoleState::None }
    }
}

impl ProducerState {
    /// Sends a message, or returns the token that the message is instead.
    pub(super) fn send(
        &mut self,
        text: &str,
        version: ApiVersion,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) -> Option<Option<Box<str>>> {
        let sender =
            SenderDefaults { name: self.name.as_deref(), encryption: self.encryption.as_deref() };
        match producer::read(text, sender, context.now.unix_ms) {
            Ok(ProducerMessage::Message(draft, name))
                if self.topic.domain() == TopicDomain::Persistent =>
            {
                // Acknowledged when the owner says that it is stored.
                out.ask(Question::Topic(TopicQuestion::Send { draft, context: name }));
            }
            Ok(ProducerMessage::Message(message, name)) => {
                self.sent += 1;
                let (draft, now) = (&mut *context.draft, context.now);
                let publication =
                    volatile::publication(&self.topic, &message, self.sent, draft, now);
                // Nothing is stored, so the acknowledgement is immediate.
                out.push(Action::Publish(Box::new(publication)));
                out.send(|out| delivery::put_ack(volatile::ID, name.as_deref(), version, out));
            }
            Ok(ProducerMessage::Token(token)) => return Some(token),
            Err(Unsendable { error, reason, context: name }) => {
                out.send(|out| delivery::put_error(error, &reason, name.as_deref(), version, out));
            }
        }
        None
    }
}

/// The HTTP status for the cause of a refusal.
pub(super) fn status_of(cause: Cause) -> u16 {
    match cause {
        Cause::Invalid => 400,
        Cause::NotFound => 404,
        Cause::Busy => 409,
        Cause::TooMany => 429,
        Cause::Quota | Cause::Terminated => 503,
        Cause::Broken => 500,
    }
}
