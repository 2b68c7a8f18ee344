//! The largest backlogs: of topics in memory they are looked up, of others they are remembered.

use super::loaded_topic::LoadedTopic;
use super::subscription::Subscription;

/// Backlogs that are told: each is a line of every scrape.
const BACKLOGS_MAX: usize = 100;

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
    /// Keeps the largest, the largest first.
    pub fn keep_largest(backlogs: &mut Vec<Self>) {
        backlogs.sort_by(|a, b| {
            let order = b.messages.cmp(&a.messages);
            order.then_with(|| (&a.topic, &a.subscription).cmp(&(&b.topic, &b.subscription)))
        });
        backlogs.truncate(BACKLOGS_MAX);
    }

    /// Adds what waits in a subscription of a topic, if something does and it outlasts its consumers.
    pub(super) fn add(backlogs: &mut Vec<Self>, topic: &LoadedTopic, sub: &Subscription) {
        let messages = sub.backlog(&topic.state.next);
        if messages == 0 || !sub.durable {
            return;
        }
        let (topic, subscription) = (topic.name.as_str().into(), (&*sub.name).into());
        backlogs.push(Self { topic, subscription, messages });
        // Now and then, so that the list is not sorted for each of very many.
        if backlogs.len() >= 2 * BACKLOGS_MAX {
            Self::keep_largest(backlogs);
        }
    }
}

/// The largest backlogs that are remembered.
#[derive(Debug, Default)]
pub(super) struct KnownBacklogs {
    /// Of topics that have left the memory. Nothing is appended or acknowledged there until they are back.
    pub(super) all: Vec<TopicBacklog>,
    /// Those of topics in memory, when they were looked for last.
    pub(super) surveyed: Vec<TopicBacklog>,
    /// Whether they are being looked for.
    pub(super) is_surveying: bool,
}

impl KnownBacklogs {
    /// A topic is in memory.
    pub(super) fn wake(&mut self, topic: &str) {
        self.all.retain(|backlog| *backlog.topic != *topic);
    }
}
