//! Why clients are not let in and sessions end: one reason each, which the metrics count and the log tells, with who it
//! was and what the client was told.

use crate::harness::{Client, Daemon, PATH, SECRET, Setup, head, http, token, token_with};

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
    daemon.signal(rustix::process::Signal::TERM);
    let frame = client.next().unwrap();
    assert_eq!((frame.first, &frame.payload[2..]), (0x88, &b"the server is stopping"[..]));
    client.frame(0x88, &frame.payload[..2]);
    assert!(daemon.wait().success());
}
