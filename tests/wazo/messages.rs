//! What clients may say: every protocol error, and everything that looks like one and is none.

use super::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};

const SUBSCRIBED: &str = r#"{"op": "subscribe", "code": 0, "msg": "", "data": null}"#;
const STARTED: &str = r#"{"op": "start", "code": 0, "msg": "", "data": null}"#;

/// What a session of version 1 that has not started answers.
#[track_caller]
fn answer(text: &str) -> String {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}"));
    let mut answers = bus.answers(text);
    assert!(answers.len() <= 1, "{text}: {answers:?}");
    answers.pop().unwrap_or_default()
}

#[test]
fn what_is_no_operation_is_a_protocol_error() {
    let deep = |depth: usize| {
        format!(r#"{{"op":"start","x":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    let (deep, abyss) = (deep(200), deep(100_000));
    for text in [
        "",
        " ",
        "start",
        "{",
        "}",
        "{}",
        "[]",
        "null",
        "1",
        "\"start\"",
        r#"[{"op":"start"}]"#,
        r#"{"op":"start"} {"op":"start"}"#,
        r#"{"op":"start"}x"#,
        r#"{"op":"start"},"#,
        "{\"op\":\"start\"}\0",
        "\u{feff}{\"op\":\"start\"}",
        r#"{"op":"start",}"#,
        r#"{'op':'start'}"#,
        r#"{op:"start"}"#,
        r#"{"op":"start"} // yes"#,
        r#"{"op":start}"#,
        r#"{"op":null}"#,
        r#"{"op":1}"#,
        r#"{"op":["start"]}"#,
        r#"{"op":{"start":1}}"#,
        r#"{"op":""}"#,
        r#"{"op":"Start"}"#,
        r#"{"op":"START"}"#,
        r#"{"op":"start "}"#,
        r#"{"Op":"start"}"#,
        r#"{"op":"init"}"#,
        r#"{"op":"event"}"#,
        r#"{"op":"pong","data":{"payload":""}}"#,
        r#"{"op":"unsubscribe","data":{"event_name":"a"}}"#,
        r#"{"op":"start","op":"nonsense"}"#,
        r#"{"op":"st\u0000art"}"#,
        r#"{"op":"start","x":"\ud800"}"#,
        r#"{"op":"start","x":"\x"}"#,
        "{\"op\":\"start\",\"x\":\"\n\"}",
        r#"{"op":"start","x":01}"#,
        r#"{"op":"start","x":+1}"#,
        r#"{"op":"start","x":.5}"#,
        r#"{"op":"start","x":NaN}"#,
        r#"{"op":"start","x":Infinity}"#,
        r#"{"op":"start","x":1e999999}"#,
        &deep,
        &abyss,
    ] {
        assert_eq!(answer(text), "close 4004", "{}", &text[..text.len().min(80)]);
    }
}

#[test]
fn an_operation_without_what_it_needs_is_a_protocol_error() {
    for (op, key) in [("subscribe", "event_name"), ("token", "token"), ("ping", "payload")] {
        for data in [
            String::new(),
            r#","data":null"#.into(),
            r#","data":1"#.into(),
            r#","data":"x""#.into(),
            format!(r#","data":["{key}"]"#),
            r#","data":{}"#.into(),
            r#","data":{"x":"y"}"#.into(),
            format!(r#","data":{{"{key}":null}}"#),
            format!(r#","data":{{"{key}":1}}"#),
            format!(r#","data":{{"{key}":true}}"#),
            format!(r#","data":{{"{key}":["x"]}}"#),
            format!(r#","data":{{"{key}":{{"x":"y"}}}}"#),
            format!(r#","data":{{"{key}":"ann","{key}":1}}"#),
            format!(r#","data":{{"{key}":"ann"}},"data":null"#),
            format!(r#","{key}":"x""#),
            format!(r#","Data":{{"{key}":"x"}}"#),
        ] {
            let text = format!(r#"{{"op":"{op}"{data}}}"#);
            assert_eq!(answer(&text), "close 4004", "{text}");
        }
    }
}

#[test]
fn a_binary_message_is_a_protocol_error() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}"));
    bus.send("", OpCode::Data(Data::Binary), br#"{"op":"start"}"#);
    assert_eq!(bus.heard(""), ["close 4004"]);
}

#[test]
fn json_may_be_written_in_any_way() {
    let numbers =
        r#"{"op":"start","x":[0,-0.0,1E+5,1e-400,123456789012345678,0.1234567890123456789012345]}"#;
    for (text, expected) in [
        (r#"{"op":"start"}"#, STARTED),
        ("\t\r\n {\n\"op\" :\t\"start\" } \n", STARTED),
        (r#"{"\u006fp":"\u0073tart"}"#, STARTED),
        (r#"{"op":"start","data":{"x":[1,{"y":null}]},"more":true}"#, STARTED),
        (r#"{"op":"start","data":"x"}"#, STARTED),
        (r#"{"op":"start","data":null}"#, STARTED),
        (r#"{"op":"nonsense","op":"start"}"#, STARTED),
        (r#"{"op":1,"op":"start"}"#, STARTED),
        (numbers, STARTED),
        (
            r#"{"op":"start","x":-123456789012345678901234567890123456789012345678901234567890}"#,
            STARTED,
        ),
        (r#"{"data":{"event_name":"x"},"op":"subscribe"}"#, SUBSCRIBED),
        (r#"{"op":"subscribe","data":{"event_name":""}}"#, SUBSCRIBED),
        (r#"{"op":"subscribe","data":{"event_name":1,"event_name":"x"}}"#, SUBSCRIBED),
        (r#"{"op":"subscribe","data":null,"data":{"event_name":"x"}}"#, SUBSCRIBED),
        (r#"{"op":"subscribe","data":{"event_name":"a\u0000b\ud83d\ude00","x":1}}"#, SUBSCRIBED),
        (r#"{"op":"ping","data":{"payload":"x"}}"#, ""),
    ] {
        assert_eq!(answer(text), expected, "{text}");
    }
}

#[test]
fn of_a_name_that_is_written_twice_the_last_is_subscribed() {
    talk(
        r#"
        > {"op":"subscribe","data":{"event_name":"a","event_name":"b"}}
        < {"op": "subscribe", "code": 0, "msg": "", "data": null}
        > {"op":"start"}
        < {"op": "start", "code": 0, "msg": "", "data": null}
        feed wazo {"name":"a","required_acl":null}
        feed wazo {"name":"b","required_acl":null}
        < {"name":"b","required_acl":null}
        feed wazo {"name":"a","required_acl":null,"name":"b"}
        < {"name":"a","required_acl":null,"name":"b"}
        "#,
    );
}
