//! A full disk: nothing more is taken, what was taken can be read, and there is a way back.

use crate::client::{Consumer, Producer, place, setup, with_store};
use crate::harness::{Daemon, Setup, eventually};
use crate::room::{MIB, Small};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;

fn on(store: &Path) -> Setup {
    with_store(Setup::new(), store).set("threads", 2)
}

/// Sends until it is refused; the ids of what was taken, and the refusal.
fn fill(producer: &mut Producer) -> (Vec<(String, String)>, Value) {
    let mut taken = Vec::new();
    for number in 0..20_000 {
        let payload = format!("{number}-{}", "x".repeat(32 * 1024));
        let answer = producer.ask(&payload, &json!({ "context": number.to_string() }));
        if answer["result"] != "ok" {
            return (taken, answer);
        }
        taken.push((answer["messageId"].as_str().unwrap().to_owned(), payload));
    }
    panic!("it is never full");
}

/// A producer was refused, and told why.
#[track_caller]
pub(crate) fn assert_refused_with_a_reason(answer: &Value) {
    assert_eq!(answer["result"], "send-error:8", "{answer}");
    let reason = answer["errorMsg"].as_str().unwrap();
    assert!(reason.len() > 10, "{reason}");
    assert!(answer["context"].is_string(), "{answer}");
}

fn assert_has(daemon: &Daemon, taken: &[(String, String)]) {
    let mut reader = Consumer::reader(daemon, "full?messageId=earliest&receiverQueueSize=20");
    for (id, payload) in taken {
        let message = reader.take();
        assert!(message.id == *id && message.payload == *payload, "{id} is another");
    }
}

#[test]
fn with_little_space_left_nothing_is_taken_until_there_is_more() {
    let Some(disk) = Small::new("a disk that is nearly full", 64 * MIB) else { return };
    let daemon = on(&disk.path.join("store")).set("store.free_bytes_min", 16 * MIB).start();
    let mut producer = Producer::new(&daemon, "full");
    let (mut taken, refusal) = fill(&mut producer);
    assert_refused_with_a_reason(&refusal);
    assert!(taken.len() > 100, "{}", taken.len());
    assert!(disk.free() > 0);
    // Reading goes on, and so do subscriptions.
    assert_has(&daemon, &taken);
    let mut consumer = Consumer::new(
        &daemon,
        "full",
        "sub?subscriptionInitialPosition=Earliest&receiverQueueSize=10",
    );
    assert_eq!(consumer.take().id, taken[0].0);
    // The refused and the next are refused alike.
    assert_refused_with_a_reason(&producer.ask("more", &json!({ "context": "c" })));
    disk.grow(200 * MIB);
    taken.push((await_space(&mut producer), "there is space".into()));
    assert!(taken.iter().map(|(id, _)| place(id)).is_sorted());
    assert_has(&daemon, &taken);
}

/// Sends until it is taken again; its id.
fn await_space(producer: &mut Producer) -> String {
    let mut answer = Value::Null;
    eventually("there is space again", || {
        answer = producer.ask("there is space", &json!({}));
        answer["result"] == "ok"
    });
    answer["messageId"].as_str().unwrap().to_owned()
}

#[test]
fn space_that_others_give_back_is_used() {
    let Some(disk) = Small::new("a disk that others fill", 64 * MIB) else { return };
    let other = disk.path.join("of-somebody-else");
    std::fs::write(&other, vec![1; 40 * MIB as usize]).unwrap();
    // There is room for the log of one writer.
    let one = on(&disk.path.join("store")).set("store.writers", 1);
    let daemon = one.set("store.free_bytes_min", 16 * MIB).start();
    let mut producer = Producer::new(&daemon, "full");
    let (mut taken, refusal) = fill(&mut producer);
    assert_refused_with_a_reason(&refusal);
    std::fs::remove_file(other).unwrap();
    taken.push((await_space(&mut producer), "there is space".into()));
    assert_has(&daemon, &taken);
}

#[test]
fn without_any_space_nothing_that_was_acknowledged_is_lost() {
    let Some(disk) = Small::new("a disk that is full", 64 * MIB) else { return };
    let mut daemon = on(&disk.path.join("store")).set("store.free_bytes_min", 0).start();
    let mut producer = Producer::new(&daemon, "full");
    let (mut taken, refusal) = fill(&mut producer);
    assert_refused_with_a_reason(&refusal);
    assert_has(&daemon, &taken);
    assert_refused_with_a_reason(&producer.ask("more", &json!({ "context": "c" })));
    assert!(daemon.runs());
    disk.grow(300 * MIB);
    daemon.signal(Signal::KILL);
    daemon.wait();
    daemon = daemon.again();
    assert_has(&daemon, &taken);
    let id = Producer::new(&daemon, "full").send("after all");
    assert!(taken.last().is_some_and(|last| place(&last.0) < place(&id)));
    taken.push((id, "after all".into()));
    let mut reader = Consumer::reader(
        &daemon,
        &format!("full?messageId={}", taken[taken.len() - 2].0.replace('=', "%3D")),
    );
    // What was refused may be there all the same; it was not acknowledged. Nothing else is.
    loop {
        let message = reader.take();
        if message.payload == "after all" {
            break;
        }
        assert!(
            message.payload == "more"
                || message.payload.starts_with(&format!("{}-", taken.len() - 1))
        );
    }
}

#[test]
fn a_store_that_is_in_use_or_cannot_be_written_ends_the_start_with_what_to_do() {
    let daemon = setup().start();
    let output = on(&daemon.path("store")).command().output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("store") && said.contains("daemon"), "{said}");
    let setup = Setup::new();
    let file = setup.path("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    let output = with_store(setup, &file).command().output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("a-file"));
}
