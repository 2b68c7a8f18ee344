//! How connections become producers, consumers and readers: what is in their way is found before anything is changed for
//! them, and very many topics are looked at and entered in slices.

use super::admission::New;
use super::consumer::{ConsumerId, TopicConsumer};
use super::join::{Labelled, StartFrom};
use super::owner::{ConnectionRole, PendingAnswer, TopicOwner, refusal};
use super::probe::Hindrance;
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, TopicWork, WorkProgress};
use super::{
    Archive, Cause, ConsumerOptions, ProducerOptions, ReaderOptions, ReaderStart, TopicDomain, TopicName,
    TopicQuestion, TopicRefusal, WantedTopics,
};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;

/// Topics that a consumer may name. The longest request names fewer; those of a pattern are as many as there are.
const NAMED_MAX: usize = 10_000;
/// A consumer or reader on its way into its topics.
pub(super) struct TopicOpening {
    connection: ConnectionRef,
    from: StartFrom,
    stage: OpeningStage,
    names: Names,
    /// What it would create, as far as it was looked at.
    new: New,
}

/// How far it is. What is in its way is found before anything is changed for it, so that who is refused leaves nothing
/// behind.
enum OpeningStage {
    /// This is looked at, a [`TopicQuestion::Consume`].
    Checking(TopicQuestion),
    /// It is taken into its topics.
    Joining(ConsumerId),
}

/// Topics of a stage.
enum Names {
    /// These, of which so many have been dealt with.
    Of(Vec<(TopicName, Labelled)>, usize),
    /// Those that match its pattern and come after this one.
    Matching(Box<str>),
}

/// A producer whose partitions are being loaded, and then created where they are not there.
pub(super) struct Loading {
    connection: ConnectionRef,
    names: Vec<TopicName>,
    at: usize,
    /// Topics that are not there, until all have been looked at.
    new: usize,
    is_checked: bool,
    /// A [`TopicQuestion::Produce`].
    request: Option<TopicQuestion>,
}

impl<A: Archive> TopicOwner<A> {
    /// A connection wants to produce. Many partitions are loaded before.
    pub(super) fn produce_after_loading(&mut self, connection: ConnectionRef, producing: ProducerOptions) {
        let names: Vec<TopicName> = self.expand(&producing.topic).into_iter().map(|(name, _)| name).collect();
        if names.len() <= AT_ONCE_MAX {
            return self.produce(connection, producing);
        }
        let request = Some(TopicQuestion::Produce(Box::new(producing)));
        let loading = Loading { connection, names, at: 0, new: 0, is_checked: false, request };
        self.await_work(connection, TopicWork::Load(Box::new(loading)));
    }

    /// Begins the work that a connection waits for.
    fn await_work(&mut self, connection: ConnectionRef, work: TopicWork) {
        match self.take_on(work) {
            Ok(()) => drop(self.connections.insert(connection, ConnectionRole::Opening)),
            Err(refusal) => self.refuse(connection, refusal),
        }
    }

    /// What a connection wants that waits for its topics.
    pub(super) fn opening_of(&self, connection: ConnectionRef) -> Option<&TopicQuestion> {
        if let Some(TopicOpening { stage: OpeningStage::Checking(request), .. }) =
            self.parked.get(&connection)
        {
            return Some(request);
        }
        self.works.iter().find_map(|work| match work {
            TopicWork::Load(loading) if loading.connection == connection => loading.request.as_ref(),
            TopicWork::Open(opening) if opening.connection == connection => match &opening.stage {
                OpeningStage::Checking(request) => Some(request),
                OpeningStage::Joining(_) => None,
            },
            _ => None,
        })
    }

    /// Looks at some partitions or creates some, and opens the producer when all are there.
    pub(super) fn go_on_loading(&mut self, loading: &mut Loading, slice: &mut Slice) -> WorkProgress {
        let connection = loading.connection;
        if !matches!(self.connections.get(&connection), Some(ConnectionRole::Opening)) {
            return WorkProgress::Done;
        }
        let done = self.load_some(loading, slice);
        if let Ok(WorkProgress::More) = done {
            return WorkProgress::More;
        }
        self.connections.remove(&connection);
        match (done, loading.request.take()) {
            (Ok(_), Some(TopicQuestion::Produce(producing))) => self.produce(connection, *producing),
            (Err(hindrance), Some(request)) => self.hinder(connection, hindrance, request),
            _ => {}
        }
        WorkProgress::Done
    }

    fn load_some(&mut self, loading: &mut Loading, slice: &mut Slice) -> Result<WorkProgress, Hindrance> {
        let Loading { names, at, new, is_checked, request, .. } = loading;
        let Some(TopicQuestion::Produce(producing)) = request else { return Ok(WorkProgress::Done) };
        while let Some(name) = names.get(*at) {
            if slice.is_over() {
                return Ok(WorkProgress::More);
            }
            slice.spend(TOPIC_STEPS);
            if *is_checked {
                self.open_topic(name)?;
            } else if let Some(id) = self.find_topic(name)? {
                self.check_producer(id, producing.name.as_deref().unwrap_or_default())?;
            } else {
                *new += 1;
            }
            *at += 1;
        }
        if std::mem::replace(is_checked, true) {
            return Ok(WorkProgress::Done);
        }
        self.check_room(*new)?;
        *at = 0;
        Ok(WorkProgress::More)
    }

    /// A connection wants to consume.
    pub(super) fn consume(&mut self, connection: ConnectionRef, consuming: ConsumerOptions) {
        let names = match self.names_of(&consuming) {
            Ok(names) => names,
            Err(refusal) => return self.refuse(connection, refusal),
        };
        if let Names::Of(names, _) = &names
            && names.iter().all(|(name, _)| name.domain() == TopicDomain::NonPersistent)
        {
            return match self.check_transient_consumer(&consuming, names) {
                Ok(()) => self.open_transient_consumer(connection, consuming, names),
                Err(hindrance) => {
                    self.hinder(connection, hindrance, TopicQuestion::Consume(Box::new(consuming)))
                }
            };
        }
        let from = if consuming.earliest { StartFrom::Earliest } else { StartFrom::Latest };
        let stage = OpeningStage::Checking(TopicQuestion::Consume(Box::new(consuming)));
        self.begin_opening(TopicOpening { connection, from, stage, names, new: New::default() });
    }

    /// The topics that a consumer wants.
    fn names_of(&self, consuming: &ConsumerOptions) -> Result<Names, TopicRefusal> {
        if let Some(letters) = &consuming.dead_letters {
            let missing = |refused: TopicRefusal| format!("deadLetterTopic: {}", refused.reason);
            self.check_partition(letters).map_err(|refused| refusal(Cause::Invalid, &missing(refused)))?;
        }
        let names = match &consuming.topics {
            WantedTopics::Matching { namespace, .. }
                if namespace.starts_with(TopicDomain::NonPersistent.word()) =>
            {
                return Err(refusal(Cause::Invalid, "a pattern is of persistent topics"));
            }
            WantedTopics::Matching { .. } => return Ok(Names::Matching("".into())),
            WantedTopics::One(name) => self.partitions_of(name),
            WantedTopics::Several(names) => self.named(names)?,
        };
        let persistent = names.iter().filter(|(name, _)| name.domain() == TopicDomain::Persistent).count();
        if persistent > 0 && persistent < names.len() {
            return Err(refusal(Cause::Invalid, "a consumer's topics are all persistent, or none is"));
        }
        Ok(Names::Of(names, 0))
    }

    fn partitions_of(&self, name: &TopicName) -> Vec<(TopicName, Labelled)> {
        let names = self.expand(name).into_iter();
        names.map(|(name, number)| (name, Labelled::Partition(number))).collect()
    }

    /// The topics that a list stands for, each once.
    fn named(&self, given: &[TopicName]) -> Result<Vec<(TopicName, Labelled)>, TopicRefusal> {
        let (mut names, mut known) = (Vec::new(), BTreeSet::new());
        for (name, _) in given.iter().flat_map(|name| self.expand(name)) {
            if known.insert(name.clone()) {
                names.push((name, Labelled::Topic));
            }
            if names.len() > NAMED_MAX {
                return Err(refusal(Cause::TooMany, "there are too many topics for one consumer"));
            }
        }
        if names.is_empty() {
            return Err(refusal(Cause::Invalid, "there is no topic to subscribe to"));
        }
        Ok(names)
    }

    /// A connection wants to read.
    pub(super) fn read(&mut self, connection: ConnectionRef, reading: ReaderOptions) {
        self.serial += 1;
        let subscription = format!("reader-{:010x}", self.serial).into();
        if reading.topic.domain() == TopicDomain::NonPersistent {
            return self.open_transient_reader(connection, reading);
        }
        let names = Names::Of(self.partitions_of(&reading.topic), 0);
        let from = match reading.start {
            ReaderStart::Earliest => StartFrom::Earliest,
            ReaderStart::Latest => StartFrom::Latest,
            ReaderStart::After(message) => StartFrom::After(message),
        };
        // Nobody is in the way of its subscription, which is its own.
        let id = self.consumers.insert(TopicConsumer::reader(connection, reading, subscription));
        self.connections.insert(connection, ConnectionRole::Consumer(id));
        self.begin_opening(TopicOpening {
            connection,
            from,
            stage: OpeningStage::Joining(id),
            names,
            new: New::default(),
        });
    }

    /// Begins to take a consumer into its topics, and ends it too if they are few.
    fn begin_opening(&mut self, mut opening: TopicOpening) {
        let connection = opening.connection;
        let is_short = matches!(&opening.names, Names::Of(names, _) if names.len() <= AT_ONCE_MAX);
        if let OpeningStage::Checking(_) = &opening.stage {
            self.connections.insert(connection, ConnectionRole::Opening);
        }
        if is_short {
            while self.go_on_opening(&mut opening, &mut Slice::whole()) == WorkProgress::More {}
        } else if let Err(refusal) = self.take_on(TopicWork::Open(Box::new(opening))) {
            self.leave(connection);
            self.refuse(connection, refusal);
        }
    }

    /// Looks at some topics of a consumer, or takes it into some.
    pub(super) fn go_on_opening(&mut self, opening: &mut TopicOpening, slice: &mut Slice) -> WorkProgress {
        let is_there = match (self.connections.get(&opening.connection), &opening.stage) {
            (Some(ConnectionRole::Opening), OpeningStage::Checking(_)) => true,
            (Some(ConnectionRole::Consumer(known)), OpeningStage::Joining(id)) => known == id,
            // It has left meanwhile.
            _ => false,
        };
        if !is_there {
            return WorkProgress::Done;
        }
        match opening.stage {
            OpeningStage::Checking(_) => self.go_on_checking(opening, slice),
            OpeningStage::Joining(id) => self.go_on_joining(id, opening, slice),
        }
    }

    fn go_on_checking(&mut self, opening: &mut TopicOpening, slice: &mut Slice) -> WorkProgress {
        let OpeningStage::Checking(TopicQuestion::Consume(consuming)) = &opening.stage else {
            return WorkProgress::Done;
        };
        let new = &mut opening.new;
        let checked = match (&mut opening.names, &consuming.topics) {
            (Names::Matching(after), WantedTopics::Matching { namespace, pattern }) => {
                let wanted = (&**namespace, pattern, consuming.rights.as_deref());
                let check = |topics: &mut Self, name: &TopicName| topics.check_consumer(consuming, name, new);
                self.each_matching(wanted, after, slice, check)
            }
            (Names::Of(names, at), _) => {
                each_named(names, at, slice, |name, _| self.check_consumer(consuming, name, new))
            }
            (Names::Matching(_), _) => Ok(WorkProgress::Done),
        };
        let window = consuming.window.clone();
        let checked = match checked {
            Ok(WorkProgress::Done) => {
                let room = self.check_new(&opening.new, window.as_deref());
                room.map(|()| WorkProgress::Done).map_err(Hindrance::from)
            }
            other => other,
        };
        match checked {
            Ok(WorkProgress::More) => WorkProgress::More,
            Ok(WorkProgress::Done) if window.is_some() => {
                self.park_opening(opening);
                WorkProgress::Done
            }
            Ok(WorkProgress::Done) => {
                self.begin_joining(opening);
                WorkProgress::More
            }
            Err(hindrance) => {
                self.connections.remove(&opening.connection);
                let nothing = OpeningStage::Checking(TopicQuestion::Gone);
                if let OpeningStage::Checking(request) = std::mem::replace(&mut opening.stage, nothing) {
                    self.hinder(opening.connection, hindrance, request);
                }
                WorkProgress::Done
            }
        }
    }

    /// Nothing is in its way here, but there may be something at other owners: it waits for them.
    fn park_opening(&mut self, opening: &mut TopicOpening) {
        let TopicOpening { connection, from, stage, names, new } = opening;
        let stage = std::mem::replace(stage, OpeningStage::Checking(TopicQuestion::Gone));
        let names = std::mem::replace(names, Names::Of(Vec::new(), 0));
        let parked =
            TopicOpening { connection: *connection, from: *from, stage, names, new: std::mem::take(new) };
        self.parked.insert(*connection, parked);
        self.reply(*connection, super::TopicAnswer::Ready);
    }

    /// Nothing is in its way anywhere.
    pub(super) fn join_parked(&mut self, connection: ConnectionRef) {
        if let Some(mut opening) = self.parked.remove(&connection) {
            self.begin_joining(&mut opening);
            self.begin_opening(opening);
        }
    }

    /// Nothing is in its way: it becomes a consumer.
    fn begin_joining(&mut self, opening: &mut TopicOpening) {
        let nothing = OpeningStage::Checking(TopicQuestion::Gone);
        let OpeningStage::Checking(TopicQuestion::Consume(mut consuming)) =
            std::mem::replace(&mut opening.stage, nothing)
        else {
            return;
        };
        let topics = std::mem::replace(&mut consuming.topics, WantedTopics::Several(Vec::new()));
        let mut consumer = TopicConsumer::new(opening.connection, *consuming, self.owner.index());
        if let WantedTopics::Matching { namespace, pattern } = topics {
            consumer.wanted = Some((namespace, pattern));
        }
        let is_matching = consumer.wanted.is_some();
        let id = self.consumers.insert(consumer);
        if is_matching {
            // From now on, so that no topic is missed that is created meanwhile.
            self.matching.insert(id);
        }
        self.connections.insert(opening.connection, ConnectionRole::Consumer(id));
        opening.stage = OpeningStage::Joining(id);
        match &mut opening.names {
            Names::Of(_, at) => *at = 0,
            Names::Matching(after) => *after = "".into(),
        }
    }

    fn go_on_joining(
        &mut self,
        id: ConsumerId,
        opening: &mut TopicOpening,
        slice: &mut Slice,
    ) -> WorkProgress {
        let from = opening.from;
        let joined = match &mut opening.names {
            Names::Of(names, at) => {
                each_named(names, at, slice, |name, labelled| self.join_or_await(id, name, labelled, from))
            }
            Names::Matching(after) => self.join_matching(id, after, from, slice),
        };
        match joined {
            Ok(WorkProgress::More) => return WorkProgress::More,
            Ok(WorkProgress::Done) if self.is_of_none(id, from) => {
                self.end_consumer(id, refusal(Cause::Invalid, "messageId is of another topic"));
            }
            Ok(WorkProgress::Done) => self.answers.push(PendingAnswer::Opened(opening.connection)),
            Err(refusal) => self.end_consumer(id, refusal),
        }
        WorkProgress::Done
    }

    /// A reader keeps nothing, and so it creates nothing: it waits for a topic that is not there.
    fn join_or_await(
        &mut self,
        id: ConsumerId,
        name: &TopicName,
        labelled: Labelled,
        from: StartFrom,
    ) -> Result<(), TopicRefusal> {
        if self.consumers.get(id).is_some_and(|consumer| consumer.is_reader)
            && self.find_topic(name)?.is_none()
        {
            self.check_partition(name)?;
            self.await_topic(id, name);
            return Ok(());
        }
        self.join(id, name, labelled, from)
    }

    /// Whether a reader is to begin after a message of another topic.
    fn is_of_none(&self, id: ConsumerId, from: StartFrom) -> bool {
        let (StartFrom::After(message), Some(reader)) = (from, self.consumers.get(id)) else { return false };
        let is_to_come =
            |name: &TopicName| message.partition.is_none() || message.partition == name.partition_number();
        !reader.sources.iter().any(|source| self.is_of(source.topic, message))
            && !reader.awaits.iter().any(is_to_come)
    }
}

/// Does something with some of a list's topics, from one on, which moves on.
fn each_named<E>(
    names: &[(TopicName, Labelled)],
    at: &mut usize,
    slice: &mut Slice,
    mut act: impl FnMut(&TopicName, Labelled) -> Result<(), E>,
) -> Result<WorkProgress, E> {
    while let Some((name, labelled)) = names.get(*at) {
        if slice.is_over() {
            return Ok(WorkProgress::More);
        }
        act(name, *labelled)?;
        *at += 1;
        slice.spend(TOPIC_STEPS);
    }
    Ok(WorkProgress::Done)
}
