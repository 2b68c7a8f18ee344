//! The metrics of remote verification.

use crate::counter::Counter;

/// How a question about a token was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckOutcome {
    /// The verifier granted it.
    Granted,
    /// The verifier refused it.
    Refused,
    /// The verifier could not be asked, or gave no clear answer.
    Unavailable,
    /// Answered from the cache.
    Cached,
    /// Unanswered: the client left, or sent another token.
    Forgotten,
}

impl CheckOutcome {
    /// All outcomes, with their names in metrics.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Granted, "granted"),
        (Self::Refused, "refused"),
        (Self::Unavailable, "unavailable"),
        (Self::Cached, "cached"),
        (Self::Forgotten, "forgotten"),
    ];
}

/// Counters of one verification thread.
#[derive(Debug, Default)]
pub struct VerificationCounters {
    /// Questions about tokens, by outcome.
    pub checks: [Counter; CheckOutcome::ALL.len()],
    /// Requests to remote verifiers.
    pub requests: Counter,
    /// Requests without a reply, or with an unclear one.
    pub failures: Counter,
    /// Requests in flight.
    pub requests_in_flight: Counter,
    /// Sessions that wait for an answer or rely on a grant.
    pub sessions: Counter,
    /// Tokens that are re-checked periodically.
    pub tokens_watched: Counter,
    /// Sessions whose grant was revoked.
    pub revocations: Counter,
}
