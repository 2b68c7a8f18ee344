//! Partitioned topics, and consumers of several topics.

use crate::client::{Consumer, Producer, Socket, message, setup};
use crate::harness::Setup;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn partitioned() -> Setup {
    let setup = setup().set("threads", 2);
    let file = setup.path("fanfare.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(
        "[[pulsar.partitioned]]\ntopic = \"persistent://public/default/parts\"\npartitions = 4\n",
    );
    std::fs::write(&file, text).unwrap();
    setup
}

#[test]
fn a_key_has_a_partition_and_a_consumer_gets_all() {
    let daemon = partitioned().start();
    let mut consumer = Consumer::new(&daemon, "parts", "sub");
    let mut producer = Producer::new(&daemon, "parts");
    for number in 0..200 {
        producer.0.say(&message(&number.to_string(), &json!({ "key": (number % 20).to_string() })));
    }
    let ids: BTreeSet<String> =
        (0..200).map(|_| producer.0.hear()["messageId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 200, "the partition is part of the id");
    let places: BTreeSet<(u64, u64)> = ids.iter().map(|id| crate::client::place(id)).collect();
    assert!(places.len() < 200, "twenty keys are not all in one partition");
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    let mut got = BTreeSet::new();
    for _ in 0..200 {
        let message = consumer.take();
        let number: u32 = message.payload.parse().unwrap();
        let before = last.insert(number % 20, number);
        assert!(before.is_none_or(|before| before < number), "the order of a key is kept");
        got.insert(message.id);
    }
    assert_eq!(got, ids);
    consumer.assert_quiet();
    consumer.0.leave();
    // All acknowledgements have found their partition.
    Consumer::new(&daemon, "parts", "sub").assert_quiet();
}

#[test]
fn one_partition_can_be_consumed_alone_and_round_robin_fills_all() {
    let daemon = partitioned().start();
    let mut consumers: Vec<Consumer> =
        (0..4).map(|n| Consumer::new(&daemon, &format!("parts-partition-{n}"), "sub")).collect();
    let mut producer = Producer::new(&daemon, "parts?messageRoutingMode=RoundRobinPartition");
    let ids = producer.send_all((0..40).map(|n| n.to_string()));
    let counts: Vec<usize> = consumers.iter_mut().map(|consumer| consumer.drain().len()).collect();
    assert_eq!(counts, [10; 4], "{ids:?}");
    let mut producer = Producer::new(&daemon, "parts");
    producer.send_all((0..40).map(|n| n.to_string()));
    let counts: Vec<usize> = consumers.iter_mut().map(|consumer| consumer.drain().len()).collect();
    assert!(counts.contains(&40), "without a key all go to one: {counts:?}");
}

#[test]
fn a_consumer_of_several_topics_gets_all_with_one_window() {
    let daemon = setup().set("threads", 2).start();
    let topics = "persistent://public/default/one,persistent://public/default/two";
    let path = format!("/ws/v3/consumer/sub?topics={topics}&receiverQueueSize=2");
    let mut consumer = Consumer(Socket::open(daemon.address, &path));
    Producer::new(&daemon, "one").send_all(["1", "2", "3"]);
    Producer::new(&daemon, "two").send_all(["4", "5", "6"]);
    let (first, second) = (consumer.next(), consumer.next());
    consumer.assert_quiet();
    consumer.ack(&first.id);
    consumer.ack(&second.id);
    let mut all: Vec<String> = vec![first.payload, second.payload];
    all.extend(consumer.take_all(4));
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    consumer.assert_quiet();
    consumer.0.leave();
    Consumer(Socket::open(daemon.address, &path)).assert_quiet();
}

#[test]
fn a_pattern_takes_topics_that_are_there_and_those_to_come() {
    let daemon = setup().start();
    let mut there = Producer::new(&daemon, "log-a");
    there.send("before");
    let path = "/ws/v3/consumer/sub?topicsPattern=persistent://public/default/log-.*\
                &subscriptionInitialPosition=Earliest";
    let mut consumer = Consumer(Socket::open(daemon.address, path));
    assert_eq!(consumer.take_all(1), ["before"]);
    Producer::new(&daemon, "other").send("not for it");
    Producer::new(&daemon, "log-b").send("later");
    assert_eq!(consumer.take_all(1), ["later"]);
    consumer.assert_quiet();
}

#[test]
fn a_partition_beyond_the_number_is_refused() {
    let daemon = partitioned().start();
    for path in [
        "/ws/v2/producer/persistent/public/default/parts-partition-9",
        "/ws/v2/consumer/persistent/public/default/parts-partition-4/sub",
        "/ws/v2/reader/persistent/public/default/parts-partition-9",
    ] {
        let (status, reason) = Socket::refused(daemon.address, path);
        assert!(status == 404 && reason.contains("the topic has 4"), "{path}: {status} {reason}");
    }
}
