//! Cells, and how requests and tokens name them.

use crate::token::Grant;

/// Longest cell name, in bytes; Personium's own limit is 128 characters.
pub(super) const CELL_BYTES_MAX: usize = 128;

/// Whether this can be a cell's name. The other names of a topic's address follow the same rule.
pub(super) fn is_name(name: &str) -> bool {
    (1..=CELL_BYTES_MAX).contains(&name.len()) && is_segment(name)
}

/// Whether a text can be a segment of an address.
pub(super) fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '/' || c == ' ' || c.is_control())
}

/// The cell of a request whose path names none: the host up to its first dot.
pub(super) fn cell_of_host(host: &str) -> Option<&str> {
    let (cell, rest) = host.split_once('.')?;
    // "192.0.2.1" has no cell in front of it.
    let is_address =
        rest.split(':').next()?.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (is_name(cell) && !is_address).then_some(cell)
}

/// Whether the token's audience or issuer names the cell: by name, or by one of its two URLs at
/// this host.
pub(super) fn is_for(grant: &Grant, cell: &str, host: &str) -> bool {
    let mut names = ["aud", "iss"].iter().filter_map(|claim| grant.list(claim)).flatten();
    names.any(|name| {
        // Not a URL: the cell's own name.
        let Some((scheme, rest)) = name.split_once("://") else { return name == cell };
        let rest = rest.strip_suffix('/').unwrap_or(rest);

        // Personium has two forms of a cell's URL: a path of the unit's host, and a host of its
        // own.
        let (named, path) = rest.split_once('/').unwrap_or((rest, ""));
        matches!(scheme, "http" | "https")
            && named.eq_ignore_ascii_case(host)
            && (path == cell || (path.is_empty() && cell_of_host(host) == Some(cell)))
    })
}
