//! The timed work of a shard: deadlines, pings, and metrics that are updated once per tick.

use super::session::Phase;
use super::{CLOSE_GOING_AWAY, Id, Shard};
use crate::dialect::Input;
use crate::frame;
use crate::reason::Reason;
use crate::wheel::{NEVER, Now};
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// Capacity of the list of due connections that is kept for the next tick.
const DUE_KEPT: usize = 1024;

impl Shard {
    /// Does everything that is due.
    pub fn tick(&mut self, now: Now) {
        let mut due = std::mem::take(&mut self.due);
        due.clear();
        due.extend_from_slice(self.wheel.advance(now.tick()));
        for &id in &due {
            if self.sessions.contains(id as usize) {
                self.visit(id, now);
            }
        }
        due.shrink_to(DUE_KEPT);
        self.due = due;

        self.tick_presence(now);
        self.shared.retained.sweep(now);
        // Walks of the trie's arenas are too slow for each change.
        self.metrics.subscriptions.set(self.trie.len() as u64);
        self.metrics.subscription_bytes.set(self.trie.bytes() as u64);
    }

    pub(super) fn reschedule(&mut self, id: Id) {
        let session = &self.sessions[id as usize];
        self.wheel.schedule(id, session.deadline.min(session.ping_at));
    }

    /// Does what is due for a connection and schedules its next visit.
    fn visit(&mut self, id: Id, now: Now) {
        let tick = now.tick();
        let session = &mut self.sessions[id as usize];
        if session.deadline <= tick {
            // A deadline passes once; what it causes sets the next.
            session.deadline = NEVER;
            match session.phase {
                Phase::Head | Phase::Body => {
                    self.respond(id, &crate::http::refusal(408), Reason::RequestTimeout, now);
                }
                Phase::Idle => self.finish(id, Reason::Dialect, now),
                Phase::Asked(kind, wanted) => self.give_up(id, kind, wanted.is_head, now),
                Phase::Opening | Phase::Open => self.tell(id, Input::Deadline, now),
                Phase::Closing | Phase::Ending | Phase::Over => {
                    return self.remove(id, Reason::Gone, now);
                }
            }
        }

        let session = &mut self.sessions[id as usize];
        if session.ping_at <= tick {
            // Any frame of the peer clears the misses (`receive`), so these are pings in a row.
            if session.misses >= session.misses_max {
                let (code, reason) = session
                    .dialect
                    .as_ref()
                    .map_or((CLOSE_GOING_AWAY, ""), |dialect| dialect.kind().close_unanswered());
                return self.close(id, code, reason, Reason::Unanswered, now);
            }
            session.misses += 1;
            session.ping_at = tick.saturating_add(session.ping_interval);
            self.ping(id, now);
        }
        self.reschedule(id);
    }

    fn ping(&mut self, id: Id, now: Now) {
        let Some(dialect) = &self.sessions[id as usize].dialect else { return };
        let kind = dialect.kind();
        // Thousands may be due at one tick, and all of a dialect share one frame.
        let frame = match self.pings[kind as usize] {
            Some(frame) => frame,
            None => {
                let mut bytes = Vec::new();
                frame::put_frame(OpCode::Control(Control::Ping), kind.ping(), &mut bytes);
                *self.pings[kind as usize].insert(self.turn.own(&bytes))
            }
        };
        self.put(id, frame, now);
    }
}
