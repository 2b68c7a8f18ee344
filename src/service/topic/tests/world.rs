//! Topics with a store in memory, a virtual clock, and what every connection was told.

use super::memory::MemoryArchive;
use crate::service::ConnectionRef;
use crate::service::NewRefs;
use crate::service::Service as _;
use crate::service::topic::*;
use crate::wheel::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A delivery as a connection sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) redeliveries: u32,
    pub(super) wants_receipt: bool,
}

/// Something that left.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Opened,
    Refused,
    /// With the context.
    Stored(MessageId, String),
    NotStored,
    Got(Got),
    Other,
}

/// Everything.
pub(super) struct World {
    pub(super) topics: TopicOwner<MemoryArchive>,
    pub(super) now: Now,
    pub(super) replies: BTreeMap<u32, VecDeque<TopicAnswer>>,
    pub(super) got: BTreeMap<u32, VecDeque<Got>>,
    pub(super) messages: BTreeMap<u32, VecDeque<Arc<StoredMessage>>>,
    pub(super) rules: TopicRules,
    /// What was told and delivered, in order and with its time, until somebody takes it.
    pub(super) log: Vec<(u64, u32, Event)>,
    /// Connections that were told that they are open.
    open: BTreeSet<u32>,
    /// Connections whose shards do not say whether they live; of all others they say that they do.
    pub(super) mute: BTreeSet<u32>,
    /// Connections that are to be looked at.
    probed: Vec<ConnectionRef>,
    /// What has left and was not looked at yet.
    pub(super) out: Vec<TopicOutgoing>,
    /// Why the disk does not sync.
    pub(super) sync_fault: Option<&'static str>,
}

/// When the virtual clock starts.
pub(super) const START_MS: u64 = 1_700_000_000_000;

pub(super) fn connection(id: u32) -> ConnectionRef {
    ConnectionRef { shard: 0, id, serial: 1 }
}

pub(super) fn name(short: &str) -> TopicName {
    TopicName::read(&format!("persistent://t/n/{short}")).unwrap()
}

pub(super) fn consuming(
    topic: &str,
    subscription: &str,
    kind: SubscriptionType,
) -> ConsumerOptions {
    ConsumerOptions {
        topics: WantedTopics::One(name(topic)),
        subscription: subscription.into(),
        kind,
        durable: true,
        earliest: false,
        flow: Flow::Push(1000),
        ack_timeout_ms: 0,
        nack_delay_ms: 0,
        redeliveries_max: 0,
        dead_letters: None,
        name: "c".into(),
        priority: 0,
        remote: "127.0.0.1:5".into(),
        rights: None,
        window: None,
    }
}

/// All topics of the namespace whose own names match.
pub(super) fn pattern(own: &str) -> WantedTopics {
    let pattern = TopicPattern::new(&format!("^persistent://t/n/(?:{own})$")).unwrap();
    WantedTopics::Matching { namespace: "persistent://t/n/".into(), pattern }
}

pub(super) fn reading(topic: &str, start: ReaderStart) -> ReaderOptions {
    ReaderOptions {
        topic: name(topic),
        start,
        window: 1000,
        name: "r".into(),
        remote: "127.0.0.1:6".into(),
    }
}

pub(super) fn producing(topic: &str) -> ProducerOptions {
    ProducerOptions {
        topic: name(topic),
        name: None,
        initial_sequence: None,
        round_robin: false,
        hashing: Hashing::Java,
        remote: "127.0.0.1:7".into(),
    }
}

pub(super) fn at(ledger: u64, entry: u64) -> MessageId {
    MessageId { position: Position::new(ledger, entry).unwrap(), partition: None }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(TopicRules::default())
    }

    pub(super) fn with(rules: TopicRules) -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: START_MS };
        Self {
            topics: TopicOwner::new(MemoryArchive::default(), rules.clone(), now),
            now,
            replies: BTreeMap::new(),
            got: BTreeMap::new(),
            messages: BTreeMap::new(),
            rules,
            log: Vec::new(),
            open: BTreeSet::new(),
            mute: BTreeSet::new(),
            probed: Vec::new(),
            out: Vec::new(),
            sync_fault: None,
        }
    }

    /// A question, without a round.
    pub(super) fn take(&mut self, id: u32, question: TopicQuestion) {
        self.topics.ask(connection(id), question, self.now, &mut self.out);
    }

    pub(super) fn tick(&mut self) {
        self.topics.tick(self.now, &mut self.out);
    }

    pub(super) fn work(&mut self) -> bool {
        self.topics.work(self.now, &mut self.out)
    }

    pub(super) fn deliver(&mut self, bytes_max: usize) -> bool {
        self.topics.deliver(bytes_max, self.now, &mut self.out)
    }

    pub(super) fn committed(&mut self, result: Result<(), &str>) {
        self.topics.committed(result, self.now, &mut self.out);
    }

    /// A question, and a round.
    pub(super) fn ask(&mut self, id: u32, request: TopicQuestion) {
        self.take(id, request);
        self.round();
        self.answer_probes();
    }

    /// Those that are looked at say that they live, unless they are mute.
    pub(super) fn answer_probes(&mut self) {
        while let Some(probed) = self.probed.pop() {
            self.take(probed.id, TopicQuestion::Probed { is_closing: false });
            self.round();
        }
    }

    /// What the store's thread does in a round.
    pub(super) fn round(&mut self) {
        self.tick();
        while self.work() {}
        if self.topics.has_uncommitted() {
            let result = self.sync_fault.map_or(Ok(()), Err);
            if result.is_ok() {
                self.topics.archive().commit();
            }
            self.committed(result);
        }
        while self.deliver(1024 * 1024) {
            self.take_out();
        }
        self.take_out();
    }

    pub(super) fn take_out(&mut self) {
        for outgoing in std::mem::take(&mut self.out) {
            match outgoing {
                TopicOutgoing::Reply(connection, TopicAnswer::Probe) => {
                    self.probed.extend(
                        Some(connection).filter(|connection| !self.mute.contains(&connection.id)),
                    );
                }
                TopicOutgoing::Reply(connection, reply) => {
                    let event = match &reply {
                        TopicAnswer::Opened => Event::Opened,
                        TopicAnswer::Refused(_) => Event::Refused,
                        TopicAnswer::Stored { id, context } => {
                            Event::Stored(*id, context.as_deref().unwrap_or_default().into())
                        }
                        TopicAnswer::NotStored { .. } => Event::NotStored,
                        _ => Event::Other,
                    };
                    if matches!(event, Event::Opened) {
                        self.open.insert(connection.id);
                    }
                    self.log.push((self.now.monotonic_ns, connection.id, event));
                    self.replies.entry(connection.id).or_default().push_back(reply);
                }
                TopicOutgoing::Ask(..) => panic!("there is no other owner"),
                TopicOutgoing::Deliver(message, recipient) => {
                    let got = Got {
                        id: MessageId {
                            position: message.position,
                            partition: recipient.partition,
                        },
                        text: String::from_utf8_lossy(message.message().payload).into_owned(),
                        redeliveries: recipient.redeliveries,
                        wants_receipt: recipient.wants_receipt,
                    };
                    assert!(
                        self.open.contains(&recipient.connection.id),
                        "delivered before it is open"
                    );
                    self.log.push((
                        self.now.monotonic_ns,
                        recipient.connection.id,
                        Event::Got(got.clone()),
                    ));
                    self.got.entry(recipient.connection.id).or_default().push_back(got);
                    self.messages.entry(recipient.connection.id).or_default().push_back(message);
                }
            }
        }
    }

    /// Time passes, in steps in which the store's thread wakes up.
    pub(super) fn pass(&mut self, ms: u64) {
        let end_ns = self.now.monotonic_ns + ms * 1_000_000;
        while let Some(next_ns) = self.topics.next_at_ns().filter(|next_ns| *next_ns <= end_ns) {
            let step_ms = next_ns.saturating_sub(self.now.monotonic_ns).div_ceil(1_000_000);
            self.now.monotonic_ns += step_ms * 1_000_000;
            self.now.unix_ms += step_ms;
            self.round();
        }
        let left_ms = end_ns.saturating_sub(self.now.monotonic_ns) / 1_000_000;
        self.now.monotonic_ns += left_ms * 1_000_000;
        self.now.unix_ms += left_ms;
        self.round();
    }

    /// The daemon is killed and started again; all connections are lost.
    pub(super) fn crash(&mut self) {
        let mut archive = std::mem::take(self.topics.archive());
        archive.crash();
        self.topics = TopicOwner::new(archive, self.rules.clone(), self.now);
        self.replies.clear();
        self.got.clear();
        self.messages.clear();
        self.open.clear();
        self.sync_fault = None;
    }

    /// The daemon is stopped as it should be, and started again.
    pub(super) fn restart(&mut self) {
        self.topics.save(self.now);
        self.topics.archive().commit();
        self.crash();
    }

    /// Another process takes the topics over, with all connections but these.
    pub(super) fn pass_on(&mut self, left: &[u32]) {
        let frozen = self.frozen();
        self.pass_to(&frozen, left);
    }

    /// What another process is told.
    pub(super) fn frozen(&self) -> Vec<u8> {
        assert!(self.topics.is_at_rest(), "something is under way");
        serde_json::to_vec(&self.topics.freeze()).unwrap()
    }

    /// Another process, which was told this, takes the topics over.
    pub(super) fn pass_to(&mut self, frozen: &[u8], left: &[u32]) {
        let mut refs = NewRefs::default();
        for passed in self.topics.peers.roles.keys().filter(|it| !left.contains(&it.id)) {
            refs.put(*passed, *passed);
        }
        self.topics.save(self.now);
        self.topics.archive().commit();
        let mut archive = std::mem::take(self.topics.archive());
        archive.crash();
        self.topics = TopicOwner::new(archive, self.rules.clone(), self.now);
        let frozen = serde_json::from_slice(frozen).unwrap();
        self.topics.thaw(frozen, &refs, self.now, &mut self.out);
    }

    /// What stands for a topic in the ids of those who consume several.
    pub(super) fn label(&mut self, topic: &str) -> Option<u32> {
        let number = self.topics.archive().live.get(name(topic).as_str())?.number;
        MessageId::topic_label(number)
    }

    pub(super) fn reply(&mut self, id: u32) -> Option<TopicAnswer> {
        self.replies.get_mut(&id)?.pop_front()
    }

    /// Fails unless the connection was just told that it is what it wants to be.
    pub(super) fn opened(&mut self, id: u32) {
        let reply = self.reply(id);
        assert!(matches!(reply, Some(TopicAnswer::Opened)), "{reply:?}");
    }

    pub(super) fn refused(&mut self, id: u32) -> Cause {
        match self.reply(id) {
            Some(TopicAnswer::Refused(refusal)) => refusal.cause,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn consume(&mut self, id: u32, consuming: ConsumerOptions) {
        self.ask(id, TopicQuestion::Consume(Box::new(consuming)));
        self.opened(id);
    }

    pub(super) fn read(&mut self, id: u32, reading: ReaderOptions) {
        self.ask(id, TopicQuestion::Read(Box::new(reading)));
        self.opened(id);
    }

    pub(super) fn produce(&mut self, id: u32, producing: ProducerOptions) {
        self.ask(id, TopicQuestion::Produce(Box::new(producing)));
        self.opened(id);
    }

    /// A feed's message.
    pub(super) fn append(&mut self, topic: &str, text: &str) -> MessageId {
        self.append_message(
            topic,
            &TopicMessage { payload: text.as_bytes(), ..TopicMessage::default() },
        )
    }

    pub(super) fn append_keyed(&mut self, topic: &str, key: &str, text: &str) -> MessageId {
        let message =
            TopicMessage { payload: text.as_bytes(), key: Some(key), ..TopicMessage::default() };
        self.append_message(topic, &message)
    }

    /// A message of a feed, published now.
    pub(super) fn append_message(&mut self, topic: &str, message: &TopicMessage<'_>) -> MessageId {
        let draft =
            MessageDraft::new(&TopicMessage { published_ms: self.now.unix_ms, ..message.clone() });
        self.ask(999_999, TopicQuestion::Append(name(topic), draft));
        match self.reply(999_999) {
            Some(TopicAnswer::Stored { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// A producer's message, and what comes of it.
    pub(super) fn send(
        &mut self,
        id: u32,
        message: &TopicMessage<'_>,
    ) -> Result<MessageId, String> {
        let draft =
            MessageDraft::new(&TopicMessage { published_ms: self.now.unix_ms, ..message.clone() });
        self.ask(id, TopicQuestion::Send { draft, context: None });
        match self.reply(id) {
            Some(TopicAnswer::Stored { id, .. }) => Ok(id),
            Some(TopicAnswer::NotStored { reason, .. }) => Err(reason.into()),
            other => panic!("{other:?}"),
        }
    }

    /// What a connection has got since the last call.
    pub(super) fn all(&mut self, id: u32) -> Vec<Got> {
        self.messages.remove(&id);
        self.got.remove(&id).map_or_else(Vec::new, |got| got.into_iter().collect())
    }

    /// Likewise, as texts.
    pub(super) fn texts(&mut self, id: u32) -> Vec<String> {
        self.all(id).into_iter().map(|got| got.text).collect()
    }

    pub(super) fn ack(&mut self, id: u32, got: &Got) {
        self.ask(id, TopicQuestion::Ack(got.id));
    }

    /// The answer to a question.
    pub(super) fn inquire(&mut self, inquiry: TopicInquiry) -> (u16, serde_json::Value) {
        self.ask(999_998, TopicQuestion::Inquire(Box::new(inquiry)));
        match self.reply(999_998) {
            Some(TopicAnswer::Answer(200, body)) => (200, serde_json::from_slice(&body).unwrap()),
            Some(TopicAnswer::Answer(status, body)) => {
                (status, String::from_utf8(body.into()).unwrap().into())
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is told of a subscription.
    pub(super) fn told(
        &mut self,
        topic: &str,
        subscription: &str,
        what: &str,
    ) -> serde_json::Value {
        self.inquire(TopicInquiry::Stats(name(topic))).1["subscriptions"][subscription][what]
            .clone()
    }
}
