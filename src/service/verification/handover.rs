//! Tokens at remote verifiers as data, for another process.
//!
//! Sessions that rely on a token go on without another question: it is checked again when it would
//! have been. Questions that are open are asked anew. Cached grants serve newcomers there too, as
//! the clients that have to come back bring the same tokens.

use super::checks::{TokenChecks, recheck_at_ns};
use super::entry::{Asker, Digest, NEVER, TokenEntry};
use super::{Verification, unavailable};
use crate::digest::sha256;
use crate::service::{Answers, DialectId, NewRefs};
use crate::token::Grant;
use crate::wheel::Now;
use serde::{Deserialize, Serialize};

/// A token with those who wait for it or rely on it, as data. Moments are of the monotonic clock.
#[derive(Serialize, Deserialize)]
pub struct FrozenToken {
    digest: Digest,
    /// Empty while no session holds it.
    token: Box<str>,
    /// The host that has granted it.
    host: Box<str>,
    grant: Option<Grant>,
    #[serde(default)]
    waiting: Vec<Asker>,
    #[serde(default)]
    watching: Vec<Asker>,
    #[serde(default)]
    fresh_until_ns: u64,
    #[serde(default = "never")]
    recheck_at_ns: u64,
    #[serde(default = "never")]
    grace_ends_at_ns: u64,
    #[serde(default)]
    missed: bool,
}

impl std::fmt::Debug for FrozenToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrozenToken").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Verification {
    /// All tokens, each with the dialect that knows its verifier.
    #[must_use]
    pub fn export(&self) -> Vec<(DialectId, FrozenToken)> {
        let verifiers = self.verifiers.iter().zip(0..);
        verifiers
            .filter_map(|(verifier, place)| Some((verifier.as_ref()?, DialectId(place))))
            .flat_map(|(verifier, dialect)| {
                verifier.checks.export().map(move |token| (dialect, token))
            })
            .collect()
    }

    /// Takes a token of another process over. Those who wait for it without a verifier here are
    /// answered.
    pub fn import(
        &mut self,
        dialect: DialectId,
        token: FrozenToken,
        refs: &NewRefs,
        now: Now,
        out: &mut Answers,
    ) {
        match self.of_dialect(dialect) {
            Some(verifier) => {
                verifier.checks.import(token, refs, now);
                verifier.answer(out);
            }
            None => {
                let waiting = passed(&token.waiting, refs);
                out.extend(waiting.map(|it| (it.connection, unavailable(it.attempt))));
            }
        }
    }
}

impl TokenChecks {
    /// All tokens that are held, or whose grant is cached.
    pub fn export(&self) -> impl Iterator<Item = FrozenToken> {
        self.entries.iter().filter_map(|(digest, entry)| {
            let grant = match &entry.verdict {
                Some(Ok(grant)) => Some(grant.clone()),
                _ => None,
            };
            // A refusal is remembered for seconds only.
            if grant.is_none() && entry.waiting.is_empty() {
                return None;
            }
            Some(FrozenToken {
                digest: *digest,
                token: entry.token.clone(),
                host: self.remote().host().into(),
                grant,
                waiting: entry.waiting.iter().copied().collect(),
                watching: entry.watching.iter().copied().collect(),
                fresh_until_ns: entry.fresh_until_ns,
                recheck_at_ns: entry.recheck_at_ns,
                grace_ends_at_ns: entry.grace_ends_at_ns,
                missed: entry.missed,
            })
        })
    }

    /// Takes a token of another process over.
    pub fn import(&mut self, frozen: FrozenToken, refs: &NewRefs, now: Now) {
        let FrozenToken { digest, token, host, grant, waiting, watching, .. } = frozen;
        // Only a state that is none of ours has an entry twice, or one of another token.
        let is_strange = !token.is_empty() && sha256(token.as_bytes()) != digest;
        if is_strange || self.entries.contains_key(&digest) {
            return;
        }

        let mut entry = TokenEntry { token: token.clone(), ..TokenEntry::default() };
        if let Some(grant) = grant {
            // Another verifier may not have granted it, and its schedule may be another.
            entry.fresh_until_ns =
                if *host == *self.remote().host() { frozen.fresh_until_ns } else { 0 };
            entry.recheck_at_ns =
                frozen.recheck_at_ns.min(recheck_at_ns(self.remote(), &grant, now));
            entry.grace_ends_at_ns = frozen.grace_ends_at_ns;
            entry.missed = frozen.missed;
            entry.verdict = Some(Ok(grant));
            if !token.is_empty() {
                entry.watching.extend(passed(&watching, refs));
            }
        }
        for asker in &entry.watching {
            if self.askers.insert(*asker, digest).is_none() {
                self.counters.sessions.add(1);
            }
        }
        self.entries.insert(digest, entry);
        self.settle(digest, now);

        if !token.is_empty() {
            passed(&waiting, refs).for_each(|asker| self.ask(asker, &token, now));
        }
    }
}

/// The askers whose connections have been passed, by their new references.
fn passed(askers: &[Asker], refs: &NewRefs) -> impl Iterator<Item = Asker> {
    let new = |asker: &Asker| Some(Asker { connection: refs.of(asker.connection)?, ..*asker });
    askers.iter().filter_map(new)
}

fn never() -> u64 {
    NEVER
}
