//! What a shard asks of verifiers that are far away, and what becomes of the answers.
//!
//! A session has one question at most. Whoever answers keeps it after the answer: a token that was granted
//! can be taken back for as long as nobody has said that it may be forgotten. An answer that comes after the
//! session has gone, or has asked about another token, finds nobody.

use super::{Id, Shard};
use crate::dialect::{Input, Kind};
use crate::reason::Reason;
use crate::service::verification::{Ticket, TokenAnswer, TokenQuestion};
use crate::token::{Refusal, Verdict};
use crate::wheel::Now;

/// Code and reason that end the sessions of a dialect for as long as its feed is away.
pub(super) type Outage = (u16, &'static str);

impl Shard {
    /// What is to be asked since the last call.
    pub fn take_questions(&mut self) -> Vec<TokenQuestion> {
        std::mem::take(&mut self.questions)
    }

    /// An answer has come.
    pub fn answer(&mut self, ticket: Ticket, answer: TokenAnswer, now: Now) {
        let Some(session) = self.sessions.get_mut(ticket.id as usize) else { return };
        if session.asked != ticket.number {
            return;
        }
        let granted = matches!(answer, TokenAnswer::Verified(Verdict::Granted(_)));
        if !granted {
            // Whoever answered so has forgotten the question.
            session.asked = 0;
        }
        match answer {
            TokenAnswer::Verified(verdict) => self.tell(ticket.id, Input::Verified(verdict), now),
            TokenAnswer::Revoked => self.tell(ticket.id, Input::Revoked, now),
        }
    }

    /// The feed of a dialect is lost, or back: its sessions end, and new ones at once, until it is.
    pub fn outage(&mut self, kind: Kind, outage: Option<(u16, &'static str)>, now: Now) {
        self.outages[kind as usize] = outage;
        let of_kind = |dialect: &crate::dialect::AnyDialect| dialect.kind() == kind;
        let hit: Vec<Id> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.dialect.as_ref().is_some_and(of_kind))
            .map(|(id, _)| id as Id)
            .collect();
        hit.into_iter().for_each(|id| self.tell_of_outage(id, now));
    }

    /// Ends a session whose dialect has lost its feed.
    pub(super) fn tell_of_outage(&mut self, id: Id, now: Now) {
        let Some(dialect) = &self.sessions[id as usize].dialect else { return };
        if let Some((code, reason)) = self.outages[dialect.kind() as usize] {
            self.close(id, code, reason, Reason::Outage, now);
        }
    }

    /// Verifies a token here, or asks; an answer that has to be waited for is none yet.
    pub(super) fn verify(&mut self, id: Id, token: &[u8], now: Now) -> Option<Verdict> {
        self.forget(id);
        let session = &mut self.sessions[id as usize];
        let kind = session.dialect.as_ref()?.kind();
        let verifier = kind.verifier(&self.shared.settings);
        let (Some(verifier), Ok(token)) = (verifier, std::str::from_utf8(token)) else {
            return Some(Verdict::Refused(Refusal::Malformed));
        };
        match verifier.verify(token, now.unix_ms) {
            Verdict::Ask => {
                self.asked = self.asked.wrapping_add(1).max(1);
                session.asked = self.asked;
                let ticket = Ticket { id, number: self.asked };
                self.questions.push(TokenQuestion::Verify(ticket, kind as u8, token.into()));
                None
            }
            verdict => Some(verdict),
        }
    }

    /// Ends a session whose token is good no more, by the time or by what its feed has said.
    pub(super) fn expel(&mut self, id: Id, (code, text): (u16, &str), reason: Reason, now: Now) {
        let number = self.sessions[id as usize].asked;
        if number != 0 {
            self.questions.push(TokenQuestion::Doubt(Ticket { id, number }));
        }
        self.close(id, code, text, reason, now);
    }

    /// The session's question, if there is one, matters no more.
    pub(super) fn forget(&mut self, id: Id) {
        let number = std::mem::take(&mut self.sessions[id as usize].asked);
        if number != 0 {
            self.questions.push(TokenQuestion::Forget(Ticket { id, number }));
        }
    }
}
