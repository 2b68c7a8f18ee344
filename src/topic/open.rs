//! How topics and subscriptions come into memory and leave it, and how consumers and readers come and go.

use super::consumer::{Consumer, ConsumerId, Source};
use super::one::{Topic, TopicId};
use super::pending::State;
use super::probe::Hindrance;
use super::producer::Sequence;
use super::state::{Place, SubscriptionState, TopicState};
use super::subscription::{Member, SubId, Subscription};
use super::topics::{Answer, Role, Timer, Topics, refusal};
use super::{
    Archive, Cause, Consuming, Domain, Fault, Kind, Loaded, Position, Reading, Refusal, Reply, Request,
    Right, Saved, Start, TopicName, Wanted,
};
use crate::roster::Seat;
use std::sync::Arc;

/// Nanoseconds after which a topic that nobody uses leaves the memory.
pub(super) const IDLE_NS: u64 = 60_000_000_000;
/// Names that are read from the archive at once.
pub(super) const NAMES_AT_ONCE: usize = 10_000;
/// Topics that one consumer may have; beyond that a window that all share makes little sense.
const SOURCES_MAX: usize = 10_000;
/// Where a subscription starts when it is new.
#[derive(Clone, Copy)]
enum From {
    Earliest,
    Latest,
    At(Position),
}

impl<A: Archive> Topics<A> {
    /// Finds out how many topics there are.
    pub(super) fn begin(&mut self) {
        let mut after: Box<str> = "".into();
        while let Ok(names) = self.archive.names("", &after, NAMES_AT_ONCE) {
            self.count += names.len();
            match names.into_iter().next_back() {
                Some(last) => after = last,
                None => break,
            }
        }
        self.arm(IDLE_NS, Timer::Sweep);
    }

    /// The topics that a name stands for, with the partitions in their messages' ids.
    pub(super) fn expand(&self, name: &TopicName) -> Vec<(TopicName, Option<u32>)> {
        match self.partitions(name) {
            Some(count) => (0..count).map(|number| (name.partition(number), Some(number))).collect(),
            None => vec![(name.clone(), name.partition_number())],
        }
    }

    /// How many partitions a topic has, if it is partitioned.
    pub(super) fn partitions(&self, name: &TopicName) -> Option<u32> {
        self.rules.partitioned.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }

    /// A topic that is there or is created.
    pub(super) fn open_topic(&mut self, name: &TopicName) -> Result<TopicId, Refusal> {
        if let Some(id) = self.find_topic(name)? {
            return Ok(id);
        }
        self.check_room(1)?;
        let number = self.archive.create(name.as_str())?;
        self.count += 1;
        let topic = Topic::new(name.clone(), number, TopicState::default(), &mut self.cache);
        let id = self.insert_topic(topic);
        self.created.push(id);
        Ok(id)
    }

    /// A topic that is there.
    pub(super) fn find_topic(&mut self, name: &TopicName) -> Result<Option<TopicId>, Fault> {
        if let Some(id) = self.names.get(name.as_str()) {
            return Ok(Some(*id));
        }
        let Some(loaded) = self.archive.load(name.as_str())? else { return Ok(None) };
        self.asleep.wake(name.as_str());
        Ok(Some(self.load_topic(name, loaded)))
    }

    fn load_topic(&mut self, name: &TopicName, loaded: Loaded) -> TopicId {
        let mut state = loaded.topic.and_then(|bytes| TopicState::read(&bytes)).unwrap_or_default();
        if let Some(last) = &loaded.last
            && last.position >= state.next.position
        {
            state.next = Place {
                position: last.position.after(),
                ordinal: last.ordinal() + 1,
                bytes: last.bytes_before() + last.len() as u64,
            };
        }
        // What an earlier run may have told and lost is in a ledger of its own.
        let begin = Position::new(self.archive.ledger().into(), 0).unwrap_or(Position::END);
        state.next.position = state.next.position.max(begin);
        let mut topic = Topic::new(name.clone(), loaded.number, state, &mut self.cache);
        topic.is_untrimmed = topic.state.first > Position::FIRST;
        topic.last = loaded.last.as_ref().map(|last| last.position);
        for (producer, last) in loaded.sequences {
            topic.sequences.insert(producer, Sequence::saved(last));
        }
        if let Some(last) = &loaded.last {
            topic.know_last(last);
        }
        let id = self.insert_topic(topic);
        for (name, bytes) in loaded.subscriptions {
            // One whose state is damaged begins again: nothing of it is lost.
            let (state, pending) = SubscriptionState::read(&bytes).unwrap_or_default();
            self.now.unix_ms = self.now.unix_ms.max(state.delayed.0);
            let sub = Subscription::new(id, (&*name).into(), true, state).with(pending);
            self.insert_sub(sub);
        }
        id
    }

    fn insert_topic(&mut self, mut topic: Topic) -> TopicId {
        topic.namespace = self.counters.namespace(topic.name.namespace());
        topic.used_ns = self.now.monotonic_ns;
        let name: Box<str> = topic.name.as_str().into();
        let id = self.topics.insert(topic);
        self.names.insert(name, id);
        self.arm_idle(id, IDLE_NS);
        id
    }

    fn insert_sub(&mut self, sub: Subscription) -> SubId {
        let (topic, name) = (sub.topic, sub.name.clone());
        let id = self.subs.insert(sub);
        let topic = &mut self.topics[topic];
        topic.subs.insert(name, id);
        topic.quota_check_bytes = 0;
        id
    }

    fn arm_idle(&mut self, id: TopicId, after_ns: u64) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        if topic.users == 0 && !std::mem::replace(&mut topic.idle_is_armed, true) {
            self.arm(after_ns, Timer::Idle(id));
        }
    }

    pub(super) fn enter_topic(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.get_mut(id) {
            topic.users += 1;
        }
    }

    pub(super) fn leave_topic(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.get_mut(id) {
            topic.users = topic.users.saturating_sub(1);
            topic.used_ns = self.now.monotonic_ns;
            self.arm_idle(id, IDLE_NS);
        }
    }

    /// A topic leaves the memory if nobody has used it for long enough.
    pub(super) fn unload_idle(&mut self, id: TopicId, idle_ns: u64) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        topic.idle_is_armed = false;
        let idle_until_ns = topic.used_ns.saturating_add(idle_ns);
        if topic.users > 0 {
            return;
        }
        // After a failed sync the archive may have messages that must not come up.
        if self.now.monotonic_ns < idle_until_ns
            || topic.is_appended
            || topic.seals > 0
            || self.broken.is_some()
        {
            let after_ns = idle_until_ns.saturating_sub(self.now.monotonic_ns).max(1_000_000_000);
            return self.arm_idle(id, after_ns);
        }
        let subs: Vec<SubId> = topic.subs.values().copied().collect();
        // The last message, which tells where the next one goes, may not be readable when the topic comes back.
        let is_dirty = topic.is_dirty || topic.published.0 > 0;
        let dirty = |sub: &&SubId| self.subs.get(**sub).is_some_and(|sub| sub.is_dirty);
        let dirty: Vec<SubId> = subs.iter().filter(dirty).copied().collect();
        let saved = if is_dirty { self.save_topic(id) } else { Ok(()) };
        if saved.is_err() || dirty.iter().any(|sub| self.save_sub(*sub).is_err()) {
            return self.arm_idle(id, IDLE_NS);
        }
        self.remember_backlogs(id);
        for id in subs {
            if let Some(mut sub) = self.subs.try_remove(id) {
                sub.sleep(id, &mut self.timers);
            }
        }
        if let Some(topic) = self.topics.try_remove(id) {
            self.names.remove(topic.name.as_str());
        }
        self.active.retain(|active| *active != id);
    }

    /// A connection wants to consume.
    pub(super) fn consume(&mut self, seat: Seat, consuming: Consuming) {
        let (names, wanted) = match self.wanted_topics(&consuming) {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse(seat, refusal),
        };
        let is_persistent = names.iter().all(|name| name.0.domain() == Domain::Persistent);
        let checked = if is_persistent {
            self.check_consumer(&consuming, &names)
        } else if names.iter().any(|name| name.0.domain() == Domain::Persistent) {
            Err(refusal(Cause::Invalid, "a consumer's topics are all persistent, or none is").into())
        } else {
            self.check_transient_consumer(&consuming, &names)
        };
        if let Err(hindrance) = checked {
            return self.hinder(seat, hindrance, Request::Consume(Box::new(consuming)));
        }
        if !is_persistent {
            return self.open_transient_consumer(seat, consuming, &names);
        }
        if let Err(refusal) = self.open_consumer(seat, consuming, &names, wanted) {
            self.refuse(seat, refusal);
        }
    }

    fn open_consumer(
        &mut self,
        seat: Seat,
        consuming: Consuming,
        names: &[(TopicName, Option<u32>)],
        wanted: Option<(Box<str>, regex::Regex)>,
    ) -> Result<(), Refusal> {
        let from = if consuming.earliest { From::Earliest } else { From::Latest };
        let mut consumer = Consumer::new(seat, consuming);
        consumer.wanted = wanted;
        let is_matching = consumer.wanted.is_some();
        let id = self.consumers.insert(consumer);
        for (name, label) in names {
            if let Err(refusal) = self.join(id, name, *label, from) {
                self.close_consumer(id);
                return Err(refusal);
            }
        }
        if is_matching {
            self.matching.push(id);
        }
        self.seats.insert(seat, Role::Consumer(id));
        self.answers.push(Answer::Opened(seat));
        Ok(())
    }

    /// What a consumer wants: topics and the labels that their messages have for it.
    fn wanted_topics(&mut self, consuming: &Consuming) -> Result<WantedTopics, Refusal> {
        let (given, wanted) = match &consuming.topics {
            Wanted::One(name) => return Ok((self.expand(name), None)),
            Wanted::Several(names) => (names.clone(), None),
            Wanted::Matching { namespace, .. } if namespace.starts_with(Domain::NonPersistent.word()) => {
                return Err(refusal(Cause::Invalid, "a pattern is of persistent topics"));
            }
            Wanted::Matching { namespace, pattern } => {
                let mut names = self.matching_names(namespace, pattern)?;
                if let Some(rights) = &consuming.rights {
                    names.retain(|name| rights.allow(Right::Consume, name));
                }
                (names, Some((namespace.clone(), pattern.clone())))
            }
        };
        let (mut names, mut known) = (Vec::new(), std::collections::BTreeSet::new());
        for name in given.iter().flat_map(|name| self.expand(name)).map(|(name, _)| name) {
            if known.insert(name.clone()) {
                names.push(name);
            }
            if names.len() > SOURCES_MAX {
                return Err(refusal(Cause::TooMany, "there are too many topics for one consumer"));
            }
        }
        if names.is_empty() && wanted.is_none() {
            return Err(refusal(Cause::Invalid, "there is no topic to subscribe to"));
        }
        let labelled = names.into_iter().enumerate().map(|(at, name)| (name, Some(at as u32)));
        Ok((labelled.collect(), wanted))
    }

    fn matching_names(&mut self, namespace: &str, pattern: &regex::Regex) -> Result<Vec<TopicName>, Refusal> {
        let mut found = Vec::new();
        let mut after: Box<str> = "".into();
        loop {
            let names = self.archive.names(namespace, &after, NAMES_AT_ONCE)?;
            let read = names.iter().filter_map(|name| TopicName::read(name).ok());
            found.extend(read.filter(|name| self.matches(name, namespace, pattern)));
            match names.into_iter().next_back() {
                Some(last) => after = last,
                None => return Ok(found),
            }
        }
    }

    /// Whether a topic is among those of a pattern. A partition is as its topic is called.
    fn matches(&self, name: &TopicName, namespace: &str, pattern: &regex::Regex) -> bool {
        let base = name.as_str().rsplit_once("-partition-").map(|(base, _)| base);
        let is_partition = |base: &&str| {
            name.partition_number().is_some()
                && self.rules.partitioned.iter().any(|(known, _)| known.as_str() == *base)
        };
        let text = base.filter(is_partition).unwrap_or(name.as_str());
        name.as_str().starts_with(namespace) && pattern.is_match(text)
    }

    /// Topics that were just created get the consumers who wait for such names.
    pub(super) fn attach_created(&mut self) {
        for topic in std::mem::take(&mut self.created) {
            let Some(name) = self.topics.get(topic).map(|topic| topic.name.clone()) else { continue };
            // Whatever they wanted to begin with, all that there is came after them.
            for id in self.awaited.remove(name.as_str()).unwrap_or_default() {
                let _ = self.join(id, &name, name.partition_number(), From::Earliest);
            }
            for id in self.matching.clone() {
                let Some(consumer) = self.consumers.get(id) else { continue };
                let Some((namespace, pattern)) = &consumer.wanted else { continue };
                let is_new = consumer.sources.iter().all(|source| source.topic != topic);
                let may_be = is_new && consumer.sources.len() < SOURCES_MAX && consumer.may_have(&name);
                if may_be && self.matches(&name, namespace, pattern) {
                    let label = Some(consumer.sources.len() as u32);
                    // If another consumer is in the way, this one does without, as in Pulsar.
                    let _ = self.join(id, &name, label, From::Earliest);
                }
            }
        }
    }

    /// A consumer becomes one of a subscription, which is created if it is not there.
    fn join(
        &mut self,
        id: ConsumerId,
        name: &TopicName,
        label: Option<u32>,
        from: From,
    ) -> Result<(), Refusal> {
        let topic_id = self.open_topic(name)?;
        let consumer = &self.consumers[id];
        let (kind, durable, priority) = (consumer.kind, consumer.durable, consumer.priority);
        let sub_name: Arc<str> = consumer.subscription.as_ref().into();
        let is_reader = consumer.is_reader;
        let existing = self.topics[topic_id].subs.get(&sub_name).copied();
        let sub_id = match existing {
            Some(sub_id) => {
                self.check_member(sub_id, kind, durable).map_err(Hindrance::into_refusal)?;
                sub_id
            }
            None => self.create_sub(topic_id, sub_name, kind, durable, from)?,
        };
        self.enter_topic(topic_id);
        let sub = &mut self.subs[sub_id];
        sub.is_reader = is_reader;
        if sub.members.is_empty() && sub.state.kind != kind {
            sub.state.kind = kind;
            self.touch(sub_id);
        }
        let sub = &mut self.subs[sub_id];
        let active = sub.active();
        let at = sub.members.partition_point(|member| member.priority <= priority);
        let keys = std::collections::BTreeSet::new();
        sub.members.insert(at, Member { consumer: id, priority, label, is_blocked: false, keys });
        if kind == Kind::KeyShared {
            sub.assign_all();
        }
        if let Some(old) = active.filter(|_| at == 0) {
            self.take_back(sub_id, old);
            // It has room for what it gets from elsewhere.
            self.wake(old);
        }
        self.consumers[id].sources.push(Source { topic: topic_id, sub: sub_id });
        self.ready(sub_id);
        Ok(())
    }

    fn create_sub(
        &mut self,
        topic_id: TopicId,
        name: Arc<str>,
        kind: Kind,
        durable: bool,
        from: From,
    ) -> Result<SubId, Refusal> {
        self.check_subscriptions(topic_id)?;
        if let Some(reason) = self.broken.as_ref().filter(|_| durable) {
            return Err(refusal(Cause::Broken, reason));
        }
        let read = match from {
            From::Earliest => self.place_of(topic_id, Position::FIRST)?,
            From::Latest => self.topics[topic_id].state.next,
            From::At(position) => self.place_of(topic_id, position)?,
        };
        let by_index = matches!(kind, Kind::Shared | Kind::KeyShared);
        let delayed = match from {
            // Whatever comes from now on is later than now.
            From::Latest => (self.now.unix_ms, Position::END),
            _ => (0, Position::FIRST),
        };
        let state = SubscriptionState { kind, by_index, start: read.position, read, skipped: 0, delayed };
        let id = self.insert_sub(Subscription::new(topic_id, name, durable, state));
        if durable {
            if let Err(fault) = self.save_sub(id) {
                self.delete_sub(id);
                return Err(fault.into());
            }
            self.is_uncommitted = true;
        }
        Ok(id)
    }

    /// The place of the first message at a position or after it.
    pub(super) fn place_of(&mut self, id: TopicId, position: Position) -> Result<Place, Fault> {
        let Self { topics, archive, cache, .. } = self;
        let topic = &mut topics[id];
        let found = topic.at(id, position, archive, cache)?;
        // Without one it is the end of what may be delivered: what is still to be committed comes after it.
        Ok(found.map_or(topic.visible, |message| Place {
            position: message.position,
            ordinal: message.ordinal(),
            bytes: message.bytes_before(),
        }))
    }

    /// A connection wants to read.
    pub(super) fn read(&mut self, seat: Seat, reading: Reading) {
        self.serial += 1;
        let subscription = format!("reader-{:010x}", self.serial).into();
        if reading.topic.domain() == Domain::NonPersistent {
            return self.open_transient_reader(seat, reading);
        }
        let names = self.expand(&reading.topic);
        let start = reading.start;
        let id = self.consumers.insert(Consumer::reader(seat, reading, subscription));
        let mut awaits = Vec::new();
        for (name, label) in names {
            let from = match start {
                Start::Earliest => From::Earliest,
                Start::Latest => From::Latest,
                Start::After(id) if id.partition == label || id.partition.is_none() => {
                    From::At(id.position.after())
                }
                // Of the other partitions nothing has been read.
                Start::After(_) => From::Earliest,
            };
            // A reader keeps nothing, and so it creates nothing: it waits for a topic that is not there.
            let joined = match self.find_topic(&name) {
                Ok(Some(_)) => self.join(id, &name, label, from),
                Ok(None) => {
                    awaits.push(name);
                    Ok(())
                }
                Err(fault) => Err(fault.into()),
            };
            if let Err(refusal) = joined {
                self.close_consumer(id);
                return self.refuse(seat, refusal);
            }
        }
        self.await_topics(id, awaits);
        self.seats.insert(seat, Role::Consumer(id));
        self.answers.push(Answer::Opened(seat));
    }

    /// A connection is over.
    pub(super) fn leave(&mut self, seat: Seat) {
        match self.seats.remove(&seat) {
            Some(Role::Producer(id)) => self.close_producer(id),
            Some(Role::Consumer(id)) => self.close_consumer(id),
            Some(Role::Transient(id)) => self.close_transient(id),
            Some(Role::Waiting(_)) | None => {}
        }
        self.succeed(seat);
    }

    /// A consumer is over: what it has comes again, at once and in order.
    pub(super) fn close_consumer(&mut self, id: ConsumerId) {
        self.await_none(id);
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        for source in std::mem::take(&mut consumer.sources) {
            self.part(id, source);
        }
        self.consumers.try_remove(id);
        self.matching.retain(|matching| *matching != id);
    }

    /// A consumer is none of a subscription any more.
    pub(super) fn part(&mut self, id: ConsumerId, source: Source) {
        if let Some(sub) = self.subs.get_mut(source.sub) {
            sub.members.retain(|member| member.consumer != id);
            let is_last = sub.members.is_empty();
            self.take_back(source.sub, id);
            let Some(sub) = self.subs.get_mut(source.sub) else { return };
            if is_last {
                sub.due.clear();
                for pending in sub.pending.values_mut().filter(|pending| pending.state != State::Dying) {
                    pending.redeliveries = 0;
                }
                if !sub.durable {
                    self.delete_sub(source.sub);
                }
            } else {
                if sub.state.kind == Kind::KeyShared {
                    sub.assign_all();
                }
                self.ready(source.sub);
            }
        }
        self.leave_topic(source.topic);
    }

    /// Takes everything that a consumer has of a subscription back, to be delivered again at once.
    fn take_back(&mut self, id: SubId, consumer: ConsumerId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let mut freed = 0;
        let is_empty = sub.members.is_empty();
        let keyed = sub.state.kind == Kind::KeyShared;
        for (position, pending) in &mut sub.pending {
            let its = pending.holder as usize == consumer;
            let goes = match pending.state {
                State::Held | State::Resting => its,
                // Nobody is left whose keys these could be.
                State::Waiting => is_empty && keyed,
                State::Dying => false,
            };
            if !goes {
                continue;
            }
            match pending.state {
                State::Held => {
                    freed += 1;
                    if keyed {
                        sub.keys.release(pending.key);
                    }
                }
                State::Waiting => sub.keys.unwait(pending.key, *position),
                _ => {}
            }
            if pending.due_ns > 0 {
                self.timers.remove(&(pending.due_ns, Timer::Pending(id, *position)));
                pending.due_ns = 0;
            }
            pending.state = State::Waiting;
            sub.replay.insert(*position);
        }
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.free(freed);
        }
    }

    /// A subscription is no more.
    pub(super) fn delete_sub(&mut self, id: SubId) {
        let Some(mut sub) = self.subs.try_remove(id) else { return };
        sub.sleep(id, &mut self.timers);
        for (position, pending) in sub.pending.iter().filter(|(_, pending)| pending.due_ns > 0) {
            self.timers.remove(&(pending.due_ns, Timer::Pending(id, *position)));
        }
        if let Some(topic) = self.topics.get_mut(sub.topic) {
            topic.subs.remove(&sub.name);
            if topic.tail_waiters.len() > 2 * topic.subs.len() + 64 {
                // Of those that come and go where nothing is published.
                topic.tail_waiters.sort_unstable();
                topic.tail_waiters.dedup();
                let subs = &self.subs;
                let waits = |id: &SubId| {
                    subs.get(*id).is_some_and(|waiter| waiter.topic == sub.topic && waiter.is_at_tail)
                };
                topic.tail_waiters.retain(waits);
            }
        }
    }

    /// Deletes a subscription for good.
    pub(super) fn erase_sub(&mut self, id: SubId) -> Result<(), Fault> {
        let Some(sub) = self.subs.get(id) else { return Ok(()) };
        if sub.durable {
            self.archive.save(self.topics[sub.topic].number, Saved::NoSubscription(&sub.name))?;
            self.is_uncommitted = true;
        }
        let topic = sub.topic;
        self.delete_sub(id);
        self.arm_tend(topic);
        Ok(())
    }

    /// The reply to whoever asks whether there will be more.
    pub(super) fn end_of_topic(&self, consumer: ConsumerId) -> Reply {
        let is_over = |source: &Source| {
            let (Some(topic), Some(sub)) = (self.topics.get(source.topic), self.subs.get(source.sub)) else {
                return true;
            };
            topic.state.terminated && sub.backlog(&topic.state.next) == 0
        };
        let consumer = self.consumers.get(consumer);
        Reply::EndOfTopic(consumer.is_some_and(|it| !it.sources.is_empty() && it.sources.iter().all(is_over)))
    }
}

/// Topics with labels, and what others have to match that are created later.
type WantedTopics = (Vec<(TopicName, Option<u32>)>, Option<(Box<str>, regex::Regex)>);
