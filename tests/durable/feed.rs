//! The unix feed appends as a producer does, and its receipt means stored.

use crate::client::{Consumer, Producer, SHARDS, encoded, setup};
use crate::harness::{Daemon, command};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;

fn publish(daemon: &Daemon, address: &str, message: &Value) -> Command {
    let mut command = command(&["publish"]);
    command.arg("--socket").arg(daemon.socket()).arg(address).arg(message.to_string());
    command
}

#[test]
fn a_fed_line_is_delivered_as_a_producers_message() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "fed", "sub");
        let message =
            json!({ "payload": encoded("Hello World"), "key": "k", "properties": { "a": "b" } });
        assert!(
            publish(&daemon, "pulsar/persistent/public/default/fed", &message)
                .status()
                .unwrap()
                .success()
        );
        let got = consumer.take();
        assert_eq!(got.payload, "Hello World");
        assert_eq!(
            (&got.whole["key"], &got.whole["properties"]),
            (&json!("k"), &json!({ "a": "b" }))
        );
        Producer::new(&daemon, "fed").send("and a producer's");
        assert_eq!(consumer.take().payload, "and a producer's");
    }
}

#[test]
fn lines_that_cannot_be_appended_are_rejected_by_the_receipt() {
    let daemon = setup().start();
    let mut publisher = daemon.publisher();
    for address in [
        "persistent/public/default",
        "persistent/public//t",
        "persistent/public/default/..",
        "other/a/b/c",
    ] {
        publisher.send(format!("pulsar/{address} {{\"payload\":\"\"}}\n"));
        let reply = publisher.reply();
        assert!(reply.get("error").is_some() || reply["rejected"] == 1, "{address}: {reply}");
    }
    for message in ["{\"payload\":\"!\"}", "[]", "{\"payload\":{}}"] {
        publisher.send(format!("pulsar/persistent/public/default/t {message}\n"));
        let reply = publisher.reply();
        assert!(reply.get("error").is_some(), "{message}: {reply}");
    }
    publisher.send("pulsar/persistent/public/default/t {\"payload\":\"SGVsbG8=\"}\n");
    let (accepted, rejected) = publisher.receipt();
    assert_eq!((accepted, rejected), (1, 7));
}

#[test]
fn what_has_a_receipt_is_stored_whatever_happens_next() {
    for round in 0..5 {
        let mut daemon = setup().set("threads", 1 + round % 2).start();
        if round % 2 == 0 {
            let message = json!({ "payload": encoded("kept") });
            let mut command = publish(&daemon, "pulsar/persistent/public/default/kept", &message);
            assert!(command.status().unwrap().success());
        } else {
            let mut publisher = daemon.publisher();
            for number in 0..500 {
                let payload = encoded(&number.to_string());
                publisher.send(format!(
                    "pulsar/persistent/public/default/kept {{\"payload\":\"{payload}\"}}\n"
                ));
            }
            assert_eq!(publisher.receipt(), (500, 0));
        }
        daemon.signal(Signal::KILL);
        daemon.wait();
        let daemon = daemon.again();
        let mut reader = Consumer::reader(&daemon, "kept?messageId=earliest");
        if round % 2 == 0 {
            assert_eq!(reader.take().payload, "kept");
        } else {
            let all: Vec<String> = (0..500).map(|number| number.to_string()).collect();
            assert_eq!(reader.take_all(500), all);
        }
        reader.assert_quiet();
    }
}
