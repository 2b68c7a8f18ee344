//! How connections become producers, consumers and readers: what is in their way is found before anything is changed for
//! them, and very many topics are looked at and entered in slices.

use super::admission::New;
use super::consumer::{Consumer, ConsumerId};
use super::join::{From, Labelled};
use super::probe::Hindrance;
use super::topics::{Answer, Role, Topics, refusal};
use super::work::{AT_ONCE_MAX, Progress, Slice, TOPIC_STEPS, Work};
use super::{
    Archive, Cause, Consuming, Domain, Producing, Reading, Refusal, Request, Start, TopicName, Wanted,
};
use crate::service::ConnectionRef;
use std::collections::BTreeSet;

/// Topics that a consumer may name. The longest request names fewer; those of a pattern are as many as there are.
const NAMED_MAX: usize = 10_000;
/// A consumer or reader on its way into its topics.
pub(super) struct Opening {
    connection: ConnectionRef,
    from: From,
    stage: Stage,
    names: Names,
    /// What it would create, as far as it was looked at.
    new: New,
}

/// How far it is. What is in its way is found before anything is changed for it, so that who is refused leaves nothing
/// behind.
enum Stage {
    /// This is looked at, a [`Request::Consume`].
    Checking(Request),
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
    /// A [`Request::Produce`].
    request: Option<Request>,
}

impl<A: Archive> Topics<A> {
    /// A connection wants to produce. Many partitions are loaded before.
    pub(super) fn produce_after_loading(&mut self, connection: ConnectionRef, producing: Producing) {
        let names: Vec<TopicName> = self.expand(&producing.topic).into_iter().map(|(name, _)| name).collect();
        if names.len() <= AT_ONCE_MAX {
            return self.produce(connection, producing);
        }
        let request = Some(Request::Produce(Box::new(producing)));
        let loading = Loading { connection, names, at: 0, new: 0, is_checked: false, request };
        self.await_work(connection, Work::Load(Box::new(loading)));
    }

    /// Begins the work that a connection waits for.
    fn await_work(&mut self, connection: ConnectionRef, work: Work) {
        match self.take_on(work) {
            Ok(()) => drop(self.connections.insert(connection, Role::Opening)),
            Err(refusal) => self.refuse(connection, refusal),
        }
    }

    /// What a connection wants that waits for its topics.
    pub(super) fn opening_of(&self, connection: ConnectionRef) -> Option<&Request> {
        if let Some(Opening { stage: Stage::Checking(request), .. }) = self.parked.get(&connection) {
            return Some(request);
        }
        self.works.iter().find_map(|work| match work {
            Work::Load(loading) if loading.connection == connection => loading.request.as_ref(),
            Work::Open(opening) if opening.connection == connection => match &opening.stage {
                Stage::Checking(request) => Some(request),
                Stage::Joining(_) => None,
            },
            _ => None,
        })
    }

    /// Looks at some partitions or creates some, and opens the producer when all are there.
    pub(super) fn go_on_loading(&mut self, loading: &mut Loading, slice: &mut Slice) -> Progress {
        let connection = loading.connection;
        if !matches!(self.connections.get(&connection), Some(Role::Opening)) {
            return Progress::Done;
        }
        let done = self.load_some(loading, slice);
        if let Ok(Progress::More) = done {
            return Progress::More;
        }
        self.connections.remove(&connection);
        match (done, loading.request.take()) {
            (Ok(_), Some(Request::Produce(producing))) => self.produce(connection, *producing),
            (Err(hindrance), Some(request)) => self.hinder(connection, hindrance, request),
            _ => {}
        }
        Progress::Done
    }

    fn load_some(&mut self, loading: &mut Loading, slice: &mut Slice) -> Result<Progress, Hindrance> {
        let Loading { names, at, new, is_checked, request, .. } = loading;
        let Some(Request::Produce(producing)) = request else { return Ok(Progress::Done) };
        while let Some(name) = names.get(*at) {
            if slice.is_over() {
                return Ok(Progress::More);
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
            return Ok(Progress::Done);
        }
        self.check_room(*new)?;
        *at = 0;
        Ok(Progress::More)
    }

    /// A connection wants to consume.
    pub(super) fn consume(&mut self, connection: ConnectionRef, consuming: Consuming) {
        let names = match self.names_of(&consuming) {
            Ok(names) => names,
            Err(refusal) => return self.refuse(connection, refusal),
        };
        if let Names::Of(names, _) = &names
            && names.iter().all(|(name, _)| name.domain() == Domain::NonPersistent)
        {
            return match self.check_transient_consumer(&consuming, names) {
                Ok(()) => self.open_transient_consumer(connection, consuming, names),
                Err(hindrance) => self.hinder(connection, hindrance, Request::Consume(Box::new(consuming))),
            };
        }
        let from = if consuming.earliest { From::Earliest } else { From::Latest };
        let stage = Stage::Checking(Request::Consume(Box::new(consuming)));
        self.begin_opening(Opening { connection, from, stage, names, new: New::default() });
    }

    /// The topics that a consumer wants.
    fn names_of(&self, consuming: &Consuming) -> Result<Names, Refusal> {
        if let Some(letters) = &consuming.dead_letters {
            let missing = |refused: Refusal| format!("deadLetterTopic: {}", refused.reason);
            self.check_partition(letters).map_err(|refused| refusal(Cause::Invalid, &missing(refused)))?;
        }
        let names = match &consuming.topics {
            Wanted::Matching { namespace, .. } if namespace.starts_with(Domain::NonPersistent.word()) => {
                return Err(refusal(Cause::Invalid, "a pattern is of persistent topics"));
            }
            Wanted::Matching { .. } => return Ok(Names::Matching("".into())),
            Wanted::One(name) => self.partitions_of(name),
            Wanted::Several(names) => self.named(names)?,
        };
        let persistent = names.iter().filter(|(name, _)| name.domain() == Domain::Persistent).count();
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
    fn named(&self, given: &[TopicName]) -> Result<Vec<(TopicName, Labelled)>, Refusal> {
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
    pub(super) fn read(&mut self, connection: ConnectionRef, reading: Reading) {
        self.serial += 1;
        let subscription = format!("reader-{:010x}", self.serial).into();
        if reading.topic.domain() == Domain::NonPersistent {
            return self.open_transient_reader(connection, reading);
        }
        let names = Names::Of(self.partitions_of(&reading.topic), 0);
        let from = match reading.start {
            Start::Earliest => From::Earliest,
            Start::Latest => From::Latest,
            Start::After(message) => From::After(message),
        };
        // Nobody is in the way of its subscription, which is its own.
        let id = self.consumers.insert(Consumer::reader(connection, reading, subscription));
        self.connections.insert(connection, Role::Consumer(id));
        self.begin_opening(Opening {
            connection,
            from,
            stage: Stage::Joining(id),
            names,
            new: New::default(),
        });
    }

    /// Begins to take a consumer into its topics, and ends it too if they are few.
    fn begin_opening(&mut self, mut opening: Opening) {
        let connection = opening.connection;
        let is_short = matches!(&opening.names, Names::Of(names, _) if names.len() <= AT_ONCE_MAX);
        if let Stage::Checking(_) = &opening.stage {
            self.connections.insert(connection, Role::Opening);
        }
        if is_short {
            while self.go_on_opening(&mut opening, &mut Slice::whole()) == Progress::More {}
        } else if let Err(refusal) = self.take_on(Work::Open(Box::new(opening))) {
            self.leave(connection);
            self.refuse(connection, refusal);
        }
    }

    /// Looks at some topics of a consumer, or takes it into some.
    pub(super) fn go_on_opening(&mut self, opening: &mut Opening, slice: &mut Slice) -> Progress {
        let is_there = match (self.connections.get(&opening.connection), &opening.stage) {
            (Some(Role::Opening), Stage::Checking(_)) => true,
            (Some(Role::Consumer(known)), Stage::Joining(id)) => known == id,
            // It has left meanwhile.
            _ => false,
        };
        if !is_there {
            return Progress::Done;
        }
        match opening.stage {
            Stage::Checking(_) => self.go_on_checking(opening, slice),
            Stage::Joining(id) => self.go_on_joining(id, opening, slice),
        }
    }

    fn go_on_checking(&mut self, opening: &mut Opening, slice: &mut Slice) -> Progress {
        let Stage::Checking(Request::Consume(consuming)) = &opening.stage else { return Progress::Done };
        let new = &mut opening.new;
        let checked = match (&mut opening.names, &consuming.topics) {
            (Names::Matching(after), Wanted::Matching { namespace, pattern }) => {
                let wanted = (&**namespace, pattern, consuming.rights.as_deref());
                let check = |topics: &mut Self, name: &TopicName| topics.check_consumer(consuming, name, new);
                self.each_matching(wanted, after, slice, check)
            }
            (Names::Of(names, at), _) => {
                each_named(names, at, slice, |name, _| self.check_consumer(consuming, name, new))
            }
            (Names::Matching(_), _) => Ok(Progress::Done),
        };
        let window = consuming.window.clone();
        let checked = match checked {
            Ok(Progress::Done) => {
                let room = self.check_new(&opening.new, window.as_deref());
                room.map(|()| Progress::Done).map_err(Hindrance::from)
            }
            other => other,
        };
        match checked {
            Ok(Progress::More) => Progress::More,
            Ok(Progress::Done) if window.is_some() => {
                self.park_opening(opening);
                Progress::Done
            }
            Ok(Progress::Done) => {
                self.begin_joining(opening);
                Progress::More
            }
            Err(hindrance) => {
                self.connections.remove(&opening.connection);
                let nothing = Stage::Checking(Request::Gone);
                if let Stage::Checking(request) = std::mem::replace(&mut opening.stage, nothing) {
                    self.hinder(opening.connection, hindrance, request);
                }
                Progress::Done
            }
        }
    }

    /// Nothing is in its way here, but there may be something at other owners: it waits for them.
    fn park_opening(&mut self, opening: &mut Opening) {
        let Opening { connection, from, stage, names, new } = opening;
        let stage = std::mem::replace(stage, Stage::Checking(Request::Gone));
        let names = std::mem::replace(names, Names::Of(Vec::new(), 0));
        let parked = Opening { connection: *connection, from: *from, stage, names, new: std::mem::take(new) };
        self.parked.insert(*connection, parked);
        self.reply(*connection, super::Reply::Ready);
    }

    /// Nothing is in its way anywhere.
    pub(super) fn join_parked(&mut self, connection: ConnectionRef) {
        if let Some(mut opening) = self.parked.remove(&connection) {
            self.begin_joining(&mut opening);
            self.begin_opening(opening);
        }
    }

    /// Nothing is in its way: it becomes a consumer.
    fn begin_joining(&mut self, opening: &mut Opening) {
        let nothing = Stage::Checking(Request::Gone);
        let Stage::Checking(Request::Consume(mut consuming)) = std::mem::replace(&mut opening.stage, nothing)
        else {
            return;
        };
        let topics = std::mem::replace(&mut consuming.topics, Wanted::Several(Vec::new()));
        let mut consumer = Consumer::new(opening.connection, *consuming, self.owner.index());
        if let Wanted::Matching { namespace, pattern } = topics {
            consumer.wanted = Some((namespace, pattern));
        }
        let is_matching = consumer.wanted.is_some();
        let id = self.consumers.insert(consumer);
        if is_matching {
            // From now on, so that no topic is missed that is created meanwhile.
            self.matching.insert(id);
        }
        self.connections.insert(opening.connection, Role::Consumer(id));
        opening.stage = Stage::Joining(id);
        match &mut opening.names {
            Names::Of(_, at) => *at = 0,
            Names::Matching(after) => *after = "".into(),
        }
    }

    fn go_on_joining(&mut self, id: ConsumerId, opening: &mut Opening, slice: &mut Slice) -> Progress {
        let from = opening.from;
        let joined = match &mut opening.names {
            Names::Of(names, at) => {
                each_named(names, at, slice, |name, labelled| self.join_or_await(id, name, labelled, from))
            }
            Names::Matching(after) => self.join_matching(id, after, from, slice),
        };
        match joined {
            Ok(Progress::More) => return Progress::More,
            Ok(Progress::Done) if self.is_of_none(id, from) => {
                self.end_consumer(id, refusal(Cause::Invalid, "messageId is of another topic"));
            }
            Ok(Progress::Done) => self.answers.push(Answer::Opened(opening.connection)),
            Err(refusal) => self.end_consumer(id, refusal),
        }
        Progress::Done
    }

    /// A reader keeps nothing, and so it creates nothing: it waits for a topic that is not there.
    fn join_or_await(
        &mut self,
        id: ConsumerId,
        name: &TopicName,
        labelled: Labelled,
        from: From,
    ) -> Result<(), Refusal> {
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
    fn is_of_none(&self, id: ConsumerId, from: From) -> bool {
        let (From::After(message), Some(reader)) = (from, self.consumers.get(id)) else { return false };
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
) -> Result<Progress, E> {
    while let Some((name, labelled)) = names.get(*at) {
        if slice.is_over() {
            return Ok(Progress::More);
        }
        act(name, *labelled)?;
        *at += 1;
        slice.spend(TOPIC_STEPS);
    }
    Ok(Progress::Done)
}
