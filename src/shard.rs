//! One shard: its sessions, their subscriptions, timers and outboxes.
//!
//! A shard is a value. `io` tells it what happened (accepted, a request, a message, a publication, a tick)
//! and then lets it flush; it answers by queueing bytes and naming the connections that are over. The same
//! shard runs under a simulated clock and network in the tests.
//!
//! A publication costs one walk of the trie, then per recipient a stamp (several subscriptions of one
//! session deliver one copy), the dialect's exact filter, and a step in the outbox; the connection is put on
//! the dirty list once a turn, whatever it gets.

mod asking;
mod delivering;
mod ending;
mod event;
mod opening;
mod outgoing;
mod presence;
mod report;
mod reporting;
mod serving;
mod session;
mod timing;

pub use self::event::{ConnectionEvent, Id};
pub use self::outgoing::Outgoing;
pub use self::report::{Report, settle_reports};
pub use self::session::Limits;

use self::outgoing::Outbound;
use self::report::Why;
use self::session::{Outage, Phase, Session};
use crate::dialect::{Action, Actions, Admission, Context, Input, Kind, PerShard, Rng, Settings};
use crate::event::Parser;
use crate::frame::{self, Draft, Publication};
use crate::message::{Interest, Received};
use crate::metrics::{Metrics, Origin, Outcome};
use crate::outbox::{Flushed, FrameId, Outbox, Sent, Turn};
use crate::reason::Reason;
use crate::retained::Retained;
use crate::service::presence::Presence;
use crate::service::topic::TopicQuestion;
use crate::service::{Answer, ConnectionRef, Question};
use crate::trie::Trie;
use crate::wheel::{NEVER, Now, TICK_MS, Tick, Wheel, ticks};
use slab::Slab;
use std::sync::Arc;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// Close code of a client that reads too slowly, or for which there is no room: try again later.
const CLOSE_TRY_LATER: u16 = 1013;
/// Close code of a session whose dialect has left.
const CLOSE_GOING_AWAY: u16 = 1001;
/// Seconds that a peer has to close its side after everything was said.
const LINGER_S: u64 = 2;

/// See the module.
pub struct Shard {
    sessions: Slab<Session>,
    trie: Trie,
    wheel: Wheel,
    turn: Turn,
    dirty: Vec<Id>,
    candidates: Vec<u32>,
    sequence: u32,
    pings: [Option<FrameId>; Kind::ALL.len()],
    shared: Lent,
    limits: Limits,
    metrics: Arc<Metrics>,
    outgoing: Outbound,
    /// A response in the making.
    response: Vec<u8>,
    /// What services are to be asked, in order.
    questions: Vec<(ConnectionRef, Question)>,
    /// How many of them are for the owner of the topics.
    topic_questions: usize,
    /// The places of those that are to tell a client's address.
    unaddressed: Vec<usize>,
    /// Of the channels that this shard owns, by dialect.
    presence: [Presence; Kind::ALL.len()],
    number: u16,
    /// How many shards there are.
    shards: usize,
    /// The serial number of the connection that came last.
    accepted: u32,
    /// The last number that was given to a question about a token.
    asked: u32,
    outages: [Option<Outage>; Kind::ALL.len()],
    events: Vec<ConnectionEvent>,
    reports: Vec<Report>,
    /// What a dialect is told just now.
    why: Why,
    latencies: Vec<u64>,
    due: Vec<u32>,
}

/// What dialects are lent.
struct Lent {
    settings: Arc<Settings>,
    parser: Parser,
    draft: Draft,
    of_dialects: PerShard,
    retained: Retained,
    rng: Rng,
    actions: Actions,
}

impl Lent {
    /// What a dialect is lent for a step, and where its answer goes.
    fn lend(&mut self, now: Now) -> (Context<'_>, &mut Actions) {
        let Self { settings, parser, draft, of_dialects, retained, rng, actions } = self;
        (Context { now, settings, parser, draft, shared: of_dialects, retained, rng }, actions)
    }
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(settings: Arc<Settings>, limits: Limits, metrics: Arc<Metrics>, now: Now) -> Self {
        Self {
            sessions: Slab::new(),
            trie: Trie::new(),
            wheel: Wheel::new(now.tick()),
            turn: Turn::default(),
            dirty: Vec::new(),
            candidates: Vec::new(),
            sequence: 0,
            pings: [None; Kind::ALL.len()],
            shared: Lent {
                settings,
                parser: Parser::default(),
                draft: Draft::default(),
                of_dialects: PerShard::default(),
                retained: Retained::default(),
                rng: counting(),
                actions: Actions::default(),
            },
            limits,
            metrics,
            outgoing: Outbound::default(),
            response: Vec::new(),
            questions: Vec::new(),
            topic_questions: 0,
            unaddressed: Vec::new(),
            presence: Default::default(),
            number: 0,
            shards: 1,
            accepted: 0,
            asked: 0,
            outages: [None; Kind::ALL.len()],
            events: Vec::new(),
            reports: Vec::new(),
            why: Why::default(),
            latencies: Vec::new(),
            due: Vec::new(),
        }
    }

    /// The same shard, as the one with this number of so many.
    #[must_use]
    pub fn numbered(self, number: u16, shards: usize) -> Self {
        Self { number, shards, ..self }
    }

    /// The same shard, with a source of numbers that nobody can guess. Without one they count.
    #[must_use]
    pub fn drawing(mut self, rng: Rng) -> Self {
        self.shared.rng = rng;
        self
    }

    /// Replaces the settings, and tells the sessions.
    pub fn configure(&mut self, settings: Arc<Settings>, limits: Limits, now: Now) {
        self.shared.retained.trim(|group| settings.retained_max(group));
        self.shared.settings = settings;
        self.limits = limits;
        let ids: Vec<Id> = self.sessions.iter().map(|(id, _)| id as Id).collect();
        ids.into_iter().for_each(|id| self.tell(id, Input::Configured, now));
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.shared.settings
    }

    /// Connections in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether there are sessions of a dialect, those whose handshake is not answered yet included.
    #[must_use]
    pub fn has_sessions(&self, kind: Kind) -> bool {
        self.metrics.sessions[kind as usize].get() > 0
    }

    /// Whether there is nothing for which a moment may come: no connection, no presence, nothing that is kept.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && self.presence.iter().all(Presence::is_empty)
            && self.shared.retained.is_empty()
    }

    /// A new connection, whose request is awaited.
    pub fn accept(&mut self, now: Now) -> Id {
        let deadline = now.tick().saturating_add(ticks(self.limits.handshake_timeout_s.into()));
        self.accepted = self.accepted.wrapping_add(1);
        let id = self.sessions.insert(Session {
            dialect: None,
            pending: None,
            outbox: Outbox::default(),
            serial: self.accepted,
            stamp: self.sequence,
            since: now.tick(),
            deadline,
            ping_at: NEVER,
            ping_interval: 0,
            misses: 0,
            misses_max: 0,
            phase: Phase::Head,
            dirty: false,
            asked: 0,
            owes_receipt: false,
            asks_topics: false,
        }) as Id;
        self.wheel.schedule(id, deadline);
        self.metrics.connections.set(self.sessions.len() as u64);
        id
    }

    /// Whether another connection may come, with so many in the whole daemon.
    #[must_use]
    pub fn has_room(&self, connections: usize) -> bool {
        connections < self.limits.connections_max
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection waits for a request, or for the rest of one.
    #[must_use]
    pub fn awaits_request(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase.awaits_request())
    }

    /// Whether the dialect has the connection's handshake and has not answered it. What the client sends meanwhile is to
    /// be read later; see [`ConnectionEvent::Opened`].
    #[must_use]
    pub fn is_opening(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase == Phase::Opening)
    }

    /// Whether the connection has had no request answered, nor anything else.
    #[must_use]
    pub fn is_new(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase == Phase::Head)
    }

    /// What of the connection's frames is of interest.
    #[must_use]
    pub fn interest(&self, id: Id) -> Interest {
        let Some(session) = self.sessions.get(id as usize) else { return Interest::Nothing };
        match (session.phase, &session.dialect) {
            (Phase::Open, Some(dialect)) => {
                Interest::Messages(dialect.message_bytes_max(&self.shared.settings))
            }
            // The dialect has left; what comes is only read for the close frame in it.
            (Phase::Closing, _) => Interest::Controls,
            _ => Interest::Nothing,
        }
    }

    /// Something whole from a client.
    pub fn receive(&mut self, id: Id, received: Received<'_>, now: Now) {
        let Some(session) = self.sessions.get_mut(id as usize) else { return };
        let phase = session.phase;
        // Whatever comes shows that the peer lives, also where it answers no ping because it is busy.
        session.misses = 0;
        match received {
            Received::Close(_) if phase == Phase::Closing => self.finish(id, Reason::Client, now),
            Received::Close(payload) if phase == Phase::Open => {
                let mut echo = Vec::with_capacity(payload.len() + 2);
                frame::put_frame(OpCode::Control(Control::Close), payload, &mut echo);
                self.queue(id, &echo, now);
                self.finish(id, Reason::Client, now);
            }
            _ if phase != Phase::Open => {}
            Received::Pong => self.tell(id, Input::Alive, now),
            Received::Ping(payload) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                frame::put_frame(OpCode::Control(Control::Pong), payload, &mut pong);
                self.queue(id, &pong, now);
                self.tell(id, Input::Alive, now);
            }
            Received::Text(text) => self.tell(id, Input::Text(text), now),
            Received::Binary(bytes) => self.tell(id, Input::Binary(bytes), now),
            Received::Close(_) => {}
        }
    }

    /// The socket takes bytes again. Its outbox leaves at the end of the turn.
    pub fn writable(&mut self, id: Id) {
        if let Some(session) = self.sessions.get_mut(id as usize) {
            session.outbox.unblock();
            self.mark_dirty(id);
        }
    }

    /// Hands a publication to every session that subscribes to it.
    pub fn deliver(&mut self, publication: &Arc<Publication>, now: Now) {
        self.latencies.push(publication.accepted.monotonic_ns);
        if publication.retain_s > 0
            && let Some(entries_max) = self.shared.settings.retained_max(publication.topic())
        {
            self.shared.retained.keep(publication, entries_max, now);
        }
        let orphans = self.find_candidates(publication);
        let candidates = std::mem::take(&mut self.candidates);
        let mut frames: [Option<FrameId>; 4] = [None; 4];
        let (mut deliveries, mut acl_denied) = ([0u64; Kind::ALL.len()], [0u64; Kind::ALL.len()]);
        for &id in &candidates {
            let session = &mut self.sessions[id as usize];
            let Some(dialect) = &session.dialect else { continue };
            if session.phase != Phase::Open {
                continue;
            }
            match dialect.admits(publication, now) {
                Admission::No => {}
                Admission::Denied => acl_denied[dialect.kind() as usize] += 1,
                Admission::Close(code, text, reason) => self.expel(id, (code, text), reason, now),
                admission @ (Admission::Form(form) | Admission::Last(form, ..)) => {
                    let turn = &mut self.turn;
                    let frame =
                        *frames[form as usize].get_or_insert_with(|| turn.share(publication, form));
                    deliveries[dialect.kind() as usize] += 1;
                    if self.push(id, frame) {
                        self.slow(id, now);
                    }
                    if let Admission::Last(_, code, text) = admission {
                        self.expel(id, (code, text), Reason::Terminated, now);
                    }
                }
            }
        }
        self.candidates = candidates;
        if let Some(tally) = &publication.tally {
            tally.add(deliveries.iter().sum());
        }
        let counters = self.metrics.deliveries.iter().chain(&self.metrics.acl_denied);
        for (counter, count) in counters.zip(deliveries.into_iter().chain(acl_denied)) {
            if count > 0 {
                counter.add(count);
            }
        }
        debug_assert_eq!(orphans, 0, "a session has gone and left subscriptions behind");
    }

    /// Collects the sessions that subscribe to a publication, each once. Returns how many subscriptions have no session
    /// any more: a dialect that forgets to give one back must not bring the daemon down.
    #[inline]
    fn find_candidates(&mut self, publication: &Publication) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let (sessions, candidates) = (&mut self.sessions, &mut self.candidates);
        candidates.clear();
        let mut orphans = 0;
        self.trie.matches(publication.topic(), publication.facet(), |id| {
            let Some(session) = sessions.get_mut(id as usize) else {
                orphans += 1;
                return;
            };
            if session.stamp != sequence {
                session.stamp = sequence;
                candidates.push(id);
            }
        });
        if orphans > 0 {
            self.metrics.orphaned_subscriptions.add(orphans);
        }
        orphans
    }

    /// What is to be done to connections since the last call.
    pub fn take_events(&mut self) -> impl Iterator<Item = ConnectionEvent> + use<> {
        std::mem::take(&mut self.events).into_iter()
    }

    /// Writes what the turn has queued, one write per connection, and ends the turn. `write` gets the bytes
    /// for a connection; [`Shard::take_events`] says what is left to do with it.
    pub fn flush(&mut self, now: Now, mut write: impl FnMut(Id, &[u8]) -> Sent) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut bytes_out = 0;
        for id in dirty.drain(..) {
            let Some(session) = self.sessions.get_mut(id as usize) else { continue };
            if !std::mem::take(&mut session.dirty) {
                continue;
            }
            let before = session.outbox.backlog_bytes() as u64;
            let flushed = self.turn.flush(&mut session.outbox, |bytes| {
                let sent = write(id, bytes);
                if let Sent::Bytes(count) = sent {
                    bytes_out += count as u64;
                }
                sent
            });
            let after = session.outbox.backlog_bytes() as u64;
            if before != after {
                self.metrics.outbox_bytes.add(after.wrapping_sub(before));
            }
            let has_taken = flushed == Flushed::Empty && std::mem::take(&mut session.owes_receipt);
            match flushed {
                Flushed::Broken => self.remove(id, Reason::Gone, now),
                Flushed::Blocked => self.events.push(ConnectionEvent::Blocked(id)),
                Flushed::Waiting => {}
                Flushed::Empty if session.phase == Phase::Ending => {
                    session.phase = Phase::Over;
                    session.deadline = now.tick() + ticks(LINGER_S);
                    self.wheel.schedule(id, session.deadline);
                    self.events.push(ConnectionEvent::Finished(id));
                }
                Flushed::Empty if before > 0 && session.phase.awaits_request() => {
                    self.events.push(ConnectionEvent::Ready(id))
                }
                Flushed::Empty => {}
            }
            if has_taken {
                let took = Question::Topic(TopicQuestion::Took);
                self.questions.push((self.reference(id), took));
            }
        }
        self.dirty = dirty;
        self.turn.end();
        self.pings = [None; Kind::ALL.len()];
        self.metrics.bytes_out.add(bytes_out);
    }

    /// Counts the turn's latencies at the moment its writes were done.
    pub fn end_turn(&mut self, now: Now) {
        for accepted_ns in self.latencies.drain(..) {
            self.metrics.latency(now.monotonic_ns.saturating_sub(accepted_ns));
        }
    }

    /// Bytes that this turn holds, frames included; a turn ends before they grow without bound.
    #[must_use]
    pub fn turn_bytes(&self) -> usize {
        self.turn.bytes()
    }

    fn tell(&mut self, id: Id, input: Input<'_>, now: Now) {
        let session = &mut self.sessions[id as usize];
        let Some(dialect) = &mut session.dialect else { return };
        if matches!(input, Input::Text(_) | Input::Binary(_)) {
            self.metrics.messages[dialect.kind() as usize].add(1);
        }
        self.why = Why::from(&input);
        let kind = dialect.kind();
        let (mut context, actions) = self.shared.lend(now);
        actions.clear();
        dialect.handle(input, &mut context, actions);
        self.perform(id, kind, now);
    }

    /// Does what the dialect has asked for, in order. An answer that comes at once is told at the end.
    fn perform(&mut self, id: Id, kind: Kind, now: Now) {
        let mut actions = std::mem::take(&mut self.shared.actions);
        let mut list = std::mem::take(&mut actions.list);
        let (mut answer, because) = (None, actions.reason);
        for tally in actions.tallies.drain(..) {
            self.metrics.tallies[kind as usize][tally as usize].add(1);
        }
        for action in list.drain(..) {
            match action {
                // What was said to others stands, even if the session has ended since.
                Action::Publish(publication) => {
                    self.metrics.events[Origin::Client as usize][Outcome::Accepted as usize].add(1);
                    self.outgoing.push(Outgoing::Publication(*publication));
                }
                Action::Ask(question @ (Question::Webhook(_) | Question::Relay(_))) => {
                    let _ = self.ask(id, kind, question, now);
                }
                _ if self.sessions[id as usize].dialect.is_none() => {}
                Action::Ask(question) => answer = self.ask(id, kind, question, now).or(answer),
                Action::Accept => self.answer_upgrade(id, now),
                Action::Refuse(status, text) => self.refuse(id, status, &text, because, now),
                Action::Send(range) => self.queue(id, actions.get(&range), now),
                Action::Forward(publication, form) => {
                    let frame = self.turn.share(&publication, form);
                    self.put(id, frame, now);
                }
                Action::Close(code, text) => {
                    self.close(id, code, &text, because.unwrap_or(self.why.reason), now);
                }
                Action::Subscribe(prefix, facet) => {
                    let full = self.trie.len() >= self.limits.subscriptions_max;
                    if full
                        || self.trie.insert(actions.get(&prefix), actions.get(&facet), id).is_err()
                    {
                        self.close(
                            id,
                            CLOSE_TRY_LATER,
                            "too many subscriptions",
                            Reason::Limit,
                            now,
                        );
                    }
                }
                Action::Unsubscribe(prefix, facet) => {
                    self.trie.remove(actions.get(&prefix), actions.get(&facet), id);
                }
                Action::Deadline(at_ns) => {
                    let tick = Tick::try_from(at_ns.div_ceil(TICK_MS * 1_000_000)).unwrap_or(NEVER);
                    self.sessions[id as usize].deadline = tick;
                }
                Action::Keepalive { interval_s, misses_max } => {
                    let session = &mut self.sessions[id as usize];
                    session.ping_interval = ticks(u64::from(interval_s)).max(1);
                    session.ping_at = now.tick().saturating_add(session.ping_interval);
                    session.misses = 0;
                    session.misses_max = misses_max;
                }
            }
        }
        self.shared.actions = Actions { list, ..actions };
        // What follows may be about somebody else.
        self.why = Why::default();
        self.reschedule(id);
        if let Some(answer) = answer {
            self.tell(id, Input::Answer(Answer::Token(0, answer)), now);
        }
    }

    /// Queues bytes for one connection.
    fn queue(&mut self, id: Id, bytes: &[u8], now: Now) {
        let held = self.turn.append(&mut self.sessions[id as usize].outbox, bytes);
        self.mark_dirty(id);
        if held > self.limits.outbox_bytes_max {
            self.slow(id, now);
        }
    }

    /// Queues a frame for one connection, which ends if it is too slow with it.
    fn put(&mut self, id: Id, frame: FrameId, now: Now) {
        if self.push(id, frame) {
            self.slow(id, now);
        }
    }

    /// Queues a frame. Returns whether the client is too slow with it.
    #[inline]
    fn push(&mut self, id: Id, frame: FrameId) -> bool {
        let session = &mut self.sessions[id as usize];
        let held = self.turn.push(&mut session.outbox, frame);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(id);
        }
        held > self.limits.outbox_bytes_max
    }

    fn mark_dirty(&mut self, id: Id) {
        let session = &mut self.sessions[id as usize];
        if !std::mem::replace(&mut session.dirty, true) {
            self.dirty.push(id);
        }
    }
}

/// Numbers for tests, which may well be guessed.
fn counting() -> Rng {
    let mut drawn = 0;
    Box::new(move || {
        drawn += 1;
        drawn
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;

    const NOW: Now = Now { monotonic_ns: 0, unix_ms: 0 };

    #[test]
    fn a_subscription_without_a_session_is_skipped_and_counted() {
        let metrics = Arc::new(Metrics::default());
        let mut shard = Shard::new(Arc::default(), Limits::default(), Arc::clone(&metrics), NOW);
        shard.trie.insert(b"topic", b"", 7).unwrap();
        let mut draft = Draft::default();
        draft.address(&[b"topic"], b"");
        let publication = Arc::new(draft.finish(NOW));
        let delivered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            shard.deliver(&publication, NOW);
        }));
        assert_eq!(
            delivered.is_err(),
            cfg!(debug_assertions),
            "a fault of ours, which tests are to find"
        );
        assert_eq!(metrics.orphaned_subscriptions.get(), 1);
    }
}
