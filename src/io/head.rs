//! The head of a request: bytes until the empty line, then a WebSocket handshake or a refusal.
//!
//! The head is parsed once, when its end has come, however small the pieces it comes in.

use crate::api;
use crate::dialect::{Kind, Upgrade};
use crate::message::Inbox;
use crate::metrics::Handshake;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use std::ops::Range;

/// Most header fields of a request. Browsers send about 15, proxies add some; nginx and Apache allow 100.
const HEADERS_MAX: usize = 100;
/// Longest `Host`: a name of the DNS has 253 characters, a port five. A session may keep it.
const HOST_BYTES_MAX: usize = 253 + 1 + 5;
/// What a request is refused with that asks for no WebSocket, unless the dialect has something better to say.
const NO_WEBSOCKET: u16 = 405;

/// Reads more of a connection's head; what has come before is in `inbox`. When the head is whole the shard
/// is told, and the range of `bytes` that follows it is returned, unless the request was refused.
pub(super) fn read(
    inbox: &mut Option<Box<Inbox>>,
    bytes: &[u8],
    kinds: &[Kind],
    id: Id,
    shard: &mut Shard,
    now: Now,
) -> Option<Range<usize>> {
    let mut held = inbox.take().map(|inbox| inbox.into_bytes()).unwrap_or_default();
    let before = held.len();
    let limit = shard.limits().head_bytes_max;
    let whole: &[u8] = if before == 0 {
        bytes
    } else {
        held.extend_from_slice(bytes);
        &held
    };
    // The end may lie across the seam.
    let from = before.saturating_sub(3);
    let end = whole[from..].windows(4).position(|window| window == b"\r\n\r\n").map(|at| from + at + 4);
    match end {
        Some(end) if end <= limit => {
            let accepted = request(&whole[..end], kinds, id, shard, now);
            accepted.then_some(end - before..bytes.len())
        }
        None if whole.len() < limit => {
            *inbox = Some(Box::new(Inbox::of_bytes(if before == 0 { bytes.to_vec() } else { held })));
            None
        }
        _ => {
            shard.respond(id, &api::refusal(431), Handshake::Limit, now);
            None
        }
    }
}

/// One whole head. Returns whether it has become a session.
fn request(head: &[u8], kinds: &[Kind], id: Id, shard: &mut Shard, now: Now) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = match request.parse(head) {
        Err(httparse::Error::TooManyHeaders) => Some((431, Handshake::Limit)),
        Ok(httparse::Status::Complete(_)) => None,
        _ => Some((400, Handshake::Malformed)),
    };
    let (status, handshake) = match refused {
        Some(refused) => refused,
        None => match handshake(&request) {
            Ok(key) => {
                let accept = tungstenite::handshake::derive_accept_key(key);
                let response = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                if shard.upgrade(id, &upgrade(&request), kinds, response.as_bytes(), now) {
                    return true;
                }
                (404, Handshake::NotFound)
            }
            Err(status) => match shard.claimant(&upgrade(&request), kinds, now) {
                // A path that nobody has is not found, whatever is wrong with the request.
                None => (404, Handshake::NotFound),
                Some(kind) if status == NO_WEBSOCKET => {
                    let (method, path) = (request.method.unwrap_or(""), upgrade(&request).path);
                    (kind.plain(method, path), Handshake::Malformed)
                }
                Some(_) => (status, Handshake::Malformed),
            },
        },
    };
    shard.respond(id, &api::refusal(status), handshake, now);
    false
}

fn upgrade<'a>(request: &httparse::Request<'_, 'a>) -> Upgrade<'a> {
    let target = request.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |name| header(request, name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
    Upgrade {
        path,
        query,
        host: text("host"),
        auth_token: text("x-auth-token"),
        origin: text("origin"),
        subprotocols: text("sec-websocket-protocol"),
    }
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

fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}
