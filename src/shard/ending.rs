//! The ends of connections: by the peer, by the protocol, by a limit of the daemon, or because it
//! stops.

use super::report::ClientAnswer;
use super::session::Phase;
use super::{CLOSE_GOING_AWAY, CLOSE_TRY_LATER, ConnectionEvent, Id, LEAVING_CLOSE_S, Shard};
use crate::dialect::{Action, Actions, Input, Kind};
use crate::frame;
use crate::http::{AnswerForm, Persistence};
use crate::message::Violation;
use crate::reason::Reason;
use crate::wheel::{NEVER, Now, Tick};

/// Close codes whose text is ours to choose. Personium's documents want 1000 without any, and from
/// 4000 on codes belong to each protocol.
const FREE_CODES: std::ops::RangeInclusive<u16> = 1001..=3999;

/// The end of the time that a peer has, which is less while the daemon stops.
pub(super) fn patience(is_leaving: bool, seconds: u64, now: Now) -> Tick {
    now.tick_in(if is_leaving { seconds.min(LEAVING_CLOSE_S) } else { seconds })
}

impl Shard {
    /// Ends a connection whose client broke the protocol.
    pub fn violate(&mut self, id: Id, violation: Violation, now: Now) {
        let mut text = String::new();
        let dialect = self.sessions.get(id as usize).and_then(|session| session.dialect.as_ref());
        if let (Violation::TooLong(bytes), Some(dialect)) = (violation, dialect) {
            text = dialect.kind().too_long(bytes, dialect.message_bytes_max(&self.shared.settings));
        }
        let text = if text.is_empty() { violation.words() } else { &text };
        self.close(id, violation.close_code(), text, Reason::Violation, now);
        // Nothing behind a violation can be read, so the peer's close frame is not awaited.
        if self.sessions.contains(id as usize) {
            self.finish(id, Reason::Violation, now);
        }
    }

    /// Removes a connection whose socket failed, or whose peer can take nothing more.
    pub fn lost(&mut self, id: Id, now: Now) {
        if self.sessions.contains(id as usize) {
            self.remove(id, Reason::Gone, now);
        }
    }

    /// Ends a connection whose peer has shut its side: it may still read what is queued.
    pub fn hang_up(&mut self, id: Id, now: Now) {
        if self.sessions.contains(id as usize) {
            self.finish(id, Reason::Gone, now);
        }
    }

    /// Ends every connection, because the daemon stops.
    pub fn drain(&mut self, now: Now) {
        self.is_leaving = true;
        self.ids(|_| true).into_iter().for_each(|id| self.dismiss(id, now));
    }

    /// Ends a part of the connections, because the daemon stops: one in `parts`, the one that has
    /// this number. Requests that come meanwhile are still answered, until the drain.
    pub fn farewell(&mut self, part: u32, parts: u32, now: Now) {
        self.is_leaving = true;
        let hit = self.ids(|session| !matches!(session.phase, Phase::Head | Phase::Opening));
        hit.into_iter().filter(|id| id % parts == part).for_each(|id| self.dismiss(id, now));
    }

    /// Ends a connection, because the daemon stops.
    pub(super) fn dismiss(&mut self, id: Id, now: Now) {
        match self.sessions[id as usize].phase {
            Phase::Head | Phase::Opening => {
                self.respond(id, &crate::http::refusal(503), Reason::Drain, now);
            }
            Phase::Open => {
                let kind = self.sessions[id as usize].kind();
                let going = kind.map(|kind| kind.close_stopping(&self.shared.settings));
                let (code, reason) = going.unwrap_or((CLOSE_GOING_AWAY, ""));
                self.close(id, code, reason, Reason::Drain, now);
            }
            Phase::Idle => self.finish(id, Reason::Drain, now),
            // A request that has begun is still answered; its deadline bounds the wait.
            Phase::Body => {}
            Phase::Asked(kind, wanted) => {
                let wanted = AnswerForm { persistence: Persistence::Ends, ..wanted };
                self.sessions[id as usize].phase = Phase::Asked(kind, wanted);
            }
            // Begun before the stop, with more patience.
            Phase::Closing | Phase::Ending | Phase::Over => {
                let session = &mut self.sessions[id as usize];
                session.deadline = session.deadline.min(now.tick_in(LEAVING_CLOSE_S));
                self.reschedule(id);
            }
        }
    }

    /// Ends the connection with the longest incomplete message or request, because all together
    /// hold too much. What it has sent is lost.
    pub fn evict(&mut self, id: Id, now: Now) {
        let Some(session) = self.sessions.get(id as usize) else { return };
        self.metrics.partial_evictions.add(1);
        match session.phase {
            Phase::Open => {
                self.close(
                    id,
                    CLOSE_TRY_LATER,
                    "too many long messages at once",
                    Reason::PartialLimit,
                    now,
                );
            }
            Phase::Head | Phase::Body | Phase::Idle | Phase::Asked(..) | Phase::Opening => {
                self.respond(id, &crate::http::unserved(), Reason::PartialLimit, now);
            }
            Phase::Closing | Phase::Ending | Phase::Over => {}
        }
    }

    /// Closes a client that reads too slowly, without what it has not begun to get.
    pub(super) fn slow(&mut self, id: Id, now: Now) {
        if self.sessions[id as usize].phase != Phase::Open || self.has_only_deliveries(id) {
            return;
        }

        // Emptied first: the close frame is the next thing the client reads.
        let session = &mut self.sessions[id as usize];
        let before = session.outbox.backlog_bytes() as u64;
        self.turn.abandon(&mut session.outbox);
        self.metrics.outbox_bytes.add((session.outbox.backlog_bytes() as u64).wrapping_sub(before));

        let kind = session.kind();
        let (code, reason) = kind.map_or((CLOSE_TRY_LATER, "too slow"), Kind::close_slow);
        self.close(id, code, reason, Reason::Slow, now);
    }

    /// Closes a session with a close frame; an empty text becomes the reason's, where the protocol
    /// leaves it to us.
    pub(super) fn close(&mut self, id: Id, code: u16, text: &str, reason: Reason, now: Now) {
        match self.sessions[id as usize].phase {
            Phase::Opening => {
                self.report_refusal(id, reason, "", None, now);
                return self.finish(id, reason, now);
            }
            Phase::Head | Phase::Body | Phase::Idle | Phase::Asked(..) => {
                return self.finish(id, reason, now);
            }
            Phase::Closing | Phase::Ending | Phase::Over => return,
            Phase::Open => {}
        }

        let text =
            if text.is_empty() && FREE_CODES.contains(&code) { reason.words() } else { text };
        // Before anything is queued: a client that is too slow for it is closed for that.
        self.sessions[id as usize].phase = Phase::Closing;
        self.queue(id, &frame::close(code, text), now);
        self.leave(id, Some((reason, Some(ClientAnswer { code, text }))), now);

        let session = &mut self.sessions[id as usize];
        session.deadline = patience(self.is_leaving, self.limits.close_timeout_s.into(), now);
        session.ping_at = NEVER;
        self.reschedule(id);
    }

    /// Ends a connection after what is queued.
    pub(super) fn finish(&mut self, id: Id, reason: Reason, now: Now) {
        self.leave(id, self.end_by(id, reason), now);
        let session = &mut self.sessions[id as usize];
        match session.phase {
            Phase::Ending | Phase::Over => return,
            // Reading goes on: unread bytes would reset the connection and lose the answer.
            Phase::Opening => self.events.push(ConnectionEvent::Opened(id)),
            _ => {}
        }

        session.phase = Phase::Ending;
        session.deadline = patience(self.is_leaving, self.limits.close_timeout_s.into(), now);
        session.ping_at = NEVER;
        self.reschedule(id);
        self.mark_dirty(id);
    }

    /// The end of a session to report when its connection ends; only an open one has begun.
    fn end_by(&self, id: Id, reason: Reason) -> Option<(Reason, Option<ClientAnswer<'static>>)> {
        (self.sessions[id as usize].phase == Phase::Open).then_some((reason, None))
    }

    /// Has the dialect release what it holds, and reports the end of its session.
    fn leave(&mut self, id: Id, end: Option<(Reason, Option<ClientAnswer<'_>>)>, now: Now) {
        // Several ways may lead here for one session; the first takes the dialect.
        let Some(mut dialect) = self.sessions[id as usize].dialect.take() else { return };
        if let Some((reason, answer)) = end {
            self.report_end(id, &dialect, reason, answer, now);
        }
        self.forget(id);
        // The owner of the topics is told that it is gone, which is the last that it is told.
        self.sessions[id as usize].owes_receipt = false;
        self.metrics.sessions[dialect.kind() as usize].sub(1);

        // A list of its own, because the shard's may be the one being performed.
        let (mut context, _) = self.shared.context(now);
        let mut actions = Actions::default();
        dialect.handle(Input::Gone, &mut context, &mut actions);
        let list = std::mem::take(&mut actions.list);
        for action in list {
            match action {
                Action::Unsubscribe(prefix, facet) => {
                    self.trie.remove(actions.get(&prefix), actions.get(&facet), id);
                }
                Action::Ask(question) => {
                    // No session is left that an answer could go to.
                    let _ = self.ask(id, dialect.kind(), question, now);
                }
                _ => {}
            }
        }
    }

    pub(super) fn remove(&mut self, id: Id, reason: Reason, now: Now) {
        self.leave(id, self.end_by(id, reason), now);
        self.wheel.cancel(id);
        let mut session = self.sessions.remove(id as usize);
        self.metrics.outbox_bytes.sub(session.outbox.backlog_bytes() as u64);
        // A list whose user has vanished would look unflushed at the end of the turn.
        self.turn.discard(&mut session.outbox);
        self.metrics.connections.set(self.sessions.len() as u64);
        self.events.push(ConnectionEvent::Gone(id));
    }
}
