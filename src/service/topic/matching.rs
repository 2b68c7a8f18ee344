//! Consumers with a pattern: they join all topics whose names match, including topics created
//! later.

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

/// Names read from the archive at once.
const NAMES_AT_ONCE: usize = 32;

impl<A: Archive> TopicOwner<A> {
    /// Calls `act` for the next topics that match and are allowed by the rights: those after the
    /// name `after`, which advances.
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
                // The archive may hold names from a version with other rules.
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

    /// Joins a consumer to the next topics that match its pattern.
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
        // Copies, since the consumer changes with each topic: the pattern is shared, and the rights
        // are put back.
        let (namespace, pattern): (Box<str>, _) = (namespace.into(), pattern.clone());
        let rights = consumer.options.rights.take();
        let wanted = (&*namespace, &pattern, rights.as_deref());
        let joined = self.each_matching(wanted, after, slice, |topics, name| {
            // The topic may have been joined as a new one meanwhile.
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

    /// Announces a created topic: readers waiting for it, and consumers whose patterns match, join
    /// it soon, from its first message.
    pub(super) fn announce(&mut self, name: &TopicName) {
        if self.peers.matching.is_empty() && !self.peers.awaited.contains_key(name.as_str()) {
            return;
        }
        // One work item serves the whole list.
        if self.peers.created.is_empty() {
            self.run_always(false, |owner, slice| owner.go_on_attaching(slice));
        }
        self.peers.created.push_back(Created { name: name.clone(), after: None });
    }

    /// Joins the next readers and consumers to created topics.
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
                if let Some(reader) = self.peers.consumers.get_mut(id) {
                    reader.awaits.retain(|awaited| *awaited != name);
                }
                // Whatever start the reader asked for, all messages of a new topic come after it.
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
                // A consumer that misses some of its topics must not believe it has all.
                if let Err(refusal) = self.join(id, &name, Labelled::Topic, ReaderStart::Earliest) {
                    self.end_consumer(id, refusal);
                }
            }
        }
        WorkProgress::Done
    }

    /// Whether a topic was created just now and is promised, from its first message, to a consumer
    /// of this subscription that has not joined it yet. The consumer `joining` promises nothing: it
    /// has reached the topic in its own scan, and starts where it asked to.
    pub(super) fn is_promised(
        &self,
        topic: TopicId,
        subscription: &str,
        joining: ConsumerId,
    ) -> bool {
        let name = &self.loaded.topics[topic].name;
        let is_new = self.peers.created.iter().any(|created| created.name == *name);
        is_new
            && self.peers.matching.iter().filter(|id| **id != joining).any(|id| {
                let consumer = self.peers.consumers.get(*id);
                consumer.is_some_and(|it| &*it.options.subscription == subscription)
                    && self.is_wanted(*id, name)
            })
    }

    /// Whether a consumer with a pattern should join a topic and has not yet.
    fn is_wanted(&self, id: ConsumerId, name: &TopicName) -> bool {
        let Some(consumer) = self.peers.consumers.get(id) else { return false };
        let Some((namespace, pattern)) = consumer.pattern() else { return false };
        !self.has(id, name) && self.matches(name, namespace, pattern) && consumer.may_have(name)
    }

    /// Whether a consumer with a pattern has joined a topic.
    fn has(&self, id: ConsumerId, name: &TopicName) -> bool {
        let topic =
            self.catalog.names.get(name.as_str()).and_then(|topic| self.loaded.topics.get(*topic));
        let label = topic.and_then(|topic| MessageId::topic_label(topic.number));
        let consumer = self.peers.consumers.get(id).filter(|_| label.is_some());
        consumer.is_some_and(|consumer| consumer.sources.get(label).is_some())
    }

    /// Whether a topic matches a pattern. A partition matches by the name of the whole.
    fn matches(&self, name: &TopicName, namespace: &str, pattern: &TopicPattern) -> bool {
        name.as_str().starts_with(namespace) && pattern.matches(self.catalog.known_name(name))
    }
}
