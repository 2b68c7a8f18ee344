//! What a complete head asks for: a WebSocket session, or a request that a dialect answers.

use super::clients::{ForwardedOutcome, full};
use super::request::{Body, RequestContext};
use crate::dialect::Upgrade;
use crate::http;
use crate::http::head::{self, Fault, HEADERS_MAX, Head, HeadFields};
use crate::reason::Reason;
use crate::shard::Shard;
use crate::throttle::LogLine;

const NOT_PASSED_ON: Fault = Fault {
    status: 426,
    reason: "A proxy did not pass this request on as a WebSocket handshake: nginx needs \
         proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade and proxy_set_header \
         Connection \"upgrade\".",
};
const NO_UPGRADE: Fault = Fault {
    status: 400,
    reason: "This is not a valid WebSocket handshake: the Connection header must include Upgrade \
         (RFC 6455 section 4.2.1). nginx needs proxy_set_header Connection \"upgrade\".",
};
const BAD_VERSION: Fault = Fault {
    status: 426,
    reason: "This endpoint speaks WebSocket version 13 only: send Sec-WebSocket-Version: 13.",
};
const BAD_KEY: Fault = Fault {
    status: 400,
    reason: "This is not a valid WebSocket handshake: it needs one Sec-WebSocket-Key of 16 bytes \
         in base64 (RFC 6455 section 4.2.1).",
};
const BODY: Fault = Fault {
    status: 400,
    reason: "A WebSocket handshake has no body: leave out Content-Length and Transfer-Encoding.",
};

/// The outcome of a head.
pub(super) enum HeadOutcome {
    /// A session.
    Session,
    /// A request that a dialect answers once its body is complete.
    Request(Body),
    /// Refused: the connection ends.
    Refused,
}

/// The response to a refused request, the reason, and the details for the log.
type HandshakeRefusal = (Vec<u8>, Reason, String);

/// Reads one complete head.
pub(super) fn read(bytes: &[u8], context: &RequestContext<'_>, shard: &mut Shard) -> HeadOutcome {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let (is_head, found) = match Head::read(bytes, &mut fields) {
        Ok(head) => (head.is_head, route(&head, bytes, context, shard)),
        Err(fault) if fault == head::TOO_LARGE => (false, Err(refusal(431, Reason::HeadLimit))),
        Err(fault) => (false, Err(malformed(fault))),
    };

    found.unwrap_or_else(|(response, reason, detail)| {
        // The status and headers of a GET, and no more (RFC 9110 section 9.3.2).
        let response = if is_head { http::without_body(response) } else { response };
        shard.respond_saying(context.id, &response, (reason, &detail), context.now);
        HeadOutcome::Refused
    })
}

/// Refuses a head that is longer than allowed.
pub(super) fn refuse_long(context: &RequestContext<'_>, shard: &mut Shard) {
    shard.respond(context.id, &http::refusal(431), Reason::HeadLimit, context.now);
}

fn malformed(fault: Fault) -> HandshakeRefusal {
    (http::refusal_saying(fault.status, fault.reason), Reason::BadRequest, fault.reason.into())
}

/// Finds the dialect that is asked.
fn route(
    head: &Head<'_>,
    bytes: &[u8],
    context: &RequestContext<'_>,
    shard: &mut Shard,
) -> Result<HeadOutcome, HandshakeRefusal> {
    let RequestContext { kinds, id, .. } = context;
    let wants_websocket =
        head.method == "GET" && !head.is_head && head.lists("upgrade", b"websocket");
    let fields = head.fields();

    if !wants_websocket && let Some(server) = shard.server(kinds, head.method, head.path) {
        let body = fields.and_then(|fields| Body::of(head, &fields, bytes, server));
        return Ok(body.map_or_else(
            |fault| {
                context.refuse(server.0, head.is_head, fault, shard);
                HeadOutcome::Refused
            },
            HeadOutcome::Request,
        ));
    }

    // Before the claim: refusals are logged with the client's address, not the proxy's.
    learn(head, context, shard);
    let fields = fields.map_err(malformed)?;
    // Only dialects with topics report it.
    let tells_remote = kinds.iter().any(|kind| kind.has_topics());
    let remote = tells_remote.then(|| context.clients.remote(*id, context.socket)).flatten();
    let remote = remote.map_or_else(String::new, |remote| remote.to_string());

    let subprotocols = head.list("sec-websocket-protocol");
    let upgrade = Upgrade {
        path: head.path,
        query: head.query,
        host: fields.host,
        auth_token: fields.auth_token,
        authorization: fields.authorization,
        remote: &remote,
        origin: fields.origin,
        subprotocols: &subprotocols,
    };

    // A browser that opens the address as a page learns what the path is for.
    if !wants_websocket && !is_handshake(head) {
        let kind = shard.claimant(&upgrade, kinds, context.now).ok_or_else(not_found)?;
        return Err(refusal(kind.plain(head.method, head.path), Reason::BadRequest));
    }
    match key(head, &fields) {
        Ok(key) => {
            // Before the session exists, so that a refusal needs no undoing.
            admit(context, shard)?;
            let response = switching_protocols(key);
            let is_claimed = shard.upgrade(*id, &upgrade, kinds, response.as_bytes(), context.now);
            if is_claimed { Ok(HeadOutcome::Session) } else { Err(not_found()) }
        }
        Err(fault) => {
            // An unknown path is not found, whatever is wrong with the request.
            shard.claimant(&upgrade, kinds, context.now).ok_or_else(not_found)?;
            Err(malformed(fault))
        }
    }
}

/// The response that accepts a handshake with this key.
fn switching_protocols(key: &[u8]) -> String {
    let accept = tungstenite::handshake::derive_accept_key(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn refusal(status: u16, reason: Reason) -> HandshakeRefusal {
    (http::refusal(status), reason, String::new())
}

fn not_found() -> HandshakeRefusal {
    refusal(404, Reason::NotFound)
}

/// Learns from a trusted proxy on whose behalf a request is made.
fn learn(head: &Head<'_>, context: &RequestContext<'_>, shard: &Shard) {
    let told = context.clients.learn(
        context.id,
        context.socket,
        &shard.settings().trusted_proxies,
        head.all(),
    );
    // A proxy that adds one header and passes the other on lets clients forge their address.
    if told == ForwardedOutcome::Contradicted {
        LogLine::ProxyContradicted.warn(context.now, || {
            let proxy = context.clients.remote(context.id, context.socket);
            format!(
                "X-Forwarded-For and Forwarded of a request from {} name different clients, so \
                 neither is trusted: let the proxy remove the one that it does not set",
                proxy.map_or_else(|| "a proxy".into(), |proxy| proxy.ip.to_string())
            )
        });
    }
}

/// Counts a session of the client that a proxy has named.
fn admit(context: &RequestContext<'_>, shard: &Shard) -> Result<(), HandshakeRefusal> {
    // Connections of a trusted proxy are not counted by address when they are accepted: the client
    // is known only now.
    let most = shard.limits().connections_per_address_max;
    if context.clients.admit_session(context.id, &shard.settings().trusted_proxies, most) {
        return Ok(());
    }
    let client = context.clients.remote(context.id, context.socket);
    let detail = client.map_or_else(String::new, |client| full(client, most));
    Err((http::refusal(429), Reason::AddressLimit, detail))
}

/// Whether a request was a handshake when it was sent. A proxy that does not support WebSocket
/// drops `Upgrade` and `Connection`, makes HTTP/1.0 of it, and passes the rest.
fn is_handshake(head: &Head<'_>) -> bool {
    let has = |name| head.lines(name).next().is_some();
    head.method == "GET"
        && !head.is_head
        && (has("sec-websocket-key") || has("sec-websocket-version"))
}

/// The client's key, or what is wrong with its handshake (RFC 6455 section 4.2.1).
fn key<'a>(head: &Head<'a>, fields: &HeadFields<'_>) -> Result<&'a [u8], Fault> {
    // A proxy's doing before a client's: the advice differs.
    if head.is_old || !head.lists("upgrade", b"websocket") {
        return Err(NOT_PASSED_ON);
    }
    if !head.lists("connection", b"upgrade") {
        return Err(NO_UPGRADE);
    }
    if head.single("sec-websocket-version") != Ok(Some(b"13")) {
        return Err(BAD_VERSION);
    }
    // The bytes of a body would be read as frames.
    if !fields.coding.is_none() {
        return Err(BODY);
    }
    // 16 bytes in base64: 22 characters and two fillers.
    match head.single("sec-websocket-key") {
        Ok(Some(key))
            if key.len() == 24
                && key.ends_with(b"==")
                && key[..22].iter().all(|b| is_base64(*b)) =>
        {
            Ok(key)
        }
        _ => Err(BAD_KEY),
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}
