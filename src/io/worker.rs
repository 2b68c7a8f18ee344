//! One shard at work: the turn.
//!
//! A turn takes from the mailbox and the sockets (bounded), lets the shard decide, and writes each
//! touched connection once. Nothing here waits: the loop around it does.

mod handover;

use super::Hub;
use super::clock;
use super::connection::Sockets;
use super::handoff::Parcel;
use super::handoff::inbox::Wake;
use super::handoff::merge::{MergedReader, NextRead};
use super::handover::HandoverOrder;
use crate::dialect::{Kind, Settings};
use crate::frame::Publication;
use crate::service::topic::{Routes, TopicAnswer};
use crate::service::{Answer, ConnectionRef, Question};
use crate::shard::{Id, Shard, settle_reports};
use crate::throttle;
use crate::wheel::{Now, Tick};
use rustix::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Maximum number of publications in one turn, so that a burst does not keep the sockets waiting.
const TURN_EVENTS_MAX: usize = 64;
/// Bytes of a turn's frames and tables at which it ends, and so what an outbox may hold beyond its
/// limit before the first of it is offered to a socket.
const TURN_BYTES_MAX: usize = 1024 * 1024;

/// A shard with its sockets and its reading of the hand-off.
pub(super) struct Worker {
    shard: Shard,
    sockets: Sockets,
    hub: Arc<Hub>,
    /// The owners of topics that each connection has asked, when there are several.
    routes: Routes,
    number: usize,
    /// The publications and messages for this shard.
    merge: MergedReader<Arc<Publication>, Parcel>,
    ticked: Tick,
    /// The number of publications and messages that were read.
    read: u64,
    /// The orders of a hand-over that were read in the last turn.
    orders: Vec<HandoverOrder>,
    /// The connections that were found to be bound to this process.
    bound: Vec<Id>,
    /// Whether the connections are frozen, so that nothing is done to them.
    is_frozen: bool,
    /// The connections that were frozen, in the order of their descriptors.
    frozen: Vec<Id>,
    /// Whether a task gives this shard a turn at every tick.
    ticking: bool,
    /// Whether connections and publishers are no longer accepted.
    pub(super) draining: bool,
    /// Whether every session has been closed.
    pub(super) closing: bool,
}

impl Worker {
    pub(super) fn new(shard: Shard, sockets: Sockets, hub: Arc<Hub>, number: usize) -> Self {
        Self {
            shard,
            sockets,
            routes: Routes::new(hub.store.owners()),
            hub,
            number,
            merge: MergedReader::new(number, Kind::ALL.len()),
            ticked: clock::now().tick(),
            read: 0,
            orders: Vec::new(),
            bound: Vec::new(),
            is_frozen: false,
            frozen: Vec::new(),
            ticking: false,
            draining: false,
            closing: false,
        }
    }

    /// A descriptor that is readable when any socket is ready.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.sockets.set()
    }

    /// The current settings.
    pub(super) fn settings(&self) -> &Arc<Settings> {
        self.shard.settings()
    }

    /// Whether this shard may end. It waits for all others, because it may own the presence that
    /// another's last request asks for, and until the owner of the topics has heard of every
    /// session's end.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.shard.is_empty() && !self.has_questions() && self.sockets.total() == 0
    }

    /// Publishes to every shard that follows. This shard reads its own part in its next turn.
    pub(super) fn broadcast(&self, publications: Vec<Publication>) {
        self.hub.broadcast(publications, Some(self.number));
    }

    /// Whether publications or questions of clients wait for room elsewhere. Until it is there no
    /// more is read from this shard's clients, so nothing of theirs is dropped and nothing grows.
    pub(super) fn holds_back(&self) -> bool {
        self.shard.holds_back() || self.sockets.has_waiting() || self.sockets.is_paused()
    }

    /// Hands on publications and questions of clients as far as there is room; returns whether
    /// there was.
    fn drain(&mut self) -> bool {
        let shards_have_room = self.hub.all_have_room();
        if shards_have_room {
            self.route();
        }
        self.ask() && shards_have_room
    }

    /// Hands questions to the services; returns whether all had room. Questions of one turn may go
    /// beyond it, and wait here.
    fn ask(&mut self) -> bool {
        if !self.has_questions() {
            return true;
        }
        let mut kept = Vec::new();
        let (mut tokens, mut webhooks, mut relays) = (Vec::new(), Vec::new(), Vec::new());
        let verifiers_have_room = self.hub.bridge.has_room();
        let shards_have_room = self.hub.all_have_room();
        let topics_have_room = self.hub.store.has_room();
        let mut questions = self.shard.take_questions();
        // Rooms are looked at once, so that of one service either all questions leave or all wait,
        // in order.
        for (from, question) in questions.drain(..) {
            match question {
                Question::Token(question) if verifiers_have_room => tokens.push((from, question)),
                Question::Presence(question) if shards_have_room => {
                    self.hub.ask_presence(from, question, self.number);
                }
                Question::Topic(question) if topics_have_room => self.routes.ask(from, question),
                Question::Webhook(webhook) => webhooks.push((from, *webhook)),
                Question::Relay(text) => relays.push(text),
                question => kept.push((from, question)),
            }
        }
        let had_room = kept.is_empty();
        questions.append(&mut kept);
        self.shard.keep_questions(questions);

        if topics_have_room {
            for (owner, questions) in self.routes.take_asked().enumerate() {
                self.hub.store.ask(owner, questions);
            }
        }
        self.hub.ask_verifiers(tokens);
        self.hub.bridge.notify(webhooks);
        self.hub.relay(self.number, relays);
        had_room
    }

    /// Whether questions wait to be handed on.
    fn has_questions(&self) -> bool {
        self.shard.has_questions() || self.routes.has_asked()
    }

    /// Passes an answer of an owner of topics to its connection.
    fn tell(&mut self, connection: ConnectionRef, reply: TopicAnswer, now: Now) {
        // Several owners answer a question about many topics in parts, which are joined here.
        let is_whole = self.hub.store.owners() == 1;
        let reply = if is_whole { Some(reply) } else { self.routes.answered(connection, reply) };
        if let Some(reply) = reply {
            self.shard.answer(connection, Answer::Topic(reply), now);
        }
    }

    /// Publishes for the clients of this shard.
    fn route(&mut self) {
        let outgoing = self.shard.take_outgoing();
        self.hub.route(outgoing, Some(self.number));
    }

    /// Takes one turn. Returns whether there is more to do at once.
    pub(super) fn turn(&mut self) -> bool {
        let now = clock::now();
        self.hub.pulses.shards[self.number].beat(now);
        // Before the mailbox is read: posts from here on need no wake-up.
        self.hub.mailboxes[self.number].mark_awake();
        if !self.draining && self.hub.draining.load(Relaxed) {
            self.draining = true;
            self.sockets.stop_accepting(&mut self.shard, now);
        }

        let delivered = self.deliver(now);
        if self.is_frozen {
            return !self.orders.is_empty();
        }
        self.follow();
        let has_room = self.drain();
        let (more, woken) = self.sockets.poll(&mut self.shard, has_room, now);
        for (shard, number, socket) in self.sockets.take_passed() {
            self.hub.post(shard, [Parcel::Accepted(number, socket)]);
        }
        if woken {
            self.hub.mailboxes[self.number].waker().clear_wakeups();
        }
        // Before questions of new sessions leave this shard: the answers may cause publications
        // that are for them.
        self.follow();
        if now.tick() != self.ticked {
            self.ticked = now.tick();
            self.shard.tick(now);
            self.sockets.tick(now);
            throttle::settle(now);
            settle_reports(now);
        }
        if has_room {
            // Even if the room is gone meanwhile: a request is answered once every shard has its
            // publications.
            self.route();
            self.ask();
        }
        self.flush(now, delivered);
        // Receipts of this flush, and the last questions of sessions whose sockets it found broken.
        self.ask();
        let has_completed = self.sockets.submit();
        more || has_completed
            || self.merge.has_messages()
            || !self.orders.is_empty()
            || (has_room && self.sockets.has_waiting())
    }

    /// Takes a turn from another task than the one that waits for the sockets; that one is woken
    /// if there is more to do, and sleeps on otherwise.
    pub(super) fn turn_aside(&mut self) {
        let more = self.turn() || self.is_over() || self.draining || self.holds_back();
        // Only that task can spawn the one for ticks.
        let is_to_tick = !self.ticking && !self.is_idle();
        if more || is_to_tick || !self.sleep() {
            self.hub.mailboxes[self.number].waker().wake();
        }
    }

    /// Whether nothing timed exists, so that the shard need not turn at every tick.
    pub(super) fn is_idle(&self) -> bool {
        self.shard.is_idle() && self.sockets.is_idle() && !self.draining && !self.holds_back()
    }

    /// Whether this shard has to turn at every tick from now on.
    pub(super) fn begins_ticking(&mut self) -> bool {
        let begins = !self.ticking && !self.is_idle();
        self.ticking |= begins;
        begins
    }

    /// Notes that the task for ticks has ended; a shard that is no longer idle is woken to start
    /// another.
    pub(super) fn end_ticking(&mut self) {
        self.ticking = false;
        if !self.is_idle() {
            self.hub.mailboxes[self.number].waker().wake();
        }
    }

    /// Shows that this thread lives, and logs the counts of suppressed lines.
    pub(super) fn beat(&self) {
        let now = clock::now();
        self.hub.pulses.shards[self.number].beat(now);
        throttle::settle(now);
        settle_reports(now);
    }

    /// Marks this shard as asleep, unless something waits for it. Returns whether it may sleep.
    pub(super) fn sleep(&mut self) -> bool {
        self.merge.sleep(&self.hub.mailboxes[self.number])
    }

    /// Follows the dialects that this shard has sessions of, and leaves the others once it has read
    /// their earlier publications.
    fn follow(&mut self) {
        for &kind in Kind::ALL {
            self.merge.follow(&self.hub.log, kind as usize, self.shard.has_sessions(kind));
        }
    }

    /// Delivers publications and opens messages. Returns the number of publications.
    fn deliver(&mut self, now: Now) -> usize {
        self.merge.take(&self.hub.log, &self.hub.mailboxes[self.number]);
        let (mut delivered, mut is_first) = (0, true);
        while delivered < TURN_EVENTS_MAX && self.shard.turn_bytes() < TURN_BYTES_MAX {
            // The first is taken even while nothing can be routed: shards could wait for each other
            // for ever. Publications need no room at the owner of the topics, or a slow disk would
            // slow the clients of every protocol.
            if !std::mem::take(&mut is_first)
                && !self.shard.takes_more()
                && (!self.shard.has_outgoing_room() || self.merge.is_message_next())
            {
                break;
            }

            self.read += 1;
            match self.merge.pop() {
                // The time of a stop is better spent on close frames, which let clients reconnect
                // elsewhere.
                Some(NextRead::Item(_)) if self.hub.hurrying.load(Relaxed) => {}
                Some(NextRead::Item(publication)) => {
                    delivered += 1;
                    self.shard.deliver(publication, now);
                }
                Some(NextRead::Message(parcel)) => delivered += self.open(parcel, now),
                None => {
                    self.read -= 1;
                    break;
                }
            }
        }
        delivered
    }

    /// Handles a message to this shard. Returns the number of publications delivered.
    fn open(&mut self, parcel: Parcel, now: Now) -> usize {
        match parcel {
            Parcel::Publication(_) | Parcel::Delivery(_) if self.hub.hurrying.load(Relaxed) => {}
            Parcel::Publication(publication) => {
                self.shard.deliver(&publication, now);
                return 1;
            }
            Parcel::Retain(publication) => self.shard.retain(&publication, now),
            Parcel::Delivery(delivery) => {
                self.shard.take_delivery(&delivery, now);
                return 1;
            }
            Parcel::Answer(connection, Answer::Topic(answer)) => self.tell(connection, answer, now),
            Parcel::Answer(connection, answer) => self.shard.answer(connection, answer, now),
            Parcel::Presence(from, question) => self.shard.ask_presence(from, *question, now),
            Parcel::Outage(kind, outage) => self.shard.outage(kind, outage, now),
            Parcel::Isolated(part, parts) => self.shard.isolate(part, parts, now),
            Parcel::Configure(settings, limits) => {
                self.shard.configure(settings, limits, now);
                self.sockets.configure(&self.shard);
            }
            // Accepting has ended for good, and the sockets of a late listener close with the
            // parcel.
            Parcel::Listener(..) if self.draining => {}
            Parcel::Listener(number, change) => {
                self.sockets.change(number, change, &mut self.shard, now)
            }
            Parcel::Inspect(inquiry, asker) => {
                // One who has given up must not have sessions ended any more.
                if !asker.is_closed() {
                    let answer = self.sockets.inspect(&mut self.shard, &inquiry, now);
                    // Or it has given up just now.
                    let _ = asker.send(answer);
                }
            }
            Parcel::Accepted(number, socket) => {
                self.sockets.admit(socket, number, &mut self.shard, now);
                // By a shard that lags: nothing else would end it.
                if self.closing {
                    self.shard.drain(now);
                }
            }
            Parcel::Handover(order) => self.orders.push(order),
            Parcel::Farewell(part, parts) => self.shard.farewell(part, parts, now),
            Parcel::Close => {
                self.closing = true;
                self.shard.drain(now);
            }
        }
        0
    }

    fn flush(&mut self, now: Now, delivered: usize) {
        let Self { shard, sockets, .. } = self;
        shard.flush(now, sockets);
        sockets.settle(shard);
        self.hub.ends.keep(sockets.take_ended());
        // The clock again only where a latency is measured.
        shard.end_turn(if delivered > 0 { clock::now() } else { now });
    }
}

#[cfg(test)]
mod tests;
