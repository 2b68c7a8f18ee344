//! Consumers, readers and producers that go on in the next process: frozen by the owner of one, and
//! given to the owner of the other, which has the archive then.
//!
//! What outlasts a process in the archive is not repeated here, but for the state of subscriptions
//! with consumers: theirs has who holds which message, how often it was redelivered and until when.
//! A message that a passed consumer holds stays with it and is not redelivered.

use super::consumer::{FrozenConsumer, TopicConsumer};
use super::handles::{ConsumerId, Label};
use super::opening::Labelled;
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::pending::{Pending, PendingState};
use super::producer::{FrozenProducer, TopicProducer};
use super::source::ConsumerSource;
use super::state::SubscriptionState;
use super::subscription::{Subscription, SubscriptionMember};
use super::timers::Timer;
use super::transient::TransientConnection;
use super::{
    Archive, Cause, Position, ReaderStart, SubscriptionType, TopicName, TopicOutgoing, TopicRefusal,
};
use crate::service::{ConnectionRef, NewRefs};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an owner knows of its connections, as data for another process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FrozenTopics {
    /// The number of the last generated name.
    serial: u64,
    consumers: Vec<FrozenConsumer>,
    /// Subscriptions with consumers.
    subscriptions: Vec<FrozenSubscription>,
    producers: Vec<FrozenProducer>,
    /// The connections to non-persistent topics, in the order they are served.
    transient: Vec<TransientConnection>,
}

/// A subscription with its consumers.
#[derive(Debug, Serialize, Deserialize)]
struct FrozenSubscription {
    topic: TopicName,
    name: Box<str>,
    durable: bool,
    state: SubscriptionState,
    /// Its consumers by their handles, in order, with their labels.
    members: Vec<(ConsumerId, Label)>,
    /// The index of the member to serve next.
    turn: usize,
    pending: Vec<(Position, Pending)>,
}

/// The handles of consumers, old to new.
type NewConsumers = BTreeMap<ConsumerId, ConsumerId>;

impl<A: Archive> TopicOwner<A> {
    /// Whether nothing is under way: every request is answered, and everything written is safe.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.commits.is_idle()
            && self.commits.answers.is_empty()
            && self.works.queue.is_empty()
            && self.peers.created.is_empty()
            && self.foreign_letters.is_empty()
    }

    /// What the next process has to know of the connections. Call at rest; nothing changes.
    /// Connections that are still joining their topics are left out.
    #[must_use]
    pub fn freeze(&self) -> FrozenTopics {
        let consumers = self.peers.consumers.iter().filter(|(_, consumer)| !consumer.is_over());
        let consumers = consumers
            .map(|(id, consumer)| consumer.freeze(id, self.peers.matching.contains(&id)))
            .collect();
        let subscriptions = self.loaded.subs.iter().filter(|(_, sub)| !sub.members.is_empty());
        let producers = self.peers.producers.iter().map(|(_, producer)| {
            producer.freeze(|(topic, label)| {
                let topic = &self.loaded.topics[topic];
                (topic.name.clone(), label, topic.initial_sequence(&producer.name))
            })
        });

        FrozenTopics {
            serial: self.serial,
            consumers,
            subscriptions: subscriptions.map(|(_, sub)| self.freeze_sub(sub)).collect(),
            producers: producers.collect(),
            transient: self.peers.transient.in_order().cloned().collect(),
        }
    }

    fn freeze_sub(&self, sub: &Subscription) -> FrozenSubscription {
        let members = sub.members.iter().map(|member| (member.consumer, member.label));
        FrozenSubscription {
            topic: self.loaded.topics[sub.topic].name.clone(),
            name: (&*sub.name).into(),
            durable: sub.durable,
            state: sub.state.clone(),
            members: members.collect(),
            turn: sub.turn,
            pending: sub.pending.iter().map(|(position, pending)| (*position, *pending)).collect(),
        }
    }

    /// Takes over the connections that the process before has passed, as `refs` names them here.
    /// What others held is redelivered, as if they had gone. Call before the first question.
    pub fn thaw(
        &mut self,
        frozen: FrozenTopics,
        refs: &NewRefs,
        now: Now,
        out: &mut Vec<TopicOutgoing>,
    ) {
        self.set_time(now);
        self.serial = self.serial.max(frozen.serial);

        let (mut consumers, mut awaited) = (NewConsumers::new(), Vec::new());
        for consumer in frozen.consumers {
            let Some(connection) = refs.of(consumer.connection) else { continue };
            let (old, is_matching, awaits) =
                (consumer.id, consumer.is_matching, consumer.awaits.clone());
            let consumer = TopicConsumer::thaw(consumer, connection, self.owner.index());
            let id = self.peers.consumers.insert(consumer);
            self.peers.roles.insert(connection, ConnectionRole::Consumer(id));
            consumers.insert(old, id);
            if is_matching {
                self.peers.matching.insert(id);
            }
            awaited.extend(awaits.into_iter().map(|topic| (id, topic)));
        }

        for subscription in frozen.subscriptions {
            let members: Vec<(ConsumerId, Label)> = subscription
                .members
                .iter()
                .filter_map(|(old, label)| Some((*consumers.get(old)?, *label)))
                .collect();
            // As the archive has it: no consumer holds a message.
            if members.is_empty() {
                continue;
            }
            let ids: Vec<ConsumerId> = members.iter().map(|(id, _)| *id).collect();
            if let Err(refusal) = self.thaw_sub(subscription, members, &consumers) {
                // They are not in the subscriptions that follow, where others get what they held.
                consumers.retain(|_, id| !ids.contains(id));
                ids.into_iter().for_each(|id| self.end_consumer(id, refusal.clone()));
            }
        }

        self.thaw_awaited(awaited);
        for producer in frozen.producers {
            let Some(connection) = refs.of(producer.connection) else { continue };
            if let Err(refusal) = self.thaw_producer(producer, connection) {
                self.refuse(connection, refusal);
            }
        }

        let transient = frozen.transient.into_iter();
        let transient = transient.filter_map(|one| {
            let connection = refs.of(one.connection)?;
            Some(TransientConnection { connection, ..one })
        });
        let (ids, shares) = self.peers.transient.thaw(transient);
        for (connection, id) in ids {
            self.peers.roles.insert(connection, ConnectionRole::Transient(id));
        }
        self.reply_all(shares);
        self.drain(out);
    }

    /// Has readers wait for their topics, or join one that is there: a dead letter of another owner
    /// may have created it when the one before was at rest.
    fn thaw_awaited(&mut self, awaited: Vec<(ConsumerId, TopicName)>) {
        for (id, topic) in awaited {
            // It may have been refused another topic.
            if !self.peers.consumers.contains(id) {
                continue;
            }
            let label = Labelled::Partition(topic.partition_number());
            if let Err(refusal) = self.join_or_await(id, &topic, label, ReaderStart::Earliest) {
                self.end_consumer(id, refusal);
            }
        }
    }

    fn thaw_sub(
        &mut self,
        frozen: FrozenSubscription,
        members: Vec<(ConsumerId, Label)>,
        consumers: &NewConsumers,
    ) -> Result<(), TopicRefusal> {
        let gone = || Cause::NotFound.because("the topic or its subscription is gone");
        let topic = self.find_topic(&frozen.topic)?.ok_or_else(gone)?;
        let id = match self.loaded.topics[topic].subs.get(&*frozen.name).copied() {
            Some(id) => id,
            None if frozen.durable => return Err(gone()),
            None => {
                let state = SubscriptionState::default();
                let sub = Subscription::new(topic, (&*frozen.name).into(), false, state);
                self.loaded.insert_sub(sub)
            }
        };
        // The clock must not be behind the cursor of the index, or due messages would be missed.
        self.now.unix_ms = self.now.unix_ms.max(frozen.state.delayed.0);

        let first = members.first().and_then(|(id, _)| self.peers.consumers.get(*id));
        let is_reader = first.is_some_and(|consumer| consumer.is_reader);
        let sub = &mut self.loaded.subs[id];
        *sub = Subscription {
            topic,
            name: sub.name.clone(),
            durable: sub.durable,
            is_reader,
            state: frozen.state,
            turn: frozen.turn % members.len().max(1),
            ..Subscription::default()
        };
        for (consumer, label) in members {
            let priority = self.peers.consumers[consumer].options.priority;
            let keys = BTreeSet::new();
            let member = SubscriptionMember { consumer, priority, label, is_blocked: false, keys };
            self.loaded.subs[id].admit(member);
            self.enter_topic(topic);
            self.peers.consumers[consumer].sources.insert(ConsumerSource { topic, sub: id, label });
        }

        for (position, pending) in frozen.pending {
            let holder = consumers.get(&(pending.holder as ConsumerId)).copied();
            self.thaw_pending(id, position, pending, holder);
        }
        self.mark_used(id, true);
        self.touch(id);
        self.loaded.ready(id);
        Ok(())
    }

    /// Adds a pending message, whose holder may be gone.
    fn thaw_pending(
        &mut self,
        id: usize,
        position: Position,
        mut pending: Pending,
        holder: Option<ConsumerId>,
    ) {
        let sub = &mut self.loaded.subs[id];
        match holder {
            Some(holder) if matches!(pending.state, PendingState::Held | PendingState::Resting) => {
                pending.holder = holder as u32;
            }
            // What waits for the consumer of its key finds it again on its next turn.
            _ => {
                (pending.state, pending.due_ns) = (PendingState::Waiting, 0);
                sub.replay.insert(position);
            }
        }
        if pending.due_ns > 0 {
            self.loaded.timers.insert((pending.due_ns, Timer::Pending(id, position)));
        }
        if pending.state == PendingState::Held && sub.state.kind == SubscriptionType::KeyShared {
            sub.keys.hold(pending.key, pending.holder);
        }
        sub.hold(position, pending);
    }

    fn thaw_producer(
        &mut self,
        frozen: FrozenProducer,
        connection: ConnectionRef,
    ) -> Result<(), TopicRefusal> {
        let mut targets = Vec::with_capacity(frozen.targets.len());
        for (name, label, initial) in &frozen.targets {
            let gone = || Cause::NotFound.because("the topic is gone");
            targets.push((self.find_topic(name)?.ok_or_else(gone)?, *label, *initial));
        }
        self.serial += 1;
        let name = frozen.name.clone();
        let topics = targets.iter().map(|(topic, label, _)| (*topic, *label)).collect();
        let id = self.peers.producers.insert(TopicProducer::thaw(frozen, connection, topics));
        for (topic, _, initial) in targets {
            self.enter_topic(topic);
            self.loaded.topics[topic].add_producer(name.clone(), id, initial, self.serial);
        }
        self.peers.roles.insert(connection, ConnectionRole::Producer(id));
        Ok(())
    }
}
