//! Why no messages come, and what whoever runs the daemon can do about it.
//!
//! What is said ends in logs, so the password is not in it.

use super::Bus;
use crate::text::excerpt;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};
use std::io;

/// Characters of a broker's or a library's own words that are passed on.
const WORDS_MAX: usize = 300;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmqpStep {
    /// Connecting, and telling who we are.
    Connect,
    /// Declaring the exchange.
    Exchange,
    /// Declaring our queue, binding it to the exchange and asking for its messages.
    Queue,
    /// Taking messages.
    Consume,
}

/// Why no messages come.
#[derive(Debug)]
pub(super) enum AmqpFault {
    /// The broker says nothing.
    Mute,
    /// The broker has ended the consumer.
    Cancelled,
    /// Anything that the client reports.
    Amqp(AmqpStep, Error),
}

impl AmqpFault {
    pub(super) fn at(step: AmqpStep) -> impl FnOnce(Error) -> Self {
        move |error| Self::Amqp(step, error)
    }

    /// What is wrong and what to do, in one line.
    pub(super) fn advice(&self, bus: &Bus) -> String {
        let place = format!("{}:{}", bus.broker.host(), bus.broker.port());
        let (step, error) = match self {
            Self::Mute => {
                return format!(
                    "whoever listens at {place} takes connections but says nothing: is it RabbitMQ, and does {} go \
                     to the right one of its ports (feed.amqp.url)?",
                    if bus.trust.is_some() { "amqps" } else { "amqp" }
                );
            }
            Self::Cancelled => {
                return "the broker has ended our consumer: somebody has deleted our queue, or the node that had \
                        it is gone"
                    .into();
            }
            Self::Amqp(step, error) => (*step, error),
        };
        let words = excerpt(&error.to_string(), WORDS_MAX);
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
            format!("nobody listens at {place}: start RabbitMQ, or correct feed.amqp.url")
        }
        io::ErrorKind::TimedOut => {
            format!(
                "{place} cannot be reached: correct feed.amqp.url, or let a firewall between pass it"
            )
        }
        io::ErrorKind::InvalidData => format!(
            "no TLS with {place} ({words}): correct the port in feed.amqp.url, or name whoever has signed the \
             broker's certificate in feed.amqp.ca_file"
        ),
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => {
            format!(
                "{place} has ended the connection at once ({words}): is RabbitMQ just starting or stopping, and is \
                 its port for TLS another one (feed.amqp.url)?"
            )
        }
        _ => format!("{place} cannot be reached ({words}): correct the host in feed.amqp.url"),
    }
}

fn refused(step: AmqpStep, kind: &AMQPErrorKind, bus: &Bus, words: &str) -> String {
    let exchange = &bus.settings.exchange;
    match (step, kind) {
        (AmqpStep::Connect, AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            "the broker refuses the user or the password: correct feed.amqp.url, or the user by `rabbitmqctl \
             add_user` or `change_password`"
                .into()
        }
        (AmqpStep::Connect, AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => format!(
            "the broker has no virtual host {vhost:?}, or none for this user: correct feed.amqp.url, or see \
             `rabbitmqctl add_vhost` and `set_permissions`",
            vhost = bus.broker.vhost()
        ),
        (_, AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => format!(
            "the user may not do what is needed in {:?}: `rabbitmqctl set_permissions` has to let it configure \
             {exchange:?} and \"amq.gen.*\", write \"amq.gen.*\" and read both ({words})",
            bus.broker.vhost()
        ),
        (AmqpStep::Exchange, AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => format!(
            "the exchange {exchange:?} is of another kind: set feed.amqp.exchange and exchange_type to those that \
             Wazo publishes on ({words})"
        ),
        (_, AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED)) => {
            format!("the broker has ended the connection, it stops or an operator said so ({words})")
        }
        _ => format!("the broker refuses: {words}"),
    }
}
