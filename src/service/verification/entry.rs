//! One token before a remote verifier.

use super::{Asker, NEVER};
use crate::token::{Grant, Refusal};
use crate::wheel::Now;
use ahash::RandomState;
use std::collections::HashSet;

/// How far the asking has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is asked.
    Resting,
    /// At this place in the line.
    Queued(u64),
    /// The verifier has been asked.
    Asked,
}

/// What is known about a token, who waits and who lives on it. Moments are of the monotonic clock.
pub(super) struct Case {
    /// Empty while nobody holds the case.
    pub(super) token: Box<str>,
    /// Those who have not been answered.
    pub(super) waiting: HashSet<Asker, RandomState>,
    /// Those who have been granted it.
    pub(super) watching: HashSet<Asker, RandomState>,
    pub(super) stage: Stage,
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
    /// The moment under which the verification has noted the case; [`NEVER`] when it has not.
    pub(super) timer_ns: u64,
    /// Whether it is among the tokens that metrics call watched.
    pub(super) counted: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            token: "".into(),
            waiting: HashSet::default(),
            watching: HashSet::default(),
            stage: Stage::Resting,
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

impl Case {
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
        matches!(self.stage, Stage::Queued(_)) && !self.missed
    }

    /// When the verification has to look at it.
    pub(super) fn due_at_ns(&self) -> u64 {
        match self.stage {
            Stage::Asked => NEVER,
            Stage::Queued(_) => self.give_up_at_ns.min(self.grace_ends_at_ns),
            Stage::Resting if self.watching.is_empty() => self.fresh_until_ns,
            Stage::Resting => self.recheck_at_ns.min(self.grace_ends_at_ns),
        }
    }
}
