//! Operators' queries about topics, and their changes to them.

use super::commits::PendingAnswer;
use super::handles::{SubId, TopicId};
use super::inquiry::{InquiryError, InquiryOutcome, InquiryProgress, NAMES_MAX, PAGE_TOPICS_MAX};
use super::owner::TopicOwner;
use super::purge::Walk;
use super::state::LogPlace;
use super::stats::LATENCIES_US;
use super::subscription::Subscription;
use super::work::{Slice, WorkProgress};
use super::{
    Archive, ArchiveError, CursorReset, MessageId, Position, Rights, StoredMessage, TopicAnswer,
    TopicDomain, TopicInquiry, TopicName,
};
use crate::service::ConnectionRef;
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// Limit on the messages of one peek; they are held in memory for one answer.
const PEEK_MAX: usize = 100;
/// Limit on the producers of a topic, and on the consumers of each subscription, listed in
/// statistics; further ones are only counted.
const CONNECTIONS_MAX: usize = 1000;
/// Names read from the archive in one step.
const NAMES_AT_ONCE: usize = 256;
/// Limit on the bytes of one peek: while they are read, encoded and sent, other requests wait.
const PEEK_BYTES_MAX: usize = 1024 * 1024;

impl<A: Archive> TopicOwner<A> {
    /// Answers a query, or makes a change and answers once it is committed.
    pub(super) fn inquire(&mut self, connection: ConnectionRef, inquiry: TopicInquiry) {
        let outcome = self.begin_inquiry(connection, inquiry);
        self.conclude(connection, outcome);
    }

    fn begin_inquiry(
        &mut self,
        connection: ConnectionRef,
        inquiry: TopicInquiry,
    ) -> InquiryProgress {
        match inquiry {
            TopicInquiry::ProxyStats { rights, after, count } => {
                let page = (after, count.clamp(1, PAGE_TOPICS_MAX));
                self.list_connections(connection, rights, None, page)
            }
            TopicInquiry::ProxyTopic(name) => {
                self.list_connections(connection, Rights::ALL, Some(name), ("".into(), 1))
            }
            TopicInquiry::ProxyMetrics(rights) => answered(&self.proxy_metrics(&rights)),
            TopicInquiry::List { prefix, mut after, count } => {
                let (mut names, count) = (Vec::new(), count.min(NAMES_MAX));
                self.answer_in_slices(connection, move |owner, slice| {
                    owner.list(&prefix, &mut after, &mut names, count, slice)
                })
            }
            TopicInquiry::Stats(name) => {
                let id = self.known(&name)?;
                let (mut walk, topic) = (self.walk(id), self.topic_stats(id)?);
                let mut subscriptions = String::new();
                self.answer_in_slices(connection, move |owner, slice| {
                    owner.look(&mut walk, &topic, &mut subscriptions, slice)
                })
            }
            TopicInquiry::Peek { topic, subscription, count } => {
                answered(&self.peek(&topic, subscription.as_deref(), count)?)
            }
            change => self.change(connection, change),
        }
    }

    /// Produces an answer in slices.
    pub(super) fn answer_in_slices(
        &mut self,
        connection: ConnectionRef,
        mut step: impl FnMut(&mut Self, &mut Slice) -> InquiryProgress + Send + 'static,
    ) -> InquiryProgress {
        self.run(false, move |owner, slice| {
            let outcome = step(owner, slice);
            owner.conclude(connection, outcome)
        })?;
        Ok(None)
    }

    /// Answers when the outcome is final.
    fn conclude(&mut self, connection: ConnectionRef, outcome: InquiryProgress) -> WorkProgress {
        let (status, body) = match outcome {
            Ok(None) => return WorkProgress::More,
            Ok(Some(InquiryOutcome::Changed)) => {
                self.commits.answers.push(PendingAnswer::Done(connection));
                return WorkProgress::Done;
            }
            Ok(Some(InquiryOutcome::Answer(status, json))) => (status, json.into_boxed_str()),
            Err(InquiryError(status, reason)) => (status, reason),
        };
        self.reply(connection, TopicAnswer::Answer(status, body.into_boxed_bytes()));
        WorkProgress::Done
    }

    /// Reads the next names after `after`, which advances; answers when there are enough.
    fn list(
        &mut self,
        prefix: &str,
        after: &mut Box<str>,
        names: &mut Vec<Box<str>>,
        count: usize,
        slice: &mut Slice,
    ) -> InquiryProgress {
        while names.len() < count {
            if !slice.take(NAMES_AT_ONCE) {
                return Ok(None);
            }
            let found =
                self.archive.names(prefix, after, NAMES_AT_ONCE.min(count - names.len()))?;
            let Some(last) = found.last() else { break };
            *after = last.clone();
            names.extend(found);
        }
        let names = serde_json::to_string(names).unwrap_or_default();
        Ok(Some(InquiryOutcome::Answer(200, names)))
    }

    /// Makes a change, to be answered once it is committed.
    fn change(&mut self, connection: ConnectionRef, change: TopicInquiry) -> InquiryProgress {
        // A broken store would never make the change safe, so it must not be confirmed.
        if let Some(reason) = &self.commits.broken {
            return Err(InquiryError(503, reason.clone()));
        }
        match change {
            TopicInquiry::Purge { topic, subscription } => {
                return self.purge(connection, &topic, subscription.as_deref());
            }
            TopicInquiry::Delete { topic, force } => return self.delete(connection, topic, force),
            TopicInquiry::Terminate(name) => {
                let id = self.known(&name)?;
                self.loaded.topics[id].state.terminated = true;
                self.save_topic(id)?;
            }
            TopicInquiry::Reset { topic, subscription, to } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if let CursorReset::At(message) = to
                    && !self.is_of(id, message)
                {
                    return Err(InquiryError(400, "The message id is of another topic".into()));
                }
                let place = self.place_at(id, to)?;
                self.reset(sub, place, to != CursorReset::Latest);
                self.save_sub(sub)?;
            }
            TopicInquiry::Forget { topic, subscription } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if !self.loaded.subs[sub].members.is_empty() {
                    return Err(InquiryError(
                        409,
                        "Subscription has active connected consumers".into(),
                    ));
                }
                self.erase_sub(sub)?;
            }
            _ => {}
        }
        Ok(Some(InquiryOutcome::Changed))
    }

    pub(super) fn known(&mut self, name: &TopicName) -> Result<TopicId, InquiryError> {
        let found = match name.domain() {
            TopicDomain::Persistent => self.find_topic(name)?,
            TopicDomain::NonPersistent => None,
        };
        found.ok_or_else(InquiryError::no_topic)
    }

    pub(super) fn known_sub(&self, topic: TopicId, name: &str) -> Result<SubId, InquiryError> {
        let sub = self.loaded.topics[topic].subs.get(name).copied();
        sub.ok_or_else(|| InquiryError(404, "Subscription does not exist".into()))
    }

    fn place_at(&mut self, id: TopicId, to: CursorReset) -> Result<LogPlace, ArchiveError> {
        match to {
            CursorReset::Earliest => self.place_of(id, Position::FIRST),
            CursorReset::Latest => Ok(self.loaded.topics[id].state.next),
            CursorReset::At(message) => self.place_of(id, message.position),
            CursorReset::Published(at_ms) => {
                let found = self.search(id, Position::FIRST, |mark| mark.published_ms >= at_ms)?;
                Ok(found.map_or(self.loaded.topics[id].visible, |mark| mark.place))
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
            let sub = &self.loaded.subs[self.known_sub(id, subscription)?];
            from = sub.state.read.position;
            let pending = sub.pending.iter().take(count);
            let pending: Vec<_> =
                pending.map(|(position, it)| (*position, it.deliver_ms)).collect();
            for (position, deliver_ms) in pending {
                // The last message may exceed the limit: messages are shown complete or not at all.
                if bytes >= PEEK_BYTES_MAX {
                    break;
                }
                let found = self.fetch(id, position, deliver_ms)?;
                bytes += found.as_ref().map_or(0, |message| message.len());
                shown.extend(found.map(|message| show(&message, name)));
            }
        }
        // The pending messages come first; new ones follow from the cursor on.
        while shown.len() < count && bytes < PEEK_BYTES_MAX {
            let Some(message) = self.loaded.message_at(id, from, &mut self.archive)? else { break };
            from = message.position.after();
            bytes += message.len();
            shown.push(show(&message, name));
        }
        Ok(Value::Array(shown))
    }

    /// Adds some subscriptions to a topic's statistics; answers when all are included. They are
    /// collected as text: with very many, the last slice could not serialize all of them.
    fn look(
        &mut self,
        walk: &mut Walk,
        topic: &Value,
        subscriptions: &mut String,
        slice: &mut Slice,
    ) -> InquiryProgress {
        while let Some(id) = self.next_sub(walk)? {
            let sub = &self.loaded.subs[id];
            let comma = if subscriptions.is_empty() { "" } else { "," };
            let stats = self.sub_stats(sub, &self.loaded.topics[walk.topic].state.next);
            subscriptions.push_str(&format!("{comma}{}:{stats}", json!(&*sub.name)));
            // Each consumer costs a step too, since it is listed.
            slice.spend(1 + sub.members.len().min(CONNECTIONS_MAX));
            if slice.is_over() {
                return Ok(None);
            }
        }

        // Spliced as text, since the subscriptions are text already.
        let topic = topic.to_string();
        let topic = topic.trim_end_matches('}');
        let whole = format!("{topic},\"subscriptions\":{{{subscriptions}}}}}");
        Ok(Some(InquiryOutcome::Answer(200, whole)))
    }

    /// The statistics of a topic except for its subscriptions.
    fn topic_stats(&mut self, id: TopicId) -> Result<Value, InquiryError> {
        let first = self.place_of(id, Position::FIRST)?;
        let oldest = self.loaded.message_at(id, Position::FIRST, &mut self.archive)?;
        let topic = &self.loaded.topics[id];
        let (name, next) = (&topic.name, topic.state.next);
        let producers = topic.producers.values().filter_map(|id| self.peers.producers.get(*id));
        let producers: Vec<Value> = producers
            .take(CONNECTIONS_MAX)
            .map(|it| json!({"name": it.name, "address": it.remote, "messages": it.published}))
            .collect();
        let first_id = (first.ordinal < next.ordinal).then(|| id_of(first.position, name));
        Ok(json!({
            "name": name.as_str(),
            "terminated": topic.state.terminated,
            "messages": next.ordinal.saturating_sub(first.ordinal),
            "bytes": next.bytes.saturating_sub(first.bytes),
            "heldBytes": self.archive.held(topic.number),
            "oldestPublishTime": oldest.map(|message| message.message().published_ms),
            "messagesEver": next.ordinal,
            "bytesEver": next.bytes,
            "firstMessageId": first_id.map(MessageId::text),
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

    fn sub_stats(&self, sub: &Subscription, next: &LogPlace) -> Value {
        let consumers =
            sub.members.iter().filter_map(|member| self.peers.consumers.get(member.consumer));
        let consumers: Vec<Value> = consumers
            .take(CONNECTIONS_MAX)
            .map(|it| {
                let (unacknowledged, permits) = it.fill();
                json!({
                    "name": it.options.name,
                    "address": it.options.remote,
                    "session": it.connection.to_string(),
                    "priority": it.options.priority,
                    "messages": it.delivered,
                    "unacknowledged": unacknowledged,
                    "permits": permits,
                })
            })
            .collect();
        json!({
            "type": sub.state.kind.name(),
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

fn answered(value: &Value) -> InquiryProgress {
    Ok(Some(InquiryOutcome::Answer(200, value.to_string())))
}

fn id_of(position: Position, name: &TopicName) -> MessageId {
    MessageId { position, partition: name.partition_number() }
}

/// A message as JSON for operators.
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
