//! Questions about topics, and what is done to them from outside.

use super::one::TopicId;
use super::proxy::{Which, kind_name};
use super::state::Place;
use super::stats::LATENCIES_US;
use super::subscription::SubId;
use super::topics::{Answer, Topics};
use super::work::{Progress, Slice, Work};
use super::{Archive, Domain, Fault, Inquiry, MessageId, Moment, Position, Reply, Rights, Stored, TopicName};
use crate::roster::Seat;
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// Names in one list.
const NAMES_MAX: usize = 10_000;
/// Messages that are shown at once; they go through memory and one answer.
const PEEK_MAX: usize = 100;

/// Names that are read at once.
const NAMES_AT_ONCE: usize = 256;
/// Bytes of messages after which no more are shown at once: they are read, encoded and sent while others wait.
const PEEK_BYTES_MAX: usize = 1024 * 1024;

/// Names of topics that are being told.
pub(super) struct Listing {
    seat: Seat,
    prefix: Box<str>,
    after: Box<str>,
    left: usize,
    /// Those that were found, as JSON.
    names: String,
}

/// A status other than 200, and a sentence.
type Trouble = (u16, Box<str>);

impl<A: Archive> Topics<A> {
    /// Answers, or does what is asked and answers when it is safe.
    pub(super) fn inquire(&mut self, seat: Seat, inquiry: Inquiry) {
        let answer = match inquiry {
            Inquiry::ProxyStats { rights, after, count } => {
                return self.tell_connections(seat, rights, Which::Page { after, count });
            }
            Inquiry::ProxyTopicStats(name) => {
                return self.tell_connections(seat, Rights::ALL, Which::Topic(name));
            }
            Inquiry::ProxyMetrics(rights) => Ok(self.proxy_metrics(&rights)),
            Inquiry::List { prefix, after, count } => {
                let left = count.min(NAMES_MAX);
                let listing = Listing { seat, prefix, after, left, names: String::new() };
                return self.tell_names(listing);
            }
            Inquiry::Stats(name) => self.stats(&name),
            Inquiry::Peek { topic, subscription, count } => self.peek(&topic, subscription.as_deref(), count),
            change => {
                return match self.change(change) {
                    Ok(()) => self.answers.push(Answer::Done(seat)),
                    Err((status, reason)) => {
                        self.reply(seat, Reply::Answer(status, reason.as_bytes().into()));
                    }
                };
            }
        };
        let reply = match answer {
            Ok(value) => Reply::Answer(200, value.to_string().into_bytes().into()),
            Err((status, reason)) => Reply::Answer(status, reason.as_bytes().into()),
        };
        self.reply(seat, reply);
    }

    fn tell_names(&mut self, listing: Listing) {
        let seat = listing.seat;
        if let Err(refusal) = self.take_on(Work::List(Box::new(listing))) {
            self.reply(seat, Reply::Answer(503, refusal.reason.as_bytes().into()));
        }
    }

    /// Reads some names, and answers when there are enough.
    pub(super) fn go_on_listing(&mut self, listing: &mut Listing, slice: &mut Slice) -> Progress {
        while listing.left > 0 {
            if slice.is_over() {
                return Progress::More;
            }
            let count = NAMES_AT_ONCE.min(listing.left);
            let names = match self.archive.names(&listing.prefix, &listing.after, count) {
                Ok(names) => names,
                Err(fault) => {
                    self.reply(listing.seat, Reply::Answer(503, fault.0.as_bytes().into()));
                    return Progress::Done;
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
        self.reply(listing.seat, Reply::Answer(200, answer.into_bytes().into()));
        Progress::Done
    }

    fn change(&mut self, change: Inquiry) -> Result<(), Trouble> {
        if let Some(reason) = &self.broken {
            return Err((503, reason.clone()));
        }
        match change {
            Inquiry::Purge { topic, subscription } => self.purge(&topic, subscription.as_deref()),
            Inquiry::Terminate(name) => {
                let id = self.known(&name)?;
                self.topics[id].state.terminated = true;
                self.save_topic(id).map_err(broken)
            }
            Inquiry::Reset { topic, subscription, to } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if let Moment::At(message) = to
                    && !self.is_of(id, message)
                {
                    return Err((400, "The message id is of another topic".into()));
                }
                let place = self.place_at(id, to).map_err(broken)?;
                self.reset(sub, place, to != Moment::Latest);
                self.save_sub(sub).map_err(broken)
            }
            Inquiry::Forget { topic, subscription } => {
                let id = self.known(&topic)?;
                let sub = self.known_sub(id, &subscription)?;
                if !self.subs[sub].members.is_empty() {
                    return Err((409, "Subscription has active connected consumers".into()));
                }
                self.erase_sub(sub).map_err(broken)
            }
            _ => Ok(()),
        }
    }

    fn known(&mut self, name: &TopicName) -> Result<TopicId, Trouble> {
        let found = match name.domain() {
            Domain::Persistent => self.find_topic(name).map_err(broken)?,
            Domain::NonPersistent => None,
        };
        found.ok_or_else(no_topic)
    }

    fn known_sub(&self, topic: TopicId, name: &str) -> Result<SubId, Trouble> {
        let sub = self.topics[topic].subs.get(name).copied();
        sub.ok_or_else(|| (404, "Subscription does not exist".into()))
    }

    fn place_at(&mut self, id: TopicId, to: Moment) -> Result<Place, Fault> {
        match to {
            Moment::Earliest => self.place_of(id, Position::FIRST),
            Moment::Latest => Ok(self.topics[id].state.next),
            Moment::At(message) => self.place_of(id, message.position),
            Moment::Published(at_ms) => {
                self.search(id, Position::FIRST, |message| message.published_ms() >= at_ms)
            }
        }
    }

    /// A subscription goes on at a place, with nothing pending.
    fn reset(&mut self, id: SubId, place: Place, is_back: bool) {
        let positions: Vec<Position> = self.subs[id].pending.keys().copied().collect();
        for position in positions {
            self.settle(id, position, None);
        }
        let now_ms = self.now.unix_ms;
        let sub = &mut self.subs[id];
        sub.state.read = place;
        sub.state.start = place.position;
        sub.state.skipped = 0;
        sub.state.delayed = if is_back { (0, Position::FIRST) } else { (now_ms, Position::END) };
        sub.due.clear();
        sub.due_ms = 0;
        let topic = sub.topic;
        self.topics[topic].quota_check_bytes = 0;
        self.touch(id);
        self.ready(id);
    }

    fn purge(&mut self, name: &TopicName, subscription: Option<&str>) -> Result<(), Trouble> {
        let id = self.known(name)?;
        let end = self.topics[id].state.next;
        if let Some(subscription) = subscription {
            let sub = self.known_sub(id, subscription)?;
            self.reset(sub, end, false);
            return self.save_sub(sub).map_err(broken);
        }
        let subs: Vec<SubId> = self.topics[id].subs.values().copied().collect();
        for sub in subs {
            self.reset(sub, end, false);
            self.save_sub(sub).map_err(broken)?;
        }
        let topic = &mut self.topics[id];
        topic.state.first = end.position;
        topic.is_untrimmed = true;
        topic.forget_read();
        self.arm_tend(id);
        self.save_topic(id).map_err(broken)
    }

    fn peek(&mut self, name: &TopicName, subscription: Option<&str>, count: usize) -> Result<Value, Trouble> {
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

    /// Everything that is known of a topic.
    fn stats(&mut self, name: &TopicName) -> Result<Value, Trouble> {
        let id = self.known(name)?;
        let first = self.place_of(id, Position::FIRST).map_err(broken)?;
        let topic = &self.topics[id];
        let next = topic.state.next;
        let subs = topic.subs.values().filter_map(|sub| self.subs.get(*sub));
        let subscriptions: Map<String, Value> =
            subs.map(|sub| (sub.name.to_string(), self.sub_stats(sub, &next))).collect();
        let producers = topic.producers.values().filter_map(|id| self.producers.get(*id));
        let producers: Vec<Value> = producers
            .map(|it| json!({"name": it.name, "address": it.remote, "messages": it.published}))
            .collect();
        Ok(json!({
            "name": name.as_str(),
            "terminated": topic.state.terminated,
            "messages": next.ordinal.saturating_sub(first.ordinal),
            "bytes": next.bytes.saturating_sub(first.bytes),
            "messagesEver": next.ordinal,
            "bytesEver": next.bytes,
            "firstMessageId": (first.ordinal < next.ordinal).then(|| id_of(first.position, name).text()),
            "lastMessageId": topic.last.map(|last| id_of(last, name).text()),
            "published": topic.published.0,
            "publishedBytes": topic.published.1,
            "delivered": topic.delivered.0,
            "deliveredBytes": topic.delivered.1,
            "rememberedProducers": topic.sequences.len(),
            "producers": producers,
            "subscriptions": subscriptions,
        }))
    }

    fn sub_stats(&self, sub: &super::subscription::Subscription, next: &Place) -> Value {
        let consumers = sub.members.iter().filter_map(|member| self.consumers.get(member.consumer));
        let consumers: Vec<Value> = consumers
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

fn no_topic() -> Trouble {
    (404, "Topic does not exist".into())
}

fn broken(fault: Fault) -> Trouble {
    (503, fault.0)
}

fn id_of(position: Position, name: &TopicName) -> MessageId {
    MessageId { position, partition: name.partition_number() }
}

/// A message for people.
fn show(stored: &Stored, name: &TopicName) -> Value {
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
