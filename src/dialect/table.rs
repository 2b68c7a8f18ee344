//! What the rest of the daemon asks of the settings of a dialect, whichever it is.

use super::broker::RedisSource;
use crate::service::topic::TopicRules;
use crate::setting::Secret;
use crate::token::{TokenSettings, Verifier};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Reads the secret in a file; the text is what the file is for, for messages.
///
/// The error says what is wrong with the file.
pub type SecretReader<'a> = dyn Fn(&str, &Path) -> Result<Secret, String> + 'a;

/// An application that a dialect serves, as metrics tell of it.
#[derive(Clone, Debug)]
pub struct AppFacts {
    /// Its id.
    pub id: Arc<str>,
    /// Its connections.
    pub connections: u64,
    /// Events that were taken for it.
    pub events: u64,
}

/// Seconds between pings where the reference has one a minute. nginx cuts a connection that has carried nothing for
/// 60 s (`proxy_read_timeout`), so a minute is exactly too long; this leaves 10 s to a slow timer or network.
pub const PING_INTERVAL_S: u32 = 50;

/// The table of a dialect, or of several, in the configuration.
pub trait DialectTable {
    /// Its name, without brackets.
    fn name(&self) -> &'static str;

    /// The names of the dialects that it is for.
    fn dialects(&self) -> &'static [&'static str];

    /// What is readable but cannot run, each with what to do. `is_spoken` tells whether any listener speaks one of the
    /// dialects.
    fn problems(&self, is_spoken: bool) -> Vec<String>;

    /// What promises more than a client can be sent when so many bytes may wait for it, each with what to do.
    fn outbox_problems(&self, _outbox_bytes_max: usize) -> Vec<String> {
        Vec::new()
    }

    /// What verifies tokens, if that is set, and the place of the verifier that is made of it; `None` for dialects without
    /// tokens.
    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        None
    }

    /// Whether a secret is taken that is shorter than it should be, with a warning, as it is in use elsewhere already.
    fn takes_short_secrets(&self) -> bool {
        false
    }

    /// The claims that only its tokens have.
    fn claims(&self) -> &'static [&'static str] {
        &[]
    }

    /// The scope of a token that an operator makes without saying one.
    fn usual_scope(&self) -> Option<&'static str> {
        None
    }

    /// Looks at the claims of a token that an operator makes. Returns what to tell of them.
    ///
    /// # Errors
    /// When no such token opens anything: what to write instead.
    fn review(&self, _claims: &Map<String, Value>) -> Result<Option<&'static str>, String> {
        Ok(None)
    }

    /// Takes in the secrets of those whom it serves, from their files where they have some. Returns what is wrong with
    /// these; what is wrong with the settings themselves is told by [`DialectTable::problems`].
    fn read_secrets(&mut self, _read: &SecretReader<'_>) -> Vec<String> {
        Vec::new()
    }

    /// The longest messages of clients, in bytes, each with its key.
    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }

    /// Where back ends publish events for the dialect in Redis, as far as that is set.
    fn redis_source(&self) -> Option<RedisSource> {
        None
    }

    /// How a Redis may feed the dialect, in words; empty where none can.
    fn fed_by_redis(&self) -> &'static str {
        ""
    }

    /// The key or table that is set and takes a Redis.
    fn needs_redis(&self) -> Option<&'static str> {
        None
    }

    /// The key by which the daemons at one Redis tell each other what their clients say, if it is set so.
    fn relay(&self) -> Option<&'static str> {
        None
    }

    /// What is served and who is told of it, for an operator: the kind of each line, at most six letters, and the rest.
    fn describe(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The applications that are served.
    fn apps(&self) -> Vec<AppFacts> {
        Vec::new()
    }

    /// How many publications may be kept of the topics that one of them belongs to, any number when 0; `None` when none
    /// is to be kept, or the topic is of another dialect.
    fn retained_max(&self, _topic: &[u8]) -> Option<usize> {
        None
    }

    /// The rules of the durable topics, for a dialect that has them.
    fn topic_rules(&self) -> Option<TopicRules> {
        None
    }
}
