//! Who may: good and bad tokens, the cell they are for, privileges, and what they narrow.

use super::*;

/// A bus on which the token `t` has these claims, and a session at `path` and `host`.
fn present(claims: &str, path: &str, host: &str) -> (Bus, Vec<String>) {
    let mut bus = Bus::with(&format!("[[token]]\ntoken = 't'\n{claims}\n"));
    bus.connect("", path, host);
    assert_eq!(bus.next("").as_deref(), Some("101"));
    let answer = bus.answers(r#"{"access_token":"t"}"#);
    (bus, answer)
}

fn is_accepted(claims: &str, path: &str, host: &str) -> bool {
    let (_, answer) = present(claims, path, host);
    let success = format!(r#"{{"response":"success","expires_in":3600,"timestamp":{NOW_S}}}"#);
    assert!(answer == [success] || answer == ["close 1000"], "{answer:?}");
    answer != ["close 1000"]
}

// Decision 5.
#[test]
fn a_bad_token_ends_the_connection_without_a_word() {
    for token in ["", "unknown", "stranger", "nobody"] {
        talk(&format!("> {{\"access_token\":\"{token}\"}}\n< close 1000\n"));
        talk(&format!("> {{\"AccessToken\":\"{token}\"}}\n< close 1000\n"));
        talk(&format!(
            r#"
            > {{"access_token":"reader"}}
            < {{"response":"success","expires_in":3600,"timestamp":$S}}
            > {{"subscribe":{{"Type":"*","Object":"*"}}}}
            < {{"response":"success","timestamp":$S}}
            > {{"access_token":"{token}"}}
            < close 1000
            feed event/john.doe {{"Type":"t","Object":"o"}}
            > {{"access_token":"reader"}}
            "#
        ));
    }
}

#[test]
fn a_token_is_for_the_cell_that_its_audience_or_issuer_names() {
    let (path, host) = ("/cell1/__event", "unit.example");
    let (root, own) = ("/__event", "cell1.unit.example");
    for (claims, path, host, accepted) in [
        ("aud = 'cell1'", path, host, true),
        ("iss = 'cell1'", path, host, true),
        ("aud = 'cell1'", root, own, true),
        ("aud = ['other', 'cell1']", path, host, true),
        ("aud = 'other'\niss = 'cell1'", path, host, true),
        ("aud = 'https://unit.example/cell1'", path, host, true),
        ("aud = 'https://unit.example/cell1/'", path, host, true),
        ("aud = 'http://unit.example/cell1/'", path, host, true),
        ("iss = 'https://UNIT.example/cell1/'", path, host, true),
        ("aud = 'https://unit.example:8443/cell1/'", path, "unit.example:8443", true),
        ("aud = 'https://cell1.unit.example/'", root, own, true),
        ("aud = 'https://cell1.unit.example'", root, own, true),
        ("aud = 'https://cell1.unit.example/'", "/cell1/__event", own, true),
        ("", path, host, false),
        ("aud = ''", path, host, false),
        ("aud = 'Cell1'", path, host, false),
        ("aud = 'cell11'", path, host, false),
        ("aud = 7", path, host, false),
        ("aud = ['cell1', 7]", path, host, false),
        ("sub = 'cell1'", path, host, false),
        ("aud = 'https://unit.example/cell2/'", path, host, false),
        ("aud = 'https://unit.example/cell1/box'", path, host, false),
        ("aud = 'https://elsewhere.example/cell1/'", path, host, false),
        ("aud = 'https://unit.example:8443/cell1/'", path, host, false),
        ("aud = 'ftp://unit.example/cell1/'", path, host, false),
        ("aud = 'https://unit.example/'", path, host, false),
        ("aud = 'https://cell2.unit.example/'", root, own, false),
        ("aud = 'https://cell2.unit.example/'", "/cell1/__event", "cell2.unit.example", false),
    ] {
        let claims = format!("{claims}\nscope = 'event-read'");
        assert_eq!(is_accepted(&claims, path, host), accepted, "{claims} at {host}{path}");
    }
}

// Decision 12.
#[test]
fn reading_needs_one_of_three_privileges() {
    for (scope, accepted) in [
        ("'root'", true),
        ("'event'", true),
        ("'event-read'", true),
        ("'message event-read box'", true),
        ("['message', 'event']", true),
        ("''", false),
        ("'event-write'", false),
        ("'eventread'", false),
        ("'Event'", false),
        ("'event,root'", false),
        ("1", false),
    ] {
        assert_eq!(
            is_accepted(&format!("aud = 'c'\nscope = {scope}"), "/c/__event", ""),
            accepted,
            "{scope}"
        );
    }
    assert!(!is_accepted("aud = 'c'", "/c/__event", ""), "no scope");
}

#[test]
fn a_token_may_narrow_the_types_and_objects_that_its_session_receives() {
    let types = "event_types = ['chat', 'box.']";
    let objects = "event_objects = 'https://unit/'";
    for (claims, kind, object, received) in [
        ("", "anything", "anything", true),
        (types, "chat", "x", true),
        (types, "chat.more", "x", true),
        (types, "box.1", "x", true),
        (types, "box", "x", false),
        (types, "Chat", "x", false),
        (objects, "t", "https://unit/a", true),
        (objects, "t", "https://other/", false),
        ("event_types = ['*']\nevent_objects = ['*']", "t", "o", true),
        (
            "event_types = ['chat']\nevent_objects = ['https://unit/']",
            "chat",
            "https://unit/",
            true,
        ),
        (
            "event_types = ['chat']\nevent_objects = ['https://unit/']",
            "chat",
            "https://other/",
            false,
        ),
        (
            "event_types = ['chat']\nevent_objects = ['https://unit/']",
            "box",
            "https://unit/",
            false,
        ),
        ("event_types = []", "t", "o", false),
        ("event_types = [1]", "t", "o", false),
        ("event_objects = 1", "t", "o", false),
    ] {
        let claims = format!("aud = 'c'\nscope = 'event-read'\n{claims}");
        let (mut bus, _) = present(&claims, "/c/__event", "");
        for rule in
            [r#"{"Type":"*","Object":"*"}"#, &format!(r#"{{"Type":"{kind}","Object":"{object}"}}"#)]
        {
            bus.answers(&format!(r#"{{"subscribe":{rule}}}"#));
        }
        bus.feed(&format!(r#"event/c {{"Type":"{kind}","Object":"{object}"}}"#));
        assert_eq!(bus.heard("").len(), usize::from(received), "{claims}: {kind}, {object}");
    }
}

#[test]
fn the_next_token_of_a_session_decides_anew_what_it_may() {
    let mut bus = Bus::with(
        "[[token]]\ntoken = 'narrow'\naud = 'john.doe'\nscope = 'event-read'\nevent_types = ['chat']\n\
         [[token]]\ntoken = 'wide'\naud = 'john.doe'\nscope = 'event'\n",
    );
    bus.talk(
        r#"
        > {"AccessToken":"narrow"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":"*"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        feed event/john.doe {"Type":"box","Object":"o"}
        > {"Type":"chat","Object":"o","Info":"not mine to say"}
        > {"AccessToken":"wide"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        feed event/john.doe {"Type":"box","Object":"o"}
        < {"Type":"box","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":null,"Timestamp":$MS,"Subject":null}
        > {"AccessToken":"narrow"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        feed event/john.doe {"Type":"box","Object":"o"}
        "#,
    );
}

#[test]
fn an_anonymous_bus_takes_any_token_for_reading() {
    Bus::open().talk(
        r#"
        > {"state":"all"}
        < {"reason":"unauthorized","response":"error","timestamp":$S}
        > {"AccessToken":"anything"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":"*"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        > {"Type":"t","Object":"o","Info":"nobody's"}
        "#,
    );
}

#[test]
fn a_session_lasts_to_the_last_millisecond_of_its_token() {
    for (expires_at, expires_in, left_ms) in [("01.9", 1, 1900), ("00.9", 0, 900)] {
        let claims =
            format!("aud = 'cell1'\nscope = 'event'\nexpires_at = 2018-02-14T12:50:{expires_at}Z");
        let follow = || {
            let (mut bus, answer) = present(&claims, "/cell1/__event", "unit.example");
            let success = format!(
                r#"{{"response":"success","expires_in":{expires_in},"timestamp":{NOW_S}}}"#
            );
            assert_eq!(answer, [success]);
            bus.answers(r#"{"subscribe":{"Type":"*","Object":"*"}}"#);
            bus
        };
        let event = r#"{"Type":"t","Object":"o"}"#;
        let mut early = follow();
        early.now.monotonic_ns += (left_ms - 1) * 1_000_000;
        early.feed(&format!("event/cell1 {event}"));
        assert_eq!(early.heard(""), [event]);
        let mut late = follow();
        late.now.monotonic_ns += left_ms * 1_000_000;
        late.feed(&format!("event/cell1 {event}"));
        assert_eq!(late.heard(""), ["close 1000"]);
    }
}
