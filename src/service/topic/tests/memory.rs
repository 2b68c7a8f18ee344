//! An archive in memory, for tests: it can crash, which loses what was not committed; it can fail,
//! and damage messages.

use crate::service::topic::{
    Archive, ArchiveError, ConsumerWindow, OwnerIndex, Position, Saved, StoredMessage, StoredTopic,
    TopicNumber,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is stored of one topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub(super) number: TopicNumber,
    topic: Option<Box<[u8]>>,
    pub(super) subscriptions: BTreeMap<Box<str>, Box<[u8]>>,
    pub(super) sequences: BTreeMap<Box<str>, i64>,
    pub(super) messages: BTreeMap<Position, Arc<StoredMessage>>,
    pub(super) delayed: BTreeMap<(u64, Position), Arc<StoredMessage>>,
}

/// Topics by name.
pub(super) type Shelves = BTreeMap<Box<str>, Shelf>;

/// The archive.
#[derive(Debug, Default)]
pub(super) struct MemoryArchive {
    /// As it is while nothing crashes.
    pub(super) live: Shelves,
    /// As it was when it was last committed.
    safe: Shelves,
    ledger: u32,
    owner: OwnerIndex,
    /// Topics that were ever created.
    created: usize,
    /// The names of topics by number.
    named: BTreeMap<TopicNumber, Box<str>>,
    /// Messages that cannot be read any more.
    pub(super) damaged: BTreeSet<(TopicNumber, Position)>,
    /// What is wrong with writing.
    pub(super) fault: Option<&'static str>,
    /// What another owner takes all of while messages are read here.
    pub(super) thief: Option<Arc<ConsumerWindow>>,
    /// Calls that read messages.
    pub(super) reads: usize,
    /// Calls of any other kind.
    pub(super) calls: usize,
}

impl MemoryArchive {
    /// The archive of one of several owners.
    pub(super) fn of(owner: OwnerIndex) -> Self {
        Self { owner, ..Self::default() }
    }

    /// Makes everything safe that was written.
    pub(super) fn commit(&mut self) {
        self.safe = self.live.clone();
    }

    /// The daemon is killed and started again.
    pub(super) fn crash(&mut self) {
        self.live = self.safe.clone();
        self.ledger += 1;
        self.fault = None;
    }

    fn shelf(&mut self, number: TopicNumber) -> &mut Shelf {
        let shelf = self.named.get(&number).and_then(|name| self.live.get_mut(name));
        shelf.expect("the topic is there")
    }

    fn rob(&self) {
        while self.thief.as_ref().is_some_and(|window| window.take(1, 0).is_some()) {}
    }

    fn check(&self) -> Result<(), ArchiveError> {
        self.fault.map_or(Ok(()), |fault| Err(ArchiveError(fault.into())))
    }
}

impl Archive for MemoryArchive {
    fn ledger(&self) -> u32 {
        self.ledger
    }

    fn load(&mut self, name: &str) -> Result<Option<StoredTopic>, ArchiveError> {
        self.calls += 1;
        let damaged = &self.damaged;
        Ok(self.live.get(name).map(|shelf| StoredTopic {
            number: shelf.number,
            topic: shelf.topic.clone(),
            subscriptions: shelf.subscriptions.clone().into_iter().collect(),
            sequences: shelf.sequences.clone().into_iter().collect(),
            last: shelf
                .messages
                .values()
                .rfind(|last| !damaged.contains(&(shelf.number, last.position)))
                .cloned(),
        }))
    }

    fn create(&mut self, name: &str) -> Result<TopicNumber, ArchiveError> {
        self.calls += 1;
        self.check()?;
        let number = self.owner.number(self.created) as TopicNumber;
        self.created += 1;
        self.named.insert(number, name.into());
        let shelf = Shelf { number, ..Shelf::default() };
        assert!(self.live.insert(name.into(), shelf.clone()).is_none());
        // One of this name that was deleted before is gone with it.
        self.safe.insert(name.into(), shelf);
        Ok(number)
    }

    fn delete(&mut self, topic: TopicNumber) -> Result<(), ArchiveError> {
        self.calls += 1;
        self.check()?;
        // Its name is known on, because a crash may bring it back.
        let name = self.named.get(&topic).expect("the topic was there");
        self.live.remove(name);
        Ok(())
    }

    fn names(
        &mut self,
        prefix: &str,
        after: &str,
        count: usize,
    ) -> Result<Vec<Box<str>>, ArchiveError> {
        self.calls += 1;
        let names = self.live.keys().filter(|name| name.starts_with(prefix) && &***name > after);
        Ok(names.take(count).cloned().collect())
    }

    fn append(
        &mut self,
        topic: TopicNumber,
        message: &StoredMessage,
        deliver_ms: Option<u64>,
    ) -> Result<(), ArchiveError> {
        self.check()?;
        let stored = Arc::new(message.clone());
        let shelf = self.shelf(topic);
        if let Some(deliver_ms) = deliver_ms {
            shelf.delayed.insert((deliver_ms, message.position), stored.clone());
        }
        assert!(
            shelf.messages.insert(message.position, stored).is_none(),
            "a position was given twice"
        );
        Ok(())
    }

    fn read(
        &mut self,
        topic: TopicNumber,
        from: Position,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<StoredMessage>>, ArchiveError> {
        self.reads += 1;
        self.rob();
        let damaged = self.damaged.clone();
        let mut bytes = 0;
        let messages = self.shelf(topic).messages.range(from..).map(|(_, message)| message);
        let messages = messages.filter(|message| !damaged.contains(&(topic, message.position)));
        let fits = |message: &&Arc<StoredMessage>| {
            let is_first = bytes == 0;
            bytes += message.len();
            is_first || bytes <= bytes_max
        };
        Ok(messages.take(count).take_while(fits).cloned().collect())
    }

    fn held(&self, topic: TopicNumber) -> u64 {
        let shelf = self.named.get(&topic).and_then(|name| self.live.get(name));
        shelf.map_or(0, |shelf| shelf.messages.values().map(|message| message.len() as u64).sum())
    }

    fn trim(&mut self, topic: TopicNumber, below: Position) -> Result<(), ArchiveError> {
        self.check()?;
        self.shelf(topic).messages.retain(|at, _| *at >= below);
        Ok(())
    }

    fn delayed(
        &mut self,
        topic: TopicNumber,
        from: (u64, Position),
        until_ms: u64,
        count: usize,
    ) -> Result<Vec<(u64, Arc<StoredMessage>)>, ArchiveError> {
        self.rob();
        let delayed =
            self.shelf(topic).delayed.range(from..).take_while(|((at_ms, _), _)| *at_ms < until_ms);
        Ok(delayed.take(count).map(|((at_ms, _), message)| (*at_ms, message.clone())).collect())
    }

    fn trim_delayed(
        &mut self,
        topic: TopicNumber,
        below: (u64, Position),
        count: usize,
    ) -> Result<usize, ArchiveError> {
        self.check()?;
        let delayed = &mut self.shelf(topic).delayed;
        let gone: Vec<(u64, Position)> =
            delayed.range(..below).take(count).map(|(at, _)| *at).collect();
        gone.iter().for_each(|at| drop(delayed.remove(at)));
        Ok(gone.len())
    }

    fn save(&mut self, topic: TopicNumber, saved: Saved<'_>) -> Result<(), ArchiveError> {
        self.calls += 1;
        self.check()?;
        let shelf = self.shelf(topic);
        match saved {
            Saved::Topic(bytes) => shelf.topic = Some(bytes.into()),
            Saved::Subscription(name, bytes) => {
                shelf.subscriptions.insert(name.into(), bytes.into());
            }
            Saved::NoSubscription(name) => {
                shelf.subscriptions.remove(name);
            }
            Saved::Sequence(name, last) => {
                shelf.sequences.insert(name.into(), last);
            }
            Saved::NoSequence(name) => {
                shelf.sequences.remove(name);
            }
        }
        Ok(())
    }
}
