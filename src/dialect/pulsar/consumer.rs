//! Messages of consumers and readers: mostly acknowledgements.

use super::jackson::{self, JacksonError};
use super::role::RoleState;
use super::{BAD_JSON, Pulsar, credentials};
use crate::dialect::{Actions, Context};
use crate::service::Question;
use crate::service::topic::{MessageId, Position, TopicQuestion};

/// A consumer's request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConsumerCommand {
    /// Acknowledges a message; or why this is not a message's id.
    Ack(Result<MessageId, &'static str>),
    /// Asks for a message again; likewise.
    Nack(Result<MessageId, &'static str>),
    /// Permits this many more messages.
    Permit(u32),
    /// Ends the subscription.
    Unsubscribe,
    /// Asks whether there will be more messages.
    AskEnd,
    /// The next token; see `credentials`. `None` when the message has none.
    Renew(Option<Box<str>>),
}

impl ConsumerCommand {
    /// Reads a command.
    pub(super) fn read(text: &str) -> Result<Self, JacksonError> {
        let (mut kind, mut id, mut permits, mut auth_response) = (None, None, None, None);
        jackson::each(text, |key, value| {
            match &*key {
                "type" => kind = jackson::text(&key, value)?,
                "messageId" => id = jackson::text(&key, value)?,
                "permitMessages" => permits = jackson::integer(&key, value)?,
                "authResponse" => auth_response = Some(value),
                _ => {}
            }
            Ok(())
        })?;

        let id = || id.as_deref().map_or(Err("the message has no messageId"), MessageId::read);
        Ok(match kind.as_deref() {
            Some("permit") => {
                let permits = permits.and_then(|permits| i32::try_from(permits).ok());
                let permits =
                    permits.ok_or("Missing required permitMessages field for 'permit' command")?;
                // Negative permits, which would take some back, have no effect.
                Self::Permit(permits.max(0).unsigned_abs())
            }
            Some("unsubscribe") => Self::Unsubscribe,
            Some("negativeAcknowledge") => Self::Nack(id()),
            Some("isEndOfTopic") => Self::AskEnd,
            Some(credentials::RESPONSE) => {
                Self::Renew(auth_response.map(credentials::renewal).transpose()?.flatten())
            }
            // Anything else is an acknowledgement, as in the reference, whatever its type says.
            _ => Self::Ack(id()),
        })
    }
}

impl Pulsar {
    /// Handles a consumer's message.
    pub(super) fn command(&mut self, text: &str, context: &Context<'_>, out: &mut Actions) {
        let Ok(command) = ConsumerCommand::read(text) else { return out.push(BAD_JSON) };
        let asked = match (&self.part, command) {
            // An id that cannot be read is a server error (1011), as in the reference.
            (_, ConsumerCommand::Ack(Err(reason)) | ConsumerCommand::Nack(Err(reason))) => {
                return out.close_saying(1011, reason);
            }
            (RoleState::Listener(listener), ConsumerCommand::Ack(_) | ConsumerCommand::Nack(_)) => {
                return listener.free();
            }
            (_, ConsumerCommand::Ack(Ok(id))) => TopicQuestion::Ack(id),
            (_, ConsumerCommand::Nack(Ok(id))) => TopicQuestion::Nack(id),
            (RoleState::Listener(listener), ConsumerCommand::Permit(permits)) => {
                return listener.permit(permits);
            }
            (RoleState::Pull, ConsumerCommand::Permit(permits)) if permits > 0 => {
                TopicQuestion::Permit(permits)
            }
            // In push mode there is nothing to ask for.
            (_, ConsumerCommand::Permit(_)) => return,
            (_, ConsumerCommand::Unsubscribe) => {
                // No more messages of a subscription that is about to end.
                self.silence(out);
                TopicQuestion::Unsubscribe
            }
            (_, ConsumerCommand::AskEnd) => TopicQuestion::AskEnd,
            (_, ConsumerCommand::Renew(token)) => {
                return self.hand_in(token.as_deref(), context, out);
            }
        };
        out.ask(Question::Topic(asked));
    }

    /// Handles a reader's message: any of them makes room for another message.
    pub(super) fn read_on(&mut self, text: &str, context: &Context<'_>, out: &mut Actions) {
        let asked = match (&self.part, ConsumerCommand::read(text)) {
            (_, Err(_)) => return out.push(BAD_JSON),
            (_, Ok(ConsumerCommand::Renew(token))) => {
                return self.hand_in(token.as_deref(), context, out);
            }
            (_, Ok(ConsumerCommand::AskEnd)) => TopicQuestion::AskEnd,
            (RoleState::Listener(listener), Ok(_)) => return listener.free(),
            (_, Ok(ConsumerCommand::Ack(Ok(id)) | ConsumerCommand::Nack(Ok(id)))) => {
                TopicQuestion::Ack(id)
            }
            // Readers keep no position: only the room for another message counts.
            (_, Ok(_)) => {
                TopicQuestion::Ack(MessageId { position: Position::END, partition: None })
            }
        };
        out.ask(Question::Topic(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_has_no_known_type_is_an_acknowledgement() {
        let id = || Ok(MessageId::read("CAAQAw==").unwrap());
        for (text, expected) in [
            (r#"{"messageId" : "CAAQAw=="}"#, ConsumerCommand::Ack(id())),
            (r#"{"type":"ack","messageId":"CAAQAzAA"}"#, ConsumerCommand::Ack(id())),
            (r#"{"type":5,"messageId":"CAAQAw","x":{}}"#, ConsumerCommand::Ack(id())),
            (
                r#"{"type":"negativeAcknowledge","messageId":"CAAQAw=="}"#,
                ConsumerCommand::Nack(id()),
            ),
            (r#"{"type":"permit","permitMessages":100}"#, ConsumerCommand::Permit(100)),
            (r#"{"type":"permit","permitMessages":"5"}"#, ConsumerCommand::Permit(5)),
            (r#"{"type":"permit","permitMessages":-5}"#, ConsumerCommand::Permit(0)),
            (
                r#"{"type":"permit","permitMessages":2147483647}"#,
                ConsumerCommand::Permit(i32::MAX as u32),
            ),
            (r#"{"type":"unsubscribe"}"#, ConsumerCommand::Unsubscribe),
            (r#"{"type":"isEndOfTopic"}"#, ConsumerCommand::AskEnd),
            (
                r#"{"type":"AUTH_RESPONSE","authResponse":{"response":{"authData":"a"}}}"#,
                ConsumerCommand::Renew(Some("a".into())),
            ),
            (r#"{"type":"AUTH_RESPONSE"}"#, ConsumerCommand::Renew(None)),
            (r#"{"messageId":"CAAQAw==","authResponse":5}"#, ConsumerCommand::Ack(id())),
        ] {
            assert_eq!(ConsumerCommand::read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_a_bad_id() {
        for text in [
            "",
            "null",
            "{",
            r#"{"messageId":{}}"#,
            r#"{"type":"permit"}"#,
            r#"{"type":"permit","permitMessages":null}"#,
            r#"{"type":"permit","permitMessages":true}"#,
            r#"{"type":"permit","permitMessages":2147483648}"#,
            r#"{"type":"AUTH_RESPONSE","authResponse":5}"#,
        ] {
            assert!(ConsumerCommand::read(text).is_err(), "{text}");
        }
        for text in [
            r"{}",
            r#"{"messageId":null}"#,
            r#"{"messageId":"!"}"#,
            r#"{"messageId":5}"#,
            r#"{"messageId":""}"#,
        ] {
            assert!(
                matches!(ConsumerCommand::read(text), Ok(ConsumerCommand::Ack(Err(_)))),
                "{text}"
            );
        }
    }
}
