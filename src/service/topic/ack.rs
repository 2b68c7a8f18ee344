//! Acknowledgements, negative acknowledgements, redelivery, and dead letters.

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

/// The property of a dead letter that says where it comes from.
const REAL_TOPIC: &str = "REAL_TOPIC";
/// The property of a dead letter that says which message it was.
const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
impl<A: Archive> TopicOwner<A> {
    /// A request of a consumer or reader; others have nothing to say of this kind.
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

    /// A consumer of non-persistent topics listens no more, unless others share its subscription: they would lack its
    /// share.
    fn unsubscribe_transient(&mut self, connection: ConnectionRef) {
        let Some(ConnectionRole::Transient(id)) = self.peers.roles.get(&connection).copied() else {
            return;
        };
        // Its share of the messages would be lost to the others.
        if self.peers.transient.is_shared(id) {
            return self.reply(connection, TopicAnswer::StillSubscribed);
        }
        self.leave(connection);
    }

    /// Whatever a consumer acknowledges, one more fits into its window.
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

    /// The source of a consumer that a message's id means; none for a message of another topic.
    fn source_of(&self, id: ConsumerId, message: MessageId) -> Option<ConsumerSource> {
        let consumer = self.peers.consumers.get(id)?;
        let found = consumer.sources.get(message.partition);
        // Only an id that came by a consumer of several topics says more than its label.
        if found.is_some() || !message.names_topic() || !consumer.is_of_one_topic() {
            return found;
        }
        // It may have come to a consumer of several topics, of which this one's is one.
        let mut sources = consumer.sources.iter();
        sources.find(|source| self.is_labelled(source.topic, message.partition))
    }

    /// Whether a label stands for a topic among several.
    pub(super) fn is_labelled(&self, topic: TopicId, label: Label) -> bool {
        let number = self.loaded.topics.get(topic).map(|topic| topic.number);
        label.is_some() && number.and_then(MessageId::topic_label) == label
    }

    /// A message is dealt with, by a consumer or otherwise.
    pub(super) fn settle(&mut self, id: SubId, position: Position, by: Option<ConsumerId>) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        // What is on its way to the dead letters is dealt with when it is there.
        if sub.pending.get(&position).is_none_or(|pending| pending.state == PendingState::Dying) {
            return;
        }
        let Some(pending) = sub.remove(position) else { return };
        sub.untended_bytes += u64::from(pending.bytes);
        // A queue that is only passed through would else keep all of it until the next look.
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
        // Where keys choose, another message of the same key may go now.
        if std::mem::take(&mut sub.is_full) || sub_is_keyed {
            self.loaded.ready(id);
        }
        self.touch(id);
        if pending.state == PendingState::Held && pending.due_ns > 0 && by != Some(holder) {
            // Its time would have made room for another.
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
            // It may have been taken from this consumer meanwhile, and be with another.
            if pending.is_some_and(|it| it.state == PendingState::Held && it.holder as usize == id)
            {
                self.send_back(source.sub, position, delay_ns);
            }
        }
        self.wake(id);
    }

    /// A consumer has had a message for too long, if this is still its time.
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

    /// Has a message that a consumer holds come again, or go to the dead letters.
    fn send_back(&mut self, id: SubId, position: Position, delay_ns: u64) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        let Some(mut pending) = sub.pending.get(&position).copied() else { return };
        // A timer is found by its time, which changes below.
        if pending.due_ns > 0 {
            self.loaded.timers.remove(&(pending.due_ns, Timer::Pending(id, position)));
        }
        sub.detach(position, &pending);
        let holder = self.peers.consumers.get(pending.holder as usize);
        let limit = holder.map_or(0, |holder| holder.options.redeliveries_max);
        let is_dead = limit > 0 && pending.redeliveries >= limit;
        pending.redeliveries = pending.redeliveries.saturating_add(1);
        pending.due_ns = 0;
        // What cannot be buried comes again, so that nothing is lost for want of room there.
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

    /// Appends a message to the dead letters. It is acknowledged when that is committed.
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
        let partition = real.partition_number().map_or(-1, i64::from);
        let origin = format!("{}:{}:{partition}", position.ledger(), position.entry());
        let real = real.as_str().to_owned();
        let old = message.message();
        let mut properties = old.properties.clone();
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
        // There may be no consumer to get it, and nothing is kept there.
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

    /// Has another owner, which has the topic for them, append a message to the dead letters.
    fn send_letter(
        &mut self,
        owner: usize,
        of: (SubId, Position),
        name: TopicName,
        draft: MessageDraft,
    ) -> bool {
        let Some(sub) = self.loaded.subs.get(of.0) else { return false };
        let Some(number) = self.letters.add(of, sub.name.clone(), draft.len()) else {
            return false;
        };
        let question = TopicQuestion::Append(name, draft);
        self.send_out(TopicOutgoing::Ask(owner, self.owner.connection(number), question));
        true
    }

    /// What has become of a message that another owner was to append.
    pub(super) fn finish_letter(&mut self, connection: ConnectionRef, is_stored: bool) {
        let Some((of, name)) = self.letters.take(connection.id) else { return };
        // The subscription may be gone, and another in its place.
        if self.loaded.subs.get(of.0).is_some_and(|sub| sub.name == name) {
            self.finish_dying(vec![of], is_stored);
        }
    }

    /// What has gone to the dead letters is dealt with, or comes again.
    pub(super) fn finish_dying(&mut self, dying: Vec<(SubId, Position)>, is_stored: bool) {
        for (id, position) in dying {
            let Some(sub) = self.loaded.subs.get_mut(id) else { continue };
            let Some(pending) = sub.pending.get_mut(&position) else { continue };
            // It was purged or reset meanwhile, and may have come again since.
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
