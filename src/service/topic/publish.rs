//! How messages get into topics.

use super::commits::PendingAnswer;
use super::handles::{ProducerId, TopicId};
use super::maintenance::TEND_BYTES;
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::probe::Hindrance;
use super::producer::Sequence;
use super::{
    Archive, ArchiveError, Cause, Hashing, MessageDraft, MessageId, Position, Saved, StoredMessage,
    TopicAnswer, TopicDomain, TopicName, routing,
};
use crate::service::ConnectionRef;
use std::sync::Arc;

/// Producers of one topic whose last sequence numbers are remembered. Names are meant to be kept; a producer that
/// makes a new one for every start has the oldest forgotten.
const SEQUENCES_MAX: usize = 10_000;

/// How long a message may take from its shard to its topic. If it took longer, the clock of the world has gone back,
/// and its time of delivery is as far behind.
const CLOCK_SLACK_MS: u64 = 1000;

/// The connection to answer when a message is stored.
struct SendRoute {
    connection: ConnectionRef,
    context: Option<Box<str>>,
    label: Option<u32>,
    producer: Option<ProducerId>,
}

impl<A: Archive> TopicOwner<A> {
    /// Finds what is in the way of a producer of a topic.
    pub(super) fn check_producer(&mut self, id: TopicId, name: &str) -> Result<(), Hindrance> {
        let topic = &self.loaded.topics[id];
        if let Some(holder) = topic.producers.get(name).and_then(|id| self.peers.producers.get(*id))
        {
            return Err(Hindrance::same_name(holder.connection, name));
        }
        if topic.state.terminated {
            return Err(Cause::Terminated.because("Topic was already terminated").into());
        }
        match self.over_quota(id) {
            Some(reason) => Err(Cause::Quota.because(&reason).into()),
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
        let Some(producer) = self.peers.producers.try_remove(id) else { return };
        for (topic, _) in producer.targets {
            if let Some(loaded) = self.loaded.topics.get_mut(topic) {
                loaded.remove_producer(&producer.name);
                self.leave_topic(topic);
            }
        }
    }

    /// A message of a producer.
    pub(super) fn send(
        &mut self,
        connection: ConnectionRef,
        draft: MessageDraft,
        context: Option<Box<str>>,
    ) {
        let mut route = SendRoute { connection, context, label: None, producer: None };
        let role = self.peers.roles.get(&connection).copied();
        let Some((id, producer)) = role.and_then(|role| match role {
            ConnectionRole::Producer(id) => Some((id, self.peers.producers.get_mut(id)?)),
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
    pub(super) fn append(
        &mut self,
        connection: ConnectionRef,
        name: &TopicName,
        draft: MessageDraft,
    ) {
        let mut route = SendRoute { connection, context: None, label: None, producer: None };
        if name.domain() == TopicDomain::NonPersistent {
            return self.not_stored(route, "the topic is not persistent".into());
        }
        if let Err(refusal) = self.catalog.check_partition(name) {
            return self.not_stored(route, refusal.reason);
        }
        let targets = self.catalog.expand(name);
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
                if let Some(producer) =
                    route.producer.and_then(|id| self.peers.producers.get_mut(id))
                {
                    producer.published += 1;
                }
                let (connection, context, since_ns) =
                    (route.connection, route.context, self.now.monotonic_ns);
                let id_told = MessageId { position, partition: route.label };
                let namespace = self.loaded.topics[id].namespace;
                self.commits.answers.push(PendingAnswer::Stored {
                    connection,
                    id: id_told,
                    context,
                    namespace,
                    since_ns,
                });
            }
            Err(reason) => {
                self.counters.failed(self.loaded.topics[id].namespace);
                self.not_stored(route, reason);
            }
        }
    }

    fn not_stored(&mut self, route: SendRoute, reason: Box<str>) {
        let answer = TopicAnswer::NotStored { reason, context: route.context };
        self.commits.answers.push(PendingAnswer::Certain(route.connection, answer));
    }

    /// Appends a message, unless it was already. Returns where it stands.
    pub(super) fn store(&mut self, id: TopicId, draft: MessageDraft) -> Result<Position, Box<str>> {
        if let Some(reason) = &self.commits.broken {
            return Err(reason.clone());
        }
        if self.loaded.topics[id].is_gone {
            return Err("the topic was deleted".into());
        }
        if self.loaded.topics[id].state.terminated {
            return Err("Topic was already terminated".into());
        }
        if let Some((producer, sequence)) = draft.head().number() {
            let topic = &self.loaded.topics[id];
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

    fn write(
        &mut self,
        id: TopicId,
        draft: MessageDraft,
    ) -> Result<Arc<StoredMessage>, ArchiveError> {
        let topic = &mut self.loaded.topics[id];
        let next = topic.state.next;
        let message = Arc::new(draft.store(next.position, next.ordinal, next.bytes));
        // Even if something goes wrong now, nothing else gets the position.
        topic.state.next.position = next.position.after();
        let wanted_ms = message.deliver_ms().filter(|_| message.was_delayed());
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
                let Some(sub) = self.loaded.subs.get_mut(sub_id) else { continue };
                if sub.state.by_index && deliver_ms < sub.due_ms {
                    sub.due_ms = deliver_ms;
                    sub.wake_at(
                        sub_id,
                        self.now.monotonic_ns.saturating_add(after_ns),
                        &mut self.loaded.timers,
                    );
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
            self.commits.appended.push(id);
        }
        self.commits.is_uncommitted = true;
        let is_much = topic.untended_bytes >= TEND_BYTES;
        self.loaded.cache.keep(id, topic, Arc::clone(&message));
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
        let topic = &mut self.loaded.topics[id];
        let sequence = Sequence::of(last, position, self.serial);
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
