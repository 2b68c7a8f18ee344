//! What is asked of one remote verifier: each token once at a time, remembered briefly, and asked about again for
//! as long as a session lives on it.
//!
//! A verification is a value. It is told who asks about which token, who cares no more, what the verifier replied and
//! what time it is; it says which requests to send, whom to answer and when it wants to be woken. However many
//! sessions share a token, it is one case: one request when they come, one when it is looked at again.
//!
//! What bounds it: a case has at least one session that holds it, or it is one of at most [`KEPT_MAX`] whose
//! answer may serve somebody else yet. The token itself is kept only while a session holds the case; what it
//! is found by is a digest.

mod counters;
mod entry;
mod news;
mod question;
mod queue;

pub use self::counters::{CheckOutcome, VerificationCounters};
pub use self::news::News;
pub use self::question::{Ticket, TokenAnswer, TokenQuestion, VerifierId};

use self::entry::{Case, Stage};
use self::news::Health;
use self::queue::Line;
use crate::token::{Finding, Grant, Refusal, RemoteVerifier, TokenInquiry, Verdict, grants_the_same};
use crate::wheel::Now;
use ahash::RandomState;
use http::Request;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Answers that are kept though no session holds them, for clients that come back. A restart of a proxy sends
/// many at once; one costs about a KiB.
const KEPT_MAX: usize = 10_000;
/// How long a refusal answers others who come with the same token: long enough for a client that tries again
/// without a pause, short enough for a token that is issued a moment after it was tried.
const REFUSED_NS: u64 = 2_000_000_000;
/// Pause before a token is asked about again, when the verifier could not be asked.
const RETRY_NS: u64 = 5_000_000_000;
/// Times the timeout that a question waits for its turn while the verifier answers others. Somebody who is sent
/// away comes back and asks again, so that waiting is cheaper for a verifier that is only slow.
const PATIENCE: u64 = 10;

/// A moment that never comes.
const NEVER: u64 = u64::MAX;

/// Who asks: the number of a shard, and its ticket.
pub type Asker = (usize, Ticket);

/// What a token is found by.
type Digest = [u8; 32];

/// A request that is under way.
pub struct Errand {
    digest: Digest,
    inquiry: TokenInquiry,
    /// The verifier by whose rules the answer is read, whatever a reload brings meanwhile.
    remote: Arc<RemoteVerifier>,
}

/// Status and body of an answer, or why there is none.
pub type Reply = Result<(u16, Vec<u8>), String>;

/// See the module.
pub struct TokenVerification {
    remote: Arc<RemoteVerifier>,
    counters: Arc<VerificationCounters>,
    cases: HashMap<Digest, Case, RandomState>,
    /// The case that each asker holds.
    askers: HashMap<Asker, Digest, RandomState>,
    /// When to look at which case: one entry for each that waits for a moment.
    timers: BTreeSet<(u64, Digest)>,
    line: Line,
    health: Health,
    answers: Vec<(Asker, TokenAnswer)>,
    news: Vec<News>,
}

impl TokenVerification {
    /// A verification without cases. `counters` are those of the thread that it lives on.
    #[must_use]
    pub fn new(remote: Arc<RemoteVerifier>, counters: Arc<VerificationCounters>) -> Self {
        Self {
            line: Line::new(remote.timing().concurrency_max),
            remote,
            counters,
            cases: HashMap::default(),
            askers: HashMap::default(),
            timers: BTreeSet::new(),
            health: Health::default(),
            answers: Vec::new(),
            news: Vec::new(),
        }
    }

    /// The verifier.
    #[must_use]
    pub fn remote(&self) -> &Arc<RemoteVerifier> {
        &self.remote
    }

    /// Asks another verifier, or the same in another way, from now on. What was said before serves no newcomer, and
    /// whoever lives on it is looked at again when the new verifier would have it.
    pub fn configure(&mut self, remote: Arc<RemoteVerifier>, now: Now) {
        self.line.concurrency_max = remote.timing().concurrency_max;
        self.remote = remote;
        let digests: Vec<Digest> = self.cases.keys().copied().collect();
        for digest in digests {
            if let Some(case) = self.cases.get_mut(&digest) {
                case.fresh_until_ns = case.fresh_until_ns.min(now.monotonic_ns);
                if let Some(Ok(grant)) = &case.verdict {
                    case.recheck_at_ns = case.recheck_at_ns.min(recheck_at_ns(&self.remote, grant, now));
                }
            }
            self.settle(digest, now);
        }
    }

    /// Somebody asks about a token. The answer may be there at once.
    pub fn ask(&mut self, asker: Asker, token: &str, now: Now) {
        let digest = Sha256::digest(token).into();
        let case = self.cases.entry(digest).or_default();
        if case.token.is_empty() {
            case.token = token.into();
        }
        if self.askers.insert(asker, digest).is_none() {
            self.counters.sessions.add(1);
        }
        match case.fresh(now) {
            Some(verdict) => {
                let verdict = verdict.clone();
                if let Ok(grant) = &verdict {
                    case.watching.insert(asker);
                    // It may have been taken back since it was said, while nobody cared.
                    if now.ns_until(grant.expires_at_ms) > case.fresh_until_ns - now.monotonic_ns {
                        case.recheck_at_ns = case.recheck_at_ns.min(case.fresh_until_ns);
                    }
                }
                self.rule(asker, verdict, CheckOutcome::Cached);
            }
            None => {
                if case.waiting.is_empty() {
                    case.asked_at_ns = now.monotonic_ns;
                    case.give_up_at_ns = now.monotonic_ns + self.remote.timing().timeout_ms * 1_000_000;
                }
                case.waiting.insert(asker);
                self.line.join(&mut case.stage, digest, TokenInquiry::Grant);
            }
        }
        self.settle(digest, now);
    }

    /// Somebody has heard that the token they asked about is good no more: what the verifier has said of it
    /// answers nobody else.
    pub fn doubt(&mut self, asker: Asker) {
        let case = self.askers.get(&asker).and_then(|digest| self.cases.get_mut(digest));
        if let Some(case) = case {
            case.fresh_until_ns = 0;
        }
    }

    /// Somebody cares no more about the token they asked about.
    pub fn forget(&mut self, asker: Asker, now: Now) {
        let Some(digest) = self.askers.remove(&asker) else { return };
        self.counters.sessions.sub(1);
        if let Some(case) = self.cases.get_mut(&digest) {
            if case.waiting.remove(&asker) {
                self.counters.checks[CheckOutcome::Forgotten as usize].add(1);
            }
            case.watching.remove(&asker);
        }
        self.settle(digest, now);
    }

    /// The next request to send, if there is one and room for it.
    pub fn next_errand(&mut self, now: Now) -> Option<(Errand, Request<String>)> {
        let digest = self.line.next(now)?;
        let case = self.cases.get_mut(&digest)?;
        case.stage = Stage::Asked;
        let inquiry = if case.waiting.is_empty() { TokenInquiry::Recheck } else { TokenInquiry::Grant };
        let request = self.remote.request(inquiry, &case.token);
        self.counters.requests.add(1);
        self.counters.requests_in_flight.add(1);
        self.settle(digest, now);
        Some((Errand { digest, inquiry, remote: Arc::clone(&self.remote) }, request))
    }

    /// What became of a request.
    pub fn replied(&mut self, errand: Errand, reply: Reply, now: Now) {
        self.counters.requests_in_flight.sub(1);
        self.line.replied(reply.is_ok(), now);
        let finding = match reply {
            Ok((status, body)) => errand.remote.read(errand.inquiry, status, &body, now.unix_ms),
            Err(reason) => Finding::Unclear(reason),
        };
        let Some(case) = self.cases.get_mut(&errand.digest) else { return };
        case.stage = Stage::Resting;
        let verdict = match (finding, &case.verdict) {
            (Finding::Granted(grant), _) => Ok(Ok(grant)),
            (Finding::Confirmed, Some(Ok(_))) if !case.is_live(now) => Ok(Err(Refusal::Expired)),
            (Finding::Confirmed, Some(Ok(grant))) => Ok(Ok(grant.clone())),
            (Finding::Confirmed, _) => Err("it confirms what it has not granted".to_owned()),
            (Finding::Refused(refusal), _) => Ok(Err(refusal)),
            (Finding::Unclear(reason), _) => Err(reason),
        };
        match verdict {
            Ok(verdict) => {
                self.news.extend(self.health.works());
                self.verified(errand.digest, verdict, now);
                let is_former = !Arc::ptr_eq(&errand.remote, &self.remote);
                if let Some(case) = self.cases.get_mut(&errand.digest).filter(|_| is_former) {
                    case.fresh_until_ns = 0;
                }
            }
            Err(reason) => {
                self.counters.failures.add(1);
                self.news.extend(self.health.fails(reason, now));
                self.unanswered(errand.digest, now);
            }
        }
        self.settle(errand.digest, now);
    }

    /// Does what the time asks for.
    pub fn tick(&mut self, now: Now) {
        while let Some(&(at_ns, digest)) = self.timers.first()
            && at_ns <= now.monotonic_ns
        {
            self.visit(digest, now);
        }
    }

    /// The moment of the monotonic clock at which there is something to do; `None` when nothing waits for one.
    #[must_use]
    pub fn wakes_at_ns(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at_ns, _)| *at_ns);
        timer.into_iter().chain(self.line.opens_at_ns()).min()
    }

    /// Whom to tell what, since the last call.
    pub fn take_answers(&mut self) -> Vec<(Asker, TokenAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// What is to be logged, since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Cases, held by sessions or kept for others to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether nothing at all is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty() && self.askers.is_empty() && self.timers.is_empty() && self.line.is_empty()
    }

    /// The verifier is asked no more: whoever waits is told so, and what was granted is not looked at again.
    pub fn end(&mut self, now: Now) {
        self.counters.requests_in_flight.sub(self.line.in_flight as u64);
        let digests: Vec<Digest> = self.cases.keys().copied().collect();
        for digest in digests {
            self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
        }
        let askers: Vec<Asker> = self.askers.keys().copied().collect();
        askers.into_iter().for_each(|asker| self.forget(asker, now));
    }

    /// The verifier has decided.
    fn verified(&mut self, digest: Digest, verdict: Result<Grant, Refusal>, now: Now) {
        let Some(case) = self.cases.get(&digest) else { return };
        let same = match (&case.verdict, &verdict) {
            (Some(Ok(earlier)), Ok(later)) => grants_the_same(earlier, later),
            _ => false,
        };
        if !same {
            self.revoke(digest, now);
        }
        let Some(case) = self.cases.get_mut(&digest) else { return };
        case.verdict = Some(verdict.clone());
        case.grace_ends_at_ns = NEVER;
        case.recheck_at_ns = NEVER;
        case.fresh_until_ns = now.monotonic_ns + REFUSED_NS;
        if let Ok(grant) = &verdict {
            let left_ms = grant.expires_at_ms.saturating_sub(now.unix_ms);
            case.recheck_at_ns = recheck_at_ns(&self.remote, grant, now);
            case.fresh_until_ns = after_ms(now, left_ms.min(self.remote.timing().cache_s * 1000));
        }
        match verdict {
            Ok(grant) => self.grant_waiting(digest, &grant),
            Err(refusal) => self.refuse_waiting(digest, refusal, CheckOutcome::Refused),
        }
    }

    /// The verifier could not be asked, or not be understood.
    fn unanswered(&mut self, digest: Digest, now: Now) {
        if let Some(case) = self.cases.get_mut(&digest)
            && case.grace_ends_at_ns != NEVER
        {
            case.recheck_at_ns = now.monotonic_ns + RETRY_NS;
            case.missed = true;
        }
        self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
    }

    /// The time of a case has come.
    fn visit(&mut self, digest: Digest, now: Now) {
        let at_ns = now.monotonic_ns;
        let timing = self.remote.timing();
        let timeout_ns = timing.timeout_ms * 1_000_000;
        let Some(case) = self.cases.get_mut(&digest) else { return };
        let mut grace_is_over = case.grace_ends_at_ns <= at_ns;
        if grace_is_over && case.awaits_its_turn() && !self.line.is_failing() {
            // The verifier answers, and has not been asked: that is not the session's fault.
            case.grace_ends_at_ns = at_ns + timeout_ns;
            grace_is_over = false;
        }
        if grace_is_over {
            (case.grace_ends_at_ns, case.recheck_at_ns) = (NEVER, NEVER);
        }
        let mut gives_up = false;
        if case.give_up_at_ns <= at_ns {
            gives_up = self.line.is_failing() || at_ns >= case.asked_at_ns + PATIENCE * timeout_ns;
            case.give_up_at_ns = at_ns + timeout_ns;
        }
        if case.stage == Stage::Resting && case.recheck_at_ns <= at_ns && !case.watching.is_empty() {
            if case.grace_ends_at_ns == NEVER {
                case.grace_ends_at_ns = at_ns + timeout_ns + timing.grace_s * 1_000_000_000;
                case.missed = false;
            }
            self.line.join(&mut case.stage, digest, TokenInquiry::Recheck);
        }
        if grace_is_over {
            self.revoke(digest, now);
        }
        if gives_up {
            self.refuse_waiting(digest, Refusal::Unavailable, CheckOutcome::Unavailable);
        }
        self.settle(digest, now);
    }

    /// Whoever waits gets the grant, and is told when it is taken back.
    fn grant_waiting(&mut self, digest: Digest, grant: &Grant) {
        let Some(case) = self.cases.get_mut(&digest) else { return };
        let waiting = std::mem::take(&mut case.waiting);
        case.watching.extend(&waiting);
        waiting.into_iter().for_each(|asker| self.rule(asker, Ok(grant.clone()), CheckOutcome::Granted));
    }

    fn refuse_waiting(&mut self, digest: Digest, refusal: Refusal, outcome: CheckOutcome) {
        let Some(case) = self.cases.get_mut(&digest) else { return };
        let waiting = std::mem::take(&mut case.waiting);
        waiting.into_iter().for_each(|asker| self.rule(asker, Err(refusal), outcome));
    }

    /// Answers a question; after a refusal the asker is forgotten.
    fn rule(&mut self, asker: Asker, verdict: Result<Grant, Refusal>, outcome: CheckOutcome) {
        self.counters.checks[outcome as usize].add(1);
        if verdict.is_err() && self.askers.remove(&asker).is_some() {
            self.counters.sessions.sub(1);
        }
        self.answers.push((asker, TokenAnswer::Verified(Verdict::from(verdict))));
    }

    /// Takes the grant back from everybody who lives on it. One that has expired is not: sessions know its end,
    /// and may be waiting for a newer token.
    fn revoke(&mut self, digest: Digest, now: Now) {
        let Some(case) = self.cases.get_mut(&digest) else { return };
        if !case.is_live(now) {
            return;
        }
        for asker in std::mem::take(&mut case.watching) {
            self.askers.remove(&asker);
            self.counters.sessions.sub(1);
            self.counters.revocations.add(1);
            self.answers.push((asker, TokenAnswer::Revoked));
        }
    }

    /// Puts everything about a case in order after a change: what nobody holds leaves the line and, unless its
    /// answer is worth keeping, the verification; what waits for a moment has its timer.
    fn settle(&mut self, digest: Digest, now: Now) {
        let kept_max = self.askers.len() + KEPT_MAX;
        let count = self.cases.len();
        let Some(case) = self.cases.get_mut(&digest) else { return };
        if case.waiting.is_empty() {
            case.give_up_at_ns = NEVER;
        }
        if case.watching.is_empty() {
            case.grace_ends_at_ns = NEVER;
        }
        if case.waiting.is_empty() && case.grace_ends_at_ns == NEVER {
            // Nobody waits, and no re-check is due: one that will be has to be seen, and its grace to run.
            self.line.leave(&mut case.stage);
        }
        if case.counted == case.watching.is_empty() {
            case.counted = !case.counted;
            let gauge = &self.counters.tokens_watched;
            if case.counted { gauge.add(1) } else { gauge.sub(1) }
        }
        let mut gone = false;
        if !case.is_held() {
            case.token = "".into();
            gone = case.stage == Stage::Resting && (case.fresh(now).is_none() || count > kept_max);
        }
        let at_ns = if gone { NEVER } else { case.due_at_ns() };
        if at_ns != case.timer_ns {
            self.timers.remove(&(case.timer_ns, digest));
            if at_ns != NEVER {
                self.timers.insert((at_ns, digest));
            }
            case.timer_ns = at_ns;
        }
        if gone {
            self.cases.remove(&digest);
        }
    }
}

/// When a token that was granted now is to be looked at again; not when it has expired by then.
fn recheck_at_ns(remote: &RemoteVerifier, grant: &Grant, now: Now) -> u64 {
    let left_ms = grant.expires_at_ms.saturating_sub(now.unix_ms);
    let recheck_ms = remote.recheck_in_s(left_ms / 1000).saturating_mul(1000);
    if recheck_ms < left_ms { after_ms(now, recheck_ms) } else { NEVER }
}

fn after_ms(now: Now, ms: u64) -> u64 {
    now.monotonic_ns.saturating_add(ms.saturating_mul(1_000_000))
}
