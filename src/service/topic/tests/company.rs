//! Several owners of topics, one shard, and what is on its way between them.

use super::memory::MemoryArchive;
use super::world::*;
use crate::service::ConnectionRef;
use crate::service::Service as _;
use crate::service::topic::*;
use crate::wheel::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Several owners, one shard, and what is on its way between them, which comes in an order that is
/// drawn.
pub(super) struct Company {
    pub(super) owners: Vec<TopicOwner<MemoryArchive>>,
    pub(super) routes: Routes,
    pub(super) inboxes: Vec<VecDeque<(ConnectionRef, TopicQuestion)>>,
    pub(super) mailbox: VecDeque<TopicOutgoing>,
    pub(super) now: Now,
    pub(super) drawn: u64,
    pub(super) replies: BTreeMap<u32, VecDeque<TopicAnswer>>,
    pub(super) got: BTreeMap<u32, Vec<Got>>,
    pub(super) open: BTreeSet<u32>,
}

impl Company {
    pub(super) fn new(count: usize, rules: &TopicRules) -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: START_MS };
        let total = Arc::default();
        let topics =
            |owner| TopicOwner::new(MemoryArchive::of(owner), rules.clone(), now).of(owner, &total);
        Self {
            owners: OwnerIndex::all(count).map(topics).collect(),
            routes: Routes::new(count),
            inboxes: (0..count).map(|_| VecDeque::new()).collect(),
            mailbox: VecDeque::new(),
            now,
            drawn: 1,
            replies: BTreeMap::new(),
            got: BTreeMap::new(),
            open: BTreeSet::new(),
        }
    }

    pub(super) fn draw(&mut self, below: usize) -> usize {
        self.drawn = self
            .drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 33) as usize % below
    }

    /// A request of a connection; nobody has heard of it yet.
    pub(super) fn say(&mut self, id: u32, request: TopicQuestion) {
        self.routes.ask(connection(id), request);
    }

    /// A request, and all that comes of it.
    pub(super) fn ask(&mut self, id: u32, request: TopicQuestion) {
        self.say(id, request);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// One of the threads has a turn. Returns whether there is more to do.
    pub(super) fn step(&mut self) -> bool {
        for (inbox, asked) in self.inboxes.iter_mut().zip(self.routes.take_asked()) {
            inbox.extend(asked);
        }
        let mut able: Vec<usize> =
            (0..self.owners.len()).filter(|at| !self.inboxes[*at].is_empty()).collect();
        if !self.mailbox.is_empty() {
            able.push(self.owners.len());
        }
        if able.is_empty() {
            return false;
        }
        let chosen = able[self.draw(able.len())];
        if chosen == self.owners.len() {
            let outgoing = self.mailbox.pop_front();
            outgoing.into_iter().for_each(|outgoing| self.receive(outgoing));
        } else {
            self.round(chosen);
        }
        true
    }

    /// A round of an owner, with some of what it is asked.
    pub(super) fn round(&mut self, owner: usize) {
        let count = self.draw(self.inboxes[owner].len().max(1)) + 1;
        let count = count.min(self.inboxes[owner].len());
        let requests: Vec<_> = self.inboxes[owner].drain(..count).collect();
        let (topics, now, mut out) = (&mut self.owners[owner], self.now, Vec::new());
        requests
            .into_iter()
            .for_each(|(connection, request)| topics.ask(connection, request, now, &mut out));
        topics.tick(now, &mut out);
        while topics.work(now, &mut out) {}
        if topics.has_uncommitted() {
            topics.archive().commit();
            topics.committed(Ok(()), now, &mut out);
        }
        while topics.deliver(1024 * 1024, now, &mut out) {}
        for outgoing in out {
            match outgoing {
                TopicOutgoing::Ask(other, connection, request) => {
                    self.inboxes[other].push_back((connection, request))
                }
                TopicOutgoing::Reply(connection, reply) => {
                    match OwnerIndex::of_connection(connection) {
                        Some(other) => {
                            let is_stored = matches!(reply, TopicAnswer::Stored { .. });
                            self.inboxes[other]
                                .push_back((connection, TopicQuestion::Buried { is_stored }));
                        }
                        None => self.mailbox.push_back(TopicOutgoing::Reply(connection, reply)),
                    }
                }
                delivered @ TopicOutgoing::Deliver(..) => self.mailbox.push_back(delivered),
            }
        }
    }

    /// What comes to the shard.
    pub(super) fn receive(&mut self, outgoing: TopicOutgoing) {
        match outgoing {
            TopicOutgoing::Reply(connection, TopicAnswer::Probe) => {
                self.say(connection.id, TopicQuestion::Probed { is_closing: false })
            }
            TopicOutgoing::Reply(connection, reply) => {
                if let Some(reply) = self.routes.answered(connection, reply) {
                    if matches!(reply, TopicAnswer::Opened) {
                        assert!(self.open.insert(connection.id), "told twice");
                    }
                    self.replies.entry(connection.id).or_default().push_back(reply);
                }
            }
            TopicOutgoing::Deliver(message, recipient) => {
                assert!(
                    self.open.contains(&recipient.connection.id),
                    "delivered before it is open"
                );
                let id = MessageId { position: message.position, partition: recipient.partition };
                let text = String::from_utf8_lossy(message.message().payload).into_owned();
                let redeliveries = recipient.redeliveries;
                let got = Got { id, text, redeliveries, wants_receipt: recipient.wants_receipt };
                self.got.entry(recipient.connection.id).or_default().push(got);
                if recipient.wants_receipt {
                    self.say(recipient.connection.id, TopicQuestion::Took);
                }
            }
            TopicOutgoing::Ask(..) => {}
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.now.monotonic_ns += 100_000_000;
            self.now.unix_ms += 100;
            (0..self.owners.len()).for_each(|owner| self.round(owner));
            self.settle();
        }
    }

    pub(super) fn reply(&mut self, id: u32) -> Option<TopicAnswer> {
        self.replies.get_mut(&id)?.pop_front()
    }

    pub(super) fn consume(
        &mut self,
        id: u32,
        topics: WantedTopics,
        flow: Flow,
        kind: SubscriptionType,
    ) {
        let consuming =
            ConsumerOptions { topics, flow, earliest: true, ..consuming("x", "s", kind) };
        self.ask(id, TopicQuestion::Consume(Box::new(consuming)));
        let reply = self.reply(id);
        assert!(matches!(reply, Some(TopicAnswer::Opened)), "{reply:?}");
    }

    pub(super) fn append(&mut self, topic: &str, text: &str) {
        let draft = MessageDraft::new(&TopicMessage {
            payload: text.as_bytes(),
            ..TopicMessage::default()
        });
        self.ask(999, TopicQuestion::Append(name(topic), draft));
        assert!(matches!(self.reply(999), Some(TopicAnswer::Stored { .. })));
    }

    pub(super) fn take(&mut self, id: u32) -> Vec<Got> {
        self.got.remove(&id).unwrap_or_default()
    }

    pub(super) fn inquire(&mut self, inquiry: TopicInquiry) -> serde_json::Value {
        self.ask(998, TopicQuestion::Inquire(Box::new(inquiry)));
        match self.reply(998) {
            Some(TopicAnswer::Answer(200, body)) => serde_json::from_slice(&body).unwrap(),
            Some(TopicAnswer::Answer(status, _)) => status.into(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn list(&mut self, count: usize) -> Vec<String> {
        let names = self.inquire(TopicInquiry::List { prefix: "".into(), after: "".into(), count });
        let names = names.as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().rsplit_once('/').unwrap().1.to_owned()).collect()
    }

    pub(super) fn told(&mut self, topic: &str, what: &str) -> serde_json::Value {
        self.inquire(TopicInquiry::Stats(name(topic)))["subscriptions"]["s"][what].clone()
    }
}

impl Company {
    /// What was on its way to a connection that has gone comes to nobody.
    pub(super) fn settle_without(&mut self, gone: u32) {
        self.mailbox.retain(|outgoing| match outgoing {
            TopicOutgoing::Deliver(_, recipient) => recipient.connection.id != gone,
            TopicOutgoing::Reply(connection, _) => connection.id != gone,
            TopicOutgoing::Ask(..) => true,
        });
        // Nor what an owner has still decided before it hears of it.
        self.open.insert(gone);
        self.settle();
        self.open.remove(&gone);
        self.got.remove(&gone);
        self.replies.remove(&gone);
    }
}
