//! The privileges of both dialects: words of a token's scope.

use crate::dialect::grants::may;
use crate::token::Grant;

/// Any of these lets a client receive events.
const RECEIVE: [&str; 3] = ["root", "event", "event-read"];
/// Any of these lets it publish them too.
const PUBLISH: [&str; 2] = ["root", "event"];
/// Lets it follow topics.
const ALL: &str = "all";
/// Let it follow topics together.
const FOLLOW: [&str; 2] = ["read", "stream-receive"];

/// Whether the token lets its client receive events.
pub(super) fn may_receive(grant: &Grant) -> bool {
    may(grant, &RECEIVE)
}

/// Whether the token lets its client publish events.
pub(super) fn may_publish(grant: &Grant) -> bool {
    may(grant, &PUBLISH)
}

/// Whether the token lets its client follow topics.
pub(super) fn may_follow(grant: &Grant) -> bool {
    may(grant, &[ALL]) || FOLLOW.iter().all(|word| may(grant, &[word]))
}

/// Whether only these dialects have a use for a word of a scope: `read` is other services' too.
pub(super) fn is_own(word: &str) -> bool {
    RECEIVE.contains(&word) || [ALL, "stream-receive"].contains(&word)
}
