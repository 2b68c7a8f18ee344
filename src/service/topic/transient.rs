//! Non-persistent topics: only who is there. Their messages take the ordinary way of publications; who shares a
//! subscription is told which of them are its own.

use super::join::Labelled;
use super::owner::{ConnectionRole, TopicOwner};
use super::probe::Hindrance;
use super::{
    Archive, ConsumerOptions, ProducerOptions, ReaderOptions, SubscriptionType, TopicAnswer, TopicName,
};
use crate::service::ConnectionRef;
use slab::Slab;
use std::collections::HashMap;

/// A connection of non-persistent topics among all; given again when it is gone.
pub(super) type TransientId = usize;

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Transient {
    pub(super) all: Slab<TransientConnection>,
    /// Producers, by topic and name.
    names: HashMap<(Box<str>, Box<str>), TransientId, ahash::RandomState>,
    /// Consumers in the order they are served, by topics and subscription.
    subs: HashMap<(Box<str>, Box<str>), Vec<TransientId>, ahash::RandomState>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct TransientConnection {
    pub(super) connection: ConnectionRef,
    pub(super) topics: Box<str>,
    /// The producer's name, or the subscription's.
    pub(super) name: Box<str>,
    pub(super) remote: Box<str>,
    /// How a consumer's subscription is shared; `None` for a producer.
    pub(super) kind: Option<SubscriptionType>,
    pub(super) is_reader: bool,
    priority: i32,
}

impl<A: Archive> TopicOwner<A> {
    pub(super) fn open_transient_producer(
        &mut self,
        connection: ConnectionRef,
        producing: &ProducerOptions,
    ) -> Result<(), Hindrance> {
        let name = producing.name.clone().unwrap_or_else(|| self.generated_name());
        let topics: Box<str> = producing.topic.as_str().into();
        let key = (topics.clone(), name.clone());
        if let Some(holder) = self.transient.names.get(&key).and_then(|id| self.transient.all.get(*id)) {
            let reason = format!("Producer with name '{name}' is already connected to topic");
            return Err(Hindrance::busy(holder.connection, &reason));
        }
        let remote = producing.remote.clone();
        let one = TransientConnection {
            connection,
            topics,
            name,
            remote,
            kind: None,
            is_reader: false,
            priority: 0,
        };
        let id = self.transient.all.insert(one);
        self.transient.names.insert(key, id);
        self.connections.insert(connection, ConnectionRole::Transient(id));
        Ok(())
    }

    /// Finds what is in the way of a consumer.
    pub(super) fn check_transient_consumer(
        &self,
        consuming: &ConsumerOptions,
        names: &[(TopicName, Labelled)],
    ) -> Result<(), Hindrance> {
        let members = self.transient.subs.get(&key(consuming, names)).map_or(&[][..], |members| members);
        match members.first().and_then(|id| self.transient.all.get(*id)) {
            Some(first) if first.kind != Some(consuming.kind) => {
                Err(Hindrance::busy(first.connection, "Subscription is of different type"))
            }
            Some(first) if consuming.kind == SubscriptionType::Exclusive => {
                Err(Hindrance::busy(first.connection, "Exclusive consumer is already connected"))
            }
            _ => Ok(()),
        }
    }

    /// A consumer with nothing in its way.
    pub(super) fn open_transient_consumer(
        &mut self,
        connection: ConnectionRef,
        consuming: ConsumerOptions,
        names: &[(TopicName, Labelled)],
    ) {
        let key = key(&consuming, names);
        let (topics, name) = key.clone();
        let (remote, priority) = (consuming.remote, consuming.priority);
        let one = TransientConnection {
            connection,
            topics,
            name,
            remote,
            kind: Some(consuming.kind),
            is_reader: false,
            priority,
        };
        let id = self.transient.all.insert(one);
        let all = &self.transient.all;
        let members = self.transient.subs.entry(key.clone()).or_default();
        let at = members.partition_point(|member| all.get(*member).is_some_and(|it| it.priority <= priority));
        members.insert(at, id);
        self.connections.insert(connection, ConnectionRole::Transient(id));
        self.reply(connection, TopicAnswer::Opened);
        self.share(&key);
    }

    pub(super) fn open_transient_reader(&mut self, connection: ConnectionRef, reading: ReaderOptions) {
        self.serial += 1;
        let name: Box<str> = format!("reader-{:010x}", self.serial).into();
        let topics: Box<str> = reading.topic.as_str().into();
        let key = (topics.clone(), name.clone());
        let kind = Some(SubscriptionType::Exclusive);
        let one = TransientConnection {
            connection,
            topics,
            name,
            remote: reading.remote,
            kind,
            is_reader: true,
            priority: 0,
        };
        let id = self.transient.all.insert(one);
        self.transient.subs.insert(key.clone(), vec![id]);
        self.connections.insert(connection, ConnectionRole::Transient(id));
        self.reply(connection, TopicAnswer::Opened);
        self.share(&key);
    }

    pub(super) fn close_transient(&mut self, id: TransientId) {
        let Some(one) = self.transient.all.try_remove(id) else { return };
        let key = (one.topics, one.name);
        if one.kind.is_none() {
            self.transient.names.remove(&key);
            return;
        }
        let Some(members) = self.transient.subs.get_mut(&key) else { return };
        members.retain(|member| *member != id);
        if members.is_empty() {
            self.transient.subs.remove(&key);
        } else {
            self.share(&key);
        }
    }

    /// A consumer listens no more, if nobody shares its subscription; the others would lack its share.
    pub(super) fn unsubscribe_transient(&mut self, connection: ConnectionRef) {
        let Some(ConnectionRole::Transient(id)) = self.connections.get(&connection).copied() else { return };
        let Some(one) = self.transient.all.get(id) else { return };
        let key = (one.topics.clone(), one.name.clone());
        if self.transient.subs.get(&key).is_some_and(|members| members.len() > 1) {
            return self.reply(connection, TopicAnswer::StillSubscribed);
        }
        self.leave(connection);
    }

    /// Tells all of a subscription which messages are theirs.
    fn share(&mut self, key: &(Box<str>, Box<str>)) {
        let members = self.transient.subs.get(key).map_or(&[][..], |members| members);
        let of = members.len() as u32;
        let ones = members.iter().filter_map(|id| self.transient.all.get(*id));
        let shares: Vec<(ConnectionRef, TopicAnswer)> = ones
            .zip(0u32..)
            .map(|(one, place)| {
                let reply = match one.kind {
                    Some(SubscriptionType::Shared | SubscriptionType::KeyShared) => {
                        TopicAnswer::Share { place, of }
                    }
                    _ => TopicAnswer::Share { place: 0, of: u32::from(place == 0) },
                };
                (one.connection, reply)
            })
            .collect();
        for (connection, reply) in shares {
            self.reply(connection, reply);
        }
    }
}

/// The topics and the subscription of a consumer: who has several topics shares with those who have the same.
fn key(consuming: &ConsumerOptions, names: &[(TopicName, Labelled)]) -> (Box<str>, Box<str>) {
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    (names.join(",").into(), consuming.subscription.clone())
}
