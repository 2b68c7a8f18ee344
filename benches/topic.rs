//! Durable topics without a disk: the cost to encode and decode a message, and to append one,
//! deliver it to a thousand subscriptions and process their acknowledgements.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::service::ConnectionRef;
use fanfare::service::Service as _;
use fanfare::service::topic::{
    Archive, ArchiveError, ConsumerOptions, Flow, MessageDraft, MessageId, Position,
    ProducerOptions, Saved, StoredMessage, StoredTopic, SubscriptionType, TopicAnswer,
    TopicMessage, TopicName, TopicNumber, TopicOutgoing, TopicOwner, TopicQuestion, TopicRules,
    WantedTopics,
};
use fanfare::wheel::Now;

const NOW: Now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };

/// Maximum number of messages in the archive: more than are ever outstanding here.
const REMEMBERED: usize = 1024;

/// An archive that drops its oldest messages.
#[derive(Default)]
struct Memory(BTreeMap<Position, Arc<StoredMessage>>);

impl Archive for Memory {
    fn ledger(&self) -> u32 {
        1
    }

    fn load(&mut self, _name: &str) -> Result<Option<StoredTopic>, ArchiveError> {
        Ok(None)
    }

    fn create(&mut self, _name: &str) -> Result<TopicNumber, ArchiveError> {
        Ok(0)
    }

    fn names(
        &mut self,
        _prefix: &str,
        _after: &str,
        _count: usize,
    ) -> Result<Vec<Box<str>>, ArchiveError> {
        Ok(vec![])
    }

    fn delete(&mut self, _topic: TopicNumber) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn append(
        &mut self,
        _topic: TopicNumber,
        message: &StoredMessage,
        _deliver_ms: Option<u64>,
    ) -> Result<(), ArchiveError> {
        self.0.insert(message.position, Arc::new(message.clone()));
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        Ok(())
    }

    fn read(
        &mut self,
        _topic: TopicNumber,
        from: Position,
        count: usize,
        _bytes_max: usize,
    ) -> Result<Vec<Arc<StoredMessage>>, ArchiveError> {
        Ok(self.0.range(from..).take(count).map(|(_, message)| Arc::clone(message)).collect())
    }

    fn held(&self, _topic: TopicNumber) -> u64 {
        0
    }

    fn trim(&mut self, _topic: TopicNumber, _below: Position) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn delayed(
        &mut self,
        _topic: TopicNumber,
        _from: (u64, Position),
        _until_ms: u64,
        _count: usize,
    ) -> Result<Vec<(u64, Arc<StoredMessage>)>, ArchiveError> {
        Ok(vec![])
    }

    fn trim_delayed(
        &mut self,
        _topic: TopicNumber,
        _below: (u64, Position),
        _count: usize,
    ) -> Result<usize, ArchiveError> {
        Ok(0)
    }

    fn save(&mut self, _topic: TopicNumber, _saved: Saved<'_>) -> Result<(), ArchiveError> {
        Ok(())
    }
}

fn name() -> TopicName {
    TopicName::read("persistent://tenant/ns/topic").expect("the name is valid")
}

fn message(payload: &[u8]) -> TopicMessage<'_> {
    TopicMessage {
        published_ms: NOW.unix_ms,
        key: Some("a key"),
        payload,
        ..TopicMessage::default()
    }
}

fn connection(id: u32) -> ConnectionRef {
    ConnectionRef { shard: 0, id, serial: 0 }
}

/// One producer, and subscriptions with one consumer each.
fn topics(subscriptions: u32) -> TopicOwner<Memory> {
    let mut topics = TopicOwner::new(Memory::default(), TopicRules::default(), NOW);
    let producing = ProducerOptions {
        topic: name(),
        name: None,
        initial_sequence: None,
        round_robin: false,
        hashing: Default::default(),
        remote: "127.0.0.1:1".into(),
    };
    topics.ask(connection(0), TopicQuestion::Produce(Box::new(producing)), NOW, &mut Vec::new());
    for number in 1..=subscriptions {
        let consuming = ConsumerOptions {
            topics: WantedTopics::One(name()),
            subscription: format!("subscription-{number}").into(),
            kind: SubscriptionType::Exclusive,
            durable: true,
            earliest: false,
            flow: Flow::Push(1000),
            ack_timeout_ms: 0,
            nack_delay_ms: 60_000,
            redeliveries_max: 0,
            dead_letters: None,
            name: "consumer".into(),
            priority: 0,
            remote: "127.0.0.1:1".into(),
            rights: None,
            window: None,
        };
        topics.ask(
            connection(number),
            TopicQuestion::Consume(Box::new(consuming)),
            NOW,
            &mut Vec::new(),
        );
    }
    round(&mut topics);
    topics
}

/// One round of the store's thread. Returns what it sends.
fn round(topics: &mut TopicOwner<Memory>) -> Vec<TopicOutgoing> {
    let mut out = Vec::new();
    topics.tick(NOW, &mut out);
    if topics.has_uncommitted() {
        topics.committed(Ok(()), NOW, &mut out);
    }
    while topics.deliver(usize::MAX, NOW, &mut out) {}
    out
}

/// Sends messages and acknowledges all deliveries. Returns the number of deliveries.
fn exchange(topics: &mut TopicOwner<Memory>, messages: usize, payload: &[u8]) -> usize {
    let mut out = Vec::new();
    for _ in 0..messages {
        let draft = MessageDraft::new(&message(payload));
        topics.ask(connection(0), TopicQuestion::Send { draft, context: None }, NOW, &mut out);
    }
    let mut delivered = 0;
    for outgoing in round(topics) {
        match outgoing {
            TopicOutgoing::Deliver(message, recipient) => {
                delivered += 1;
                let id = MessageId { position: message.position, partition: recipient.partition };
                topics.ask(recipient.connection, TopicQuestion::Ack(id), NOW, &mut out);
                if recipient.wants_receipt {
                    topics.ask(recipient.connection, TopicQuestion::Took, NOW, &mut out);
                }
            }
            TopicOutgoing::Reply(_, TopicAnswer::NotStored { reason, .. }) => panic!("{reason}"),
            TopicOutgoing::Reply(..) | TopicOutgoing::Ask(..) => {}
        }
    }
    delivered
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let payload = [b'x'; 256];
    group.throughput(Throughput::Elements(1));
    group.bench_function("lay out 256 bytes", |bencher| {
        bencher.iter(|| MessageDraft::new(black_box(&message(&payload))));
    });
    let stored = MessageDraft::new(&message(&payload)).store(Position::FIRST, 0, 0);
    group.bench_function("read 256 bytes", |bencher| {
        bencher
            .iter(|| StoredMessage::read(black_box(stored.position), black_box(stored.record())));
    });
    group.bench_function("take 256 bytes apart", |bencher| {
        bencher.iter(|| black_box(&stored).message().payload.len());
    });
}

fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic");
    let payload = [b'x'; 256];
    for (subscriptions, messages) in [(0, 64), (1, 64), (1000, 1), (1000, 16)] {
        let mut topics = topics(subscriptions);
        let deliveries = subscriptions as usize * messages;
        group.throughput(Throughput::Elements(deliveries.max(messages) as u64));
        let name = format!("{messages} to {subscriptions}, acknowledged");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let delivered = exchange(&mut topics, messages, &payload);
                assert_eq!(delivered, deliveries);
            });
        });
    }
}

criterion_group!(benches, records, exchanges);
criterion_main!(benches);
