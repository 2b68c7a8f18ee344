//! One shard: its sessions, their subscriptions, timers and outboxes.
//!
//! A shard is a value. `io` tells it what happened (accepted, a request, a message, a publication,
//! a tick) and then lets it flush; it answers by queueing bytes and naming the connections that are
//! over. In the tests it runs under a simulated clock and network.
//!
//! A publication costs one walk of the trie, then per recipient a stamp (several subscriptions of
//! one session deliver one copy), the dialect's exact filter, and a step in the outbox; the
//! connection is put on the dirty list once a turn, whatever it gets.
//!
//! This file has the round: `receive` takes frames and answers pings, `deliver` and `push` fan out.
//! `session` is what is kept of a connection, and `Limits`; `opening` answers handshakes, `serving`
//! plain HTTP requests; `flushing` sends each connection what the turn has queued for it, through
//! what `transmit` describes; `asking` talks to services and ends sessions whose token is gone;
//! `delivering` is for durable messages, `presence` for the channels owned here; `timing` has pings
//! and deadlines; `ending` every way in which a connection ends; `outgoing` is what goes to other
//! shards; `reporting` decides when something is counted and logged, `report` has the lines;
//! `inspecting` answers operators; `handover` passes sessions to another process, and takes them
//! over.

mod asking;
mod delivering;
mod dialect_state;
mod ending;
mod event;
mod flushing;
mod handover;
mod inspecting;
mod opening;
mod outgoing;
mod presence;
mod report;
mod reporting;
mod serving;
mod session;
mod timing;
mod transmit;

pub use self::event::{ConnectionEvent, Id};
pub use self::outgoing::Outgoing;
pub use self::report::{Report, settle_reports};
pub use self::session::Limits;
pub use self::transmit::Transmit;

use self::dialect_state::DialectState;
use self::outgoing::Outbound;
use self::report::DefaultReason;
use self::session::{Outage, Phase, Session};
use self::transmit::SendBatch;
use crate::counter::Counter;
use crate::dialect::{Action, Actions, Admission, FORMS_MAX, Input, Kind, Rng, Settings};
use crate::frame::{self, Publication};
use crate::message::{Interest, Received};
use crate::metrics::{Metrics, Origin, Outcome};
use crate::outbox::{FrameId, Outbox, Turn};
use crate::reason::Reason;
use crate::service::presence::Presence;
use crate::service::{Answer, ConnectionRef, NewRefs, Question};
use crate::trie::Trie;
use crate::wheel::{NEVER, Now, TICK_MS, Tick, Wheel};
use slab::Slab;
use std::sync::Arc;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// Close code for a client that reads too slowly, or for which there is no room: try again later.
const CLOSE_TRY_LATER: u16 = 1013;
/// Close code for a session when the daemon stops, or its peer answers no ping.
pub(crate) const CLOSE_GOING_AWAY: u16 = 1001;
/// Seconds that a peer has to close its side after we have shut ours.
const LINGER_S: u64 = 2;
/// Seconds that a peer has to answer a close while the daemon stops, or to take another part of
/// what waits for it: ten round trips across the world. A peer that does neither has gone, and must
/// not hold up the next daemon.
const LEAVING_CLOSE_S: u64 = 1;

/// The sessions of one thread, and everything they share.
pub struct Shard {
    sessions: Slab<Session>,
    trie: Trie,
    wheel: Wheel,
    turn: Turn,
    dirty: Vec<Id>,
    batch: SendBatch,
    candidates: Vec<u32>,
    sequence: u32,
    pings: [Option<FrameId>; Kind::ALL.len()],
    shared: DialectState,
    limits: Limits,
    metrics: Arc<Metrics>,
    outgoing: Outbound,
    /// Scratch for a response.
    response: Vec<u8>,
    /// Questions to services, in order.
    questions: Vec<(ConnectionRef, Question)>,
    /// The number of these for the owner of the topics.
    topic_questions: usize,
    /// The indices of these that lack a client's address.
    unaddressed: Vec<usize>,
    /// The presence of the channels that this shard owns, by dialect.
    presence: [Presence; Kind::ALL.len()],
    number: u16,
    /// The number of shards in the daemon.
    shards: usize,
    /// Whether other nodes have presence too: a question about many channels has one answer then.
    is_clustered: bool,
    /// Whether each end is reported, and not only what the log wants.
    keeps_ends: bool,
    /// The serial number of the last connection.
    accepted: u32,
    /// The number of the last question about a token.
    asked: u32,
    outages: [Option<Outage>; Kind::ALL.len()],
    /// Whether the daemon stops.
    is_leaving: bool,
    events: Vec<ConnectionEvent>,
    reports: Vec<Report>,
    /// The reason that a dialect's current input would end its session for.
    default_reason: DefaultReason,
    latencies: Vec<u64>,
    due: Vec<u32>,
    /// Connections taken over from another process.
    new_refs: NewRefs,
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
            batch: SendBatch::default(),
            candidates: Vec::new(),
            sequence: 0,
            pings: [None; Kind::ALL.len()],
            shared: DialectState::new(settings),
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
            is_clustered: false,
            keeps_ends: false,
            accepted: 0,
            asked: 0,
            outages: [None; Kind::ALL.len()],
            is_leaving: false,
            events: Vec::new(),
            reports: Vec::new(),
            default_reason: DefaultReason::default(),
            latencies: Vec::new(),
            due: Vec::new(),
            new_refs: NewRefs::default(),
        }
    }

    /// Sets the shard's number among `shards`.
    #[must_use]
    pub fn numbered(self, number: u16, shards: usize) -> Self {
        Self { number, shards, ..self }
    }

    /// Has presence belong to the nodes of a cluster, instead of to the shards.
    #[must_use]
    pub fn clustered(self, is_clustered: bool) -> Self {
        Self { is_clustered, ..self }
    }

    /// Has each end of a session reported, and each refusal, for operators.
    #[must_use]
    pub fn keeping_ends(self, keeps_ends: bool) -> Self {
        Self { keeps_ends, ..self }
    }

    /// Sets the source of random numbers. Without one they count up, for tests.
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
        self.ids(|_| true).into_iter().for_each(|id| self.tell(id, Input::Configured, now));
    }

    /// The connections of these sessions, collected because each step may change them.
    fn ids(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<Id> {
        let sessions = self.sessions.iter();
        sessions.filter(|(_, session)| is_meant(session)).map(|(id, _)| id as Id).collect()
    }

    /// The current settings.
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

    /// Whether there are sessions of a dialect, pending handshakes included.
    #[must_use]
    pub fn has_sessions(&self, kind: Kind) -> bool {
        self.metrics.sessions[kind as usize].get() > 0
    }

    /// Whether no tick is needed: no connection, no presence and nothing retained.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && self.presence.iter().all(Presence::is_empty)
            && self.shared.retained.is_empty()
    }

    /// Adds a connection, which now has the handshake's time-out for its request.
    pub fn accept(&mut self, now: Now) -> Id {
        let deadline = now.tick_in(self.limits.handshake_timeout_s.into());
        // Numbers are reused at once, so an answer that comes late is matched by the serial.
        self.accepted = self.accepted.wrapping_add(1);

        let id = self.sessions.insert(Session {
            dialect: None,
            pending: None,
            outbox: Outbox::default(),
            serial: self.accepted,
            stamp: self.sequence,
            since: now.tick(),
            bytes_out: 0,
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

    /// Whether another connection may come, given the number of connections in the daemon.
    #[must_use]
    pub fn has_room(&self, connections: usize) -> bool {
        connections < self.limits.connections_max
    }

    /// The number of shards in the daemon.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The current limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection waits for a request, or for the rest of one.
    #[must_use]
    pub fn awaits_request(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase.awaits_request())
    }

    /// Whether the connection's handshake awaits its dialect's answer. Until then its bytes stay
    /// unread; see [`ConnectionEvent::Opened`].
    #[must_use]
    pub fn is_opening(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase == Phase::Opening)
    }

    /// Whether the connection has not had anything answered yet.
    #[must_use]
    pub fn is_new(&self, id: Id) -> bool {
        self.sessions.get(id as usize).is_some_and(|session| session.phase == Phase::Head)
    }

    /// Which frames of the connection are read.
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

    /// Handles a whole message or control frame of a client.
    pub fn receive(&mut self, id: Id, received: Received<'_>, now: Now) {
        let Some(session) = self.sessions.get_mut(id as usize) else { return };
        let phase = session.phase;
        // Any frame shows that the peer lives; a busy one may answer pings late.
        session.misses = 0;

        match received {
            // The answer to our close frame.
            Received::Close(_) if phase == Phase::Closing => self.finish(id, Reason::Client, now),
            Received::Close(payload) if phase == Phase::Open => {
                // Echoed as it came, which confirms the code (RFC 6455 section 5.5.1).
                self.queue_control(id, Control::Close, payload, now);
                self.finish(id, Reason::Client, now);
            }
            // After our close frame only the peer's counts.
            _ if phase != Phase::Open => {}
            Received::Pong => self.tell(id, Input::Alive, now),
            Received::Ping(payload) => {
                self.queue_control(id, Control::Pong, payload, now);
                self.tell(id, Input::Alive, now);
            }
            Received::Text(text) => self.tell(id, Input::Text(text), now),
            Received::Binary(bytes) => self.tell(id, Input::Binary(bytes), now),
            Received::Close(_) => {}
        }
    }

    /// Notes that a socket takes bytes again; its outbox is flushed at the end of the turn.
    pub fn writable(&mut self, id: Id) {
        if let Some(session) = self.sessions.get_mut(id as usize) {
            session.outbox.unblock();
            self.mark_dirty(id);
        }
    }

    /// Hands a publication to every session that subscribes to it.
    pub fn deliver(&mut self, publication: &Arc<Publication>, now: Now) {
        // Measured by `end_turn`, after the writes.
        self.latencies.push(publication.accepted.monotonic_ns);

        if publication.retain_s > 0 {
            self.retain(publication, now);
        }
        let orphans = self.find_candidates(publication);
        // Taken from the shard for the loop: closing a session needs all of it.
        let candidates = std::mem::take(&mut self.candidates);
        let mut frames: [Option<FrameId>; FORMS_MAX] = [None; FORMS_MAX];
        let (mut deliveries, mut acl_denied) = ([0u64; Kind::ALL.len()], [0u64; Kind::ALL.len()]);
        for &id in &candidates {
            let session = &mut self.sessions[id as usize];
            let Some(dialect) = &session.dialect else { continue };
            // A dialect may subscribe before it answers the handshake.
            if session.phase != Phase::Open {
                continue;
            }

            match dialect.admits(publication, now) {
                Admission::No => {}
                Admission::Denied => acl_denied[dialect.kind() as usize] += 1,
                Admission::Close(code, text, reason) => self.expel(id, (code, text), reason, now),
                admission @ (Admission::Form(form) | Admission::Last(form, ..)) => {
                    // The first recipient of a form adds its frame; without any, the form costs
                    // nothing.
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
            // A part of 0 counts too: the publisher waits for one from each shard.
            tally.add(deliveries.iter().sum());
        }
        add_counts(&self.metrics.deliveries, deliveries);
        add_counts(&self.metrics.acl_denied, acl_denied);
        debug_assert_eq!(orphans, 0, "a session has gone and left subscriptions behind");
    }

    /// Retains a publication as the last of its topic.
    pub fn retain(&mut self, publication: &Arc<Publication>, now: Now) {
        if let Some(entries_max) = self.shared.settings.retained_max(publication.topic()) {
            self.shared.retained.keep(publication, entries_max, now);
        }
    }

    /// Collects the sessions that subscribe to a publication, each once. Returns the number of
    /// subscriptions without a session: a dialect that forgets to unsubscribe must not bring the
    /// daemon down.
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
            // Several subscriptions of one session deliver one copy.
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

    /// The events since the last call, in order.
    pub fn take_events(&mut self) -> impl Iterator<Item = ConnectionEvent> + use<> {
        std::mem::take(&mut self.events).into_iter()
    }

    /// Counts the turn's latencies; `now` is the end of its writes.
    pub fn end_turn(&mut self, now: Now) {
        for accepted_ns in self.latencies.drain(..) {
            self.metrics.latency(now.monotonic_ns.saturating_sub(accepted_ns));
        }
    }

    /// Bytes that this turn holds, frames included; the caller ends the turn before they pass its
    /// bound.
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

        self.default_reason = DefaultReason::from(&input);

        let kind = dialect.kind();
        let (mut context, actions) = self.shared.context(now);
        actions.clear();
        dialect.handle(input, &mut context, actions);
        self.perform(id, kind, now);
    }

    /// Performs the dialect's actions in order. An answer that is there at once is its next input.
    fn perform(&mut self, id: Id, kind: Kind, now: Now) {
        let mut actions = std::mem::take(&mut self.shared.actions);
        let mut list = std::mem::take(&mut actions.list);
        let (mut answer, because) = (None, actions.reason);

        for tally in actions.tallies.drain(..) {
            self.metrics.tallies[kind as usize][tally as usize].add(1);
        }
        for action in list.drain(..) {
            match action {
                // Messages to others stand, even if an action before has ended the session; the
                // rest does not.
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
                    self.close(id, code, &text, because.unwrap_or(self.default_reason.reason), now);
                }
                Action::Subscribe(prefix, facet) => {
                    self.subscribe(id, actions.get(&prefix), actions.get(&facet), now);
                }
                Action::Unsubscribe(prefix, facet) => {
                    self.trie.remove(actions.get(&prefix), actions.get(&facet), id);
                }
                Action::Deadline(at_ns) => {
                    // Rounded up: a deadline may pass late, never early.
                    let tick = Tick::try_from(at_ns.div_ceil(TICK_MS * 1_000_000)).unwrap_or(NEVER);
                    self.sessions[id as usize].deadline = tick;
                }
                Action::Keepalive { interval_s, misses_max } => {
                    self.sessions[id as usize].keep_alive(interval_s, misses_max, now);
                }
            }
        }

        self.shared.actions = Actions { list, ..actions };
        // The next refusal may be another connection's.
        self.default_reason = DefaultReason::default();
        self.reschedule(id);
        // Only now, because the answer's own actions need the list.
        if let Some(answer) = answer {
            self.tell(id, Input::Answer(Answer::Token(0, answer)), now);
        }
    }

    fn subscribe(&mut self, id: Id, prefix: &[u8], facet: &[u8], now: Now) {
        let is_full = self.trie.len() >= self.limits.subscriptions_max;
        if is_full || self.trie.insert(prefix, facet, id).is_err() {
            self.close(id, CLOSE_TRY_LATER, "too many subscriptions", Reason::Limit, now);
        }
    }

    /// Queues a control frame for one connection.
    fn queue_control(&mut self, id: Id, control: Control, payload: &[u8], now: Now) {
        let mut bytes = Vec::with_capacity(payload.len() + 2);
        frame::put_frame(OpCode::Control(control), payload, &mut bytes);
        self.queue(id, &bytes, now);
    }

    /// Queues bytes for one connection.
    fn queue(&mut self, id: Id, bytes: &[u8], now: Now) {
        let held = self.turn.append(&mut self.sessions[id as usize].outbox, bytes);
        self.mark_dirty(id);
        if held > self.limits.outbox_bytes_max {
            self.slow(id, now);
        }
    }

    /// Queues a frame for one connection, and closes it if it is too slow.
    fn put(&mut self, id: Id, frame: FrameId, now: Now) {
        if self.push(id, frame) {
            self.slow(id, now);
        }
    }

    /// Queues a frame. Returns whether the client is too slow.
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

fn add_counts(counters: &[Counter], counts: [u64; Kind::ALL.len()]) {
    for (counter, count) in counters.iter().zip(counts) {
        // A counter is an atomic, and most dialects have nothing to add.
        if count > 0 {
            counter.add(count);
        }
    }
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
