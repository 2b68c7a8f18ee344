//! Producers, consumers and readers that go on in the next process as if nothing had been.

use crate::client::{Consumer, Producer, SHARDS, Socket, message, setup};
use crate::harness::{Service, eventually};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn what_a_consumer_holds_stays_its_own_and_its_window_is_as_full_as_it_was() {
    for shards in SHARDS {
        let mut service = Service::start(setup().set("threads", shards));
        let daemon = &service.daemon;
        let mut consumer = Consumer::new(daemon, "held", "sub?receiverQueueSize=3");
        let mut pulling = Consumer::new(daemon, "held", "pulled?pullMode=true");
        let mut producer = Producer::new(daemon, "held");
        producer.send_all((0..10).map(|number| number.to_string()));
        let held: Vec<_> = (0..3).map(|_| consumer.next()).collect();
        pulling.permit(2);
        assert_eq!(pulling.take().payload, "0");
        assert_eq!(pulling.take().payload, "1");

        for round in 0..2 {
            let answer = service.hand_over();
            assert_eq!((&answer["passed"], &answer["told"]), (&json!(3), &json!(0)), "{round}");
            consumer.assert_quiet();
            pulling.assert_quiet();
        }
        consumer.ack(&held[1].id);
        assert_eq!(consumer.next().payload, "3");
        consumer.assert_quiet();
        pulling.permit(1);
        assert_eq!(pulling.next().payload, "2");
        pulling.assert_quiet();

        // The producer goes on behind what it has sent.
        let id = producer.send("10");
        assert!(!held.iter().any(|message| message.id == id));
        // What one held that has gone comes to the next, in order.
        consumer.0.leave();
        let mut next = Consumer::new(&service.daemon, "held", "sub");
        let expected = ["0", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
        assert_eq!(next.take_all(10), expected);
        next.assert_quiet();
    }
}

#[test]
fn what_is_to_be_delivered_again_is_so_at_its_time_and_with_its_count() {
    let mut service = Service::start(setup());
    let shared =
        "sub?subscriptionType=Shared&negativeAckRedeliveryDelay=1500&ackTimeoutMillis=2500";
    let mut consumer = Consumer::new(&service.daemon, "again", shared);
    let mut producer = Producer::new(&service.daemon, "again");
    // What is delivered may be so before the producer has its answer.
    let start = Instant::now();
    producer.send_all(["back", "late"]);
    let (back, late) = (consumer.next(), consumer.next());
    consumer.nack(&back.id);
    // Its answer comes behind what was said before.
    consumer.assert_quiet();
    service.hand_over();

    for (message, after_ms) in [(&back, 1500), (&late, 2500)] {
        let again = consumer.take();
        let waited = start.elapsed();
        assert_eq!((&again.id, &again.payload), (&message.id, &message.payload));
        assert_eq!(again.whole["redeliveryCount"], 1);
        assert!(waited >= Duration::from_millis(after_ms), "{waited:?}");
    }
    consumer.assert_quiet();
}

#[test]
fn readers_patterns_and_topics_that_keep_nothing_go_on_too() {
    let mut service = Service::start(setup());
    let daemon = &service.daemon;
    let mut producer = Producer::new(daemon, "plain");
    producer.send_all(["0", "1", "2"]);
    let mut reader = Consumer::reader(daemon, "plain?messageId=earliest");
    assert_eq!(reader.take_all(2), ["0", "1"]);
    let mut waiting = Consumer::reader(daemon, "later?messageId=earliest");
    let path = "/ws/v3/consumer/sub?topicsPattern=public/default/some-.*";
    let mut pattern = Consumer(Socket::open(daemon.address, path));
    let volatile = |role: &str| format!("/ws/v2/{role}non-persistent/public/default/v");
    let listener = |name: &str| {
        let path = volatile("consumer/") + "/" + name + "?subscriptionType=Shared";
        Consumer(Socket::open(daemon.address, &path))
    };
    let mut sharing = [listener("shared"), listener("shared")];
    let mut talking = Producer(Socket::open(daemon.address, &volatile("producer/")));

    let answer = service.hand_over();
    assert_eq!((&answer["passed"], &answer["told"]), (&json!(7), &json!(0)), "{answer}");

    assert_eq!(reader.take().payload, "2");
    producer.send("3");
    assert_eq!(reader.take().payload, "3");
    reader.assert_quiet();
    // Topics that are created now.
    Producer::new(&service.daemon, "later").send("first");
    assert_eq!(waiting.take().payload, "first");
    Producer::new(&service.daemon, "some-new").send("matches");
    assert_eq!(pattern.take().payload, "matches");
    // Each message to one of those who share.
    for number in 0..20 {
        talking.send(&number.to_string());
    }
    let mut all: Vec<String> = Vec::new();
    for consumer in &mut sharing {
        all.extend(consumer.drain().into_iter().map(|message| message.payload));
    }
    let unique: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), unique.len()), (20, 20), "{all:?}");
}

#[test]
fn a_hand_over_that_is_not_made_changes_nothing() {
    let service = Service::start(setup().set("threads", 2));
    let mut consumer = Consumer::new(&service.daemon, "back", "sub?receiverQueueSize=2");
    let mut producer = Producer::new(&service.daemon, "back");
    producer.send_all(["0", "1", "2"]);
    let first = consumer.next();
    // It takes everything, and ends before it is asked to go on.
    for _ in 0..3 {
        let said = service.fail_at("state");
        assert!(said.contains("taken over"), "{said}");
    }
    assert_eq!(consumer.next().payload, "1");
    consumer.assert_quiet();
    consumer.ack(&first.id);
    assert_eq!(consumer.next().payload, "2");
    producer.send("3");
    let metric = "handover_total{outcome=\"given_back\"}";
    assert_eq!(service.daemon.metric(metric), 3);
}

#[test]
fn under_load_every_message_is_answered_once_and_comes_once() {
    const MESSAGES: usize = 200;
    for writers in ["1", "2"] {
        let mut service = Service::start(setup().set("threads", 2).set("store.writers", writers));
        let is_over = Arc::<AtomicBool>::default();
        let answered = Arc::<AtomicUsize>::default();
        let mut producers = Vec::new();
        let mut consumers = Vec::new();
        for number in 0..6 {
            let topic = format!("load-{number}");
            let kind = ["Exclusive", "Shared", "Key_Shared"][number % 3];
            let subscription = format!("sub?subscriptionType={kind}&receiverQueueSize=20");
            let mut consumer = Consumer::new(&service.daemon, &topic, &subscription);
            let mut producer = Producer::new(&service.daemon, &topic);
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            producers.push(std::thread::spawn(move || {
                let mut sent = 0;
                while sent < MESSAGES || !is_over.load(Relaxed) {
                    // Ten on their way at any time.
                    for next in sent..sent + 10 {
                        let more =
                            json!({ "key": (next % 5).to_string(), "context": next.to_string() });
                        producer.0.say(&message(&next.to_string(), &more));
                    }
                    for next in sent..sent + 10 {
                        let answer = producer.0.hear();
                        assert_eq!(answer["result"], "ok", "{answer}");
                        assert_eq!(answer["context"], next.to_string(), "not in order");
                    }
                    sent += 10;
                    answered.fetch_add(10, Relaxed);
                }
                (producer, sent)
            }));
            consumers.push(std::thread::spawn(move || {
                let mut got = Vec::new();
                loop {
                    let text = consumer.take().payload;
                    if text == "end" {
                        consumer.assert_quiet();
                        return got;
                    }
                    got.push(text);
                }
            }));
        }
        for _ in 0..3 {
            let before = answered.load(Relaxed);
            eventually("messages are stored", || answered.load(Relaxed) > before + 500);
            let answer = service.hand_over();
            assert_eq!((&answer["passed"], &answer["told"]), (&json!(12), &json!(0)), "{answer}");
        }
        is_over.store(true, Relaxed);
        for (producer, consumer) in producers.into_iter().zip(consumers) {
            let (mut producer, sent) = producer.join().unwrap();
            producer.send("end");
            let expected: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
            assert_eq!(consumer.join().unwrap(), expected);
        }
    }
}
