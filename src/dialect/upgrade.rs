//! HTTP requests: those that switch to WebSocket, and those that a dialect answers itself.

use crate::service::Question;

/// A request to switch to WebSocket, as far as dialects read it.
#[derive(Clone, Copy, Default)]
pub struct Upgrade<'a> {
    /// The path without the query, as sent.
    pub path: &'a str,
    /// The query without `?`; it may hold a token, so it is never logged.
    pub query: &'a str,
    /// The `Host` header, or nothing.
    pub host: &'a str,
    /// The `X-Auth-Token` header, or nothing; it is never logged either.
    pub auth_token: &'a str,
    /// The `Authorization` header, or nothing; it is never logged either.
    pub authorization: &'a str,
    /// The client's address and port, as the log would show it; empty where no dialect of the
    /// listener has durable topics.
    pub remote: &'a str,
    /// The `Origin` header, if present: it may be empty, and need not be text.
    pub origin: Option<&'a [u8]>,
    /// The `Sec-WebSocket-Protocol` header, or nothing: what the client offers, separated by
    /// commas.
    pub subprotocols: &'a str,
}

impl<'a> Upgrade<'a> {
    /// The first offered subprotocol.
    #[must_use]
    pub fn first_subprotocol(&self) -> Option<&'a str> {
        self.subprotocols.split(',').map(str::trim).next().filter(|first| !first.is_empty())
    }
}

/// A complete HTTP request without a WebSocket.
#[derive(Clone, Copy, Default)]
pub struct Request<'a> {
    /// The method; `GET` for `HEAD` too.
    pub method: &'a str,
    /// Whether the method was `HEAD`, whose answer is that of `GET` without the body.
    pub is_head: bool,
    /// The path without the query, as sent.
    pub path: &'a str,
    /// The query without `?`; it may hold a signature, so it is never logged.
    pub query: &'a str,
    /// The `Authorization` header, or nothing; it is never logged either.
    pub authorization: &'a str,
    /// The body, decoded.
    pub body: &'a [u8],
}

/// A dialect's response to a request.
#[derive(Debug)]
pub enum Served {
    /// A complete answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// What the body is.
        content_type: &'static str,
        /// The body.
        body: Vec<u8>,
    },
    /// 405: the path takes only these methods.
    NotAllowed(&'static str),
    /// A service's answer; see [`Dialect::answer`](super::Dialect::answer).
    Asked(Question),
}

/// The paths that a dialect claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimedPaths {
    /// Those of its own shape.
    Own,
    /// `/` alone.
    Root,
    /// Any that no other dialect of the listener takes.
    Any,
}
