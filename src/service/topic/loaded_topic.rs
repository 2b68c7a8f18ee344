//! What is in memory: topics with their subscriptions, which of them have something to deliver, and the cache of messages.

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

/// Messages that are read from the archive at once.
pub(super) const READ_COUNT_MAX: usize = 64;
/// Bytes after which no more are read at once.
pub(super) const READ_BYTES_MAX: usize = 256 * 1024;

/// Topics in memory and their subscriptions.
#[derive(Debug, Default)]
pub(super) struct LoadedTopics {
    pub(super) topics: Slab<LoadedTopic>,
    pub(super) subs: Slab<Subscription>,
    pub(super) cache: MessageCache,
    pub(super) timers: Timers,
    /// Topics with subscriptions that are ready.
    pub(super) active: VecDeque<TopicId>,
}

/// A loaded topic.
#[derive(Debug)]
pub(super) struct LoadedTopic {
    pub(super) name: TopicName,
    pub(super) number: TopicNumber,
    pub(super) state: TopicState,
    /// Everything before it may be delivered.
    pub(super) visible: LogPlace,
    /// The last message.
    pub(super) last: Option<Position>,
    pub(super) subs: BTreeMap<Arc<str>, SubId>,
    pub(super) producers: HashMap<Box<str>, ProducerId, ahash::RandomState>,
    pub(super) sequences: HashMap<Box<str>, Sequence, ahash::RandomState>,
    /// Subscriptions that have something to deliver, perhaps.
    pub(super) ready: VecDeque<SubId>,
    /// Subscriptions that wait for the next message.
    pub(super) tail_waiters: Vec<SubId>,
    /// Whether it is among those that are served.
    pub(super) is_active: bool,
    /// Whether something was appended that is not committed.
    pub(super) is_appended: bool,
    /// Commits under way that have something of it.
    pub(super) seals: u32,
    /// Whether some of what is below the first is still to be deleted.
    pub(super) is_untrimmed: bool,
    /// Whether its state has changed since it was saved.
    pub(super) is_dirty: bool,
    /// Whether it was deleted: nothing more is done with it but to take out who is left.
    pub(super) is_gone: bool,
    /// Connections that produce or consume here.
    pub(super) users: usize,
    /// When it was last used (monotonic, ns).
    pub(super) used_ns: u64,
    pub(super) idle_is_armed: bool,
    /// Whether its subscriptions are being looked at for those that expire.
    pub(super) is_expiring: bool,
    /// When it is looked at for what may be given up; `u64::MAX` for never.
    pub(super) tend_due_ns: u64,
    /// When that was done last without hurry.
    pub(super) tended_ns: u64,
    /// Bytes that came since that was done last.
    pub(super) untended_bytes: u64,
    /// Whether it is done because so much came or was acknowledged: then in a hurry, without reads.
    pub(super) is_hurried: bool,
    /// Where some of its messages stand.
    pub(super) marks: Marks,
    /// When the topic has so many bytes, the backlogs are to be looked at.
    pub(super) quota_check_bytes: u64,
    /// Its namespace among those that are counted.
    pub(super) namespace: usize,
    /// Messages and bytes that came since it was loaded.
    pub(super) published: (u64, u64),
    /// Messages and bytes that were delivered since it was loaded.
    pub(super) delivered: (u64, u64),
    /// The last messages.
    tail: VecDeque<Arc<StoredMessage>>,
    /// What was read for those that are behind, by where it was read from.
    chunks: BTreeMap<Position, CachedChunk>,
    /// Tells it from others that had the same number.
    epoch: u64,
}

/// Everything that a topic has from one position to another.
#[derive(Debug)]
struct CachedChunk {
    until: Position,
    messages: Vec<Arc<StoredMessage>>,
}

/// What is kept in memory of all topics, the oldest first.
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
    /// The first position of a chunk; else the first of the tail.
    chunk: Option<Position>,
}

impl LoadedTopic {
    pub(super) fn new(
        name: TopicName,
        number: TopicNumber,
        state: TopicState,
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
            namespace: 0,
            published: (0, 0),
            delivered: (0, 0),
            tail: VecDeque::new(),
            chunks: BTreeMap::new(),
            epoch: cache.epoch,
        }
    }

    /// Counts a message that was stored as its last.
    pub(super) fn extend(&mut self, message: &StoredMessage) {
        self.state.next = LogPlace::behind(message);
        self.last = Some(message.position);
        self.marks.extend(message);
    }

    /// The first message at a position or after it that may be delivered, and is none of those that are gone.
    pub(super) fn at<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
        cache: &mut MessageCache,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        let from = from.max(self.state.first);
        // What is not committed may yet be lost.
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
                // Nothing is there up to its end: positions may be left out.
                from = chunk.until;
            }
            if from >= self.visible.position {
                return Ok(None);
            }
            self.read_chunk(id, from, archive, cache)?;
        }
    }

    /// Whether what follows is not in memory for its own sake.
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

    /// Whether nothing of it is stored in the log.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none_or(|last| last < self.state.first)
    }

    /// Forgets what was read, because it is not there any more.
    pub(super) fn forget_read(&mut self) {
        let first = self.state.first;
        self.chunks.retain(|_, chunk| chunk.until > first);
    }
}

impl LoadedTopic {
    /// A producer is here, whose own numbers begin behind one.
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

    /// A producer has left. A number with which nothing was sent is told again when it comes back.
    pub(super) fn remove_producer(&mut self, name: &str) {
        self.producers.remove(name);
        if self.sequences.get(name).is_some_and(|sequence| !sequence.is_saved) {
            self.sequences.remove(name);
        }
    }

    /// The last message tells the number of its producer, whether or not that was saved.
    pub(super) fn know_last(&mut self, stored: &StoredMessage) {
        let Some((producer, last)) = stored.head().number() else { return };
        if self.sequences.get(producer).is_none_or(|known| known.last <= last) {
            self.sequences.insert(producer.into(), Sequence::of(last, stored.position, 0));
        }
    }
}

impl MessageCache {
    /// Keeps a message that was just appended, if anybody may want it before long. A topic without subscriptions would
    /// only push out what others have, and have every new message stand in memory that no processor has at hand.
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

    /// Forgets the last messages of a topic: what is kept of them has no gap.
    fn forget_tail(&mut self, topic: &mut LoadedTopic) {
        if !topic.tail.is_empty() {
            topic.tail.clear();
            topic.chunks.clear();
            self.epoch += 1;
            topic.epoch = self.epoch;
        }
    }

    /// Gives the oldest up while there is more than so much.
    pub(super) fn shrink(&mut self, topics: &mut Slab<LoadedTopic>, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(kept) = self.kept.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
            let topic = topics.get_mut(kept.topic).filter(|topic| topic.epoch == kept.epoch);
            // Another topic may have the number by now.
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
    /// A subscription has perhaps something to deliver.
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

    /// Subscriptions that have waited for the next message of a topic try again.
    pub(super) fn wake_tail(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        for sub in std::mem::take(&mut topic.tail_waiters) {
            if let Some(waiter) = self.subs.get_mut(sub).filter(|waiter| waiter.topic == id) {
                waiter.is_at_tail = false;
                self.ready(sub);
            }
        }
    }

    /// Wakes a subscription at a time (monotonic, ns), or sooner.
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

    /// The first message at a position or after it that may be delivered.
    pub(super) fn message_at<A: Archive>(
        &mut self,
        id: TopicId,
        from: Position,
        archive: &mut A,
    ) -> Result<Option<Arc<StoredMessage>>, ArchiveError> {
        self.topics[id].at(id, from, archive, &mut self.cache)
    }

    /// Drops the oldest cached messages while there are more than so many bytes.
    pub(super) fn shrink_cache(&mut self, bytes_max: usize) {
        self.cache.shrink(&mut self.topics, bytes_max);
    }
}
