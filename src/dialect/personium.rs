//! What the two Personium dialects have in common: the table `[personium]`, how a request and a token name a
//! cell, and the replies that both give.
//!
//! Each dialect is a file below.

pub mod event;
pub mod topic;

use crate::dialect::Action;
use crate::dialect::personium::topic::{GLOBS_MAX, is_glob};
use crate::dialect::table::{DialectTable, PING_INTERVAL_S};
use crate::setting::LONGEST_MESSAGE_BYTES;
use crate::text::start;
use crate::token::{Grant, TokenSettings, Verifier};
use crate::wheel::Now;
use schemars::JsonSchema;
use std::io::Write as _;

/// Longest cell name; Personium's own limit is 128 characters.
pub(super) const CELL_BYTES_MAX: usize = 128;

/// The one close code of the application.
pub(super) const CLOSE: u16 = 1000;

/// Payload of the pings.
pub(super) const PING: &[u8] = &[1, 2, 3];

/// The dialects personium-event and personium-topic.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PersoniumSettings {
    /// true accepts any token, for reading; for closed networks and trials. Then [personium.token.…] is not asked.
    pub anonymous: bool,
    /// Longest session of personium-event on one token, in seconds; Personium's own is an hour. Sessions of
    /// personium-topic last as long as their tokens, or so long when these have no end.
    #[schemars(range(min = 1))]
    pub session_s_max: u32,
    /// Seconds that a connection may stay without an accepted token, or with an expired one. personium-topic ends such
    /// connections with the first ping if that is later.
    pub token_timeout_s: u32,
    /// Seconds between pings. Keep it below the read timeout of every proxy on the way; nginx's is 60 unless changed.
    #[schemars(range(min = 1))]
    pub ping_interval_s: u32,
    /// Unanswered pings in a row that end a session.
    pub ping_misses_max: u8,
    /// Longest message of a client. Over it the client is closed with code 1009. Personium's own is 8,192 characters,
    /// which its own tokens can exceed.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub text_bytes_max: usize,
    /// Subscriptions of one client of personium-event.
    pub subscriptions_max: u32,
    /// The topics that exist, as CELL/BOX/PATH, where * stands for any text without a slash; every well-formed one
    /// without this key.
    #[schemars(example = &["cell1/box1/*"])]
    pub topics: Option<Vec<String>>,
    /// What verifies tokens.
    #[schemars(extend("x-verifiers" = ["jwt", "introspection", "static"]))]
    pub token: Option<TokenSettings>,
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

impl DialectTable for PersoniumSettings {
    fn name(&self) -> &'static str {
        "personium"
    }

    fn dialects(&self) -> &'static [&'static str] {
        &["personium-event", "personium-topic"]
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        self.problems(is_spoken)
    }

    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        Some((self.token.as_ref(), &mut self.verifier))
    }

    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        vec![("personium.text_bytes_max", self.text_bytes_max)]
    }
}

impl PersoniumSettings {
    /// What cannot run, each with what to do. `is_spoken` tells whether any listener speaks one of the dialects.
    #[must_use]
    pub fn problems(&self, is_spoken: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_spoken && self.token.is_none() && !self.anonymous {
            problems.push(
                "[personium]: no token verifier: add token = { jwt = { … } }, { introspection = { … } } or { static = { … } }, or \
                 anonymous = true where everybody may read"
                    .into(),
            );
        }
        problems.extend(self.token.as_ref().and_then(|token| {
            token.problem(
                "personium",
                &[("wazo_auth", "wazo_auth knows no cells: use introspection")],
            )
        }));
        let globs = self.topics.as_deref().unwrap_or_default();
        if globs.len() > GLOBS_MAX {
            problems.push(format!(
                "[personium] topics: more than {GLOBS_MAX}; say more with a *, as in \"cell1/box1/*\""
            ));
        }
        if let Some(glob) = globs.iter().find(|glob| !is_glob(glob)) {
            problems.push(format!(
                "[personium] topics: {:?} matches no topic: write CELL/BOX/PATH, where * stands for any text without a \
                 slash",
                start(glob, 64)
            ));
        }
        problems
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
    let is_address =
        rest.split(':').next()?.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
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
