//! What the two Personium dialects have in common: the table `[personium]`, how a request and a token name a
//! cell, and the replies that both give.
//!
//! This file knows neither events nor topics.

use crate::dialect::{Action, PING_INTERVAL_S};
use crate::token::{Grant, TokenSettings, Verifier};
use crate::wheel::Now;
use std::io::Write as _;

/// Longest cell name; Personium's own limit is 128 characters.
pub(super) const CELL_BYTES_MAX: usize = 128;

/// The one close code of the application.
pub(super) const CLOSE: u16 = 1000;

/// Payload of the pings.
pub(super) const PING: &[u8] = &[1, 2, 3];

/// The table `[personium]` of the configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersoniumSettings {
    /// Who verifies tokens.
    pub token: Option<TokenSettings>,
    /// Accept any token as one for reading; for closed networks and trials only.
    pub anonymous: bool,
    /// Longest session on one token; Personium's constant is an hour. A topic's session lasts as long as its
    /// token, and so long if that has no end.
    pub session_s_max: u32,
    /// How long a connection may stay without an accepted token, or expired.
    pub token_timeout_s: u32,
    /// Seconds between pings.
    pub ping_interval_s: u32,
    /// Unanswered pings in a row that end a session.
    pub ping_misses_max: u8,
    /// Longest text message of a client. Personium's is 8,192 characters, which its own tokens can exceed.
    pub text_bytes_max: usize,
    /// Rules of one session; a session lists them all on request.
    pub subscriptions_max: u32,
    /// The topics that there are, as globs of `cell/box/path`, where `*` is any text without a slash; every
    /// well-formed one when absent.
    pub topics: Option<Vec<String>>,
    /// Made from `token` when the daemon starts.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

impl Default for PersoniumSettings {
    fn default() -> Self {
        Self {
            token: None,
            anonymous: false,
            session_s_max: 3600,
            token_timeout_s: 60,
            ping_interval_s: PING_INTERVAL_S,
            ping_misses_max: 10,
            text_bytes_max: 64 * 1024,
            subscriptions_max: 1000,
            topics: None,
            verifier: None,
        }
    }
}

/// Pings from now on, as the settings want them.
pub(super) fn keepalive(settings: &PersoniumSettings) -> Action {
    Action::Keepalive { interval_s: settings.ping_interval_s, misses_max: settings.ping_misses_max }
}

/// Whether a cell can be called so. The other names of a topic's address follow the same rule.
pub(super) fn is_name(name: &str) -> bool {
    (1..=CELL_BYTES_MAX).contains(&name.len()) && is_segment(name)
}

/// Whether a text can stand between two slashes of an address.
pub(super) fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '/' || c == ' ' || c.is_control())
}

/// The cell of a request whose path names none: before the first dot of the host.
pub(super) fn cell_of_host(host: &str) -> Option<&str> {
    let (cell, rest) = host.split_once('.')?;
    let is_address = rest.split(':').next()?.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (is_name(cell) && !is_address).then_some(cell)
}

/// Whether the token's audience or issuer names the cell: by name, or by one of its two URLs at this host.
pub(super) fn is_for(grant: &Grant, cell: &str, host: &str) -> bool {
    let names_the_cell = |name: &str| {
        let Some((scheme, rest)) = name.split_once("://") else { return name == cell };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (named, path) = rest.split_once('/').unwrap_or((rest, ""));
        matches!(scheme, "http" | "https")
            && named.eq_ignore_ascii_case(host)
            && (path == cell || (path.is_empty() && cell_of_host(host) == Some(cell)))
    };
    ["aud", "iss"]
        .iter()
        .any(|claim| grant.list(claim).is_some_and(|names| names.into_iter().any(names_the_cell)))
}

/// The moment so many seconds from now.
pub(super) fn after(now: Now, seconds: u32) -> u64 {
    now.monotonic_ns + u64::from(seconds) * 1_000_000_000
}

/// Writing to a `Vec` cannot fail; this says so once.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => { write!($out, $($argument)*).expect("writing to a Vec cannot fail") };
}
pub(super) use put;

/// Appends the reply to a token that was accepted, in the order of the reference's hash map.
pub(super) fn put_session(expires_in_s: u64, now: Now, out: &mut Vec<u8>) {
    put!(
        out,
        r#"{{"Response":"AccessToken","ExpiresIn":{expires_in_s},"Timestamp":{},"Result":"Success"}}"#,
        now.unix_ms
    );
}

/// Appends the reply to what was refused. Neither text may need an escape; `None` is a null.
pub(super) fn put_error(response: Option<&str>, reason: &str, now: Now, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"Response":"#);
    match response {
        Some(response) => put!(out, r#""{response}""#),
        None => out.extend_from_slice(b"null"),
    }
    put!(out, r#","Timestamp":{},"Reason":"{reason}","Result":"Error"}}"#, now.unix_ms);
}
