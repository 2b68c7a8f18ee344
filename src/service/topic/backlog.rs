//! The largest backlogs, for whoever watches: of topics in memory they are looked up, of others they are remembered.

use super::work::{Slice, TopicWork, WorkProgress};
use super::{Archive, TopicOwner};
use std::cmp::Reverse;

/// Backlogs that are told: each is a line of every scrape.
const BACKLOGS_MAX: usize = 100;

/// Subscriptions that are looked at at once.
const SURVEYED_AT_ONCE: usize = 4096;

/// Messages that wait in a durable subscription, or are with its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicBacklog {
    /// The topic.
    pub topic: Box<str>,
    /// The subscription.
    pub subscription: Box<str>,
    /// How many.
    pub messages: u64,
}

impl TopicBacklog {
    /// Keeps those that are told, the largest first.
    pub fn keep_largest(backlogs: &mut Vec<Self>) {
        largest(backlogs);
    }
}

/// The largest backlogs that are remembered.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    /// Of topics that have left the memory. Nothing is appended or acknowledged there until they are back.
    all: Vec<TopicBacklog>,
    /// Those of topics in memory, when they were looked for last.
    surveyed: Vec<TopicBacklog>,
}

/// Backlogs that are being looked for.
#[derive(Debug, Default)]
pub(super) struct BacklogSurvey {
    /// Up to which subscription of all.
    at: usize,
    found: Vec<TopicBacklog>,
}

impl Asleep {
    /// A topic leaves the memory with such a backlog.
    fn put(&mut self, backlog: TopicBacklog) {
        self.all.push(backlog);
        if self.all.len() > BACKLOGS_MAX {
            largest(&mut self.all);
        }
    }

    /// A topic is in memory.
    pub(super) fn wake(&mut self, topic: &str) {
        self.all.retain(|backlog| *backlog.topic != *topic);
    }
}

/// Keeps the largest, in order.
fn largest(backlogs: &mut Vec<TopicBacklog>) {
    backlogs.sort_by(|a, b| {
        (Reverse(a.messages), &a.topic, &a.subscription).cmp(&(
            Reverse(b.messages),
            &b.topic,
            &b.subscription,
        ))
    });
    backlogs.truncate(BACKLOGS_MAX);
}

impl<A: Archive> TopicOwner<A> {
    /// The largest backlogs, the largest first. Those of topics that have not been in memory since the start are not
    /// known until the sweep, which looks at all from time to time, has come by. With very many subscriptions they are
    /// those that were found after the last call, or the one before it.
    pub fn backlogs(&mut self) -> Vec<TopicBacklog> {
        let mut surveying = BacklogSurvey::default();
        if self.subs.len() <= SURVEYED_AT_ONCE {
            self.go_on_surveying(&mut surveying, &mut Slice::whole());
        } else if !self.works.iter().any(|work| matches!(work, TopicWork::Survey(_))) {
            self.works.push_back(TopicWork::Survey(surveying));
        }
        let mut backlogs = self.asleep.surveyed.clone();
        backlogs.extend(self.asleep.all.iter().cloned());
        largest(&mut backlogs);
        backlogs
    }

    /// Looks at some subscriptions.
    pub(super) fn go_on_surveying(
        &mut self,
        surveying: &mut BacklogSurvey,
        slice: &mut Slice,
    ) -> WorkProgress {
        let BacklogSurvey { at, found } = surveying;
        while *at < self.subs.capacity() {
            if slice.is_over() {
                return WorkProgress::More;
            }
            slice.spend(1);
            *at += 1;
            let Some(sub) = self.subs.get(*at - 1).filter(|sub| sub.durable) else { continue };
            let Some(topic) = self.topics.get(sub.topic).filter(|topic| !topic.is_gone) else { continue };
            let messages = sub.backlog(&topic.state.next);
            if messages > 0 {
                let (topic, subscription) = (topic.name.as_str().into(), (&*sub.name).into());
                found.push(TopicBacklog { topic, subscription, messages });
                if found.len() >= 2 * BACKLOGS_MAX {
                    largest(found);
                }
            }
        }
        largest(found);
        self.asleep.surveyed = std::mem::take(found);
        WorkProgress::Done
    }

    /// Remembers what waits in a topic that leaves the memory.
    pub(super) fn remember_backlogs(&mut self, id: super::loaded::TopicId) {
        let Some(topic) = self.topics.get(id) else { return };
        for (name, sub) in &topic.subs {
            let Some(sub) = self.subs.get(*sub).filter(|sub| sub.durable) else { continue };
            let messages = sub.backlog(&topic.state.next);
            if messages > 0 {
                let (topic, subscription) = (topic.name.as_str().into(), (&**name).into());
                self.asleep.put(TopicBacklog { topic, subscription, messages });
            }
        }
    }
}
