//! The RabbitMQ feed's settings, and the meaning of a message of the bus.
//!
//! An application publishes its events on an exchange. On a headers exchange the receivers of a
//! message are in its headers, on a topic exchange in its body; the dialect that the bus feeds
//! reads both. A message that is not an event is refused, counted and acknowledged: delivered
//! again, it would be no better.
//!
//! No connections here: headers and bytes go in, publications come out.

mod broker;
mod message;
mod screen;

pub use self::broker::AmqpBroker;
pub(super) use self::message::check;
pub use self::screen::{REFUSED, Screen};

use crate::setting::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Longest body, in bytes: as long as a line of the unix feed may be.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The RabbitMQ of a Wazo, whose events go to the clients of the dialect wazo. Messages are
/// acknowledged when every shard has them; while one lags, the broker keeps them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AmqpFeedSettings {
    /// The broker's URL; without it there is no feed. For TLS use amqps://. The user needs
    /// permission (rabbitmqctl set_permissions) to configure the exchange and "amq.gen.*", to write
    /// "amq.gen.*" and to read both. For a broker whose frame_max is above RabbitMQ's 131072,
    /// append ?frame_max= with that number (at most 1048576): a message with longer headers is
    /// dropped.
    #[schemars(example = &"amqp://fanfare:password@127.0.0.1:5672/")]
    pub url: Option<Secret>,
    /// A file that holds the URL, which keeps the password out of this one.
    #[schemars(example = &"/etc/fanfare/amqp.url")]
    pub url_file: Option<PathBuf>,
    /// The exchange that Wazo publishes on. It is declared if it does not exist.
    pub exchange: String,
    /// The exchange's type. With "headers" the name, the required ACL and the users of an event are
    /// in the headers of a message; with "topic" (the exchange "xivo" of an old Wazo) they are in
    /// its body.
    pub exchange_type: ExchangeType,
    /// Take only the events of this Wazo, where several share a bus.
    #[schemars(example = &"2b1a8f5c-3e0f-4f5e-9a3c-5b7d0b6f0f11")]
    pub origin_uuid: Option<String>,
    /// Maximum number of unacknowledged messages; 0 would be unlimited to a broker. They are held
    /// in memory, and bodies over 1 MiB are dropped only after they have arrived, so keep the
    /// broker's max_message_size no larger than needed.
    #[schemars(range(min = 1))]
    pub prefetch: u16,
    /// The authorities that may sign the broker's certificate, in PEM, instead of the system's.
    #[schemars(example = &"/etc/fanfare/broker.pem")]
    pub ca_file: Option<PathBuf>,
    /// "close" ends the sessions of wazo with code 1011 while the broker is away, so that clients
    /// ask anew for what they have missed; "keep" keeps them.
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
    /// Settings that contradict each other or the broker, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.url.is_some() && self.url_file.is_some() {
            problems.push("feed.amqp: url and url_file are both set: keep one".into());
        }
        if !(1..=NAME_BYTES_MAX).contains(&self.exchange.len()) {
            problems.push(format!("feed.amqp.exchange: a name has 1 to {NAME_BYTES_MAX} bytes"));
        }
        // Only a headers exchange matches on several headers; a topic exchange sees the routing key
        // alone.
        if self.origin_uuid.is_some() && self.exchange_type == ExchangeType::Topic {
            problems.push(
                "feed.amqp.origin_uuid: a topic exchange cannot select by it; leave it out, or set \
                 exchange_type = \"headers\""
                    .into(),
            );
        }
        problems
    }
}

/// Longest name of an exchange that AMQP 0-9-1 allows, in bytes.
const NAME_BYTES_MAX: usize = 127;

/// How the exchange routes, and thus where an event's name and rights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

/// The fate of sessions while the broker is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBusLoss {
    /// Existing and new sessions are closed, so that clients know that they have missed events.
    Close,
    /// They stay, and miss what was published meanwhile.
    Keep,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        assert_eq!(AmqpFeedSettings::default().problems(), Vec::<String>::new());
        let all_wrong = AmqpFeedSettings {
            url: Some(Secret("amqp://host".into())),
            url_file: Some("file".into()),
            exchange: String::new(),
            exchange_type: ExchangeType::Topic,
            origin_uuid: Some("uuid".into()),
            ..AmqpFeedSettings::default()
        };
        let problems = all_wrong.problems();
        for (problem, about) in problems.iter().zip(["url_file", "1 to 127", "origin_uuid"]) {
            assert!(problem.contains(about), "{problem}");
        }
        assert_eq!(problems.len(), 3);
    }

    #[test]
    fn an_address_is_not_shown() {
        let settings = AmqpFeedSettings {
            url: Some(Secret("amqp://wazo:hunter2@host".into())),
            ..AmqpFeedSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
