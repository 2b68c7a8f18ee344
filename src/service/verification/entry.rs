//! One token before a remote verifier.

use crate::service::ConnectionRef;
use crate::token::{Grant, Refusal};
use crate::wheel::Now;
use ahash::RandomState;
use std::collections::HashSet;

/// A moment that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// Who asks: a connection, and which of its questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// The connection.
    pub connection: ConnectionRef,
    /// Tells its questions apart.
    pub attempt: u32,
}

/// What a token is found by.
pub(super) type Digest = [u8; 32];

/// How far the asking has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckStage {
    /// Nothing is asked.
    Resting,
    /// At this place in the queue.
    Queued(u64),
    /// The verifier has been asked.
    Asked,
}

/// What is known about a token, who waits and who lives on it. Moments are of the monotonic clock.
pub(super) struct TokenEntry {
    /// Empty while nobody holds the entry.
    pub(super) token: Box<str>,
    /// Those who have not been answered.
    pub(super) waiting: HashSet<Asker, RandomState>,
    /// Those who have been granted it.
    pub(super) watching: HashSet<Asker, RandomState>,
    pub(super) stage: CheckStage,
    /// What the verifier said last.
    pub(super) verdict: Option<Result<Grant, Refusal>>,
    /// Until when that answers others.
    pub(super) fresh_until_ns: u64,
    /// When the first of those who wait has come.
    pub(super) asked_at_ns: u64,
    /// When to see whether it is still worth waiting.
    pub(super) give_up_at_ns: u64,
    /// When to ask again.
    pub(super) recheck_at_ns: u64,
    /// When sessions end because asking again has failed; [`NEVER`] unless a re-check is due.
    pub(super) grace_ends_at_ns: u64,
    /// Whether the re-check that is due has been tried in vain.
    pub(super) missed: bool,
    /// The moment under which the verification has noted the entry; [`NEVER`] when it has not.
    pub(super) timer_ns: u64,
    /// Whether it is among the tokens that metrics call watched.
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
    /// Whether any session cares.
    pub(super) fn is_held(&self) -> bool {
        !self.waiting.is_empty() || !self.watching.is_empty()
    }

    /// What the verifier said last, if that is not too long ago.
    pub(super) fn fresh(&self, now: Now) -> Option<&Result<Grant, Refusal>> {
        self.verdict.as_ref().filter(|_| now.monotonic_ns < self.fresh_until_ns)
    }

    /// Whether the verifier said last that the token is good, and it has not expired since.
    pub(super) fn is_live(&self, now: Now) -> bool {
        matches!(&self.verdict, Some(Ok(grant)) if now.unix_ms < grant.expires_at_ms)
    }

    /// Whether a re-check is queued for the first time.
    pub(super) fn awaits_its_turn(&self) -> bool {
        matches!(self.stage, CheckStage::Queued(_)) && !self.missed
    }

    /// When the verification has to look at it.
    pub(super) fn due_at_ns(&self) -> u64 {
        match self.stage {
            CheckStage::Asked => NEVER,
            CheckStage::Queued(_) => self.give_up_at_ns.min(self.grace_ends_at_ns),
            CheckStage::Resting if self.watching.is_empty() => self.fresh_until_ns,
            CheckStage::Resting => self.recheck_at_ns.min(self.grace_ends_at_ns),
        }
    }
}
