//! Connections, and what they are: producers, consumers, readers, or on their way to become one.

use super::TopicName;
use super::consumer::TopicConsumer;
use super::handles::{ConsumerId, ProducerId, TransientId};
use super::opening::TopicOpening;
use super::probe::Probes;
use super::producer::TopicProducer;
use super::transient::Transient;
use crate::service::ConnectionRef;
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Connections and their roles.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) roles: HashMap<ConnectionRef, ConnectionRole, ahash::RandomState>,
    pub(super) consumers: Slab<TopicConsumer>,
    pub(super) producers: Slab<TopicProducer>,
    pub(super) transient: Transient,
    /// Connections that hold what others want, and are being probed.
    pub(super) probes: Probes,
    /// Those on their way into their topics.
    pub(super) openings: HashMap<ConnectionRef, TopicOpening, ahash::RandomState>,
    /// Consumers of patterns.
    pub(super) matching: BTreeSet<ConsumerId>,
    /// Topics that were created, as long as not all consumers of patterns have been looked at for them: no more than
    /// there may be topics.
    pub(super) created: VecDeque<Created>,
    /// Readers of topics that are not there yet, by those.
    pub(super) awaited: HashMap<Box<str>, BTreeSet<ConsumerId>, ahash::RandomState>,
    /// Consumers that are over and still have topics to leave.
    pub(super) leaving: usize,
    /// Consumers of several owners whose turn has come here.
    pub(super) turns: Vec<ConsumerId>,
}

/// What a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectionRole {
    Producer(ProducerId),
    Consumer(ConsumerId),
    Transient(TransientId),
    /// It waits for what becomes of this connection, whose place it wants.
    Waiting(ConnectionRef),
    /// Its topics are being looked at.
    Opening,
}

/// A topic that was created, and which consumers of patterns have been looked at for it.
pub(super) struct Created {
    pub(super) name: TopicName,
    /// The last of them.
    pub(super) after: Option<ConsumerId>,
}

impl Peers {
    /// Whether a connection is this consumer; it may have left, and another may have its number.
    pub(super) fn is_consumer(&self, connection: ConnectionRef, id: ConsumerId) -> bool {
        matches!(self.roles.get(&connection), Some(ConnectionRole::Consumer(known)) if *known == id)
    }

    /// Whether a consumer takes a message.
    pub(super) fn has_room(&self, id: ConsumerId) -> bool {
        self.consumers.get(id).is_some_and(TopicConsumer::has_room)
    }

    /// One message fills the window of a consumer no more.
    pub(super) fn free_one(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.free(1);
        }
    }

    /// Has a reader get a topic as soon as it is there.
    pub(super) fn await_topic(&mut self, id: ConsumerId, name: &TopicName) {
        self.awaited.entry(name.as_str().into()).or_default().insert(id);
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.awaits.push(name.clone());
        }
    }

    /// A reader waits no more.
    pub(super) fn await_none(&mut self, id: ConsumerId) {
        let awaits =
            self.consumers.get_mut(id).map(|consumer| std::mem::take(&mut consumer.awaits));
        for name in awaits.unwrap_or_default() {
            let readers = self.awaited.get_mut(name.as_str());
            // A name that is waited for no longer takes no memory.
            if readers.is_some_and(|readers| readers.remove(&id) && readers.is_empty()) {
                self.awaited.remove(name.as_str());
            }
        }
    }
}
