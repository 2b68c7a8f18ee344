//! Token verification at remote verifiers, for tokens that cannot be judged locally.
//!
//! In reading order: `question` defines requests and answers; `checks` decides which requests to
//! send to one verifier and caches its answers, with an `entry` for each token and a `queue` of
//! those waiting for a request; `health` reports a failing verifier; `counters` are the metrics;
//! `handover` passes tokens to another process.

mod checks;
mod counters;
mod entry;
mod handover;
mod health;
mod question;
mod queue;

pub use self::checks::{TokenCheck, TokenChecks};
pub use self::counters::{CheckOutcome, VerificationCounters};
pub use self::entry::Asker;
pub use self::handover::FrozenToken;
pub use self::health::VerifierChange;
pub use self::question::{TokenAnswer, TokenQuestion};

use super::{
    Answer, Answers, ConnectionRef, DialectId, HttpCall, HttpReply, HttpService, Service,
    ServiceNews,
};
use crate::token::{Refusal, RemoteVerifier};
use crate::wheel::Now;
use std::sync::Arc;
use std::time::Duration;

/// The remote verifier of each dialect, by its number; `None` for a dialect without one.
pub type Remotes = Vec<Option<Arc<RemoteVerifier>>>;

/// All remote verifiers, each with its own checks, so that none waits for another. A verifier
/// shared by several dialects is listed once, at the index of the first of them.
pub struct Verification {
    counters: Arc<VerificationCounters>,
    verifiers: Vec<Option<VerifierInUse>>,
    /// The index of each dialect's verifier.
    place_of: Vec<Option<usize>>,
    /// The number given to the newest verifier.
    last_number: u64,
}

/// One verifier. The number distinguishes it from one at the same index before a reload.
struct VerifierInUse {
    number: u64,
    checks: TokenChecks,
}

/// A check in flight.
pub struct VerificationCall {
    place: usize,
    number: u64,
    check: TokenCheck,
}

/// The index of each dialect's verifier: the first dialect that shares it.
#[must_use]
pub fn places(remotes: &Remotes) -> Vec<Option<usize>> {
    let place = remotes.iter().map(|remote| {
        let one = remote.as_ref()?;
        remotes.iter().position(|other| other.as_ref().is_some_and(|other| Arc::ptr_eq(one, other)))
    });
    place.collect()
}

impl Verification {
    /// A service without verifiers. `counters` belong to the thread it runs on.
    #[must_use]
    pub fn new(counters: Arc<VerificationCounters>) -> Self {
        Self { counters, verifiers: Vec::new(), place_of: Vec::new(), last_number: 0 }
    }

    /// Replaces the verifiers. Those that stay keep their cache and the sessions they watch; the
    /// sessions waiting for a removed one are refused.
    pub fn configure(&mut self, remotes: &Remotes, now: Now, out: &mut Answers) {
        self.place_of = places(remotes);
        self.verifiers.resize_with(remotes.len().max(self.verifiers.len()), || None);
        // A verifier is known by its index, which its dialects keep across reloads.
        for (place, verifier) in self.verifiers.iter_mut().enumerate() {
            let remote = remotes.get(place).and_then(Option::as_ref);
            let remote = remote.filter(|_| self.place_of[place] == Some(place));
            match (verifier.as_mut(), remote) {
                (Some(known), Some(remote)) => known.checks.configure(Arc::clone(remote), now),
                (Some(former), None) => {
                    former.checks.end(now);
                    former.answer(out);
                    *verifier = None;
                }
                (None, Some(remote)) => {
                    self.last_number += 1;
                    let checks = TokenChecks::new(Arc::clone(remote), Arc::clone(&self.counters));
                    *verifier = Some(VerifierInUse { number: self.last_number, checks });
                }
                (None, None) => {}
            }
        }
        self.answer_all(out);
    }

    fn of_dialect(&mut self, dialect: DialectId) -> Option<&mut VerifierInUse> {
        let place = self.place_of.get(usize::from(dialect.0)).copied().flatten()?;
        self.verifiers[place].as_mut()
    }

    fn in_use(&mut self) -> impl Iterator<Item = &mut VerifierInUse> {
        self.verifiers.iter_mut().flatten()
    }

    fn answer_all(&mut self, out: &mut Answers) {
        self.in_use().for_each(|verifier| verifier.answer(out));
    }
}

impl VerifierInUse {
    fn answer(&mut self, out: &mut Answers) {
        for (Asker { connection, attempt }, answer) in self.checks.take_answers() {
            out.push((connection, Answer::Token(attempt, answer)));
        }
    }
}

impl Service for Verification {
    type Question = TokenQuestion;
    type Out<'a> = Answers;

    fn ask(&mut self, from: ConnectionRef, question: TokenQuestion, now: Now, out: &mut Answers) {
        let asker = |attempt| Asker { connection: from, attempt };
        match question {
            TokenQuestion::Verify { dialect, attempt, token } => match self.of_dialect(dialect) {
                Some(verifier) => verifier.checks.ask(asker(attempt), &token, now),
                // A reload has removed the remote verifier meanwhile.
                None => out.push((from, unavailable(attempt))),
            },
            TokenQuestion::Doubt { attempt } => {
                // At most one verifier knows the asker; the others ignore this.
                self.in_use().for_each(|verifier| verifier.checks.doubt(asker(attempt)));
            }
            TokenQuestion::Forget { attempt } => {
                self.in_use().for_each(|verifier| verifier.checks.forget(asker(attempt), now));
            }
        }
        self.answer_all(out);
    }

    fn tick(&mut self, now: Now, out: &mut Answers) {
        self.in_use().for_each(|verifier| verifier.checks.tick(now));
        self.answer_all(out);
    }

    fn next_at_ns(&self) -> Option<u64> {
        self.verifiers.iter().flatten().filter_map(|verifier| verifier.checks.wakes_at_ns()).min()
    }
}

impl HttpService for Verification {
    type Call = VerificationCall;

    fn next_call(&mut self, now: Now) -> Option<HttpCall<VerificationCall>> {
        self.verifiers.iter_mut().enumerate().find_map(|(place, verifier)| {
            let VerifierInUse { number, checks } = verifier.as_mut()?;
            let (check, request) = checks.next_check(now)?;
            let timeout = Duration::from_millis(checks.remote().timing().timeout_ms);
            let call = VerificationCall { place, number: *number, check };
            Some(HttpCall { call, client: place, request, timeout, wants_body: true })
        })
    }

    fn replied(&mut self, call: VerificationCall, reply: HttpReply, now: Now, out: &mut Answers) {
        let VerificationCall { place, number, check } = call;
        // A reload may have removed the verifier, or put another at its index.
        let verifier = self.verifiers.get_mut(place).and_then(Option::as_mut);
        if let Some(verifier) = verifier.filter(|verifier| verifier.number == number) {
            verifier.checks.replied(check, reply, now);
            verifier.answer(out);
        }
    }

    fn take_news(&mut self) -> Vec<ServiceNews> {
        let mut news = Vec::new();
        for VerifierInUse { checks, .. } in self.in_use() {
            let changes = checks.take_changes();
            let host = checks.remote().host();
            news.extend(changes.into_iter().map(|change| match change {
                VerifierChange::Fails(reason) => ServiceNews {
                    is_good: false,
                    text: format!(
                        "asking {host} failed: {reason}; clients are refused until it answers"
                    ),
                },
                VerifierChange::Works => {
                    ServiceNews { is_good: true, text: format!("{host} answers again") }
                }
            }));
        }
        news
    }
}

/// The answer when there is no verifier to ask.
#[must_use]
pub fn unavailable(attempt: u32) -> Answer {
    Answer::Token(attempt, TokenAnswer::Refused(Refusal::Unavailable))
}
