//! Producers, and how their messages get into topics.

use super::loaded::{LoadedTopic, TopicId};
use super::maintenance::TEND_BYTES;
use super::owner::{ConnectionRole, PendingAnswer, TopicOwner, refusal};
use super::probe::Hindrance;
use super::{
    Archive, ArchiveError, Cause, Hashing, MessageDraft, MessageId, Position, ProducerOptions, Saved,
    StoredMessage, TopicAnswer, TopicDomain, TopicName, TopicQuestion, routing,
};
use crate::service::ConnectionRef;
use std::sync::Arc;

/// A producer among all; given again when it is gone.
pub(super) type ProducerId = usize;

/// Producers of one topic whose last sequence numbers are remembered. Names are meant to be kept; whoever makes a new
/// one for every start has the oldest forgotten.
const SEQUENCES_MAX: usize = 10_000;

/// How long a message may take from its shard to its topic. If it took longer, the clock of the world has gone back,
/// and its time of delivery is as far behind.
const CLOCK_SLACK_MS: u64 = 1000;

/// A producer.
#[derive(Debug)]
pub(super) struct TopicProducer {
    pub(super) connection: ConnectionRef,
    pub(super) name: Box<str>,
    pub(super) remote: Box<str>,
    /// Where its messages go, with the partition in their ids.
    pub(super) targets: Vec<(TopicId, Option<u32>)>,
    /// Messages that were stored for it.
    pub(super) published: u64,
    round_robin: bool,
    hashing: Hashing,
    /// The partition for messages without a key, or the next one.
    turn: usize,
}

/// What is remembered of a producer's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// The last one.
    pub(super) last: i64,
    /// Which message had it, if that is known.
    id: Option<Position>,
    /// When it was used, as a serial number.
    used: u64,
    /// Whether it is saved.
    is_saved: bool,
}

/// Who is answered when a message is stored.
pub(super) struct SendRoute {
    pub(super) connection: ConnectionRef,
    pub(super) context: Option<Box<str>>,
    pub(super) label: Option<u32>,
    pub(super) producer: Option<ProducerId>,
}

impl Sequence {
    /// A number that was saved earlier.
    pub(super) fn saved(last: i64) -> Self {
        Self { last, id: None, used: 0, is_saved: true }
    }
}

impl<A: Archive> TopicOwner<A> {
    /// A connection wants to produce.
    pub(super) fn produce(&mut self, connection: ConnectionRef, producing: ProducerOptions) {
        let done = match producing.topic.domain() {
            TopicDomain::Persistent => self.open_producer(connection, &producing),
            TopicDomain::NonPersistent => self.open_transient_producer(connection, &producing),
        };
        match done {
            Ok(()) => self.reply(connection, TopicAnswer::Opened),
            Err(hindrance) => self.hinder(connection, hindrance, TopicQuestion::Produce(Box::new(producing))),
        }
    }

    fn open_producer(
        &mut self,
        connection: ConnectionRef,
        producing: &ProducerOptions,
    ) -> Result<(), Hindrance> {
        let is_named = producing.name.is_some();
        let name = producing.name.clone().unwrap_or_else(|| self.generated_name());
        let names = self.expand(&producing.topic);
        // Before anything is created, so that who is refused leaves nothing behind.
        self.check_producing(producing, &name)?;
        let mut targets = Vec::with_capacity(names.len());
        for (topic, label) in names {
            targets.push((self.open_topic(&topic)?, label));
        }
        self.serial += 1;
        // Who comes again under its name goes on with the same partition, so that repeated messages are recognized.
        let turn = if is_named { routing::murmur3(name.as_bytes()) as usize } else { self.serial as usize };
        let id = self.producers.insert(TopicProducer {
            connection,
            name: name.clone(),
            remote: producing.remote.clone(),
            targets: targets.clone(),
            published: 0,
            round_robin: producing.round_robin,
            hashing: producing.hashing,
            turn,
        });
        for (topic, _) in targets {
            self.enter_topic(topic);
            let topic = &mut self.topics[topic];
            topic.producers.insert(name.clone(), id);
            if let Some(last) = producing.initial_sequence.filter(|_| is_named) {
                let first = Sequence { last, id: None, used: self.serial, is_saved: false };
                topic.sequences.entry(name.clone()).or_insert(first);
            }
        }
        self.connections.insert(connection, ConnectionRole::Producer(id));
        Ok(())
    }

    /// Finds what is in the way of a producer of all of its topics.
    fn check_producing(&mut self, producing: &ProducerOptions, name: &str) -> Result<(), Hindrance> {
        // One that is left of a larger number is there, and takes nothing more.
        self.check_partition(&producing.topic)?;
        let mut new = 0;
        for (topic, _) in self.expand(&producing.topic) {
            match self.find_topic(&topic)? {
                Some(id) => self.check_producer(id, name)?,
                None => new += 1,
            }
        }
        Ok(self.check_room(new)?)
    }

    /// Finds what is in the way of a producer of a topic.
    pub(super) fn check_producer(&mut self, id: TopicId, name: &str) -> Result<(), Hindrance> {
        let topic = &self.topics[id];
        if let Some(holder) = topic.producers.get(name).and_then(|id| self.producers.get(*id)) {
            let reason = format!("Producer with name '{name}' is already connected to topic");
            return Err(Hindrance::busy(holder.connection, &reason));
        }
        if topic.state.terminated {
            return Err(refusal(Cause::Terminated, "Topic was already terminated").into());
        }
        match self.over_quota(id) {
            Some(reason) => Err(refusal(Cause::Quota, &reason).into()),
            None => Ok(()),
        }
    }

    /// A name for a producer that has none; no other run of the daemon gives it.
    pub(super) fn generated_name(&mut self) -> Box<str> {
        self.serial += 1;
        format!("fanfare-{}-{}", self.archive.ledger(), self.serial).into()
    }

    /// A producer is over.
    pub(super) fn close_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.try_remove(id) else { return };
        for (topic, _) in producer.targets {
            if let Some(loaded) = self.topics.get_mut(topic) {
                loaded.producers.remove(&producer.name);
                // A number with which nothing was sent is told again by whoever comes again.
                if loaded.sequences.get(&producer.name).is_some_and(|sequence| !sequence.is_saved) {
                    loaded.sequences.remove(&producer.name);
                }
                self.leave_topic(topic);
            }
        }
    }

    /// A message of a producer.
    pub(super) fn send(&mut self, connection: ConnectionRef, draft: MessageDraft, context: Option<Box<str>>) {
        let mut route = SendRoute { connection, context, label: None, producer: None };
        let role = self.connections.get(&connection).copied();
        let Some((id, producer)) = role.and_then(|role| match role {
            ConnectionRole::Producer(id) => Some((id, self.producers.get_mut(id)?)),
            _ => None,
        }) else {
            return self.not_stored(route, "the connection is no producer".into());
        };
        let Some((topic, label)) = producer.choose(&draft) else {
            return self.not_stored(route, "there is no topic for the message".into());
        };
        (route.label, route.producer) = (label, Some(id));
        self.append_to(route, topic, draft);
    }

    /// A message for a topic that may not even be there yet.
    pub(super) fn append(&mut self, mut route: SendRoute, name: &TopicName, draft: MessageDraft) {
        if name.domain() == TopicDomain::NonPersistent {
            return self.not_stored(route, "the topic is not persistent".into());
        }
        if let Err(refusal) = self.check_partition(name) {
            return self.not_stored(route, refusal.reason);
        }
        let targets = self.expand(name);
        self.serial += 1;
        let at = match draft.head().key.filter(|_| targets.len() > 1) {
            Some(key) => routing::partition(key, Hashing::Java, targets.len() as u32) as usize,
            None => self.serial as usize % targets.len().max(1),
        };
        let Some((name, label)) = targets.get(at) else {
            return self.not_stored(route, "there is no topic for the message".into());
        };
        route.label = *label;
        match self.open_topic(name) {
            Ok(topic) => self.append_to(route, topic, draft),
            Err(refusal) => self.not_stored(route, refusal.reason),
        }
    }

    /// A message for a topic; its answer waits for the commit.
    fn append_to(&mut self, route: SendRoute, id: TopicId, draft: MessageDraft) {
        match self.store(id, draft) {
            Ok(position) => {
                if let Some(producer) = route.producer.and_then(|id| self.producers.get_mut(id)) {
                    producer.published += 1;
                }
                let (connection, context, since_ns) =
                    (route.connection, route.context, self.now.monotonic_ns);
                let id_told = MessageId { position, partition: route.label };
                let namespace = self.topics[id].namespace;
                self.answers.push(PendingAnswer::Stored {
                    connection,
                    id: id_told,
                    context,
                    namespace,
                    since_ns,
                });
            }
            Err(reason) => {
                self.counters.failed(self.topics[id].namespace);
                self.not_stored(route, reason);
            }
        }
    }

    fn not_stored(&mut self, route: SendRoute, reason: Box<str>) {
        self.answers.push(PendingAnswer::NotStored {
            connection: route.connection,
            reason,
            context: route.context,
        });
    }

    /// Appends a message, unless it was already. Returns where it stands.
    pub(super) fn store(&mut self, id: TopicId, draft: MessageDraft) -> Result<Position, Box<str>> {
        if let Some(reason) = &self.broken {
            return Err(reason.clone());
        }
        if self.topics[id].is_gone {
            return Err("the topic was deleted".into());
        }
        if self.topics[id].state.terminated {
            return Err("Topic was already terminated".into());
        }
        if let Some((producer, sequence)) = draft.head().number() {
            let topic = &self.topics[id];
            let last = topic.sequences.get(producer).filter(|last| sequence <= last.last);
            if let Some(last) = last {
                let known = last.id.filter(|_| sequence == last.last);
                return Ok(known.or(last.id).or(topic.last).unwrap_or_default());
            }
        }
        if let Some(reason) = self.over_quota(id) {
            return Err(reason);
        }
        let message = self.write(id, draft).map_err(|fault| fault.0)?;
        if let Some((producer, sequence)) = message.head().number() {
            self.remember(id, producer, sequence, message.position).map_err(|fault| fault.0)?;
        }
        Ok(message.position)
    }

    fn write(&mut self, id: TopicId, draft: MessageDraft) -> Result<Arc<StoredMessage>, ArchiveError> {
        let topic = &mut self.topics[id];
        let next = topic.state.next;
        let message = Arc::new(draft.store(next.position, next.ordinal, next.bytes));
        // Even if something goes wrong now, nothing else gets the position.
        topic.state.next.position = next.position.after();
        let wanted_ms = message.deliver_ms().filter(|_| super::dispatch::was_delayed(&message));
        let deliver_ms = wanted_ms.map(|wanted_ms| {
            // What is in the index is later than everything that was taken from it.
            let ahead_ms = self.now.unix_ms.saturating_sub(message.published_ms());
            let ahead_ms = if ahead_ms > CLOCK_SLACK_MS { ahead_ms } else { 0 };
            wanted_ms.saturating_add(ahead_ms).max(self.now.unix_ms + 1)
        });
        self.archive.append(topic.number, &message, deliver_ms)?;
        if let Some(deliver_ms) = deliver_ms {
            let after_ns = self.now.ns_until(deliver_ms);
            for sub in topic.subs.values() {
                let sub_id = *sub;
                let Some(sub) = self.subs.get_mut(sub_id) else { continue };
                if sub.state.by_index && deliver_ms < sub.due_ms {
                    sub.due_ms = deliver_ms;
                    sub.wake_at(sub_id, self.now.monotonic_ns.saturating_add(after_ns), &mut self.timers);
                }
            }
        }
        topic.extend(&message);
        topic.used_ns = self.now.monotonic_ns;
        topic.state.used_ms = 0;
        topic.untended_bytes += message.len() as u64;
        topic.published.0 += 1;
        topic.published.1 += message.len() as u64;
        self.counters.published(topic.namespace, message.len());
        if !topic.is_appended {
            topic.is_appended = true;
            self.appended.push(id);
        }
        self.is_uncommitted = true;
        let is_much = topic.untended_bytes >= TEND_BYTES;
        self.cache.keep(id, topic, Arc::clone(&message));
        if is_much {
            self.hurry(id);
        } else {
            self.arm_tend(id);
        }
        Ok(message)
    }

    /// Saves a producer's number beside its message.
    fn remember(
        &mut self,
        id: TopicId,
        name: &str,
        last: i64,
        position: Position,
    ) -> Result<(), ArchiveError> {
        self.serial += 1;
        let topic = &mut self.topics[id];
        let sequence = Sequence { last, id: Some(position), used: self.serial, is_saved: true };
        let is_new = match topic.sequences.get_mut(name) {
            Some(known) => {
                *known = sequence;
                false
            }
            None => topic.sequences.insert(name.into(), sequence).is_none(),
        };
        self.archive.save(topic.number, Saved::Sequence(name, last))?;
        if is_new && topic.sequences.len() > SEQUENCES_MAX {
            // A tenth at once, so that the search is rare.
            let mut used: Vec<(u64, Box<str>)> = topic
                .sequences
                .iter()
                .filter(|(name, _)| !topic.producers.contains_key(*name))
                .map(|(name, sequence)| (sequence.used, name.clone()))
                .collect();
            used.sort();
            for (_, name) in used.into_iter().take(SEQUENCES_MAX / 10) {
                if topic.sequences.remove(&name).is_some_and(|sequence| sequence.is_saved) {
                    self.archive.save(topic.number, Saved::NoSequence(&name))?;
                }
            }
        }
        Ok(())
    }
}

impl LoadedTopic {
    /// The last message tells the number of its producer, whether or not that was saved.
    pub(super) fn know_last(&mut self, stored: &StoredMessage) {
        let Some((producer, last)) = stored.head().number() else { return };
        if self.sequences.get(producer).is_none_or(|known| known.last <= last) {
            let known = Sequence { last, id: Some(stored.position), used: 0, is_saved: true };
            self.sequences.insert(producer.into(), known);
        }
    }
}

impl TopicProducer {
    /// Where a message goes.
    fn choose(&mut self, draft: &MessageDraft) -> Option<(TopicId, Option<u32>)> {
        let count = self.targets.len();
        if count <= 1 {
            return self.targets.first().copied();
        }
        let head = draft.head();
        let at = match (head.key, head.sequence) {
            (Some(key), _) => routing::partition(key, self.hashing, count as u32) as usize,
            // A repeated message goes where it went before.
            (None, Some(sequence)) if self.round_robin && head.producer.is_some() => {
                sequence.rem_euclid(count as i64) as usize
            }
            (None, _) => {
                self.turn = self.turn.wrapping_add(self.round_robin.into());
                self.turn % count
            }
        };
        self.targets.get(at).copied()
    }
}
