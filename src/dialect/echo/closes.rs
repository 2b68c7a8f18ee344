//! The ends of connections, of which clients are informed twice.

use super::message;
use crate::dialect::Actions;
use crate::reason::Reason;

/// Code and reason of connections that the app has terminated.
pub(super) const TERMINATED: (u16, &str) = (4009, "Connection terminated by the app.");

/// Code and reason of connections whose presence no node answers for; pusher-js connects again at
/// once.
pub(super) const AWAY: (u16, &str) = (4200, "Presence is unavailable.");

/// Ends a connection, and says why twice: pages see the message, developer tools the close.
pub(super) fn send_away(code: u16, message: &str, out: &mut Actions) {
    message::error(code, message, out);

    // The codes that this dialect sends; those below 4100 tell pusher-js not to reconnect.
    let reason = match code {
        4001 | 4003 => Reason::App,
        4004 | 4100 => Reason::AppLimit,
        4009 => Reason::Origin,
        _ => Reason::Protocol,
    };
    out.because(reason).close_saying(code, message.to_owned());
}
