//! The largest backlogs, for whoever watches: of topics in memory they are looked up, of others they are remembered.

use super::{Archive, Topics};
use std::cmp::Reverse;

/// Backlogs that are told: each is a line of every scrape.
const BACKLOGS_MAX: usize = 100;

/// Messages that wait in a durable subscription, or are with its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The topic.
    pub topic: Box<str>,
    /// The subscription.
    pub subscription: Box<str>,
    /// How many.
    pub messages: u64,
}

/// The largest of topics that have left the memory. Nothing is appended or acknowledged there until they are back.
#[derive(Debug, Default)]
pub(super) struct Asleep(Vec<Backlog>);

impl Asleep {
    /// A topic leaves the memory with such a backlog.
    fn put(&mut self, backlog: Backlog) {
        self.0.push(backlog);
        if self.0.len() > BACKLOGS_MAX {
            largest(&mut self.0);
        }
    }

    /// A topic is in memory.
    pub(super) fn wake(&mut self, topic: &str) {
        self.0.retain(|backlog| *backlog.topic != *topic);
    }
}

/// Keeps the largest, in order.
fn largest(backlogs: &mut Vec<Backlog>) {
    backlogs.sort_by(|a, b| {
        (Reverse(a.messages), &a.topic, &a.subscription).cmp(&(
            Reverse(b.messages),
            &b.topic,
            &b.subscription,
        ))
    });
    backlogs.truncate(BACKLOGS_MAX);
}

impl<A: Archive> Topics<A> {
    /// The largest backlogs, the largest first. Those of topics that have not been in memory since the start are not
    /// known until the sweep, which looks at all from time to time, has come by.
    #[must_use]
    pub fn backlogs(&self) -> Vec<Backlog> {
        let mut all = Vec::new();
        for (_, topic) in &self.topics {
            for (name, sub) in &topic.subs {
                let Some(sub) = self.subs.get(*sub).filter(|sub| sub.durable) else { continue };
                let messages = sub.backlog(&topic.state.next);
                if messages > 0 {
                    all.push((messages, topic.name.as_str(), &**name));
                }
            }
        }
        // Before anything is copied.
        if all.len() > BACKLOGS_MAX {
            all.select_nth_unstable_by_key(BACKLOGS_MAX, |(messages, ..)| Reverse(*messages));
            all.truncate(BACKLOGS_MAX);
        }
        let told = |(messages, topic, name): (u64, &str, &str)| Backlog {
            topic: topic.into(),
            subscription: name.into(),
            messages,
        };
        let mut backlogs: Vec<Backlog> = all.into_iter().map(told).collect();
        backlogs.extend(self.asleep.0.iter().cloned());
        largest(&mut backlogs);
        backlogs
    }

    /// Remembers what waits in a topic that leaves the memory.
    pub(super) fn remember_backlogs(&mut self, id: super::one::TopicId) {
        let Some(topic) = self.topics.get(id) else { return };
        for (name, sub) in &topic.subs {
            let Some(sub) = self.subs.get(*sub).filter(|sub| sub.durable) else { continue };
            let messages = sub.backlog(&topic.state.next);
            if messages > 0 {
                let (topic, subscription) = (topic.name.as_str().into(), (&**name).into());
                self.asleep.put(Backlog { topic, subscription, messages });
            }
        }
    }
}
