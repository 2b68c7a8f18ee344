//! The statistics of Pulsar's WebSocket proxy: who produces and consumes what, told in pages and made in slices, since
//! there may be very many connections.

use super::handles::Label;
use super::inquiry::{InquiryError, InquiryOutcome, InquiryProgress, PAGE_TOPICS_MAX};
use super::merge::PARTIAL;
use super::owner::TopicOwner;
use super::work::{Slice, TOPIC_STEPS};
use super::{Archive, Right, Rights, TopicName};
use crate::service::ConnectionRef;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Connections in one answer, each some 200 bytes: a page that people and programs take, and that is one message in the
/// mailbox of a shard. A single topic that has more tells how many are left out.
const CONNECTIONS_MAX: usize = 5000;

/// Statistics that are being told.
struct Telling {
    /// The topics that may be seen.
    rights: Rights,
    /// The only topic that is asked for.
    only: Option<TopicName>,
    /// The last topic of the page before.
    after: Box<str>,
    stage: StatsStage,
    /// Where it goes on among the connections of the stage, and within one of them.
    at: usize,
    within: Within,
    page: StatsPage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StatsStage {
    Producers,
    Consumers,
    Transient,
}

/// In which list of a topic a connection is told.
#[derive(Clone, Copy)]
enum StatsList {
    Producers,
    Consumers,
}

/// Which topics of a connection have been told.
#[derive(Clone, Copy, Default)]
struct Within {
    label: Option<Label>,
    target: usize,
}

/// The first topics of those that were found behind the last page.
struct StatsPage {
    topics: BTreeMap<Box<str>, TopicStats>,
    topics_max: usize,
    /// What comes there or behind it is on the next page.
    until: Option<Box<str>>,
    connections: usize,
}

/// What is told of a topic: lists of JSON.
#[derive(Default)]
struct TopicStats {
    producers: String,
    consumers: String,
    connections: usize,
    omitted: usize,
    /// The connection that was told last: partitions are told as one topic.
    last: Option<(StatsStage, usize)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProducerStats {
    remote_connection: String,
    number_of_msg_published: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsumerStats<'a> {
    remote_connection: String,
    subscription_name: &'a str,
    subscription_type: &'static str,
    subscription_mode: &'static str,
    number_of_msg_delivered: u64,
}

impl<A: Archive> TopicOwner<A> {
    /// Tells the connections of one topic.
    pub(super) fn tell_topic(
        &mut self,
        connection: ConnectionRef,
        name: TopicName,
    ) -> InquiryProgress {
        self.tell_connections(connection, Telling::new(Rights::ALL, Some(name), "".into(), 1))
    }

    /// Tells the connections of the first topics behind one, at most so many.
    pub(super) fn tell_page(
        &mut self,
        connection: ConnectionRef,
        rights: Rights,
        after: Box<str>,
        count: usize,
    ) -> InquiryProgress {
        let telling = Telling::new(rights, None, after, count.clamp(1, PAGE_TOPICS_MAX));
        self.tell_connections(connection, telling)
    }

    fn tell_connections(
        &mut self,
        connection: ConnectionRef,
        mut telling: Telling,
    ) -> InquiryProgress {
        self.answer_in_slices(connection, move |owner, slice| {
            owner.go_on_telling(&mut telling, slice)
        })
    }

    /// Looks at some connections, and answers when it has seen all.
    fn go_on_telling(&self, telling: &mut Telling, slice: &mut Slice) -> InquiryProgress {
        loop {
            if slice.is_over() {
                return Ok(None);
            }
            // Rights are looked through for every topic.
            slice.spend(if telling.rights.are_all() { 1 } else { TOPIC_STEPS });
            let has_more = match telling.stage {
                StatsStage::Producers => self.tell_producer(telling),
                StatsStage::Consumers => self.tell_consumer(telling),
                StatsStage::Transient => self.tell_transient(telling, slice),
            };
            if has_more {
                continue;
            }
            (telling.at, telling.within) = (0, Within::default());
            telling.stage = match telling.stage {
                StatsStage::Producers => StatsStage::Consumers,
                StatsStage::Consumers => StatsStage::Transient,
                StatsStage::Transient => return telling.answer(self.owner.of() > 1).map(Some),
            };
        }
    }

    /// Tells the next topic of a producer. Returns whether there may be more.
    fn tell_producer(&self, telling: &mut Telling) -> bool {
        if telling.at >= self.peers.producers.capacity() {
            return false;
        }
        let producer = self.peers.producers.get(telling.at);
        let target = producer.and_then(|it| Some((it, it.targets.get(telling.within.target)?.0)));
        let Some((producer, topic)) = target else {
            telling.next_connection();
            return true;
        };
        telling.within.target += 1;
        if let Some(topic) = self.loaded.topics.get(topic) {
            telling.tell(self.catalog.known_name(&topic.name), StatsList::Producers, || {
                json(&ProducerStats {
                    remote_connection: address(&producer.remote),
                    number_of_msg_published: producer.published,
                })
            });
        }
        true
    }

    /// The same of a consumer or reader.
    fn tell_consumer(&self, telling: &mut Telling) -> bool {
        if telling.at >= self.peers.consumers.capacity() {
            return false;
        }
        let consumer = self.peers.consumers.get(telling.at).filter(|consumer| !consumer.is_over());
        let source = consumer.and_then(|it| Some((it, it.sources.next(telling.within.label)?)));
        let Some((consumer, source)) = source else {
            telling.next_connection();
            return true;
        };
        telling.within.label = Some(source.label);
        if let Some(topic) = self.loaded.topics.get(source.topic) {
            telling.tell(self.catalog.known_name(&topic.name), StatsList::Consumers, || {
                json(&ConsumerStats {
                    remote_connection: address(&consumer.remote),
                    subscription_name: &consumer.subscription,
                    subscription_type: consumer.kind.name(),
                    subscription_mode: if consumer.durable { "Durable" } else { "NonDurable" },
                    number_of_msg_delivered: consumer.delivered,
                })
            });
        }
        true
    }

    /// Tells all topics of a connection of non-persistent ones.
    fn tell_transient(&self, telling: &mut Telling, slice: &mut Slice) -> bool {
        if telling.at >= self.peers.transient.all.capacity() {
            return false;
        }
        if let Some(one) = self.peers.transient.all.get(telling.at) {
            let list = if one.kind.is_none() { StatsList::Producers } else { StatsList::Consumers };
            for name in one.topics.split(',') {
                slice.spend(1);
                telling.tell(name, list, || match one.kind {
                    None => json(&ProducerStats {
                        remote_connection: address(&one.remote),
                        number_of_msg_published: 0,
                    }),
                    Some(kind) => json(&ConsumerStats {
                        remote_connection: address(&one.remote),
                        subscription_name: &one.name,
                        subscription_type: kind.name(),
                        subscription_mode: "NonDurable",
                        number_of_msg_delivered: 0,
                    }),
                });
            }
        }
        telling.next_connection();
        true
    }
}

impl Telling {
    fn new(rights: Rights, only: Option<TopicName>, after: Box<str>, topics_max: usize) -> Self {
        let page = StatsPage { topics: BTreeMap::new(), topics_max, until: None, connections: 0 };
        Self {
            rights,
            only,
            after,
            stage: StatsStage::Producers,
            at: 0,
            within: Within::default(),
            page,
        }
    }

    fn next_connection(&mut self) {
        self.at += 1;
        self.within = Within::default();
    }

    /// Tells the connection of a topic, if that is on this page.
    fn tell(&mut self, name: &str, list: StatsList, text: impl FnOnce() -> String) {
        let is_meant = match &self.only {
            Some(only) => only.as_str() == name,
            None => name > &*self.after,
        };
        if is_meant && (self.page.topics.contains_key(name) || self.may_see(name)) {
            self.page.put(name, list, (self.stage, self.at), text);
        }
    }

    fn may_see(&self, name: &str) -> bool {
        let allowed = |name: TopicName| self.rights.allow(Right::Consume, &name);
        self.rights.are_all() || TopicName::read(name).is_ok_and(allowed)
    }

    /// What was found. Topics of other owners may stand between those of a page and the next.
    fn answer(&mut self, is_one_of_several: bool) -> Result<InquiryOutcome, InquiryError> {
        if let Some(only) = &self.only {
            let told = self.page.topics.remove(only.as_str()).ok_or_else(InquiryError::no_topic)?;
            return Ok(InquiryOutcome::Told(200, told.json()));
        }
        let mut out = String::from("{");
        for (name, told) in &self.page.topics {
            let comma = if out.len() > 1 { "," } else { "" };
            let _ = write!(out, "{comma}{}:{}", json(&**name), told.json());
        }
        out.push('}');
        // Other owners' topics behind the end of a page that is not the last are of the next one too.
        let is_partial = is_one_of_several && self.page.until.is_some();
        Ok(InquiryOutcome::Told(if is_partial { PARTIAL } else { 200 }, out))
    }
}

impl StatsPage {
    fn put(
        &mut self,
        name: &str,
        list: StatsList,
        connection: (StatsStage, usize),
        text: impl FnOnce() -> String,
    ) {
        if self.until.as_deref().is_some_and(|until| until <= name) {
            return;
        }
        if !self.topics.contains_key(name) {
            self.topics.insert(name.into(), TopicStats::default());
        }
        let is_only = self.topics.len() == 1;
        let Some(told) = self.topics.get_mut(name) else { return };
        if told.last.replace(connection) == Some(connection) {
            return;
        }
        if is_only && self.connections >= CONNECTIONS_MAX {
            told.omitted += 1;
            return;
        }
        let list = match list {
            StatsList::Producers => &mut told.producers,
            StatsList::Consumers => &mut told.consumers,
        };
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&text());
        told.connections += 1;
        self.connections += 1;
        while self.topics.len() > self.topics_max
            || self.topics.len() > 1 && self.connections > CONNECTIONS_MAX
        {
            let Some((name, told)) = self.topics.pop_last() else { break };
            self.connections -= told.connections;
            self.until = Some(name);
        }
    }
}

impl TopicStats {
    fn json(&self) -> String {
        let Self { producers, consumers, omitted, .. } = self;
        let left_out = if *omitted > 0 { format!(",\"omitted\":{omitted}") } else { String::new() };
        format!("{{\"producerStats\":[{producers}],\"consumerStats\":[{consumers}]{left_out}}}")
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An address as Java writes it.
fn address(remote: &str) -> String {
    format!("/{}", remote.trim_start_matches('/'))
}
