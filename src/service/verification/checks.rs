//! The checks at one remote verifier: one request at a time for each token, answers cached briefly,
//! and tokens checked again for as long as a session relies on them.
//!
//! A value without I/O. Its inputs are sessions asking about tokens, sessions leaving, the
//! verifier's replies, and the time; its outputs are requests, answers, and the time of its next
//! wake-up. Sessions that share a token share an entry: one request when they connect, one for each
//! re-check.
//!
//! Bounds: an entry is held by at least one session, or is one of at most [`KEPT_MAX`] whose cached
//! answer may still serve a reconnecting client. The token itself is kept only while a session
//! holds the entry; entries are found by a digest.

use super::counters::{CheckOutcome, VerificationCounters};
use super::entry::{Asker, CheckStage, Digest, NEVER, TokenEntry};
use super::health::{VerifierChange, VerifierHealth};
use super::question::TokenAnswer;
use super::queue::CheckQueue;
use crate::digest::sha256;
use crate::service::HttpReply;
use crate::token::{Finding, Grant, Refusal, RemoteVerifier, TokenInquiry};
use crate::wheel::Now;
use ahash::RandomState;
use http::Request;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Cached answers that no session holds, kept for clients that reconnect. A proxy's restart brings
/// many at once; an entry costs about a KiB.
const KEPT_MAX: usize = 10_000;
/// How long a refusal is cached: long enough for a client that retries without a pause, short
/// enough for a token issued a moment after it was first tried.
const REFUSED_NS: u64 = 2_000_000_000;
/// Pause before a re-check is retried, when the verifier could not be asked.
const RETRY_NS: u64 = 5_000_000_000;
/// Limit on waiting for one's turn while the verifier answers others, in timeouts. A refused client
/// reconnects and asks again, so waiting costs a merely slow verifier less.
const PATIENCE: u64 = 10;

/// A request in flight.
pub struct TokenCheck {
    digest: Digest,
    inquiry: TokenInquiry,
    /// The verifier whose rules apply to the reply, even if a reload replaces it meanwhile.
    remote: Arc<RemoteVerifier>,
}

/// The checks at one remote verifier.
pub struct TokenChecks {
    remote: Arc<RemoteVerifier>,
    pub(super) counters: Arc<VerificationCounters>,
    pub(super) entries: HashMap<Digest, TokenEntry, RandomState>,
    /// The entry held by each asker.
    pub(super) askers: HashMap<Asker, Digest, RandomState>,
    /// When to visit each entry: at most one timer for an entry.
    timers: BTreeSet<(u64, Digest)>,
    queue: CheckQueue,
    health: VerifierHealth,
    answers: Vec<(Asker, TokenAnswer)>,
    changes: Vec<VerifierChange>,
}

impl TokenChecks {
    /// Checks without entries. `counters` belong to the thread they run on.
    #[must_use]
    pub fn new(remote: Arc<RemoteVerifier>, counters: Arc<VerificationCounters>) -> Self {
        Self {
            queue: CheckQueue::new(remote.timing().concurrency_max),
            remote,
            counters,
            entries: HashMap::default(),
            askers: HashMap::default(),
            timers: BTreeSet::new(),
            health: VerifierHealth::default(),
            answers: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The current verifier.
    #[must_use]
    pub fn remote(&self) -> &Arc<RemoteVerifier> {
        &self.remote
    }

    /// Switches to another verifier, or to other settings of the same one. Cached answers serve no
    /// more newcomers, and watched tokens are re-checked on the new verifier's schedule.
    pub fn configure(&mut self, remote: Arc<RemoteVerifier>, now: Now) {
        self.queue.concurrency_max = remote.timing().concurrency_max;
        self.remote = remote;
        // Collected first, since settling an entry may remove it.
        let digests: Vec<Digest> = self.entries.keys().copied().collect();
        for digest in digests {
            if let Some(entry) = self.entries.get_mut(&digest) {
                entry.fresh_until_ns = entry.fresh_until_ns.min(now.monotonic_ns);
                if let Some(Ok(grant)) = &entry.verdict {
                    entry.recheck_at_ns =
                        entry.recheck_at_ns.min(recheck_at_ns(&self.remote, grant, now));
                }
            }
            self.settle(digest, now);
        }
    }

    /// Asks about a token for a session. The answer may be ready at once.
    pub fn ask(&mut self, asker: Asker, token: &str, now: Now) {
        let digest = sha256(token.as_bytes());
        let entry = self.entries.entry(digest).or_default();
        // The token was dropped when the last session left, and the request needs it.
        if entry.token.is_empty() {
            entry.token = token.into();
        }
        if self.askers.insert(asker, digest).is_none() {
            self.counters.sessions.add(1);
        }
        match entry.fresh(now) {
            Some(verdict) => {
                let verdict = verdict.clone();
                if let Ok(grant) = &verdict {
                    entry.watching.insert(asker);
                    // The grant may have been revoked while no session watched it, and re-checks
                    // were off.
                    if now.ns_until(grant.expires_at_ms) > entry.fresh_until_ns - now.monotonic_ns {
                        entry.recheck_at_ns = entry.recheck_at_ns.min(entry.fresh_until_ns);
                    }
                }
                self.answer(asker, verdict, CheckOutcome::Cached);
            }
            None => {
                // The first to wait starts the clock of the whole entry.
                if entry.waiting.is_empty() {
                    entry.asked_at_ns = now.monotonic_ns;
                    entry.give_up_at_ns =
                        now.monotonic_ns + self.remote.timing().timeout_ms * 1_000_000;
                }
                entry.waiting.insert(asker);
                self.queue.join(&mut entry.stage, digest, TokenInquiry::Grant);
            }
        }
        self.settle(digest, now);
    }

    /// A session has evidence that its token is no longer valid: stops serving the cached answer to
    /// others.
    pub fn doubt(&mut self, asker: Asker) {
        let entry = self.askers.get(&asker).and_then(|digest| self.entries.get_mut(digest));
        if let Some(entry) = entry {
            entry.fresh_until_ns = 0;
        }
    }

    /// Drops a session's interest in its token.
    pub fn forget(&mut self, asker: Asker, now: Now) {
        let Some(digest) = self.askers.remove(&asker) else { return };
        self.counters.sessions.sub(1);
        if let Some(entry) = self.entries.get_mut(&digest) {
            if entry.waiting.remove(&asker) {
                self.counters.checks[CheckOutcome::Forgotten as usize].add(1);
            }
            entry.watching.remove(&asker);
        }
        self.settle(digest, now);
    }

    /// The next request to send; `None` when none waits or the limit of concurrent requests is
    /// reached.
    pub fn next_check(&mut self, now: Now) -> Option<(TokenCheck, Request<String>)> {
        let digest = self.queue.next(now)?;
        let entry = self.entries.get_mut(&digest)?;
        entry.stage = CheckStage::Asked;
        let inquiry =
            if entry.waiting.is_empty() { TokenInquiry::Recheck } else { TokenInquiry::Grant };
        let request = self.remote.request(inquiry, &entry.token);
        self.counters.requests.add(1);
        self.counters.requests_in_flight.add(1);
        self.settle(digest, now);
        Some((TokenCheck { digest, inquiry, remote: Arc::clone(&self.remote) }, request))
    }

    /// Handles the outcome of a request.
    pub fn replied(&mut self, check: TokenCheck, reply: HttpReply, now: Now) {
        self.counters.requests_in_flight.sub(1);
        self.queue.replied(reply.is_ok(), now);
        let finding = match reply {
            Ok((status, body)) => check.remote.read(check.inquiry, status, &body, now.unix_ms),
            Err(reason) => Finding::Unclear(reason),
        };
        let Some(entry) = self.entries.get_mut(&check.digest) else { return };
        entry.stage = CheckStage::Resting;
        let verdict = match (finding, &entry.verdict) {
            (Finding::Granted(grant), _) => Ok(Ok(grant)),
            (Finding::Confirmed, Some(Ok(_))) if !entry.is_live(now) => Ok(Err(Refusal::Expired)),
            (Finding::Confirmed, Some(Ok(grant))) => Ok(Ok(grant.clone())),
            (Finding::Confirmed, _) => Err("it confirms what it has not granted".to_owned()),
            (Finding::Refused(refusal), _) => Ok(Err(refusal)),
            (Finding::Unclear(reason), _) => Err(reason),
        };
        match verdict {
            Ok(verdict) => {
                self.changes.extend(self.health.works());
                self.verified(check.digest, verdict, now);
                // An answer by rules that a reload has replaced serves those who waited, but no
                // newcomers.
                let is_former = !Arc::ptr_eq(&check.remote, &self.remote);
                if let Some(entry) = self.entries.get_mut(&check.digest).filter(|_| is_former) {
                    entry.fresh_until_ns = 0;
                }
            }
            Err(reason) => {
                self.counters.failures.add(1);
                self.changes.extend(self.health.fails(reason, now));
                self.unanswered(check.digest, now);
            }
        }
        self.settle(check.digest, now);
    }

    /// Visits the entries whose timers are due.
    pub fn tick(&mut self, now: Now) {
        while let Some(&(at_ns, digest)) = self.timers.first()
            && at_ns <= now.monotonic_ns
        {
            self.visit(digest, now);
        }
    }

    /// The next moment of the monotonic clock (ns) with work to do; `None` when no timer is set.
    #[must_use]
    pub fn wakes_at_ns(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at_ns, _)| *at_ns);
        timer.into_iter().chain(self.queue.opens_at_ns()).min()
    }

    /// Answers to deliver since the last call.
    pub fn take_answers(&mut self) -> Vec<(Asker, TokenAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// Changes to log since the last call.
    pub fn take_changes(&mut self) -> Vec<VerifierChange> {
        std::mem::take(&mut self.changes)
    }

    /// Number of entries, held by sessions or cached.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no state is left at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.askers.is_empty()
            && self.timers.is_empty()
            && self.queue.is_empty()
    }

    /// Stops using the verifier: waiting sessions are refused as unavailable, granted tokens are
    /// not re-checked.
    pub fn end(&mut self, now: Now) {
        self.counters.requests_in_flight.sub(self.queue.in_flight as u64);
        let digests: Vec<Digest> = self.entries.keys().copied().collect();
        for digest in digests {
            self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
        }
        // Granted sessions are only forgotten: their grants are valid until they expire.
        let askers: Vec<Asker> = self.askers.keys().copied().collect();
        askers.into_iter().for_each(|asker| self.forget(asker, now));
    }

    /// The verifier has decided.
    fn verified(&mut self, digest: Digest, verdict: Result<Grant, Refusal>, now: Now) {
        let Some(entry) = self.entries.get(&digest) else { return };
        let same = match (&entry.verdict, &verdict) {
            (Some(Ok(earlier)), Ok(later)) => self.remote.grants_the_same(earlier, later),
            _ => false,
        };
        // Sessions that rely on a wider grant must not keep what the new one lacks.
        if !same {
            self.revoke(digest, now);
        }
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        entry.verdict = Some(verdict.clone());
        entry.grace_ends_at_ns = NEVER;
        entry.recheck_at_ns = NEVER;
        entry.fresh_until_ns = now.monotonic_ns + REFUSED_NS;
        if let Ok(grant) = &verdict {
            let left_ms = grant.expires_at_ms.saturating_sub(now.unix_ms);
            entry.recheck_at_ns = recheck_at_ns(&self.remote, grant, now);
            entry.fresh_until_ns = after_ms(now, left_ms.min(self.remote.timing().cache_s * 1000));
        }
        match verdict {
            Ok(grant) => self.grant_waiting(digest, &grant),
            Err(refusal) => self.refuse_waiting(digest, refusal, CheckOutcome::Refused),
        }
    }

    /// The verifier could not be asked, or gave no clear answer.
    fn unanswered(&mut self, digest: Digest, now: Now) {
        // Outside a re-check nothing is retried: the waiting sessions are refused and come back by
        // themselves.
        if let Some(entry) = self.entries.get_mut(&digest)
            && entry.grace_ends_at_ns != NEVER
        {
            entry.recheck_at_ns = now.monotonic_ns + RETRY_NS;
            entry.missed = true;
        }
        self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
    }

    /// Handles an entry's timer.
    fn visit(&mut self, digest: Digest, now: Now) {
        let at_ns = now.monotonic_ns;
        let timing = self.remote.timing();
        let timeout_ns = timing.timeout_ms * 1_000_000;
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        let mut grace_is_over = entry.grace_ends_at_ns <= at_ns;
        if grace_is_over && entry.awaits_its_turn() && !self.queue.is_failing() {
            // The verifier works but has not been asked yet: its backlog is not the session's
            // fault.
            entry.grace_ends_at_ns = at_ns + timeout_ns;
            grace_is_over = false;
        }
        if grace_is_over {
            (entry.grace_ends_at_ns, entry.recheck_at_ns) = (NEVER, NEVER);
        }
        let mut gives_up = false;
        if entry.give_up_at_ns <= at_ns {
            gives_up =
                self.queue.is_failing() || at_ns >= entry.asked_at_ns + PATIENCE * timeout_ns;
            entry.give_up_at_ns = at_ns + timeout_ns;
        }
        if entry.stage == CheckStage::Resting
            && entry.recheck_at_ns <= at_ns
            && !entry.watching.is_empty()
        {
            if entry.grace_ends_at_ns == NEVER {
                entry.grace_ends_at_ns = at_ns + timeout_ns + timing.grace_s * 1_000_000_000;
                entry.missed = false;
            }
            self.queue.join(&mut entry.stage, digest, TokenInquiry::Recheck);
        }
        if grace_is_over {
            self.revoke(digest, now);
        }
        if gives_up {
            self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
        }
        self.settle(digest, now);
    }

    /// Delivers the grant to the waiting sessions, which watch it for revocation from now on.
    fn grant_waiting(&mut self, digest: Digest, grant: &Grant) {
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        let waiting = std::mem::take(&mut entry.waiting);
        entry.watching.extend(&waiting);
        waiting
            .into_iter()
            .for_each(|asker| self.answer(asker, Ok(grant.clone()), CheckOutcome::Granted));
    }

    fn refuse_waiting(&mut self, digest: Digest, refusal: Refusal, outcome: CheckOutcome) {
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        let waiting = std::mem::take(&mut entry.waiting);
        waiting.into_iter().for_each(|asker| self.answer(asker, Err(refusal), outcome));
    }

    /// Delivers a verdict; a refused asker is forgotten.
    fn answer(&mut self, asker: Asker, verdict: Result<Grant, Refusal>, outcome: CheckOutcome) {
        self.counters.checks[outcome as usize].add(1);
        if verdict.is_err() && self.askers.remove(&asker).is_some() {
            self.counters.sessions.sub(1);
        }
        self.answers.push((asker, verdict.into()));
    }

    /// Revokes the grant of all sessions that rely on it. An expired grant is not revoked: sessions
    /// know when it ends, and may be waiting for a newer token.
    fn revoke(&mut self, digest: Digest, now: Now) {
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        if !entry.is_live(now) {
            return;
        }
        for asker in std::mem::take(&mut entry.watching) {
            self.askers.remove(&asker);
            self.counters.sessions.sub(1);
            self.counters.revocations.add(1);
            self.answers.push((asker, TokenAnswer::Revoked));
        }
    }

    /// Restores an entry's invariants after a change: unheld entries leave the queue and, unless
    /// their answer is worth caching, the map; a pending deadline has its timer.
    pub(super) fn settle(&mut self, digest: Digest, now: Now) {
        let kept_max = self.askers.len() + KEPT_MAX;
        let count = self.entries.len();
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        if entry.waiting.is_empty() {
            entry.give_up_at_ns = NEVER;
        }
        if entry.watching.is_empty() {
            entry.grace_ends_at_ns = NEVER;
        }
        if entry.waiting.is_empty() && entry.grace_ends_at_ns == NEVER {
            // A queued re-check must survive until its grace period is over, so only an idle entry
            // leaves.
            self.queue.leave(&mut entry.stage);
        }
        if entry.counted == entry.watching.is_empty() {
            entry.counted = !entry.counted;
            let gauge = &self.counters.tokens_watched;
            if entry.counted { gauge.add(1) } else { gauge.sub(1) }
        }
        let mut gone = false;
        if !entry.is_held() {
            // A secret is kept no longer than it is needed.
            entry.token = "".into();
            // An entry in flight stays, or its reply would find nothing to cache.
            gone = entry.stage == CheckStage::Resting
                && (entry.fresh(now).is_none() || count > kept_max);
        }
        let at_ns = if gone { NEVER } else { entry.due_at_ns() };
        if at_ns != entry.timer_ns {
            self.timers.remove(&(entry.timer_ns, digest));
            if at_ns != NEVER {
                self.timers.insert((at_ns, digest));
            }
            entry.timer_ns = at_ns;
        }
        if gone {
            self.entries.remove(&digest);
        }
    }
}

/// When to re-check a token granted now; never if it expires before that.
pub(super) fn recheck_at_ns(remote: &RemoteVerifier, grant: &Grant, now: Now) -> u64 {
    let left_ms = grant.expires_at_ms.saturating_sub(now.unix_ms);
    let recheck_ms = remote.recheck_in_s(left_ms / 1000).saturating_mul(1000);
    if recheck_ms < left_ms { after_ms(now, recheck_ms) } else { NEVER }
}

fn after_ms(now: Now, ms: u64) -> u64 {
    now.monotonic_ns.saturating_add(ms.saturating_mul(1_000_000))
}
