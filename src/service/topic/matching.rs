//! Consumers of a pattern: they have all topics whose names match, those included that are still to come.

use super::handles::{ConsumerId, TopicId};
use super::opening::Labelled;
use super::owner::TopicOwner;
use super::peers::Created;
use super::work::{Slice, TOPIC_STEPS, WorkProgress};
use super::{
    Archive, ArchiveError, MessageId, ReaderStart, Right, Rights, TopicName, TopicPattern,
    TopicRefusal,
};
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

/// Names that are read from the archive at once.
const NAMES_AT_ONCE: usize = 32;

impl<A: Archive> TopicOwner<A> {
    /// Does something with some of the topics that match and may be had: those behind a name, which moves on.
    pub(super) fn each_matching<E: std::convert::From<ArchiveError>>(
        &mut self,
        (namespace, pattern, rights): (&str, &TopicPattern, Option<&Rights>),
        after: &mut Box<str>,
        slice: &mut Slice,
        mut act: impl FnMut(&mut Self, &TopicName) -> Result<(), E>,
    ) -> Result<WorkProgress, E> {
        loop {
            let names = self.archive.names(namespace, after, NAMES_AT_ONCE)?;
            if names.is_empty() {
                return Ok(WorkProgress::Done);
            }
            for text in names {
                if !slice.take(1) {
                    return Ok(WorkProgress::More);
                }
                // The archive may hold names by other rules than today's.
                if let Ok(name) = TopicName::read(&text)
                    && self.matches(&name, namespace, pattern)
                {
                    slice.spend(TOPIC_STEPS);
                    if rights.is_none_or(|rights| rights.allow(Right::Consume, &name)) {
                        act(self, &name)?;
                    }
                }
                *after = text;
            }
        }
    }

    /// Takes a consumer into some of the topics that match its pattern.
    pub(super) fn join_matching(
        &mut self,
        id: ConsumerId,
        after: &mut Box<str>,
        from: ReaderStart,
        slice: &mut Slice,
    ) -> Result<WorkProgress, TopicRefusal> {
        let Some(consumer) = self.peers.consumers.get_mut(id) else {
            return Ok(WorkProgress::Done);
        };
        let Some((namespace, pattern)) = consumer.pattern() else { return Ok(WorkProgress::Done) };
        // Copies, since the consumer itself changes with each topic: the pattern is shared, and its rights are given back.
        let (namespace, pattern): (Box<str>, _) = (namespace.into(), pattern.clone());
        let rights = consumer.options.rights.take();
        let wanted = (&*namespace, &pattern, rights.as_deref());
        let joined = self.each_matching(wanted, after, slice, |topics, name| {
            // It may have come to it as a new one.
            if topics.has(id, name) {
                return Ok(());
            }
            topics.join(id, name, Labelled::Topic, from)
        });
        if let Some(consumer) = self.peers.consumers.get_mut(id) {
            consumer.options.rights = rights;
        }
        joined
    }

    /// A topic was created: readers that wait for it, and consumers whose patterns its name matches, get it before long, from
    /// its first message.
    pub(super) fn announce(&mut self, name: &TopicName) {
        if self.peers.matching.is_empty() && !self.peers.awaited.contains_key(name.as_str()) {
            return;
        }
        // One work attaches all that are in the list.
        if self.peers.created.is_empty() {
            self.run_always(false, |owner, slice| owner.go_on_attaching(slice));
        }
        self.peers.created.push_back(Created { name: name.clone(), after: None });
    }

    /// Takes some readers and some consumers of patterns into new topics.
    fn go_on_attaching(&mut self, slice: &mut Slice) -> WorkProgress {
        while let Some(created) = self.peers.created.front_mut() {
            if slice.is_over() {
                return WorkProgress::More;
            }
            let reader =
                self.peers.awaited.get_mut(created.name.as_str()).and_then(BTreeSet::pop_first);
            if let Some(id) = reader {
                slice.spend(TOPIC_STEPS);
                let name = created.name.clone();
                // Whatever it wanted to begin with, all that there is came after it.
                let label = Labelled::Partition(name.partition_number());
                if let Err(refusal) = self.join(id, &name, label, ReaderStart::Earliest) {
                    self.end_consumer(id, refusal);
                }
                continue;
            }
            self.peers.awaited.remove(created.name.as_str());
            let after = created.after.map_or(Unbounded, Excluded);
            let Some(id) = self.peers.matching.range((after, Unbounded)).next().copied() else {
                self.peers.created.pop_front();
                continue;
            };
            created.after = Some(id);
            let name = created.name.clone();
            slice.spend(1);
            if self.is_wanted(id, &name) {
                slice.spend(TOPIC_STEPS);
                // Who cannot have all of its topics is not to believe that it has.
                if let Err(refusal) = self.join(id, &name, Labelled::Topic, ReaderStart::Earliest) {
                    self.end_consumer(id, refusal);
                }
            }
        }
        WorkProgress::Done
    }

    /// Whether a topic was created just now, and comes from its first message to a consumer of a subscription that has
    /// not been taken into it yet.
    pub(super) fn is_promised(&self, topic: TopicId, subscription: &str) -> bool {
        let name = &self.loaded.topics[topic].name;
        let is_new = self.peers.created.iter().any(|created| created.name == *name);
        is_new
            && self.peers.matching.iter().any(|id| {
                let consumer = self.peers.consumers.get(*id);
                consumer.is_some_and(|it| &*it.options.subscription == subscription)
                    && self.is_wanted(*id, name)
            })
    }

    /// Whether a topic is one that a consumer of a pattern should have and does not have yet.
    fn is_wanted(&self, id: ConsumerId, name: &TopicName) -> bool {
        let Some(consumer) = self.peers.consumers.get(id) else { return false };
        let Some((namespace, pattern)) = consumer.pattern() else { return false };
        !self.has(id, name) && self.matches(name, namespace, pattern) && consumer.may_have(name)
    }

    /// Whether a consumer of a pattern has a topic.
    fn has(&self, id: ConsumerId, name: &TopicName) -> bool {
        let topic =
            self.catalog.names.get(name.as_str()).and_then(|topic| self.loaded.topics.get(*topic));
        let label = topic.and_then(|topic| MessageId::topic_label(topic.number));
        let consumer = self.peers.consumers.get(id).filter(|_| label.is_some());
        consumer.is_some_and(|consumer| consumer.sources.get(label).is_some())
    }

    /// Whether a topic is among those of a pattern. A partition is as its topic is called.
    fn matches(&self, name: &TopicName, namespace: &str, pattern: &TopicPattern) -> bool {
        name.as_str().starts_with(namespace) && pattern.matches(self.catalog.known_name(name))
    }
}
