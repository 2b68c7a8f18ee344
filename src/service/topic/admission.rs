//! How connections become producers, consumers and readers. Obstacles are found before anything is
//! changed for a connection; very many topics are checked and joined in slices. A reader keeps
//! nothing and so creates nothing: it waits for topics that do not exist.

use super::commits::PendingAnswer;
use super::consumer::TopicConsumer;
use super::handles::{ConsumerId, SubId, TopicId};
use super::opening::{Labelled, NewTopics, OpeningStage, TopicOpening, WantedNames};
use super::owner::TopicOwner;
use super::peers::ConnectionRole;
use super::probe::Hindrance;
use super::producer::TopicProducer;
use super::transient::{TransientConnection, joined};
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, WorkProgress};
use super::{
    Archive, Cause, ConsumerOptions, ConsumerWindow, ProducerOptions, ReaderOptions, ReaderStart,
    SubscriptionType, TopicAnswer, TopicDomain, TopicName, TopicQuestion, TopicRefusal,
    WantedTopics,
};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;

/// Limit on the topics that a consumer names in a list. The longest request names fewer; a pattern
/// may match any number.
const NAMED_MAX: usize = 10_000;
/// Limit on the subscriptions of one topic: they are all in memory while it is loaded.
const SUBSCRIPTIONS_MAX: usize = 100_000;

impl<A: Archive> TopicOwner<A> {
    /// Handles a request to become a producer, consumer or reader.
    pub(super) fn open(&mut self, connection: ConnectionRef, question: TopicQuestion) {
        let opened = match question {
            TopicQuestion::Produce(options) => self.produce(connection, options),
            TopicQuestion::Consume(options) => self.consume(connection, options),
            TopicQuestion::Read(options) => self.read(connection, *options),
            _ => Ok(()),
        };
        if let Err(refusal) = opened {
            self.refuse(connection, refusal);
        }
    }

    fn produce(
        &mut self,
        connection: ConnectionRef,
        options: Box<ProducerOptions>,
    ) -> Result<(), TopicRefusal> {
        if options.topic.domain() == TopicDomain::NonPersistent {
            let producer = TransientConnection {
                connection,
                topics: options.topic.as_str().into(),
                name: options.name.clone().unwrap_or_else(|| self.generated_name()),
                remote: options.remote.clone(),
                kind: None,
                is_reader: false,
                priority: 0,
            };
            match self.peers.transient.add_producer(producer) {
                Ok(id) => {
                    self.peers.roles.insert(connection, ConnectionRole::Transient(id));
                    self.reply(connection, TopicAnswer::Opened);
                }
                Err(hindrance) => {
                    self.hinder(connection, hindrance, TopicQuestion::Produce(options))
                }
            }
            return Ok(());
        }
        // A partition beyond the configured number still exists after a reduction, but accepts no
        // more messages.
        self.catalog.check_partition(&options.topic)?;
        let names = WantedNames::Of(self.partitions_of(&options.topic), 0);
        let question = TopicQuestion::Produce(options);
        self.begin_checking(connection, question, ReaderStart::Latest, names)
    }

    fn consume(
        &mut self,
        connection: ConnectionRef,
        options: Box<ConsumerOptions>,
    ) -> Result<(), TopicRefusal> {
        let names = self.names_of(&options)?;
        if let WantedNames::Of(names, _) = &names
            && names.iter().all(|(name, _)| name.domain() == TopicDomain::NonPersistent)
        {
            let topics = joined(names);
            match self.peers.transient.check_consumer(&options, &topics) {
                Ok(()) => self.enter_transient(TransientConnection {
                    connection,
                    topics,
                    name: options.subscription,
                    remote: options.remote,
                    kind: Some(options.kind),
                    is_reader: false,
                    priority: options.priority,
                }),
                Err(hindrance) => {
                    self.hinder(connection, hindrance, TopicQuestion::Consume(options))
                }
            }
            return Ok(());
        }
        let start = if options.earliest { ReaderStart::Earliest } else { ReaderStart::Latest };
        self.begin_checking(connection, TopicQuestion::Consume(options), start, names)
    }

    fn read(
        &mut self,
        connection: ConnectionRef,
        options: ReaderOptions,
    ) -> Result<(), TopicRefusal> {
        self.serial += 1;
        let subscription = format!("reader-{:010x}", self.serial).into();
        if options.topic.domain() == TopicDomain::NonPersistent {
            self.enter_transient(TransientConnection {
                connection,
                topics: options.topic.as_str().into(),
                name: subscription,
                remote: options.remote,
                kind: Some(SubscriptionType::Exclusive),
                is_reader: true,
                priority: 0,
            });
            return Ok(());
        }
        let names = WantedNames::Of(self.partitions_of(&options.topic), 0);
        let start = options.start;
        // A reader's subscription is its own, so no obstacle needs to be checked.
        let id =
            self.peers.consumers.insert(TopicConsumer::reader(connection, options, subscription));
        self.peers.roles.insert(connection, ConnectionRole::Consumer(id));
        let (stage, new) = (OpeningStage::Joining(id), NewTopics::default());
        self.begin_opening(connection, TopicOpening { question: None, start, stage, names, new })
    }

    /// Adds a consumer or reader of non-persistent topics.
    fn enter_transient(&mut self, consumer: TransientConnection) {
        let connection = consumer.connection;
        let (id, shares) = self.peers.transient.add_consumer(consumer);
        self.peers.roles.insert(connection, ConnectionRole::Transient(id));
        self.reply(connection, TopicAnswer::Opened);
        self.reply_all(shares);
    }

    /// The topics that a consumer asks for.
    fn names_of(&self, options: &ConsumerOptions) -> Result<WantedNames, TopicRefusal> {
        if let Some(letters) = &options.dead_letters {
            self.catalog.check_partition(letters).map_err(|refused| {
                Cause::Invalid.because(&format!("deadLetterTopic: {}", refused.reason))
            })?;
        }
        let names = match &options.topics {
            WantedTopics::Matching { namespace, .. }
                if namespace.starts_with(TopicDomain::NonPersistent.word()) =>
            {
                return Err(Cause::Invalid.because("a pattern is of persistent topics"));
            }
            WantedTopics::Matching { .. } => return Ok(WantedNames::Matching("".into())),
            WantedTopics::One(name) => self.partitions_of(name),
            WantedTopics::Several(names) => self.named(names)?,
        };
        let persistent =
            names.iter().filter(|(name, _)| name.domain() == TopicDomain::Persistent).count();
        if persistent > 0 && persistent < names.len() {
            let reason = "a consumer's topics are all persistent, or none is";
            return Err(Cause::Invalid.because(reason));
        }
        Ok(WantedNames::Of(names, 0))
    }

    fn partitions_of(&self, name: &TopicName) -> Vec<(TopicName, Labelled)> {
        let names = self.catalog.expand(name).into_iter();
        names.map(|(name, number)| (name, Labelled::Partition(number))).collect()
    }

    /// The topics in a list, with partitions expanded, each once.
    fn named(&self, given: &[TopicName]) -> Result<Vec<(TopicName, Labelled)>, TopicRefusal> {
        let (mut names, mut known) = (Vec::new(), BTreeSet::new());
        for (name, _) in given.iter().flat_map(|name| self.catalog.expand(name)) {
            // A topic listed twice would get two subscriptions that share its messages.
            if known.insert(name.clone()) {
                names.push((name, Labelled::Topic));
            }
            if names.len() > NAMED_MAX {
                let reason = "there are too many topics for one consumer";
                return Err(Cause::TooMany.because(reason));
            }
        }
        if names.is_empty() {
            return Err(Cause::Invalid.because("there is no topic to subscribe to"));
        }
        Ok(names)
    }

    /// Starts checking for obstacles to a connection's request.
    fn begin_checking(
        &mut self,
        connection: ConnectionRef,
        question: TopicQuestion,
        start: ReaderStart,
        names: WantedNames,
    ) -> Result<(), TopicRefusal> {
        let (stage, new) = (OpeningStage::Checking, NewTopics::default());
        let opening = TopicOpening { question: Some(question), start, stage, names, new };
        self.begin_opening(connection, opening)
    }

    /// Starts opening a connection's topics; finishes at once if they are few.
    fn begin_opening(
        &mut self,
        connection: ConnectionRef,
        opening: TopicOpening,
    ) -> Result<(), TopicRefusal> {
        let is_short =
            matches!(&opening.names, WantedNames::Of(names, _) if names.len() <= AT_ONCE_MAX);
        // Registered at once, so that a second request finds the connection taken.
        if opening.question.is_some() {
            self.peers.roles.insert(connection, ConnectionRole::Opening);
        }
        self.peers.openings.insert(connection, opening);
        let begun = self.run(is_short, move |owner, slice| owner.go_on_opening(connection, slice));
        // At the limit of concurrent work the connection holds nothing, so that the client can
        // retry.
        if begun.is_err() {
            self.leave(connection);
        }
        begun
    }

    /// Checks or joins the next topics of a connection.
    fn go_on_opening(&mut self, connection: ConnectionRef, slice: &mut Slice) -> WorkProgress {
        // The connection has left meanwhile.
        let Some(mut opening) = self.peers.openings.remove(&connection) else {
            return WorkProgress::Done;
        };
        let went = match opening.stage {
            OpeningStage::Checking => self.go_on_checking(connection, &mut opening, slice),
            OpeningStage::Admitted => Ok(Some(WorkProgress::Done)),
            OpeningStage::Creating => self.go_on_creating(connection, &mut opening, slice),
            OpeningStage::Joining(id) => {
                Ok(self.go_on_joining(id, connection, &mut opening, slice))
            }
        };

        match went {
            Ok(Some(progress)) => {
                self.peers.openings.insert(connection, opening);
                return progress;
            }
            Ok(None) => {}
            Err(hindrance) => {
                // The connection holds nothing yet, so it waits or is refused as on arrival.
                self.peers.roles.remove(&connection);
                if let Some(question) = opening.question {
                    self.hinder(connection, hindrance, question);
                }
            }
        }
        WorkProgress::Done
    }

    /// Checks the next topics. Like the other stages, returns the progress, or `None` when the
    /// opening is over.
    fn go_on_checking(
        &mut self,
        connection: ConnectionRef,
        opening: &mut TopicOpening,
        slice: &mut Slice,
    ) -> Result<Option<WorkProgress>, Hindrance> {
        if self.check_some(opening, slice)? == WorkProgress::More {
            return Ok(Some(WorkProgress::More));
        }
        let window = match &opening.question {
            Some(TopicQuestion::Consume(options)) => options.window.clone(),
            _ => None,
        };
        self.check_new(&opening.new, window.as_deref())?;
        if window.is_some() {
            // Other owners may still have obstacles: wait for their answers.
            opening.stage = OpeningStage::Admitted;
            self.reply(connection, TopicAnswer::Ready);
            return Ok(Some(WorkProgress::Done));
        }
        self.begin_joining(connection, opening);
        Ok(Some(WorkProgress::More))
    }

    fn check_some(
        &mut self,
        opening: &mut TopicOpening,
        slice: &mut Slice,
    ) -> Result<WorkProgress, Hindrance> {
        let TopicOpening { question, names, new, .. } = opening;
        match (names, question) {
            (WantedNames::Matching(after), Some(TopicQuestion::Consume(options))) => {
                let WantedTopics::Matching { namespace, pattern } = &options.topics else {
                    return Ok(WorkProgress::Done);
                };
                let wanted = (&**namespace, pattern, options.rights.as_deref());
                self.each_matching(wanted, after, slice, |owner, name| {
                    owner.check_consumer(options, name, new)
                })
            }
            (WantedNames::Of(names, at), Some(TopicQuestion::Consume(options))) => {
                each_named(names, at, slice, |name, _| self.check_consumer(options, name, new))
            }
            (WantedNames::Of(names, at), Some(TopicQuestion::Produce(options))) => {
                let own = options.name.as_deref().unwrap_or_default();
                each_named(names, at, slice, |name, _| match self.find_topic(name)? {
                    Some(id) => self.check_producer(id, own),
                    None => {
                        new.partitions += 1;
                        Ok(())
                    }
                })
            }
            _ => Ok(WorkProgress::Done),
        }
    }

    /// Continues an opening that the connection's other owners have admitted too.
    pub(super) fn join_admitted(&mut self, connection: ConnectionRef) {
        let Some(mut opening) = self.peers.openings.remove(&connection) else { return };
        if matches!(opening.stage, OpeningStage::Admitted) {
            self.begin_joining(connection, &mut opening);
        }
        if let Err(refusal) = self.begin_opening(connection, opening) {
            self.refuse(connection, refusal);
        }
    }

    /// Starts joining topics, after all checks passed.
    fn begin_joining(&mut self, connection: ConnectionRef, opening: &mut TopicOpening) {
        let options = match opening.question.take() {
            Some(TopicQuestion::Consume(options)) => options,
            question => {
                opening.question = question;
                return opening.enter(OpeningStage::Creating);
            }
        };
        let consumer = TopicConsumer::new(connection, *options, self.owner.index());
        let is_matching = consumer.pattern().is_some();
        let id = self.peers.consumers.insert(consumer);
        if is_matching {
            // Registered before the listing starts, so that topics created meanwhile are not
            // missed.
            self.peers.matching.insert(id);
        }
        self.peers.roles.insert(connection, ConnectionRole::Consumer(id));
        opening.enter(OpeningStage::Joining(id));
    }

    fn go_on_creating(
        &mut self,
        connection: ConnectionRef,
        opening: &mut TopicOpening,
        slice: &mut Slice,
    ) -> Result<Option<WorkProgress>, Hindrance> {
        let TopicOpening { question, names, .. } = opening;
        let (WantedNames::Of(names, at), Some(TopicQuestion::Produce(options))) = (names, question)
        else {
            return Ok(None);
        };
        let created = each_named(names, at, slice, |name, _| self.open_topic(name).map(drop))?;
        if created == WorkProgress::More {
            return Ok(Some(WorkProgress::More));
        }
        self.add_producer(connection, options, names)?;
        self.reply(connection, TopicAnswer::Opened);
        Ok(None)
    }

    /// Adds a producer to topics that exist by now. Checks again: other producers may have come
    /// meanwhile.
    fn add_producer(
        &mut self,
        connection: ConnectionRef,
        options: &ProducerOptions,
        names: &[(TopicName, Labelled)],
    ) -> Result<(), Hindrance> {
        let name = options.name.clone().unwrap_or_else(|| self.generated_name());
        let mut targets = Vec::with_capacity(names.len());
        for (topic, labelled) in names {
            let id = self.open_topic(topic)?;
            self.check_producer(id, &name)?;
            // A producer's topics are partitions, never a list.
            let Labelled::Partition(label) = labelled else { continue };
            targets.push((id, *label));
        }
        self.serial += 1;
        let producer =
            TopicProducer::new(connection, name.clone(), options, targets.clone(), self.serial);
        let id = self.peers.producers.insert(producer);
        for (topic, _) in targets {
            self.enter_topic(topic);
            // A generated name is unique, so no sequence numbers were used under it before.
            let last = options.initial_sequence.filter(|_| options.name.is_some());
            self.loaded.topics[topic].add_producer(name.clone(), id, last, self.serial);
        }
        self.peers.roles.insert(connection, ConnectionRole::Producer(id));
        Ok(())
    }

    fn go_on_joining(
        &mut self,
        id: ConsumerId,
        connection: ConnectionRef,
        opening: &mut TopicOpening,
        slice: &mut Slice,
    ) -> Option<WorkProgress> {
        let start = opening.start;
        let joined = match &mut opening.names {
            WantedNames::Of(names, at) => each_named(names, at, slice, |name, labelled| {
                self.join_or_await(id, name, labelled, start)
            }),
            WantedNames::Matching(after) => self.join_matching(id, after, start, slice),
        };
        match joined {
            Ok(WorkProgress::More) => return Some(WorkProgress::More),
            Ok(WorkProgress::Done) if self.starts_elsewhere(id, start) => {
                self.end_consumer(id, Cause::Invalid.because("messageId is of another topic"));
            }
            // Its new subscriptions must be safe before the consumer is confirmed.
            Ok(WorkProgress::Done) => self.commits.answers.push(PendingAnswer::Opened(connection)),
            Err(refusal) => self.end_consumer(id, refusal),
        }
        None
    }

    /// Joins a topic; a reader waits for one that does not exist.
    pub(super) fn join_or_await(
        &mut self,
        id: ConsumerId,
        name: &TopicName,
        labelled: Labelled,
        start: ReaderStart,
    ) -> Result<(), TopicRefusal> {
        if self.peers.consumers.get(id).is_some_and(|consumer| consumer.is_reader)
            && self.find_topic(name)?.is_none()
        {
            // A partition beyond the configured number would be awaited forever.
            self.catalog.check_partition(name)?;
            self.peers.await_topic(id, name);
            return Ok(());
        }
        self.join(id, name, labelled, start)
    }

    /// Whether a reader's start message belongs to none of its topics.
    fn starts_elsewhere(&self, id: ConsumerId, start: ReaderStart) -> bool {
        let (ReaderStart::After(message), Some(reader)) = (start, self.peers.consumers.get(id))
        else {
            return false;
        };
        // A topic that does not exist yet may be the message's.
        let is_to_come = reader.awaits.iter().any(|name| {
            message.partition.is_none() || message.partition == name.partition_number()
        });
        !is_to_come && !reader.sources.iter().any(|source| self.is_of(source.topic, message))
    }

    /// Finds obstacles to a consumer in one topic before anything is changed for it; counts the
    /// topic as new if it does not exist.
    fn check_consumer(
        &mut self,
        options: &ConsumerOptions,
        name: &TopicName,
        new: &mut NewTopics,
    ) -> Result<(), Hindrance> {
        let Some(topic) = self.find_topic(name)? else {
            self.catalog.check_partition(name)?;
            let is_partition = self.catalog.whole(name).is_some();
            *(if is_partition { &mut new.partitions } else { &mut new.others }) += 1;
            return Ok(());
        };
        match self.loaded.topics[topic].subs.get(&*options.subscription).copied() {
            Some(sub) if self.part_leaving(sub) => {
                self.check_member(sub, options.kind, options.durable)
            }
            _ => Ok(self.check_subscriptions(topic)?),
        }
    }

    /// Whether a request may create this many topics, counting those it creates at other owners.
    fn check_new(
        &self,
        new: &NewTopics,
        window: Option<&ConsumerWindow>,
    ) -> Result<(), TopicRefusal> {
        let most = self.rules.new_topics_max;
        let others = window.map_or(new.others, |window| window.would_create(new.others));
        if others > most {
            let reason = format!(
                "one request creates at most {most} topics, and names {others} that are not there"
            );
            return Err(Cause::TooMany.because(&reason));
        }
        self.check_room(new.others + new.partitions)
    }

    /// Whether this many more topics fit the limits.
    pub(super) fn check_room(&self, new: usize) -> Result<(), TopicRefusal> {
        if new > 0 && self.catalog.count_of_all().saturating_add(new) > self.rules.topics_max {
            return Err(Cause::TooMany.because("there are too many topics"));
        }
        // A broken store can still be read, so only creation is refused.
        match self.commits.broken.as_ref().filter(|_| new > 0) {
            Some(reason) => Err(Cause::Broken.because(reason)),
            None => Ok(()),
        }
    }

    pub(super) fn check_subscriptions(&self, topic: TopicId) -> Result<(), TopicRefusal> {
        if self.loaded.topics[topic].subs.len() >= SUBSCRIPTIONS_MAX {
            return Err(Cause::TooMany.because("the topic has too many subscriptions"));
        }
        Ok(())
    }

    pub(super) fn check_member(
        &self,
        id: SubId,
        kind: SubscriptionType,
        durable: bool,
    ) -> Result<(), Hindrance> {
        let sub = &self.loaded.subs[id];
        let first =
            sub.members.first().and_then(|member| self.peers.consumers.get(member.consumer));
        // A subscription that is not durable ends with its last consumer, so it may be gone in a
        // moment.
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
            // The holder's connection may be dead already: probe it before refusing a newcomer.
            Some(holder) if durable || !sub.durable => Hindrance::busy(holder.connection, reason),
            _ => Cause::Busy.because(reason).into(),
        })
    }
}

/// Handles the next topics of a list, from index `at` on, which advances.
fn each_named<E>(
    names: &[(TopicName, Labelled)],
    at: &mut usize,
    slice: &mut Slice,
    mut act: impl FnMut(&TopicName, Labelled) -> Result<(), E>,
) -> Result<WorkProgress, E> {
    while let Some((name, labelled)) = names.get(*at) {
        if !slice.take(TOPIC_STEPS) {
            return Ok(WorkProgress::More);
        }
        act(name, *labelled)?;
        *at += 1;
    }
    Ok(WorkProgress::Done)
}
