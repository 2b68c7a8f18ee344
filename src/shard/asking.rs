//! What a shard asks of judges that are far away, and what becomes of the answers.
//!
//! A session has one question at most. Whoever answers keeps it after the answer: a token that was granted
//! can be taken back for as long as nobody has said that it may be forgotten. An answer that comes after the
//! session has gone, or has asked about another token, finds nobody.

use super::{Id, Shard};
use crate::dialect::{Input, Kind};
use crate::reason::Reason;
use crate::token::{Refusal, Verdict};
use crate::wheel::Now;

/// Which question of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The connection.
    pub id: Id,
    /// Tells its questions, and those of connections that had the same number before, apart.
    pub number: u32,
}

/// What a shard has to say to the remote judges.
pub enum Question {
    /// Judge this token by the judge of this dialect.
    Judge(Ticket, Kind, Box<str>),
    /// The token is good no more, whatever the judge has said of it; a [`Question::Forget`] follows.
    Doubt(Ticket),
    /// Nobody waits for the answer any more, nor cares whether the token is taken back.
    Forget(Ticket),
}

/// What the remote judges have to say to a shard.
pub enum Answer {
    /// What they think of the token; never [`Verdict::Ask`].
    Judged(Verdict),
    /// The token that they granted is good no more.
    Revoked,
}

/// Code and reason that end the sessions of a dialect for as long as its feed is away.
pub(super) type Outage = (u16, &'static str);

impl Shard {
    /// What is to be asked since the last call.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// An answer has come.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, now: Now) {
        let Some(session) = self.sessions.get_mut(ticket.id as usize) else { return };
        if session.asked != ticket.number {
            return;
        }
        let granted = matches!(answer, Answer::Judged(Verdict::Granted(_)));
        if !granted {
            // Whoever answered so has forgotten the question.
            session.asked = 0;
        }
        match answer {
            Answer::Judged(verdict) => self.tell(ticket.id, Input::Verified(verdict), now),
            Answer::Revoked => self.tell(ticket.id, Input::Revoked, now),
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

    /// Judges a token here, or asks; an answer that has to be waited for is none yet.
    pub(super) fn judge(&mut self, id: Id, token: &[u8], now: Now) -> Option<Verdict> {
        self.forget(id);
        let session = &mut self.sessions[id as usize];
        let kind = session.dialect.as_ref()?.kind();
        let judge = kind.judge(&self.shared.settings);
        let (Some(judge), Ok(token)) = (judge, std::str::from_utf8(token)) else {
            return Some(Verdict::Refused(Refusal::Malformed));
        };
        match judge.judge(token, now.unix_ms) {
            Verdict::Ask => {
                self.asked = self.asked.wrapping_add(1).max(1);
                session.asked = self.asked;
                let ticket = Ticket { id, number: self.asked };
                self.questions.push(Question::Judge(ticket, kind, token.into()));
                None
            }
            verdict => Some(verdict),
        }
    }

    /// Ends a session whose token is good no more, by the time or by what its feed has said.
    pub(super) fn expel(&mut self, id: Id, (code, text): (u16, &str), reason: Reason, now: Now) {
        let number = self.sessions[id as usize].asked;
        if number != 0 {
            self.questions.push(Question::Doubt(Ticket { id, number }));
        }
        self.close(id, code, text, reason, now);
    }

    /// The session's question, if there is one, matters no more.
    pub(super) fn forget(&mut self, id: Id) {
        let number = std::mem::take(&mut self.sessions[id as usize].asked);
        if number != 0 {
            self.questions.push(Question::Forget(Ticket { id, number }));
        }
    }
}
