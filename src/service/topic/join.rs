//! How consumers and readers join the subscriptions of their topics, and leave them.

use super::consumer::TopicConsumer;
use super::handles::{ConsumerId, Label, SubId, TopicId};
use super::opening::Labelled;
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::pending::PendingState;
use super::probe::Hindrance;
use super::source::ConsumerSource;
use super::state::SubscriptionState;
use super::subscription::{Subscription, SubscriptionMember};
use super::timers::Timer;
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, WorkProgress};
use super::{
    Archive, Cause, ConsumerOptions, MessageId, Position, ReaderStart, SubscriptionType,
    TopicAnswer, TopicName, TopicRefusal,
};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;
use std::sync::Arc;

impl<A: Archive> TopicOwner<A> {
    /// Adds a consumer to a subscription of a topic, both of which are created if necessary.
    pub(super) fn join(
        &mut self,
        id: ConsumerId,
        name: &TopicName,
        labelled: Labelled,
        from: ReaderStart,
    ) -> Result<(), TopicRefusal> {
        let topic_id = self.open_topic(name)?;
        let label = match labelled {
            Labelled::Partition(number) => number,
            Labelled::Topic => {
                let label = MessageId::topic_label(self.loaded.topics[topic_id].number);
                Some(label.ok_or_else(|| {
                    Cause::TooMany
                        .because("topic numbers are exhausted: too many topics were ever created")
                })?)
            }
        };
        let consumer = &self.peers.consumers[id];
        let ConsumerOptions { kind, durable, priority, .. } = consumer.options;
        let sub_name: Arc<str> = consumer.options.subscription.as_ref().into();
        let is_reader = consumer.is_reader;
        let sub_id = match self.loaded.topics[topic_id].subs.get(&sub_name).copied() {
            Some(sub_id) if self.part_leaving(sub_id) => {
                self.check_member(sub_id, kind, durable).map_err(Hindrance::into_refusal)?;
                sub_id
            }
            _ => self.create_sub(id, topic_id, sub_name, from)?,
        };
        self.enter_topic(topic_id);
        self.mark_used(sub_id, true);
        let sub = &mut self.loaded.subs[sub_id];
        sub.is_reader = is_reader;
        // While it has no consumers, a subscription may change its type.
        if sub.members.is_empty() && sub.state.kind != kind {
            sub.state.kind = kind;
            self.touch(sub_id);
        }
        let sub = &mut self.loaded.subs[sub_id];
        let active = sub.active();
        let at = sub.admit(SubscriptionMember {
            consumer: id,
            priority,
            label,
            is_blocked: false,
            keys: BTreeSet::new(),
        });
        // Before the next delivery: keys may have moved to the new member.
        if kind == SubscriptionType::KeyShared {
            sub.assign_all();
        }
        if let Some(old) = active.filter(|_| at == 0) {
            self.take_back(sub_id, old);
            // The former active consumer now has room for messages of its other topics.
            self.wake(old);
        }
        self.peers.consumers[id].sources.insert(ConsumerSource {
            topic: topic_id,
            sub: sub_id,
            label,
        });
        self.peers.consumers[id].has_joined();
        self.loaded.ready(sub_id);
        Ok(())
    }

    /// Creates the subscription of a joining consumer.
    fn create_sub(
        &mut self,
        joining: ConsumerId,
        topic_id: TopicId,
        name: Arc<str>,
        from: ReaderStart,
    ) -> Result<SubId, TopicRefusal> {
        let ConsumerOptions { kind, durable, .. } = self.peers.consumers[joining].options;
        self.check_subscriptions(topic_id)?;
        // A non-durable subscription writes nothing, so a broken store does not matter.
        if let Some(reason) = self.commits.broken.as_ref().filter(|_| durable) {
            return Err(Cause::Broken.because(reason));
        }
        // A consumer with a pattern was promised all messages of a new topic, even if a message was
        // stored before it joined.
        let is_promised =
            matches!(from, ReaderStart::Latest) && self.is_promised(topic_id, &name, joining);
        let from = if is_promised { ReaderStart::Earliest } else { from };
        let read = match from {
            ReaderStart::Latest => self.loaded.topics[topic_id].state.next,
            ReaderStart::After(message) if self.is_of(topic_id, message) => {
                self.place_of(topic_id, message.position.after())?
            }
            ReaderStart::Earliest | ReaderStart::After(_) => {
                self.place_of(topic_id, Position::FIRST)?
            }
        };
        let by_index = matches!(kind, SubscriptionType::Shared | SubscriptionType::KeyShared);
        let delayed = match from {
            // Messages from now on have delivery times after now.
            ReaderStart::Latest => (self.now.unix_ms, Position::END),
            _ => (0, Position::FIRST),
        };
        let start = read.position;
        let state =
            SubscriptionState { kind, by_index, start, read, skipped: 0, delayed, used_ms: 0 };
        let id = self.loaded.insert_sub(Subscription::new(topic_id, name, durable, state));
        if durable {
            // A consumer may rely on its subscription only if a crash cannot undo it.
            if let Err(fault) = self.save_sub(id) {
                self.delete_sub(id);
                return Err(fault.into());
            }
            self.commits.is_uncommitted = true;
        }
        Ok(id)
    }

    /// Handles the end of a connection.
    pub(super) fn leave(&mut self, connection: ConnectionRef) {
        match self.peers.roles.remove(&connection) {
            Some(ConnectionRole::Producer(id)) => self.close_producer(id),
            Some(ConnectionRole::Consumer(id)) => self.close_consumer(id),
            Some(ConnectionRole::Transient(id)) => {
                let shares = self.peers.transient.remove(id);
                self.reply_all(shares);
            }
            Some(ConnectionRole::Waiting(_) | ConnectionRole::Opening) | None => {}
        }
        self.peers.openings.remove(&connection);
        self.succeed(connection);
    }

    /// Ends a consumer that cannot be one, or not any more, and sends it the reason.
    pub(super) fn end_consumer(&mut self, id: ConsumerId, refusal: TopicRefusal) {
        let Some(connection) = self.peers.consumers.get(id).map(|consumer| consumer.connection)
        else {
            return;
        };
        self.leave(connection);
        self.refuse(connection, refusal);
    }

    /// Closes a consumer whose connection is gone: the messages it held are redelivered at once and
    /// in order. With many topics it leaves in slices, and receives nothing meanwhile.
    fn close_consumer(&mut self, id: ConsumerId) {
        self.peers.matching.remove(&id);
        self.peers.await_none(id);
        let Some(consumer) = self.peers.consumers.get_mut(id) else { return };
        consumer.part();
        self.peers.leaving += 1;
        let is_short = consumer.sources.len() <= AT_ONCE_MAX;
        self.run_always(is_short, move |owner, slice| owner.go_on_closing(id, slice));
    }

    /// Removes a closed consumer from the next of its topics.
    fn go_on_closing(&mut self, id: ConsumerId, slice: &mut Slice) -> WorkProgress {
        while let Some(consumer) = self.peers.consumers.get(id) {
            let Some(source) = consumer.sources.next(None) else {
                self.peers.consumers.remove(id);
                self.peers.leaving -= 1;
                break;
            };
            if !slice.take(TOPIC_STEPS) {
                return WorkProgress::More;
            }
            self.part(id, source);
        }
        WorkProgress::Done
    }

    /// Removes a subscription's members whose connections are gone, without waiting for their
    /// slices. Returns whether the subscription still exists.
    pub(super) fn part_leaving(&mut self, id: SubId) -> bool {
        let Some(sub) = self.loaded.subs.get(id) else { return false };
        // Usually no consumer is leaving, which saves a walk over the members.
        if self.peers.leaving == 0 {
            return true;
        }
        let over = sub.members.iter().filter(|member| {
            self.peers.consumers.get(member.consumer).is_some_and(TopicConsumer::is_over)
        });
        let over: Vec<(ConsumerId, ConsumerSource)> = over
            .map(|member| {
                let source = ConsumerSource { topic: sub.topic, sub: id, label: member.label };
                (member.consumer, source)
            })
            .collect();
        for (consumer, source) in over {
            self.part(consumer, source);
        }
        self.loaded.subs.contains(id)
    }

    /// Removes a consumer from a subscription.
    pub(super) fn part(&mut self, id: ConsumerId, source: ConsumerSource) {
        if let Some(consumer) = self.peers.consumers.get_mut(id) {
            consumer.sources.remove(source.label);
        }
        if let Some(sub) = self.loaded.subs.get_mut(source.sub) {
            sub.dismiss(id);
            let is_last = sub.members.is_empty();
            self.take_back(source.sub, id);
            let Some(sub) = self.loaded.subs.get_mut(source.sub) else { return };
            if is_last {
                sub.due.clear();
                for pending in
                    sub.pending.values_mut().filter(|pending| pending.state != PendingState::Dying)
                {
                    pending.redeliveries = 0;
                }
                // A non-durable subscription ends with its last consumer.
                if sub.durable {
                    self.mark_used(source.sub, false);
                } else {
                    self.delete_sub(source.sub);
                }
            } else {
                if sub.state.kind == SubscriptionType::KeyShared {
                    sub.assign_all();
                }
                self.loaded.ready(source.sub);
            }
        }
        self.leave_topic(source.topic);
    }

    /// Takes back all messages that a consumer holds of a subscription, for immediate redelivery.
    fn take_back(&mut self, id: SubId, consumer: ConsumerId) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        let (mut freed, mut back, mut timers) = (0, Vec::new(), Vec::new());
        let is_empty = sub.members.is_empty();
        let keyed = sub.state.kind == SubscriptionType::KeyShared;
        for (position, pending) in &mut sub.pending {
            let its = pending.holder as usize == consumer;
            let goes = match pending.state {
                PendingState::Held | PendingState::Resting => its,
                // No consumer is left to assign these keys to.
                PendingState::Waiting => is_empty && keyed,
                PendingState::Dying => false,
            };
            if !goes {
                continue;
            }
            match pending.state {
                PendingState::Held => {
                    freed += 1;
                    if keyed {
                        sub.keys.release(pending.key);
                    }
                }
                PendingState::Waiting => sub.keys.unwait(pending.key, *position),
                _ => {}
            }
            if pending.due_ns > 0 {
                timers.push((pending.due_ns, Timer::Pending(id, *position)));
                pending.due_ns = 0;
            }
            pending.state = PendingState::Waiting;
            back.push(*position);
        }
        // There may be tens of thousands, in order: appending a sorted set is linear.
        sub.replay.append(&mut BTreeSet::from_iter(back));
        self.discard(timers);
        if let Some(consumer) = self.peers.consumers.get_mut(consumer) {
            consumer.free(freed);
        }
    }

    /// Deletes a consumer's subscription, unless other consumers use it. The consumer stays
    /// connected and receives nothing more.
    pub(super) fn unsubscribe(&mut self, connection: ConnectionRef, id: ConsumerId) {
        let Some(consumer) = self.peers.consumers.get(id) else { return };
        let is_short = consumer.sources.len() <= AT_ONCE_MAX;
        let mut checked = Some(None);
        let begun = self.run(is_short, move |owner, slice| {
            owner.go_on_unsubscribing(connection, id, &mut checked, slice)
        });
        if begun.is_err() {
            self.reply(connection, TopicAnswer::StillSubscribed);
        }
    }

    /// Checks the next of a consumer's subscriptions, or deletes them. `checked` is the last source
    /// found unshared; `None` once all are, when deletion starts.
    fn go_on_unsubscribing(
        &mut self,
        connection: ConnectionRef,
        id: ConsumerId,
        checked: &mut Option<Option<Label>>,
        slice: &mut Slice,
    ) -> WorkProgress {
        while self.peers.is_consumer(connection, id) {
            if !slice.take(TOPIC_STEPS) {
                return WorkProgress::More;
            }
            let after = checked.flatten();
            let Some(source) =
                self.peers.consumers.get(id).and_then(|consumer| consumer.sources.next(after))
            else {
                if checked.take().is_none() {
                    break;
                }
                // All are its own. It joins no new topics from now on.
                self.peers.matching.remove(&id);
                continue;
            };

            // Other consumers may have joined since the check.
            self.part_leaving(source.sub);
            let is_shared =
                self.loaded.subs.get(source.sub).is_some_and(|sub| sub.members.len() > 1);
            if is_shared || checked.is_none() && self.erase_sub(source.sub).is_err() {
                self.reply(connection, TopicAnswer::StillSubscribed);
                break;
            }
            if let Some(checked) = checked {
                *checked = Some(source.label);
                continue;
            }
            self.leave_topic(source.topic);
            if let Some(consumer) = self.peers.consumers.get_mut(id) {
                consumer.sources.remove(source.label);
            }
        }
        WorkProgress::Done
    }

    /// Whether a consumer has received everything of topics that are terminated.
    pub(super) fn end_of_topic(&self, consumer: ConsumerId) -> TopicAnswer {
        let Some(consumer) = self.peers.consumers.get(consumer) else {
            return TopicAnswer::EndOfTopic(false);
        };
        // A consumer with topics only at other owners does not hold up the answer.
        let has_topic = match consumer.window() {
            Some(window) => window.has_topic(),
            None => !consumer.sources.is_empty(),
        };
        let is_over = consumer.sources.iter().all(|source| {
            // A deleted topic has no more messages either.
            let topic = self.loaded.topics.get(source.topic);
            let sub = topic.zip(self.loaded.subs.get(source.sub));
            sub.is_none_or(|(topic, sub)| {
                topic.state.terminated && sub.backlog(&topic.state.next) == 0
            })
        });
        TopicAnswer::EndOfTopic(has_topic && is_over)
    }
}
