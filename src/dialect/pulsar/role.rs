//! What a connection is for, what it has for that, and what it is told when that cannot be.

use super::delivery;
use super::params::ParamError;
use super::path::ApiVersion;
use super::producer::{self, ProducerMessage, SenderDefaults, Unsendable};
use super::volatile::{self, VolatileListener};
use crate::dialect::{Action, Actions, Context};
use crate::service::Question;
use crate::service::topic::{Cause, TopicDomain, TopicName, TopicQuestion};

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PulsarRole {
    PingPong,
    Producer,
    Consumer,
    Reader,
}

impl PulsarRole {
    /// What the first version says when there can be none, and all say, with a reason, when there can be none any more.
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

/// What belongs to a role. A consumer or reader of a persistent topic has nothing to keep.
pub(super) enum RoleState {
    None,
    /// It pulls.
    Pull,
    /// What is to be asked, or what is wrong with it, and what comes of it. Until the owner has answered.
    Wish(Box<PulsarWish>),
    Producer(Box<ProducerState>),
    Listener(Box<VolatileListener>),
}

pub(super) struct ProducerState {
    pub(super) topic: TopicName,
    /// The name that it has given itself.
    pub(super) name: Option<Box<str>>,
    /// The keys with which its clients encrypt.
    pub(super) encryption: Option<Box<str>>,
    /// Messages that were sent to a topic that is not persistent.
    pub(super) sent: u64,
}

/// What is to be asked of the owner of the topics, and what the session has when it has agreed.
pub(super) struct PulsarWish {
    /// What is to be asked, or what is wrong with it. Until it was asked.
    pub(super) request: Option<Result<TopicQuestion, ParamError>>,
    /// What belongs to the role then.
    pub(super) then: RoleState,
}

impl PulsarWish {
    pub(super) fn none(reason: ParamError) -> Self {
        Self { request: Some(Err(reason)), then: RoleState::None }
    }
}

impl ProducerState {
    /// Sends a message, or returns the token that there is in the place of one.
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
                out.ask(Question::Topic(TopicQuestion::Send { draft, context: name }));
            }
            Ok(ProducerMessage::Message(message, name)) => {
                self.sent += 1;
                let (draft, now) = (&mut *context.draft, context.now);
                let publication =
                    volatile::publication(&self.topic, &message, self.sent, draft, now);
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

/// The HTTP status for what stands in the way.
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
