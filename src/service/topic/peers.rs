//! Connections and their roles: producers, consumers, readers, or candidates.

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
    /// Connections being probed, because others want what they hold.
    pub(super) probes: Probes,
    /// Connections joining their topics.
    pub(super) openings: HashMap<ConnectionRef, TopicOpening, ahash::RandomState>,
    /// Consumers with a pattern.
    pub(super) matching: BTreeSet<ConsumerId>,
    /// Created topics that not all consumers with patterns were checked for yet. Bounded by the
    /// number of topics.
    pub(super) created: VecDeque<Created>,
    /// Readers waiting for topics that do not exist yet, by name.
    pub(super) awaited: HashMap<Box<str>, BTreeSet<ConsumerId>, ahash::RandomState>,
    /// Number of consumers that are gone and still have topics to leave.
    pub(super) leaving: usize,
    /// Consumers of several owners whose turn is here.
    pub(super) turns: Vec<ConsumerId>,
}

/// The role of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectionRole {
    Producer(ProducerId),
    Consumer(ConsumerId),
    Transient(TransientId),
    /// Waiting for the probe of this connection, whose place it wants.
    Waiting(ConnectionRef),
    /// Joining its topics.
    Opening,
}

/// A created topic, and how far the consumers with patterns were checked for it.
pub(super) struct Created {
    pub(super) name: TopicName,
    /// The last consumer checked.
    pub(super) after: Option<ConsumerId>,
}

impl Peers {
    /// Whether a connection is this consumer: it may have left, and its slot been reused.
    pub(super) fn is_consumer(&self, connection: ConnectionRef, id: ConsumerId) -> bool {
        matches!(self.roles.get(&connection), Some(ConnectionRole::Consumer(known)) if *known == id)
    }

    /// Whether a consumer can be given a message.
    pub(super) fn has_room(&self, id: ConsumerId) -> bool {
        self.consumers.get(id).is_some_and(TopicConsumer::has_room)
    }

    /// Frees one place in a consumer's window.
    pub(super) fn free_one(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.free(1);
        }
    }

    /// Makes a reader join a topic as soon as it exists.
    pub(super) fn await_topic(&mut self, id: ConsumerId, name: &TopicName) {
        // In both directions, so that a closing reader is found without a search.
        self.awaited.entry(name.as_str().into()).or_default().insert(id);
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.awaits.push(name.clone());
        }
    }

    /// Ends a reader's waiting.
    pub(super) fn await_none(&mut self, id: ConsumerId) {
        let awaits =
            self.consumers.get_mut(id).map(|consumer| std::mem::take(&mut consumer.awaits));
        for name in awaits.unwrap_or_default() {
            let readers = self.awaited.get_mut(name.as_str());
            // A name without waiting readers must not take memory.
            if readers.is_some_and(|readers| readers.remove(&id) && readers.is_empty()) {
                self.awaited.remove(name.as_str());
            }
        }
    }
}
