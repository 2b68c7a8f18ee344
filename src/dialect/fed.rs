//! The feed's side of a dialect: the addresses of its lines, and the error for an event that cannot
//! be published.

/// The addresses of a dialect's feed lines.
#[derive(Clone, Copy, Debug)]
pub struct FeedAddress {
    /// The word that starts each.
    pub word: &'static str,
    /// The least and the most parts that follow.
    pub parts: (usize, usize),
    /// What to write, for publishers.
    pub shape: &'static str,
}

/// Why a fed event cannot be published. The reason is shown to the publisher.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unusable(pub String);
