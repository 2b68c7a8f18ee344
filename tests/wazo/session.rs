//! A session from the request to the end: tokens in query and header, versions, refusals, pings, limits.

use super::*;
use fanfare::dialect::{Settings, wazo};
use tungstenite::protocol::frame::coding::{Control, OpCode};

const INIT_2: &str = r#"{"op": "init", "code": 0, "data": {"version": 2}}"#;

/// What a client of this path and header is told.
fn greeting(path: &str, auth_token: &'static str) -> Vec<String> {
    let mut bus =
        Bus::with(&(TOKENS.to_owned() + "[[token]]\ntoken = \"a b&c=é+%\"\nacl = [\"#\"]\n"));
    bus.auth_token = auth_token;
    bus.connect("", path, HOST);
    assert_eq!(bus.next("").as_deref(), Some("101"), "{path}");
    bus.heard("")
}

#[test]
fn the_token_comes_in_the_query_or_else_in_a_header() {
    for (path, header, expected) in [
        ("/?token=ann", "", INIT),
        ("/?token=ann", "nobody", INIT),
        ("/?token=nobody", "ann", "close 4002 authentication failed"),
        ("/", "ann", INIT),
        ("/?token=", "ann", INIT),
        ("/?token", "ann", INIT),
        ("/?Token=nobody", "ann", INIT),
        ("/", "", "close 4001 no token"),
        ("/?token=", "", "close 4001 no token"),
        ("/?x=token", "", "close 4001 no token"),
        ("/?token=ann&token=nobody", "", INIT),
        ("/?token=nobody&token=ann", "", "close 4002 authentication failed"),
        ("/?token=&token=ann", "", INIT),
        ("/?a=b&token=ann&c", "", INIT),
        ("/?%74oken=%61nn", "", INIT),
        ("/?token=a+b%26c%3D%C3%A9%2B%25", "", INIT),
        ("/?token=a%20b%26c=%c3%a9%2b%", "", INIT),
        ("/?token=%ff", "", "close 4002 authentication failed"),
        ("/?token=%20", "", "close 4002 authentication failed"),
        ("/?token=stranger", "", "close 4002 authentication failed"),
    ] {
        assert_eq!(greeting(path, header), [expected], "{path} {header}");
    }
}

#[test]
fn any_path_is_taken() {
    for path in ["", "/", "/api/websocketd/", "/api/websocketd", "//", "/x/y"] {
        assert_eq!(greeting(&format!("{path}?token=ann"), ""), [INIT], "{path}");
    }
}

#[test]
fn a_path_of_another_dialect_of_the_listener_is_left_to_it() {
    assert_eq!(greeting("/john.doe/__event?token=ann", ""), [""; 0]);
}

#[test]
fn the_version_is_checked_before_the_token() {
    for (query, expected) in [
        ("token=ann&version=1", INIT),
        ("token=ann&version=", INIT),
        ("token=ann&version", INIT),
        ("token=ann&version=2", INIT_2),
        ("version=2&token=ann&version=3", INIT_2),
        ("token=ann&version=0", "close 4004"),
        ("token=ann&version=3", "close 4004"),
        ("token=ann&version=02", "close 4004"),
        ("token=ann&version=2.0", "close 4004"),
        ("token=ann&version=-1", "close 4004"),
        ("token=ann&version=two", "close 4004"),
        ("token=ann&version=+2", "close 4004"),
        ("token=nobody&version=3", "close 4004"),
        ("version=3", "close 4004"),
        ("version=2", "close 4001 no token"),
        ("version=2&token=nobody", "close 4002 authentication failed"),
    ] {
        assert_eq!(greeting(&format!("/?{query}"), ""), [expected], "{query}");
    }
}

#[test]
fn version_1_answers_until_start_and_is_silent_afterwards() {
    talk(
        r#"
        > {"op": "subscribe", "data": {"event_name": "a"}}
        < {"op": "subscribe", "code": 0, "msg": "", "data": null}
        > {"op": "subscribe", "data": {"event_name": "a"}}
        < {"op": "subscribe", "code": 0, "msg": "", "data": null}
        > {"op": "token", "data": {"token": "bob"}}
        < {"op": "token", "code": 0, "msg": "", "data": null}
        > {"op": "ping", "data": {"payload": "x"}}
        > {"op": "start"}
        < {"op": "start", "code": 0, "msg": "", "data": null}
        > {"op": "start"}
        > {"op": "subscribe", "data": {"event_name": "b"}}
        > {"op": "token", "data": {"token": "ann"}}
        > {"op": "ping", "data": {"payload": "x"}}
        feed wazo {"name":"a","required_acl":null}
        < {"name":"a","required_acl":null}
        feed wazo {"name":"b","required_acl":null}
        < {"name":"b","required_acl":null}
        > {"op": "ping", "data": {"payload": 1}}
        < close 4004
        "#,
    );
}

#[test]
fn version_2_answers_always() {
    let mut bus = Bus::with(TOKENS);
    bus.connect("", "/?token=ann&version=2", HOST);
    assert_eq!(bus.heard(""), ["101", INIT_2]);
    let talk = r#"
        > {"op": "subscribe", "data": {"event_name": "a"}}
        < {"op": "subscribe", "code": 0, "data": null}
        > {"op": "ping", "data": {"payload": ""}}
        < {"op": "pong", "code": 0, "data": {"payload": ""}}
        feed wazo {"name":"a","required_acl":null}
        > {"op": "start", "data": 5}
        < {"op": "start", "code": 0, "data": null}
        > {"op": "start"}
        < {"op": "start", "code": 0, "data": null}
        feed wazo { "name" : "a" , "required_acl":null, "data":{"a":[1e5,"\u00e9"]}}
        < {"op": "event", "code": 0, "data": { "name" : "a" , "required_acl":null, "data":{"a":[1e5,"\u00e9"]}}}
        > {"op": "token", "data": {"token": "bob"}}
        < {"op": "token", "code": 0, "data": null}
        > {"op": "subscribe", "data": {"event_name": "b"}}
        < {"op": "subscribe", "code": 0, "data": null}
        > {"op": "ping", "data": {"payload": "é \"\\\u0007 \ud83d\ude00"}}
        < {"op": "pong", "code": 0, "data": {"payload": "é \"\\\u0007 😀"}}
        > {"op": "nonsense"}
        < close 4004
        "#;
    bus.talk(talk);
}

#[test]
fn control_frames_are_answered_as_websocket_has_it() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}"));
    bus.send("", OpCode::Control(Control::Ping), b"hi");
    assert_eq!(bus.heard(""), ["pong [104, 105]"]);
    bus.send("", OpCode::Control(Control::Close), b"\x0f\xa0bye");
    assert_eq!(bus.heard(""), ["close 4000 bye", "end"]);
}

#[test]
fn a_session_ends_when_its_pings_stay_unanswered() {
    talk(
        "wait 49\nwait 1\n< ping []\npong\nwait 50\n< ping []\nwait 50\n< ping []\nwait 49\nwait 1\n\
         < close 1011 keepalive ping timeout\n",
    );
}

#[test]
fn framing_errors_and_long_messages_have_codes_of_their_own() {
    let frame = |payload: &[u8], first: u8| {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..=125 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0xff);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        frame
    };
    let longest = format!(r#"{{"op":"start","x":"{}"}}"#, "x".repeat(1024 * 1024 - 21));
    assert_eq!(longest.len(), 1024 * 1024);
    for (mut bytes, expected) in [
        (frame(longest.as_bytes(), 0x81), r#"{"op": "start", "code": 0, "msg": "", "data": null}"#),
        (frame((longest + " ").as_bytes(), 0x81), "close 1009 the message is too long"),
        (frame(b"\"\xff\"", 0x81), "close 1007 text that is not UTF-8"),
        (frame(b"{}", 0xc1), "close 1002 protocol error"),
        (frame(b"{}", 0x83), "close 1002 protocol error"),
    ] {
        let mut bus = Bus::with(TOKENS);
        bus.talk(&format!("< {INIT}"));
        bus.send_bytes("", &mut bytes);
        assert_eq!(bus.next("").as_deref(), Some(expected));
    }
}

#[test]
fn a_message_may_come_in_fragments() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}"));
    bus.send_bytes("", &mut [&b"\x01\x85\0\0\0\0{\"op\"\x80\x89\0\0\0\0:\"start\"}"[..]].concat());
    assert_eq!(bus.heard(""), [r#"{"op": "start", "code": 0, "msg": "", "data": null}"#]);
}

#[test]
fn subscriptions_are_bounded_and_duplicates_do_not_count() {
    let wazo = wazo::WazoSettings {
        verifier: Some(verifier(TOKENS)),
        subscriptions_max: 3,
        ..Default::default()
    };
    let mut bus = Bus::of(Settings { wazo, ..Settings::default() });
    bus.talk(&format!("< {INIT}"));
    let subscribe =
        |name: &str| format!(r#"{{"op":"subscribe","data":{{"event_name":"{name}"}}}}"#);
    let done = [r#"{"op": "subscribe", "code": 0, "msg": "", "data": null}"#];
    for name in ["a", "b", "*", "a", "*", "b"] {
        assert_eq!(bus.answers(&subscribe(name)), done, "{name}");
    }
    assert_eq!(bus.answers(&subscribe("c")), ["close 4004"]);
    for (names, expected) in [(63, &done[0]), (64, &"close 4004")] {
        let mut bus = Bus::with(TOKENS);
        bus.talk(&format!("< {INIT}"));
        for n in 0..names {
            assert_eq!(bus.answers(&subscribe(&format!("{n:01024}"))), done);
        }
        assert_eq!(bus.answers(&subscribe(&"x".repeat(1024))), [*expected]);
    }
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}"));
    assert_eq!(bus.answers(&subscribe(&"x".repeat(1025))), ["close 4004"]);
}

#[test]
fn what_a_session_held_is_given_back() {
    let mut bus = Bus::with(TOKENS);
    for name in ["a", "b", "c"] {
        bus.connect(name, "/?token=ann", HOST);
        for event in ["x", "*", "", "auth_session_deleted"] {
            bus.say(name, &format!(r#"{{"op":"subscribe","data":{{"event_name":"{event}"}}}}"#));
        }
        bus.say(name, r#"{"op":"token","data":{"token":"bob"}}"#);
    }
    bus.wait(1);
    assert_eq!(bus.metrics.subscriptions.get(), 15);
    for name in ["a", "b", "c"] {
        bus.shard.lost(bus.clients[name].id, bus.now);
    }
    bus.wait(1);
    assert_eq!(bus.metrics.subscriptions.get(), 0);
}
