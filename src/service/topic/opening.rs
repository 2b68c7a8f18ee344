//! The state of a connection that is joining its topics.

use super::handles::ConsumerId;
use super::{ReaderStart, TopicName, TopicQuestion};

/// A producer, consumer or reader that is joining its topics.
#[derive(Debug)]
pub(super) struct TopicOpening {
    /// Its request, until it is a consumer or fully open.
    pub(super) question: Option<TopicQuestion>,
    /// The start of its new subscriptions; in a topic that does not contain that message, the first
    /// one.
    pub(super) start: ReaderStart,
    pub(super) stage: OpeningStage,
    pub(super) names: WantedNames,
    /// The topics it would create, among those checked so far.
    pub(super) new: NewTopics,
}

/// The stages of an opening. All obstacles are found before anything is changed, so that a refused
/// connection leaves nothing behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum OpeningStage {
    /// Its topics are checked, one by one.
    Checking,
    /// No obstacle here: it waits for its other owners.
    Admitted,
    /// The topics of a producer are being created.
    Creating,
    /// A consumer or reader is joining its topics.
    Joining(ConsumerId),
}

/// The topics of a stage.
#[derive(Debug)]
pub(super) enum WantedNames {
    /// A list, and how many of it are done.
    Of(Vec<(TopicName, Labelled)>, usize),
    /// Those that match its pattern and follow this name.
    Matching(Box<str>),
}

/// Topics that a request would create.
#[derive(Debug, Default)]
pub(super) struct NewTopics {
    /// Partitions of configured topics, whose number the configuration limits.
    pub(super) partitions: usize,
    pub(super) others: usize,
}

/// What the partition field of a topic's message ids contains for one consumer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Labelled {
    /// The partition number, or nothing.
    Partition(Option<u32>),
    /// The label of the topic among several.
    Topic,
}

impl TopicOpening {
    /// Enters a stage, starting with its first topic.
    pub(super) fn enter(&mut self, stage: OpeningStage) {
        self.stage = stage;
        match &mut self.names {
            WantedNames::Of(_, at) => *at = 0,
            WantedNames::Matching(after) => *after = "".into(),
        }
    }
}
