//! One consumer: its window, what it acknowledges, refuses, pulls and leaves.

use crate::client::{Consumer, Producer, SHARDS, Socket, setup};
use crate::harness::eventually;
use crate::stats::backlog;
use serde_json::json;
use std::time::{Duration, Instant};

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

#[test]
fn a_window_holds_what_is_not_acknowledged_and_an_acknowledgement_frees_a_slot() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "window", "sub?receiverQueueSize=3");
        let mut producer = Producer::new(&daemon, "window");
        producer.send_all(numbers(0..10));
        let first = consumer.next();
        assert_eq!((consumer.next().payload, consumer.next().payload), ("1".into(), "2".into()));
        consumer.assert_quiet();
        consumer.ack(&first.id);
        assert_eq!(consumer.next().payload, "3");
        consumer.assert_quiet();
        // One of a message that is not there frees one too.
        consumer.ack("CP8HEP8H");
        assert_eq!(consumer.next().payload, "4");
        consumer.assert_quiet();
    }
}

#[test]
fn a_window_of_nothing_is_one() {
    let daemon = setup().start();
    let mut consumer = Consumer::new(&daemon, "one", "sub?receiverQueueSize=0");
    Producer::new(&daemon, "one").send_all(numbers(0..3));
    for number in numbers(0..3) {
        let message = consumer.next();
        assert_eq!(message.payload, number);
        consumer.assert_quiet();
        consumer.ack(&message.id);
    }
}

#[test]
fn a_negative_acknowledgement_brings_a_message_again_and_counts() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let query = "sub?subscriptionType=Shared&negativeAckRedeliveryDelay=100";
        let mut consumer = Consumer::new(&daemon, "nack", query);
        Producer::new(&daemon, "nack").send("once more");
        for count in 0..4 {
            let message = consumer.next();
            assert_eq!(
                (message.payload.as_str(), &message.whole["redeliveryCount"]),
                ("once more", &json!(count))
            );
            if count < 3 {
                let start = Instant::now();
                consumer.nack(&message.id);
                if count == 0 {
                    consumer.assert_quiet();
                    // The delay itself is the daemon's promise; that it is not shorter can be seen.
                    assert!(consumer.next().whole["redeliveryCount"] == 1);
                    assert!(start.elapsed() >= Duration::from_millis(100));
                    consumer.nack(&message.id);
                    assert!(consumer.next().whole["redeliveryCount"] == 2);
                    return_to_three(&mut consumer, &message.id);
                    break;
                }
            }
        }
        consumer.assert_quiet();
    }
}

fn return_to_three(consumer: &mut Consumer, id: &str) {
    consumer.nack(id);
    let message = consumer.take();
    assert_eq!((message.id.as_str(), &message.whole["redeliveryCount"]), (id, &json!(3)));
}

#[test]
fn what_is_not_acknowledged_in_time_comes_again_even_with_a_full_window() {
    let daemon = setup().start();
    let query = "sub?subscriptionType=Shared&ackTimeoutMillis=1000&receiverQueueSize=1";
    let mut consumer = Consumer::new(&daemon, "late", query);
    Producer::new(&daemon, "late").send_all(["1", "2"]);
    let first = consumer.next();
    assert_eq!((first.payload.as_str(), &first.whole["redeliveryCount"]), ("1", &json!(0)));
    let mut seen = Vec::new();
    // Whatever comes first of what is due, neither may be forgotten.
    while seen.len() < 2 {
        let message = consumer.take();
        if message.payload == "1" {
            assert_eq!(message.whole["redeliveryCount"], 1);
        }
        seen.push(message.payload);
    }
    seen.sort();
    assert_eq!(seen, ["1", "2"]);
    consumer.assert_quiet();
}

#[test]
fn who_pulls_gets_what_it_asked_for_and_no_more() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "pull", "sub?pullMode=true");
        Producer::new(&daemon, "pull").send_all(numbers(0..10));
        consumer.assert_quiet();
        consumer.permit(2);
        assert_eq!(consumer.take_all(2), ["0", "1"]);
        consumer.assert_quiet();
        consumer.permit(1);
        consumer.permit(3);
        assert_eq!(consumer.take_all(4), ["2", "3", "4", "5"]);
        consumer.assert_quiet();
    }
}

#[test]
fn a_permit_means_nothing_where_messages_are_pushed() {
    let daemon = setup().start();
    let mut consumer = Consumer::new(&daemon, "pushed", "sub?receiverQueueSize=1");
    Producer::new(&daemon, "pushed").send_all(["1", "2"]);
    consumer.permit(100);
    assert_eq!(consumer.next().payload, "1");
    consumer.assert_quiet();
}

#[test]
fn a_new_subscription_begins_with_the_latest_or_with_the_earliest() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "begin");
    producer.send_all(["1", "2"]);
    let mut latest = Consumer::new(&daemon, "begin", "latest");
    let mut earliest =
        Consumer::new(&daemon, "begin", "earliest?subscriptionInitialPosition=Earliest");
    producer.send("3");
    assert_eq!(latest.take_all(1), ["3"]);
    assert_eq!(earliest.take_all(3), ["1", "2", "3"]);
}

#[test]
fn a_subscription_that_is_not_durable_ends_with_its_consumer() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "fleeting");
    let mut consumer = Consumer::new(&daemon, "fleeting", "sub?subscriptionMode=NonDurable");
    producer.send("1");
    assert_eq!(consumer.take_all(1), ["1"]);
    consumer.0.leave();
    producer.send("2");
    let mut consumer = Consumer::new(&daemon, "fleeting", "sub?subscriptionMode=NonDurable");
    producer.send("3");
    assert_eq!(consumer.take_all(1), ["3"]);
}

#[test]
fn unsubscribing_deletes_the_subscription_and_the_connection_stays() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "leaving");
    let mut consumer = Consumer::new(&daemon, "leaving", "sub");
    producer.send("1");
    assert_eq!(consumer.next().payload, "1");
    consumer.0.say(&json!({ "type": "unsubscribe" }));
    producer.send("2");
    assert_eq!(crate::stats::backlog(&daemon, "persistent://public/default/leaving", "sub"), None);
    // It still answers a ping, and has got nothing.
    consumer.0.client.frame(0x89, b"still there");
    let frame = consumer.0.client.next().unwrap();
    assert_eq!((frame.first, frame.payload.as_slice()), (0x8a, &b"still there"[..]));
}

#[test]
fn who_is_connected_to_a_topic_that_is_deleted_is_told_so_and_may_come_again() {
    let daemon = setup().start();
    let delete = |force: &str| {
        let path = format!("/topics?topic=persistent://public/default/gone&force={force}");
        crate::stats::admin(&daemon, "DELETE", &path)
    };
    assert_eq!(delete("").0, 404);
    let mut producer = Producer::new(&daemon, "gone");
    let mut consumer = Consumer::new(&daemon, "gone", "sub");
    let old = producer.send("old");
    assert_eq!(consumer.take().payload, "old");
    let (status, reason) = delete("");
    let reason = reason.to_string();
    assert!(status == 409 && reason.contains("1 producers and 1 consumers"), "{status} {reason}");
    assert_eq!(delete("true").0, 200);
    assert_eq!(
        producer.0.closed(),
        (4001, "Failed to create producer: the topic was deleted".into())
    );
    assert_eq!(consumer.0.closed(), (4002, "Failed to subscribe: the topic was deleted".into()));
    let mut consumer = Consumer::new(&daemon, "gone", "sub");
    let new = Producer::new(&daemon, "gone").send("new");
    assert!(crate::client::place(&new) > crate::client::place(&old), "{old} {new}");
    let got = consumer.take();
    assert_eq!((got.payload, got.id), ("new".into(), new));
    // Who goes on after a message of the old topic gets all of the new one.
    let mut reader =
        Consumer::reader(&daemon, &format!("gone?messageId={}", old.replace('=', "%3D")));
    assert_eq!(reader.take().payload, "new");
}

#[test]
fn a_topic_ends_when_it_is_terminated() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "end");
    let mut consumer = Consumer::new(&daemon, "end", "sub");
    producer.send("last");
    consumer.take();
    consumer.0.say(&json!({ "type": "isEndOfTopic" }));
    assert_eq!(consumer.0.client.text(), "{\"endOfTopic\":false}");
    let terminated = crate::stats::admin(
        &daemon,
        "POST",
        "/topics/terminate?topic=persistent://public/default/end",
    );
    assert_eq!(terminated.0, 200, "{terminated:?}");
    consumer.0.say(&json!({ "type": "isEndOfTopic" }));
    assert_eq!(consumer.0.client.text(), "{\"endOfTopic\":true}");
    let answer = producer.ask("too late", &json!({ "context": "c" }));
    assert_eq!((&answer["result"], &answer["context"]), (&json!("send-error:8"), &json!("c")));
    assert!(!answer["errorMsg"].as_str().unwrap().is_empty());
    let path = "/ws/v2/producer/persistent/public/default/end";
    assert_eq!(crate::client::Socket::refused(daemon.address, path).0, 503);
}

#[test]
fn dead_letters_go_to_their_topic_after_so_many_redeliveries() {
    for (query, topic) in [
        ("maxRedeliverCount=2", "dying-sub-DLQ"),
        ("maxRedeliverCount=2&deadLetterTopic=persistent://public/default/graveyard", "graveyard"),
    ] {
        let daemon = setup().set("threads", 2).start();
        let mut letters = Consumer::new(&daemon, topic, "letters");
        let query = format!("sub?subscriptionType=Shared&negativeAckRedeliveryDelay=0&{query}");
        let mut consumer = Consumer::new(&daemon, "dying", &query);
        let id = Producer::new(&daemon, "dying")
            .send_with("poison", &json!({ "key": "k", "properties": { "a": "b" } }));
        for count in 0..3 {
            let message = consumer.next();
            assert_eq!((&message.id, &message.whole["redeliveryCount"]), (&id, &json!(count)));
            consumer.nack(&message.id);
        }
        let letter = letters.take();
        assert_eq!((letter.payload.as_str(), &letter.whole["key"]), ("poison", &json!("k")));
        let properties = &letter.whole["properties"];
        assert_eq!(
            (&properties["a"], &properties["REAL_TOPIC"]),
            (&json!("b"), &json!("persistent://public/default/dying"))
        );
        consumer.assert_quiet();
        consumer.0.leave();
        Consumer::new(&daemon, "dying", "sub?subscriptionType=Shared").assert_quiet();
    }
}

#[test]
fn what_is_sent_for_later_comes_later() {
    let daemon = setup().set("threads", 2).start();
    let mut shared = Consumer::new(&daemon, "later", "shared?subscriptionType=Shared");
    let mut exclusive = Consumer::new(&daemon, "later", "exclusive");
    let mut producer = Producer::new(&daemon, "later");
    let start = Instant::now();
    producer.send_with("at last", &json!({ "deliverAfterMs": 700 }));
    producer.send("at once");
    // Where order counts the delay does not.
    assert_eq!(exclusive.take_all(2), ["at last", "at once"]);
    assert_eq!(shared.take_all(1), ["at once"]);
    assert_eq!(shared.take_all(1), ["at last"]);
    assert!(start.elapsed() >= Duration::from_millis(700));
    shared.assert_quiet();
}

#[test]
fn an_id_of_one_topic_means_it_still_when_the_consumer_comes_again_with_more() {
    let daemon = setup().start();
    let consumer = |topics: &str| {
        Consumer(Socket::open(daemon.address, &format!("/ws/v3/consumer/sub?topics={topics}")))
    };
    let mut first = consumer("b");
    Producer::new(&daemon, "b").send("b0");
    let b0 = first.next();
    first.0.leave();
    let mut second = consumer("a,b");
    assert_eq!(second.next().id, b0.id);
    Producer::new(&daemon, "a").send("a0");
    let a0 = second.next();
    assert_eq!(a0.payload, "a0");
    second.ack(&b0.id);
    eventually("it is acknowledged", || {
        backlog(&daemon, "persistent://public/default/b", "sub") == Some(0)
    });
    assert_eq!(backlog(&daemon, "persistent://public/default/a", "sub"), Some(1));
    second.0.leave();
    assert_eq!(consumer("a,b").next().id, a0.id, "what was not acknowledged comes again");
}
