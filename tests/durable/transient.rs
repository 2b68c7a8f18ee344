//! Non-persistent topics: who is there gets it, and nothing is kept.

use crate::client::{Consumer, Producer, Received, SHARDS, Socket, message, setup};
use crate::harness::{Daemon, eventually};
use serde_json::json;
use std::collections::BTreeMap;

fn path(kind: &str, rest: &str) -> String {
    format!("/ws/v2/{kind}/non-persistent/public/default/{rest}")
}

fn consumer(daemon: &Daemon, rest: &str) -> Consumer {
    Consumer(Socket::open(daemon.address, &path("consumer", rest)))
}

fn producer(daemon: &Daemon, rest: &str) -> Producer {
    Producer(Socket::open(daemon.address, &path("producer", rest)))
}

#[test]
fn every_subscription_and_reader_that_is_there_gets_every_message() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut takers = vec![consumer(&daemon, "now/one"), consumer(&daemon, "now/two")];
        takers.push(Consumer(Socket::open(daemon.address, &path("reader", "now"))));
        let mut producer = producer(&daemon, "now");
        let payloads: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        producer.send_all(&payloads);
        for taker in &mut takers {
            assert_eq!(taker.take_all(100), payloads);
        }
        // Who comes later has missed it.
        let mut late = consumer(&daemon, "now/late?subscriptionInitialPosition=Earliest");
        producer.send("new");
        assert_eq!(late.take().payload, "new");
    }
}

#[test]
fn shared_consumers_share_and_keys_stay_together() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut keyed: Vec<Consumer> =
            (0..3).map(|_| consumer(&daemon, "split/keyed?subscriptionType=Key_Shared")).collect();
        let mut shared: Vec<Consumer> =
            (0..3).map(|_| consumer(&daemon, "split/shared?subscriptionType=Shared")).collect();
        let mut producer = producer(&daemon, "split");
        for number in 0..300 {
            producer
                .0
                .say(&message(&number.to_string(), &json!({ "key": (number % 30).to_string() })));
        }
        for _ in 0..300 {
            assert_eq!(producer.0.hear()["result"], "ok");
        }
        let mut owners = BTreeMap::new();
        collect(&mut keyed, 300, |index, message| {
            let owner = *owners.entry(message.whole["key"].to_string()).or_insert(index);
            assert_eq!(owner, index);
        });
        let mut counts = [0; 3];
        collect(&mut shared, 300, |index, _| counts[index] += 1);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }
}

/// Takes so many messages from whoever gets them: the numbers below that, each once.
fn collect(consumers: &mut [Consumer], count: u32, mut each: impl FnMut(usize, &Received)) {
    let mut all = Vec::new();
    // What is published has reached all shards at some time after its producer was answered.
    eventually("all have come", || {
        for (index, consumer) in consumers.iter_mut().enumerate() {
            for message in consumer.drain() {
                consumer.ack(&message.id);
                each(index, &message);
                all.push(message.payload.parse::<u32>().unwrap());
            }
        }
        all.len() >= count as usize
    });
    all.sort();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

#[test]
fn an_exclusive_subscription_has_one_consumer_there_too() {
    let daemon = setup().set("threads", 2).start();
    let _first = consumer(&daemon, "busy/sub");
    assert_eq!(Socket::refused(daemon.address, &path("consumer", "busy/sub")).0, 409);
}
