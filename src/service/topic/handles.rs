//! Handles of objects in memory: slab indexes, reused once their object is gone.

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

/// The partition number in the message ids of a source: that of the topic, or a label that
/// identifies one topic among several.
pub(super) type Label = Option<u32>;
