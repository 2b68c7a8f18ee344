//! What services ask over HTTP.

use super::{Answers, Service};
use crate::wheel::Now;
use http::Request;
use std::time::Duration;

/// Status and body of an answer, or why there is none. The reason has no URL and no part of a body in it, which may be
/// secret.
pub type HttpReply = Result<(u16, Vec<u8>), String>;

/// A request that a service wants to be made.
pub struct HttpCall<C> {
    /// Comes back with the reply.
    pub call: C,
    /// Which of the service's clients makes it.
    pub client: usize,
    /// The request.
    pub request: Request<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the reply is its whole body; else its status is, and the body is dropped.
    pub wants_body: bool,
}

/// Something that an operator wants to know of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNews {
    /// Whether a trouble is over, rather than begins or lasts.
    pub is_good: bool,
    /// A line of the log, without secrets.
    pub text: String,
}

/// A service that makes requests.
pub trait HttpService: for<'a> Service<Out<'a> = Answers> {
    /// What it knows a request by.
    type Call: Send + 'static;

    /// The next request, if there is one and room for it.
    fn next_call(&mut self, now: Now) -> Option<HttpCall<Self::Call>>;

    /// What became of a request.
    fn replied(&mut self, call: Self::Call, reply: HttpReply, now: Now, out: &mut Answers);

    /// Brings up to date what is counted only now and then.
    fn count(&self) {}

    /// What is to be logged, since the last call.
    fn take_news(&mut self) -> Vec<ServiceNews>;
}
