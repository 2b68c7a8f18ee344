//! What the configuration knows of the table of a dialect, whichever it is.

use crate::token::{TokenSettings, Verifier};

/// Seconds between pings where the reference has one a minute. nginx cuts a connection that has carried nothing for
/// 60 s (`proxy_read_timeout`), so a minute is exactly too long; this leaves 10 s to a slow timer or network.
pub const PING_INTERVAL_S: u32 = 50;

/// The table of a dialect, or of several, in the configuration.
pub trait DialectTable {
    /// Its name, without brackets.
    fn name(&self) -> &'static str;

    /// The names of the dialects that it is for.
    fn dialects(&self) -> &'static [&'static str];

    /// What is readable but cannot run, each with what to do. `is_spoken` tells whether any listener speaks one of the
    /// dialects.
    fn problems(&self, is_spoken: bool) -> Vec<String>;

    /// What verifies tokens, if that is set, and the place of the verifier that is made of it; `None` for dialects without
    /// tokens.
    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        None
    }

    /// Whether a secret is taken that is shorter than it should be, with a warning, as it is in use elsewhere already.
    fn takes_short_secrets(&self) -> bool {
        false
    }

    /// The longest messages of clients, in bytes, each with its key.
    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
}
