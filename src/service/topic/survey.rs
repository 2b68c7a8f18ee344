//! Looking for the largest backlogs, in slices where there are very many subscriptions.

use super::Archive;
use super::backlog::{BACKLOGS_MAX, TopicBacklog};
use super::handles::TopicId;
use super::owner::TopicOwner;
use super::work::{Slice, WorkProgress};

/// Subscriptions that are looked at at once.
const SURVEYED_AT_ONCE: usize = 4096;

/// Backlogs that are being looked for.
#[derive(Debug, Default)]
struct BacklogSurvey {
    /// Up to which subscription of all.
    at: usize,
    found: Vec<TopicBacklog>,
}

impl<A: Archive> TopicOwner<A> {
    /// The largest backlogs, the largest first. Those of topics that have not been in memory since the start are not
    /// known until the sweep, which looks at all from time to time, has come by. With very many subscriptions they are
    /// those that were found after the last call, or the one before it.
    pub fn backlogs(&mut self) -> Vec<TopicBacklog> {
        let mut surveying = BacklogSurvey::default();
        if !std::mem::replace(&mut self.counters.backlogs.is_surveying, true) {
            let is_short = self.loaded.subs.len() <= SURVEYED_AT_ONCE;
            self.run_always(is_short, move |owner, slice| {
                owner.go_on_surveying(&mut surveying, slice)
            });
        }
        let mut backlogs = self.counters.backlogs.surveyed.clone();
        backlogs.extend(self.counters.backlogs.all.iter().cloned());
        TopicBacklog::keep_largest(&mut backlogs);
        backlogs
    }

    /// Looks at some subscriptions.
    fn go_on_surveying(
        &mut self,
        surveying: &mut BacklogSurvey,
        slice: &mut Slice,
    ) -> WorkProgress {
        let BacklogSurvey { at, found } = surveying;
        while *at < self.loaded.subs.capacity() {
            if slice.is_over() {
                return WorkProgress::More;
            }
            slice.spend(1);
            *at += 1;
            let Some(sub) = self.loaded.subs.get(*at - 1).filter(|sub| sub.durable) else {
                continue;
            };
            let Some(topic) = self.loaded.topics.get(sub.topic).filter(|topic| !topic.is_gone)
            else {
                continue;
            };
            let messages = sub.backlog(&topic.state.next);
            if messages > 0 {
                let (topic, subscription) = (topic.name.as_str().into(), (&*sub.name).into());
                found.push(TopicBacklog { topic, subscription, messages });
                if found.len() >= 2 * BACKLOGS_MAX {
                    TopicBacklog::keep_largest(found);
                }
            }
        }
        TopicBacklog::keep_largest(found);
        self.counters.backlogs.surveyed = std::mem::take(found);
        self.counters.backlogs.is_surveying = false;
        WorkProgress::Done
    }

    /// Remembers what waits in a topic that leaves the memory.
    pub(super) fn remember_backlogs(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get(id) else { return };
        for (name, sub) in &topic.subs {
            let Some(sub) = self.loaded.subs.get(*sub).filter(|sub| sub.durable) else { continue };
            let messages = sub.backlog(&topic.state.next);
            if messages > 0 {
                let (topic, subscription) = (topic.name.as_str().into(), (&**name).into());
                self.counters.backlogs.put(TopicBacklog { topic, subscription, messages });
            }
        }
    }
}
