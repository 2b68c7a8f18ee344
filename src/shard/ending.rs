//! How connections end: by the peer, by the protocol, by a bound of the daemon, or because it stops.

use super::session::Phase;
use super::{CLOSE_GOING_AWAY, CLOSE_TRY_LATER, Event, Id, Shard};
use crate::api::{Persistence, Wanted};
use crate::dialect::{Action, Actions, AnyDialect, Input, Kind};
use crate::frame;
use crate::message::Violation;
use crate::metrics::{End, Handshake};
use crate::wheel::{NEVER, Now, ticks};

impl Shard {
    /// A client broke the protocol.
    pub fn violate(&mut self, id: Id, violation: Violation, now: Now) {
        let reason = match (violation, self.sessions.get(id as usize).and_then(|it| it.dialect.as_ref())) {
            (Violation::TooLong(bytes), Some(dialect)) => {
                dialect.kind().too_long(bytes, dialect.message_bytes_max(&self.shared.settings))
            }
            _ => String::new(),
        };
        self.close(id, violation.close_code(), &reason, End::Violation, now);
        // What follows cannot be read, so no answer is awaited.
        if self.sessions.contains(id as usize) {
            self.finish(id, now);
        }
    }

    /// The peer has sent its last byte, or the socket failed.
    pub fn lost(&mut self, id: Id, now: Now) {
        if self.sessions.contains(id as usize) {
            self.remove(id, now);
        }
    }

    /// The peer says nothing more but may still read: what is queued leaves, then the connection ends.
    pub fn hang_up(&mut self, id: Id, now: Now) {
        if self.sessions.contains(id as usize) {
            self.finish(id, now);
        }
    }

    /// Ends every session: the daemon stops.
    pub fn drain(&mut self, now: Now) {
        let ids: Vec<Id> = self.sessions.iter().map(|(id, _)| id as Id).collect();
        for id in ids {
            match self.sessions[id as usize].phase {
                Phase::Head | Phase::Opening => {
                    self.respond(id, &crate::api::refusal(503), Handshake::Shed, now);
                }
                Phase::Open => {
                    let kind = self.sessions[id as usize].dialect.as_ref().map(AnyDialect::kind);
                    let going = kind.map(|kind| kind.close_stopping(&self.shared.settings));
                    let (code, reason) = going.unwrap_or((CLOSE_GOING_AWAY, ""));
                    self.close(id, code, reason, End::Drain, now);
                }
                Phase::Idle => self.finish(id, now),
                // What was begun is answered; the deadline holds.
                Phase::Body => {}
                Phase::Asked(kind, wanted) => {
                    let wanted = Wanted { persistence: Persistence::Ends, ..wanted };
                    self.sessions[id as usize].phase = Phase::Asked(kind, wanted);
                }
                Phase::Closing | Phase::Ending | Phase::Over => {}
            }
        }
    }

    /// All connections together have sent more in part than they may, and this one more than others. What it has sent
    /// is lost.
    pub fn evict(&mut self, id: Id, now: Now) {
        let Some(session) = self.sessions.get(id as usize) else { return };
        self.metrics.partial_evictions.add(1);
        match session.phase {
            Phase::Open => {
                self.close(id, CLOSE_TRY_LATER, "too many long messages at once", End::Limit, now);
            }
            Phase::Head | Phase::Body | Phase::Idle | Phase::Asked(..) | Phase::Opening => {
                self.respond(id, &crate::api::unserved(), Handshake::Shed, now);
            }
            Phase::Closing | Phase::Ending | Phase::Over => {}
        }
    }

    /// The client reads too slowly: what it has not begun to get is dropped and it is told to come again.
    pub(super) fn slow(&mut self, id: Id, now: Now) {
        if self.sessions[id as usize].phase != Phase::Open || self.is_delivered_to(id) {
            return;
        }
        let session = &mut self.sessions[id as usize];
        let before = session.outbox.backlog_bytes() as u64;
        self.turn.abandon(&mut session.outbox);
        self.metrics.outbox_bytes.add((session.outbox.backlog_bytes() as u64).wrapping_sub(before));
        let kind = session.dialect.as_ref().map(AnyDialect::kind);
        let (code, reason) = kind.map_or((CLOSE_TRY_LATER, "too slow"), Kind::close_slow);
        self.close(id, code, reason, End::Slow, now);
    }

    pub(super) fn close(&mut self, id: Id, code: u16, reason: &str, end: End, now: Now) {
        match self.sessions[id as usize].phase {
            Phase::Head | Phase::Opening | Phase::Body | Phase::Idle | Phase::Asked(..) => {
                return self.finish(id, now);
            }
            Phase::Closing | Phase::Ending | Phase::Over => return,
            Phase::Open => {}
        }
        self.metrics.ends[end as usize].add(1);
        self.sessions[id as usize].phase = Phase::Closing;
        self.queue(id, &frame::close(code, reason), now);
        self.leave(id, now);
        let session = &mut self.sessions[id as usize];
        session.deadline = now.tick().saturating_add(ticks(self.limits.close_timeout_s.into()));
        session.ping_at = NEVER;
        self.reschedule(id);
    }

    /// Says nothing more than what is queued.
    pub(super) fn finish(&mut self, id: Id, now: Now) {
        self.leave(id, now);
        let session = &mut self.sessions[id as usize];
        match session.phase {
            Phase::Ending | Phase::Over => return,
            // It is read on, or unread bytes would reset the connection and lose the answer.
            Phase::Opening => self.events.push(Event::Opened(id)),
            _ => {}
        }
        session.phase = Phase::Ending;
        session.deadline = now.tick().saturating_add(ticks(self.limits.close_timeout_s.into()));
        session.ping_at = NEVER;
        self.reschedule(id);
        self.mark_dirty(id);
    }

    /// Lets the dialect give back what it holds.
    pub(super) fn leave(&mut self, id: Id, now: Now) {
        let Some(mut dialect) = self.sessions[id as usize].dialect.take() else { return };
        self.forget(id);
        self.metrics.sessions[dialect.kind() as usize].sub(1);
        let (mut context, _) = self.shared.lend(now);
        let mut actions = Actions::default();
        dialect.handle(Input::Gone, &mut context, &mut actions);
        let list = std::mem::take(&mut actions.list);
        for action in list {
            match action {
                Action::Unsubscribe(prefix, facet) => {
                    self.trie.remove(actions.get(&prefix), actions.get(&facet), id);
                }
                Action::Note(app, note) => self.note(id, &app, *note),
                Action::Ask(request) => self.request(id, *request),
                _ => {}
            }
        }
    }

    pub(super) fn remove(&mut self, id: Id, now: Now) {
        self.leave(id, now);
        self.wheel.cancel(id);
        let mut session = self.sessions.remove(id as usize);
        self.metrics.outbox_bytes.sub(session.outbox.backlog_bytes() as u64);
        self.turn.discard(&mut session.outbox);
        self.metrics.connections.set(self.sessions.len() as u64);
        self.events.push(Event::Gone(id));
    }
}
