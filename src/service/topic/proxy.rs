//! The statistics of Pulsar's WebSocket proxy: who produces and consumes what, told in pages and made in slices, since
//! there may be very many connections.

use super::handles::Label;
use super::inquiry::{InquiryError, InquiryOutcome, InquiryProgress};
use super::merge::PARTIAL;
use super::owner::TopicOwner;
use super::work::{Slice, TOPIC_STEPS};
use super::{Archive, Right, Rights, TopicName};
use crate::service::ConnectionRef;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;

/// Connections in one answer, each some 200 bytes: a page that people and programs take, and that is one message in the
/// mailbox of a shard. A single topic that has more tells how many are left out.
const CONNECTIONS_MAX: usize = 5000;

/// Statistics that are being told: the first topics of those that were found behind the last page.
struct Telling {
    /// The topics that may be seen.
    rights: Rights,
    /// The only topic that is asked for.
    only: Option<TopicName>,
    /// The last topic of the page before.
    after: Box<str>,
    topics_max: usize,
    stage: StatsStage,
    /// Where it goes on among the connections of the stage.
    at: usize,
    /// Which topics of that connection have been told.
    within: Within,
    topics: BTreeMap<Box<str>, TopicStats>,
    /// What comes there or behind it is on the next page.
    until: Option<Box<str>>,
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StatsStage {
    Producers,
    Consumers,
    Transient,
}

/// How far the topics of a connection are told: by their place for a producer, by their label for a consumer.
#[derive(Clone, Copy, Default)]
struct Within {
    label: Option<Label>,
    target: usize,
}

/// What is told of a topic; each connection is JSON already, since all of a page is put together at once.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicStats {
    producer_stats: Vec<Box<RawValue>>,
    consumer_stats: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
    /// The connection that was told last: partitions are told as one topic.
    #[serde(skip)]
    last: Option<(StatsStage, usize)>,
}

/// What is told of a connection.
#[derive(Serialize)]
#[serde(untagged)]
enum ConnectionStats<'a> {
    #[serde(rename_all = "camelCase")]
    Producer { remote_connection: String, number_of_msg_published: u64 },
    #[serde(rename_all = "camelCase")]
    Consumer {
        remote_connection: String,
        subscription_name: &'a str,
        subscription_type: &'static str,
        subscription_mode: &'static str,
        number_of_msg_delivered: u64,
    },
}

impl<A: Archive> TopicOwner<A> {
    /// Tells the connections of one topic, or of the first topics behind one, at most so many.
    pub(super) fn tell_connections(
        &mut self,
        connection: ConnectionRef,
        rights: Rights,
        only: Option<TopicName>,
        (after, topics_max): (Box<str>, usize),
    ) -> InquiryProgress {
        let mut telling = Telling {
            rights,
            only,
            after,
            topics_max,
            stage: StatsStage::Producers,
            at: 0,
            within: Within::default(),
            topics: BTreeMap::new(),
            until: None,
            connections: 0,
        };
        self.answer_in_slices(connection, move |owner, slice| {
            owner.go_on_telling(&mut telling, slice)
        })
    }

    /// Looks at some connections, and answers when it has seen all.
    fn go_on_telling(&self, telling: &mut Telling, slice: &mut Slice) -> InquiryProgress {
        loop {
            // Rights are looked through for every topic.

            // Connections come and go between two slices, so the places are gone through and not the connections.
            if !slice.take(if telling.rights.are_all() { 1 } else { TOPIC_STEPS }) {
                return Ok(None);
            }
            let (places, next) = match telling.stage {
                StatsStage::Producers => {
                    (self.peers.producers.capacity(), Some(StatsStage::Consumers))
                }
                StatsStage::Consumers => {
                    (self.peers.consumers.capacity(), Some(StatsStage::Transient))
                }
                StatsStage::Transient => (self.peers.transient.all.capacity(), None),
            };
            if telling.at >= places {
                let Some(next) = next else { return telling.answer(self.owner.of() > 1).map(Some) };
                (telling.stage, telling.at) = (next, 0);
                continue;
            }
            let is_told = match telling.stage {
                StatsStage::Producers => self.tell_producer(telling),
                StatsStage::Consumers => self.tell_consumer(telling),
                StatsStage::Transient => self.tell_transient(telling, slice),
            };
            if is_told.is_none() {
                (telling.at, telling.within) = (telling.at + 1, Within::default());
            }
        }
    }

    /// Tells the next topic of a producer; `None` when there is no other.
    fn tell_producer(&self, telling: &mut Telling) -> Option<()> {
        let producer = self.peers.producers.get(telling.at)?;
        let (topic, _) = producer.targets.get(telling.within.target)?;
        telling.within.target += 1;
        if let Some(topic) = self.loaded.topics.get(*topic) {
            telling.tell(
                self.catalog.known_name(&topic.name),
                ConnectionStats::Producer {
                    remote_connection: address(&producer.remote),
                    number_of_msg_published: producer.published,
                },
            );
        }
        Some(())
    }

    /// The same of a consumer or reader.
    fn tell_consumer(&self, telling: &mut Telling) -> Option<()> {
        let consumer =
            self.peers.consumers.get(telling.at).filter(|consumer| !consumer.is_over())?;
        let source = consumer.sources.next(telling.within.label)?;
        telling.within.label = Some(source.label);
        if let Some(topic) = self.loaded.topics.get(source.topic) {
            let options = &consumer.options;
            telling.tell(
                self.catalog.known_name(&topic.name),
                ConnectionStats::Consumer {
                    remote_connection: address(&options.remote),
                    subscription_name: &options.subscription,
                    subscription_type: options.kind.name(),
                    subscription_mode: if options.durable { "Durable" } else { "NonDurable" },
                    number_of_msg_delivered: consumer.delivered,
                },
            );
        }
        Some(())
    }

    /// Tells all topics of a connection of non-persistent ones.
    fn tell_transient(&self, telling: &mut Telling, slice: &mut Slice) -> Option<()> {
        let one = self.peers.transient.all.get(telling.at)?;
        for name in one.topics.split(',') {
            slice.spend(1);
            let remote_connection = address(&one.remote);
            telling.tell(
                name,
                match one.kind {
                    None => {
                        ConnectionStats::Producer { remote_connection, number_of_msg_published: 0 }
                    }
                    Some(kind) => ConnectionStats::Consumer {
                        remote_connection,
                        subscription_name: &one.name,
                        subscription_type: kind.name(),
                        subscription_mode: "NonDurable",
                        number_of_msg_delivered: 0,
                    },
                },
            );
        }
        None
    }
}

impl Telling {
    /// Tells the connection of a topic, if that is on this page.
    fn tell(&mut self, name: &str, connection: ConnectionStats<'_>) {
        let is_meant = match &self.only {
            Some(only) => only.as_str() == name,
            None => name > &*self.after && self.until.as_deref().is_none_or(|until| name < until),
        };
        if !is_meant || !self.topics.contains_key(name) && !self.may_see(name) {
            return;
        }

        let is_only = self.topics.keys().all(|known| **known == *name);
        let topic = self.topics.entry(name.into()).or_default();
        if topic.last.replace((self.stage, self.at)) == Some((self.stage, self.at)) {
            return;
        }
        // A page has at least one topic, whose connections alone may be too many.
        if is_only && self.connections >= CONNECTIONS_MAX {
            *topic.omitted.get_or_insert(0) += 1;
            return;
        }
        let list = match connection {
            ConnectionStats::Producer { .. } => &mut topic.producer_stats,
            ConnectionStats::Consumer { .. } => &mut topic.consumer_stats,
        };
        list.extend(to_raw_value(&connection));
        self.connections += 1;

        while self.topics.len() > self.topics_max
            || self.topics.len() > 1 && self.connections > CONNECTIONS_MAX
        {
            let Some((name, topic)) = self.topics.pop_last() else { break };
            self.connections -= topic.producer_stats.len() + topic.consumer_stats.len();
            self.until = Some(name);
        }
    }

    fn may_see(&self, name: &str) -> bool {
        self.rights.are_all()
            || TopicName::read(name).is_ok_and(|name| self.rights.allow(Right::Consume, &name))
    }

    /// What was found. Topics of other owners may stand between those of a page and the next.
    fn answer(&mut self, is_one_of_several: bool) -> Result<InquiryOutcome, InquiryError> {
        if let Some(only) = &self.only {
            let told = self.topics.remove(only.as_str()).ok_or_else(InquiryError::no_topic)?;
            return Ok(InquiryOutcome::Told(200, serde_json::to_string(&told).unwrap_or_default()));
        }
        // Other owners' topics behind the end of a page that is not the last are of the next one too.
        let is_partial = is_one_of_several && self.until.is_some();
        let page = serde_json::to_string(&self.topics).unwrap_or_default();
        Ok(InquiryOutcome::Told(if is_partial { PARTIAL } else { 200 }, page))
    }
}

/// An address as Java writes it.
fn address(remote: &str) -> String {
    format!("/{}", remote.trim_start_matches('/'))
}
