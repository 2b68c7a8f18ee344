//! Personium topics over real sockets, beside the event bus on one listener.

use crate::harness::{Client, DEADLINE, Daemon, SECRET, Setup, command, head, token_with};
use rustix::process::Signal;
use std::process::Stdio;

const PLACE: &str = "demo/box/stream.topic.chat";
const DATUM: &str = r#"{"From":"https://demo.example/","Body":{"n":1}}"#;

fn daemon() -> Daemon {
    Setup::new().set("listen.0.dialects", r#"["personium-event", "personium-topic"]"#).start()
}

fn token() -> String {
    format!("{{\"AccessToken\":\"{}\"}}", token_with(SECRET, "read stream-receive"))
}

/// A client that follows a topic of the box, and has been told so.
pub(crate) fn follower(daemon: &Daemon, topic: &str) -> Client {
    let mut client = connect(daemon, &format!("/demo/__topic/box/{topic}"), "unit.example");
    let answer = client.ask(&token());
    assert!(answer.contains("Success"), "{answer}");
    client
}

fn connect(daemon: &Daemon, path: &str, host: &str) -> Client {
    let mut client = Client::raw(daemon.address);
    client.bytes(head(path).replace("Host: localhost", &format!("Host: {host}")).as_bytes());
    assert_eq!(client.answer(), 101, "{path} at {host}");
    client
}

#[test]
fn a_topic_is_followed_at_both_of_its_urls_beside_the_event_bus() {
    let daemon = daemon();
    let mut bus = daemon.subscriber();
    let mut clients = [
        connect(&daemon, "/demo/__topic/box/stream.topic.chat", "unit.example"),
        connect(&daemon, "/__topic/box/stream.topic.chat", "demo.unit.example:8080"),
        connect(&daemon, "/demo/__topic/box/stream%2Etopic%2Ech%61t?x=y", "unit.example"),
    ];
    for client in &mut clients {
        let answer = client.ask(&token());
        assert!(answer.starts_with(r#"{"Response":"AccessToken","ExpiresIn":35"#), "{answer}");
    }
    assert_eq!(daemon.metric("sessions{dialect=\"personium-topic\"}"), 3);
    let mut publisher = daemon.publisher();
    publisher.send(format!("topic/{PLACE} {DATUM}\ntopic/{PLACE}s {DATUM}\n"));
    publisher.send("event/demo {\"Type\":\"t\",\"Object\":\"o\"}\n");
    assert_eq!(publisher.receipt(), (3, 0));
    for client in &mut clients {
        assert_eq!(client.text(), DATUM);
    }
    assert_eq!(bus.text(), "{\"Type\":\"t\",\"Object\":\"o\"}");
    daemon.await_metric("deliveries_total{dialect=\"personium-topic\"}", 3);
    publisher.send(format!("topic/{PLACE} {{\"Body\":1}}\n"));
    assert!(publisher.reply()["error"].as_str().unwrap().contains("\"From\""));
    for mut client in clients {
        let answer = client.ask("hello");
        assert!(answer.contains("\"Reason\":\"Invalid message\""), "{answer}");
        assert_eq!(client.close_code(), 1000);
        client.frame(0x88, b"\x03\xe8");
        assert!(client.ends_within(DEADLINE));
    }
    daemon.await_metric("subscriptions", 1);
    daemon.assert_works();
}

#[test]
fn a_reload_takes_the_registry_and_sessions_stay() {
    let daemon = daemon();
    let mut client = connect(&daemon, "/demo/__topic/box/stream.topic.chat", "unit.example");
    assert!(client.ask(&token()).contains("Success"));
    let file = daemon.path("fanfare.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, configuration + "topics = [\"demo/other/*\"]\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    daemon.publisher().send(format!("topic/{PLACE} {DATUM}\n"));
    assert_eq!(client.text(), DATUM);
    let mut late = connect(&daemon, "/demo/__topic/box/stream.topic.chat", "unit.example");
    let answer = late.ask(&token());
    assert!(answer.contains("\"Reason\":\"Token inactive\""), "{answer}");
    assert_eq!(late.close_code(), 1000);
    let mut other = connect(&daemon, "/demo/__topic/other/stream.topic.chat", "unit.example");
    assert!(other.ask(&token()).contains("Success"));
}

#[test]
fn subscribe_says_why_a_topic_cannot_be_followed() {
    let daemon = daemon();
    let url = format!("ws://{}/demo/__topic/box/stream.topic.chat", daemon.address);
    let event_token = token_with(SECRET, "event");
    for (arguments, status, reason) in [
        (&[][..], 2, "a topic begins with one"),
        (&["--token", &event_token], 1, "Token inactive"),
        (&["--token", "x", "--type", "y"], 2, "a topic has no subscriptions"),
    ] {
        let mut command = command(&[&["subscribe", &url], arguments].concat());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(status) && said.contains(reason),
            "{}: {said}",
            output.status
        );
        assert!(!said.contains(&event_token));
    }
}
