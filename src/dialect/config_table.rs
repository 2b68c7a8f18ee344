//! What the rest of the daemon asks of every dialect's settings.

use super::broker::RedisUse;
use crate::service::topic::TopicRules;
use crate::setting::Secret;
use crate::token::{TokenSettings, Verifier};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Reads the secret in a file; the text is the file's purpose, for messages.
///
/// The error says what is wrong with the file.
pub type SecretReader<'a> = dyn Fn(&str, &Path) -> Result<Secret, String> + 'a;

/// An application that a dialect serves, for metrics.
#[derive(Clone, Debug)]
pub struct AppFacts {
    /// Its id.
    pub id: Arc<str>,
    /// Its connections.
    pub connections: u64,
    /// Events accepted for it.
    pub events: u64,
}

/// Seconds between pings where the reference has one a minute. nginx cuts a connection that has
/// carried nothing for 60 s (`proxy_read_timeout`), so a minute is exactly too long; this leaves 10
/// s for a slow timer or network.
pub const PING_INTERVAL_S: u32 = 50;

/// The table of one or several dialects in the configuration.
pub trait DialectTable {
    /// Its name, without brackets: the [`Dialect::TABLE`](super::Dialect::TABLE) of its dialects.
    fn name(&self) -> &'static str;

    /// Settings that cannot work, each with what to do. `is_spoken`: whether any listener speaks
    /// one of the dialects.
    fn problems(&self, is_spoken: bool) -> Vec<String>;

    /// Limits that promise more than a client can be sent when this many bytes may wait for it,
    /// each with what to do.
    fn outbox_problems(&self, _outbox_bytes_max: usize) -> Vec<String> {
        Vec::new()
    }

    /// The configured verifier of tokens, if any, and the place of the one made from it; `None` for
    /// dialects without tokens.
    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        None
    }

    /// The claims by which its sessions authorize, or that they pass on: all that they read. They
    /// keep the grant they began with, so a remote verifier's later one that differs in any of these
    /// ends them; other claims may change.
    fn decisive_claims(&self) -> &'static [&'static str];

    /// Whether a secret that is too short is accepted with a warning, because it is in use
    /// elsewhere already.
    fn takes_short_secrets(&self) -> bool {
        false
    }

    /// The claims that only its tokens have.
    fn claims(&self) -> &'static [&'static str] {
        &[]
    }

    /// The default scope of a token that an operator makes.
    fn usual_scope(&self) -> Option<&'static str> {
        None
    }

    /// Checks the claims of a token that an operator makes. Returns a remark about them.
    ///
    /// # Errors
    /// When such a token opens nothing: what to write instead.
    fn review(&self, _claims: &Map<String, Value>) -> Result<Option<&'static str>, String> {
        Ok(None)
    }

    /// Reads the secrets of its applications from their files. Returns what is wrong with these;
    /// [`DialectTable::problems`] reports on the settings themselves.
    fn read_secrets(&mut self, _read: &SecretReader<'_>) -> Vec<String> {
        Vec::new()
    }

    /// The longest messages of clients, in bytes, each with its key.
    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }

    /// What its dialect does with Redis; `None` where Redis cannot feed it.
    fn redis(&self) -> Option<RedisUse> {
        None
    }

    /// A setting of it that needs a cluster.
    fn needs_cluster(&self) -> Option<&'static str> {
        None
    }

    /// Why it cannot run on the nodes of a cluster as it is set, with what to do.
    fn cluster_problem(&self) -> Option<String> {
        None
    }

    /// The settings that all nodes of a cluster must have in common, in a form that does not depend
    /// on the order in which they are written. Secrets are there as their digests.
    fn common(&self) -> Value {
        Value::Null
    }

    /// Applications and recipients of webhooks, for an operator: the kind of each line, at most six
    /// letters, and the rest.
    fn describe(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The applications that are served.
    fn apps(&self) -> Vec<AppFacts> {
        Vec::new()
    }

    /// The maximum number of retained publications for the topics of which one is given, 0 for any
    /// number; `None` when none is retained, or the topic belongs to another dialect.
    fn retained_max(&self, _topic: &[u8]) -> Option<usize> {
        None
    }

    /// The rules of the durable topics, for a dialect that has them.
    fn topic_rules(&self) -> Option<TopicRules> {
        None
    }
}
