//! The largest backlogs: computed for topics in memory, remembered for the others.

use super::loaded_topic::LoadedTopic;
use super::subscription::Subscription;

/// Limit on the reported backlogs: each is a line of every scrape.
const BACKLOGS_MAX: usize = 100;

/// Messages waiting in a durable subscription, or held by its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicBacklog {
    /// The topic.
    pub topic: Box<str>,
    /// The subscription.
    pub subscription: Box<str>,
    /// Number of messages.
    pub messages: u64,
}

impl TopicBacklog {
    /// Keeps the largest, in descending order.
    pub fn keep_largest(backlogs: &mut Vec<Self>) {
        backlogs.sort_by(|a, b| {
            let order = b.messages.cmp(&a.messages);
            order.then_with(|| (&a.topic, &a.subscription).cmp(&(&b.topic, &b.subscription)))
        });
        backlogs.truncate(BACKLOGS_MAX);
    }

    /// Adds the backlog of a durable subscription, unless it is empty.
    pub(super) fn add(backlogs: &mut Vec<Self>, topic: &LoadedTopic, sub: &Subscription) {
        let messages = sub.backlog(&topic.state.next);
        if messages == 0 || !sub.durable {
            return;
        }
        let (topic, subscription) = (topic.name.as_str().into(), (&*sub.name).into());
        backlogs.push(Self { topic, subscription, messages });
        // Truncates only now and then, to avoid sorting for each of very many subscriptions.
        if backlogs.len() >= 2 * BACKLOGS_MAX {
            Self::keep_largest(backlogs);
        }
    }
}

/// The backlogs to report.
#[derive(Debug, Default)]
pub(super) struct KnownBacklogs {
    /// Those of unloaded topics. They change only once the topic is loaded again.
    pub(super) all: Vec<TopicBacklog>,
    /// Those of loaded topics, as of the last survey.
    pub(super) surveyed: Vec<TopicBacklog>,
    /// Whether a survey is in progress.
    pub(super) is_surveying: bool,
}

impl KnownBacklogs {
    /// Forgets the backlogs of a topic that is loaded now.
    pub(super) fn wake(&mut self, topic: &str) {
        self.all.retain(|backlog| *backlog.topic != *topic);
    }
}
