//! Dispatch: which consumer receives which message next.
//!
//! Topics with something to deliver take turns, and so do the subscriptions of a topic, one message
//! each: at the end of a topic, a message then goes to all subscriptions in succession, and its
//! frame is shared.

use super::handles::{SubId, TopicId};
use super::loaded_topic::{LoadedTopics, READ_BYTES_MAX};
use super::owner::TopicOwner;
use super::pending::{Pending, PendingState};
use super::timers::Timer;
use super::{
    Archive, ArchiveError, Position, Recipient, StoredMessage, SubscriptionType, TopicOutgoing,
};
use std::sync::Arc;

/// Messages examined for a subscription before others take their turn.
const LOOKS_MAX: usize = 64;
/// Limit on a subscription's messages that wait for the consumers of their keys, while messages
/// with other keys are delivered. Pulsar looks ahead as far for one consumer.
const READ_AHEAD_MAX: usize = 2000;
/// Delayed messages read from the archive at once: up to a megabyte each.
const DUE_AT_ONCE: usize = 8;
/// Messages delivered in one turn to a subscription that is behind: what was read for it may be
/// evicted from the cache before its next turn.
const BEHIND_AT_ONCE: usize = 16;
/// The cost of a turn without a delivery, in bytes.
const TURN_BYTES: usize = 64;
/// Pause before a failed read of the archive is retried.
const RETRY_NS: u64 = 1_000_000_000;

/// Why a turn delivers nothing.
enum NoDelivery {
    /// There may be more: take another turn.
    Again,
    /// Nothing to do until an event makes the subscription ready again.
    Idle,
    /// The archive cannot be read; it has logged why.
    Fault,
}

impl From<ArchiveError> for NoDelivery {
    fn from(_: ArchiveError) -> Self {
        Self::Fault
    }
}

/// A message to deliver, with its time in the index of delayed messages, or 0.
type NextMessage = (Arc<StoredMessage>, u64);

impl<A: Archive> TopicOwner<A> {
    /// Delivers about `bytes_max` bytes. Returns whether there is more to deliver.
    pub(super) fn dispatch(&mut self, bytes_max: usize) -> bool {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(id) = self.loaded.active.pop_front() else { break };
            let Some(topic) = self.loaded.topics.get_mut(id) else { continue };
            // Each subscription ready at the start, once: those that become ready meanwhile wait
            // for the topic's next turn.
            for _ in 0..topic.ready.len() {
                if bytes >= bytes_max {
                    break;
                }
                bytes += self.deliver_next(id);
                self.loaded.shrink_cache(self.rules.cache_bytes);
            }
            let Some(topic) = self.loaded.topics.get_mut(id) else { continue };
            topic.is_active = !topic.ready.is_empty();
            if topic.is_active {
                self.loaded.active.push_back(id);
            }
        }
        self.loaded.shrink_cache(self.rules.cache_bytes);
        !self.loaded.active.is_empty()
    }

    /// Serves the next subscription of a topic. Returns the cost in bytes.
    fn deliver_next(&mut self, topic: TopicId) -> usize {
        let Some(id) = self.loaded.topics.get_mut(topic).and_then(|topic| topic.ready.pop_front())
        else {
            return 0;
        };
        let Some(sub) =
            self.loaded.subs.get_mut(id).filter(|sub| sub.topic == topic && sub.is_ready)
        else {
            return 0;
        };
        sub.is_ready = false;
        // The last consumer has left since the subscription became ready.
        if sub.members.is_empty() {
            return 0;
        }
        let kind = sub.state.kind;
        let mut bytes = 0;
        for _ in 0..BEHIND_AT_ONCE {
            let turn = match kind {
                SubscriptionType::KeyShared => self.turn_of_keys(id),
                _ => self.turn(id),
            };
            match turn {
                Ok(given) => bytes += given.max(TURN_BYTES),
                Err(NoDelivery::Again) => {
                    bytes += TURN_BYTES;
                    break;
                }
                Err(NoDelivery::Idle) => return bytes,
                Err(NoDelivery::Fault) => {
                    self.loaded.wake_at(self.after(RETRY_NS), id);
                    return bytes;
                }
            }
            // At the end of the topic, other subscriptions receive the same message next, while its
            // frame is still at hand.
            let read = self.loaded.subs[id].state.read.position;
            if bytes >= READ_BYTES_MAX || !self.loaded.topics[topic].is_behind(read) {
                break;
            }
        }
        self.loaded.ready(id);
        bytes
    }

    /// Delivers one message of a subscription. Returns its bytes.
    fn turn(&mut self, id: SubId) -> Result<usize, NoDelivery> {
        let Some(at) = self.choose(id) else {
            self.block(id);
            return Err(NoDelivery::Idle);
        };
        let (message, deliver_ms) = self.next(id)?;
        let sub = &mut self.loaded.subs[id];
        sub.turn = at + 1;
        sub.replay.remove(&message.position);
        Ok(self.give(id, at, &message, deliver_ms, 0))
    }

    /// The member whose turn it is, among those with room.
    fn choose(&mut self, id: SubId) -> Option<usize> {
        let sub = &mut self.loaded.subs[id];
        if let Some(active) = sub.active() {
            return self.peers.has_room(active).then_some(0);
        }
        let count = sub.members.len();
        let first = sub.members.first()?.priority;
        let mut best: Option<(i32, usize)> = None;
        for step in 0..count {
            let at = (sub.turn + step) % count;
            let member = &sub.members[at];
            let is_better = best.is_none_or(|(priority, _)| member.priority < priority);
            if is_better && self.peers.has_room(member.consumer) {
                best = Some((member.priority, at));
                // No later member has a higher priority, so the search is over.
                if member.priority == first {
                    break;
                }
            }
        }
        best.map(|(_, at)| at)
    }

    /// Makes a subscription wait until one of its consumers has room.
    fn block(&mut self, id: SubId) {
        let sub = &self.loaded.subs[id];
        let count = if sub.active().is_some() { 1 } else { sub.members.len() };
        for at in 0..count {
            self.block_on(id, at);
        }
    }

    fn block_on(&mut self, id: SubId, at: usize) {
        let member = &mut self.loaded.subs[id].members[at];
        // One entry in the consumer's list is enough, however often it is full.
        if !std::mem::replace(&mut member.is_blocked, true)
            && let Some(consumer) = self.peers.consumers.get_mut(member.consumer)
        {
            consumer.blocked.push(id);
        }
    }

    /// The next message to deliver: a redelivery, or a new one from the index or the log.
    fn next(&mut self, id: SubId) -> Result<NextMessage, NoDelivery> {
        for _ in 0..LOOKS_MAX {
            let sub = &self.loaded.subs[id];
            let Some(position) = sub.replay.first().copied() else { return self.next_new(id) };
            if let Some(message) = self.fetch_pending(id, position)? {
                return Ok((message, 0));
            }
        }
        Err(NoDelivery::Again)
    }

    /// Fetches a pending message. Drops the entry if the message no longer exists.
    fn fetch_pending(
        &mut self,
        id: SubId,
        position: Position,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        let sub = &self.loaded.subs[id];
        let deliver_ms = sub.pending.get(&position).map_or(0, |pending| pending.deliver_ms);
        let found = self.fetch(sub.topic, position, deliver_ms)?;
        if found.is_none() {
            let sub = &mut self.loaded.subs[id];
            sub.remove(position);
            sub.replay.remove(&position);
            self.touch(id);
        }
        Ok(found)
    }

    /// The message at a position, from the index if `deliver_ms` is set, otherwise from the log.
    pub(super) fn fetch(
        &mut self,
        topic: TopicId,
        position: Position,
        deliver_ms: u64,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        let Some(loaded) = self.loaded.topics.get(topic).filter(|topic| !topic.is_gone) else {
            return Ok(None);
        };
        let found = match deliver_ms {
            0 => self.loaded.message_at(topic, position, &mut self.archive)?,
            _ => {
                let from = (deliver_ms, position);
                let found =
                    self.archive.delayed(loaded.number, from, deliver_ms.saturating_add(1), 1)?;
                found.into_iter().next().map(|(_, message)| message)
            }
        };
        Ok(found.filter(|message| message.position == position))
    }

    /// The next message that was never delivered to this subscription.
    fn next_new(&mut self, id: SubId) -> Result<NextMessage, NoDelivery> {
        let sub = &mut self.loaded.subs[id];
        if sub.pending.len() >= self.rules.unacked_max.max(1) {
            // An acknowledgement makes room, and the subscription ready again.
            sub.is_full = true;
            return Err(NoDelivery::Idle);
        }
        if sub.state.by_index
            && sub.due_ms <= self.now.unix_ms
            && let Some((deliver_ms, message)) = self.next_due(id)?
        {
            return Ok((message, deliver_ms));
        }
        let LoadedTopics { subs, topics, cache, .. } = &mut self.loaded;
        let sub = &mut subs[id];
        let topic = &mut topics[sub.topic];
        for _ in 0..LOOKS_MAX {
            let Some(message) =
                topic.at(sub.topic, sub.state.read.position, &mut self.archive, cache)?
            else {
                if topic.visible == topic.state.next {
                    // Messages lost to damage at the end of the log must not be waited for.
                    sub.state.read = topic.state.next;
                }
                // The subscription may be on the list already, from its last visit.
                if !std::mem::replace(&mut sub.is_at_tail, true) {
                    topic.tail_waiters.push(id);
                }
                return Err(NoDelivery::Idle);
            };
            sub.pass(&message);
            if !sub.state.by_index || !message.was_delayed() {
                return Ok((message, 0));
            }
            // The index delivers it, at its time.
            sub.state.skipped += 1;
        }
        Err(NoDelivery::Again)
    }

    /// The next delayed message that is due.
    fn next_due(&mut self, id: SubId) -> Result<Option<(u64, Arc<StoredMessage>)>, ArchiveError> {
        let now_ms = self.now.unix_ms;
        for _ in 0..LOOKS_MAX {
            let sub = &mut self.loaded.subs[id];
            let topic = &self.loaded.topics[sub.topic];
            if sub.due.is_empty() {
                let from = sub.state.delayed;
                let due = self.archive.delayed(
                    topic.number,
                    from,
                    now_ms.saturating_add(1),
                    DUE_AT_ONCE,
                )?;
                sub.due.extend(due);
            }
            let Some((deliver_ms, message)) = sub.due.pop_front() else {
                let next = self.archive.delayed(topic.number, sub.state.delayed, u64::MAX, 1)?;
                sub.due_ms = next.first().map_or(u64::MAX, |(deliver_ms, _)| *deliver_ms);
                if sub.due_ms < u64::MAX {
                    let after_ns = self.now.ns_until(sub.due_ms);
                    self.loaded.wake_at(self.after(after_ns), id);
                }
                return Ok(None);
            };
            if message.position >= topic.visible.position {
                // Like messages of the log, it waits for its commit. A failed commit may store it
                // nevertheless, so it is not skipped.
                sub.due.push_front((deliver_ms, message));
                return Ok(None);
            }
            sub.state.delayed = (deliver_ms, message.position.after());
            if message.position >= sub.state.start && !sub.pending.contains_key(&message.position) {
                sub.state.skipped -= 1;
                return Ok(Some((deliver_ms, message)));
            }
        }
        // Many entries belong to other subscriptions: let others take their turn.
        self.loaded.wake_at(self.after(0), id);
        Ok(None)
    }

    /// Delivers a message to a member. Returns its bytes.
    fn give(
        &mut self,
        id: SubId,
        at: usize,
        message: &Arc<StoredMessage>,
        deliver_ms: u64,
        key: u32,
    ) -> usize {
        let sub = &mut self.loaded.subs[id];
        let member = &sub.members[at];
        let (holder, label) = (member.consumer, member.label);
        let consumer = &mut self.peers.consumers[holder];
        let bytes = message.len();
        // The lock of a shared window is not held between the check for room and here: another
        // owner of this consumer may have taken the room.
        let Some(wants_receipt) = consumer.give(bytes) else {
            self.keep_back(id, at, message, deliver_ms, key);
            return 0;
        };
        let mut redeliveries = 0;
        // Readers do not acknowledge, so nothing of theirs is pending.
        if !sub.is_reader {
            let timeout_ns = consumer.options.ack_timeout_ms.saturating_mul(1_000_000);
            let due_ns =
                if timeout_ns > 0 { self.now.monotonic_ns.saturating_add(timeout_ns) } else { 0 };
            if due_ns > 0 {
                self.loaded.timers.insert((due_ns, Timer::Pending(id, message.position)));
            }
            let pending = sub.pending.entry(message.position).or_insert_with(|| {
                sub.pending_bytes += bytes as u64;
                if deliver_ms > 0 {
                    sub.pending_delayed.insert((deliver_ms, message.position));
                }
                Pending { bytes: bytes as u32, deliver_ms, ..Pending::default() }
            });
            pending.state = PendingState::Held;
            pending.holder = holder as u32;
            pending.due_ns = due_ns;
            pending.key = key;
            redeliveries = pending.redeliveries;
            // The key belongs to this consumer until its messages are acknowledged, which keeps
            // their order.
            if sub.state.kind == SubscriptionType::KeyShared {
                sub.unassign(key);
                sub.keys.hold(key, holder as u32);
                sub.assign(key);
            }
        }
        let is_again = redeliveries > 0;
        let redeliveries = if sub.tells_counts() { redeliveries } else { 0 };
        let topic = &mut self.loaded.topics[sub.topic];
        topic.delivered.0 += 1;
        topic.delivered.1 += bytes as u64;
        self.counters.delivered(topic.namespace, bytes);
        self.counters.total.redelivered += u64::from(is_again);
        let recipient = Recipient {
            connection: consumer.connection,
            redeliveries,
            partition: label,
            wants_receipt,
        };
        self.send_out(TopicOutgoing::Deliver(message.clone(), recipient));
        bytes
    }

    /// Keeps a message that could not be given to a member, because another owner took the last
    /// room in its window.
    fn keep_back(
        &mut self,
        id: SubId,
        at: usize,
        message: &StoredMessage,
        deliver_ms: u64,
        key: u32,
    ) {
        let sub = &mut self.loaded.subs[id];
        let (position, bytes) = (message.position, message.len());
        let is_new = !sub.pending.contains_key(&position);
        if sub.state.kind == SubscriptionType::KeyShared {
            self.park(id, position, key, is_new.then_some((bytes as u32, deliver_ms)));
        } else {
            if is_new {
                sub.hold(
                    position,
                    Pending { bytes: bytes as u32, deliver_ms, ..Pending::default() },
                );
            }
            sub.replay.insert(position);
        }
        self.block_on(id, at);
    }

    /// Serves a Key_Shared subscription.
    fn turn_of_keys(&mut self, id: SubId) -> Result<usize, NoDelivery> {
        for _ in 0..LOOKS_MAX {
            let Some(position) = self.loaded.subs[id].replay.first().copied() else { break };
            if let Some(message) = self.fetch_pending(id, position)? {
                self.loaded.subs[id].replay.remove(&position);
                self.park(id, position, message.key_hash(), None);
            }
        }
        // Redeliveries go first, in order.
        if !self.loaded.subs[id].replay.is_empty() {
            return Err(NoDelivery::Again);
        }
        let count = self.loaded.subs[id].members.len();
        let mut any_room = false;
        for step in 0..count {
            let sub = &self.loaded.subs[id];
            let at = (sub.turn + step) % count;
            let member = &sub.members[at];
            let first = member.keys.first().copied();
            let has_room = self.peers.has_room(member.consumer);
            any_room |= has_room;
            match first {
                Some((position, key)) if has_room => {
                    self.loaded.subs[id].turn = (at + 1) % count;
                    return self.give_parked(id, at, position, key);
                }
                Some(_) => self.block_on(id, at),
                None => {}
            }
        }
        // Reading ahead is pointless while no consumer has room.
        if !any_room {
            self.block(id);
            return Err(NoDelivery::Idle);
        }
        self.new_of_keys(id)
    }

    fn give_parked(
        &mut self,
        id: SubId,
        at: usize,
        position: Position,
        key: u32,
    ) -> Result<usize, NoDelivery> {
        let Some(message) = self.fetch_pending(id, position)? else {
            return Err(NoDelivery::Again);
        };
        let sub = &mut self.loaded.subs[id];
        sub.unassign(key);
        sub.keys.unwait(key, position);
        Ok(self.give(id, at, &message, 0, key))
    }

    /// Delivers new messages to the consumers of their keys, or parks them for those.
    fn new_of_keys(&mut self, id: SubId) -> Result<usize, NoDelivery> {
        for _ in 0..LOOKS_MAX {
            let sub = &mut self.loaded.subs[id];
            if sub.keys.waiting() >= READ_AHEAD_MAX {
                sub.is_full = true;
                return Err(NoDelivery::Idle);
            }
            let (message, deliver_ms) = self.next_new(id)?;
            let key = message.key_hash();
            let sub = &self.loaded.subs[id];
            let Some(at) = sub.member_of(key) else { return Err(NoDelivery::Idle) };
            let has_room = self.peers.has_room(sub.members[at].consumer);
            let is_next = sub.taker_of(key).is_some() && sub.keys.first_waiting(key).is_none();
            if has_room && is_next {
                return Ok(self.give(id, at, &message, deliver_ms, key));
            }
            let bytes = message.len();
            self.park(id, message.position, key, Some((bytes as u32, deliver_ms)));
            // Messages of this consumer's keys wait until it has room; others go on.
            if !has_room {
                self.block_on(id, at);
            }
        }
        Err(NoDelivery::Again)
    }

    /// Parks a message for the consumer of its key: a pending one, or a new one with its size and
    /// time.
    fn park(&mut self, id: SubId, position: Position, key: u32, new: Option<(u32, u64)>) {
        let sub = &mut self.loaded.subs[id];
        if let Some((bytes, deliver_ms)) = new {
            sub.hold(position, Pending { bytes, deliver_ms, ..Pending::default() });
        }
        if let Some(pending) = sub.pending.get_mut(&position) {
            pending.key = key;
            sub.unassign(key);
            sub.keys.wait(key, position);
            sub.assign(key);
        }
    }
}
