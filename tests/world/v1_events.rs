//! Operators and applications at the API of the admin listener: publishing, asking who would get an event, the log and
//! the configuration.

use crate::harness::{Daemon, Setup, eventually, http};
use crate::v1::{TOKEN, ask, every_dialect, followers, get, post, rows};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// Status and body of a POST of events.
pub(crate) fn publish(daemon: &Daemon, address: &str, kind: &str, body: &str) -> (u16, Value) {
    publish_with(TOKEN, daemon, address, kind, body)
}

fn publish_with(
    token: &str,
    daemon: &Daemon,
    address: &str,
    kind: &str,
    body: &str,
) -> (u16, Value) {
    let request = format!(
        "POST /v1/publish?address={address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, answer) = http(daemon.admin, request.as_bytes());
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

/// An event that the follower of a dialect gets, with the address that it is published at.
pub(crate) fn event_for(dialect: &str) -> (&'static str, Value) {
    match dialect {
        "personium-event" => {
            ("event/demo", json!({ "Type": "chat", "Object": "https://x/a", "Info": "hello" }))
        }
        "personium-topic" => (
            "topic/demo/box/stream.topic.chat",
            json!({ "From": "https://demo.example/", "Body": "hello" }),
        ),
        "wazo" => {
            ("wazo", json!({ "name": "call", "required_acl": "events.call", "data": "hello" }))
        }
        "echo" => {
            ("echo/7", json!({ "name": "e", "channels": ["presence-room"], "data": "hello" }))
        }
        "channel" => ("channel", json!({ "channel": "chat:1", "data": { "message": "hello" } })),
        _ => ("pulsar/non-persistent/public/default/t", json!({ "payload": "aGVsbG8=" })),
    }
}

#[test]
fn an_event_of_every_dialect_is_published_and_its_receivers_are_counted() {
    let daemon = every_dialect();
    let mut all = followers(&daemon);
    for (dialect, client, ..) in &mut all {
        let (address, event) = event_for(dialect);
        // Over several lines, which is one event all the same.
        let body = format!("{event:#}");
        let (status, told) = publish(&daemon, address, "application/json", &body);
        assert_eq!(
            (status, &told),
            (200, &json!({ "accepted": 1, "rejected": 0, "reached": 1, "errors": [] })),
            "{dialect}"
        );
        let sign = if *dialect == "pulsar" { "aGVsbG8=" } else { "hello" };
        eventually("the event comes", || client.text().contains(sign));
    }
    assert_eq!(daemon.metric("events_total{feed=\"http\",outcome=\"accepted\"}"), 6);
}

#[test]
fn operators_are_told_who_would_get_an_event_and_why_not_and_nothing_is_published() {
    let daemon = every_dialect();
    let mut all = followers(&daemon);
    let why = |query: &str, event: Value| {
        let target = format!("/v1/why?{query}");
        let (status, told) = post(&daemon, "POST", &target, &event.to_string());
        assert_eq!(status, 200, "{query}: {told}");
        let rows = told["sessions"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 1, "{query}: {told}");
        (rows[0]["gets"].as_bool().unwrap(), rows[0]["because"].as_str().unwrap().to_owned())
    };
    let wazo = |acl: &str| json!({ "name": "call", "required_acl": acl, "data": "x" });
    let echo = |channel: &str| json!({ "name": "e", "channels": [channel], "data": "x" });
    let event = |object: &str| json!({ "Type": "chat", "Object": object, "Info": "x" });
    for (query, event, gets, because) in [
        ("address=event/demo&dialect=personium-event", event("https://x/a/b"), true, "matches"),
        ("address=event/demo&dialect=personium-event", event("y"), false, "no subscription"),
        ("address=event/demo&dialect=wazo", event("https://x/a/b"), false, "no subscription"),
        ("address=wazo&subject=ann", wazo("events.call"), true, "matches"),
        ("address=wazo&subject=ann", wazo("other.call"), false, "does not allow other.call"),
        ("address=wazo/tenant&subject=ann", wazo("events.call"), false, "another tenant"),
        ("address=echo/7&topic=echo/7/presence-room", echo("presence-room"), true, "matches"),
        ("address=echo/7&topic=echo/7/presence-room", echo("room"), false, "no subscription"),
        (
            "address=pulsar/non-persistent/public/default/t&dialect=pulsar",
            json!({ "payload": "YQ==" }),
            true,
            "in its share",
        ),
        (
            "address=channel&dialect=channel",
            json!({ "channel": "chat:1", "data": { "message": "x" } }),
            true,
            "matches",
        ),
    ] {
        let told = why(query, event);
        assert!(told.0 == gets && told.1.contains(because), "{query}: {told:?}");
    }
    let id = rows(&daemon, "dialect=wazo")[0]["id"].as_str().unwrap().to_owned();
    assert!(why(&format!("address=wazo&id={id}"), wazo("events.call")).0);
    let (_, told) = post(&daemon, "POST", "/v1/why?address=wazo&id=0-99-1", "{\"name\":\"x\"}");
    assert_eq!(told["sessions"], json!([]), "it is not there");
    let (_, told) = post(&daemon, "POST", "/v1/why?address=wazo", &wazo("events.call").to_string());
    assert_eq!(told["sessions"].as_array().unwrap().len(), all.len());
    let (status, told) = post(&daemon, "POST", "/v1/why?address=wazo", "{");
    assert!(status == 400 && told["error"].as_str().unwrap().contains("not valid JSON"), "{told}");
    for (dialect, client, ..) in &mut all {
        assert!(client.is_silent_for(Duration::from_millis(20)), "{dialect}");
    }
    assert_eq!(daemon.metric("events_total{feed=\"http\",outcome=\"accepted\"}"), 0);
}

#[test]
fn an_application_may_have_a_token_that_publishes_and_does_nothing_else() {
    const PUBLISH: &str = "publish-token-0123456789";
    let setup = Setup::new().set("admin.token", TOKEN);
    std::fs::write(setup.path("publish.token"), PUBLISH).unwrap();
    let file = setup.path("publish.token").display().to_string();
    let daemon = setup.set("admin.publish_token_file", file).start();
    let event = r#"{"Type":"t","Object":"o","Info":"i"}"#;
    for token in [PUBLISH, TOKEN] {
        let told = publish_with(token, &daemon, "event/demo", "application/json", event);
        assert_eq!((told.0, &told.1["accepted"]), (200, &json!(1)));
    }
    let told = publish_with("another", &daemon, "event/demo", "application/json", event);
    assert_eq!(told.0, 401);
    for target in ["/v1/status", "/v1/sessions", "/v1/config", "/topics"] {
        let header = format!("Authorization: Bearer {PUBLISH}");
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n");
        assert_eq!(http(daemon.admin, request.as_bytes()).0, 401, "{target}");
    }
}

#[test]
fn wrong_events_are_told_and_stored_ones_are_stored_when_they_are_answered() {
    let daemon = every_dialect();
    for (address, body, said) in [
        ("event/demo", "{", "not valid JSON"),
        ("event", "{}", "write event/CELL"),
        ("nothing/demo", "{}", "its first word is one of"),
        ("echo/8", r#"{"name":"e","channels":["c"],"data":""}"#, "there is no app"),
        ("", "{}", "the parameter address is missing"),
    ] {
        let (status, told) = publish(&daemon, address, "application/json", body);
        assert!(
            status == 400 && told["error"].as_str().unwrap().contains(said),
            "{address}: {told}"
        );
    }

    let topic = "pulsar/persistent/public/default/t";
    let lines = "{\"payload\":\"YQ==\"}\n\n{\"payload\":1}\n{\"payload\":\"Yg==\"}\n";
    let (status, told) = publish(&daemon, topic, "application/x-ndjson; charset=utf-8", lines);
    assert_eq!((status, &told["accepted"], &told["rejected"]), (200, &json!(2), &json!(1)));
    assert_eq!(told["errors"][0]["line"], 2, "{told}");
    assert!(told.get("reached").is_none());
    let (_, stats) = ask(&daemon, "GET", "/topics/stats?topic=persistent://public/default/t");
    assert_eq!(stats["messages"], 2);

    // As long as a line of a feed, for those who may publish; a stranger's is short.
    let long = json!({ "Type": "t", "Object": "o", "Info": "x".repeat(100_000) }).to_string();
    assert_eq!(publish(&daemon, "event/demo", "application/json", &long).1["reached"], 0);
    let request = format!(
        "POST /v1/publish?address=event/demo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{long}",
        long.len()
    );
    assert_eq!(http(daemon.admin, request.as_bytes()).0, 413);
    let many = "{}\n".repeat(1001);
    let (status, told) = publish(&daemon, "event/demo", "application/x-ndjson", &many);
    assert!(status == 400 && told["error"].as_str().unwrap().contains("at most 1000"), "{told}");
}

#[test]
fn a_reload_is_answered_with_each_key_and_a_wrong_file_with_what_is_wrong() {
    let daemon = Setup::new().set("admin.token", TOKEN).start();
    let file = daemon.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let told = post(&daemon, "POST", "/v1/reload", "").1;
    assert_eq!((&told["applied"], &told["needs_restart"]), (&json!([]), &json!([])));
    assert!(told["said"].as_str().unwrap().ends_with("the configuration is as it was"), "{told}");

    let changed = text.replace("threads = 1", "threads = 2").replace("drain_s = 10", "drain_s = 9");
    std::fs::write(&file, changed).unwrap();
    // Askers at the same time are all answered, by one reload or by several.
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let asking = (0..4).map(|_| scope.spawn(|| post(&daemon, "POST", "/v1/reload", "").1));
        asking.collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().any(|told| told["applied"] == json!(["drain_s"])), "{answers:?}");
    assert!(answers.iter().all(|told| told["needs_restart"] == json!(["threads"])), "{answers:?}");
    let config = get(&daemon, "/v1/config");
    assert_eq!((&config["drain_s"], &config["threads"]), (&json!(9), &json!(1)), "what runs");
    assert_eq!(config["admin"]["token"], "[redacted]");
    assert!(!config.to_string().contains(TOKEN));

    std::fs::write(&file, text.replace("drain_s", "drain_seconds")).unwrap();
    let (status, told) = post(&daemon, "POST", "/v1/reload", "");
    assert!(status == 400 && told["error"].as_str().unwrap().contains("drain_seconds"), "{told}");
    daemon.await_log("not reloaded", 1);
}

#[test]
fn the_log_is_filtered_by_other_directives_until_the_next_reload() {
    let daemon = Setup::new().set("admin.token", TOKEN).start();
    drop(daemon.subscriber());
    daemon.await_metric("session_ends_total{reason=\"gone\"}", 1);
    let (status, told) = post(&daemon, "POST", "/v1/log", "filter=warn,fanfare::shard=debug");
    assert_eq!((status, &told["filter"]), (200, &json!("warn,fanfare::shard=debug")));
    drop(daemon.subscriber());
    daemon.await_log("gone (the connection is gone)", 1);
    let (status, told) = post(&daemon, "POST", "/v1/log", "filter=loud");
    assert!(status == 400 && told["error"].as_str().unwrap().contains("write error"), "{told}");
    daemon.signal(Signal::HUP);
    // Logged at info, which is the configuration's level again.
    daemon.await_log("reloaded", 1);
    // The first is told before it is done, the second when it is.
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 2);
    drop(daemon.subscriber());
    daemon.await_metric("session_ends_total{reason=\"gone\"}", 3);
    // A line that would have been written is there before that of a later reload.
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 3);
    assert_eq!(daemon.logged("gone (the connection is gone)").len(), 1);
}
