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

/// A topic that an operator asks about, as subscriptions are looked up for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedTopic {
    /// The bytes of the topic.
    pub topic: Box<[u8]>,
    /// The facet; `None` for every facet.
    pub facet: Option<Box<[u8]>>,
}

impl AskedTopic {
    /// A topic whose facet does not matter, in parts.
    pub(super) fn new(parts: &[&[u8]]) -> Self {
        Self { topic: parts.concat().into(), facet: None }
    }
}

/// Why a fed event cannot be published. The reason is shown to the publisher.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unusable(pub String);
