//! Surveys: finding the largest backlogs, in slices if there are very many subscriptions.

use super::Archive;
use super::backlog::TopicBacklog;
use super::handles::TopicId;
use super::owner::TopicOwner;
use super::work::{Slice, WorkProgress};

/// Subscriptions surveyed at once.
const SURVEYED_AT_ONCE: usize = 4096;

impl<A: Archive> TopicOwner<A> {
    /// The largest backlogs, in descending order. Those of topics not loaded since the start are
    /// unknown until the sweep visits them. With very many subscriptions, the result is that of the
    /// survey started by the last call, or the one before.
    pub fn backlogs(&mut self) -> Vec<TopicBacklog> {
        if !std::mem::replace(&mut self.counters.backlogs.is_surveying, true) {
            let is_short = self.loaded.subs.len() <= SURVEYED_AT_ONCE;
            let (mut at, mut found) = (0, Vec::new());
            self.run_always(is_short, move |owner, slice| {
                owner.go_on_surveying(&mut at, &mut found, slice)
            });
        }
        let mut backlogs = self.counters.backlogs.surveyed.clone();
        backlogs.extend(self.counters.backlogs.all.iter().cloned());
        TopicBacklog::keep_largest(&mut backlogs);
        backlogs
    }

    /// Surveys the next slots of the subscriptions, starting at `at`, which advances.
    fn go_on_surveying(
        &mut self,
        at: &mut usize,
        found: &mut Vec<TopicBacklog>,
        slice: &mut Slice,
    ) -> WorkProgress {
        // By slot, since subscriptions come and go between slices.
        while *at < self.loaded.subs.capacity() {
            if !slice.take(1) {
                return WorkProgress::More;
            }
            *at += 1;
            // An empty slot: its subscription is gone.
            let Some(sub) = self.loaded.subs.get(*at - 1) else { continue };
            let topic = self.loaded.topics.get(sub.topic).filter(|topic| !topic.is_gone);
            if let Some(topic) = topic {
                TopicBacklog::add(found, topic, sub);
            }
        }

        TopicBacklog::keep_largest(found);
        self.counters.backlogs.surveyed = std::mem::take(found);
        self.counters.backlogs.is_surveying = false;
        WorkProgress::Done
    }

    /// Remembers the backlogs of a topic that is being unloaded.
    pub(super) fn remember_backlogs(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get(id) else { return };
        for sub in topic.subs.values().filter_map(|id| self.loaded.subs.get(*id)) {
            TopicBacklog::add(&mut self.counters.backlogs.all, topic, sub);
        }
    }
}
