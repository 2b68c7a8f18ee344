//! Room that the store gives back: on a disk that it has filled itself, when a topic is purged, and all the time while
//! messages only pass through.

use crate::client::{ADMIN_TOKEN, Consumer, Producer, encoded, setup, with_store};
use crate::disk::assert_refused_with_a_reason;
use crate::harness::{DEADLINE, Daemon, Setup, command, eventually, eventually_within};
use crate::limits::feed;
use crate::room::{MIB, Small, Watch, room};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How soon producers are answered after a purge.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a message that fills the disk, and how many are sent before their answers.
const FILLING_BYTES: usize = 100 * 1024;
const FILLING: usize = 8;

/// Bytes of each message that passes through, and how many in a round: 30 MB.
const PASSING_BYTES: usize = 30 * 1024;
const PASSING: usize = 1000;
const ROUNDS: usize = 7;
/// What the store may take at any time beside what is retained, and what is left of it when nothing happens.
const AT_MOST: u64 = 128 * MIB;
const LEFT: u64 = 64 * MIB;
/// What is retained of a topic.
const RETAINED: u64 = 16 * MIB;

/// Sends until nothing is taken for so long that the store would have given back what it could; how many messages were
/// taken.
fn fill(producer: &mut Producer) -> usize {
    let message =
        json!({ "payload": encoded(&"x".repeat(FILLING_BYTES)), "context": "c" }).to_string();
    let mut taken = 0;
    let mut last = Instant::now();
    loop {
        (0..FILLING).for_each(|_| producer.0.client.say(&message));
        let answers: Vec<Value> = (0..FILLING).map(|_| producer.0.hear()).collect();
        let before = taken;
        taken += answers.iter().filter(|answer| answer["result"] == "ok").count();
        if taken > before {
            last = Instant::now();
        }
        if let Some(refusal) = answers.iter().find(|answer| answer["result"] != "ok") {
            assert_refused_with_a_reason(refusal);
            if last.elapsed() > ANSWERED_WITHIN {
                return taken;
            }
        }
    }
}

/// Purges a topic as an operator does.
fn purge(daemon: &Daemon, topic: &str) {
    let (admin, token) = (daemon.admin.to_string(), daemon.path("admin.token"));
    let words = [
        "topics",
        "purge",
        topic,
        "--yes",
        "--admin",
        &admin,
        "--token-file",
        token.to_str().unwrap(),
    ];
    let output = command(&words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn await_answer(producer: &mut Producer) {
    eventually_within(ANSWERED_WITHIN, "messages are taken again", || {
        let answer = producer.ask("after a purge", &json!({ "context": "c" }));
        let is_taken = answer["result"] == "ok";
        if !is_taken {
            assert_refused_with_a_reason(&answer);
        }
        is_taken
    });
}

/// Fills a disk of so many bytes and purges what fills it, again and again, while another topic has what must stay.
fn fill_and_purge(bytes: u64, free_bytes_min: Option<u64>, rounds: usize) {
    let Some(disk) = Small::new("a disk that the store fills", bytes) else { return };
    let mut setup = with_store(Setup::new(), &disk.path.join("store")).set("threads", 2);
    std::fs::write(setup.path("admin.token"), ADMIN_TOKEN).unwrap();
    if let Some(bytes) = free_bytes_min {
        setup = setup.set("store.free_bytes_min", bytes);
    }
    let mut daemon = setup.start();
    for topic in ["full", "kept"] {
        Consumer::new(&daemon, topic, "sub").0.leave();
    }
    let (mut kept, mut producer) = (Producer::new(&daemon, "kept"), Producer::new(&daemon, "full"));
    let mut stays = Vec::new();
    let mut first = None;
    for round in 0..rounds {
        let payload = format!("{round}-{}", "y".repeat(10_000));
        kept.send(&payload);
        stays.push(payload);
        let taken = fill(&mut producer);
        let before = *first.get_or_insert(taken);
        assert!(
            taken * 3 >= before * 2,
            "{taken} messages had room in round {round}, {before} at first"
        );
        purge(&daemon, "public/default/full");
        await_answer(&mut producer);
        // Everybody else is answered too.
        kept.send("behind a purge");
        stays.push("behind a purge".into());
    }
    let room_at_first = first.unwrap() * FILLING_BYTES;
    assert!(
        room_at_first as u64 >= (bytes - free_bytes_min.unwrap_or(64 * MIB)) / 2,
        "{room_at_first}"
    );
    assert!(daemon.runs());
    assert_eq!(daemon.page("/readyz").0, 200);
    daemon.signal(Signal::KILL);
    daemon.wait();
    daemon = daemon.again();
    let came: Vec<String> = Consumer::new(&daemon, "kept", "sub").take_all(stays.len());
    assert!(came == stays, "what was to stay is another");
}

#[test]
fn a_purge_gives_a_disk_back_that_the_store_has_filled_to_the_last_byte() {
    fill_and_purge(64 * MIB, Some(0), 4);
}

#[test]
fn a_purge_gives_a_disk_back_that_the_store_has_filled_up_to_its_reserve() {
    fill_and_purge(192 * MIB, None, 2);
}

#[test]
fn a_purge_gives_a_larger_disk_back_too() {
    for free_bytes_min in [Some(0), None] {
        fill_and_purge(320 * MIB, free_bytes_min, 1);
    }
}

/// Passes all rounds through a queue; the most bytes that the store took, and the daemon.
fn pass_through(setup: Setup) -> (u64, Daemon) {
    let store = setup.path("store");
    let daemon = setup.start();
    let watch = Watch::new(&store);
    let mut consumer = Consumer::new(&daemon, "passed", "sub?receiverQueueSize=1000");
    for _ in 0..ROUNDS {
        feed(&daemon, "passed", PASSING, PASSING_BYTES);
        for _ in 0..PASSING {
            // Taken apart by hand: a parser reads every byte of what is large.
            let text = consumer.0.client.text();
            assert!(text.len() > PASSING_BYTES, "{text}");
            consumer
                .ack(text.strip_prefix("{\"messageId\":\"").unwrap().split('"').next().unwrap());
        }
    }
    (watch.highest(), daemon)
}

#[test]
fn a_queue_that_is_only_passed_through_takes_little_room_and_gives_it_back() {
    let (highest, mut daemon) =
        pass_through(setup().set("threads", 2).set("pulsar.retention_s", 0));
    assert!(highest <= AT_MOST, "{} MiB at most", highest / MIB);
    let store = daemon.path("store");
    eventually_within(2 * DEADLINE, "nothing is left of it", || room(&store) <= LEFT);
    daemon.signal(Signal::KILL);
    daemon.wait();
    daemon = daemon.again();
    eventually("nothing is left of it after a start", || room(&store) <= LEFT);
    Consumer::new(&daemon, "passed", "sub").0.leave();
}

#[test]
fn what_is_retained_of_a_queue_is_all_that_stays_of_it() {
    let (highest, daemon) =
        pass_through(setup().set("threads", 2).set("pulsar.retention_bytes", RETAINED));
    assert!(highest <= RETAINED + AT_MOST, "{} MiB at most", highest / MIB);
    let store = daemon.path("store");
    eventually_within(2 * DEADLINE, "only what is retained is left", || {
        room(&store) <= RETAINED + LEFT
    });
}
