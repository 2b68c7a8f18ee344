//! A session from the handshake to the end: endpoints, grace, expiry, heartbeat, pings, limits.

use super::*;
use fanfare::dialect::personium;

const READY: &str = r#"
    > {"AccessToken":"reader"}
    < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
"#;

/// A session whose token has just run out, 20 seconds before its next ping.
const EXPIRED: &str = r#"
    > {"AccessToken":"eighty seconds"}
    < {"Response":"AccessToken","ExpiresIn":80,"Timestamp":$MS,"Result":"Success"}
    wait 50
    < ping [1, 2, 3]
    pong
    wait 30
"#;

/// Whether a client of this path and host gets what is fed for an address; `None` when nobody has the path.
fn follows(path: &str, host: &str, address: &str) -> Option<bool> {
    let mut topic = Bus::open();
    topic.connect("", path, host);
    if topic.next("")? != "101" {
        return None;
    }
    topic.answers(r#"{"AccessToken":""}"#);
    topic.feed(&format!(r#"{address} {{"From":"https://c/","Body":null}}"#));
    Some(!topic.heard("").is_empty())
}

// Decision 1.
#[test]
fn the_cell_is_named_by_the_path_or_else_by_the_host() {
    let address = "topic/cell1/box1/col.topic.name";
    for (path, host, expected) in [
        ("/cell1/__topic/box1/col.topic.name", "unit.example", Some(true)),
        ("/cell1/__topic/box1/col.topic.name?x=/y", "unit.example", Some(true)),
        ("/cell1/__topic/box1/col.topic.name", "cell2.unit.example", Some(true)),
        ("/cell1/__topic/box1/col.topic.name", "", Some(true)),
        ("/__topic/box1/col.topic.name", "cell1.unit.example", Some(true)),
        ("/__topic/box1/col.topic.name", "cell1.unit.example:8080", Some(true)),
        ("/__topic/box1/col.topic.name", "cell2.unit.example", Some(false)),
        ("/cell2/__topic/box1/col.topic.name", "cell1.unit.example", Some(false)),
        ("/cell1/__topic/box1/%63ol%2Etopic%2ename", "unit.example", Some(true)),
        ("/cell%31/__topic/b%6Fx1/col.topic.name", "unit.example", Some(true)),
        ("/cell1/__topic/box1/col%252Etopic.name", "unit.example", Some(false)),
        ("/cell1/__topic/box1/col.topic.name%", "unit.example", Some(false)),
        ("/cell1/__topic/box1/col.queue.name", "unit.example", Some(false)),
        ("/cell1/__topic/box1/short", "unit.example", Some(false)),
        ("/__topic/box1/col.topic.name", "localhost:8080", None),
        ("/__topic/box1/col.topic.name", "127.0.0.1:8080", None),
        ("/__topic/box1/col.topic.name", "", None),
        ("/cell1/__topic/box1", "unit.example", None),
        ("/cell1/__topic/box1/", "unit.example", None),
        ("/cell1/__topic/box1/col.topic.name/", "unit.example", None),
        ("/cell1/__topic/box1/col/topic/name", "unit.example", None),
        ("/cell1/__topic//col.topic.name", "unit.example", None),
        ("//__topic/box1/col.topic.name", "cell1.unit.example", None),
        ("/a/cell1/__topic/box1/col.topic.name", "unit.example", None),
        ("/cell1/__topics/box1/col.topic.name", "unit.example", None),
        ("/__topic/box1", "cell1.unit.example", None),
        ("/__topic", "cell1.unit.example", None),
        ("/cell1/__topic/box1%2Fcol.topic.name", "unit.example", None),
        ("/cell1/__topic/box1/a%2Fcol.topic.name", "unit.example", None),
        ("/cell1/__topic/box1/a%20col.topic.name", "unit.example", None),
        ("/cell1/__topic/box1/col.topic.name%00", "unit.example", None),
        ("/cell1/__topic/box1/col.topic.%FF", "unit.example", None),
        ("/cell1/%5F_topic/box1/col.topic.name", "unit.example", None),
        ("/cell1", "cell1.unit.example", None),
        ("", "cell1.unit.example", None),
    ] {
        assert_eq!(follows(path, host, address), expected, "{path} at {host}");
    }
}

#[test]
fn what_is_not_ascii_is_written_in_a_url_as_browsers_do() {
    for path in
        ["/cell1/__topic/b%C3%B6x/%E5%86%85.topic.%F0%9F%98%80", "/cell1/__topic/böx/内.topic.😀"]
    {
        assert_eq!(follows(path, "", "topic/cell1/böx/内.topic.😀"), Some(true), "{path}");
    }
}

#[test]
fn every_topic_that_can_be_followed_can_be_fed() {
    let (cell, inbox) = ("c".repeat(128), "b".repeat(128));
    let path = format!("{}.topic.name", "é".repeat((1024 - 6 - 2 - 256 - 12) / 2));
    let place = |more: &str| format!("{cell}/__topic/{inbox}/{more}{path}");
    let address = |more: &str| format!("topic/{cell}/{inbox}/{more}{path}");
    assert_eq!(follows(&format!("/{}", place("12")), "", &address("12")), None);
    assert_eq!(follows(&format!("/{}", place("")), "", &address("")), Some(true));
    let encoded = place("").replace('é', "%C3%A9");
    assert_eq!(follows(&format!("/{encoded}"), "", &address("")), Some(true));
    assert_eq!(
        follows(&format!("/c{}", place("")), "", &address("")),
        None,
        "the cell is too long"
    );
}

#[test]
fn a_connection_without_a_token_ends_when_its_grace_is_over() {
    talk("wait 50\n< ping [1, 2, 3]\nwait 9\nwait 1\n< close 1000\n");
    talk(
        "wait 50\n< ping [1, 2, 3]\nwait 9\n> {\"AccessToken\":\"two hours\"}\n< {\"Response\":\"AccessToken\",\"ExpiresIn\":7141,\"Timestamp\":$MS,\"Result\":\"Success\"}\nwait 40\nwait 1\n< ping [1, 2, 3]\n",
    );
}

#[test]
fn the_grace_is_over_in_time_for_what_came_between_two_ticks() {
    for late_ms in [0, 1, 125, 249] {
        let mut topic = Bus::with(TOKENS);
        topic.now.monotonic_ns += late_ms * 1_000_000;
        topic.talk("");
        // From here on the shard is visited the moment that a tick begins.
        topic.now.monotonic_ns -= late_ms * 1_000_000;
        topic.talk("wait 50\n< ping [1, 2, 3]\nwait 9\nwait 1\n< close 1000\n");
    }
}

#[test]
fn a_first_token_that_comes_after_the_grace_finds_the_session_expired() {
    let settings = |token_timeout_s, ping_interval_s| personium::PersoniumSettings {
        anonymous: true,
        token_timeout_s,
        ping_interval_s,
        ..Default::default()
    };
    Bus::new(settings(10, 60)).talk(
        r#"
        wait 10
        > {"AccessToken":"reader"}
        < {"Response":"Unknown","Timestamp":$MS,"Reason":"Session expired","Result":"Error"}
        < close 1000
        "#,
    );
    Bus::new(settings(10, 60)).talk("wait 59\nwait 1\n< close 1000\n");
    Bus::new(settings(60, u32::MAX)).talk("wait 59\nwait 1\n< close 1000\n");
    Bus::new(settings(50, 20)).talk(
        "wait 20\n< ping [1, 2, 3]\nwait 20\n< ping [1, 2, 3]\nwait 9\nwait 1\n< close 1000\n",
    );
}

#[test]
fn a_session_lasts_as_long_as_its_token_and_the_next_one_sets_it_anew() {
    talk(
        r#"
        > {"AccessToken":"hundred seconds"}
        < {"Response":"AccessToken","ExpiresIn":100,"Timestamp":$MS,"Result":"Success"}
        wait 40
        > {"AccessToken":"hundred seconds"}
        < {"Response":"AccessToken","ExpiresIn":60,"Timestamp":$MS,"Result":"Success"}
        > {"AccessToken":"two hours"}
        < {"Response":"AccessToken","ExpiresIn":7160,"Timestamp":$MS,"Result":"Success"}
        wait 10
        < ping [1, 2, 3]
        wait 50
        < ping [1, 2, 3]
        feed topic/cell1/box1/stream-collection1.topic.name {"From":"https://c/","Body":{}}
        < {"From":"https://c/","Body":{}}
        > {"AccessToken":"for ever"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        "#,
    );
}

#[test]
fn the_seconds_that_are_told_are_whole_ones() {
    let mut topic = Bus::with(TOKENS);
    topic.now.unix_ms += 400;
    topic.talk(
        r#"
        > {"AccessToken":"hundred seconds"}
        < {"Response":"AccessToken","ExpiresIn":99,"Timestamp":1518612600400,"Result":"Success"}
        "#,
    );
}

#[test]
fn an_expired_session_is_closed_by_the_next_datum_and_does_not_get_it() {
    talk(&format!(
        "{EXPIRED}
        feed topic/cell1/box1/other.topic.name {{\"From\":\"https://c/\",\"Body\":{{}}}}
        feed topic/cell1/box1/stream-collection1.topic.name {{\"From\":\"https://c/\",\"Body\":{{}}}}
        < close 1000
        feed topic/cell1/box1/stream-collection1.topic.name {{\"From\":\"https://c/\",\"Body\":{{}}}}
        "
    ));
}

#[test]
fn an_expired_session_is_told_so_whatever_it_says() {
    for message in
        [r#"{"AccessToken":"two hours"}"#, r#"{"AccessToken":"nobody"}"#, "null", "{}", "hello"]
    {
        talk(&format!(
            "{EXPIRED}
            > {message}
            < {{\"Response\":\"Unknown\",\"Timestamp\":$MS,\"Reason\":\"Session expired\",\"Result\":\"Error\"}}
            < close 1000
            "
        ));
    }
}

#[test]
fn an_expired_session_ends_with_the_next_heartbeat() {
    talk(&format!("{EXPIRED}\nwait 19\nwait 1\n< close 1000\n"));
    // However seldom the pings are.
    Bus::new(personium::PersoniumSettings {
        anonymous: true,
        session_s_max: 100,
        ping_interval_s: u32::MAX,
        ..Default::default()
    })
    .talk(
        r#"
        > {"AccessToken":""}
        < {"Response":"AccessToken","ExpiresIn":100,"Timestamp":$MS,"Result":"Success"}
        wait 119
        wait 1
        < close 1000
        "#,
    );
}

// Decision 6.
#[test]
fn pings_come_from_the_moment_of_opening() {
    let ready = READY.replace("reader", "for ever");
    talk(&format!(
        "wait 40\n{ready}\nwait 9\nwait 1\n< ping [1, 2, 3]\nwait 49\nwait 1\n< ping [1, 2, 3]\n"
    ));
}

#[test]
fn ten_pings_without_a_pong_end_the_session() {
    let silence = "wait 50\n< ping [1, 2, 3]\n";
    talk(&format!("{READY}\n{}\nwait 49\nwait 1\n< close 1000\n", silence.repeat(10)));
    talk(&format!("{READY}\n{}\npong\n{}", silence.repeat(10), silence.repeat(10)));
}

#[test]
fn a_text_of_64_kib_is_read_and_one_byte_more_closes_1009() {
    let mut topic = Bus::with(TOKENS);
    let token = r#"{"AccessToken":"reader"}"#;
    let text = token.to_owned() + &" ".repeat(65_536 - token.len());
    topic.talk("");
    assert_eq!(topic.answers(&text).len(), 1);
    assert_eq!(topic.answers(&(text + " ")), ["close 1009 the message is too long", "end"]);
}

#[test]
fn a_ping_and_a_close_of_the_client_are_answered() {
    let mut topic = Bus::with(TOKENS);
    topic.talk(READY);
    topic.send("", OpCode::Control(Control::Ping), b"\x07\x08");
    assert_eq!(topic.heard(""), ["pong [7, 8]"]);
    topic.send("", OpCode::Control(Control::Close), &[0x03, 0xE9]);
    assert_eq!(topic.heard(""), ["close 1001", "end"]);
}

#[test]
fn a_session_leaves_nothing_behind_whatever_state_it_ends_in() {
    let refused = "> {}\n< {\"Response\":\"Unknown\",\"Timestamp\":$MS,\"Reason\":\"Invalid message\",\"Result\":\"Error\"}\n< close 1000\n";
    for state in
        ["", refused, READY, &format!("{READY}{READY}"), &format!("{READY}{refused}"), EXPIRED]
    {
        let mut topic = Bus::with(TOKENS);
        topic.talk(state);
        topic.shard.lost(topic.clients[""].id, topic.now);
        topic.shard.tick(topic.now);
        assert!(topic.shard.is_empty());
        assert_eq!(topic.metrics.subscriptions.get(), 0, "{state}");
        assert!(topic.metrics.sessions.iter().all(|sessions| sessions.get() == 0));
    }
}
