//! The state of one token at a remote verifier.

use crate::service::ConnectionRef;
use crate::token::{Grant, Refusal};
use crate::wheel::Now;
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A moment that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// A session's question: the connection, and its number among that connection's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asker {
    /// The connection.
    pub connection: ConnectionRef,
    /// The number of the question.
    pub attempt: u32,
}

/// The key of an entry: the SHA-256 of its token.
pub(super) type Digest = [u8; 32];

/// Where an entry is between being idle and being asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckStage {
    /// No request is wanted.
    Resting,
    /// Queued, at this place.
    Queued(u64),
    /// A request is in flight.
    Asked,
}

/// A token's cached verdict, and the sessions that wait for it or rely on it. Moments are of the
/// monotonic clock.
pub(super) struct TokenEntry {
    /// Empty while no session holds the entry.
    pub(super) token: Box<str>,
    /// Sessions waiting for an answer.
    pub(super) waiting: HashSet<Asker, RandomState>,
    /// Sessions that rely on the grant.
    pub(super) watching: HashSet<Asker, RandomState>,
    pub(super) stage: CheckStage,
    /// The last verdict.
    pub(super) verdict: Option<Result<Grant, Refusal>>,
    /// Until when the verdict serves newcomers.
    pub(super) fresh_until_ns: u64,
    /// When the oldest waiting session asked.
    pub(super) asked_at_ns: u64,
    /// When to decide whether waiting is still worthwhile.
    pub(super) give_up_at_ns: u64,
    /// When to re-check.
    pub(super) recheck_at_ns: u64,
    /// When sessions are closed because the re-check keeps failing; [`NEVER`] unless one is due.
    pub(super) grace_ends_at_ns: u64,
    /// Whether the due re-check has failed at least once.
    pub(super) missed: bool,
    /// The moment of its timer; [`NEVER`] when none is set.
    pub(super) timer_ns: u64,
    /// Whether it is included in the gauge of watched tokens.
    pub(super) counted: bool,
}

impl Default for TokenEntry {
    fn default() -> Self {
        Self {
            token: "".into(),
            waiting: HashSet::default(),
            watching: HashSet::default(),
            stage: CheckStage::Resting,
            verdict: None,
            fresh_until_ns: 0,
            asked_at_ns: 0,
            give_up_at_ns: NEVER,
            recheck_at_ns: NEVER,
            grace_ends_at_ns: NEVER,
            missed: false,
            timer_ns: NEVER,
            counted: false,
        }
    }
}

impl TokenEntry {
    /// Whether any session waits for it or relies on it.
    pub(super) fn is_held(&self) -> bool {
        !self.waiting.is_empty() || !self.watching.is_empty()
    }

    /// The last verdict, while it may serve newcomers.
    pub(super) fn fresh(&self, now: Now) -> Option<&Result<Grant, Refusal>> {
        self.verdict.as_ref().filter(|_| now.monotonic_ns < self.fresh_until_ns)
    }

    /// Whether the last verdict is a grant that has not expired.
    pub(super) fn is_live(&self, now: Now) -> bool {
        matches!(&self.verdict, Some(Ok(grant)) if now.unix_ms < grant.expires_at_ms)
    }

    /// Whether its re-check is queued and has not been tried yet.
    pub(super) fn awaits_its_turn(&self) -> bool {
        matches!(self.stage, CheckStage::Queued(_)) && !self.missed
    }

    /// When its next timer is due.
    pub(super) fn due_at_ns(&self) -> u64 {
        match self.stage {
            CheckStage::Asked => NEVER,
            CheckStage::Queued(_) => self.give_up_at_ns.min(self.grace_ends_at_ns),
            CheckStage::Resting if self.watching.is_empty() => self.fresh_until_ns,
            CheckStage::Resting => self.recheck_at_ns.min(self.grace_ends_at_ns),
        }
    }
}
