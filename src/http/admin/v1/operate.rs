//! What operators ask of the daemon's process: its log and its configuration.

use super::reply::respond;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// The outcome of a reload.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct ReloadOutcome {
    /// The outcome in a sentence, as it is logged.
    pub said: String,
    /// The changed keys that are in force now.
    pub applied: Vec<String>,
    /// The changed keys, and other changes, that wait for the next start.
    pub needs_restart: Vec<String>,
    /// What is odd about the configuration.
    pub notes: Vec<String>,
}

/// The outcome of a hand-over to a new process.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UpgradeOutcome {
    /// The new process.
    pub pid: u32,
    /// The number of connections that go on in it.
    pub passed: usize,
    /// The number of connections that are told to come back.
    pub told: usize,
    /// How long no client was served, in milliseconds.
    pub pause_ms: f64,
}

/// The answer about a hand-over.
#[must_use]
pub fn upgraded(outcome: &UpgradeOutcome) -> Vec<u8> {
    respond(200, "", outcome)
}

/// The answer about a reload.
#[must_use]
pub fn reloaded(outcome: &ReloadOutcome) -> Vec<u8> {
    respond(200, "", outcome)
}

/// What is logged.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Log<'a> {
    /// The directives in force.
    filter: &'a str,
}

/// The answer about the log.
#[must_use]
pub fn logging(filter: &str) -> Vec<u8> {
    respond(200, "", &V1Log { filter })
}

/// The answer with the configuration.
#[must_use]
pub fn configuration(table: &Value) -> Vec<u8> {
    respond(200, "", table)
}
