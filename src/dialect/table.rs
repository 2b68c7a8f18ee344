//! What the configuration knows of the table of a dialect, whichever it is.

use crate::token::{TokenSettings, Verifier};

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
