//! Why no messages come, and what the operator can do about it.
//!
//! All texts end in logs, so none contains the password.

use super::Bus;
use crate::text::excerpt;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};
use std::io;

/// Characters quoted from a broker's or the library's messages.
const WORDS_MAX: usize = 300;

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmqpStep {
    /// Connecting and logging in.
    Connect,
    /// Declaring the exchange.
    Exchange,
    /// Declaring the queue, binding it to the exchange and consuming from it.
    Queue,
    /// Taking messages.
    Consume,
}

/// Why no messages come.
#[derive(Debug)]
pub(super) enum AmqpFault {
    /// The broker is silent.
    Mute,
    /// The broker has ended the consumer.
    Cancelled,
    /// Any error of the client.
    Amqp(AmqpStep, Error),
}

impl AmqpFault {
    pub(super) fn at(step: AmqpStep) -> impl FnOnce(Error) -> Self {
        move |error| Self::Amqp(step, error)
    }

    /// The problem and what to do, in one line.
    pub(super) fn advice(&self, bus: &Bus) -> String {
        let place = format!("{}:{}", bus.broker.host(), bus.broker.port());
        let (step, error) = match self {
            Self::Mute => {
                return format!(
                    "{place} accepts connections but sends nothing: is it RabbitMQ, and is {} \
                     right for this port (feed.amqp.url)?",
                    if bus.trust.is_some() { "amqps" } else { "amqp" }
                );
            }
            Self::Cancelled => {
                return "the broker has ended our consumer: our queue was deleted, or its node is \
                        gone"
                    .into();
            }
            Self::Amqp(step, error) => (*step, error),
        };

        let words = excerpt(&error.to_string(), WORDS_MAX);
        // The client reports most failures as I/O errors; what they mean depends on how far it got.
        match error.kind() {
            ErrorKind::IOError(error) if step == AmqpStep::Connect => {
                unreachable(error, &place, &words)
            }
            ErrorKind::IOError(_) => format!("the connection to {place} was lost ({words})"),
            ErrorKind::MissingHeartbeatError => {
                format!("the broker at {place} has been silent for 20 s")
            }
            ErrorKind::ProtocolError(error) => refused(step, error.kind(), bus, &words),
            _ => format!("{place}: {words}"),
        }
    }
}

fn unreachable(error: &io::Error, place: &str, words: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens at {place}: start RabbitMQ, or correct feed.amqp.url")
        }
        io::ErrorKind::TimedOut => {
            format!("{place} cannot be reached: correct feed.amqp.url, or open the firewall for it")
        }
        io::ErrorKind::InvalidData => format!(
            "no TLS with {place} ({words}): correct the port in feed.amqp.url, or set \
             feed.amqp.ca_file to the certificate of the authority that signed the broker's"
        ),
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => {
            format!(
                "{place} has closed the connection at once ({words}): is RabbitMQ just starting \
                 or stopping, or does TLS have another port (feed.amqp.url)?"
            )
        }
        _ => format!("{place} cannot be reached ({words}): correct the host in feed.amqp.url"),
    }
}

fn refused(step: AmqpStep, kind: &AMQPErrorKind, bus: &Bus, words: &str) -> String {
    let exchange = &bus.settings.exchange;
    // RabbitMQ answers a wrong password and a missing permission with one code; the step tells them
    // apart.
    match (step, kind) {
        (AmqpStep::Connect, AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            "the broker refuses the user or the password: correct feed.amqp.url, or the user by \
             `rabbitmqctl add_user` or `change_password`"
                .into()
        }
        (AmqpStep::Connect, AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => format!(
            "the broker has no virtual host {vhost:?}, or none for this user: correct \
             feed.amqp.url, or see `rabbitmqctl add_vhost` and `set_permissions`",
            vhost = bus.broker.vhost()
        ),
        (_, AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => format!(
            "the user lacks permissions in {:?}: `rabbitmqctl set_permissions` has to let it \
             configure {exchange:?} and \"amq.gen.*\", write \"amq.gen.*\" and read both \
             ({words})",
            bus.broker.vhost()
        ),
        (AmqpStep::Exchange, AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => format!(
            "the exchange {exchange:?} is of another kind: set feed.amqp.exchange and \
             exchange_type to those that Wazo publishes on ({words})"
        ),
        (_, AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED)) => {
            format!(
                "the broker has closed the connection, because it stops or by an operator \
                 ({words})"
            )
        }
        _ => format!("the broker refuses: {words}"),
    }
}
