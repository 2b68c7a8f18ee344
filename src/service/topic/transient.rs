//! Non-persistent topics, for connected consumers only. Messages are ordinary publications; the
//! consumers of a shared subscription are notified which share of them is theirs.

use super::handles::TransientId;
use super::opening::Labelled;
use super::probe::Hindrance;
use super::{ConsumerOptions, SubscriptionType, TopicAnswer, TopicName};
use crate::service::ConnectionRef;
use serde::{Deserialize, Serialize};
use slab::Slab;
use std::collections::HashMap;

/// The topics of a connection, and its producer's or subscription's name.
type TransientKey = (Box<str>, Box<str>);

/// The connections to non-persistent topics.
#[derive(Debug, Default)]
pub(super) struct Transient {
    pub(super) all: Slab<TransientConnection>,
    /// Producers, by topic and name.
    names: HashMap<TransientKey, TransientId, ahash::RandomState>,
    /// Consumers in the order they are served, by topics and subscription.
    subs: HashMap<TransientKey, Vec<TransientId>, ahash::RandomState>,
}

/// A producer, consumer or reader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TransientConnection {
    pub(super) connection: ConnectionRef,
    pub(super) topics: Box<str>,
    /// The name of the producer or the subscription.
    pub(super) name: Box<str>,
    pub(super) remote: Box<str>,
    /// The subscription type of a consumer; `None` for a producer.
    pub(super) kind: Option<SubscriptionType>,
    pub(super) is_reader: bool,
    pub(super) priority: i32,
}

/// Notifications about shares.
pub(super) type Shares = Vec<(ConnectionRef, TopicAnswer)>;

impl Transient {
    /// Adds a producer, unless its name is in use on its topic.
    pub(super) fn add_producer(
        &mut self,
        producer: TransientConnection,
    ) -> Result<TransientId, Hindrance> {
        let key = key_of(&producer);
        // The holder may be dead: it is probed before the newcomer is refused.
        if let Some(holder) = self.names.get(&key).and_then(|id| self.all.get(*id)) {
            return Err(Hindrance::same_name(holder.connection, &producer.name));
        }
        let id = self.all.insert(producer);
        self.names.insert(key, id);
        Ok(id)
    }

    /// Finds obstacles to a consumer.
    pub(super) fn check_consumer(
        &self,
        options: &ConsumerOptions,
        topics: &str,
    ) -> Result<(), Hindrance> {
        let members = self.subs.get(&(topics.into(), options.subscription.clone()));
        match members.and_then(|members| self.all.get(*members.first()?)) {
            Some(first) if first.kind != Some(options.kind) => {
                Err(Hindrance::busy(first.connection, "Subscription is of different type"))
            }
            Some(first) if options.kind == SubscriptionType::Exclusive => {
                Err(Hindrance::busy(first.connection, "Exclusive consumer is already connected"))
            }
            _ => Ok(()),
        }
    }

    /// Adds a consumer or reader without obstacles.
    pub(super) fn add_consumer(&mut self, consumer: TransientConnection) -> (TransientId, Shares) {
        let (key, priority) = (key_of(&consumer), consumer.priority);
        let id = self.all.insert(consumer);
        let all = &self.all;
        let members = self.subs.entry(key.clone()).or_default();
        let at = members
            .partition_point(|member| all.get(*member).is_some_and(|it| it.priority <= priority));
        members.insert(at, id);
        (id, self.shares(&key))
    }

    /// All connections: producers, then the consumers of each subscription in their order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &TransientConnection> {
        let ids = self.names.values().chain(self.subs.values().flatten());
        ids.filter_map(|id| self.all.get(*id))
    }

    /// Adds connections of another process, in the order that it tells. Returns their handles, and
    /// the notifications about shares.
    pub(super) fn thaw(
        &mut self,
        connections: impl Iterator<Item = TransientConnection>,
    ) -> (Vec<(ConnectionRef, TransientId)>, Shares) {
        let mut ids = Vec::new();
        for one in connections {
            let (connection, key, is_producer) = (one.connection, key_of(&one), one.kind.is_none());
            let id = self.all.insert(one);
            match is_producer {
                true => drop(self.names.insert(key, id)),
                false => self.subs.entry(key).or_default().push(id),
            }
            ids.push((connection, id));
        }
        let shares = self.subs.keys().flat_map(|key| self.shares(key)).collect();
        (ids, shares)
    }

    pub(super) fn remove(&mut self, id: TransientId) -> Shares {
        let Some(one) = self.all.try_remove(id) else { return Shares::new() };
        let key = key_of(&one);
        if one.kind.is_none() {
            self.names.remove(&key);
        } else if let Some(members) = self.subs.get_mut(&key) {
            members.retain(|member| *member != id);
            // Clients make up these names, so unused ones must not take memory.
            if members.is_empty() {
                self.subs.remove(&key);
            }
        }
        self.shares(&key)
    }

    /// Whether other consumers share a consumer's subscription.
    pub(super) fn is_shared(&self, id: TransientId) -> bool {
        let members = self.all.get(id).and_then(|one| self.subs.get(&key_of(one)));
        members.is_some_and(|members| members.len() > 1)
    }

    /// The notifications to all members of a subscription about their shares.
    fn shares(&self, key: &TransientKey) -> Shares {
        let members = self.subs.get(key).map_or(&[][..], |members| members);
        let of = members.len() as u32;
        let members = members.iter().filter_map(|id| self.all.get(*id)).zip(0u32..);
        let shares = members.map(|(one, place)| {
            let is_shared =
                matches!(one.kind, Some(SubscriptionType::Shared | SubscriptionType::KeyShared));
            // In other types the first receives all messages, and the others stand by.
            let share = match is_shared {
                true => TopicAnswer::Share { place, of },
                false => TopicAnswer::Share { place: 0, of: u32::from(place == 0) },
            };
            (one.connection, share)
        });
        shares.collect()
    }
}

fn key_of(one: &TransientConnection) -> TransientKey {
    (one.topics.clone(), one.name.clone())
}

/// The topics of a consumer as one text: consumers share a subscription if they have the same
/// topics.
pub(super) fn joined(names: &[(TopicName, Labelled)]) -> Box<str> {
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    names.join(",").into()
}
