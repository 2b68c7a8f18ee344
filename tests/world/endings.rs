//! Why clients are not let in and sessions end: one reason each, which the metrics count, the log tells and operators
//! find afterwards, with who it was and what the client was told.

use crate::harness::{
    Client, Daemon, PATH, SECRET, Setup, command, event, eventually, head, http, token, token_with,
};
use fanfare::token::{Algorithm, mint};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const TOKEN: &str = "admin-token-0123456789abcdef";

fn ended(reason: &str) -> String {
    format!("session_ends_total{{reason=\"{reason}\"}}")
}

fn refused(reason: &str) -> String {
    format!("refusals_total{{reason=\"{reason}\"}}")
}

/// The one line of the log with a text; it is complete when it has been counted.
fn line(daemon: &Daemon, text: &str) -> String {
    daemon.await_log(text, 1);
    daemon.logged(text).remove(0)
}

/// The payload of the close frame, whatever comes before it.
fn close(client: &mut Client) -> Vec<u8> {
    loop {
        let frame = client.next().unwrap();
        if frame.first == 0x88 {
            return frame.payload;
        }
    }
}

fn ended_of(daemon: &Daemon, query: &str) -> Vec<Value> {
    let answer = daemon.ask(TOKEN, "GET", &format!("/v1/ended?{query}"));
    answer["ended"].as_array().unwrap().clone()
}

/// The id of a client's session, as operators list it.
#[track_caller]
fn id_of(daemon: &Daemon, client: &Client) -> String {
    let own = client.stream().local_addr().unwrap().to_string();
    let listed = daemon.ask(TOKEN, "GET", "/v1/sessions");
    let mut rows = listed["sessions"].as_array().unwrap().iter();
    let row = rows.find(|row| row["address"] == own.as_str()).unwrap();
    row["id"].as_str().unwrap().to_owned()
}

/// Asserts that an end, the only one for its reason, is in the log, the metrics and the ring: as one and the same.
#[track_caller]
fn is_everywhere(daemon: &Daemon, reason: &str, id: &str) -> Value {
    daemon.await_metric(&ended(reason), 1);
    let mut found = Vec::new();
    // It is counted at once, and kept at the end of the turn.
    eventually("the ring has it", || {
        found = ended_of(daemon, &format!("reason={reason}"));
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{reason}: {found:?}");
    let end = &found[0];
    assert_eq!((&end["id"], &end["refused"]), (&json!(id), &json!(false)), "{end}");
    assert_eq!(ended_of(daemon, &format!("id={id}")), found);

    let told = line(daemon, &format!(", id {id}"));
    let detail = end["detail"].as_str().unwrap();
    assert!(told.contains("session ended: ") && told.contains(&format!("{reason} ({detail})")));
    for part in ["dialect", "address", "subject"] {
        let text = end[part].as_str().unwrap_or_default();
        assert!(told.contains(text), "{part} {text} is not in {told}");
    }
    if let Some(code) = end["code"].as_u64() {
        assert!(told.contains(&format!("told {code}")), "{told}");
    }
    end.clone()
}

/// A token that expires in so many seconds.
fn brief(seconds: u64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "aud": "demo", "scope": "event", "sub": "brief", "exp": now_s + seconds });
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

fn shows(client: &mut Client, token: &str) {
    client.say(&format!(r#"{{"access_token":"{token}"}}"#));
}

#[test]
fn a_bad_token_is_told_with_the_clients_address_and_what_is_wrong_and_never_with_the_token() {
    let daemon = Setup::new().start();
    let mut client = daemon.client();
    let own = client.stream().local_addr().unwrap();
    let bad = token_with("another secret, as long as it has to be", "event");
    shows(&mut client, &bad);
    assert_eq!(client.close_code(), 1000);
    let told = line(&daemon, "token_invalid");
    assert!(told.contains(&format!("session ended: {own}, personium-event, after ")), "{told}");
    assert!(
        told.contains("token_invalid (the token's signature does not hold), told 1000"),
        "{told}"
    );
    assert_eq!(daemon.metric(&ended("token_invalid")), 1);
    assert!(daemon.logged(&bad).is_empty());
}

#[test]
fn a_good_token_that_does_not_allow_it_is_told_with_its_subject() {
    let daemon = Setup::new().start();
    let mut client = daemon.client();
    shows(&mut client, &token_with(SECRET, "nothing-of-use"));
    assert_eq!(client.close_code(), 1000);
    let told = line(&daemon, "scope (the token does not allow this)");
    assert!(told.contains(r#"\"https://demo.example/#me\""#), "{told}");
    assert_eq!(daemon.metric(&ended("scope")), 1);
}

#[test]
fn nobody_is_told_with_the_subject_of_somebody_else() {
    let daemon = Setup::new().set("threads", 1).start();
    let mut other = daemon.client();
    other.ask(&format!(r#"{{"access_token":"{}"}}"#, token()));
    let (status, _) = http(daemon.address, b"GET /demo/__event HTTP/1.1\r\nHost x\r\n\r\n");
    assert_eq!(status, 400);
    let told = line(&daemon, "bad_request (");
    assert!(!told.contains("demo.example"), "{told}");
}

#[test]
fn a_client_without_a_token_in_time_and_one_that_leaves_pings_unanswered_are_told_apart() {
    let daemon = Setup::new()
        .set("personium.token_timeout_s", 1)
        .set("personium.ping_interval_s", 1)
        .set("personium.ping_misses_max", 1)
        .start();
    let mut silent = daemon.client();
    let mut deaf = daemon.subscriber();
    assert_eq!(
        (close(&mut silent)[..2].to_vec(), close(&mut deaf)[..2].to_vec()),
        (vec![3, 232], vec![3, 232])
    );
    assert!(line(&daemon, "token_timeout (no token in time)").contains("told 1000"));
    assert!(line(&daemon, "unanswered (pings were left unanswered)").contains("told 1000"));
    assert_eq!(daemon.metric(&ended("token_timeout")), 1);
    assert_eq!(daemon.metric(&ended("unanswered")), 1);
}

#[test]
fn what_breaks_the_protocol_is_told_why_in_the_close_and_in_the_log() {
    let daemon = Setup::new().start();
    let mut client = daemon.subscriber();
    client.frame(0x83, b"");
    assert_eq!(&close(&mut client)[2..], b"protocol error");
    assert!(line(&daemon, "violation (").contains(r#"told 1002 \"protocol error\""#));
}

#[test]
fn refusals_before_a_session_are_counted_and_told_with_their_status() {
    let daemon =
        Setup::new().set("max_connections", 3).set("limits.handshake_timeout_s", 1).start();
    assert_eq!(http(daemon.address, head("/nowhere").as_bytes()).0, 404);
    assert!(line(&daemon, "not_found (no such path), told 404").contains("refused: 127.0.0.1:"));
    let (status, _) = http(daemon.address, b"GET /demo/__event HTTP/1.1\r\nHost x\r\n\r\n");
    assert_eq!(status, 400);
    assert!(line(&daemon, "bad_request (").contains("told 400"));
    let mut late = Client::raw(daemon.address);
    assert_eq!(late.response().0, 408);
    assert!(line(&daemon, "request_timeout (").contains("told 408"));
    daemon.await_metric("connections", 0);
    let _all: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    assert_eq!(http(daemon.address, head(PATH).as_bytes()).0, 503);
    let told = line(&daemon, "connection_limit (max_connections = 3 reached)");
    assert!(told.contains("WARN"), "{told}");
    for reason in ["not_found", "bad_request", "request_timeout", "connection_limit"] {
        assert_eq!(daemon.metric(&refused(reason)), 1, "{reason}");
    }
}

#[test]
fn clients_that_leave_are_counted_and_not_told_unless_somebody_looks_for_it() {
    for (level, lines) in [("info", 0), ("debug", 1)] {
        let daemon = Setup::new().set("log.level", level).start();
        let mut polite = daemon.subscriber();
        polite.frame(0x88, &1000u16.to_be_bytes());
        assert_eq!(polite.close_code(), 1000);
        drop(daemon.subscriber());
        daemon.await_metric(&ended("client"), 1);
        daemon.await_metric(&ended("gone"), 1);
        daemon.await_log("gone (the connection is gone)", lines);
        daemon.await_log("client (the client has left)", lines);
    }
}

#[test]
fn each_class_of_end_is_the_same_in_log_metric_and_ring() {
    let mut daemon = Setup::new()
        .set("threads", 2)
        .set("admin.token", TOKEN)
        .set("log.level", "debug")
        .set("personium.token_timeout_s", 1)
        .start();
    assert!(ended_of(&daemon, "").is_empty());

    let mut expiring = daemon.client();
    expiring.follow_with(&brief(2));
    let expiring_id = id_of(&daemon, &expiring);

    let mut polite = daemon.subscriber();
    let id = id_of(&daemon, &polite);
    polite.frame(0x88, &1000u16.to_be_bytes());
    let end = is_everywhere(&daemon, "client", &id);
    assert_eq!(end["address"], polite.stream().local_addr().unwrap().to_string());
    assert_eq!(end["subject"], "https://demo.example/#me");

    let leaving = daemon.subscriber();
    let id = id_of(&daemon, &leaving);
    drop(leaving);
    is_everywhere(&daemon, "gone", &id);

    let mut stranger = daemon.client();
    let id = id_of(&daemon, &stranger);
    shows(&mut stranger, &token_with("another secret, as long as it has to be", "event"));
    let end = is_everywhere(&daemon, "token_invalid", &id);
    assert_eq!(end["detail"], "the token's signature does not hold");
    assert_eq!((&end["code"], &end["dialect"]), (&json!(1000), &json!("personium-event")));

    let unwanted = daemon.subscriber();
    let id = id_of(&daemon, &unwanted);
    daemon.ask(TOKEN, "DELETE", &format!("/v1/sessions/{id}?code=4321"));
    assert_eq!(is_everywhere(&daemon, "kicked", &id)["code"], 4321);

    let end = is_everywhere(&daemon, "expired", &expiring_id);
    assert!(end["subject"] == "brief" && end["age_s"].as_u64() >= Some(1), "{end}");

    let deaf = daemon.subscriber();
    let id = id_of(&daemon, &deaf);
    let (mut publisher, info) = (daemon.publisher(), "x".repeat(8 * 1024));
    eventually("the deaf client is closed", || {
        publisher.send(event("burst", &info).repeat(50));
        publisher.receipt();
        daemon.metric(&ended("slow")) == 1
    });
    let end = is_everywhere(&daemon, "slow", &id);
    assert!(end["bytes_out"].as_u64() > Some(8 * 1024), "what the kernel had taken: {end}");
    drop((deaf, publisher));

    // One that does not answer the close frame holds the daemon up for long enough to be asked.
    let last = daemon.subscriber();
    let id = id_of(&daemon, &last);
    daemon.signal(Signal::TERM);
    assert_eq!(is_everywhere(&daemon, "drain", &id)["code"], 1001);
    drop(last);
    assert!(daemon.wait().success());
}

#[test]
fn a_client_whose_machine_has_vanished_is_the_same_in_log_metric_and_ring() {
    let daemon = Setup::new()
        .set("admin.token", TOKEN)
        .set("log.level", "debug")
        .set("personium.ping_interval_s", 1)
        .set("personium.ping_misses_max", 1)
        .start();
    // As its machine answers no ping, neither does one that is not read.
    let silent = daemon.subscriber();
    let id = id_of(&daemon, &silent);
    is_everywhere(&daemon, "unanswered", &id);
}

#[test]
fn refusals_are_listed_beside_ended_sessions_and_by_the_command() {
    let setup = Setup::new().set("max_connections", 1).set("admin.token", TOKEN);
    let token_file = setup.path("admin.token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let daemon = setup.start();
    assert_eq!(http(daemon.address, head("/nowhere").as_bytes()).0, 404);
    daemon.await_metric("connections", 0);
    let client = daemon.subscriber();
    assert_eq!(http(daemon.address, head(PATH).as_bytes()).0, 503);
    drop(client);
    eventually("all are there", || ended_of(&daemon, "").len() == 3);

    let all = ended_of(&daemon, "address=127.0.0.1");
    let parts: Vec<_> = all
        .iter()
        .map(|end| (end["reason"].as_str().unwrap(), &end["refused"], end["code"].as_u64()))
        .collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(
        parts,
        [
            ("gone", &no, None),
            ("connection_limit", &yes, Some(503)),
            ("not_found", &yes, Some(404))
        ]
    );
    assert!(all[1].get("id").is_none() && all[2]["id"].is_string(), "{all:?}");
    assert_eq!(ended_of(&daemon, "count=1").len(), 1);
    assert_eq!(ended_of(&daemon, "dialect=personium-event").len(), 1);
    assert!(ended_of(&daemon, "address=127.0.0.2").is_empty());

    let shown = |words: &[&str]| {
        let admin = daemon.admin.to_string();
        let place = ["--admin", &admin, "--token-file", token_file.to_str().unwrap()];
        let output = command(&[&["ended"], words, &place].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = shown(&[]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("connection_limit") && listed.contains("max_connections = 1 reached"));
    assert_eq!(shown(&["--reason", "not_found"]).lines().count(), 2);
    assert_eq!(shown(&["0-0-4000"]), "none\n");
    let json: Value = serde_json::from_str(&shown(&["--json", "--count", "2"])).unwrap();
    assert_eq!(json["ended"], json!(all[..2]));
}

#[test]
fn a_flood_of_bad_tokens_is_a_few_lines_and_a_count_and_hides_no_other_reason() {
    let daemon = Setup::new().set("threads", 2).start();
    let bad = token_with("another secret, as long as it has to be", "event");
    for _ in 0..30 {
        let mut client = daemon.client();
        shows(&mut client, &bad);
        assert_eq!(client.close_code(), 1000);
    }
    assert_eq!(daemon.metric(&ended("token_invalid")), 30);
    assert_eq!(daemon.logged("token_invalid").len(), 5);
    let mut other = daemon.client();
    shows(&mut other, &token_with(SECRET, "nothing-of-use"));
    line(&daemon, "scope (the token does not allow this)");
    daemon.await_log(
        "and 25 more like it, personium-event: token_invalid (the token is not valid)",
        1,
    );
}

#[test]
fn the_reason_is_the_text_of_a_close_that_the_protocol_leaves_free() {
    let mut daemon = Setup::new().start();
    let mut client = daemon.client();
    client.ask(&format!(r#"{{"access_token":"{}"}}"#, token()));
    daemon.signal(Signal::TERM);
    let frame = client.next().unwrap();
    assert_eq!((frame.first, &frame.payload[2..]), (0x88, &b"the server is stopping"[..]));
    client.frame(0x88, &frame.payload[..2]);
    assert!(daemon.wait().success());
}
