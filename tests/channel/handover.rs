//! Conversations that go on in another process.

use super::*;
use tungstenite::protocol::frame::coding::{Control, OpCode};

#[test]
fn a_conversation_goes_on_in_another_process() {
    let mut bus = with(&["ann", "bob", "tweets"]);
    assert!(bus.hand_over());
    bus.nothing_is_left("a word");
    bus.say("ann", r#"{"data":{"message":"hi"}}"#);
    assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann(r#"{"message":"hi"}"#)]);
    assert_eq!(bus.heard("bob"), [of_ann(r#"{"message":"hi"}"#)]);
    bus.feed(r#"channel {"channel":"tweet:","data":{"message":"all"}}"#);
    assert_eq!(bus.heard("tweets").len(), 1);
    bus.nothing_is_left("the end");
}

#[test]
fn pings_misses_and_the_end_of_a_token_come_when_they_would_have_come() {
    let mut bus = with(&["ann", "minute"]);
    bus.wait(24);
    assert!(bus.hand_over());
    bus.nothing_is_left("the first ping");
    bus.wait(1);
    assert_eq!(
        (bus.heard("ann"), bus.heard("minute")),
        (vec!["ping []".into()], vec!["ping []".into()])
    );
    assert!(bus.hand_over());
    bus.send("minute", OpCode::Control(Control::Pong), b"");
    bus.wait(25);
    assert_eq!(
        (bus.heard("ann"), bus.heard("minute")),
        (vec!["ping []".into()], vec!["ping []".into()])
    );
    bus.wait(9);
    assert!(bus.hand_over());
    bus.nothing_is_left("the end of the token");
    bus.wait(1);
    assert_eq!(bus.heard("minute"), ["close 1008 token expired"]);
    bus.wait(15);
    assert_eq!(bus.heard("ann"), ["close 1001 ping timeout"]);
}

#[test]
fn half_a_message_of_a_client_is_completed_in_another_process() {
    let mut bus = with(&["ann"]);
    let text = r#"{"data":{"message":"ü"}}"#;
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    for at in 1..frame.len() {
        let (first, second) = frame.split_at(at);
        bus.send_bytes("ann", &mut first.to_vec());
        assert!(bus.hand_over());
        bus.send_bytes("ann", &mut second.to_vec());
        assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann(r#"{"message":"ü"}"#)], "at {at}");
    }
}

#[test]
fn a_session_that_ends_is_not_passed() {
    let mut bus = with(&["ann", "minute"]);
    bus.wait(60);
    assert!(bus.heard("minute").contains(&"close 1008 token expired".to_owned()));
    assert!(!bus.hand_over());
}
