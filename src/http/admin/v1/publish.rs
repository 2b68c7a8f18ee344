//! Publishing over HTTP: one event, or a line for each.

use super::reply::respond;
use crate::http::admin::request::AdminRequest;
use schemars::JsonSchema;
use serde::Serialize;

/// Longest body with events in bytes, as long as a line of the unix feed is by default.
pub(super) const EVENTS_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of events of one request: some milliseconds of the admin thread's time.
const EVENTS_MAX: usize = 1000;
/// Maximum number of errors that are told.
const ERRORS_MAX: usize = 100;
/// The type of a body with an event in each line.
const LINES: &str = "application/x-ndjson";

/// Events to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOrder {
    /// The address, as in a line of a feed.
    pub address: Box<str>,
    /// The JSON of each event.
    pub events: Vec<Box<[u8]>>,
    /// Whether the body has an event in each line.
    pub is_lines: bool,
}

/// The outcome of publishing.
#[derive(Debug, Default)]
pub struct PublishOutcome {
    /// The number of events accepted.
    pub accepted: u64,
    /// The number of sessions reached, once it is known; it is not for durable topics.
    pub reached: Option<u64>,
    /// The events that were refused, by the number of their line, and why.
    pub errors: Vec<(usize, String)>,
}

/// The outcome, as it is answered.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Published<'a> {
    /// The number of events accepted. One for a durable topic is stored then.
    accepted: u64,
    /// The number of events refused.
    rejected: usize,
    /// The number of sessions that got them; absent for a durable topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<u64>,
    /// The first 100 that were refused.
    errors: Vec<V1LineError<'a>>,
}

/// An event that was refused.
#[derive(Serialize, JsonSchema)]
struct V1LineError<'a> {
    /// The number of its line, from 1 on.
    line: usize,
    error: &'a str,
}

/// Reads the events of a request.
pub(super) fn order(request: &AdminRequest<'_>, address: &str) -> Result<PublishOrder, String> {
    let is_lines = request.content_type.split(';').next().map(str::trim) == Some(LINES);
    let events: Vec<Box<[u8]>> = if is_lines {
        let lines = request.body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty()).map(Box::from).collect()
    } else {
        vec![request.body.trim_ascii().into()]
    };
    if events.len() > EVENTS_MAX {
        return Err(format!("a request has at most {EVENTS_MAX} events"));
    }
    Ok(PublishOrder { address: address.into(), events, is_lines })
}

/// The answer about published events. That of a single event which was refused is an error.
#[must_use]
pub fn published(outcome: &PublishOutcome, is_lines: bool) -> Vec<u8> {
    if let ([(_, reason)], false) = (&outcome.errors[..], is_lines) {
        return super::reply::failed(400, reason);
    }
    let errors = outcome.errors.iter().take(ERRORS_MAX);
    let body = V1Published {
        accepted: outcome.accepted,
        rejected: outcome.errors.len(),
        reached: outcome.reached,
        errors: errors.map(|(line, error)| V1LineError { line: *line, error }).collect(),
    };
    respond(200, "", &body)
}
