//! Acknowledgements, negative acknowledgements and timeouts: whether a message is redelivered
//! (`send_back`) or goes to the dead-letter topic (`bury`).

use super::handles::{ConsumerId, Label, SubId, TopicId};
use super::maintenance::TEND_BYTES;
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::pending::PendingState;
use super::source::ConsumerSource;
use super::timers::Timer;
use super::{
    Archive, MessageDraft, MessageId, OwnerIndex, Position, TopicAnswer, TopicDomain, TopicMessage,
    TopicName, TopicOutgoing, TopicQuestion,
};
use crate::service::ConnectionRef;

/// The property of a dead letter with the name of its original topic.
const REAL_TOPIC: &str = "REAL_TOPIC";
/// The property of a dead letter with its original message id.
const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
impl<A: Archive> TopicOwner<A> {
    /// Handles a request of a consumer or reader; other connections cannot make these.
    pub(super) fn take_of_consumer(&mut self, connection: ConnectionRef, request: &TopicQuestion) {
        let Some(ConnectionRole::Consumer(id)) = self.peers.roles.get(&connection).copied() else {
            match request {
                TopicQuestion::AskEnd => self.reply(connection, TopicAnswer::EndOfTopic(false)),
                TopicQuestion::Unsubscribe => self.unsubscribe_transient(connection),
                _ => {}
            }
            return;
        };
        match request {
            TopicQuestion::Ack(message) => self.ack(id, *message),
            TopicQuestion::Nack(message) => self.nack(id, *message),
            TopicQuestion::Permit(count) => {
                if let Some(consumer) = self.peers.consumers.get_mut(id) {
                    consumer.permit(*count);
                }
                self.wake(id);
            }
            TopicQuestion::Turn => self.take_turn(id),
            TopicQuestion::Took => {
                if let Some(consumer) = self.peers.consumers.get_mut(id) {
                    consumer.took();
                }
                self.wake(id);
            }
            TopicQuestion::AskEnd => {
                let reply = self.end_of_topic(id);
                self.reply(connection, reply);
            }
            TopicQuestion::Unsubscribe => self.unsubscribe(connection, id),
            _ => {}
        }
    }

    /// Ends the subscription of a consumer of non-persistent topics. Refused while others share the
    /// subscription: they would lack its share of the messages.
    fn unsubscribe_transient(&mut self, connection: ConnectionRef) {
        let Some(ConnectionRole::Transient(id)) = self.peers.roles.get(&connection).copied() else {
            return;
        };
        // Its share would be lost to the others until they learn their new ones.
        if self.peers.transient.is_shared(id) {
            return self.reply(connection, TopicAnswer::StillSubscribed);
        }
        self.leave(connection);
    }

    /// Handles an acknowledgement, valid or not: either way one more message fits into the
    /// consumer's window.
    fn ack(&mut self, id: ConsumerId, message: MessageId) {
        let Some(consumer) = self.peers.consumers.get_mut(id) else { return };
        consumer.free(1);
        if let Some(source) = self.source_of(id, message) {
            if let Some(topic) = self.loaded.topics.get(source.topic) {
                self.counters.acknowledged(topic.namespace);
            }
            self.settle(source.sub, message.position, Some(id));
        }
        self.wake(id);
    }

    /// The consumer's source that a message id refers to; `None` for a message of another topic.
    fn source_of(&self, id: ConsumerId, message: MessageId) -> Option<ConsumerSource> {
        let consumer = self.peers.consumers.get(id)?;
        let found = consumer.sources.get(message.partition);
        // Only an id received by a consumer of several topics names the topic.
        if found.is_some() || !message.names_topic() || !consumer.is_of_one_topic() {
            return found;
        }
        // The id may come from a consumer of several topics, this consumer's among them.
        let mut sources = consumer.sources.iter();
        sources.find(|source| self.is_labelled(source.topic, message.partition))
    }

    /// Whether `label` identifies `topic` among several.
    pub(super) fn is_labelled(&self, topic: TopicId, label: Label) -> bool {
        let number = self.loaded.topics.get(topic).map(|topic| topic.number);
        label.is_some() && number.and_then(MessageId::topic_label) == label
    }

    /// Marks a message as processed by a subscription.
    pub(super) fn settle(&mut self, id: SubId, position: Position, by: Option<ConsumerId>) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        // A message on its way to the dead-letter topic is settled when it has arrived there.
        if sub.pending.get(&position).is_none_or(|pending| pending.state == PendingState::Dying) {
            return;
        }
        let Some(pending) = sub.remove(position) else { return };
        sub.untended_bytes += u64::from(pending.bytes);
        // Without this, the messages of a subscription that keeps up would fill the log until the
        // next check.
        if sub.untended_bytes >= TEND_BYTES {
            sub.untended_bytes = 0;
            let topic = sub.topic;
            self.hurry(topic);
        }
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        if pending.due_ns > 0 {
            self.loaded.timers.remove(&(pending.due_ns, Timer::Pending(id, position)));
        }
        let holder = pending.holder as usize;
        let sub_is_keyed = !sub.keys.is_empty();
        // With key routing, the next message of the same key may go now.
        if std::mem::take(&mut sub.is_full) || sub_is_keyed {
            self.loaded.ready(id);
        }
        self.touch(id);
        if pending.state == PendingState::Held && pending.due_ns > 0 && by != Some(holder) {
            // The timeout would have freed a place in the holder's window.
            self.peers.free_one(holder);
            self.wake(holder);
        }
    }

    fn nack(&mut self, id: ConsumerId, message: MessageId) {
        let Some(consumer) = self.peers.consumers.get_mut(id) else { return };
        consumer.free(1);
        let delay_ns = consumer.options.nack_delay_ms.saturating_mul(1_000_000);
        if let Some(source) = self.source_of(id, message) {
            let position = message.position;
            let sub = self.loaded.subs.get(source.sub);
            let pending = sub.and_then(|sub| sub.pending.get(&position));
            // The message may have been taken from this consumer meanwhile, and given to another.
            if pending.is_some_and(|it| it.state == PendingState::Held && it.holder as usize == id)
            {
                self.send_back(source.sub, position, delay_ns);
            }
        }
        self.wake(id);
    }

    /// Handles the timeout of a message that a consumer has not acknowledged, if `at_ns` is still
    /// its deadline.
    pub(super) fn time_out(&mut self, id: SubId, position: Position, at_ns: u64) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        let pending = sub.pending.get_mut(&position).filter(|pending| pending.due_ns == at_ns);
        let Some(pending) = pending else { return };
        pending.due_ns = 0;
        match pending.state {
            PendingState::Held => {
                let holder = pending.holder as usize;
                self.peers.free_one(holder);
                self.send_back(id, position, 0);
                self.wake(holder);
            }
            PendingState::Resting => {
                pending.state = PendingState::Waiting;
                sub.replay.insert(position);
                self.loaded.ready(id);
            }
            PendingState::Waiting | PendingState::Dying => {}
        }
    }

    /// Redelivers a message that a consumer held, or sends it to the dead-letter topic.
    fn send_back(&mut self, id: SubId, position: Position, delay_ns: u64) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        let Some(mut pending) = sub.pending.get(&position).copied() else { return };
        // Timers are keyed by their time, which changes below.
        if pending.due_ns > 0 {
            self.loaded.timers.remove(&(pending.due_ns, Timer::Pending(id, position)));
        }
        sub.detach(position, &pending);
        let holder = self.peers.consumers.get(pending.holder as usize);
        let limit = holder.map_or(0, |holder| holder.options.redeliveries_max);
        let is_dead = limit > 0 && pending.redeliveries >= limit;
        pending.redeliveries = pending.redeliveries.saturating_add(1);
        pending.due_ns = 0;
        // A message that cannot be buried is redelivered, so that a full dead-letter topic loses
        // nothing.
        if is_dead && self.bury(id, position, pending.holder as usize) {
            pending.state = PendingState::Dying;
        } else if delay_ns > 0 {
            pending.state = PendingState::Resting;
            pending.due_ns = self.now.monotonic_ns.saturating_add(delay_ns);
            self.loaded.timers.insert((pending.due_ns, Timer::Pending(id, position)));
        } else {
            pending.state = PendingState::Waiting;
        }
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        if pending.state == PendingState::Waiting {
            sub.replay.insert(position);
        }
        sub.pending.insert(position, pending);
        self.loaded.ready(id);
    }

    /// Appends a message to the dead-letter topic. The message is acknowledged once that is
    /// committed. Returns `false` when it cannot be appended.
    fn bury(&mut self, id: SubId, position: Position, consumer: ConsumerId) -> bool {
        let Some(sub) = self.loaded.subs.get(id) else { return false };
        let Some(pending) = sub.pending.get(&position) else { return false };
        let (name, deliver_ms) = (sub.name.clone(), pending.deliver_ms);
        let Ok(Some(message)) = self.fetch(sub.topic, position, deliver_ms) else { return false };
        let Some(consumer) = self.peers.consumers.get(consumer) else { return false };
        let Some(sub) = self.loaded.subs.get(id) else { return false };
        let real = &self.loaded.topics[sub.topic].name;
        let letters =
            consumer.options.dead_letters.clone().unwrap_or_else(|| real.dead_letters(&name));
        // Pulsar writes -1 for a topic without partitions.
        let partition = real.partition_number().map_or(-1, i64::from);
        let origin = format!("{}:{}:{partition}", position.ledger(), position.entry());
        let real = real.as_str().to_owned();
        let old = message.message();
        let mut properties = old.properties.clone();
        // A dead letter that dies again names only the topic it was in last.
        properties.retain(|(name, _)| ![REAL_TOPIC, ORIGIN_MESSAGE_ID].contains(name));
        properties.extend([(REAL_TOPIC, &*real), (ORIGIN_MESSAGE_ID, &*origin)]);
        let draft = MessageDraft::new(&TopicMessage {
            published_ms: self.wall_ms,
            deliver_ms: None,
            sequence: None,
            producer: None,
            context: None,
            properties,
            ..old
        });
        let Some((name, _)) = self.catalog.expand(&letters).into_iter().next() else {
            return false;
        };
        // A non-persistent topic keeps nothing, so the message might be lost for want of a
        // consumer.
        if name.domain() == TopicDomain::NonPersistent {
            return false;
        }
        let owner = OwnerIndex::of_topic(&name, self.owner.of());
        if owner != self.owner.index() {
            return self.send_letter(owner, (id, position), name, draft);
        }
        let is_stored = self.open_topic(&name).is_ok_and(|topic| self.store(topic, draft).is_ok());
        if is_stored {
            self.commits.dying.push((id, position));
        }
        is_stored
    }

    /// Sends a message to the dead-letter topic of another owner.
    fn send_letter(
        &mut self,
        owner: usize,
        of: (SubId, Position),
        name: TopicName,
        draft: MessageDraft,
    ) -> bool {
        let Some(sub) = self.loaded.subs.get(of.0) else { return false };
        let Some(number) = self.foreign_letters.add(of, sub.name.clone(), draft.len()) else {
            return false;
        };
        let question = TopicQuestion::Append(name, draft);
        self.send_out(TopicOutgoing::Ask(owner, self.owner.connection(number), question));
        true
    }

    /// Handles another owner's answer about a dead letter.
    pub(super) fn finish_letter(&mut self, connection: ConnectionRef, is_stored: bool) {
        let Some((of, name)) = self.foreign_letters.take(connection.id) else { return };
        // The subscription may be gone, and its slot reused.
        if self.loaded.subs.get(of.0).is_some_and(|sub| sub.name == name) {
            self.finish_dying(vec![of], is_stored);
        }
    }

    /// Settles messages that are stored in the dead-letter topic, or redelivers them when that
    /// failed.
    pub(super) fn finish_dying(&mut self, dying: Vec<(SubId, Position)>, is_stored: bool) {
        for (id, position) in dying {
            let Some(sub) = self.loaded.subs.get_mut(id) else { continue };
            let Some(pending) = sub.pending.get_mut(&position) else { continue };
            // A purge or reset has removed the message meanwhile; it may be pending anew.
            if pending.state != PendingState::Dying {
                continue;
            }
            pending.state = PendingState::Waiting;
            sub.replay.insert(position);
            if is_stored {
                self.counters.total.dead += 1;
                self.settle(id, position, None);
            } else {
                self.loaded.ready(id);
            }
        }
    }
}
