//! A subscription: its cursor, its pending messages and its consumers.

use super::handles::{ConsumerId, SubId, TopicId};
use super::pending::{Pending, PendingKeys, PendingMessages, PendingState};
use super::state::{LogPlace, SubscriptionState};
use super::timers::{Timer, Timers};
use super::{Position, StoredMessage, SubscriptionType, routing};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A subscription of a topic.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) topic: TopicId,
    pub(super) name: Arc<str>,
    pub(super) durable: bool,
    /// A reader's: what it has got is not remembered.
    pub(super) is_reader: bool,
    pub(super) state: SubscriptionState,
    pub(super) pending: PendingMessages,
    pub(super) pending_bytes: u64,
    /// Those that came by the index of delayed messages, as they stand there.
    pub(super) pending_delayed: BTreeSet<(u64, Position)>,
    /// Bytes that were acknowledged since its topic was looked at for what may be given up.
    pub(super) untended_bytes: u64,
    /// What waits to be delivered first, in order.
    pub(super) replay: BTreeSet<Position>,
    /// What waits for the consumer of its key.
    pub(super) keys: PendingKeys,
    /// Its consumers: those with low priority numbers first, else in the order they came; where keys choose, in the order
    /// of the parts of all keys that they have.
    pub(super) members: Vec<SubscriptionMember>,
    /// Which member comes next.
    pub(super) turn: usize,
    /// Delayed messages that are due and were read in advance.
    pub(super) due: VecDeque<(u64, Arc<StoredMessage>)>,
    /// When the next delayed message may be due (unix, ms).
    pub(super) due_ms: u64,
    /// When it is woken, by its only timer of that kind (monotonic, ns).
    pub(super) wake_ns: Option<u64>,
    /// Whether it is among those that are served.
    pub(super) is_ready: bool,
    /// Whether it waits for the next message of the topic.
    pub(super) is_at_tail: bool,
    /// Whether it waits until less is pending.
    pub(super) is_full: bool,
    /// Whether it has changed since it was saved.
    pub(super) is_dirty: bool,
}

/// A consumer of a subscription.
#[derive(Debug)]
pub(super) struct SubscriptionMember {
    pub(super) consumer: ConsumerId,
    pub(super) priority: i32,
    /// What it knows the topic's messages by.
    pub(super) label: Option<u32>,
    /// Whether it is to tell when it takes more.
    pub(super) is_blocked: bool,
    /// Its keys of which messages wait, by the first of those.
    pub(super) keys: BTreeSet<(Position, u32)>,
}

impl Subscription {
    pub(super) fn new(
        topic: TopicId,
        name: Arc<str>,
        durable: bool,
        state: SubscriptionState,
    ) -> Self {
        Self { topic, name, durable, state, ..Self::default() }
    }

    /// With what was pending when it was saved.
    pub(super) fn with(mut self, pending: PendingMessages) -> Self {
        self.replay = pending.keys().copied().collect();
        pending.into_iter().for_each(|(position, pending)| self.hold(position, pending));
        self
    }

    /// Takes a message into what is pending that is not there.
    pub(super) fn hold(&mut self, position: Position, pending: Pending) {
        self.pending_bytes += u64::from(pending.bytes);
        if pending.deliver_ms > 0 {
            self.pending_delayed.insert((pending.deliver_ms, position));
        }
        self.pending.insert(position, pending);
    }

    /// Whether its consumers are told how often a message came: those of the reference are only where they share.
    pub(super) fn tells_counts(&self) -> bool {
        matches!(self.state.kind, SubscriptionType::Shared | SubscriptionType::KeyShared)
    }

    /// Messages that wait or are with consumers, of a topic that goes on there.
    pub(super) fn backlog(&self, next: &LogPlace) -> u64 {
        let unread =
            next.ordinal.saturating_sub(self.state.read.ordinal) + self.pending.len() as u64;
        unread.saturating_add_signed(self.state.skipped)
    }

    /// Bytes of them. Delayed messages are not counted before their time.
    pub(super) fn backlog_bytes(&self, next: &LogPlace) -> u64 {
        next.bytes.saturating_sub(self.state.read.bytes) + self.pending_bytes
    }

    /// The first message of the log that it may still need.
    pub(super) fn needs_from(&self) -> Position {
        let mut pending = self.pending.iter().filter(|(_, pending)| pending.deliver_ms == 0);
        pending.next().map_or(self.state.read.position, |(position, _)| {
            (*position).min(self.state.read.position)
        })
    }

    /// The first of the index that it may still need.
    pub(super) fn needs_delayed_from(&self) -> (u64, Position) {
        let first = self.pending_delayed.first();
        first.map_or(self.state.delayed, |first| (*first).min(self.state.delayed))
    }

    /// Takes note that a message was taken from the log.
    pub(super) fn pass(&mut self, message: &StoredMessage) {
        self.state.read = LogPlace::behind(message);
    }

    /// Takes a message out of what is pending, wherever it stands there.
    pub(super) fn remove(&mut self, position: Position) -> Option<Pending> {
        let pending = self.pending.remove(&position)?;
        self.pending_bytes -= u64::from(pending.bytes);
        if pending.deliver_ms > 0 {
            self.pending_delayed.remove(&(pending.deliver_ms, position));
        }
        self.detach(position, &pending);
        Some(pending)
    }

    /// Takes a pending message out of the lists of its state.
    pub(super) fn detach(&mut self, position: Position, pending: &Pending) {
        let keyed = self.state.kind == SubscriptionType::KeyShared;
        match pending.state {
            PendingState::Held if keyed => {
                // The key may go to another consumer now.
                self.unassign(pending.key);
                self.keys.release(pending.key);
                self.assign(pending.key);
            }
            // Either it comes again first, or it waits for the consumer of its key.
            PendingState::Waiting if !self.replay.remove(&position) && keyed => {
                self.unassign(pending.key);
                self.keys.unwait(pending.key, position);
                self.assign(pending.key);
            }
            _ => {}
        }
    }

    /// Sets the wake-up timer to a time, unless it is earlier.
    pub(super) fn wake_at(&mut self, id: SubId, at_ns: u64, timers: &mut Timers) {
        // The earlier of two times serves both.
        if self.wake_ns.is_none_or(|wake_ns| at_ns < wake_ns) {
            self.sleep(id, timers);
            self.wake_ns = Some(at_ns);
            timers.insert((at_ns, Timer::Wake(id)));
        }
    }

    /// Cancels the wake-up timer.
    pub(super) fn sleep(&mut self, id: SubId, timers: &mut Timers) {
        if let Some(wake_ns) = self.wake_ns.take() {
            timers.remove(&(wake_ns, Timer::Wake(id)));
        }
    }

    /// The member that a key is assigned to.
    pub(super) fn member_of(&self, key: u32) -> Option<usize> {
        routing::bucket(key, self.members.len())
    }

    /// The member that may get the next message of a key: the one that the key is assigned to, unless another still has
    /// some of it. What comes meanwhile waits, so that a key's messages keep their order when it moves.
    pub(super) fn taker_of(&self, key: u32) -> Option<usize> {
        let at = self.member_of(key)?;
        let holder = self.keys.holder(key);
        holder.is_none_or(|holder| self.members[at].consumer == holder as usize).then_some(at)
    }

    /// Takes a key from its consumer, before what waits is changed.
    pub(super) fn unassign(&mut self, key: u32) {
        if let (Some(first), Some(member)) = (self.keys.first_waiting(key), self.member_of(key)) {
            self.members[member].keys.remove(&(first, key));
        }
    }

    /// A key's messages wait for the consumer of the key, as soon as no other has any.
    pub(super) fn assign(&mut self, key: u32) {
        let Some(first) = self.keys.first_waiting(key) else { return };
        let Some(member) = self.taker_of(key) else { return };
        self.members[member].keys.insert((first, key));
    }

    /// Puts a new member in its place: where keys choose at the end, so that it takes some keys of each other and none
    /// moves between those; else behind those who are served before it. Returns the place.
    pub(super) fn admit(&mut self, member: SubscriptionMember) -> usize {
        let at = match self.state.kind {
            SubscriptionType::KeyShared => self.members.len(),
            _ => self.members.partition_point(|it| it.priority <= member.priority),
        };
        self.members.insert(at, member);
        at
    }

    /// Takes a member out. Where keys choose the last one takes its place, so that no others move.
    pub(super) fn dismiss(&mut self, consumer: ConsumerId) {
        let Some(at) = self.members.iter().position(|member| member.consumer == consumer) else {
            return;
        };
        match self.state.kind {
            SubscriptionType::KeyShared => drop(self.members.swap_remove(at)),
            _ => drop(self.members.remove(at)),
        }
    }

    /// Finds the consumers of all keys anew, after there was a change among the consumers.
    pub(super) fn assign_all(&mut self) {
        for member in &mut self.members {
            member.keys.clear();
        }
        let keys: Vec<u32> = self.keys.all_waiting().map(|(key, _)| key).collect();
        for key in keys {
            self.assign(key);
        }
    }

    /// The consumer that gets everything, where one does.
    pub(super) fn active(&self) -> Option<ConsumerId> {
        let only =
            matches!(self.state.kind, SubscriptionType::Exclusive | SubscriptionType::Failover);
        self.members.first().filter(|_| only).map(|member| member.consumer)
    }
}
