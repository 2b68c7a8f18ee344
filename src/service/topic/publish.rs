//! Publishing: how messages are appended to topics.

use super::commits::PendingAnswer;
use super::handles::{Label, ProducerId, TopicId};
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

/// Limit on the producers of one topic whose sequence numbers are remembered. Producers are meant
/// to keep their names; with one that makes up a new name for every start, the oldest are
/// forgotten.
const SEQUENCES_MAX: usize = 10_000;

/// Longest time a message takes from its shard to its topic. If it seems to have taken longer, the
/// wall clock has gone back, and its delivery time is behind by the same amount.
const CLOCK_SLACK_MS: u64 = 1000;

impl<A: Archive> TopicOwner<A> {
    /// Finds obstacles to a producer of a topic.
    pub(super) fn check_producer(&mut self, id: TopicId, name: &str) -> Result<(), Hindrance> {
        let topic = &self.loaded.topics[id];
        if let Some(holder) = topic.producers.get(name).and_then(|id| self.peers.producers.get(*id))
        {
            return Err(Hindrance::same_name(holder.connection, name));
        }
        // Refused now rather than with its first message.
        if topic.state.terminated {
            return Err(Cause::Terminated.because("Topic was already terminated").into());
        }
        match self.over_quota(id) {
            Some(reason) => Err(Cause::Quota.because(&reason).into()),
            None => Ok(()),
        }
    }

    /// A name for a producer without one, unique across runs of the daemon.
    pub(super) fn generated_name(&mut self) -> Box<str> {
        self.serial += 1;
        format!("fanfare-{}-{}", self.archive.ledger(), self.serial).into()
    }

    /// Closes a producer whose connection is gone.
    pub(super) fn close_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.peers.producers.try_remove(id) else { return };
        for (topic, _) in producer.targets {
            if let Some(loaded) = self.loaded.topics.get_mut(topic) {
                loaded.remove_producer(&producer.name);
                self.leave_topic(topic);
            }
        }
    }

    /// Handles a message from a producer.
    pub(super) fn send(
        &mut self,
        connection: ConnectionRef,
        draft: MessageDraft,
        context: Option<Box<str>>,
    ) {
        let Some(ConnectionRole::Producer(id)) = self.peers.roles.get(&connection).copied() else {
            return self.not_stored(connection, context, "the connection is not a producer".into());
        };
        let target = self.peers.producers.get_mut(id).and_then(|producer| producer.choose(&draft));
        let Some((topic, label)) = target else {
            return self.not_stored(
                connection,
                context,
                "there is no topic for the message".into(),
            );
        };
        if self.append_to(topic, label, connection, context, draft)
            && let Some(producer) = self.peers.producers.get_mut(id)
        {
            producer.published += 1;
        }
    }

    /// Handles a message for a topic that may not exist yet.
    pub(super) fn append(
        &mut self,
        connection: ConnectionRef,
        name: &TopicName,
        draft: MessageDraft,
    ) {
        match self.target_of(name, &draft) {
            Ok((topic, label)) => drop(self.append_to(topic, label, connection, None, draft)),
            Err(reason) => self.not_stored(connection, None, reason),
        }
    }

    /// The destination of a message for a topic: one of its partitions, if it has some. The topic
    /// is created if necessary.
    fn target_of(
        &mut self,
        name: &TopicName,
        draft: &MessageDraft,
    ) -> Result<(TopicId, Label), Box<str>> {
        if name.domain() == TopicDomain::NonPersistent {
            return Err("the topic is not persistent".into());
        }
        self.catalog.check_partition(name).map_err(|refusal| refusal.reason)?;
        let targets = self.catalog.expand(name);
        self.serial += 1;
        let at = match draft.head().key.filter(|_| targets.len() > 1) {
            Some(key) => routing::partition(key, Hashing::Java, targets.len() as u32) as usize,
            None => self.serial as usize % targets.len().max(1),
        };
        let (name, label) = targets.get(at).ok_or("there is no topic for the message")?;
        let topic = self.open_topic(name).map_err(|refusal| refusal.reason)?;
        Ok((topic, *label))
    }

    /// Appends a message to a topic, to be answered after the commit. Returns whether it was
    /// appended.
    fn append_to(
        &mut self,
        topic: TopicId,
        partition: Label,
        connection: ConnectionRef,
        context: Option<Box<str>>,
        draft: MessageDraft,
    ) -> bool {
        let stored = self.store(topic, draft);
        let namespace = self.loaded.topics[topic].namespace;
        match stored {
            Ok(position) => {
                let (id, since_ns) = (MessageId { position, partition }, self.now.monotonic_ns);
                let answer = PendingAnswer::Stored { connection, id, context, namespace, since_ns };
                self.commits.answers.push(answer);
                true
            }
            Err(reason) => {
                self.counters.failed(namespace);
                self.not_stored(connection, context, reason);
                false
            }
        }
    }

    /// Answers that a message is not stored, in its turn after the answers to earlier messages.
    fn not_stored(
        &mut self,
        connection: ConnectionRef,
        context: Option<Box<str>>,
        reason: Box<str>,
    ) {
        let answer = TopicAnswer::NotStored { reason, context };
        self.commits.answers.push(PendingAnswer::Certain(connection, answer));
    }

    /// Appends a message, unless it is a duplicate. Returns its position, or that of the original.
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
        // A message sent again is confirmed as before and not stored twice.
        if let Some((producer, sequence)) = draft.head().number() {
            let topic = &self.loaded.topics[id];
            let last = topic.sequences.get(producer).filter(|last| sequence <= last.last);
            if let Some(last) = last {
                let known = last.id.filter(|_| sequence == last.last);
                return Ok(known.or(last.id).or(topic.last).unwrap_or_default());
            }
        }
        // After the check for duplicates, which take no room.
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
        // Even if the append fails, the position is never reused.
        topic.state.next.position = next.position.after();
        let wanted_ms = message.deliver_ms().filter(|_| message.was_delayed());
        let deliver_ms = wanted_ms.map(|wanted_ms| {
            // Entries of the index must be later than all that were taken from it.
            let ahead_ms = self.now.unix_ms.saturating_sub(message.published_ms());
            let ahead_ms = if ahead_ms > CLOCK_SLACK_MS { ahead_ms } else { 0 };
            wanted_ms.saturating_add(ahead_ms).max(self.now.unix_ms + 1)
        });
        // Before any count changes: a failed append leaves nothing but an unused position.
        self.archive.append(topic.number, &message, deliver_ms)?;
        if let Some(deliver_ms) = deliver_ms {
            let after_ns = self.now.ns_until(deliver_ms);
            for sub in topic.subs.values() {
                let sub_id = *sub;
                let Some(sub) = self.loaded.subs.get_mut(sub_id) else { continue };
                // The timer moves only for a message due before all others.
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
            // One entry for all messages of a topic until the next commit.
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

    /// Saves a producer's sequence number along with its message.
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
