//! Responses over HTTP as bytes: refusals of handshakes, answers to requests, and what both are made of.

/// What a sentence is.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// What a client has to upgrade to.
const UPGRADE: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

/// A whole response that ends its connection.
#[must_use]
pub fn response(status: u16, headers: &str, content_type: &str, body: &str) -> Vec<u8> {
    let reason = reason(status);
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    Stays,
    /// Likewise, and the client is told, as one of HTTP/1.0 has to be.
    StaysTold,
    /// It ends.
    Ends,
}

/// How a request wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerForm {
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether the body is left out, and its length told nevertheless (RFC 9110 section 9.3.2).
    pub is_head: bool,
}

/// Appends a whole response to a request that a dialect answers; `headers` are lines of its own.
pub fn put_answer(
    status: u16,
    headers: &str,
    content_type: &str,
    wanted: AnswerForm,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    use std::io::Write as _;
    let (reason, length) = (reason(status), body.len());
    let connection = match wanted.persistence {
        Persistence::Stays => "",
        Persistence::StaysTold => "Connection: keep-alive\r\n",
        Persistence::Ends => "Connection: close\r\n",
    };
    let written = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}{connection}\r\n"
    );
    written.expect("writing to a Vec cannot fail");
    if !wanted.is_head {
        out.extend_from_slice(body);
    }
}

/// A whole response as the answer to HEAD.
#[must_use]
pub fn without_body(mut response: Vec<u8>) -> Vec<u8> {
    if let Some(end) = memchr::memmem::find(&response, b"\r\n\r\n") {
        response.truncate(end + 4);
    }
    response
}

/// What asks a client for the body that it keeps back.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The answer to a request for which there is no room, or whose answer has not come in time; it ends the connection.
#[must_use]
pub fn unserved() -> Vec<u8> {
    response(503, "", TEXT, "There is no answer now; try again.\n")
}

/// The answer to a request that takes only other methods.
pub fn put_not_allowed(allowed: &str, wanted: AnswerForm, out: &mut Vec<u8>) {
    let allowed = if allowed == "GET" { "GET, HEAD" } else { allowed };
    let body = format!("Only {allowed} is answered here.\n");
    put_answer(405, &format!("Allow: {allowed}\r\n"), TEXT, wanted, body.as_bytes(), out);
}

/// The answer to a request that does not become a WebSocket.
#[must_use]
pub fn refusal(status: u16) -> Vec<u8> {
    let (headers, body) = match status {
        200 => {
            ("", "fanfare is here. This is a WebSocket endpoint: there is nothing else to see.\n")
        }
        400 => ("", "This is not a correct WebSocket handshake (RFC 6455 section 4.2.1).\n"),
        403 => ("", "Pages of this origin may not connect here.\n"),
        404 => ("", "No protocol of this listener has this path.\n"),
        405 => (
            "Allow: GET\r\n",
            "This is a WebSocket endpoint: send a GET request with Upgrade: websocket.\n",
        ),
        408 => ("", "The request did not come in time.\n"),
        426 => (
            UPGRADE,
            "This endpoint speaks WebSocket version 13 only: send a GET request with Upgrade: websocket.\n",
        ),
        429 => ("Retry-After: 30\r\n", "Your address has as many connections as it may have.\n"),
        431 => ("", "The head of the request is too large.\n"),
        503 => ("Retry-After: 5\r\n", "No room for another connection now.\n"),
        _ => ("", ""),
    };
    response(status, headers, TEXT, body)
}

/// The answer to a connection that has to come through a proxy, or has not told of its client.
#[must_use]
pub fn wants_proxy(reason: &str) -> Vec<u8> {
    response(
        400,
        "",
        TEXT,
        &format!("This port is for proxies that speak the PROXY protocol: {reason}.\n"),
    )
}

/// The answer to a request without TLS where TLS is spoken.
#[must_use]
pub fn speaks_tls() -> Vec<u8> {
    response(400, "", TEXT, "This port speaks TLS: use wss:// (or https://).\n")
}

/// The answer to a request that comes to nothing, with a line that says why.
#[must_use]
pub fn refusal_saying(status: u16, reason: &str) -> Vec<u8> {
    let headers = if status == 426 { UPGRADE } else { "" };
    response(status, headers, TEXT, &format!("{reason}\n"))
}

/// What the body of an answer is that somebody else has made: JSON, or a sentence when the status is an error's.
#[must_use]
pub fn content_type(status: u16) -> &'static str {
    if status == 200 { "application/json" } else { TEXT }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}
