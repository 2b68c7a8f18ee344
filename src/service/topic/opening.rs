//! A connection on its way into its topics.

use super::handles::ConsumerId;
use super::{ReaderStart, TopicName, TopicQuestion};

/// A producer, consumer or reader on its way into its topics.
#[derive(Debug)]
pub(super) struct TopicOpening {
    /// Where its new subscriptions start; a topic that is not the message's from its first one.
    pub(super) start: ReaderStart,
    pub(super) stage: OpeningStage,
    pub(super) names: WantedNames,
    /// What it would create, as far as it was looked at.
    pub(super) new: NewTopics,
}

/// How far it is. What is in its way is found before anything is changed for it, so that a refused connection leaves
/// nothing behind.
#[derive(Debug)]
pub(super) enum OpeningStage {
    /// A [`TopicQuestion::Produce`] or [`TopicQuestion::Consume`] is checked, topic by topic.
    Checking(TopicQuestion),
    /// Nothing is in its way here: it waits for its other owners.
    Admitted(TopicQuestion),
    /// The topics of a [`TopicQuestion::Produce`] are created.
    Creating(TopicQuestion),
    /// A consumer or reader enters its topics.
    Joining(ConsumerId),
    /// It is refused, or open.
    Over,
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
    pub(super) fn new(stage: OpeningStage, start: ReaderStart, names: WantedNames) -> Self {
        Self { start, stage, names, new: NewTopics::default() }
    }

    /// The question, until it is granted.
    pub(super) fn question(&self) -> Option<&TopicQuestion> {
        match &self.stage {
            OpeningStage::Checking(question)
            | OpeningStage::Admitted(question)
            | OpeningStage::Creating(question) => Some(question),
            OpeningStage::Joining(_) | OpeningStage::Over => None,
        }
    }

    /// Goes on to a stage, with its first topic.
    pub(super) fn enter(&mut self, stage: OpeningStage) {
        self.stage = stage;
        match &mut self.names {
            WantedNames::Of(_, at) => *at = 0,
            WantedNames::Matching(after) => *after = "".into(),
        }
    }
}
