//! The parts of the Redis feed's configuration, ready to connect.

use crate::feed::redis::{RedisTopics, Server};
use rustls::ClientConfig;
use std::sync::Arc;

/// A Redis, and what is read there.
pub struct Redis {
    /// The address.
    pub server: Server,
    /// Channels and patterns to subscribe to.
    pub topics: RedisTopics,
    /// The certificates that are trusted; required where Redis speaks TLS.
    pub trust: Option<Arc<ClientConfig>>,
}
