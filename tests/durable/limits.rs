//! Clients without manners, and very many topics: memory stays what it was.

use crate::client::{Consumer, Producer, Socket, encoded, setup};
use crate::harness::{Client, Daemon, head};
use rustix::process::Signal;
use std::fmt::Write as _;

const MIB: u64 = 1024 * 1024;

/// Feeds so many messages of so many bytes.
pub(crate) fn feed(daemon: &Daemon, topic: &str, count: usize, bytes: usize) {
    let mut publisher = daemon.publisher();
    let payload = encoded(&"x".repeat(bytes));
    for chunk in 0..count.div_ceil(100) {
        let mut lines = String::new();
        for _ in 0..100.min(count - chunk * 100) {
            writeln!(
                lines,
                "pulsar/persistent/public/default/{topic} {{\"payload\":\"{payload}\"}}"
            )
            .unwrap();
        }
        publisher.send(lines);
    }
    assert_eq!(publisher.receipt(), (count as u64, 0));
}

fn assert_works(daemon: &Daemon) {
    let mut consumer = Consumer::new(daemon, "works", "sub");
    Producer::new(daemon, "works").send("it does");
    assert_eq!(consumer.take().payload, "it does");
}

#[test]
fn a_consumer_that_never_acknowledges_gets_its_window_and_takes_no_memory() {
    let daemon = setup().start();
    let mut idle = Consumer::new(&daemon, "never", "sub?receiverQueueSize=100");
    feed(&daemon, "never", 1_000, 8192);
    let before = daemon.memory_bytes();
    feed(&daemon, "never", 12_000, 8192);
    let grown = daemon.memory_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
    assert_eq!(idle.drain().len(), 100);
    idle.assert_quiet();
}

#[test]
fn a_consumer_that_does_not_read_takes_no_memory_and_keeps_nobody_waiting() {
    let daemon = setup().set("threads", 2).start();
    let _deaf = Consumer::new(&daemon, "deaf", "sub?receiverQueueSize=1000");
    let mut other = Consumer::new(&daemon, "deaf", "other?receiverQueueSize=1000");
    feed(&daemon, "deaf", 500, 16 * 1024);
    other.take_all(500);
    let before = daemon.memory_bytes();
    feed(&daemon, "deaf", 5_000, 16 * 1024);
    other.take_all(5_000);
    let grown = daemon.memory_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
}

#[test]
fn permits_out_of_range_do_no_harm() {
    let daemon = setup().start();
    Producer::new(&daemon, "range").send_all(["1", "2", "3"]);
    for count in [
        "-1",
        "0",
        "2147483648",
        "9223372036854775807",
        "99999999999999999999",
        "1.5",
        "null",
        "true",
    ] {
        let mut consumer =
            Consumer::new(&daemon, "range", "sub?pullMode=true&subscriptionMode=NonDurable");
        for count in [count, "2147483647", "2147483647"] {
            let said = masked(&format!("{{\"type\":\"permit\",\"permitMessages\":{count}}}"));
            // What is no number of this kind may have ended the connection by now.
            consumer.0.client.try_bytes(&said);
        }
        consumer.0.client.try_bytes(b"\x88\x82\x00\x00\x00\x00\x03\xe8");
        while consumer.0.client.next().is_some_and(|frame| frame.first != 0x88) {}
    }
    assert_works(&daemon);
}

#[test]
fn acknowledgements_of_what_never_was_do_no_harm() {
    let daemon = setup().start();
    let mut consumer =
        Consumer::new(&daemon, "acks", "sub?subscriptionType=Shared&negativeAckRedeliveryDelay=0");
    for id in [
        "CAAQAw==",
        "CP8HEP8H",
        "CP///////////wEQ////////////AQ==",
        "CAcQrAIYAg==",
        "CAAQABj///////////8B",
    ] {
        consumer.ack(id);
        consumer.nack(id);
    }
    let id = Producer::new(&daemon, "acks").send("1");
    for _ in 0..3 {
        consumer.ack(&id);
        consumer.nack(&id);
    }
    consumer.drain();
    assert_works(&daemon);
}

#[test]
fn garbage_on_every_path_harms_nobody_else() {
    let daemon = setup().set("threads", 2).start();
    let mut state = 7u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let words = [
        "{",
        "}",
        "\"type\"",
        ":",
        "\"permit\"",
        "\"messageId\"",
        "\"CAAQAA==\"",
        "null",
        "[",
        "\\",
        "1e999",
        ",",
        "\u{0}",
    ];
    for round in 0..300 {
        let path = [
            "/ws/v2/producer/persistent/public/default/garbage",
            "/ws/v2/consumer/persistent/public/default/garbage/sub?subscriptionType=Shared",
            "/ws/v2/reader/persistent/public/default/garbage",
            "/ws/producer/persistent/p/c/n/garbage",
            "/ws/v2/producer/non-persistent/public/default/garbage",
            "/ws/v3/consumer/sub?topics=persistent://public/default/garbage&subscriptionType=Shared",
        ][round % 6];
        let mut socket = Socket::open(daemon.address, path);
        for _ in 0..5 {
            let text: String = (0..random() % 12).map(|_| words[random() % words.len()]).collect();
            if !socket.client.try_bytes(&masked(&text)) {
                break;
            }
        }
    }
    for path in [
        "/ws/v2/",
        "/ws/v3/consumer/",
        "/ws/v2/consumer/%ff%fe/a/b/c/d",
        "/ws/v2/producer/persistent/%/b/c?%=%&&=",
        "/admin/v2/proxy-stats/%00/x",
    ] {
        let mut client = Client::raw(daemon.address);
        client.bytes(head(path).as_bytes());
        assert!((400..500).contains(&client.answer()), "{path}");
    }
    assert_works(&daemon);
}

fn masked(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap().min(125), 0, 0, 0, 0];
    bytes.extend(&text.as_bytes()[..text.len().min(125)]);
    bytes
}

#[test]
fn topics_beyond_the_limit_are_refused_as_the_readme_says() {
    let daemon = setup().set("pulsar.topics_max", 1).start();
    Producer::new(&daemon, "first").send("1");
    for path in [
        "/ws/v2/producer/persistent/public/default/second",
        "/ws/v2/consumer/persistent/public/default/second/s",
    ] {
        let (status, text) = Socket::refused(daemon.address, path);
        assert_eq!(status, 429, "{path}: {text}");
    }
    let closed = Socket::open(daemon.address, "/ws/producer/persistent/p/c/n/second").closed();
    assert_eq!(closed, (4001, "Failed to create producer".into()));
    let mut publisher = daemon.publisher();
    publisher.send("pulsar/persistent/public/default/second {\"payload\":\"\"}\n");
    assert_eq!(publisher.reply()["error"], "there are too many topics");
    Producer::new(&daemon, "first").send("2");
}

#[test]
fn handshakes_do_not_fill_the_limit_of_topics_for_ever() {
    let daemon = setup().set("pulsar.topics_max", 2).set("pulsar.idle_delete_s", 1).start();
    let mut kept = Producer::new(&daemon, "kept");
    for turn in 0..3 {
        Producer::new(&daemon, &format!("passing-{turn}")).0.leave();
        let path = "/ws/v2/producer/persistent/public/default/more";
        assert_eq!(Socket::refused(daemon.address, path).0, 429);
        daemon.await_metric("topics{state=\"stored\"}", 1);
    }
    assert_eq!(daemon.metric("topic_expiries_total{what=\"topic\"}"), 3);
    kept.send("still there");
    let mut reader = Consumer::reader(&daemon, "kept?messageId=earliest");
    assert_eq!(reader.take().payload, "still there");
}

/// A stranger with one handshake of 14 KB made 3,300 topics that stayed, each with a subscription that kept its messages.
#[test]
fn one_handshake_creates_a_hundred_topics_or_none() {
    let daemon = setup().start();
    let topics = |count: usize| (0..count).map(|at| format!("t{at}")).collect::<Vec<_>>().join(",");
    let path = |count| format!("/ws/v3/consumer/s?topics={}", topics(count));
    let (status, text) = Socket::refused(daemon.address, &path(2_500));
    assert_eq!(status, 429, "{text}");
    assert!(text.contains("at most 100 topics"), "{text}");
    assert_eq!(stored(&daemon), 0);
    drop(Consumer::reader(&daemon, "read"));
    assert_eq!(stored(&daemon), 0);
    Socket::open(daemon.address, &path(100)).leave();
    daemon.await_metric("topics{state=\"stored\"}", 100);
}

/// How many topics there are.
fn stored(daemon: &Daemon) -> u64 {
    daemon.metric("topics{state=\"stored\"}")
}

/// As many as `topics_max` allows with `FANFARE_LONG=1`, a tenth of them else.
#[test]
fn very_many_topics_take_little_memory_and_outlast_a_restart() {
    let long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    let topics = if long { 100_000 } else { 10_000 };
    let mut daemon = setup().start();
    let before = daemon.memory_bytes();
    let mut publisher = daemon.publisher();
    for chunk in 0..topics / 1000 {
        let mut lines = String::new();
        for topic in chunk * 1000..(chunk + 1) * 1000 {
            let payload = encoded(&topic.to_string());
            writeln!(
                lines,
                "pulsar/persistent/public/default/topic-{topic} {{\"payload\":\"{payload}\"}}"
            )
            .unwrap();
        }
        publisher.send(lines);
        // Each receipt within the harness's deadline, however slow the disk is.
        assert_eq!(publisher.receipt(), (1000 * (chunk as u64 + 1), 0));
    }
    let grown = daemon.memory_bytes().saturating_sub(before);
    assert!(grown < 256 * MIB, "{} MiB for {topics} topics", grown / MIB);
    daemon.signal(Signal::KILL);
    daemon.wait();
    daemon = daemon.again();
    assert!(
        daemon.memory_bytes() < 128 * MIB,
        "{} MiB after the start",
        daemon.memory_bytes() / MIB
    );
    for topic in [0, 1, topics / 2, topics - 1] {
        let mut reader = Consumer::reader(&daemon, &format!("topic-{topic}?messageId=earliest"));
        assert_eq!(reader.take().payload, topic.to_string());
    }
    assert_works(&daemon);
}
