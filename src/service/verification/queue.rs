//! The order of checks, and the limit on concurrent requests.
//!
//! Waiting clients and re-checks of sessions take turns, so that a storm of either does not starve
//! the other. A verifier that fails a few times in a row is *failing*: it gets one request at a
//! time with a pause after each, until one succeeds; then the limit is lifted. So a storm does not
//! pile up at a verifier that is down, and clients that arrive after its return are served at once.

use super::entry::{CheckStage, Digest};
use crate::token::TokenInquiry;
use crate::wheel::Now;
use std::collections::BTreeMap;

/// Consecutive failed requests that make a verifier a failing one. Unclear answers count as success
/// here: one client's odd token must not slow the others down.
const FAILURES: u32 = 3;
/// Pause between requests to a failing verifier.
const PAUSE_NS: u64 = 250_000_000;

/// The queues of one verifier.
pub(super) struct CheckQueue {
    /// By place: first come, first served.
    waiting: BTreeMap<u64, Digest>,
    rechecks: BTreeMap<u64, Digest>,
    last_place: u64,
    last_was_recheck: bool,
    pub(super) concurrency_max: usize,
    pub(super) in_flight: usize,
    failures: u32,
    paused_until_ns: u64,
}

impl CheckQueue {
    pub(super) fn new(concurrency_max: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            rechecks: BTreeMap::new(),
            last_place: 0,
            last_was_recheck: false,
            concurrency_max,
            in_flight: 0,
            failures: 0,
            paused_until_ns: 0,
        }
    }

    /// Queues an entry, or promotes it from the re-checks to the waiting clients. An entry in
    /// flight is left alone.
    pub(super) fn join(&mut self, stage: &mut CheckStage, digest: Digest, inquiry: TokenInquiry) {
        match (*stage, inquiry) {
            (CheckStage::Asked, _) | (CheckStage::Queued(_), TokenInquiry::Recheck) => return,
            (CheckStage::Queued(place), TokenInquiry::Grant)
                if self.waiting.contains_key(&place) =>
            {
                return;
            }
            _ => self.leave(stage),
        }
        self.last_place += 1;
        let queue =
            if inquiry == TokenInquiry::Grant { &mut self.waiting } else { &mut self.rechecks };
        queue.insert(self.last_place, digest);
        *stage = CheckStage::Queued(self.last_place);
    }

    /// Takes an entry out of the queue, if it is queued.
    pub(super) fn leave(&mut self, stage: &mut CheckStage) {
        if let CheckStage::Queued(place) = *stage {
            self.waiting.remove(&place);
            self.rechecks.remove(&place);
            *stage = CheckStage::Resting;
        }
    }

    /// The next entry to ask about; counts it as in flight.
    pub(super) fn next(&mut self, now: Now) -> Option<Digest> {
        let failing = self.is_failing();
        let room = if failing { 1 } else { self.concurrency_max };
        if self.in_flight >= room || failing && now.monotonic_ns < self.paused_until_ns {
            return None;
        }
        let recheck = match (self.waiting.is_empty(), self.rechecks.is_empty()) {
            (false, false) => !self.last_was_recheck,
            (empty, _) => empty,
        };
        let queue = if recheck { &mut self.rechecks } else { &mut self.waiting };
        let (_, digest) = queue.pop_first()?;
        self.last_was_recheck = recheck;
        self.in_flight += 1;
        Some(digest)
    }

    /// Records the end of a request.
    pub(super) fn replied(&mut self, answered: bool, now: Now) {
        self.in_flight -= 1;
        if answered {
            self.failures = 0;
        } else {
            // Failing verifiers need the pause now, healthy ones never look at it.
            self.failures = self.failures.saturating_add(1);
            self.paused_until_ns = now.monotonic_ns + PAUSE_NS;
        }
    }

    /// Whether the verifier has failed several times in a row.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= FAILURES
    }

    /// When the current pause ends; `None` when no entry waits for that.
    pub(super) fn opens_at_ns(&self) -> Option<u64> {
        let wanted = self.is_failing() && self.in_flight == 0 && !self.is_empty();
        wanted.then_some(self.paused_until_ns)
    }

    /// Whether no entry is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rechecks.is_empty()
    }
}
