//! Loading topics and their subscriptions into memory, and unloading them.

use super::handles::{SubId, TopicId};
use super::loaded_topic::LoadedTopic;
use super::owner::TopicOwner;
use super::producer::Sequence;
use super::state::{LogPlace, SubscriptionState, TopicState};
use super::subscription::Subscription;
use super::timers::{IDLE_NS, Timer};
use super::{
    Archive, ArchiveError, MessageId, Position, Saved, StoredTopic, TopicName, TopicRefusal,
};

impl<A: Archive> TopicOwner<A> {
    /// The topic of this name, created if it does not exist.
    pub(super) fn open_topic(&mut self, name: &TopicName) -> Result<TopicId, TopicRefusal> {
        if let Some(id) = self.find_topic(name)? {
            return Ok(id);
        }
        // All checks come first: creation is permanent.
        self.catalog.check_partition(name)?;
        self.check_room(1)?;
        let number = self.archive.create(name.as_str())?;
        let expected = self.owner.number(self.catalog.count);
        self.catalog.add();
        let mut state = TopicState::default();
        if usize::try_from(number) != Ok(expected) {
            // Topics were deleted, one of which may have had this name: its ids must not refer to
            // new messages.
            state.next.position = self.begin_after_all();
        }
        let space = self.counters.namespace(name.namespace());
        let topic = LoadedTopic::new(name.clone(), number, state, space, &mut self.loaded.cache);
        let id = self.insert_topic(topic);
        self.announce(name);
        Ok(id)
    }

    /// The first position of a new topic: after all positions of deleted topics.
    fn begin_after_all(&self) -> Position {
        self.catalog
            .fresh
            .max(Position::new(self.archive.ledger().into(), 0).unwrap_or(Position::END))
    }

    /// The topic of this name, loaded if necessary; `None` when it does not exist.
    pub(super) fn find_topic(&mut self, name: &TopicName) -> Result<Option<TopicId>, ArchiveError> {
        if let Some(id) = self.catalog.names.get(name.as_str()) {
            return Ok(Some(*id));
        }
        let Some(loaded) = self.archive.load(name.as_str())? else { return Ok(None) };
        self.counters.backlogs.wake(name.as_str());
        Ok(Some(self.load_topic(name, loaded)))
    }

    fn load_topic(&mut self, name: &TopicName, loaded: StoredTopic) -> TopicId {
        let saved = loaded.topic.and_then(|bytes| TopicState::read(&bytes));
        let begin = match saved {
            // Positions that an earlier run announced and then lost in a crash are in a ledger of
            // their own.
            Some(_) => Position::new(self.archive.ledger().into(), 0).unwrap_or(Position::END),
            None => self.begin_after_all(),
        };
        let mut state = saved.unwrap_or_default();
        // After a crash, messages may be newer than the state that counts them.
        if let Some(last) = &loaded.last
            && last.position >= state.next.position
        {
            state.next = LogPlace::behind(last);
        }
        state.next.position = state.next.position.max(begin);
        let space = self.counters.namespace(name.namespace());
        let cache = &mut self.loaded.cache;
        let mut topic = LoadedTopic::new(name.clone(), loaded.number, state, space, cache);
        topic.is_untrimmed = topic.state.first > Position::FIRST;
        topic.last = loaded.last.as_ref().map(|last| last.position);
        for (producer, last) in loaded.sequences {
            topic.sequences.insert(producer, Sequence::saved(last));
        }
        if let Some(last) = &loaded.last {
            topic.know_last(last);
        }
        let id = self.insert_topic(topic);
        for (name, bytes) in loaded.subscriptions {
            // A subscription whose state is damaged starts from the first message: duplicates
            // rather than losses.
            let (state, pending) = SubscriptionState::read(&bytes).unwrap_or_default();
            // The clock must not be behind the cursor of the index, or due messages would be
            // missed.
            self.now.unix_ms = self.now.unix_ms.max(state.delayed.0);
            let sub = Subscription::new(id, (&*name).into(), true, state).with(pending);
            self.loaded.insert_sub(sub);
        }
        id
    }

    fn insert_topic(&mut self, mut topic: LoadedTopic) -> TopicId {
        (topic.used_ns, topic.tended_ns) = (self.now.monotonic_ns, self.now.monotonic_ns);
        let name: Box<str> = topic.name.as_str().into();
        let id = self.loaded.topics.insert(topic);
        self.catalog.names.insert(name, id);
        self.arm_idle(id, self.idle_ns());
        id
    }

    fn arm_idle(&mut self, id: TopicId, after_ns: u64) {
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        // At most one timer, and none while the topic is used.
        if topic.users == 0 && !topic.is_gone && !std::mem::replace(&mut topic.idle_is_armed, true)
        {
            self.arm(after_ns, Timer::Idle(id));
        }
    }

    pub(super) fn enter_topic(&mut self, id: TopicId) {
        if let Some(topic) = self.loaded.topics.get_mut(id) {
            topic.users += 1;
            topic.state.used_ms = 0;
        }
    }

    pub(super) fn leave_topic(&mut self, id: TopicId) {
        if let Some(topic) = self.loaded.topics.get_mut(id) {
            topic.users = topic.users.saturating_sub(1);
            topic.used_ns = self.now.monotonic_ns;
            self.arm_idle(id, self.idle_ns());
        }
    }

    /// Unloads a topic that was idle long enough, or deletes it if it is empty and has been unused
    /// for long.
    pub(super) fn unload_idle(&mut self, id: TopicId, idle_ns: u64) {
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        topic.idle_is_armed = false;
        let mut idle_until_ns = topic.used_ns.saturating_add(idle_ns);
        // The topic has been used since the timer was set.
        if topic.users > 0 || topic.is_gone {
            return;
        }
        // After a failed sync the archive may hold messages that must not reappear.
        let is_uncertain = topic.is_appended || topic.seals > 0 || self.commits.broken.is_some();
        let deleted = if is_uncertain { Ok(false) } else { self.delete_idle(id) };
        match deleted {
            Ok(true) => return,
            Ok(false) => {}
            Err(after_ns) => {
                idle_until_ns = idle_until_ns.min(self.now.monotonic_ns.saturating_add(after_ns));
            }
        }
        if is_uncertain || self.now.monotonic_ns < idle_until_ns {
            let after_ns = idle_until_ns.saturating_sub(self.now.monotonic_ns).max(1_000_000_000);
            return self.arm_idle(id, after_ns);
        }
        let used_ms = self.used_ms(id);
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        // The idle time of an empty topic must survive its unloading.
        let is_news = std::mem::replace(&mut topic.state.used_ms, used_ms) != used_ms;
        let is_news = is_news && deleted.is_err();
        let subs: Vec<SubId> = topic.subs.values().copied().collect();
        // The last message, which determines the next position, may be unreadable when the topic is
        // loaded again.
        let is_dirty = topic.is_dirty || topic.published.0 > 0 || is_news;
        let mut saved = if is_dirty { self.save_topic(id) } else { Ok(()) };
        for sub in &subs {
            if self.loaded.subs.get(*sub).is_some_and(|sub| sub.is_dirty) {
                saved = saved.and_then(|()| self.save_sub(*sub));
            }
        }
        if saved.is_err() {
            // The topic stays in memory, with the state that could not be saved.
            return self.arm_idle(id, IDLE_NS);
        }
        // Before the topic is removed, since its subscriptions are needed.
        self.remember_backlogs(id);
        for id in subs {
            if let Some(mut sub) = self.loaded.subs.try_remove(id) {
                sub.sleep(id, &mut self.loaded.timers);
            }
        }
        if let Some(topic) = self.loaded.topics.try_remove(id) {
            self.catalog.names.remove(topic.name.as_str());
        }
        self.loaded.active.retain(|active| *active != id);
    }

    /// Whether a message id refers to a topic: without a partition, with the topic's own, or with
    /// the topic's label.
    pub(super) fn is_of(&self, topic: TopicId, message: MessageId) -> bool {
        let Some(loaded) = self.loaded.topics.get(topic) else { return false };
        message.partition.is_none()
            || message.partition == loaded.name.partition_number()
            || self.is_labelled(topic, message.partition)
    }

    /// The place of the first message at or after a position.
    pub(super) fn place_of(
        &mut self,
        id: TopicId,
        position: Position,
    ) -> Result<LogPlace, ArchiveError> {
        let found = self.loaded.message_at(id, position, &mut self.archive)?;
        // Otherwise the end of the deliverable messages: uncommitted ones follow it.
        Ok(found.map_or(self.loaded.topics[id].visible, |message| LogPlace::before(&message)))
    }

    /// Removes a subscription from memory.
    pub(super) fn delete_sub(&mut self, id: SubId) {
        let Some(mut sub) = self.loaded.subs.try_remove(id) else { return };
        sub.sleep(id, &mut self.loaded.timers);
        let due = sub.pending.iter().filter(|(_, pending)| pending.due_ns > 0);
        let due = due.map(|(position, pending)| (pending.due_ns, Timer::Pending(id, *position)));
        self.discard(due.collect());
        self.commits.forget_sub(id);
        if let Some(topic) = self.loaded.topics.get_mut(sub.topic) {
            topic.subs.remove(&sub.name);
            if topic.tail_waiters.len() > 2 * topic.subs.len() + 64 {
                // Short-lived subscriptions of a topic without new messages would pile up here.
                topic.tail_waiters.sort_unstable();
                topic.tail_waiters.dedup();
                topic.tail_waiters.retain(|id| {
                    let waiter = self.loaded.subs.get(*id);
                    waiter.is_some_and(|waiter| waiter.topic == sub.topic && waiter.is_at_tail)
                });
            }
        }
    }

    /// Deletes a subscription permanently.
    pub(super) fn erase_sub(&mut self, id: SubId) -> Result<(), ArchiveError> {
        let Some(sub) = self.loaded.subs.get(id) else { return Ok(()) };
        if sub.durable && !self.loaded.topics[sub.topic].is_gone {
            self.archive
                .save(self.loaded.topics[sub.topic].number, Saved::NoSubscription(&sub.name))?;
            self.commits.is_uncommitted = true;
        }
        let (topic, is_durable) = (sub.topic, sub.durable);
        self.delete_sub(id);
        if is_durable {
            self.tend_now(topic);
        } else {
            self.arm_tend(topic);
        }
        Ok(())
    }
}
