//! From the first word to the end: what is a message, silence, slowness, the stop.

use crate::conversation::Bus;
use crate::{HOST, PATH, app_settings, bus, come, settings};
use fanfare::dialect::echo::{App, AppSettings, DrainCode};
use fanfare::dialect::{DialectTally, Kind};
use fanfare::http::{self, DaemonStatus, Exposition, Facts};
use fanfare::message::Received;
use fanfare::setting::Secret;
use fanfare::shard::Limits;
use std::sync::Arc;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const PING: &str = r#"{"event":"pusher:ping","data":"{}"}"#;
const PONG: &str = r#"{"event":"pusher:pong","data":"{}"}"#;
const MALFORMED: &str =
    r#"{"event":"pusher:error","data":{"code":4300,"message":"Invalid message format"}}"#;

#[test]
fn pings_are_answered_whatever_their_data() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    for data in ["", r#","data":{}"#, r#","data":"{}""#, r#","data":null"#, r#","data":7"#] {
        bus.say("a", &format!(r#"{{"event":"pusher:ping"{data}}}"#));
        assert_eq!(bus.heard("a"), [PONG], "{data}");
    }
    bus.send("a", OpCode::Data(Data::Binary), br#"{"event":"pusher:ping"}"#);
    assert_eq!(bus.heard("a"), [PONG], "a binary message is read as text");
    bus.send("a", OpCode::Control(Control::Ping), b"x");
    assert_eq!(bus.heard("a"), ["pong [120]"]);
}

#[test]
fn what_is_no_message_is_told_and_does_no_harm() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    let deep = format!(r#"{{"event":"pusher:subscribe","data":{}}}"#, "[".repeat(5000));
    let bad = [
        "",
        " ",
        "{}",
        "null",
        "[]",
        "7",
        "\"\"",
        r#"{"event":null}"#,
        r#"{"event":{}}"#,
        "{",
        &deep,
    ];
    for text in bad {
        bus.say("a", text);
        assert_eq!(bus.heard("a"), [MALFORMED], "{text}");
    }
    bus.send("a", OpCode::Data(Data::Binary), b"\xff\x00");
    assert_eq!(bus.heard("a"), [MALFORMED]);
    for event in ["subscribe", "unsubscribe", "signin"] {
        for data in [
            "",
            r#","data":null"#,
            r#","data":[]"#,
            r#","data":7"#,
            r#","data":"""#,
            r#","data":"[]""#,
        ] {
            bus.say("a", &format!(r#"{{"event":"pusher:{event}"{data}}}"#));
            assert_eq!(bus.heard("a"), [MALFORMED], "{event} {data}");
        }
    }
    bus.say("a", r#"{"event":"pusher:ping"}"#);
    assert_eq!(bus.heard("a"), [PONG]);
}

#[test]
fn what_is_not_known_is_ignored_and_counted() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    for event in ["pusher:x", "pusher_internal:member_added", "App\\\\Events\\\\X", "", "Client-x"]
    {
        bus.say("a", &format!(r#"{{"event":"{event}","data":{{}},"channel":"room"}}"#));
    }
    bus.say("a", r#"{"event":"pusher:pong","data":{}}"#);
    assert!(bus.heard("a").is_empty());
    assert_eq!(bus.metrics.tallies[Kind::Echo as usize][DialectTally::Ignored as usize].get(), 5);
}

#[test]
fn a_silent_client_is_asked_and_then_sent_away() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    bus.wait(29);
    assert!(bus.heard("a").is_empty());
    bus.wait(1);
    assert_eq!(bus.heard("a"), [PING]);
    bus.wait(29);
    assert!(bus.heard("a").is_empty());
    bus.wait(1);
    assert_eq!(bus.heard("a"), ["close 4201 Pong reply not received."]);
}

#[test]
fn any_frame_shows_that_a_client_is_there() {
    let signs: [(OpCode, &[u8], &[&str]); 4] = [
        (OpCode::Data(Data::Text), br#"{"event":"pusher:pong"}"#, &[]),
        (OpCode::Data(Data::Binary), b"", &[MALFORMED]),
        (OpCode::Control(Control::Ping), b"", &["pong []"]),
        (OpCode::Control(Control::Pong), b"", &[]),
    ];
    for (opcode, payload, answer) in signs {
        let mut bus = bus(|app| (app.activity_timeout_s, app.pong_timeout_s) = (60, 10));
        come(&mut bus, "a");
        bus.wait(30);
        bus.send("a", opcode, payload);
        assert_eq!(bus.heard("a"), answer);
        bus.wait(59);
        assert!(bus.heard("a").is_empty(), "{opcode:?} puts the question off");
        bus.wait(1);
        assert_eq!(bus.heard("a"), [PING]);
        bus.wait(9);
        bus.send("a", opcode, payload);
        assert_eq!(bus.heard("a"), answer, "{opcode:?} answers it");
        bus.wait(59);
        assert!(bus.heard("a").is_empty());
        bus.wait(1);
        assert_eq!(bus.heard("a"), [PING]);
    }
}

#[test]
fn a_client_that_answers_is_asked_again_in_time_however_long_it_had_for_the_answer() {
    let mut bus = bus(|app| (app.activity_timeout_s, app.pong_timeout_s) = (20, 300));
    come(&mut bus, "a");
    for _ in 0..3 {
        bus.wait(19);
        assert!(bus.heard("a").is_empty());
        bus.wait(1);
        assert_eq!(bus.heard("a"), [PING]);
        bus.say("a", r#"{"event":"pusher:pong"}"#);
    }
}

#[test]
fn a_client_that_reads_too_slowly_is_told_so() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    let limits = Limits { outbox_bytes_max: 1000, ..Limits::default() };
    bus.shard.configure(Arc::new(settings(app_settings())), limits, bus.now);
    let id = bus.clients["a"].id;
    (0..100)
        .for_each(|_| bus.shard.receive(id, Received::Text(r#"{"event":"pusher:ping"}"#), bus.now));
    bus.flush();
    assert_eq!(bus.heard("a"), ["close 4100 Slow consumer."]);
}

#[test]
fn when_the_daemon_stops_clients_come_back_after_a_while() {
    let mut going = bus(|_| {});
    come(&mut going, "a");
    going.shard.drain(going.now);
    going.flush();
    assert_eq!(going.heard("a"), ["close 1001 the server is stopping"]);
    let mut settings = settings(app_settings());
    settings.echo.drain_code = DrainCode::ComeBack;
    let mut bus = Bus::of(settings);
    come(&mut bus, "a");
    bus.shard.drain(bus.now);
    bus.flush();
    assert_eq!(bus.heard("a"), ["close 4100 Server restarting."]);
}

#[test]
fn each_app_limits_the_messages_of_its_own_clients() {
    let mut settings = settings(AppSettings { message_bytes_max: 100, ..app_settings() });
    let other = AppSettings {
        id: "2".into(),
        key: "2".into(),
        message_bytes_max: 0,
        ..AppSettings::default()
    };
    settings.echo.apps.push(Arc::new(App::new(other, Secret::default())));
    let mut bus = Bus::of(settings);
    bus.connect("small", PATH, HOST);
    bus.connect("large", "/app/2", HOST);
    let message = format!(r#"{{"event":"pusher:ping","data":"{}"}}"#, "x".repeat(300_000));
    for name in ["small", "large"] {
        bus.heard(name);
        bus.say(name, &message);
    }
    assert_eq!(bus.heard("large"), [PONG]);
    assert_eq!(bus.heard("small")[0], "close 1009 the message is too long");
}

#[test]
fn what_is_refused_is_shown_to_the_operator() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    for channel in ["private-x", "private-y", "no channel"] {
        bus.say(
            "a",
            &format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#),
        );
    }
    bus.say("a", r#"{"event":"client-x","channel":"room"}"#);
    bus.say("a", r#"{"event":"no such"}"#);
    let status =
        DaemonStatus { threads: vec![Arc::clone(&bus.metrics)], ..DaemonStatus::default() };
    let page = http::metrics(Exposition::Prometheus, &status, &Facts::default());
    let page = String::from_utf8(page).unwrap();
    for line in [
        r#"fanfare_messages_ignored_total{dialect="echo"} 1"#,
        r#"fanfare_subscription_errors_total{dialect="echo",type="AuthError"} 2"#,
        r#"fanfare_subscription_errors_total{dialect="echo",type="InvalidChannel"} 1"#,
        r#"fanfare_subscription_errors_total{dialect="echo",type="LimitReached"} 0"#,
        r#"fanfare_client_events_refused_total{dialect="echo"} 1"#,
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in {page}");
    }
}
