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
    /// Whether it is a reader's, which has no pending messages.
    pub(super) is_reader: bool,
    pub(super) state: SubscriptionState,
    pub(super) pending: PendingMessages,
    pub(super) pending_bytes: u64,
    /// Pending messages from the index of delayed messages, by their keys there.
    pub(super) pending_delayed: BTreeSet<(u64, Position)>,
    /// Bytes acknowledged since the topic was last checked for deletable messages.
    pub(super) untended_bytes: u64,
    /// Messages to redeliver first, in order.
    pub(super) replay: BTreeSet<Position>,
    /// Messages waiting for the consumers of their keys.
    pub(super) keys: PendingKeys,
    /// Its consumers: lower priority numbers first, then in order of arrival; in a Key_Shared
    /// subscription, in the order of their shares of the keys.
    pub(super) members: Vec<SubscriptionMember>,
    /// Index of the member to serve next.
    pub(super) turn: usize,
    /// Delayed messages that are due, read in advance.
    pub(super) due: VecDeque<(u64, Arc<StoredMessage>)>,
    /// When the next delayed message may be due (unix, ms).
    pub(super) due_ms: u64,
    /// When its wake-up timer fires (monotonic, ns).
    pub(super) wake_ns: Option<u64>,
    /// Whether it is queued for dispatch.
    pub(super) is_ready: bool,
    /// Whether it waits for the topic's next message.
    pub(super) is_at_tail: bool,
    /// Whether it waits for fewer pending messages.
    pub(super) is_full: bool,
    /// Whether it has unsaved changes.
    pub(super) is_dirty: bool,
}

/// A consumer of a subscription.
#[derive(Debug)]
pub(super) struct SubscriptionMember {
    pub(super) consumer: ConsumerId,
    pub(super) priority: i32,
    /// The partition or label in its message ids.
    pub(super) label: Option<u32>,
    /// Whether the subscription is in its list of those waiting for room.
    pub(super) is_blocked: bool,
    /// Its keys with waiting messages, by the first of these.
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

    /// Adds the pending messages that were saved, to be redelivered.
    pub(super) fn with(mut self, pending: PendingMessages) -> Self {
        self.replay = pending.keys().copied().collect();
        pending.into_iter().for_each(|(position, pending)| self.hold(position, pending));
        self
    }

    /// Adds a pending message.
    pub(super) fn hold(&mut self, position: Position, pending: Pending) {
        self.pending_bytes += u64::from(pending.bytes);
        if pending.deliver_ms > 0 {
            self.pending_delayed.insert((pending.deliver_ms, position));
        }
        self.pending.insert(position, pending);
    }

    /// Whether consumers receive redelivery counts: in Pulsar, only those of shared subscriptions
    /// do.
    pub(super) fn tells_counts(&self) -> bool {
        matches!(self.state.kind, SubscriptionType::Shared | SubscriptionType::KeyShared)
    }

    /// Number of messages waiting or held by consumers, in a topic that ends at `next`.
    pub(super) fn backlog(&self, next: &LogPlace) -> u64 {
        let unread =
            next.ordinal.saturating_sub(self.state.read.ordinal) + self.pending.len() as u64;
        unread.saturating_add_signed(self.state.skipped)
    }

    /// Their bytes. Delayed messages count only once they are due.
    pub(super) fn backlog_bytes(&self, next: &LogPlace) -> u64 {
        next.bytes.saturating_sub(self.state.read.bytes) + self.pending_bytes
    }

    /// The first message of the log it may still need.
    pub(super) fn needs_from(&self) -> Position {
        let mut pending = self.pending.iter().filter(|(_, pending)| pending.deliver_ms == 0);
        pending.next().map_or(self.state.read.position, |(position, _)| {
            (*position).min(self.state.read.position)
        })
    }

    /// The first entry of the index it may still need.
    pub(super) fn needs_delayed_from(&self) -> (u64, Position) {
        let first = self.pending_delayed.first();
        first.map_or(self.state.delayed, |first| (*first).min(self.state.delayed))
    }

    /// Advances the cursor past a message.
    pub(super) fn pass(&mut self, message: &StoredMessage) {
        self.state.read = LogPlace::behind(message);
    }

    /// Removes a pending message, with all references to it.
    pub(super) fn remove(&mut self, position: Position) -> Option<Pending> {
        let pending = self.pending.remove(&position)?;
        self.pending_bytes -= u64::from(pending.bytes);
        if pending.deliver_ms > 0 {
            self.pending_delayed.remove(&(pending.deliver_ms, position));
        }
        self.detach(position, &pending);
        Some(pending)
    }

    /// Removes a pending message from the lists of its state.
    pub(super) fn detach(&mut self, position: Position, pending: &Pending) {
        let keyed = self.state.kind == SubscriptionType::KeyShared;
        match pending.state {
            PendingState::Held if keyed => {
                // The key may go to another consumer now.
                self.unassign(pending.key);
                self.keys.release(pending.key);
                self.assign(pending.key);
            }
            // It is either queued for redelivery, or waits for the consumer of its key.
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

    /// The member that may receive the next message of a key: the assigned one, unless another
    /// still holds messages of it. Messages wait meanwhile, so that a key's messages keep their
    /// order when it moves.
    pub(super) fn taker_of(&self, key: u32) -> Option<usize> {
        let at = self.member_of(key)?;
        let holder = self.keys.holder(key);
        holder.is_none_or(|holder| self.members[at].consumer == holder as usize).then_some(at)
    }

    /// Takes a key from its consumer, before its waiting messages change.
    pub(super) fn unassign(&mut self, key: u32) {
        if let (Some(first), Some(member)) = (self.keys.first_waiting(key), self.member_of(key)) {
            self.members[member].keys.remove(&(first, key));
        }
    }

    /// Gives a key with waiting messages to its consumer, if no other holds messages of it.
    pub(super) fn assign(&mut self, key: u32) {
        let Some(first) = self.keys.first_waiting(key) else { return };
        let Some(member) = self.taker_of(key) else { return };
        self.members[member].keys.insert((first, key));
    }

    /// Inserts a new member: in a Key_Shared subscription at the end, so that it takes keys from
    /// all others and none move between those; otherwise by priority. Returns its index.
    pub(super) fn admit(&mut self, member: SubscriptionMember) -> usize {
        let at = match self.state.kind {
            SubscriptionType::KeyShared => self.members.len(),
            _ => self.members.partition_point(|it| it.priority <= member.priority),
        };
        self.members.insert(at, member);
        at
    }

    /// Removes a member. In a Key_Shared subscription the last one takes its place, so that no
    /// other keys move.
    pub(super) fn dismiss(&mut self, consumer: ConsumerId) {
        let Some(at) = self.members.iter().position(|member| member.consumer == consumer) else {
            return;
        };
        match self.state.kind {
            SubscriptionType::KeyShared => drop(self.members.swap_remove(at)),
            _ => drop(self.members.remove(at)),
        }
    }

    /// Reassigns all keys after a change of members.
    pub(super) fn assign_all(&mut self) {
        for member in &mut self.members {
            member.keys.clear();
        }
        let keys: Vec<u32> = self.keys.all_waiting().map(|(key, _)| key).collect();
        for key in keys {
            self.assign(key);
        }
    }

    /// The consumer that receives all messages, unless they are shared.
    pub(super) fn active(&self) -> Option<ConsumerId> {
        let only =
            matches!(self.state.kind, SubscriptionType::Exclusive | SubscriptionType::Failover);
        self.members.first().filter(|_| only).map(|member| member.consumer)
    }
}
