//! Shared by both dialects: pings, the close code, and the replies to a token.

use super::settings::PersoniumSettings;
use crate::dialect::Action;
use crate::wheel::Now;
use std::io::Write as _;

/// The one close code of the application.
pub(super) const CLOSE: u16 = 1000;

/// Payload of the pings.
pub(super) const PING: &[u8] = &[1, 2, 3];

/// Pings as configured, from now on.
pub(super) fn keepalive(settings: &PersoniumSettings) -> Action {
    Action::Keepalive { interval_s: settings.ping_interval_s, misses_max: settings.ping_misses_max }
}

/// Writing to a `Vec` cannot fail; this says so once.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => {
        write!($out, $($argument)*).expect("writing to a Vec cannot fail")
    };
}
pub(super) use put;

/// Appends the reply to an accepted token, in the order of the reference's hash map.
pub(super) fn put_session(expires_in_s: u64, now: Now, out: &mut Vec<u8>) {
    put!(
        out,
        r#"{{"Response":"AccessToken","ExpiresIn":{expires_in_s},"Timestamp":{},"Result":"Success"}}"#,
        now.unix_ms
    );
}

/// Appends an error reply. Neither text may need an escape; `None` is null.
pub(super) fn put_error(response: Option<&str>, reason: &str, now: Now, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"Response":"#);
    match response {
        Some(response) => put!(out, r#""{response}""#),
        None => out.extend_from_slice(b"null"),
    }
    put!(out, r#","Timestamp":{},"Reason":"{reason}","Result":"Error"}}"#, now.unix_ms);
}
