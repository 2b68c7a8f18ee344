//! The head of a request: a WebSocket handshake, a request that a dialect answers, or a refusal.
//!
//! The head is parsed once, when its end has come, however small the pieces it comes in.

use super::request::{Body, Talk};
use crate::api;
use crate::dialect::{Kind, Upgrade};
use crate::metrics::Handshake;
use crate::shard::Shard;
use rustix::fd::BorrowedFd;
use std::net::SocketAddr;

/// Most header fields of a request. Browsers send about 15, proxies add some; nginx and Apache allow 100.
const HEADERS_MAX: usize = 100;
/// Longest `Host`: a name of the DNS has 253 characters, a port five. A session may keep it.
const HOST_BYTES_MAX: usize = 253 + 1 + 5;
/// What a request is refused with that asks for no WebSocket, unless the dialect has something better to say.
const NO_WEBSOCKET: u16 = 405;

/// What a head has come to.
pub(super) enum Found {
    /// A session.
    Session,
    /// A request that a dialect answers when its body is there.
    Request(Body),
    /// Nothing: the connection ends.
    Refused,
}

/// One whole head.
pub(super) fn read(head: &[u8], talk: &Talk<'_>, shard: &mut Shard) -> Found {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let (status, outcome) = match request.parse(head) {
        Err(httparse::Error::TooManyHeaders) => (431, Handshake::Limit),
        Ok(httparse::Status::Complete(_)) if has_bare_line_feed(head) => (400, Handshake::Malformed),
        Ok(httparse::Status::Complete(_)) => match whole(&request, head, talk, shard) {
            Ok(found) => return found,
            Err(refused) => refused,
        },
        _ => (400, Handshake::Malformed),
    };
    shard.respond(talk.id, &api::refusal(status), outcome, talk.now);
    Found::Refused
}

/// Whether a line ends with a line feed alone. The parser takes that for an end, of the head too, and a proxy in front
/// may not: what follows would be a header to one and another request to the other (RFC 9112 section 11.2).
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// The head is longer than allowed.
pub(super) fn refuse_long(talk: &Talk<'_>, shard: &mut Shard) {
    shard.respond(talk.id, &api::refusal(431), Handshake::Limit, talk.now);
}

/// One whole request, or the status to refuse it with.
fn whole(
    request: &httparse::Request<'_, '_>,
    head: &[u8],
    talk: &Talk<'_>,
    shard: &mut Shard,
) -> Result<Found, (u16, Handshake)> {
    let (method, asked) = (request.method.unwrap_or(""), upgrade(request));
    let wants_websocket = header(request, "upgrade").is_some_and(|value| has_token(value, b"websocket"));
    if !(wants_websocket && method == "GET")
        && let Some(server) = shard.server(talk.kinds, method, asked.path)
    {
        return Ok(match Body::of(request, head, server) {
            Ok(body) => Found::Request(body),
            Err(status) => {
                shard.refuse_request(talk.id, server.0, status, talk.now);
                Found::Refused
            }
        });
    }
    if talk.is_draining {
        return Err((503, Handshake::Shed));
    }
    match handshake(request) {
        Ok(key) => {
            let accept = tungstenite::handshake::derive_accept_key(key);
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            // The one dialect that tells it.
            let tells_remote = talk.kinds.contains(&Kind::Pulsar);
            let remote = tells_remote.then(|| remote(talk.socket)).flatten().unwrap_or_default();
            let asked = Upgrade { remote: &remote, ..asked };
            if shard.upgrade(talk.id, &asked, talk.kinds, response.as_bytes(), talk.now) {
                return Ok(Found::Session);
            }
            Err((404, Handshake::NotFound))
        }
        Err(status) => Err(match shard.claimant(&asked, talk.kinds, talk.now) {
            // A path that nobody has is not found, whatever is wrong with the request.
            None => (404, Handshake::NotFound),
            Some(kind) if status == NO_WEBSOCKET => (kind.plain(method, asked.path), Handshake::Malformed),
            Some(_) => (status, Handshake::Malformed),
        }),
    }
}

fn upgrade<'a>(request: &httparse::Request<'_, 'a>) -> Upgrade<'a> {
    let (path, query) = path_and_query(request.path.unwrap_or("/"));
    let text = |name| header(request, name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
    Upgrade {
        path,
        query,
        host: text("host"),
        auth_token: text("x-auth-token"),
        authorization: text("authorization"),
        remote: "",
        origin: text("origin"),
        subprotocols: text("sec-websocket-protocol"),
    }
}

/// The client's address and port; none when it has gone already.
fn remote(socket: BorrowedFd<'_>) -> Option<String> {
    let peer = rustix::net::getpeername(socket).ok()??;
    let peer = SocketAddr::try_from(peer).ok()?;
    Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string())
}

/// The client's key, or the status to refuse with (RFC 6455 section 4.2.1).
fn handshake<'a>(request: &httparse::Request<'_, 'a>) -> Result<&'a [u8], u16> {
    if request.method != Some("GET") {
        return Err(NO_WEBSOCKET);
    }
    let is_host = |host: &[u8]| host.len() <= HOST_BYTES_MAX;
    if request.version != Some(1) || !header(request, "host").is_some_and(is_host) {
        return Err(400);
    }
    match header(request, "upgrade") {
        None => return Err(NO_WEBSOCKET),
        Some(value) if !has_token(value, b"websocket") => return Err(NO_WEBSOCKET),
        Some(_) => {}
    }
    if !header(request, "connection").is_some_and(|value| has_token(value, b"upgrade")) {
        return Err(400);
    }
    if header(request, "sec-websocket-version") != Some(b"13") {
        return Err(426);
    }
    // 16 bytes in base64: 22 characters and two fillers.
    match header(request, "sec-websocket-key") {
        Some(key) if key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(|b| is_base64(*b)) => {
            Ok(key)
        }
        _ => Err(400),
    }
}

fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(found.value.trim_ascii())
}

/// Whether a list, separated by commas, has a word in it.
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Path and query of a target, which may be a whole URL (RFC 9112 section 3.2.2).
fn path_and_query(target: &str) -> (&str, &str) {
    let authority = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let (target, root) = match authority {
        None => (target, ""),
        Some(rest) => (rest.find(['/', '?']).map_or("", |at| &rest[at..]), "/"),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (if path.is_empty() { root } else { path }, query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_or_a_whole_url() {
        for (target, path, query) in [
            ("/up", "/up", ""),
            ("/app/k?a=b?c", "/app/k", "a=b?c"),
            ("http://host:80/up?x", "/up", "x"),
            ("https://host", "/", ""),
            ("http://host?x=/y", "/", "x=/y"),
            ("*", "*", ""),
        ] {
            assert_eq!(path_and_query(target), (path, query), "{target}");
        }
    }
}
