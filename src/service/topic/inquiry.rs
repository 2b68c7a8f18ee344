//! Questions about topics, and what is done to them from outside.

use super::loaded::TopicId;
use super::owner::{PendingAnswer, TopicOwner};
use super::proxy::{StatsScope, kind_name};
use super::purge::Walk;
use super::state::LogPlace;
use super::stats::LATENCIES_US;
use super::subscription::SubId;
use super::work::{Slice, TopicWork, WorkProgress};
use super::{
    Archive, ArchiveError, CursorReset, MessageId, Position, Rights, StoredMessage, TopicAnswer, TopicDomain,
    TopicInquiry, TopicName,
};
use crate::service::ConnectionRef;
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// Names in one list.
pub(super) const NAMES_MAX: usize = 10_000;
/// Messages that are shown at once; they go through memory and one answer.
const PEEK_MAX: usize = 100;

/// Producers of a topic, and consumers of each of its subscriptions, that are told with it: those beyond are counted.
const CONNECTIONS_MAX: usize = 1000;
/// Names that are read at once.
const NAMES_AT_ONCE: usize = 256;
/// Bytes of messages after which no more are shown at once: they are read, encoded and sent while others wait.
const PEEK_BYTES_MAX: usize = 1024 * 1024;

/// Names of topics that are being told.
pub(super) struct Listing {
    connection: ConnectionRef,
    prefix: Box<str>,
    after: Box<str>,
    left: usize,
    /// Those that were found, as JSON.
    names: String,
}

/// A topic that is being told with its subscriptions.
pub(super) struct Looking {
    connection: ConnectionRef,
    walk: Walk,
    /// What is told of the topic itself, and the subscriptions that were found, as JSON.
    topic: Value,
    subscriptions: String,
}

/// A status other than 200, and a sentence.
pub(super) type InquiryError = (u16, Box<str>);

impl<A: Archive> TopicOwner<A> {
    /// Answers, or does what is asked and answers when it is safe.
    pub(super) fn inquire(&mut self, connection: ConnectionRef, inquiry: TopicInquiry) {
        let answer = match inquiry {
            TopicInquiry::ProxyStats { rights, after, count } => {
                return self.tell_connections(connection, rights, StatsScope::Page { after, count });
            }
            TopicInquiry::ProxyTopic(name) => {
                return self.tell_connections(connection, Rights::ALL, StatsScope::Topic(name));
            }
            TopicInquiry::ProxyMetrics(rights) => Ok(self.proxy_metrics(&rights)),
            TopicInquiry::List { prefix, after, count } => {
                let left = count.min(NAMES_MAX);
                let listing = Listing { connection, prefix, after, left, names: String::new() };
                return self.tell_names(listing);
            }
            TopicInquiry::Stats(name) => match self.look(connection, &name) {
                Ok(()) => return,
                Err(trouble) => Err(trouble),
            },
            TopicInquiry::Peek { topic, subscription, count } => {
                self.peek(&topic, subscription.as_deref(), count)
            }
            change => {
                return match self.change(connection, change) {
                    Ok(()) => {}
                    Err((status, reason)) => self.answer(connection, status, reason.as_bytes()),
                };
            }
        };
        let reply = match answer {
            Ok(value) => TopicAnswer::Answer(200, value.to_string().into_bytes().into()),
            Err((status, reason)) => TopicAnswer::Answer(status, reason.as_bytes().into()),
        };
        self.reply(connection, reply);
    }

    fn tell_names(&mut self, listing: Listing) {
        let connection = listing.connection;
        if let Err(refusal) = self.take_on(TopicWork::List(Box::new(listing))) {
            self.reply(connection, TopicAnswer::Answer(503, refusal.reason.as_bytes().into()));
        }
    }

    /// Reads some names, and answers when there are enough.
    pub(super) fn go_on_listing(&mut self, listing: &mut Listing, slice: &mut Slice) -> WorkProgress {
        while listing.left > 0 {
            if slice.is_over() {
                return WorkProgress::More;
            }
            let count = NAMES_AT_ONCE.min(listing.left);
            let names = match self.archive.names(&listing.prefix, &listing.after, count) {
                Ok(names) => names,
                Err(fault) => {
                    self.reply(listing.connection, TopicAnswer::Answer(503, fault.0.as_bytes().into()));
                    return WorkProgress::Done;
                }
            };
            slice.spend(NAMES_AT_ONCE);
            if names.is_empty() {
                break;
            }
            for name in names {
                let comma = if listing.names.is_empty() { "" } else { "," };
                listing.names.push_str(comma);
                listing.names.push_str(&json!(&*name).to_string());
                listing.left -= 1;
                listing.after = name;
            }
        }
        let answer = format!("[{}]", listing.names);
        self.reply(listing.connection, TopicAnswer::Answer(200, answer.into_bytes().into()));
        WorkProgress::Done
    }

    /// Does what is asked, which is answered when it is safe.
    fn change(&mut self, connection: ConnectionRef, change: TopicInquiry) -> Result<(), InquiryError> {
        if let Some(reason) = &self.broken {
            return Err((503, reason.clone()));
        }
        match change {
            TopicInquiry::Purge { topic, subscription } => {
                return self.purge(connection, &topic, subscription.as_deref());
            }
            TopicInquiry::Delete { topic, force } => return self.delete(connection, topic, force),
            TopicInquiry::Terminate(name) => {
                let id = self.known(&name)?;
                self.topics[id].state.terminated = true;
                self.save_topic(id).map_err(broken)?;
            }
            TopicInquiry::Reset { topic, subscription, to } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if let CursorReset::At(message) = to
                    && !self.is_of(id, message)
                {
                    return Err((400, "The message id is of another topic".into()));
                }
                let place = self.place_at(id, to).map_err(broken)?;
                self.reset(sub, place, to != CursorReset::Latest);
                self.save_sub(sub).map_err(broken)?;
            }
            TopicInquiry::Forget { topic, subscription } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if !self.subs[sub].members.is_empty() {
                    return Err((409, "Subscription has active connected consumers".into()));
                }
                self.erase_sub(sub).map_err(broken)?;
            }
            _ => {}
        }
        self.answers.push(PendingAnswer::Done(connection));
        Ok(())
    }

    pub(super) fn known(&mut self, name: &TopicName) -> Result<TopicId, InquiryError> {
        let found = match name.domain() {
            TopicDomain::Persistent => self.find_topic(name).map_err(broken)?,
            TopicDomain::NonPersistent => None,
        };
        found.ok_or_else(no_topic)
    }

    pub(super) fn known_sub(&self, topic: TopicId, name: &str) -> Result<SubId, InquiryError> {
        let sub = self.topics[topic].subs.get(name).copied();
        sub.ok_or_else(|| (404, "Subscription does not exist".into()))
    }

    fn place_at(&mut self, id: TopicId, to: CursorReset) -> Result<LogPlace, ArchiveError> {
        match to {
            CursorReset::Earliest => self.place_of(id, Position::FIRST),
            CursorReset::Latest => Ok(self.topics[id].state.next),
            CursorReset::At(message) => self.place_of(id, message.position),
            CursorReset::Published(at_ms) => {
                let found = self.search(id, Position::FIRST, |mark| mark.published_ms >= at_ms)?;
                Ok(found.map_or(self.topics[id].visible, |mark| mark.place))
            }
        }
    }

    fn peek(
        &mut self,
        name: &TopicName,
        subscription: Option<&str>,
        count: usize,
    ) -> Result<Value, InquiryError> {
        let id = self.known(name)?;
        let (mut shown, mut bytes) = (Vec::new(), 0);
        let count = count.min(PEEK_MAX);
        let mut from = Position::FIRST;
        if let Some(subscription) = subscription {
            let sub = &self.subs[self.known_sub(id, subscription)?];
            from = sub.state.read.position;
            let pending = sub.pending.iter().take(count);
            let pending: Vec<_> = pending.map(|(position, it)| (*position, it.deliver_ms)).collect();
            for (position, deliver_ms) in pending {
                if bytes >= PEEK_BYTES_MAX {
                    break;
                }
                let found = self.fetch(id, position, deliver_ms).map_err(broken)?;
                bytes += found.as_ref().map_or(0, |message| message.len());
                shown.extend(found.map(|message| show(&message, name)));
            }
        }
        while shown.len() < count && bytes < PEEK_BYTES_MAX {
            let Self { topics, archive, cache, .. } = self;
            let found = topics[id].at(id, from, archive, cache).map_err(broken)?;
            let Some(message) = found else { break };
            from = message.position.after();
            bytes += message.len();
            shown.push(show(&message, name));
        }
        Ok(Value::Array(shown))
    }

    /// Begins to tell everything that is known of a topic.
    fn look(&mut self, connection: ConnectionRef, name: &TopicName) -> Result<(), InquiryError> {
        let id = self.known(name)?;
        let topic = self.topic_stats(id)?;
        let looking = Looking { connection, walk: self.walk(id), topic, subscriptions: String::new() };
        self.take_on(TopicWork::Look(Box::new(looking))).map_err(|refusal| (503, refusal.reason))
    }

    /// Tells some subscriptions, and answers when all are told.
    pub(super) fn go_on_looking(&mut self, looking: &mut Looking, slice: &mut Slice) -> WorkProgress {
        let Looking { connection, walk, topic, subscriptions } = looking;
        let next = loop {
            let found = self.next_sub(walk);
            let Ok(Some(id)) = found else { break found };
            let Some((sub, its)) = self.subs.get(id).zip(self.topics.get(walk.topic)) else { break Err(()) };
            let comma = if subscriptions.is_empty() { "" } else { "," };
            let told = self.sub_stats(sub, &its.state.next);
            subscriptions.push_str(&format!("{comma}{}:{told}", json!(&*sub.name)));
            slice.spend(1 + sub.members.len().min(CONNECTIONS_MAX));
            if slice.is_over() {
                return WorkProgress::More;
            }
        };
        match next {
            Ok(_) => {
                let topic = topic.to_string();
                let topic = topic.trim_end_matches('}');
                let told = format!("{topic},\"subscriptions\":{{{subscriptions}}}}}");
                self.answer(*connection, 200, told.as_bytes());
            }
            Err(()) => {
                let (status, reason) = no_topic();
                self.answer(*connection, status, reason.as_bytes());
            }
        }
        WorkProgress::Done
    }

    /// Everything that is known of a topic but its subscriptions.
    fn topic_stats(&mut self, id: TopicId) -> Result<Value, InquiryError> {
        let first = self.place_of(id, Position::FIRST).map_err(broken)?;
        let Self { topics, archive, cache, .. } = self;
        let oldest = topics[id].at(id, Position::FIRST, archive, cache).map_err(broken)?;
        let topic = &self.topics[id];
        let (name, next) = (&topic.name, topic.state.next);
        let producers = topic.producers.values().filter_map(|id| self.producers.get(*id));
        let producers: Vec<Value> = producers
            .take(CONNECTIONS_MAX)
            .map(|it| json!({"name": it.name, "address": it.remote, "messages": it.published}))
            .collect();
        Ok(json!({
            "name": name.as_str(),
            "terminated": topic.state.terminated,
            "messages": next.ordinal.saturating_sub(first.ordinal),
            "bytes": next.bytes.saturating_sub(first.bytes),
            "heldBytes": self.archive.held(topic.number),
            "oldestPublishTime": oldest.map(|message| message.message().published_ms),
            "messagesEver": next.ordinal,
            "bytesEver": next.bytes,
            "firstMessageId": (first.ordinal < next.ordinal).then(|| id_of(first.position, name).text()),
            "lastMessageId": topic.last.map(|last| id_of(last, name).text()),
            "published": topic.published.0,
            "publishedBytes": topic.published.1,
            "delivered": topic.delivered.0,
            "deliveredBytes": topic.delivered.1,
            "rememberedProducers": topic.sequences.len(),
            "producersConnected": topic.producers.len(),
            "producers": producers,
        }))
    }

    fn sub_stats(&self, sub: &super::subscription::Subscription, next: &LogPlace) -> Value {
        let consumers = sub.members.iter().filter_map(|member| self.consumers.get(member.consumer));
        let consumers: Vec<Value> = consumers
            .take(CONNECTIONS_MAX)
            .map(|it| {
                let (unacknowledged, permits) = it.fill();
                json!({
                    "name": it.name,
                    "address": it.remote,
                    "priority": it.priority,
                    "messages": it.delivered,
                    "unacknowledged": unacknowledged,
                    "permits": permits,
                })
            })
            .collect();
        json!({
            "type": kind_name(sub.state.kind),
            "durable": sub.durable,
            "backlog": sub.backlog(next),
            "backlogBytes": sub.backlog_bytes(next),
            "pending": sub.pending.len(),
            "delayed": sub.state.skipped.max(0),
            "consumersConnected": sub.members.len(),
            "consumers": consumers,
        })
    }

    fn proxy_metrics(&self, rights: &Rights) -> Value {
        let now_ns = self.now.monotonic_ns;
        let seen = self.counters.all(now_ns).filter(|(name, ..)| rights.allow_namespace(name));
        let spaces = seen.map(|(name, counts, seconds)| {
            let mut metrics = Map::new();
            for (metric, count) in [
                ("ns_msg_publish_rate", counts.published),
                ("ns_byte_publish_rate", counts.published_bytes),
                ("ns_msg_failure_rate", counts.failed),
                ("ns_msg_deliver_rate", counts.delivered),
                ("ns_byte_deliver_rate", counts.delivered_bytes),
                ("ns_msg_ack_rate", counts.acknowledged),
            ] {
                metrics.insert(metric.into(), json!(count as f64 / seconds));
            }
            let ends = LATENCIES_US.iter().map(|end_us| end_us.to_string());
            for (end, count) in ends.chain(["1000000_higher".to_owned()]).zip(counts.latencies) {
                metrics.insert(format!("ns_msg_publish_latency_{end}"), json!(count));
            }
            json!({"metrics": metrics, "dimensions": {"namespace": name}})
        });
        Value::Array(spaces.collect())
    }
}

pub(super) fn no_topic() -> InquiryError {
    (404, "Topic does not exist".into())
}

pub(super) fn broken(fault: ArchiveError) -> InquiryError {
    (503, fault.0)
}

fn id_of(position: Position, name: &TopicName) -> MessageId {
    MessageId { position, partition: name.partition_number() }
}

/// A message for people.
fn show(stored: &StoredMessage, name: &TopicName) -> Value {
    let message = stored.message();
    let properties: Map<String, Value> =
        message.properties.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "messageId": id_of(stored.position, name).text(),
        "publishTime": message.published_ms,
        "eventTime": message.event_ms,
        "deliverAt": message.deliver_ms,
        "producerName": message.producer,
        "sequenceId": message.sequence,
        "key": message.key,
        "properties": properties,
        "payload": base64::engine::general_purpose::STANDARD.encode(message.payload),
    })
}
