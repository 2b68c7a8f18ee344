//! What the RabbitMQ feed needs.

use crate::feed::amqp::{AmqpBroker, AmqpFeedSettings};
use rustls::ClientConfig;
use std::sync::Arc;

/// Where the broker is, and what is wanted of it.
pub struct Bus {
    /// Where the broker is.
    pub broker: AmqpBroker,
    /// What is read there, and how.
    pub settings: AmqpFeedSettings,
    /// Whose certificates are trusted; needed where the broker speaks TLS.
    pub trust: Option<Arc<ClientConfig>>,
}
