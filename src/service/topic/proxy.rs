//! Statistics in the form of Pulsar's WebSocket proxy: producers and consumers by topic. Answered
//! in pages and computed in slices, since there may be very many connections.

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

/// Limit on the connections of one answer, each some 200 bytes: a page that people and programs can
/// handle, and one message in a shard's mailbox. A single topic with more gives the number omitted.
const CONNECTIONS_MAX: usize = 5000;

/// A page of statistics in the making: the first topics after the previous page, of the connections
/// visited so far.
struct StatsPage {
    /// The topics that may be listed.
    rights: Rights,
    /// The only topic asked for, if any.
    only: Option<TopicName>,
    /// The last topic of the previous page.
    after: Box<str>,
    topics_max: usize,
    stage: StatsStage,
    /// The next slot among the connections of this stage.
    at: usize,
    /// The topics of that connection already listed.
    within: Within,
    topics: BTreeMap<Box<str>, TopicStats>,
    /// Topics from here on belong to the next page.
    until: Option<Box<str>>,
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StatsStage {
    Producers,
    Consumers,
    Transient,
}

/// How many topics of a connection are listed: by index for a producer, by label for a consumer.
#[derive(Clone, Copy, Default)]
struct Within {
    label: Option<Label>,
    target: usize,
}

/// The statistics of a topic; connections are JSON already, since a page is assembled in one go.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicStats {
    producer_stats: Vec<Box<RawValue>>,
    consumer_stats: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
    /// The last connection listed: a partitioned topic lists a connection once.
    #[serde(skip)]
    last: Option<(StatsStage, usize)>,
}

/// The statistics of a connection.
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
    /// Lists the connections of one topic, or of at most `topics_max` topics after `after`.
    pub(super) fn list_connections(
        &mut self,
        connection: ConnectionRef,
        rights: Rights,
        only: Option<TopicName>,
        (after, topics_max): (Box<str>, usize),
    ) -> InquiryProgress {
        let mut page = StatsPage {
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
        self.answer_in_slices(connection, move |owner, slice| owner.go_on_listing(&mut page, slice))
    }

    /// Visits the next connections, and answers after the last.
    fn go_on_listing(&self, page: &mut StatsPage, slice: &mut Slice) -> InquiryProgress {
        loop {
            // Connections come and go between slices, so the walk is over slots rather than
            // connections.
            // Evaluating rights for a topic costs more than a visit.
            if !slice.take(if page.rights.are_all() { 1 } else { TOPIC_STEPS }) {
                return Ok(None);
            }
            let (places, next) = match page.stage {
                StatsStage::Producers => {
                    (self.peers.producers.capacity(), Some(StatsStage::Consumers))
                }
                StatsStage::Consumers => {
                    (self.peers.consumers.capacity(), Some(StatsStage::Transient))
                }
                StatsStage::Transient => (self.peers.transient.all.capacity(), None),
            };
            if page.at >= places {
                let Some(next) = next else { return page.answer(self.owner.of() > 1).map(Some) };
                (page.stage, page.at) = (next, 0);
                continue;
            }
            let listed = match page.stage {
                StatsStage::Producers => self.list_producer(page),
                StatsStage::Consumers => self.list_consumer(page),
                StatsStage::Transient => self.list_transient(page, slice),
            };
            if listed.is_none() {
                (page.at, page.within) = (page.at + 1, Within::default());
            }
        }
    }

    /// Lists the next topic of a producer; `None` after the last.
    fn list_producer(&self, page: &mut StatsPage) -> Option<()> {
        let producer = self.peers.producers.get(page.at)?;
        let (topic, _) = producer.targets.get(page.within.target)?;
        page.within.target += 1;
        if let Some(topic) = self.loaded.topics.get(*topic) {
            page.add(self.catalog.known_name(&topic.name), || ConnectionStats::Producer {
                remote_connection: address(&producer.remote),
                number_of_msg_published: producer.published,
            });
        }
        Some(())
    }

    /// Lists the next topic of a consumer or reader; `None` after the last.
    fn list_consumer(&self, page: &mut StatsPage) -> Option<()> {
        let consumer = self.peers.consumers.get(page.at).filter(|consumer| !consumer.is_over())?;
        let source = consumer.sources.next(page.within.label)?;
        page.within.label = Some(source.label);
        if let Some(topic) = self.loaded.topics.get(source.topic) {
            let options = &consumer.options;
            page.add(self.catalog.known_name(&topic.name), || ConnectionStats::Consumer {
                remote_connection: address(&options.remote),
                subscription_name: &options.subscription,
                subscription_type: options.kind.name(),
                subscription_mode: if options.durable { "Durable" } else { "NonDurable" },
                number_of_msg_delivered: consumer.delivered,
            });
        }
        Some(())
    }

    /// Lists all topics of a connection to non-persistent ones.
    fn list_transient(&self, page: &mut StatsPage, slice: &mut Slice) -> Option<()> {
        let one = self.peers.transient.all.get(page.at)?;
        for name in one.topics.split(',') {
            slice.spend(1);
            page.add(name, || match one.kind {
                None => ConnectionStats::Producer {
                    remote_connection: address(&one.remote),
                    number_of_msg_published: 0,
                },
                Some(kind) => ConnectionStats::Consumer {
                    remote_connection: address(&one.remote),
                    subscription_name: &one.name,
                    subscription_type: kind.name(),
                    subscription_mode: "NonDurable",
                    number_of_msg_delivered: 0,
                },
            });
        }
        None
    }
}

impl StatsPage {
    /// Adds a connection to a topic's statistics, if the topic is on this page. Most connections
    /// visited for a page are not: what allocates is built for those that are listed.
    fn add<'a>(&mut self, name: &str, connection: impl FnOnce() -> ConnectionStats<'a>) {
        let is_meant = match &self.only {
            Some(only) => only.as_str() == name,
            None => name > &*self.after && self.until.as_deref().is_none_or(|until| name < until),
        };
        if !is_meant || !self.topics.contains_key(name) && !self.may_see(name) {
            return;
        }

        let is_only = self.topics.keys().all(|known| **known == *name);
        let topic = self.topics.entry(name.into()).or_default();
        // A connection to several partitions is listed once for their topic.
        if topic.last.replace((self.stage, self.at)) == Some((self.stage, self.at)) {
            return;
        }
        // A page has at least one topic, whose connections alone may exceed the limit.
        if is_only && self.connections >= CONNECTIONS_MAX {
            *topic.omitted.get_or_insert(0) += 1;
            return;
        }
        let connection = connection();
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

    /// The finished page. Topics of other owners may belong between its end and the next page.
    fn answer(&mut self, is_one_of_several: bool) -> Result<InquiryOutcome, InquiryError> {
        if let Some(only) = &self.only {
            let stats = self.topics.remove(only.as_str()).ok_or_else(InquiryError::no_topic)?;
            return Ok(InquiryOutcome::Answer(
                200,
                serde_json::to_string(&stats).unwrap_or_default(),
            ));
        }
        // Other owners' topics after the end of an incomplete page belong to the next page too.
        let is_partial = is_one_of_several && self.until.is_some();
        let json = serde_json::to_string(&self.topics).unwrap_or_default();
        Ok(InquiryOutcome::Answer(if is_partial { PARTIAL } else { 200 }, json))
    }
}

/// An address in Java's notation.
fn address(remote: &str) -> String {
    format!("/{}", remote.trim_start_matches('/'))
}
