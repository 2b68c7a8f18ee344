//! A connection on its way into its topics.

use super::handles::ConsumerId;
use super::{ReaderStart, TopicName, TopicQuestion};

/// A producer, consumer or reader on its way into its topics.
#[derive(Debug)]
pub(super) struct TopicOpening {
    /// What it has asked, until it is a consumer or open.
    pub(super) question: Option<TopicQuestion>,
    /// Where its new subscriptions start; a topic that is not the message's from its first one.
    pub(super) start: ReaderStart,
    pub(super) stage: OpeningStage,
    pub(super) names: WantedNames,
    /// What it would create, as far as it was looked at.
    pub(super) new: NewTopics,
}

/// How far it is. What is in its way is found before anything is changed for it, so that a refused connection leaves
/// nothing behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum OpeningStage {
    /// What it wants is checked, topic by topic.
    Checking,
    /// Nothing is in its way here: it waits for its other owners.
    Admitted,
    /// The topics of a producer are created.
    Creating,
    /// A consumer or reader enters its topics.
    Joining(ConsumerId),
}

/// Topics of a stage.
#[derive(Debug)]
pub(super) enum WantedNames {
    /// These, of which so many have been dealt with.
    Of(Vec<(TopicName, Labelled)>, usize),
    /// Those that match its pattern and come after this one.
    Matching(Box<str>),
}

/// Topics that a question would create.
#[derive(Debug, Default)]
pub(super) struct NewTopics {
    /// Partitions of configured topics, of which there are as many as that says.
    pub(super) partitions: usize,
    pub(super) others: usize,
}

/// The partition in the ids of a topic's messages for one consumer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Labelled {
    /// The number of the partition, or nothing.
    Partition(Option<u32>),
    /// The label of the topic among several.
    Topic,
}

impl TopicOpening {
    /// Goes on to a stage, with its first topic.
    pub(super) fn enter(&mut self, stage: OpeningStage) {
        self.stage = stage;
        match &mut self.names {
            WantedNames::Of(_, at) => *at = 0,
            WantedNames::Matching(after) => *after = "".into(),
        }
    }
}
