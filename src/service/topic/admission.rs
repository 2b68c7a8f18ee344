//! What is looked at before a connection becomes a consumer, so that one that is refused leaves nothing behind: no topic
//! and no subscription. A reader keeps nothing anyway, and waits here for topics that are not there.

use super::consumer::ConsumerId;
use super::loaded::TopicId;
use super::owner::{TopicOwner, refusal};
use super::probe::Hindrance;
use super::subscription::SubId;
use super::{Archive, Cause, ConsumerOptions, ConsumerWindow, SubscriptionType, TopicName, TopicRefusal};

/// Subscriptions of one topic: all of them are in memory with it.
const SUBSCRIPTIONS_MAX: usize = 100_000;

/// Topics that a request would create.
#[derive(Debug, Default)]
pub(super) struct New {
    /// Partitions of configured topics, of which there are as many as that says.
    partitions: usize,
    others: usize,
}

impl<A: Archive> TopicOwner<A> {
    /// Finds what is in the way of a consumer in a topic before anything is changed for it, and counts the topic if it is
    /// not there.
    pub(super) fn check_consumer(
        &mut self,
        consuming: &ConsumerOptions,
        name: &TopicName,
        new: &mut New,
    ) -> Result<(), Hindrance> {
        let Some(topic) = self.find_topic(name)? else {
            self.check_partition(name)?;
            *(if self.whole(name).is_some() { &mut new.partitions } else { &mut new.others }) += 1;
            return Ok(());
        };
        match self.topics[topic].subs.get(&*consuming.subscription).copied() {
            Some(sub) if self.part_leaving(sub) => self.check_member(sub, consuming.kind, consuming.durable),
            _ => Ok(self.check_subscriptions(topic)?),
        }
    }

    /// Whether a request may create so many, with what other owners would create for it.
    pub(super) fn check_new(&self, new: &New, window: Option<&ConsumerWindow>) -> Result<(), TopicRefusal> {
        let most = self.rules.new_topics_max;
        let others = window.map_or(new.others, |window| window.would_create(new.others));
        if others > most {
            let reason =
                format!("one request creates at most {most} topics, and names {others} that are not there");
            return Err(refusal(Cause::TooMany, &reason));
        }
        self.check_room(new.others + new.partitions)
    }

    /// Whether so many topics more can be.
    pub(super) fn check_room(&self, new: usize) -> Result<(), TopicRefusal> {
        if new > 0 && self.count_of_all().saturating_add(new) > self.rules.topics_max {
            return Err(refusal(Cause::TooMany, "there are too many topics"));
        }
        match self.broken.as_ref().filter(|_| new > 0) {
            Some(reason) => Err(refusal(Cause::Broken, reason)),
            None => Ok(()),
        }
    }

    pub(super) fn check_subscriptions(&self, topic: TopicId) -> Result<(), TopicRefusal> {
        if self.topics[topic].subs.len() >= SUBSCRIPTIONS_MAX {
            return Err(refusal(Cause::TooMany, "the topic has too many subscriptions"));
        }
        Ok(())
    }

    pub(super) fn check_member(
        &self,
        id: SubId,
        kind: SubscriptionType,
        durable: bool,
    ) -> Result<(), Hindrance> {
        let sub = &self.subs[id];
        let first = sub.members.first().and_then(|member| self.consumers.get(member.consumer));
        // One that is not durable goes with its last consumer, so there may be none of it in a moment.
        let reason = if sub.durable != durable {
            "Subscription with the same name already exists in another mode"
        } else if first.is_none() {
            return Ok(());
        } else if sub.state.kind != kind {
            "Subscription is of different type"
        } else if kind == SubscriptionType::Exclusive {
            "Exclusive consumer is already connected"
        } else {
            return Ok(());
        };
        Err(match first {
            Some(holder) if durable || !sub.durable => Hindrance::busy(holder.connection, reason),
            _ => refusal(Cause::Busy, reason).into(),
        })
    }

    /// A reader gets a topic as soon as it is there.
    pub(super) fn await_topic(&mut self, id: ConsumerId, name: &TopicName) {
        self.awaited.entry(name.as_str().into()).or_default().insert(id);
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.awaits.push(name.clone());
        }
    }

    /// A reader waits no more.
    pub(super) fn await_none(&mut self, id: ConsumerId) {
        let awaits = self.consumers.get_mut(id).map(|consumer| std::mem::take(&mut consumer.awaits));
        for name in awaits.unwrap_or_default() {
            let readers = self.awaited.get_mut(name.as_str());
            if readers.is_some_and(|readers| readers.remove(&id) && readers.is_empty()) {
                self.awaited.remove(name.as_str());
            }
        }
    }
}
