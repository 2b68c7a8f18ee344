//! The parts of the RabbitMQ feed's configuration, ready to connect.

use crate::feed::amqp::{AmqpBroker, AmqpFeedSettings};
use rustls::ClientConfig;
use std::sync::Arc;

/// A broker, and what is read there.
pub struct Bus {
    /// The broker's address.
    pub broker: AmqpBroker,
    /// The exchange, and how it is read.
    pub settings: AmqpFeedSettings,
    /// The certificates that are trusted; required where the broker speaks TLS.
    pub trust: Option<Arc<ClientConfig>>,
}
