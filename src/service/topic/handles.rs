//! Numbers of what is in memory: indexes of slabs, given again when what had them is gone.

/// A loaded topic.
pub(super) type TopicId = usize;
/// A subscription of a loaded topic.
pub(super) type SubId = usize;
/// A consumer or reader of persistent topics.
pub(super) type ConsumerId = usize;
/// A producer of persistent topics.
pub(super) type ProducerId = usize;
/// A connection of non-persistent topics.
pub(super) type TransientId = usize;

/// The partition in the ids of a source's messages: that of the topic, or a label of the topic among several.
pub(super) type Label = Option<u32>;
