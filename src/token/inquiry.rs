//! Questions to a remote verifier, their timing and its findings, whatever its protocol.

use super::grant::Grant;
use super::refusal::Refusal;

/// Longest time for one request, in milliseconds: clients do not wait longer.
pub(super) const TIMEOUT_MS_MAX: u64 = 60_000;
/// Most concurrent requests: no issuer accepts more connections from one client.
pub(super) const CONCURRENCY_MAX: usize = 1024;
/// Longest time for which an answer is reused, in seconds: a revoked token opens sessions for as
/// long.
pub(super) const CACHE_S_MAX: u64 = 300;
/// Longest time for which sessions outlast an unreachable issuer, in seconds: a day.
pub(super) const GRACE_S_MAX: u64 = 86_400;

/// How often and how long a remote verifier is asked, whatever its protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Milliseconds for a whole request, from the connection to the last byte of the answer.
    pub timeout_ms: u64,
    /// Maximum number of concurrent requests.
    pub concurrency_max: usize,
    /// Seconds for which a grant is reused for other clients with the token.
    pub cache_s: u64,
    /// Seconds for which sessions stay while a verifier that has granted their token is
    /// unreachable.
    pub grace_s: u64,
}

impl Timing {
    /// Three seconds are long for a lookup and short for a person; 32 requests at 10 ms each are
    /// 3,200 tokens a second, and no more threads than a small application server has.
    pub(super) const DEFAULT: Self =
        Self { timeout_ms: 3000, concurrency_max: 32, cache_s: 10, grace_s: 300 };
}

/// A question to a remote verifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenInquiry {
    /// What the token grants.
    Grant,
    /// Whether a token that it has granted is still good.
    Recheck,
}

/// What a remote verifier has found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The token is good and grants this.
    Granted(Grant),
    /// It still grants what it did.
    Confirmed,
    /// It is not good.
    Refused(Refusal),
    /// The answer cannot be understood as either; why, for a log.
    Unclear(String),
}

impl From<Result<Grant, Refusal>> for Finding {
    fn from(result: Result<Grant, Refusal>) -> Self {
        match result {
            Ok(grant) => Self::Granted(grant),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
