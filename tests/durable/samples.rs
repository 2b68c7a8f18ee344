//! The documentation's own programs, as they stand: only where the daemon listens is put in.

use crate::client::{Consumer, Producer, Socket, decoded, encoded, setup};
use crate::harness::{Daemon, eventually, script, skip, tools};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Where the documentation believes the daemon.
const DOCUMENTED: &str = "localhost:8080";

/// A program that runs; killed when dropped.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    /// Runs a sample with the daemon's address in place of the documentation's.
    fn run(daemon: &Daemon, sample: &str, runner: &mut Command) -> Self {
        let text = std::fs::read_to_string(script(sample)).unwrap();
        assert!(text.contains(DOCUMENTED));
        let file = daemon.path(sample);
        std::fs::write(&file, text.replace(DOCUMENTED, &daemon.address.to_string())).unwrap();
        let mut child = runner.arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(modules: &Path) -> Command {
    let mut node = Command::new("node");
    // What the sample's `new Buffer` makes Node say is of no interest.
    node.env("NODE_PATH", modules).env("NODE_NO_WARNINGS", "1");
    node
}

/// Where the packages are that a sample needs, unless they are not installed.
fn installed(what: &str, path: &str) -> Option<PathBuf> {
    let path = tools().join(path);
    if !path.exists() {
        skip(what, "it is not installed; tests/run does it");
        return None;
    }
    Some(path)
}

fn subscribed(daemon: &Daemon, topic: &str, subscription: &str) {
    // The samples read from the latest message on, so the subscription has to be there first.
    eventually("the consumer is there", || {
        let text = crate::stats::page(daemon, "/admin/v2/proxy-stats/stats").1.to_string();
        text.contains(topic) && text.contains(subscription)
    });
}

#[test]
fn the_seeds_programs_for_node_produce_consume_and_acknowledge() {
    let Some(modules) = installed("the samples for Node", "node_modules/ws") else { return };
    let modules = modules.parent().unwrap();
    for shards in crate::client::SHARDS {
        let mut daemon = setup().set("threads", shards).start();
        let path = "/ws/consumer/persistent/my-property/us-west/my-ns/my-topic1";
        // A subscription of the test's own, so that it sees what the samples' consumer gets.
        let mut other = Consumer(Socket::open(daemon.address, &format!("{path}/other")));
        let consumer = Program::run(&daemon, "pulsar_consumer.js", &mut node(modules));
        subscribed(&daemon, "my-topic1", "my-sub1");
        let mut producer = Program::run(&daemon, "pulsar_producer.js", &mut node(modules));
        assert_eq!(
            producer.line(),
            r#"ack: {"result":"ok","messageId":"CAAQAA==","context":"1"}"#
                .replace("ack", "received ack")
        );
        let delivered = other.take().whole;
        assert_eq!(decoded(&delivered["payload"]), "Hello World");
        assert_eq!(delivered["properties"], json!({"key1": "value1", "key2": "value2"}));
        assert_eq!(delivered["context"], "1");
        await_backlog(&daemon, "persistent://my-property/us-west/my-ns/my-topic1", "my-sub1", 0);
        drop((consumer, producer, other));
        // What was acknowledged does not come again, nor after a restart.
        daemon = restarted(daemon);
        let mut again = Consumer(Socket::open(daemon.address, &format!("{path}/my-sub1")));
        again.assert_quiet();
    }
}

#[test]
fn a_client_that_cuts_its_connection_has_its_subscription_back_at_once() {
    let Some(modules) = installed("a program for Node", "node_modules/ws") else { return };
    let daemon = setup().set("threads", 2).start();
    let mut program =
        Program::run(&daemon, "pulsar_terminate.js", &mut node(modules.parent().unwrap()));
    assert_eq!(program.line(), "refused 0");
}

/// Stops the daemon as a service manager does and starts it again.
fn restarted(mut daemon: Daemon) -> Daemon {
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    daemon.again()
}

/// Waits until so many messages wait for a subscription.
#[track_caller]
pub(crate) fn await_backlog(daemon: &Daemon, topic: &str, subscription: &str, count: u64) {
    eventually(&format!("{count} messages wait for {subscription}"), || {
        crate::stats::backlog(daemon, topic, subscription) == Some(count)
    });
}

#[test]
fn the_seeds_programs_for_python_produce_consume_and_acknowledge() {
    let Some(python) = installed("the samples for Python", "python/bin/python") else { return };
    let run = |daemon: &Daemon, sample: &str| {
        Program::run(daemon, sample, Command::new(&python).env("PYTHONUNBUFFERED", "1"))
    };
    let mut daemon = setup().set("threads", 2).start();
    let mut consumer = run(&daemon, "pulsar_consumer.py");
    subscribed(&daemon, "my-topic", "my-sub");
    let mut producer = run(&daemon, "pulsar_producer.py");
    assert_eq!(producer.line(), "Message published successfully");
    assert!(producer.child.wait().unwrap().success());
    let line = consumer.line();
    assert!(line.starts_with("Received:  {'messageId': 'CAAQAA=='"), "{line}");
    assert!(
        line.ends_with("- payload: b'Hello World'") && line.contains("'context': '5'"),
        "{line}"
    );
    let topic = "persistent://sample/standalone/ns1/my-topic";
    await_backlog(&daemon, topic, "my-sub", 0);
    drop(consumer);
    // With nobody there the next waits, through a restart.
    let mut second = run(&daemon, "pulsar_producer.py");
    assert_eq!(second.line(), "Message published successfully");
    daemon = restarted(daemon);
    let mut consumer = run(&daemon, "pulsar_consumer.py");
    let line = consumer.line();
    assert!(line.starts_with("Received:  {'messageId': 'CAAQAQ=='"), "{line}");
    await_backlog(&daemon, topic, "my-sub", 0);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    for shards in crate::client::SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "again", "sub");
        let mut producer = Producer::new(&daemon, "again");
        producer.send_all((0..10).map(|n| n.to_string()));
        for n in 0..10 {
            let message = consumer.next();
            assert_eq!(message.payload, n.to_string());
            if n % 3 != 0 {
                consumer.ack(&message.id);
            }
        }
        consumer.assert_quiet();
        consumer.0.leave();
        let mut consumer = Consumer::new(&daemon, "again", "sub");
        assert_eq!(consumer.take_all(4), ["0", "3", "6", "9"]);
        consumer.assert_quiet();
        consumer.0.leave();
        Consumer::new(&daemon, "again", "sub").assert_quiet();
    }
}

/// What the seed shows on the wire, byte by byte.
#[test]
fn the_first_version_of_the_api_speaks_as_the_seed_shows() {
    let daemon = setup().start();
    let topic = "persistent/my-property/us-west/my-ns/shown";
    let mut consumer = Socket::open(daemon.address, &format!("/ws/consumer/{topic}/sub"));
    let mut producer = Socket::open(daemon.address, &format!("/ws/producer/{topic}/"));
    for n in 0..4 {
        producer.say(&json!({ "payload": encoded("Hello World"), "context": "1",
            "properties": { "key1": "value1", "key2": "value2" } }));
        let id = ["CAAQAA==", "CAAQAQ==", "CAAQAg==", "CAAQAw=="][n];
        assert_eq!(
            producer.client.text(),
            format!(r#"{{"result":"ok","messageId":"{id}","context":"1"}}"#)
        );
        let text = consumer.client.text();
        let (before, after) = text.split_once("\"publishTime\":\"").unwrap();
        assert_eq!(
            before,
            format!(
                "{{\"messageId\":\"{id}\",\"payload\":\"SGVsbG8gV29ybGQ=\",\
                 \"properties\":{{\"key1\":\"value1\",\"key2\":\"value2\"}},"
            )
        );
        let (time, rest) = after.split_at("2016-08-30 16:45:57.785".len());
        let shape: String =
            time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        assert_eq!((shape.as_str(), rest), ("0000-00-00 00:00:00.000", "\",\"context\":\"1\"}"));
    }
}
