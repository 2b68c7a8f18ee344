//! Retention, quotas and limits of topics, from the configuration.

use super::TopicName;

/// Retention, quotas and limits.
#[derive(Clone, Debug)]
pub struct TopicRules {
    /// Seconds to keep messages that every subscription has acknowledged.
    pub retention_s: u64,
    /// Bytes of such messages to keep.
    pub retention_bytes: u64,
    /// Seconds after which unacknowledged messages are dropped; 0 for never.
    pub message_ttl_s: u64,
    /// Limit on the backlog of a topic's slowest subscription, in bytes; 0 for none.
    pub backlog_quota_bytes: u64,
    /// Whether, at that limit, the slowest subscription loses its oldest messages; otherwise
    /// producers are refused.
    pub backlog_eviction: bool,
    /// Seconds after which a topic without messages, subscriptions and connections is deleted; 0
    /// for never.
    pub idle_delete_s: u64,
    /// Seconds after which a subscription without consumers is deleted; 0 for never.
    pub subscription_expiry_s: u64,
    /// Maximum number of topics.
    pub topics_max: usize,
    /// Maximum number of topics that one request creates, not counting partitions of configured
    /// topics.
    pub new_topics_max: usize,
    /// Maximum number of messages of one subscription that are with its consumers or await
    /// redelivery.
    pub unacked_max: usize,
    /// Bytes of messages cached in memory over all topics: the newest ones, for consumers at the
    /// end of a topic, and those read for consumers that are behind.
    pub cache_bytes: usize,
    /// Partitioned topics, with their number of partitions.
    pub partitioned: Vec<(TopicName, u32)>,
}

impl Default for TopicRules {
    fn default() -> Self {
        Self {
            retention_s: 3600,
            retention_bytes: 64 * 1024 * 1024,
            message_ttl_s: 0,
            backlog_quota_bytes: 10 * 1024 * 1024 * 1024,
            backlog_eviction: false,
            idle_delete_s: 60,
            subscription_expiry_s: 0,
            topics_max: 100_000,
            new_topics_max: 100,
            unacked_max: 50_000,
            cache_bytes: 16 * 1024 * 1024,
            partitioned: Vec::new(),
        }
    }
}
