//! Changes to the rights of an open connection.

use super::handles::{ConsumerId, Label};
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, WorkProgress};
use super::{Archive, Right, Rights, TopicAnswer, TopicName};
use crate::service::ConnectionRef;

impl<A: Archive> TopicOwner<A> {
    /// Replaces the rights of a connection, whose role has to be allowed by the new ones.
    pub(super) fn renew_rights(&mut self, connection: ConnectionRef, rights: Box<Rights>) {
        let may = match self.peers.roles.get(&connection).copied() {
            Some(ConnectionRole::Producer(id)) => {
                self.peers.producers.get(id).is_none_or(|producer| {
                    let mut topics =
                        producer.targets.iter().filter_map(|(id, _)| self.loaded.topics.get(*id));
                    topics.all(|topic| rights.allow(Right::Produce, &topic.name))
                })
            }
            Some(ConnectionRole::Consumer(id)) => return self.narrow(connection, id, rights),
            Some(ConnectionRole::Transient(id)) => {
                self.peers.transient.all.get(id).is_none_or(|one| {
                    let right = match one.kind {
                        None => Right::Produce,
                        Some(_) if one.is_reader => Right::Read,
                        Some(_) => Right::Consume,
                    };
                    let topics =
                        one.topics.split(',').filter_map(|name| TopicName::read(name).ok());
                    topics.into_iter().all(|topic| rights.allow(right, &topic))
                })
            }
            // A waiting connection's request was allowed by its old rights; the new ones must allow
            // it too.
            Some(ConnectionRole::Waiting(holder)) => {
                self.peers.probes.get(&holder).is_none_or(|probe| {
                    probe.request_of(connection).is_none_or(|request| request.is_allowed(&rights))
                })
            }
            Some(ConnectionRole::Opening) => {
                let opening = self.peers.openings.get(&connection);
                let question = opening.and_then(|opening| opening.question.as_ref());
                question.is_none_or(|question| question.is_allowed(&rights))
            }
            None => true,
        };
        if !may {
            self.reply(connection, TopicAnswer::Forbidden);
        }
    }

    /// Replaces the rights of a consumer or reader. A consumer with a pattern keeps the topics
    /// still allowed.
    fn narrow(&mut self, connection: ConnectionRef, id: ConsumerId, rights: Box<Rights>) {
        let Some(consumer) = self.peers.consumers.get_mut(id) else { return };
        let may_await = consumer.awaits.iter().all(|topic| rights.allow(Right::Read, topic));
        // These are not among its sources, which are checked in slices.
        if !may_await || !rights.allow_dead_letters(consumer.options.dead_letters.as_ref()) {
            return self.reply(connection, TopicAnswer::Forbidden);
        }
        let is_short = consumer.sources.len() <= AT_ONCE_MAX;
        let rights = match consumer.pattern() {
            Some(_) => {
                consumer.options.rights = Some(rights);
                None
            }
            None => Some(rights),
        };
        let mut after = None;
        let begun = self.run(is_short, move |owner, slice| {
            owner.go_on_narrowing(connection, id, &mut after, rights.as_deref(), slice)
        });
        if begun.is_err() {
            // What cannot be checked is not allowed.
            self.reply(connection, TopicAnswer::Forbidden);
        }
    }

    /// Checks the next of a consumer's topics, after the label `after`, which advances, against its
    /// new rights. A consumer with a pattern stores them itself.
    fn go_on_narrowing(
        &mut self,
        connection: ConnectionRef,
        id: ConsumerId,
        after: &mut Option<Label>,
        rights: Option<&Rights>,
        slice: &mut Slice,
    ) -> WorkProgress {
        while self.peers.is_consumer(connection, id) {
            let Some(consumer) = self.peers.consumers.get(id) else { break };
            let Some(source) = consumer.sources.next(*after) else { break };
            if !slice.take(TOPIC_STEPS) {
                return WorkProgress::More;
            }
            *after = Some(source.label);

            let its = rights.or(consumer.options.rights.as_deref());
            let right = if consumer.is_reader { Right::Read } else { Right::Consume };
            let topic = self.loaded.topics.get(source.topic);
            if topic.zip(its).is_none_or(|(topic, its)| its.allow(right, &topic.name)) {
                continue;
            }
            // A consumer with a pattern goes on without the topic; one that listed it cannot.
            if rights.is_some() {
                self.reply(connection, TopicAnswer::Forbidden);
                break;
            }
            self.part(id, source);
        }
        WorkProgress::Done
    }
}
