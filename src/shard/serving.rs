//! HTTP requests to dialects: the connection stays HTTP, and another request may follow.

use super::report::ClientAnswer;
use super::session::{AwaitedAnswer, PendingInquiry, Phase};
use super::{ConnectionEvent, Id, Outgoing, Shard};
use crate::dialect::{Action, Kind, Request, Served};
use crate::http::{self, AnswerForm, Persistence};
use crate::metrics::{Origin, Outcome, StatusClass};
use crate::reason::Reason;
use crate::service::Question;
use crate::service::presence::{ChannelInquiry, PresenceAnswer, PresenceRequest};
use crate::wheel::Now;

/// Seconds that a connection may stay idle between requests, as long as nginx's default.
const KEEP_ALIVE_S: u64 = 75;
/// Seconds that a service has for the answer to a request. It is another thread of this process, so
/// it takes that long only when it cannot keep up.
const ANSWER_S: u64 = 10;
/// Bytes for the shards at which the turn takes no more requests and parcels. A request of 10 KiB
/// for a hundred channels comes to 1 MiB, and a turn may read from hundreds of connections; joining
/// a full presence channel is answered with 100 KiB, and thousands of joins may wait in the
/// mailbox.
const TURN_OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Questions to the owner of the topics at which the turn takes no more from clients: the owner
/// starts on them while the next are read, so that the disk and the shards work at the same time.
const TURN_REQUESTS_MAX: usize = 256;
/// Capacity of the scratch for responses that is kept for the next one.
const RESPONSE_BYTES_KEPT: usize = 64 * 1024;

impl Shard {
    /// The dialect that serves such requests, and its limit for their bodies in bytes.
    #[must_use]
    pub fn server(&self, kinds: &[Kind], method: &str, path: &str) -> Option<(Kind, usize)> {
        let settings = &self.shared.settings;
        kinds.iter().find_map(|kind| Some((*kind, kind.body_bytes_max(method, path, settings)?)))
    }

    /// Whether the queues for the shards and the owner of the topics have room in this turn.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        self.has_outgoing_room() && self.topic_questions < TURN_REQUESTS_MAX
    }

    /// Whether the queue for the shards has room in this turn: all that a publication needs, which
    /// asks the owner of the topics nothing.
    #[must_use]
    pub fn has_outgoing_room(&self) -> bool {
        self.outgoing.bytes < TURN_OUTGOING_BYTES_MAX
    }

    /// Whether the client has taken every answer so far. Its next request waits for that, or a
    /// client that reads nothing could have us keep ever more answers.
    #[must_use]
    pub fn is_answered(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.outbox.backlog_bytes() == 0)
    }

    /// Whether the connection's request awaits a service's answer.
    #[must_use]
    pub fn is_asked(&self, id: Id) -> bool {
        let session = self.sessions.get(id as usize);
        session.is_some_and(|session| matches!(session.phase, Phase::Asked(..)))
    }

    /// Notes that the next request has begun to come, which starts its time-out.
    pub fn await_head(&mut self, id: Id, now: Now) {
        if self.sessions[id as usize].phase == Phase::Idle {
            self.await_rest(id, Phase::Head, now);
        }
    }

    /// Awaits the body of a request, and asks for it if the client waits for a 100 (RFC 9110
    /// section 10.1.1).
    pub fn await_body(&mut self, id: Id, is_waiting: bool, now: Now) {
        self.await_rest(id, Phase::Body, now);
        if is_waiting {
            self.queue(id, http::CONTINUE, now);
        }
    }

    fn await_rest(&mut self, id: Id, phase: Phase, now: Now) {
        let session = &mut self.sessions[id as usize];
        session.phase = phase;
        session.deadline = now.tick_in(self.limits.handshake_timeout_s.into());
        self.reschedule(id);
    }

    /// Serves a whole request. Returns whether the next may be read: not before the answer is
    /// there, and not after one that ends the connection.
    pub fn serve(
        &mut self,
        id: Id,
        kind: Kind,
        request: &Request<'_>,
        persistence: Persistence,
        now: Now,
    ) -> bool {
        let (mut context, actions) = self.shared.context(now);
        actions.clear();
        let wanted = AnswerForm { persistence, is_head: request.is_head };
        let served = kind.serve(request, &mut context, actions);

        // Before the answer, which says that they have been done.
        let mut list = std::mem::take(&mut actions.list);
        for action in list.drain(..) {
            match action {
                Action::Publish(publication) => {
                    self.metrics.events[Origin::Http as usize][Outcome::Accepted as usize].add(1);
                    self.outgoing.push(Outgoing::Publication(*publication));
                }
                Action::Ask(question) => {
                    // Webhooks and the like, which have no answer; a question with one is
                    // `Served::Asked`.
                    let _ = self.ask(id, kind, question, now);
                }
                _ => {}
            }
        }
        self.shared.actions.list = list;

        let mut response = std::mem::take(&mut self.response);
        response.clear();
        match served {
            Served::Answer { status, content_type, body } => {
                http::put_answer(status, "", content_type, wanted, &body, &mut response);
                self.answer_at_once(id, kind, status, &response, persistence, now);
            }
            Served::NotAllowed(methods) => {
                http::put_not_allowed(methods, wanted, &mut response);
                self.answer_at_once(id, kind, 405, &response, persistence, now);
            }
            Served::Asked(question) => match self.answer_here(kind, &question, now) {
                Some(body) => {
                    http::put_answer(
                        200,
                        "",
                        http::content_type(200),
                        wanted,
                        &body,
                        &mut response,
                    );
                    self.answer_at_once(id, kind, 200, &response, persistence, now);
                }
                None => self.await_answer(id, (kind, wanted), question, now),
            },
        }
        response.shrink_to(RESPONSE_BYTES_KEPT);
        self.response = response;
        self.sessions[id as usize].phase == Phase::Idle
    }

    /// The answer to a question that has none but this node to ask.
    fn answer_here(&mut self, kind: Kind, question: &Question, now: Now) -> Option<Vec<u8>> {
        let Question::Presence(question) = question else { return None };
        let PresenceRequest::Inquire(ChannelInquiry::Connections(here)) = question.request else {
            return None;
        };
        if self.is_clustered {
            return None;
        }
        let (context, _) = self.shared.context(now);
        Some(kind.answer(question, &PresenceAnswer::Connections(here), &context))
    }

    fn answer_at_once(
        &mut self,
        id: Id,
        kind: Kind,
        status: u16,
        response: &[u8],
        persistence: Persistence,
        now: Now,
    ) {
        self.count_request(kind, status);
        if matches!(status, 401 | 403) {
            // The refusals of HTTP requests count beside those of handshakes.
            let answer = Some(ClientAnswer { code: status, text: "" });
            self.report_refusal(id, Reason::Signature, "", answer, now);
        }
        self.conclude(id, response, persistence, now);
    }

    /// Asks a service on behalf of a request, which is counted when it is answered or given up.
    fn await_answer(
        &mut self,
        id: Id,
        (kind, wanted): (Kind, AnswerForm),
        question: Question,
        now: Now,
    ) {
        // One channel has one owner; a question about many goes to all shards. A cluster asks all
        // owners itself.
        if let Question::Presence(question) = &question {
            let is_one = self.is_clustered || question.owner(self.shards).is_some();
            let left = if is_one { 1 } else { self.shards };
            let inquiry = PendingInquiry { question: question.clone(), left, answer: None };
            self.sessions[id as usize].pending = Some(Box::new(AwaitedAnswer::Inquiry(inquiry)));
        }

        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Asked(kind, wanted);
        session.deadline = now.tick_in(ANSWER_S);
        self.reschedule(id);
        let _ = self.ask(id, kind, question, now);
    }

    /// Refuses a request that cannot be read or served with a status and ready bytes, and ends the
    /// connection.
    pub fn refuse_request(
        &mut self,
        id: Id,
        kind: Kind,
        (status, response): (u16, Vec<u8>),
        is_head: bool,
        now: Now,
    ) {
        self.count_request(kind, status);
        let response = if is_head { http::without_body(response) } else { response };
        let reason = if status == 503 { Reason::Outage } else { Reason::BadRequest };
        self.report_refusal(id, reason, "", Some(ClientAnswer { code: status, text: "" }), now);
        self.conclude(id, &response, Persistence::Ends, now);
    }

    /// Adds the answer of one owner of channels; with the last one the request is answered.
    pub(super) fn answer_inquiry(&mut self, id: Id, answer: PresenceAnswer, now: Now) {
        let session = &mut self.sessions[id as usize];
        let (Phase::Asked(kind, _), Some(pending)) = (session.phase, session.pending.take()) else {
            return;
        };
        let AwaitedAnswer::Inquiry(mut inquiry) = *pending else { return };

        match &mut inquiry.answer {
            Some(known) => known.merge(answer),
            None => inquiry.answer = Some(answer),
        }
        inquiry.left -= 1;
        if inquiry.left > 0 {
            session.pending = Some(Box::new(AwaitedAnswer::Inquiry(inquiry)));
            return;
        }

        let Some(answer) = &inquiry.answer else { return };
        if matches!(answer, PresenceAnswer::Unavailable) && !inquiry.question.is_of_publication() {
            return self.answer_with(id, 503, http::put_unavailable, now);
        }
        let (context, _) = self.shared.context(now);
        let body = kind.answer(&inquiry.question, answer, &context);
        self.answer_request(id, 200, &body, now);
    }

    /// Answers a request with the awaited answer.
    pub(super) fn answer_request(&mut self, id: Id, status: u16, body: &[u8], now: Now) {
        let put = |wanted, out: &mut Vec<u8>| {
            out.reserve(body.len() + 128);
            http::put_answer(status, "", http::content_type(status), wanted, body, out);
        };
        self.answer_with(id, status, put, now);
    }

    /// Answers a request that awaits an answer with what `put` writes.
    fn answer_with(
        &mut self,
        id: Id,
        status: u16,
        put: impl FnOnce(AnswerForm, &mut Vec<u8>),
        now: Now,
    ) {
        let Phase::Asked(kind, wanted) = self.sessions[id as usize].phase else { return };
        self.count_request(kind, status);
        let mut response = Vec::new();
        put(wanted, &mut response);
        self.conclude(id, &response, wanted.persistence, now);
        self.events.push(ConnectionEvent::Ready(id));
    }

    fn count_request(&self, kind: Kind, status: u16) {
        self.metrics.requests[kind as usize][StatusClass::of(status) as usize].add(1);
    }

    /// Refuses a request whose answer has not come in time.
    pub(super) fn give_up(&mut self, id: Id, kind: Kind, is_head: bool, now: Now) {
        self.sessions[id as usize].pending = None;
        self.refuse_request(id, kind, (503, http::unserved()), is_head, now);
        // Bytes that came meanwhile are read and dropped: unread, they would lose the answer (RFC
        // 9112 section 9.6).
        self.events.push(ConnectionEvent::Ready(id));
    }

    fn conclude(&mut self, id: Id, response: &[u8], persistence: Persistence, now: Now) {
        self.queue(id, response, now);
        if persistence == Persistence::Ends {
            return self.finish(id, Reason::Dialect, now);
        }
        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Idle;
        session.deadline = now.tick_in(KEEP_ALIVE_S);
        self.reschedule(id);
    }
}
