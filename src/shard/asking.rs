//! What the sessions of a shard ask of services, and what becomes of the answers.
//!
//! An answer is for one connection, and one that comes after it has gone finds no one: the serial tells. Of the
//! verification of tokens a session has one question at most that counts, and it is kept after the answer: a token that
//! was granted can be taken back until the session says that it may be forgotten.

use super::session::{Phase, Session};
use super::{ConnectionEvent, Id, Outgoing, Shard};
use crate::dialect::{AnyDialect, Input, Kind};
use crate::reason::Reason;
use crate::service::topic::{TopicAnswer, TopicQuestion};
use crate::service::verification::{TokenAnswer, TokenQuestion};
use crate::service::webhook::Webhook;
use crate::service::{Answer, ConnectionRef, Question};
use crate::token::{Refusal, Verdict};
use crate::wheel::Now;
use core::net::IpAddr;

/// Places in the list of questions that are kept for the next turn: as many as a turn asks of the topics, and as many
/// again for the others.
const QUESTIONS_KEPT: usize = 512;

impl Shard {
    /// What is to be handed to the shards since the last call, this one included, in this order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing).list
    }

    /// Whether something that clients have caused waits for room elsewhere.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !(self.outgoing.list.is_empty() && self.questions.is_empty())
    }

    /// What is to be asked since the last call, in order.
    pub fn take_questions(&mut self) -> Vec<(ConnectionRef, Question)> {
        self.unaddressed.clear();
        self.topic_questions = 0;
        std::mem::take(&mut self.questions)
    }

    /// Gives back the list of [`Shard::take_questions`], with what its service has no room for, before anything else is
    /// asked. Its memory serves the next turn.
    pub fn keep_questions(&mut self, mut questions: Vec<(ConnectionRef, Question)>) {
        debug_assert!(self.questions.is_empty(), "they would change their order");
        questions.shrink_to(QUESTIONS_KEPT);
        let is_of_topic =
            |(_, question): &&(ConnectionRef, Question)| matches!(question, Question::Topic(_));
        self.topic_questions = questions.iter().filter(is_of_topic).count();
        self.questions = questions;
    }

    /// Whether there is something to be asked.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Gives callbacks the addresses of the clients that they are about. To be called before any of them is forgotten.
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

    /// The connection as services know it.
    pub(super) fn reference(&self, id: Id) -> ConnectionRef {
        ConnectionRef { shard: self.number, id, serial: self.sessions[id as usize].serial }
    }

    /// Keeps a question of a connection that speaks this dialect. Returns the answer to one about a token that is
    /// verified here.
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
                    self.unaddressed.push(self.questions.len());
                }
                self.questions.push((self.reference(id), Question::Webhook(webhook)));
            }
            Question::Presence(mut question) => {
                question.dialect = kind.id();
                self.questions.push((self.reference(id), Question::Presence(question)));
            }
            question => {
                if matches!(question, Question::Topic(_)) {
                    self.sessions[id as usize].asks_topics = true;
                    self.topic_questions += 1;
                }
                self.questions.push((self.reference(id), question));
            }
        }
        None
    }

    /// An answer has come for a connection of this shard.
    pub fn answer(&mut self, to: ConnectionRef, answer: Answer, now: Now) {
        let id = to.id;
        // The connection may have gone, and its number be another's by now.
        let session =
            self.sessions.get_mut(id as usize).filter(|session| session.serial == to.serial);
        let Some(session) = session else { return };
        match answer {
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

    /// Whether the peer of a connection has sent its last, which is then still to be read. The answer to
    /// [`ConnectionEvent::Probe`]. Of a session that has ended the owner of the topics knows.
    pub fn probed(&mut self, id: Id, is_closing: bool, now: Now) {
        if let Some(kind) = self.sessions.get(id as usize).and_then(Session::kind) {
            self.ask(id, kind, Question::Topic(TopicQuestion::Probed { is_closing }), now);
        }
    }

    /// The feed of a dialect is lost, or back: its sessions end, and new ones at once, until it is.
    pub fn outage(&mut self, kind: Kind, outage: Option<(u16, &'static str)>, now: Now) {
        self.outages[kind as usize] = outage;
        let of_kind = |dialect: &AnyDialect| dialect.kind() == kind;
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
    fn verify(&mut self, id: Id, kind: Kind, token: Box<str>, now: Now) -> Option<TokenAnswer> {
        self.forget(id);
        let Some(verifier) = kind.verifier(&self.shared.settings) else {
            return Some(TokenAnswer::Refused(Refusal::Malformed));
        };
        match verifier.verify(&token, now.unix_ms) {
            Verdict::Granted(grant) => Some(TokenAnswer::Granted(grant)),
            Verdict::Refused(refusal) => Some(TokenAnswer::Refused(refusal)),
            Verdict::Ask => {
                self.asked = self.asked.wrapping_add(1).max(1);
                self.sessions[id as usize].asked = self.asked;
                let question =
                    TokenQuestion::Verify { dialect: kind.id(), attempt: self.asked, token };
                self.questions.push((self.reference(id), Question::Token(question)));
                None
            }
        }
    }

    /// Ends a session whose token is good no more, by the time or by what its feed has said.
    pub(super) fn expel(&mut self, id: Id, (code, text): (u16, &str), reason: Reason, now: Now) {
        let attempt = self.sessions[id as usize].asked;
        if attempt != 0 {
            let doubt = Question::Token(TokenQuestion::Doubt { attempt });
            self.questions.push((self.reference(id), doubt));
        }
        self.close(id, code, text, reason, now);
    }

    /// The session's question about a token, if there is one, matters no more.
    pub(super) fn forget(&mut self, id: Id) {
        let attempt = std::mem::take(&mut self.sessions[id as usize].asked);
        if attempt != 0 {
            let forget = Question::Token(TokenQuestion::Forget { attempt });
            self.questions.push((self.reference(id), forget));
        }
    }
}
