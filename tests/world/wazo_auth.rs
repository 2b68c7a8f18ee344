//! Wazo with tokens that a real HTTP server verifiers as wazo-auth does: in time, late, oddly, or not at all.

use crate::harness::{Client, Daemon, Setup, Verifier, event, head};
use fanfare::dialect::client::ClientWish;
use serde_json::json;
use std::time::{Duration, Instant};

const INIT: &str = r#"{"op": "init", "code": 0, "msg": "", "data": {"version": 1}}"#;

/// A daemon with two shards that asks this verifier, with more keys of `[wazo.token.wazo_auth]`.
fn daemon(verifier: &Verifier, more: &[(&str, &str)]) -> Daemon {
    let key = |key: &str| format!("wazo.token.wazo_auth.{key}");
    let setup = Setup::new()
        .set("threads", 2)
        .set("listen.0.dialects", r#"["wazo", "personium-event"]"#)
        .set(&key("url"), format!("http://{}", verifier.address));
    more.iter().fold(setup, |setup, (name, value)| setup.set(&key(name), value)).start()
}

fn connect(daemon: &Daemon, query: &str) -> Client {
    let mut client = Client::raw(daemon.address);
    client.bytes(head(&format!("/api/websocketd/?{query}")).as_bytes());
    assert_eq!(client.answer(), 101);
    client
}

fn subscribe(client: &mut Client) {
    client.speak("wazo", ClientWish { names: vec!["*".into()], ..ClientWish::default() });
}

#[track_caller]
fn assert_closed(mut client: Client, code: u16, reason: &str) {
    let frame = client.next().expect("a close frame");
    assert_eq!((frame.first, &frame.payload[..2]), (0x88, &code.to_be_bytes()[..]));
    assert_eq!(String::from_utf8_lossy(&frame.payload[2..]), reason);
}

#[test]
fn it_is_asked_as_by_the_reference_and_its_list_decides() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, &[]);
    let mut client = connect(&daemon, "token=good%2F..%2F%3F%C3%A9");
    subscribe(&mut client);
    let last = &verifier.seen()["last"];
    assert_eq!(last["line"], "GET /0.1/token/good%2F..%2F%3F%C3%A9?scope=websocketd HTTP/1.1");
    assert_eq!(last["headers"]["accept"], "application/json");
    let mine = r#"{"name":"n","required_acl":"events.n"}"#;
    daemon
        .publisher()
        .send(format!("wazo {{\"name\":\"n\",\"required_acl\":\"calls.n\"}}\nwazo {mine}\n"));
    assert_eq!(client.text(), mine);
    assert_closed(connect(&daemon, "token=unknown"), 4002, "authentication failed");
    assert_eq!(daemon.metric("token_checks_total{outcome=\"granted\"}"), 1);
    assert_eq!(daemon.metric("token_checks_total{outcome=\"refused\"}"), 1);
    drop(client);
    daemon.await_metric("token_check_sessions", 0);
}

#[test]
fn a_token_that_is_deleted_there_ends_its_sessions() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, &[("auth_check", "static"), ("auth_check_interval_s", "1")]);
    let mut clients: Vec<Client> = (0..3).map(|_| connect(&daemon, "token=good")).collect();
    clients.iter_mut().for_each(subscribe);
    verifier.await_asked("good", 2);
    assert_eq!(verifier.seen()["last"]["line"], "HEAD /0.1/token/good?scope=websocketd HTTP/1.1");
    verifier.set(&json!({ "refused": ["good"] }));
    clients.into_iter().for_each(|client| assert_closed(client, 4003, "authentication expired"));
    assert_eq!(daemon.metric("token_revocations_total"), 3);
    daemon.await_metric("tokens_watched", 0);
}

#[test]
fn a_session_that_has_ended_lets_nobody_in_again() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, &[("cache_s", "300")]);
    let mut client = connect(&daemon, "token=good");
    assert_eq!(client.text(), INIT);
    verifier.set(&json!({ "refused": ["good"] }));
    daemon.publisher().send("wazo {\"name\":\"auth_session_deleted\",\"data\":{\"uuid\":\"s\"}}\n");
    assert_closed(client, 4003, "authentication expired");
    assert_closed(connect(&daemon, "token=good"), 4002, "authentication failed");
    daemon.await_metric("token_check_sessions", 0);
}

#[test]
fn what_a_client_says_while_it_is_asked_waits_for_the_answer() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 0.5 }));
    let daemon = daemon(&verifier, &[]);
    let mut client = connect(&daemon, "token=good");
    client.say(r#"{"op":"subscribe","data":{"event_name":"n"}}"#);
    client.say(r#"{"op":"start"}"#);
    assert_eq!(client.text(), INIT);
    assert!(client.text().starts_with(r#"{"op": "subscribe""#));
    assert!(client.text().starts_with(r#"{"op": "start""#));
}

#[test]
fn a_client_that_goes_while_its_token_is_asked_about_leaves_nothing_behind() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "delay_s": 1 }));
    let daemon = daemon(&verifier, &[]);
    let clients: Vec<Client> =
        (0..100).map(|n| connect(&daemon, &format!("token=good{n}"))).collect();
    daemon.await_metric("token_check_sessions", 100);
    drop(clients);
    daemon.await_metric("token_check_sessions", 0);
    daemon.await_metric("connections", 0);
    daemon.await_metric("token_check_requests_in_flight", 0);
    assert_eq!(daemon.metric("tokens_watched"), 0);
    assert_eq!(daemon.metric("subscriptions"), 0);
}

#[test]
fn a_token_that_dies_while_it_is_asked_about_is_refused() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, &[]);
    assert_closed(connect(&daemon, "token=dying"), 4002, "authentication failed");
    let mut client = connect(&daemon, "version=2&token=good");
    assert!(client.text().starts_with(r#"{"op": "init""#));
    assert!(
        client.ask(r#"{"op":"token","data":{"token":"good2"}}"#).starts_with(r#"{"op": "token""#)
    );
    client.say(r#"{"op":"token","data":{"token":"dying"}}"#);
    assert_closed(client, 4002, "authentication failed");
    daemon.await_metric("token_check_sessions", 0);
}

#[test]
fn an_answer_that_is_odd_late_or_missing_refuses_in_time_and_stops_nobody_else() {
    let verifier = Verifier::start();
    let daemon = daemon(&verifier, &[("timeout_ms", "1000")]);
    let mut inside = connect(&daemon, "token=good");
    subscribe(&mut inside);
    let mut beside = daemon.subscriber();
    let start = Instant::now();
    let odd = ["500", "garbage", "never", "cut", "drop", "huge", "moved"];
    let clients = odd.map(|token| connect(&daemon, &format!("token={token}")));
    daemon.publisher().send("wazo {\"name\":\"n\",\"required_acl\":null}\n");
    assert_eq!(inside.text(), r#"{"name":"n","required_acl":null}"#);
    daemon.publisher().send(event("here", "meanwhile"));
    assert!(beside.text().contains("meanwhile"));
    clients.into_iter().for_each(|client| assert_closed(client, 4002, "authentication failed"));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    daemon.await_metric("token_check_sessions", 1);
}
