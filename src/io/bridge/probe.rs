//! One question to each of the bridge's peers, asked for a command as the daemon would ask it.
//!
//! None changes anything that lasts, but that RabbitMQ has the exchange afterwards, as after a
//! start. No error quotes a password, a token or a URL.

use super::amqp::{self, Bus};
use super::client::{Client, tls_of_the_system};
use super::redis::{self, Redis};
use super::verification::client;
use crate::calendar::http_date_ms;
use crate::endpoint::Endpoint;
use crate::http::otlp::Otlp;
use crate::io::{clock, lookups};
use crate::token::{Finding, RemoteVerifier, TokenInquiry};
use http::Request;
use http::header::DATE;
use http::response::Parts;
use std::time::Duration;

/// A token that no issuer has made.
const NO_TOKEN: &str = "fanfare-doctor-asks-whether-you-answer";
/// An export without metrics.
const NO_METRICS: &str = "{\"resourceMetrics\":[]}";
/// Time for the host of webhooks, or a collector, to answer: that of a webhook by default.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that look up names: one question is asked at a time.
const LOOKUPS_MAX: usize = 1;

/// An answer over HTTP.
#[derive(Debug)]
pub struct ProbeAnswer {
    /// The status.
    pub status: u16,
    /// How far this machine's clock was ahead of the peer's (ms), as far as its date of whole
    /// seconds tells.
    pub ahead_ms: Option<i64>,
}

impl ProbeAnswer {
    fn of(head: &Parts) -> Self {
        let date = head.headers.get(DATE).and_then(|date| http_date_ms(date.to_str().ok()?));
        let now_ms = clock::now().unix_ms.cast_signed();
        Self { status: head.status.as_u16(), ahead_ms: date.map(|date_ms| now_ms - date_ms) }
    }
}

/// Connects to RabbitMQ, logs in, and asks for messages.
///
/// # Errors
/// Why none would come, with what to do.
pub fn probe_amqp(bus: &Bus) -> Result<(), String> {
    asked(amqp::probe(bus))
}

/// Connects to Redis, logs in, and subscribes.
///
/// # Errors
/// Why no messages would come, with what to do.
pub fn probe_redis(redis: &Redis) -> Result<(), String> {
    asked(redis::probe(redis))
}

/// Asks a verifier about a token that no issuer has made.
///
/// # Errors
/// Why it gives no answer that can be understood.
pub fn probe_verifier(remote: &RemoteVerifier) -> Result<ProbeAnswer, String> {
    let client = client(remote).map_err(|error| error.to_string())?;
    let timeout = Duration::from_millis(remote.timing().timeout_ms);
    let request = remote.request(TokenInquiry::Grant, NO_TOKEN);

    let (head, body) = asked(client.exchange(request, timeout, true))?;
    let (answer, now_ms) = (ProbeAnswer::of(&head), clock::now().unix_ms);
    match remote.read(TokenInquiry::Grant, answer.status, &body, now_ms) {
        Finding::Refused(_) => Ok(answer),
        Finding::Granted(_) | Finding::Confirmed => {
            Err("it grants a token that was made up".into())
        }
        Finding::Unclear(reason) => Err(reason),
    }
}

/// Asks the host of a webhook whether it is there, with a request that delivers nothing.
///
/// # Errors
/// Why there is no answer.
pub fn probe_webhook(endpoint: &Endpoint) -> Result<ProbeAnswer, String> {
    let host = endpoint.is_https().then(|| endpoint.host());
    let tls = tls_of_the_system(host).map_err(|error| error.to_string())?;
    let request = Request::head(endpoint.uri()).body(String::new());
    let request = request.map_err(|error| error.to_string())?;

    let (head, _) = asked(Client::new(tls, 1).exchange(request, HTTP_TIMEOUT, false))?;
    Ok(ProbeAnswer::of(&head))
}

/// Sends a collector an export of nothing.
///
/// # Errors
/// Why it does not take it.
pub fn probe_otlp(otlp: &Otlp) -> Result<ProbeAnswer, String> {
    let host = otlp.endpoint.is_https().then(|| otlp.endpoint.host());
    let tls = tls_of_the_system(host).map_err(|error| error.to_string())?;
    let request = otlp.request("/v1/metrics", NO_METRICS.into());
    let request = request.map_err(|error| error.to_string())?;

    let (head, _) = asked(Client::new(tls, 1).exchange(request, HTTP_TIMEOUT, false))?;
    if head.status.is_success() {
        return Ok(ProbeAnswer::of(&head));
    }
    Err(format!("it answers with status {}", head.status.as_u16()))
}

/// Asks one question to its end.
fn asked<T>(question: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = lookups::runtime(LOOKUPS_MAX).map_err(|error| error.to_string())?;
    let answer = runtime.block_on(question);
    // The resolver may block for a minute.
    runtime.shutdown_background();
    answer
}
