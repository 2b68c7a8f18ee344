//! The topics in memory with their subscriptions, the queue of those with something to deliver, and
//! the cache of messages.

use super::archive::TopicNumber;
use super::handles::{ProducerId, SubId, TopicId};
use super::mark::Marks;
use super::producer::Sequence;
use super::state::{LogPlace, TopicState};
use super::subscription::Subscription;
use super::timers::Timers;
use super::{Archive, ArchiveError, Position, StoredMessage, TopicName};
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Limit on messages read from the archive at once.
pub(super) const READ_COUNT_MAX: usize = 64;
/// Bytes after which a read from the archive stops.
pub(super) const READ_BYTES_MAX: usize = 256 * 1024;

/// The topics in memory and their subscriptions.
#[derive(Debug, Default)]
pub(super) struct LoadedTopics {
    pub(super) topics: Slab<LoadedTopic>,
    pub(super) subs: Slab<Subscription>,
    pub(super) cache: MessageCache,
    pub(super) timers: Timers,
    /// Topics with ready subscriptions.
    pub(super) active: VecDeque<TopicId>,
}

/// A loaded topic.
#[derive(Debug)]
pub(super) struct LoadedTopic {
    pub(super) name: TopicName,
    pub(super) number: TopicNumber,
    pub(super) state: TopicState,
    /// The end of the deliverable messages.
    pub(super) visible: LogPlace,
    /// The position of the last message.
    pub(super) last: Option<Position>,
    pub(super) subs: BTreeMap<Arc<str>, SubId>,
    pub(super) producers: HashMap<Box<str>, ProducerId, ahash::RandomState>,
    pub(super) sequences: HashMap<Box<str>, Sequence, ahash::RandomState>,
    /// Subscriptions that may have something to deliver.
    pub(super) ready: VecDeque<SubId>,
    /// Subscriptions waiting for the next message.
    pub(super) tail_waiters: Vec<SubId>,
    /// Whether the topic is queued for dispatch.
    pub(super) is_active: bool,
    /// Whether messages were appended since the last commit.
    pub(super) is_appended: bool,
    /// Number of commits in progress that include its messages.
    pub(super) seals: u32,
    /// Whether messages before the first are still to be deleted.
    pub(super) is_untrimmed: bool,
    /// Whether its state has unsaved changes.
    pub(super) is_dirty: bool,
    /// Whether it was deleted: only the removal of its members remains.
    pub(super) is_gone: bool,
    /// Number of connections that produce or consume here.
    pub(super) users: usize,
    /// When it was last used (monotonic, ns).
    pub(super) used_ns: u64,
    pub(super) idle_is_armed: bool,
    /// Whether a walk over its subscriptions for expired ones is in progress.
    pub(super) is_expiring: bool,
    /// When to check for deletable messages; `u64::MAX` for never.
    pub(super) tend_due_ns: u64,
    /// When that was last done at the regular interval.
    pub(super) tended_ns: u64,
    /// Bytes appended since the last check.
    pub(super) untended_bytes: u64,
    /// Whether the next check is due to the volume of messages: it is quick then, without reads.
    pub(super) is_hurried: bool,
    /// Known positions of some of its messages.
    pub(super) marks: Marks,
    /// Size of the topic (bytes) at which its backlogs are checked against the quota again.
    pub(super) quota_check_bytes: u64,
    /// The index of its namespace in the counters.
    pub(super) namespace: usize,
    /// Messages and bytes published since it was loaded.
    pub(super) published: (u64, u64),
    /// Messages and bytes delivered since it was loaded.
    pub(super) delivered: (u64, u64),
    /// The newest messages.
    tail: VecDeque<Arc<StoredMessage>>,
    /// Messages read for subscriptions that are behind, by the start of the read.
    chunks: BTreeMap<Position, CachedChunk>,
    /// Distinguishes it from earlier topics in the same slot.
    epoch: u64,
}

/// All messages of a topic within a range of positions.
#[derive(Debug)]
struct CachedChunk {
    until: Position,
    messages: Vec<Arc<StoredMessage>>,
}

/// The order in which cached messages are evicted, oldest first.
#[derive(Debug, Default)]
pub(super) struct MessageCache {
    kept: VecDeque<CachedItem>,
    bytes: usize,
    epoch: u64,
}

#[derive(Debug)]
struct CachedItem {
    topic: TopicId,
    epoch: u64,
    bytes: usize,
    /// The start of a chunk; `None` for the first message of the tail.
    chunk: Option<Position>,
}

impl LoadedTopic {
    /// A topic without subscriptions and producers; `namespace` is its index in the counters.
    pub(super) fn new(
        name: TopicName,
        number: TopicNumber,
        state: TopicState,
        namespace: usize,
        cache: &mut MessageCache,
    ) -> Self {
        cache.epoch += 1;
        Self {
            name,
            number,
            visible: state.next,
            state,
            last: None,
            subs: BTreeMap::new(),
            producers: HashMap::default(),
            sequences: HashMap::default(),
            ready: VecDeque::new(),
            tail_waiters: Vec::new(),
            is_active: false,
            is_appended: false,
            seals: 0,
            is_untrimmed: false,
            is_dirty: false,
            is_gone: false,
            users: 0,
            used_ns: 0,
            idle_is_armed: false,
            is_expiring: false,
            tend_due_ns: u64::MAX,
            tended_ns: 0,
            untended_bytes: 0,
            is_hurried: false,
            marks: Marks::default(),
            quota_check_bytes: 0,
            namespace,
            published: (0, 0),
            delivered: (0, 0),
            tail: VecDeque::new(),
            chunks: BTreeMap::new(),
            epoch: cache.epoch,
        }
    }

    /// Records a stored message as the last one.
    pub(super) fn extend(&mut self, message: &StoredMessage) {
        self.state.next = LogPlace::behind(message);
        self.last = Some(message.position);
        self.marks.extend(message);
    }

    /// The first deliverable message at or after a position, skipping deleted ones.
    pub(super) fn at<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
        cache: &mut MessageCache,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        let from = from.max(self.state.first);
        // An uncommitted message may still be lost.
        if from >= self.visible.position {
            return Ok(None);
        }
        if self.tail.front().is_some_and(|first| first.position <= from) {
            let at = self.tail.partition_point(|message| message.position < from);
            return Ok(self
                .tail
                .get(at)
                .filter(|message| message.position < self.visible.position)
                .cloned());
        }
        let mut from = from;
        loop {
            let chunk = self.chunks.range(..=from).next_back().map(|(_, chunk)| chunk);
            if let Some(chunk) = chunk.filter(|chunk| from < chunk.until) {
                let at = chunk.messages.partition_point(|message| message.position < from);
                if let Some(message) = chunk.messages.get(at) {
                    return Ok(Some(message.clone()));
                }
                // The chunk has no more messages: positions may have gaps.
                from = chunk.until;
            }
            if from >= self.visible.position {
                return Ok(None);
            }
            self.read_chunk(id, from, archive, cache)?;
        }
    }

    /// Whether a cursor is before the newest messages in memory, so that reading on takes the
    /// archive.
    pub(super) fn is_behind(&self, read: Position) -> bool {
        read < self.visible.position && self.tail.front().is_none_or(|first| read < first.position)
    }

    fn read_chunk<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
        cache: &mut MessageCache,
    ) -> Result<(), ArchiveError> {
        let mut messages = archive.read(self.number, from, READ_COUNT_MAX, READ_BYTES_MAX)?;
        messages
            .retain(|message| message.position < self.visible.position && message.position >= from);
        let until = messages.last().map_or(self.visible.position, |last| last.position.after());
        let bytes =
            messages.iter().map(|message| message.len()).sum::<usize>() + size_of::<CachedChunk>();
        cache.bytes += bytes;
        cache.kept.push_back(CachedItem { topic: id, epoch: self.epoch, bytes, chunk: Some(from) });
        self.chunks.insert(from, CachedChunk { until, messages });
        Ok(())
    }

    /// Whether the log holds no message of it.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none_or(|last| last < self.state.first)
    }

    /// Drops cached reads of deleted messages.
    pub(super) fn forget_read(&mut self) {
        let first = self.state.first;
        self.chunks.retain(|_, chunk| chunk.until > first);
    }
}

impl LoadedTopic {
    /// Adds a producer; `last` is its initial sequence number, if it gave one.
    pub(super) fn add_producer(
        &mut self,
        name: Box<str>,
        id: ProducerId,
        last: Option<i64>,
        used: u64,
    ) {
        if let Some(last) = last {
            self.sequences.entry(name.clone()).or_insert(Sequence::initial(last, used));
        }
        self.producers.insert(name, id);
    }

    /// The sequence number that a producer gave as the one before its first, which it has not sent.
    pub(super) fn initial_sequence(&self, name: &str) -> Option<i64> {
        let sequence = self.sequences.get(name).filter(|sequence| !sequence.is_saved);
        sequence.map(|sequence| sequence.last)
    }

    /// Removes a producer. A sequence number under which nothing was published is forgotten: the
    /// producer gives it again when it returns.
    pub(super) fn remove_producer(&mut self, name: &str) {
        self.producers.remove(name);
        if self.sequences.get(name).is_some_and(|sequence| !sequence.is_saved) {
            self.sequences.remove(name);
        }
    }

    /// Learns the sequence number of the last message's producer, whether or not that was saved.
    pub(super) fn know_last(&mut self, stored: &StoredMessage) {
        let Some((producer, last)) = stored.head().number() else { return };
        if self.sequences.get(producer).is_none_or(|known| known.last <= last) {
            self.sequences.insert(producer.into(), Sequence::of(last, stored.position, 0));
        }
    }
}

impl MessageCache {
    /// Caches a message just appended, if a subscription may need it soon. Without subscriptions it
    /// would only evict messages that others need, and occupy cold memory.
    pub(super) fn keep(
        &mut self,
        id: TopicId,
        topic: &mut LoadedTopic,
        message: Arc<StoredMessage>,
    ) {
        if topic.subs.is_empty() {
            return self.forget_tail(topic);
        }
        let bytes = message.len() + size_of::<StoredMessage>();
        self.bytes += bytes;
        self.kept.push_back(CachedItem { topic: id, epoch: topic.epoch, bytes, chunk: None });
        topic.tail.push_back(message);
    }

    /// Drops a topic's newest messages: the tail must not have gaps.
    fn forget_tail(&mut self, topic: &mut LoadedTopic) {
        if !topic.tail.is_empty() {
            topic.tail.clear();
            topic.chunks.clear();
            self.epoch += 1;
            topic.epoch = self.epoch;
        }
    }

    /// Evicts the oldest messages while the cache exceeds `bytes_max`.
    pub(super) fn shrink(&mut self, topics: &mut Slab<LoadedTopic>, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(kept) = self.kept.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
            let topic = topics.get_mut(kept.topic).filter(|topic| topic.epoch == kept.epoch);
            // The slot may belong to another topic by now.
            if let Some(topic) = topic {
                match kept.chunk {
                    Some(from) => drop(topic.chunks.remove(&from)),
                    None => drop(topic.tail.pop_front()),
                }
            }
        }
    }
}

impl LoadedTopics {
    /// Marks a subscription as having something to deliver, perhaps.
    pub(super) fn ready(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Some(topic) = self.topics.get_mut(sub.topic) else { return };
        if sub.is_ready || sub.members.is_empty() || topic.is_gone {
            return;
        }
        sub.is_ready = true;
        topic.ready.push_back(id);
        if !topic.is_active {
            topic.is_active = true;
            self.active.push_back(sub.topic);
        }
    }

    /// Wakes the subscriptions waiting for a topic's next message.
    pub(super) fn wake_tail(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        for sub in std::mem::take(&mut topic.tail_waiters) {
            if let Some(waiter) = self.subs.get_mut(sub).filter(|waiter| waiter.topic == id) {
                waiter.is_at_tail = false;
                self.ready(sub);
            }
        }
    }

    /// Wakes a subscription at a time (monotonic, ns), unless it wakes sooner.
    pub(super) fn wake_at(&mut self, at_ns: u64, id: SubId) {
        if let Some(sub) = self.subs.get_mut(id) {
            sub.wake_at(id, at_ns, &mut self.timers);
        }
    }

    pub(super) fn insert_sub(&mut self, sub: Subscription) -> SubId {
        let (topic, name) = (sub.topic, sub.name.clone());
        let id = self.subs.insert(sub);
        let topic = &mut self.topics[topic];
        topic.subs.insert(name, id);
        topic.quota_check_bytes = 0;
        id
    }

    /// The first deliverable message at or after a position.
    pub(super) fn message_at<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        self.topics[id].at(id, from, archive, &mut self.cache)
    }

    /// Evicts the oldest cached messages while there are more than `bytes_max`.
    pub(super) fn shrink_cache(&mut self, bytes_max: usize) {
        self.cache.shrink(&mut self.topics, bytes_max);
    }
}
