//! The RabbitMQ feed's settings, and what a message of the bus means.
//!
//! Wazo publishes its events on an exchange. On the headers exchange of today a message's headers say its
//! name, the right that reading it takes, and whom it is for, and its body is passed on as it is; on the
//! topic exchange of old the body says all of that. A message that is no event is refused: whoever reads the
//! bus counts and acknowledges it, since it would be no better the next time.
//!
//! This file does not know how messages come: headers and bytes go in, publications come out.

mod broker;
mod message;
mod screen;

pub use self::broker::AmqpBroker;
pub use self::message::{AmqpHeader, AmqpMessage};
pub use self::screen::{REFUSED, Screen};

use std::fmt;
use std::path::PathBuf;

/// Longest body, in bytes: as long as a line of the unix feed may be.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The table `[feed.amqp]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmqpFeedSettings {
    /// Where the broker is, and who asks; no feed without it or `url_file`.
    pub url: Option<Url>,
    /// The file that holds it.
    pub url_file: Option<PathBuf>,
    /// The exchange that events are published on. It is declared if it does not exist.
    pub exchange: String,
    /// What is read where.
    pub exchange_type: ExchangeType,
    /// Only events of this Wazo; all that the exchange has without it.
    pub origin_uuid: Option<String>,
    /// Messages that the broker sends ahead of their acknowledgement.
    pub prefetch: u16,
    /// Whoever has signed the broker's certificate, in PEM; whom the system trusts without it.
    pub ca_file: Option<PathBuf>,
    /// What becomes of sessions while the broker is away.
    pub on_bus_loss: OnBusLoss,
}

impl Default for AmqpFeedSettings {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            exchange: "wazo-headers".into(),
            exchange_type: ExchangeType::Headers,
            origin_uuid: None,
            prefetch: 250,
            ca_file: None,
            on_bus_loss: OnBusLoss::Close,
        }
    }
}

impl AmqpFeedSettings {
    /// What cannot run, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.url.is_some() && self.url_file.is_some() {
            problems.push("feed.amqp: url and url_file are two addresses: write one".into());
        }
        // An unlimited number of messages ahead would be held in memory.
        if self.prefetch == 0 {
            problems.push("feed.amqp.prefetch = 0 means without limit to a broker: write at least 1".into());
        }
        if !(1..=NAME_BYTES_MAX).contains(&self.exchange.len()) {
            problems.push(format!("feed.amqp.exchange: a name has 1 to {NAME_BYTES_MAX} bytes"));
        }
        if self.origin_uuid.is_some() && self.exchange_type == ExchangeType::Topic {
            problems.push(
                "feed.amqp.origin_uuid: a topic exchange cannot select by it; leave it out, or set exchange_type = \
                 \"headers\""
                    .into(),
            );
        }
        problems
    }
}

/// What AMQP 0-9-1 allows for the name of an exchange.
const NAME_BYTES_MAX: usize = 127;

/// How the exchange routes, and so where an event's name and rights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeType {
    /// In the headers.
    Headers,
    /// In the body.
    Topic,
}

impl ExchangeType {
    /// The name that AMQP and the configuration use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Topic => "topic",
        }
    }
}

/// What becomes of sessions while the broker is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBusLoss {
    /// They are closed, so that clients know that they have missed something, and new ones too.
    Close,
    /// They stay, and miss what was published meanwhile.
    Keep,
}

/// A broker's address as it was written, which has a password in it.
#[derive(Clone, serde::Deserialize)]
#[serde(transparent)]
pub struct Url(pub String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        assert_eq!(AmqpFeedSettings::default().problems(), Vec::<String>::new());
        let all_wrong = AmqpFeedSettings {
            url: Some(Url("amqp://host".into())),
            url_file: Some("file".into()),
            exchange: String::new(),
            exchange_type: ExchangeType::Topic,
            origin_uuid: Some("uuid".into()),
            prefetch: 0,
            ..AmqpFeedSettings::default()
        };
        let problems = all_wrong.problems();
        for (problem, about) in problems.iter().zip(["url_file", "prefetch = 0", "1 to 127", "origin_uuid"]) {
            assert!(problem.contains(about), "{problem}");
        }
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn an_address_is_not_shown() {
        let settings = AmqpFeedSettings {
            url: Some(Url("amqp://wazo:hunter2@host".into())),
            ..AmqpFeedSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
