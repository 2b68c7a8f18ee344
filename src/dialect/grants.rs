//! Shared by the dialects that describe what a token grants, for an operator who asks before a
//! client does. Sessions decide by the same claims; `tests/world/grants.rs` checks these words
//! against them.

use crate::token::Grant;

/// The cells that a token is for, as it names them.
pub(super) fn cells(grant: &Grant) -> Result<String, String> {
    let named = ["aud", "iss"].into_iter().filter_map(|claim| grant.list(claim)).flatten();
    let named: Vec<&str> = named.collect();
    if named.is_empty() {
        return Err("it names no cell: aud or iss has to be the cell's name or URL".into());
    }
    Ok(named.join(" and "))
}

/// Whether one of these words is in the scope.
pub(super) fn may(grant: &Grant, wanted: &[&str]) -> bool {
    grant.words("scope").any(|word| wanted.contains(&word))
}

/// A list of words for display.
pub(super) fn of_list(words: &[&str]) -> String {
    if words.is_empty() { "nothing at all".into() } else { words.join(", ") }
}
