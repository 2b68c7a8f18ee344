//! What the Redis feed needs.

use crate::feed::redis::{RedisTopics, Server};
use rustls::ClientConfig;
use std::sync::Arc;

/// Where Redis is, and what is wanted of it.
pub struct Redis {
    /// Where Redis is.
    pub server: Server,
    /// What is listened to there.
    pub topics: RedisTopics,
    /// Whose certificates are trusted; needed where Redis speaks TLS.
    pub trust: Option<Arc<ClientConfig>>,
}
