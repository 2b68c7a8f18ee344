//! The questions of a shard's sessions to services, and the answers.
//!
//! An answer is for one connection; the serial tells one that comes too late. At most one question
//! about a token counts for a session, and its number is kept after the answer: a granted token can
//! be revoked until the session has the question forgotten.

use super::session::{Phase, Session};
use super::{ConnectionEvent, Id, Outgoing, Shard};
use crate::dialect::{Input, Kind};
use crate::reason::Reason;
use crate::service::topic::{TopicAnswer, TopicQuestion};
use crate::service::verification::{TokenAnswer, TokenQuestion};
use crate::service::webhook::Webhook;
use crate::service::{Answer, ConnectionRef, Question};
use crate::token::{Refusal, Verdict};
use crate::wheel::Now;
use core::net::IpAddr;

/// Capacity of the list of questions that is kept for the next turn: as many as a turn asks of the
/// topics, and as many again for the others.
const QUESTIONS_KEPT: usize = 512;

impl Shard {
    /// The publications and answers for the shards, this one included, since the last call, in
    /// order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing).list
    }

    /// Whether publications or questions of clients wait for room elsewhere.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !(self.outgoing.list.is_empty() && self.questions.is_empty())
    }

    /// The questions since the last call, in order.
    pub fn take_questions(&mut self) -> Vec<(ConnectionRef, Question)> {
        self.unaddressed.clear();
        self.topic_questions = 0;
        std::mem::take(&mut self.questions)
    }

    /// Gives back the list of [`Shard::take_questions`] with the questions that found no room,
    /// before anything else is asked. Its memory serves the next turn.
    pub fn keep_questions(&mut self, mut questions: Vec<(ConnectionRef, Question)>) {
        debug_assert!(self.questions.is_empty(), "they would change their order");
        questions.shrink_to(QUESTIONS_KEPT);
        let kept = questions.iter();
        self.topic_questions = kept.filter(|(_, q)| matches!(q, Question::Topic(_))).count();
        self.questions = questions;
    }

    /// Whether a question waits to be handed on.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Completes callbacks with the addresses of their clients. Call before any of the connections
    /// is forgotten.
    pub fn address_callbacks(&mut self, address: impl Fn(Id) -> Option<IpAddr>) {
        for place in self.unaddressed.drain(..) {
            let Some((from, Question::Webhook(webhook))) = self.questions.get_mut(place) else {
                continue;
            };
            if let Webhook::Callback(callback) = &mut **webhook {
                callback.client = address(from.id);
            }
        }
    }

    /// The connection as services know it. The connection must exist.
    pub(super) fn reference(&self, id: Id) -> ConnectionRef {
        ConnectionRef { shard: self.number, id, serial: self.sessions[id as usize].serial }
    }

    /// Queues a question of a connection that speaks this dialect. A token that can be verified
    /// here is answered at once.
    pub(super) fn ask(
        &mut self,
        id: Id,
        kind: Kind,
        question: Question,
        now: Now,
    ) -> Option<TokenAnswer> {
        match question {
            Question::Token(TokenQuestion::Verify { token, .. }) => {
                return self.verify(id, kind, token, now);
            }
            Question::Webhook(webhook) => {
                if matches!(*webhook, Webhook::Callback(_)) {
                    // Sockets and their addresses are not known here; see `address_callbacks`.
                    self.unaddressed.push(self.questions.len());
                }
                self.keep_question(id, Question::Webhook(webhook));
            }
            Question::Presence(mut question) => {
                // Two dialects may have channels of one name.
                question.dialect = kind.id();
                self.keep_question(id, Question::Presence(question));
            }
            question => {
                if matches!(question, Question::Topic(_)) {
                    self.sessions[id as usize].asks_topics = true;
                }
                self.keep_question(id, question);
            }
        }
        None
    }

    /// Adds a question to the list of this turn.
    pub(super) fn keep_question(&mut self, id: Id, question: Question) {
        self.topic_questions += usize::from(matches!(question, Question::Topic(_)));
        self.questions.push((self.reference(id), question));
    }

    /// Hands an answer to a connection of this shard.
    pub fn answer(&mut self, to: ConnectionRef, answer: Answer, now: Now) {
        let id = to.id;
        // The connection may have gone, and another have its number by now.
        let session =
            self.sessions.get_mut(id as usize).filter(|session| session.serial == to.serial);
        let Some(session) = session else { return };

        match answer {
            // A later question has replaced this one.
            Answer::Token(attempt, _) if session.asked != attempt => {}
            Answer::Token(attempt, answer) => {
                if !matches!(answer, TokenAnswer::Granted(_)) {
                    // The verification has forgotten the question with this answer.
                    session.asked = 0;
                }
                self.tell(id, Input::Answer(Answer::Token(attempt, answer)), now);
            }
            Answer::Topic(TopicAnswer::Answer(status, body)) => {
                self.answer_request(id, status, &body, now)
            }
            Answer::Topic(TopicAnswer::Probe) => self.events.push(ConnectionEvent::Probe(id)),
            Answer::Presence(answer) if matches!(session.phase, Phase::Asked(..)) => {
                self.answer_inquiry(id, answer, now);
            }
            answer => self.tell(id, Input::Answer(answer), now),
        }
    }

    /// The answer to [`ConnectionEvent::Probe`]: whether the peer has shut its side, with bytes
    /// perhaps still unread. A session that has ended has told the owner of the topics so itself.
    pub fn probed(&mut self, id: Id, is_closing: bool, now: Now) {
        if let Some(kind) = self.sessions.get(id as usize).and_then(Session::kind) {
            self.ask(id, kind, Question::Topic(TopicQuestion::Probed { is_closing }), now);
        }
    }

    /// Starts or ends (`None`) an outage of a dialect's feed. Its sessions end, and new ones at
    /// once while it lasts.
    pub fn outage(&mut self, kind: Kind, outage: Option<(u16, &'static str)>, now: Now) {
        self.outages[kind as usize] = outage;
        let hit = self.ids(|session| session.kind() == Some(kind));
        hit.into_iter().for_each(|id| self.tell_of_outage(id, now));
    }

    /// Closes a session whose dialect has lost its feed.
    pub(super) fn tell_of_outage(&mut self, id: Id, now: Now) {
        let Some(dialect) = &self.sessions[id as usize].dialect else { return };
        if let Some((code, reason)) = self.outages[dialect.kind() as usize] {
            self.close(id, code, reason, Reason::Outage, now);
        }
    }

    /// Ends a part of the sessions, because this node is cut off from the others of its cluster:
    /// one in `parts`, the one that has this number.
    pub fn isolate(&mut self, part: u32, parts: u32, now: Now) {
        let hit = self.ids(|session| session.phase == Phase::Open);
        for id in hit.into_iter().filter(|id| id % parts == part) {
            let kind = self.sessions[id as usize].kind();
            if let Some((code, reason)) = kind.and_then(Kind::close_isolated) {
                self.close(id, code, reason, Reason::Outage, now);
            }
        }
    }

    /// Verifies a token here, or queues a question; `None` until that is answered.
    fn verify(&mut self, id: Id, kind: Kind, token: Box<str>, now: Now) -> Option<TokenAnswer> {
        // A new token replaces the one before, whatever became of it.
        self.forget(id);
        let Some(verifier) = kind.verifier(&self.shared.settings) else {
            return Some(TokenAnswer::Refused(Refusal::Malformed));
        };
        match verifier.verify(&token, now.unix_ms) {
            Verdict::Granted(grant) => Some(TokenAnswer::Granted(grant)),
            Verdict::Refused(refusal) => Some(TokenAnswer::Refused(refusal)),
            Verdict::Ask => {
                // 0 stands for no question.
                self.asked = self.asked.wrapping_add(1).max(1);
                self.sessions[id as usize].asked = self.asked;
                let question =
                    TokenQuestion::Verify { dialect: kind.id(), attempt: self.asked, token };
                self.questions.push((self.reference(id), Question::Token(question)));
                None
            }
        }
    }

    /// Closes a session whose token has expired or was revoked by its feed.
    pub(super) fn expel(&mut self, id: Id, (code, text): (u16, &str), reason: Reason, now: Now) {
        let attempt = self.sessions[id as usize].asked;
        if attempt != 0 {
            // A cached grant must not let the client straight in again.
            let doubt = Question::Token(TokenQuestion::Doubt { attempt });
            self.questions.push((self.reference(id), doubt));
        }
        self.close(id, code, text, reason, now);
    }

    /// Has the verification forget the session's question about a token, if there is one.
    pub(super) fn forget(&mut self, id: Id) {
        let attempt = std::mem::take(&mut self.sessions[id as usize].asked);
        if attempt != 0 {
            let forget = Question::Token(TokenQuestion::Forget { attempt });
            self.questions.push((self.reference(id), forget));
        }
    }
}
