//! What is counted of remote verification.

use crate::counter::Counter;

/// How a question about a token, for a remote verifier, was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckOutcome {
    /// The verifier granted it.
    Granted,
    /// The verifier refused it.
    Refused,
    /// The verifier could not be asked, or not be understood.
    Unavailable,
    /// By what the verifier had said a moment before.
    Cached,
    /// Not at all: the client had gone, or had sent another token.
    Forgotten,
}

impl CheckOutcome {
    /// All, with the names that metrics use.
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
    /// Questions about tokens, by how they were answered.
    pub checks: [Counter; CheckOutcome::ALL.len()],
    /// Requests to remote verifiers.
    pub requests: Counter,
    /// Those of them that were not answered, or not in a way that can be understood.
    pub failures: Counter,
    /// Requests under way.
    pub requests_in_flight: Counter,
    /// Sessions that wait for an answer or live on a grant.
    pub sessions: Counter,
    /// Tokens that are asked about from time to time.
    pub tokens_watched: Counter,
    /// Sessions whose grant was taken back.
    pub revocations: Counter,
}
