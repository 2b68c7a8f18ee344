//! HTTP requests that services make through their host.

use super::{Answers, Service};
use crate::wheel::Now;
use http::Request;
use std::time::Duration;

/// Status and body of a response, or the reason there is none. The reason contains no URL and no
/// part of a body, either of which may be secret.
pub type HttpReply = Result<(u16, Vec<u8>), String>;

/// An HTTP request for the host to make.
pub struct HttpCall<C> {
    /// Identifies the request when its reply comes back.
    pub call: C,
    /// Index of the service's client (its TLS settings and connections) to use.
    pub client: usize,
    /// The request.
    pub request: Request<String>,
    /// Time limit for the whole exchange.
    pub timeout: Duration,
    /// Whether to return the body; otherwise only the status is kept.
    pub wants_body: bool,
}

/// A log line from a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNews {
    /// Whether the line reports a recovery rather than a failure.
    pub is_good: bool,
    /// The text, without secrets.
    pub text: String,
}

/// A service that makes HTTP requests.
pub trait HttpService: for<'a> Service<Out<'a> = Answers> {
    /// Identifies a request in flight.
    type Call: Send + 'static;

    /// The next request to send; `None` when there is none or the limit of concurrent requests is
    /// reached.
    fn next_call(&mut self, now: Now) -> Option<HttpCall<Self::Call>>;

    /// Handles the outcome of a request.
    fn replied(&mut self, call: Self::Call, reply: HttpReply, now: Now, out: &mut Answers);

    /// Updates gauges that are only refreshed periodically.
    fn count(&self) {}

    /// Log lines since the last call.
    fn take_news(&mut self) -> Vec<ServiceNews>;
}
