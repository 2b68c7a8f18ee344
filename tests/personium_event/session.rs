//! A session from the handshake to the end: endpoints, spellings, commands, expiry, pings, limits.

use super::*;

/// The cell that a client of this path and host comes to; `None` when nobody has the path.
fn cell(path: &str, host: &str) -> Option<String> {
    let mut bus = Bus::open();
    bus.connect("", path, host);
    if bus.next("")? != "101" {
        return None;
    }
    bus.answers(r#"{"access_token":""}"#);
    let state = bus.answers(r#"{"state":"all"}"#).pop().unwrap();
    let (_, rest) = state.split_once(r#""cell":""#).unwrap();
    Some(rest.split_once('"').unwrap().0.to_owned())
}

// Decision 1.
#[test]
fn the_cell_is_named_by_the_path_or_else_by_the_host() {
    for (path, host, expected) in [
        ("/cell1/__event", "unit.example", Some("cell1")),
        ("/cell1/__event/", "unit.example", Some("cell1")),
        ("/c%65ll1/__event", "unit.example", Some("cell1")),
        ("/z%C3%A9ro/__event", "unit.example", Some("zéro")),
        ("/cell1%2Fother/__event", "unit.example", None),
        ("/cell%00/__event", "unit.example", None),
        ("/%FF/__event", "unit.example", None),
        ("/cell1/__event?x=/other/__event", "unit.example", Some("cell1")),
        ("/cell1/__event", "cell2.unit.example", Some("cell1")),
        ("/cell1/__event", "", Some("cell1")),
        ("/__event", "cell2.unit.example", Some("cell2")),
        ("/__event/", "cell2.unit.example:8080", Some("cell2")),
        ("/__event", "localhost", None),
        ("/__event", "localhost:8080", None),
        ("/__event", "127.0.0.1:8080", None),
        ("/__event", "[::1]:8080", None),
        ("/__event", ".example", None),
        ("/__event", "", None),
        ("//__event", "cell2.unit.example", None),
        ("/a/b/__event", "cell2.unit.example", None),
        ("/cell1", "cell2.unit.example", None),
        ("/cell1/__events", "cell2.unit.example", None),
        ("/cell1/__event//", "cell2.unit.example", None),
        ("/", "cell2.unit.example", None),
        ("", "cell2.unit.example", None),
    ] {
        assert_eq!(cell(path, host).as_deref(), expected, "{path} at {host}");
    }
    let longest = "c".repeat(128);
    assert_eq!(cell(&format!("/{longest}/__event"), ""), Some(longest.clone()));
    assert_eq!(cell(&format!("/{longest}c/__event"), ""), None);
}

// Decision 2.
#[test]
fn a_session_keeps_the_spelling_of_its_token() {
    talk(
        r#"
        > {"Subscribe":{"Type":"a","Object":"b"}}
        < {"Response":"AccessToken","Timestamp":$MS,"Reason":"Unauthorized","Result":"Error"}
        > {"something":"else"}
        < {"reason":"unauthorized","response":"error","timestamp":$S}
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"Subscribe":{"Type":"a","Object":"b"}}
        < {"reason":"format error","response":"error","timestamp":$S}
        > {"State":"All"}
        < {"reason":"format error","response":"error","timestamp":$S}
        > {"AccessToken":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"state":"subscriptions"}
        < {"subscriptions":[],"response":"success","timestamp":$S}
        "#,
    );
    talk(
        r#"
        > {"subscribe":{"Type":"a","Object":"b"}}
        < {"reason":"unauthorized","response":"error","timestamp":$S}
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"subscribe":{"Type":"a","Object":"b"}}
        < {"Response":null,"Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"access_token":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        "#,
    );
}

// Decision 3.
#[test]
fn before_the_token_commands_are_unauthorized_and_noise_is_ignored() {
    let mut bus = Bus::with(TOKENS);
    bus.talk("");
    for noise in [
        "",
        " ",
        "hello",
        "null",
        "1",
        "\"x\"",
        "[]",
        r#"["access_token"]"#,
        "{",
        r#"{"access_token":"reader""#,
        r#"{"access_token":"reader"}x"#,
        r#"{"access_token":1}"#,
        r#"{"AccessToken":{}}"#,
        r#"{"access_token":["reader"]}"#,
    ] {
        assert!(bus.answers(noise).is_empty(), "{noise}");
    }
    for command in [
        "{}",
        r#"{"access_token":null}"#,
        r#"{"state":"all"}"#,
        r#"{"unsubscribe":{"Type":"","Object":""}}"#,
        r#"{"subscribe":1}"#,
        r#"{"what":true}"#,
    ] {
        let unauthorized =
            format!(r#"{{"reason":"unauthorized","response":"error","timestamp":{NOW_S}}}"#);
        assert_eq!(bus.answers(command), [unauthorized], "{command}");
    }
    bus.send("", OpCode::Data(Data::Binary), br#"{"access_token":"reader"}"#);
    assert!(bus.heard("").is_empty());
    bus.talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
}

#[test]
fn a_connection_without_a_token_is_closed_after_a_minute() {
    talk(
        "
        wait 30
        > {}
        < {\"reason\":\"unauthorized\",\"response\":\"error\",\"timestamp\":$S}
        wait 20
        < ping [1, 2, 3]
        wait 9
        wait 1
        < close 1000
        ",
    );
}

// Decision 4.
#[test]
fn after_the_token_whatever_is_no_command_is_a_format_error() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
    for wrong in [
        "",
        "hello",
        "null",
        "[]",
        "{",
        "{}",
        r#"{"what":1}"#,
        r#"{"subscribe":"x"}"#,
        r#"{"subscribe":[]}"#,
        r#"{"subscribe":{}}"#,
        r#"{"subscribe":{"Type":"a"}}"#,
        r#"{"subscribe":{"Object":"a"}}"#,
        r#"{"subscribe":{"Type":"a","Object":null}}"#,
        r#"{"subscribe":{"Type":1,"Object":"a"}}"#,
        r#"{"subscribe":{"type":"a","object":"b"}}"#,
        r#"{"subscribe":null}"#,
        r#"{"unsubscribe":true}"#,
        r#"{"state":{}}"#,
        r#"{"access_token":7}"#,
        r#"{"STATE":"all"}"#,
    ] {
        let format_error =
            format!(r#"{{"reason":"format error","response":"error","timestamp":{NOW_S}}}"#);
        assert_eq!(bus.answers(wrong), [format_error], "{wrong}");
    }
    bus.send("", OpCode::Data(Data::Binary), b"{}");
    assert!(bus.heard("").is_empty(), "binary messages are ignored");
    bus.talk(
        r#"
        > {"state":"subscriptions"}
        < {"subscriptions":[],"response":"success","timestamp":$S}
        "#,
    );
}

#[test]
fn of_several_commands_in_one_message_the_first_of_the_order_counts() {
    talk(
        r#"
        > {"state":"all","unsubscribe":{"Type":"a","Object":"b"},"subscribe":{"Type":"a","Object":"b"},"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"state":"subscriptions","unsubscribe":{"Type":"a","Object":"b"},"subscribe":{"Type":"a","Object":"b"},"access_token":null}
        < {"response":"success","timestamp":$S}
        > {"state":"subscriptions","unsubscribe":{"Type":"x","Object":"y"},"subscribe":null}
        < {"reason":"subscriptions not found","response":"error","timestamp":$S}
        > {"Type":"t","Object":"o","Info":"i","state":"subscriptions","unsubscribe":null,"more":[]}
        < {"subscriptions":[{"type":"a","object":"b"}],"response":"success","timestamp":$S}
        "#,
    );
}

// Decision 6.
#[test]
fn a_session_lasts_an_hour_or_the_rest_of_its_token() {
    talk(
        r#"
        > {"access_token":"hundred seconds"}
        < {"response":"success","expires_in":100,"timestamp":$S}
        wait 40
        > {"access_token":"hundred seconds"}
        < {"response":"success","expires_in":60,"timestamp":$S}
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
}

/// A session with one rule whose token has just run out.
const EXPIRED: &str = r#"
    > {"access_token":"hundred seconds"}
    < {"response":"success","expires_in":100,"timestamp":$S}
    > {"subscribe":{"Type":"chat","Object":"*"}}
    < {"response":"success","timestamp":$S}
    wait 50
    < ping [1, 2, 3]
    pong
    wait 49
    feed event/john.doe {"Type":"chat","Object":"1"}
    < {"Type":"chat","Object":"1"}
    wait 1
    < ping [1, 2, 3]
    pong
"#;

#[test]
fn an_expired_session_is_closed_by_the_first_event_of_its_cell_and_does_not_get_it() {
    for event in [
        r#"{"Type":"chat","Object":"2"}"#,
        r#"{"Type":"other","Object":"2"}"#,
        r#"{"Type":null,"Object":"2"}"#,
        "{}",
    ] {
        talk(&format!(
            "{EXPIRED}
            feed event/jane.doe {{\"Type\":\"chat\",\"Object\":\"2\"}}
            feed event/john.doe2 {{\"Type\":\"chat\",\"Object\":\"2\"}}
            feed event/john.doe {event}
            < close 1000
            feed event/john.doe {event}
            "
        ));
    }
}

#[test]
fn an_expired_session_is_closed_by_its_first_command() {
    for command in [
        r#"{"state":"all"}"#,
        r#"{"subscribe":{"Type":"a","Object":"b"}}"#,
        "{}",
        "hello",
        r#"{"access_token":1}"#,
    ] {
        talk(&format!("{EXPIRED}\n> {command}\n< close 1000\n"));
    }
}

#[test]
fn an_expired_session_lives_again_with_a_good_token_and_keeps_its_rules() {
    talk(&format!(
        r#"{EXPIRED}
        wait 50
        < ping [1, 2, 3]
        wait 9
        > {{"access_token":"reader"}}
        < {{"response":"success","expires_in":3600,"timestamp":$S}}
        feed event/john.doe {{"Type":"other","Object":"2"}}
        feed event/john.doe {{"Type":"chat","Object":"2"}}
        < {{"Type":"chat","Object":"2"}}
        > {{"state":"subscriptions"}}
        < {{"subscriptions":[{{"type":"chat","object":"*"}}],"response":"success","timestamp":$S}}
        wait 49
        wait 1
        < ping [1, 2, 3]
        "#
    ));
}

#[test]
fn an_expired_session_is_closed_by_a_bad_token() {
    talk(&format!("{EXPIRED}\n> {{\"access_token\":\"stranger\"}}\n< close 1000\n"));
    talk(&format!("{EXPIRED}\n> {{\"access_token\":\"hundred seconds\"}}\n< close 1000\n"));
}

#[test]
fn an_expired_session_that_is_not_revived_is_closed_after_a_minute() {
    talk(&format!("{EXPIRED}\nwait 50\n< ping [1, 2, 3]\nwait 9\nwait 1\n< close 1000\n"));
}

// Decision 7.
#[test]
fn ten_pings_without_a_pong_end_the_session() {
    let silence = "wait 50\n< ping [1, 2, 3]\n".repeat(10);
    talk(&format!(
        r#"
        wait 40
        > {{"access_token":"reader"}}
        < {{"response":"success","expires_in":3600,"timestamp":$S}}
        wait 49
        {}
        wait 49
        wait 1
        < close 1000
        "#,
        silence.replacen("wait 50", "wait 1", 1)
    ));
}

#[test]
fn a_pong_makes_good_for_every_ping_before_it() {
    let nine = "wait 50\n< ping [1, 2, 3]\n".repeat(9);
    talk(&format!(
        r#"
        > {{"access_token":"reader"}}
        < {{"response":"success","expires_in":3600,"timestamp":$S}}
        {nine} pong
        pong
        {nine} pong
        {nine} pong
        {nine} wait 50
        < ping [1, 2, 3]
        pong
        "#
    ));
}

#[test]
fn a_ping_of_the_client_is_answered_with_its_payload() {
    let mut bus = Bus::with(TOKENS);
    bus.talk("");
    bus.send("", OpCode::Control(Control::Ping), b"\x07\x08");
    assert_eq!(bus.heard(""), ["pong [7, 8]"]);
}

// Decision 9.
#[test]
fn a_text_of_64_kib_is_read_and_one_byte_more_closes_1009() {
    let mut bus = Bus::with(TOKENS);
    let token = r#"{"access_token":"reader"}"#;
    let text = token.to_owned() + &" ".repeat(65_536 - token.len());
    bus.talk("");
    assert_eq!(bus.answers(&text).len(), 1);
    assert_eq!(bus.answers(&(text + " ")), ["close 1009 the message is too long", "end"]);
}

#[test]
fn bad_text_closes_1007_and_bad_framing_1002() {
    let mut bus = Bus::with(TOKENS);
    bus.talk("");
    bus.send("", OpCode::Data(Data::Text), b"\xff");
    assert_eq!(bus.heard(""), ["close 1007 text that is not UTF-8", "end"]);
    let mut bus = Bus::with(TOKENS);
    bus.talk("");
    bus.send_bytes("", &mut [0x81, 0x00]);
    assert_eq!(bus.heard(""), ["close 1002 protocol error", "end"]);
}

#[test]
fn a_close_is_answered_in_kind_and_the_peer_may_answer_ours() {
    for payload in [&b""[..], &[0x03, 0xE9], b"\x0f\xa0bye"] {
        let mut bus = Bus::with(TOKENS);
        bus.talk("");
        bus.send("", OpCode::Control(Control::Close), payload);
        let expected = match payload {
            [] => "close",
            [3, ..] => "close 1001",
            _ => "close 4000 bye",
        };
        assert_eq!(bus.heard(""), [expected, "end"]);
    }
    let mut bus = Bus::with(TOKENS);
    bus.talk("> {\"access_token\":\"bad\"}\n< close 1000\n");
    bus.send("", OpCode::Control(Control::Close), &[0x03, 0xE8]);
    assert_eq!(bus.heard(""), ["end"]);
    let mut bus = Bus::with(TOKENS);
    bus.talk("> {\"access_token\":\"bad\"}\n< close 1000\nwait 5\n< gone\n");
}

// Decision 11.
#[test]
fn rules_stack_and_each_is_taken_away_by_itself() {
    talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"subscribe":{"Type":"chat","Object":"*"}}
        < {"response":"success","timestamp":$S}
        > {"subscribe":{"Type":"chat","Object":""}}
        < {"response":"success","timestamp":$S}
        > {"subscribe":{"Type":"chat","Object":"*"}}
        < {"response":"success","timestamp":$S}
        > {"state":"subscriptions"}
        < {"subscriptions":[{"type":"chat","object":"*"},{"type":"chat","object":""},{"type":"chat","object":"*"}],"response":"success","timestamp":$S}
        feed event/john.doe {"Type":"chat","Object":"1"}
        < {"Type":"chat","Object":"1"}
        > {"unsubscribe":{"Type":"chat","Object":"*"}}
        < {"response":"success","timestamp":$S}
        > {"state":"subscriptions"}
        < {"subscriptions":[{"type":"chat","object":""},{"type":"chat","object":"*"}],"response":"success","timestamp":$S}
        > {"unsubscribe":{"Type":"chat","Object":"*"}}
        < {"response":"success","timestamp":$S}
        feed event/john.doe {"Type":"chat","Object":"2"}
        < {"Type":"chat","Object":"2"}
        > {"unsubscribe":{"Type":"chat","Object":"*"}}
        < {"reason":"subscriptions not found","response":"error","timestamp":$S}
        > {"unsubscribe":{"Type":"chat","Object":""}}
        < {"response":"success","timestamp":$S}
        feed event/john.doe {"Type":"chat","Object":"3"}
        > {"state":"subscriptions"}
        < {"subscriptions":[],"response":"success","timestamp":$S}
        "#,
    );
}

#[test]
fn a_session_has_at_most_a_thousand_rules() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        "#,
    );
    for rule in 0..1000 {
        let answer = bus.answers(&format!(r#"{{"Subscribe":{{"Type":"t{rule}","Object":"o"}}}}"#));
        assert!(answer[0].contains("Success"), "{rule}: {answer:?}");
    }
    bus.talk(
        r#"
        > {"Subscribe":{"Type":"t","Object":"o"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"Unsubscribe":{"Type":"t0","Object":"o"}}
        < {"Response":"Unsubscribe","Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"t","Object":"o"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        "#,
    );
}

#[test]
fn a_rule_longer_than_any_name_is_a_format_error() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
    for (kind, object) in [(3966, 1), (1, 3966), (30_000, 30_000)] {
        let rule = format!(
            r#"{{"subscribe":{{"Type":"{}","Object":"{}"}}}}"#,
            "t".repeat(kind),
            "o".repeat(object)
        );
        let answer = bus.answers(&rule);
        assert!(answer[0].contains("format error"), "{kind}, {object}: {answer:?}");
    }
    let longest = "é".repeat(1982);
    let answer =
        bus.answers(&format!(r#"{{"subscribe":{{"Type":"{longest}","Object":"{longest}"}}}}"#));
    assert!(answer[0].contains("success"), "{answer:?}");
    bus.feed(&format!(r#"event/john.doe {{"Type":"{longest}!","Object":"{longest}!"}}"#));
    assert_eq!(bus.heard("").len(), 1);
}

#[test]
fn the_rules_of_a_session_take_at_most_256_kib() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
    let rule = |number: usize, length: usize| {
        format!(r#"{{"subscribe":{{"Type":"{number:08}","Object":"{:>length$}"}}}}"#, number)
    };
    for number in 0..128 {
        assert!(bus.answers(&rule(number, 2040))[0].contains("success"), "{number}");
    }
    assert!(bus.answers(&rule(128, 1))[0].contains("format error"));
    assert!(bus.answers(&rule(0, 2040).replace("sub", "unsub"))[0].contains("success"));
    assert!(bus.answers(&rule(128, 2041))[0].contains("format error"));
    assert!(bus.answers(&rule(128, 2040))[0].contains("success"));
}

#[test]
fn a_session_leaves_nothing_behind_whatever_state_it_ends_in() {
    for state in ["", "> {\"access_token\":\"bad\"}\n< close 1000\n", EXPIRED] {
        let mut bus = Bus::with(TOKENS);
        bus.talk(state);
        bus.shard.lost(bus.clients[""].id, bus.now);
        bus.shard.tick(bus.now);
        assert!(bus.shard.is_empty());
        assert_eq!(bus.metrics.subscriptions.get(), 0);
        assert_eq!(bus.metrics.connections.get(), 0);
        assert_eq!(bus.metrics.sessions[0].get(), 0);
    }
}
