//! What the dialects share that say in words what a token lets its bearer do, for an operator who asks before a client
//! does. They decide by the same claims; `tests/world/grants.rs` holds these words against what they do.

use crate::token::Grant;

/// The cells that a token is for, as it names them.
pub(super) fn cells(grant: &Grant) -> Result<String, String> {
    let named = ["aud", "iss"].into_iter().filter_map(|claim| grant.list(claim)).flatten();
    let named: Vec<&str> = named.collect();
    match named.is_empty() {
        true => Err("it names no cell: aud or iss has to be the cell's name or URL".into()),
        false => Ok(named.join(" and ")),
    }
}

/// Whether some of these words is in the scope.
pub(super) fn may(grant: &Grant, wanted: &[&str]) -> bool {
    grant.words("scope").any(|word| wanted.contains(&word))
}

/// Words as a list of them is shown.
pub(super) fn of_list(words: &[&str]) -> String {
    if words.is_empty() { "nothing at all".into() } else { words.join(", ") }
}
