//! What is in memory: topics with their subscriptions, which of them have something to deliver, and their timers.

use super::handles::{SubId, TopicId};
use super::loaded_topic::{LoadedTopic, MessageCache};
use super::subscription::Subscription;
use super::timers::Timers;
use super::{Archive, ArchiveError, Position, StoredMessage};
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;

/// Topics in memory and their subscriptions.
#[derive(Debug, Default)]
pub(super) struct LoadedTopics {
    pub(super) topics: Slab<LoadedTopic>,
    pub(super) subs: Slab<Subscription>,
    pub(super) cache: MessageCache,
    pub(super) timers: Timers,
    /// Topics with subscriptions that are ready.
    pub(super) active: VecDeque<TopicId>,
}

impl LoadedTopics {
    /// A subscription has perhaps something to deliver.
    pub(super) fn ready(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Some(topic) = self.topics.get_mut(sub.topic) else { return };
        if sub.is_ready || sub.members.is_empty() || topic.is_gone {
            return;
        }
        sub.is_ready = true;
        topic.ready.push_back(id);
        if !topic.is_active {
            topic.is_active = true;
            self.active.push_back(sub.topic);
        }
    }

    /// Subscriptions that have waited for the next message of a topic try again.
    pub(super) fn wake_tail(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        for sub in std::mem::take(&mut topic.tail_waiters) {
            if let Some(waiter) = self.subs.get_mut(sub).filter(|waiter| waiter.topic == id) {
                waiter.is_at_tail = false;
                self.ready(sub);
            }
        }
    }

    /// Wakes a subscription at a time (monotonic, ns), or sooner.
    pub(super) fn wake_at(&mut self, at_ns: u64, id: SubId) {
        if let Some(sub) = self.subs.get_mut(id) {
            sub.wake_at(id, at_ns, &mut self.timers);
        }
    }

    pub(super) fn insert_sub(&mut self, sub: Subscription) -> SubId {
        let (topic, name) = (sub.topic, sub.name.clone());
        let id = self.subs.insert(sub);
        let topic = &mut self.topics[topic];
        topic.subs.insert(name, id);
        topic.quota_check_bytes = 0;
        id
    }

    /// The first message at a position or after it that may be delivered.
    pub(super) fn message_at<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        self.topics[id].at(id, from, archive, &mut self.cache)
    }

    /// Drops the oldest cached messages while there are more than so many bytes.
    pub(super) fn shrink_cache(&mut self, bytes_max: usize) {
        self.cache.shrink(&mut self.topics, bytes_max);
    }
}
