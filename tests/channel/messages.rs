//! What clients say, what they are answered, and who gets it.

use super::*;
use fanfare::json::DEPTH_MAX;
use tungstenite::protocol::frame::coding::{Data, OpCode};

#[test]
fn a_message_is_acknowledged_first_and_then_goes_to_the_whole_channel() {
    let mut bus = with(&["ann", "bob", "text", "nobody", "tweets", "progress"]);
    bus.say("ann", r#"{"data":{"message":"hi","name":"Ann"}}"#);
    let broadcast = of_ann(r#"{"message":"hi","name":"Ann"}"#);
    assert_eq!(bus.heard("ann"), [OK, &broadcast]);
    for other in ["bob", "text", "nobody"] {
        assert_eq!(bus.heard(other), [&*broadcast], "{other}");
    }
    bus.nothing_is_left("the end");
}

#[test]
fn messages_of_one_turn_keep_their_order() {
    let mut bus = with(&["ann", "bob"]);
    let mut frames = Vec::new();
    for number in 0..100 {
        let text = format!(r#"{{"data":{{"message":{number}}}}}"#);
        frames.extend_from_slice(&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        frames.extend_from_slice(text.as_bytes());
    }
    bus.send_bytes("ann", &mut frames);
    let messages: Vec<String> =
        (0..100).map(|number| of_ann(&format!(r#"{{"message":{number}}}"#))).collect();
    assert_eq!(bus.heard("bob"), messages);
    let mut heard = bus.heard("ann");
    let broadcasts = heard.split_off(100);
    assert!(heard.iter().all(|answer| answer == OK));
    assert_eq!(broadcasts, messages);
}

#[test]
fn text_and_binary_are_the_same() {
    let mut bus = with(&["ann"]);
    bus.send("ann", OpCode::Data(Data::Binary), r#"{"data":{"message":"é"}}"#.as_bytes());
    assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann(r#"{"message":"é"}"#)]);
    bus.send("ann", OpCode::Data(Data::Binary), b"{\"data\":{\"message\":\"\xFF\"}}");
    bus.send("ann", OpCode::Data(Data::Binary), b"");
    bus.send("ann", OpCode::Data(Data::Binary), b"\xEF\xBB\xBF{\"data\":{}}");
    assert_eq!(bus.heard("ann"), [NOT_OK, NOT_OK, NOT_OK]);
}

/// Some of these end the process of the original, the others are met with silence there.
#[test]
fn whatever_is_no_message_is_answered_so_and_goes_nowhere() {
    let deep = |depth: usize| {
        let arrays = depth - 2;
        format!(r#"{{"data":{{"message":{}{}}}}}"#, "[".repeat(arrays), "]".repeat(arrays))
    };
    let mut bus = with(&["ann", "bob"]);
    for text in [
        "",
        " ",
        "hello",
        "null",
        "true",
        "0",
        "\"\"",
        "[]",
        "[{\"data\":{}}]",
        "{}",
        "{",
        "{\"data\":{}",
        "{\"data\":{}}}",
        "{\"data\":{}} {}",
        "{\"data\":{},}",
        "{\"data\":{\"a\":}}",
        "{\"data\":{\"a\":01}}",
        "{\"data\":{\"a\":NaN}}",
        "{'data':{}}",
        "{data:{}}",
        "{\"data\":null}",
        "{\"data\":[]}",
        "{\"data\":\"{}\"}",
        "{\"data\":1}",
        "{\"data\":true}",
        "{\"Data\":{}}",
        "{\"message\":\"hi\"}",
        "{\"data\":{},\"data\":null}",
        "{\"data\":{\"message\":\"\n\"}}",
        "{\"data\":{\"message\":\"\\x\"}}",
        &deep(DEPTH_MAX + 1),
        &"[".repeat(60_000),
        &"{\"data\":".repeat(7_000),
    ] {
        bus.say("ann", text);
        assert_eq!(bus.heard("ann"), [NOT_OK], "{text:.80}");
    }
    bus.nothing_is_left("the messages that are some");
    for (text, data) in [
        (r#"{"data":{}}"#, "{}"),
        (" \r\n\t{ \"data\" : { } } ", "{}"),
        (
            r#"{"type":"x","sender":{"id":9},"channel":"chat:2","data":{"message":1}}"#,
            r#"{"message":1}"#,
        ),
        (r#"{"data":null,"data":{"message":1}}"#, r#"{"message":1}"#),
        (r#"{"data":{"message":1},"data":{"message":2}}"#, r#"{"message":2}"#),
        (r#"{"data":{"message":1},"d\u0061ta":{"message":2}}"#, r#"{"message":2}"#),
        (r#"{"data":{"message":1,"message":2}}"#, r#"{"message":2}"#),
        (r#"{"data":{"message":"\ud83d\ude00\ud800"}}"#, r#"{"message":"\ud83d\ude00\ud800"}"#),
    ] {
        bus.say("ann", text);
        assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann(data)], "{text}");
        assert_eq!(bus.heard("bob"), [of_ann(data)], "{text}");
    }
    bus.say("ann", &deep(DEPTH_MAX));
    assert_eq!(bus.heard("ann")[0], OK);
}

#[test]
fn channels_are_told_apart_by_their_whole_names() {
    let names = ["chat", "chat:", "chat:1", "chat:10", "Chat:1", "chat:1 ", "é", "e\u{301}"];
    let list: String = names
        .iter()
        .map(|name| format!("[[token]]\ntoken = '{name}'\nchannel = '{name}'\n"))
        .collect();
    let mut bus = bus(|channel| channel.verifier = Some(verifier(&list)));
    for name in names {
        let token: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        join(&mut bus, name, &token);
    }
    for name in names {
        bus.say(name, r#"{"data":{"message":1}}"#);
        assert_eq!(bus.heard(name).len(), 2, "{name}");
        bus.nothing_is_left(name);
    }
}

#[test]
fn a_kind_that_nobody_knows_is_one_like_others() {
    let mut bus = with(&["other"]);
    bus.say("other", r#"{"data":{"b":1, "a":[ ]}}"#);
    assert_eq!(bus.heard("other"), [OK.to_owned(), of_ann(r#"{"b":1, "a":[ ]}"#)]);
}

#[test]
fn who_has_left_gets_nothing_and_leaves_nothing_behind() {
    let mut bus = with(&["ann", "bob"]);
    bus.shard.lost(bus.clients["bob"].id, bus.now);
    bus.flush();
    assert_eq!(bus.heard("bob"), ["gone"]);
    bus.say("ann", r#"{"data":{}}"#);
    assert_eq!(bus.heard("ann").len(), 2);
    bus.shard.lost(bus.clients["ann"].id, bus.now);
    bus.wait(1);
    assert_eq!(bus.metrics.subscriptions.get(), 0);
}
