//! Who may connect and until when: claims, a new token for the old one, expiry, and sessions that are deleted.

use super::*;
use fanfare::dialect::{Settings, wazo};

const START: &str = r#"{"op": "start", "code": 0, "msg": "", "data": null}"#;
const TOKEN: &str = r#"{"op": "token", "code": 0, "msg": "", "data": null}"#;
const EXPIRED: &str = "close 4003 authentication expired";
const FAILED: &str = "close 4002 authentication failed";

/// What a token with these claims is told.
fn greeting(claims: &str) -> String {
    let mut bus = Bus::with(&format!("[[token]]\ntoken = 'ann'\n{claims}\n"));
    bus.connect("", PATH, HOST);
    assert_eq!(bus.next("").as_deref(), Some("101"));
    bus.heard("").join(" ")
}

#[test]
fn a_token_needs_the_access_websocketd() {
    for (claims, expected) in [
        ("acl = ['websocketd']", INIT),
        ("acl = ['events.#', 'websocketd']", INIT),
        ("acl = ['#']", INIT),
        ("acl = ['*']", INIT),
        ("acl = ['web*']", INIT),
        ("acl = 'websocketd'", INIT),
        ("acl = ['#', '!websocketd']", FAILED),
        ("acl = ['websocketd.x']", FAILED),
        ("acl = ['websocket']", FAILED),
        ("acl = ['me']\nsub = 'websocketd'", INIT),
        ("acl = []", FAILED),
        ("acl = ['websocketd', 1]", FAILED),
        ("acl = 1", FAILED),
        ("", FAILED),
    ] {
        assert_eq!(greeting(claims), expected, "{claims}");
    }
    let long = "x".repeat(256);
    for claim in ["sub", "session_uuid", "tenant_uuid"] {
        assert_eq!(greeting(&format!("acl = ['#']\n{claim} = '{long}'")), FAILED);
        assert_eq!(greeting(&format!("acl = ['#']\n{claim} = '{}'", &long[1..])), INIT);
    }
    let many: Vec<String> = (0..4097).map(|n| format!("a.{n}")).collect();
    assert_eq!(greeting(&format!("acl = {many:?}")), FAILED);
}

// As the original: its queue stays bound as the first token had it, and each event is held against the newest list.
#[test]
fn a_new_token_brings_its_list_and_events_stay_those_for_the_first_ones_user() {
    talk(&format!(
        r#"
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"token","data":{{"token":"hundred seconds"}}}}
        < {TOKEN}
        > {{"op":"token","data":{{"token":"eve"}}}}
        < {TOKEN}
        > {{"op":"start"}}
        < {START}
        feed wazo {{"name":"n","required_acl":"anything"}}
        < {{"name":"n","required_acl":"anything"}}
        feed wazo/t2/eve-uuid {{"name":"n","required_acl":null}}
        feed wazo/t1/ann-uuid {{"name":"n","required_acl":"anything"}}
        < {{"name":"n","required_acl":"anything"}}
        feed wazo/t1 {{"name":"n","required_acl":null}}
        < {{"name":"n","required_acl":null}}
        wait 40
        > {{"op":"token","data":{{"token":"ann"}}}}
        feed wazo {{"name":"n","required_acl":"anything"}}
        feed wazo/t2/eve-uuid {{"name":"n","required_acl":null}}
        feed wazo/t1/ann-uuid {{"name":"n","required_acl":null}}
        < {{"name":"n","required_acl":null}}
        > {{"op":"token","data":{{"token":"nobody"}}}}
        < {FAILED}
        "#
    ));
    for bad in ["nobody", "", "stranger"] {
        talk(&format!("> {{\"op\":\"token\",\"data\":{{\"token\":\"{bad}\"}}}}\n< {FAILED}\n"));
    }
}

#[test]
fn nothing_is_delivered_when_the_token_has_expired() {
    let follow = format!(
        r#"
        < 101
        < {INIT}
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"start"}}
        < {START}
        "#
    );
    let bus = || {
        let mut bus = Bus::with(TOKENS);
        bus.connect("", "/?token=hundred+seconds", HOST);
        bus.talk(&follow);
        bus
    };
    let event = r#"{"name":"n","required_acl":null}"#;
    for _ in 0..2 {
        bus().talk(&format!("wait 40\nwait 9\nfeed wazo {event}\n< {event}\n"));
    }
    // The moment itself, whoever comes first: the timer, or an event.
    let mut late = bus();
    late.now.monotonic_ns += 100_000_000_000;
    late.feed(&format!("wazo {event}"));
    assert_eq!(late.heard(""), [EXPIRED]);
    let mut early = bus();
    early.now.monotonic_ns += 99_999_000_000;
    early.feed(&format!("wazo {event}"));
    assert_eq!(early.heard(""), [event]);
    let mut idle = bus();
    idle.wait(49);
    assert_eq!(idle.heard("").len(), 0);
    idle.wait(51);
    assert_eq!(idle.heard(""), ["ping []", EXPIRED]);
}

#[test]
fn the_list_of_a_new_token_means_its_own_user_and_session() {
    let tokens = r##"
        [[token]]
        token = "first"
        acl = ["#"]
        sub = "first-user"
        session_uuid = "first-session"
        tenant_uuid = "t1"
        [[token]]
        token = "second"
        acl = ["websocketd", "events.me", "events.my_session"]
        sub = "second-user"
        session_uuid = "second-session"
        tenant_uuid = "t2"
        admin = true
    "##;
    let mut bus = Bus::with(tokens);
    bus.connect("", "/?token=first", HOST);
    bus.talk(&format!(
        r#"
        < 101
        < {INIT}
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"start"}}
        < {START}
        > {{"op":"token","data":{{"token":"second"}}}}
        feed wazo/t1/first-user {{"name":"n","required_acl":"events.first-user"}}
        feed wazo/t1/first-user {{"name":"n","required_acl":"events.first-session"}}
        feed wazo/t1/first-user {{"name":"n","required_acl":"events.second-user"}}
        < {{"name":"n","required_acl":"events.second-user"}}
        feed wazo/t1/first-user {{"name":"n","required_acl":"events.second-session"}}
        < {{"name":"n","required_acl":"events.second-session"}}
        feed wazo/t2/second-user {{"name":"n","required_acl":null}}
        > {{"op":"token","data":{{"token":"first"}}}}
        feed wazo/t1/first-user {{"name":"n","required_acl":"events.first-user"}}
        < {{"name":"n","required_acl":"events.first-user"}}
        "#
    ));
}

#[test]
fn a_longer_token_prolongs_the_session_and_a_shorter_one_shortens_it() {
    talk(&format!(
        r#"
        > {{"op":"token","data":{{"token":"hundred seconds"}}}}
        < {TOKEN}
        > {{"op":"token","data":{{"token":"ann"}}}}
        < {TOKEN}
        wait 49
        > {{"op":"token","data":{{"token":"hundred seconds"}}}}
        < {TOKEN}
        wait 1
        < ping []
        pong
        wait 50
        < {EXPIRED}
        "#
    ));
    talk(
        "wait 49\nwait 1\n< ping []\npong\nwait 50\n< ping []\npong\nwait 19\n> {\"op\":\"token\",\"data\":{\"token\":\"hundred seconds\"}}\n< close 4002 authentication failed\n",
    );
}

#[test]
fn the_event_of_a_sessions_end_closes_it_at_once_and_goes_to_its_subscribers() {
    let deleted =
        r#"{"name":"auth_session_deleted","required_acl":null,"data":{"uuid":"ann-session"}}"#;
    talk(&format!(
        r#"
        b @ /?token=bob
        b < 101
        b < {INIT}
        b > {{"op":"subscribe","data":{{"event_name":"auth_session_deleted"}}}}
        b < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        b > {{"op":"start"}}
        b < {START}
        c @ /?token=ann
        c < 101
        c < {INIT}
        c > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        c < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        c > {{"op":"start"}}
        c < {START}
        feed wazo {}
        b < {}
        c < {}
        feed wazo {deleted}
        < {EXPIRED}
        b < {deleted}
        c < {EXPIRED}
        "#,
        deleted.replace("ann-session", "ann-sessio"),
        deleted.replace("ann-session", "ann-sessio"),
        deleted.replace("ann-session", "ann-sessio"),
    ));
}

#[test]
fn a_sessions_end_is_heard_whatever_its_event_requires_and_however_it_is_addressed() {
    for (event, ends) in [
        (r#"wazo {"name":"auth_session_deleted","data":{"uuid":"ann-session"}}"#, true),
        (
            r#"wazo {"name":"auth_session_deleted","required_acl":"x","data":{"uuid":"ann-session"}}"#,
            true,
        ),
        (
            r#"wazo/t2 {"name":"auth_session_deleted","required_acl":null,"data":{"uuid":"ann-session"}}"#,
            true,
        ),
        (
            r#"wazo {"name":"auth_session_deleted","required_acl":null,"data":{"uuid":"ann-session2"}}"#,
            false,
        ),
        (
            r#"wazo {"name":"auth_session_deleted","required_acl":null,"data":{"uuid":"bob-session"}}"#,
            false,
        ),
        (r#"wazo {"name":"auth_session_deleted","required_acl":null,"data":{"uuid":""}}"#, false),
        (r#"wazo {"name":"auth_session_deleted","required_acl":null,"data":{"uuid":1}}"#, false),
        (r#"wazo {"name":"auth_session_deleted","required_acl":null,"data":null}"#, false),
        (r#"wazo {"name":"auth_session_deleted","required_acl":null}"#, false),
        (
            r#"wazo {"name":"auth_session_created","required_acl":null,"data":{"uuid":"ann-session"}}"#,
            false,
        ),
    ] {
        talk(&format!(
            "feed {event}\n{}",
            if ends { format!("< {EXPIRED}") } else { String::new() }
        ));
    }
}

#[test]
fn a_sessions_end_is_not_shown_to_those_whose_uuid_is_a_part_of_its() {
    let deleted = r#"{"name":"auth_session_deleted","required_acl":null,"data":{"uuid":"ann-session\u0000x"}}"#;
    talk(&format!("> {{\"op\":\"start\"}}\n< {START}\nfeed wazo {deleted}\n"));
}

#[test]
fn a_token_without_a_session_is_not_meant_by_an_event_without_one() {
    let deleted = r#"{"name":"auth_session_deleted","required_acl":null,"data":{"uuid":""}}"#;
    let mut bus = Bus::with("[[token]]\ntoken = 'ann'\nacl = ['#']\n");
    bus.talk(&format!(
        r#"
        < {INIT}
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"start"}}
        < {START}
        feed wazo {deleted}
        < {deleted}
        "#
    ));
}

#[test]
fn a_new_token_brings_its_own_session_to_watch_for() {
    talk(&format!(
        r#"
        > {{"op":"token","data":{{"token":"bob"}}}}
        < {TOKEN}
        feed wazo {{"name":"auth_session_deleted","required_acl":null,"data":{{"uuid":"ann-session"}}}}
        feed wazo {{"name":"auth_session_deleted","required_acl":null,"data":{{"uuid":"bob-session"}}}}
        < {EXPIRED}
        "#
    ));
}

#[test]
fn where_tokens_are_not_judged_any_text_is_one_that_sees_everything() {
    Bus::open().talk(&format!(
        r#"
        < {INIT}
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"token","data":{{"token":"anything"}}}}
        < {TOKEN}
        > {{"op":"start"}}
        < {START}
        feed wazo/t/u {{"name":"n","required_acl":"x"}}
        < {{"name":"n","required_acl":"x"}}
        b @ /
        b < 101
        b < close 4001 no token
        "#
    ));
}

#[test]
fn without_a_verifier_nobody_is_let_in() {
    let mut bus = Bus::of(Settings { wazo: wazo::WazoSettings::default(), ..Settings::default() });
    bus.connect("", PATH, HOST);
    assert_eq!(bus.heard(""), ["101", FAILED]);
}
