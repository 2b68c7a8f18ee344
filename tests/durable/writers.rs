//! Topics that are divided among several writers: what a client can see of it is nothing.

use crate::client::{Consumer, Producer, Socket, decoded, encoded, message, setup};
use crate::harness::{Daemon, Setup, command, eventually};
use crate::kill::{Mortal, live};
use crate::stats::{admin, backlog, page};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

/// Topics, some of each of two writers.
const TOPICS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn two() -> Setup {
    setup().set("store.writers", 2).set("threads", 2)
}

fn full(topic: &str) -> String {
    format!("persistent://public/default/{topic}")
}

fn several(query: &str) -> String {
    let topics: Vec<String> = TOPICS.iter().map(|topic| full(topic)).collect();
    format!("/ws/v3/consumer/sub?topics={}&{query}", topics.join(","))
}

fn open(daemon: &Daemon, path: &str) -> Consumer {
    Consumer(Socket::open(daemon.address, path))
}

/// Numbers to each topic, with the topic in front.
fn send(daemon: &Daemon, numbers: std::ops::Range<usize>) {
    for topic in TOPICS {
        Producer::new(daemon, topic)
            .send_all(numbers.clone().map(|number| format!("{topic}{number}")));
    }
}

/// What has come of each topic, in order.
fn by_topic(payloads: impl IntoIterator<Item = String>) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::<String, Vec<usize>>::new();
    for payload in payloads {
        let (topic, number) = payload.split_at(1);
        all.entry(topic.to_owned()).or_default().push(number.parse().unwrap());
    }
    all
}

#[test]
fn each_writer_has_some_of_the_topics_and_all_are_listed_in_order() {
    let daemon = two().start();
    send(&daemon, 0..3);
    let (status, names) = admin(&daemon, "GET", "/topics?prefix=persistent://public/default/");
    assert_eq!((status, names), (200, TOPICS.map(full).as_slice().into()));
    let (_, some) = admin(&daemon, "GET", &format!("/topics?after={}&count=2", full("b")));
    assert_eq!(some, json!([full("c"), full("d")]));
    // Both write, and each counts its own.
    let metrics = daemon.page("/metrics").1;
    assert!(metrics.contains("fanfare_topics{state=\"stored\"} 6"), "{metrics}");
    let consumers: Vec<Consumer> =
        TOPICS.iter().map(|topic| Consumer::new(&daemon, topic, "sub")).collect();
    let (status, stats) = page(&daemon, "/admin/v2/proxy-stats/stats");
    assert_eq!((status, stats.as_object().map(serde_json::Map::len)), (200, Some(TOPICS.len())));
    drop(consumers);
    let (status, numbers) = page(&daemon, "/admin/v2/proxy-stats/metrics");
    assert_eq!(
        (status, numbers.as_array().map(Vec::len)),
        (200, Some(1)),
        "one namespace: {numbers}"
    );
}

#[test]
fn a_consumer_of_topics_of_both_gets_each_in_order_with_one_window() {
    let daemon = two().start();
    let mut consumer = open(&daemon, &several("receiverQueueSize=3"));
    send(&daemon, 0..40);
    let first: Vec<_> = (0..3).map(|_| consumer.next()).collect();
    consumer.assert_quiet();
    first.iter().for_each(|message| consumer.ack(&message.id));
    let mut all: Vec<String> = first.into_iter().map(|message| message.payload).collect();
    all.extend(consumer.take_all(TOPICS.len() * 40 - 3));
    consumer.assert_quiet();
    let all = by_topic(all);
    assert!(
        all.len() == TOPICS.len() && all.values().all(|numbers| numbers.iter().copied().eq(0..40)),
        "{all:?}"
    );
    // What one that pulls gets is what it has asked for.
    consumer.0.leave();
    send(&daemon, 40..44);
    let mut consumer = open(&daemon, &several("pullMode=true"));
    consumer.permit(5);
    let mut all: Vec<String> = consumer.take_all(5);
    consumer.assert_quiet();
    consumer.permit(100);
    all.extend(consumer.take_all(TOPICS.len() * 4 - 5));
    consumer.assert_quiet();
    assert!(by_topic(all).values().all(|numbers| numbers.iter().copied().eq(40..44)));
    // Who wants one of them for itself waits for the end of this one.
    let path = "/ws/v2/consumer/persistent/public/default/c/sub";
    assert_eq!(Socket::refused(daemon.address, path).0, 409);
    consumer.0.leave();
    Consumer::new(&daemon, "c", "sub").assert_quiet();
}

#[test]
fn a_slow_reader_of_large_messages_of_both_is_not_cut_off() {
    let daemon = two().start();
    let mut consumer = open(&daemon, &several("subscriptionType=Shared"));
    let large = "x".repeat(200_000);
    for _ in 0..4 {
        for topic in TOPICS {
            Producer::new(&daemon, topic).send(&large);
        }
    }
    for _ in 0..4 * TOPICS.len() {
        assert_eq!(consumer.take().payload.len(), large.len());
    }
    consumer.assert_quiet();
}

#[test]
fn a_pattern_takes_topics_of_both_that_are_there_and_those_to_come() {
    let daemon = two().start();
    for topic in &TOPICS[..3] {
        Producer::new(&daemon, topic).send(&format!("{topic}0"));
    }
    let pattern =
        "topicsPattern=persistent://public/default/.*&subscriptionInitialPosition=Earliest";
    let mut consumer = open(&daemon, &format!("/ws/v3/consumer/sub?{pattern}"));
    for topic in &TOPICS[3..] {
        Producer::new(&daemon, topic).send(&format!("{topic}0"));
    }
    let all = by_topic(consumer.take_all(TOPICS.len()));
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), TOPICS);
    consumer.assert_quiet();
    consumer.0.say(&json!({ "type": "unsubscribe" }));
    for topic in TOPICS {
        eventually("the subscription is gone", || backlog(&daemon, &full(topic), "sub").is_none());
    }
}

#[test]
fn dead_letters_of_each_topic_are_where_they_belong() {
    let daemon = two().start();
    for topic in TOPICS {
        let query = "sub?subscriptionType=Shared&negativeAckRedeliveryDelay=0&maxRedeliverCount=1";
        let mut consumer = Consumer::new(&daemon, topic, query);
        let mut letters = Consumer::new(&daemon, &format!("{topic}-sub-DLQ"), "sub");
        Producer::new(&daemon, topic).send(topic);
        for _ in 0..2 {
            let message = consumer.next();
            consumer.nack(&message.id);
        }
        let letter = letters.take();
        assert_eq!(
            (&*letter.payload, &letter.whole["properties"]["REAL_TOPIC"]),
            (topic, &json!(full(topic)))
        );
        eventually("the message is dealt with", || {
            backlog(&daemon, &full(topic), "sub") == Some(0)
        });
        consumer.assert_quiet();
    }
}

#[test]
fn the_receipts_of_a_feed_are_in_the_order_of_its_lines_whoever_stores_them() {
    let daemon = two().start();
    Producer::new(&daemon, TOPICS[2]).0.leave();
    assert_eq!(
        admin(&daemon, "POST", &format!("/topics/terminate?topic={}", full(TOPICS[2]))).0,
        200
    );
    let mut publisher = daemon.publisher();
    let mut lines = String::new();
    for number in 0..50 {
        for topic in TOPICS {
            let payload = encoded(&format!("{topic}{number}"));
            lines += &format!(
                "pulsar/persistent/public/default/{topic} {{\"payload\":\"{payload}\"}}\n"
            );
        }
    }
    publisher.send(lines + "\n");
    // Every line of the third topic is refused, and no other.
    for number in 0..50 {
        assert_eq!(publisher.reply()["line"], json!(TOPICS.len() * number + 3));
    }
    let receipt = publisher.reply();
    assert_eq!((&receipt["accepted"], &receipt["rejected"]), (&json!(250), &json!(50)));
    let mut consumer = open(&daemon, &several("subscriptionInitialPosition=Earliest"));
    let all = by_topic(consumer.take_all(250));
    assert!(
        all.len() == 5 && all.values().all(|numbers| numbers.iter().copied().eq(0..50)),
        "{all:?}"
    );
}

/// What `fanfare check` says of a store with so many writers configured, and its status.
fn checked(setup: &Setup, store: &Path, writers: u32) -> (Option<i32>, String) {
    let mut check = command(&["check", "--config", setup.path("fanfare.toml").to_str().unwrap()]);
    let set = |key: &str, value: &str| (format!("FANFARE_{key}"), value.to_owned());
    check.envs([
        set("LISTEN_0_DIALECTS", "[\"pulsar\"]"),
        set("PULSAR_ANONYMOUS", "true"),
        set("STORE_PATH", store.to_str().unwrap()),
        set("STORE_WRITERS", &writers.to_string()),
    ]);
    let output = check.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_number_of_writers_is_that_with_which_the_store_was_made() {
    for (made, other) in [(1, 2), (2, 1), (2, 3)] {
        let mut daemon = setup().set("store.writers", made).start();
        TOPICS[..2].iter().for_each(|topic| drop(Producer::new(&daemon, topic).send("1")));
        daemon.signal(Signal::TERM);
        daemon.wait();
        let store = daemon.path("store");
        let refused = setup().set("store.path", store.display()).set("store.writers", other);
        let output = refused.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains(&format!("has {made} writers"))
                && said.contains(&format!("writers is {other}")),
            "{said}"
        );
        for (writers, status) in [(made, 0), (other, 78)] {
            let (status_found, said) = checked(&refused, &store, writers);
            let expected = if status == 0 { "2 topics, 2 messages" } else { "store.writers is" };
            assert!(
                status_found == Some(status) && said.contains(expected),
                "{status_found:?} {said}"
            );
        }
        let daemon = daemon.again();
        assert_eq!(Consumer::reader(&daemon, "a?messageId=earliest").take().payload, "1");
    }
    let refused = setup().set("store.writers", 17);
    let output = refused.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && said.contains("write 1 to 16"), "{said}");
}

/// Sends to a topic until the daemon dies, the next number first; what was answered.
fn produce(address: SocketAddr, topic: &str, next: &mut usize) -> Vec<usize> {
    let mut answered = Vec::new();
    let path = format!("/ws/v2/producer/persistent/public/default/{topic}");
    let Some(mut socket) = Mortal::open(address, &path) else { return answered };
    loop {
        let (number, said) = (*next, socket.say(&message(&format!("{topic}{next}"), &json!({}))));
        *next += 1;
        let Some(answer) = said.and_then(|()| socket.hear()) else { return answered };
        assert_eq!(answer["result"], "ok", "{answer}");
        answered.push(number);
    }
}

/// Acknowledges what comes until the daemon dies.
fn acknowledge(address: SocketAddr, seen: &Mutex<BTreeSet<String>>) -> Option<()> {
    let mut socket = Mortal::open(address, &several("receiverQueueSize=20"))?;
    loop {
        let heard = socket.hear()?;
        seen.lock().unwrap().insert(decoded(&heard["payload"]));
        socket.say(&json!({ "messageId": heard["messageId"] }))?;
    }
}

#[test]
fn kills_under_load_lose_nothing_of_what_any_writer_has_answered() {
    let mut daemon = two().start();
    open(&daemon, &several("")).0.leave();
    let (mut next, mut answered) = ([0; TOPICS.len()], [const { Vec::new() }; TOPICS.len()]);
    let seen = Mutex::default();
    for life_ms in [120, 700, 350, 1200] {
        let address = daemon.address;
        std::thread::scope(|threads| {
            for ((topic, next), answered) in TOPICS.iter().zip(&mut next).zip(&mut answered) {
                threads.spawn(move || answered.extend(produce(address, topic, next)));
            }
            threads.spawn(|| acknowledge(address, &seen));
            live(life_ms);
            daemon.signal(Signal::KILL);
            daemon.wait();
        });
        daemon = daemon.again();
    }
    let mut consumer = open(&daemon, &several("receiverQueueSize=50"));
    let mut seen = seen.into_inner().unwrap();
    let all: BTreeSet<String> = TOPICS
        .iter()
        .zip(&answered)
        .flat_map(|(topic, answered)| answered.iter().map(move |number| format!("{topic}{number}")))
        .collect();
    assert!(answered.iter().all(|answered| !answered.is_empty()));
    while !all.is_subset(&seen) {
        seen.insert(consumer.take().payload);
    }
    eventually("everything is acknowledged", || {
        // What was acknowledged in vain comes again, and what is stored without an answer.
        consumer.drain_acknowledged();
        TOPICS.iter().all(|topic| backlog(&daemon, &full(topic), "sub") == Some(0))
    });
    for (topic, answered) in TOPICS.iter().zip(&answered) {
        let mut reader = Consumer::reader(&daemon, &format!("{topic}?messageId=earliest"));
        let stored: Vec<usize> =
            by_topic(reader.drain_acknowledged()).remove(*topic).expect("there were some");
        assert!(stored.is_sorted_by(|one, other| one < other), "{stored:?}");
        assert!(answered.iter().all(|number| stored.binary_search(number).is_ok()), "{topic}");
    }
}

#[test]
fn a_backup_has_the_topics_of_both() {
    let mut daemon = two().start();
    open(&daemon, &several("")).0.leave();
    send(&daemon, 0..10);
    let (status, made) = admin(&daemon, "POST", "/topics/backup");
    assert_eq!((status, &made["messages"]), (200, &json!(TOPICS.len() * 10)), "{made}");
    send(&daemon, 10..12);
    daemon.signal(Signal::TERM);
    daemon.wait();
    let copy = two().set("store.path", Value::as_str(&made["path"]).unwrap()).start();
    let mut consumer = open(&copy, &several(""));
    let all = by_topic(consumer.take_all(TOPICS.len() * 10));
    assert!(all.values().all(|numbers| numbers.iter().copied().eq(0..10)), "{all:?}");
    consumer.assert_quiet();
}
