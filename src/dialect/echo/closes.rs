//! The ends of connections, which clients are told twice.

use super::message;
use crate::dialect::Actions;
use crate::reason::Reason;

/// Code and reason of a user's connections that the app has ended.
pub(super) const TERMINATED: (u16, &str) = (4009, "Connection terminated by the app.");

/// Ends a connection that may not stay, and tells it twice why: pages see the one, those who debug the other.
pub(super) fn send_away(code: u16, message: &str, out: &mut Actions) {
    message::error(code, message, out);
    let reason = match code {
        4001 | 4003 => Reason::App,
        4004 | 4100 => Reason::AppLimit,
        4009 => Reason::Origin,
        _ => Reason::Protocol,
    };
    out.because(reason).close_saying(code, message.to_owned());
}
