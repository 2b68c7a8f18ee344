//! HTTP responses as bytes: refusals of handshakes, and answers to requests.

/// The content type of a sentence.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// The headers of a 426 (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
const UPGRADE: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";

/// A whole response that ends its connection.
#[must_use]
pub fn response(status: u16, headers: &str, content_type: &str, body: &str) -> Vec<u8> {
    let reason = reason(status);
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Whether a connection outlives a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    Stays,
    /// Another may follow, and the response says so, which HTTP/1.0 requires.
    StaysTold,
    /// The connection ends.
    Ends,
}

/// The form of the answer that a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerForm {
    /// Whether the connection stays.
    pub persistence: Persistence,
    /// Whether the body is left out but its length given (RFC 9110 section 9.3.2).
    pub is_head: bool,
}

/// Appends a dialect's whole response to a request; `headers` are further lines, each with its end.
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
    // HTTP/1.1 stays by itself (RFC 9112 section 9.3).
    let connection = match wanted.persistence {
        Persistence::Stays => "",
        Persistence::StaysTold => "Connection: keep-alive\r\n",
        Persistence::Ends => "Connection: close\r\n",
    };
    let written = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n{headers}{connection}\r\n"
    );
    written.expect("writing to a Vec cannot fail");
    if !wanted.is_head {
        out.extend_from_slice(body);
    }
}

/// The head of a whole response, as the answer to HEAD.
#[must_use]
pub fn without_body(mut response: Vec<u8>) -> Vec<u8> {
    if let Some(end) = memchr::memmem::find(&response, b"\r\n\r\n") {
        response.truncate(end + 4);
    }
    response
}

/// The interim response that asks a client for the body that it holds back.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The response to a request without room or without an answer in time; it ends the connection.
#[must_use]
pub fn unserved() -> Vec<u8> {
    response(503, "", TEXT, "The request cannot be served now; try again later.\n")
}

/// Appends the response to a request that needs other nodes, of which some have not answered.
pub fn put_unavailable(wanted: AnswerForm, out: &mut Vec<u8>) {
    let body = b"Not every node that had to answer has done so in time; try again.\n";
    put_answer(503, "Retry-After: 1\r\n", TEXT, wanted, body, out);
}

/// Appends the response to a request whose path takes only other methods.
pub fn put_not_allowed(allowed: &str, wanted: AnswerForm, out: &mut Vec<u8>) {
    let allowed = if allowed == "GET" { "GET, HEAD" } else { allowed };
    let body = format!("Allowed methods: {allowed}.\n");
    put_answer(405, &format!("Allow: {allowed}\r\n"), TEXT, wanted, body.as_bytes(), out);
}

/// The response to a request that does not become a WebSocket.
#[must_use]
pub fn refusal(status: u16) -> Vec<u8> {
    let (headers, body) = match status {
        200 => ("", "This is a WebSocket endpoint of fanfare: connect with a WebSocket client.\n"),
        400 => ("", "This is not a valid WebSocket handshake (RFC 6455 section 4.2.1).\n"),
        403 => ("", "Pages of this origin are not allowed to connect.\n"),
        404 => ("", "This listener serves no protocol at this path.\n"),
        405 => (
            "Allow: GET\r\n",
            "This is a WebSocket endpoint: send a GET request with Upgrade: websocket.\n",
        ),
        408 => ("", "The request did not arrive in time.\n"),
        426 => (
            UPGRADE,
            "This endpoint speaks WebSocket version 13 only: send a GET request with Upgrade: \
             websocket.\n",
        ),
        429 => ("Retry-After: 30\r\n", "Your address has too many connections open.\n"),
        431 => ("", "The request line and headers are too large.\n"),
        503 => {
            ("Retry-After: 5\r\n", "The daemon takes no more connections now; try again later.\n")
        }
        _ => ("", ""),
    };
    response(status, headers, TEXT, body)
}

/// The response to a connection without the PROXY protocol where it is required.
#[must_use]
pub fn wants_proxy(reason: &str) -> Vec<u8> {
    response(
        400,
        "",
        TEXT,
        &format!(
            "This port is only for trusted proxies that speak the PROXY protocol: {reason}.\n"
        ),
    )
}

/// The response to a request without TLS on a port that speaks TLS.
#[must_use]
pub fn speaks_tls() -> Vec<u8> {
    response(400, "", TEXT, "This port speaks TLS: use wss:// (or https://).\n")
}

/// The response that refuses a request, with a reason in its body.
#[must_use]
pub fn refusal_saying(status: u16, reason: &str) -> Vec<u8> {
    let headers = if status == 426 { UPGRADE } else { "" };
    response(status, headers, TEXT, &format!("{reason}\n"))
}

/// The content type of a service's answer: JSON, or a sentence when the status is an error's.
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
