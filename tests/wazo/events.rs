//! What is delivered to whom: names, `required_acl`, addressing, and what a publisher may feed.

use super::*;
use fanfare::dialect::wazo::{Addressed, RequiredAcl, Scope};
use fanfare::dialect::{Settings, wazo};
use fanfare::event::Parser;
use fanfare::frame::Draft;
use fanfare::wheel::Now;
use std::sync::Arc;

const EVENT: &str =
    r#"{"name":"call_created","required_acl":"events.calls.ann-uuid.x","data":{"n": 1}}"#;

/// A bus whose master tenant is `master`, with a started client of every token that follows everything.
fn crowd() -> Bus {
    let wazo = wazo::WazoSettings {
        verifier: Some(verifier(TOKENS)),
        master_tenant_uuid: Some("master".into()),
        ..Default::default()
    };
    let mut bus = Bus::of(Settings { wazo, ..Settings::default() });
    for token in ["ann", "bob", "eve", "admin", "api", "root"] {
        bus.connect(token, &format!("/?token={token}"), HOST);
        bus.say(token, r#"{"op":"subscribe","data":{"event_name":"*"}}"#);
        bus.say(token, r#"{"op":"start"}"#);
        assert_eq!(bus.heard(token).len(), 4, "{token}");
    }
    bus
}

/// Who of the crowd is told something, once each.
fn receivers(bus: &mut Bus) -> String {
    let mut names: Vec<String> = bus.clients.keys().cloned().collect();
    names.sort();
    names.retain(|name| match bus.heard(name).len() {
        0 => false,
        1 => true,
        more => panic!("{name} was told {more} things"),
    });
    names.join(" ")
}

#[test]
fn an_event_comes_as_it_was_fed_or_wrapped_by_version() {
    talk(&format!(
        r#"
        > {{"op":"subscribe","data":{{"event_name":"call_created"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        > {{"op":"start"}}
        < {{"op": "start", "code": 0, "msg": "", "data": null}}
        feed wazo {EVENT}
        < {EVENT}
        b @ /?token=ann&version=2
        b < 101
        b < {{"op": "init", "code": 0, "data": {{"version": 2}}}}
        b > {{"op":"subscribe","data":{{"event_name":"call_created"}}}}
        b < {{"op": "subscribe", "code": 0, "data": null}}
        b > {{"op":"start"}}
        b < {{"op": "start", "code": 0, "data": null}}
        feed wazo {EVENT}
        < {EVENT}
        b < {{"op": "event", "code": 0, "data": {EVENT}}}
        "#
    ));
}

#[test]
fn events_before_start_are_dropped_and_never_replayed() {
    talk(&format!(
        r#"
        > {{"op":"subscribe","data":{{"event_name":"*"}}}}
        < {{"op": "subscribe", "code": 0, "msg": "", "data": null}}
        feed wazo {EVENT}
        > {{"op":"start"}}
        < {{"op": "start", "code": 0, "msg": "", "data": null}}
        feed wazo {EVENT}
        < {EVENT}
        "#
    ));
}

#[test]
fn a_name_is_matched_whole_and_any_number_of_subscriptions_delivers_one_copy() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}\n> {{\"op\":\"start\"}}\n< {START}"));
    bus.say("", r#"{"op":"subscribe","data":{"event_name":"call"}}"#);
    let event = |name: &str| format!(r#"{{"name":"{name}","required_acl":null}}"#);
    for (name, comes) in
        [("call", true), ("call_created", false), ("cal", false), ("", false), ("*", false)]
    {
        bus.feed(&format!("wazo {}", event(name)));
        assert_eq!(bus.heard(""), if comes { vec![event(name)] } else { vec![] }, "{name}");
    }
    for also in ["*", "call", "", "call_created"] {
        bus.say("", &format!(r#"{{"op":"subscribe","data":{{"event_name":"{also}"}}}}"#));
    }
    for name in ["call", "call_created", "cal", "", "*", "été"] {
        bus.feed(&format!("wazo {}", event(name)));
        assert_eq!(bus.heard(""), [event(name)], "{name}");
    }
    assert_eq!(bus.replies, "");
}

const START: &str = r#"{"op": "start", "code": 0, "msg": "", "data": null}"#;

#[test]
fn an_empty_name_is_a_name() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!("< {INIT}\n> {{\"op\":\"start\"}}\n< {START}"));
    bus.say("", r#"{"op":"subscribe","data":{"event_name":""}}"#);
    bus.feed(r#"wazo {"name":"x","required_acl":null}"#);
    assert_eq!(bus.heard("").len(), 0);
    bus.feed(r#"wazo {"name":"","required_acl":null}"#);
    assert_eq!(bus.heard("").len(), 1);
}

#[test]
fn required_acl_decides() {
    for (required, to_ann) in [
        (r#","required_acl":null"#, true),
        ("", false),
        (r#","required_acl":"events.calls.ann-uuid.x""#, true),
        (r#","required_acl":"events.calls.me.x""#, true),
        (r#","required_acl":"events.calls.bob-uuid.x""#, false),
        (r#","required_acl":"events.all.open""#, true),
        (r#","required_acl":"events.all.secret""#, false),
        (r#","required_acl":"""#, false),
        (r#","required_acl":"x","required_acl":null"#, true),
        (r#","required_acl":null,"required_acl":"x""#, false),
        (r#","required_acl":"events.all.\u006fpen""#, true),
    ] {
        let mut bus = crowd();
        bus.feed(&format!(r#"wazo {{"name":"n"{required}}}"#));
        assert_eq!(bus.replies, "");
        assert_eq!(bus.heard("ann").len(), usize::from(to_ann), "{required}");
    }
}

#[test]
fn what_cannot_be_used_is_told_to_the_publisher() {
    let long = "x".repeat(256);
    for (line, reason) in [
        ("wazo {}".into(), "no name"),
        (r#"wazo {"name":null}"#.into(), "no name"),
        (r#"wazo {"name":1}"#.into(), "no name"),
        (r#"wazo {"name":"a","name":1}"#.into(), "no name"),
        (r#"wazo {"name":"a\u0000b","required_acl":null}"#.into(), "NUL"),
        ("wazo [1]".into(), "not an object"),
        ("wazo \"x\"".into(), "not an object"),
        ("wazo {".into(), "not valid JSON"),
        (r#"wazo {"name":"n","required_acl":1}"#.into(), "must be a string or null"),
        (r#"wazo {"name":"n","required_acl":["a"]}"#.into(), "must be a string or null"),
        (format!(r#"wazo {{"name":"n","required_acl":"{long}"}}"#), "required_acl has 256 bytes"),
        (format!(r#"wazo/{long} {{"name":"n","required_acl":null}}"#), "the tenant has 256 bytes"),
        (format!(r#"wazo/t1/{long} {{"name":"n","required_acl":null}}"#), "a user has 256 bytes"),
        (r#"wazo/a/b/c {"name":"n","required_acl":null}"#.into(), "malformed address"),
    ] {
        let mut bus = crowd();
        bus.feed(&line);
        assert!(bus.replies.contains(reason), "{line}: {}", bus.replies);
        assert_eq!(receivers(&mut bus), "", "{line}");
    }
    let mut bus = crowd();
    bus.feed(&format!(r#"wazo {{"name":"n","required_acl":"{}"}}"#, &long[1..]));
    assert_eq!(
        (receivers(&mut bus).as_str(), bus.replies.as_str()),
        ("admin api bob eve root", "")
    );
}

#[test]
fn the_address_of_the_feed_says_whose_an_event_is() {
    for (address, expected) in [
        ("wazo", "admin ann api bob eve root"),
        ("wazo/t1", "admin ann api bob root"),
        ("wazo/t2", "eve root"),
        ("wazo/T1", "root"),
        ("wazo/t3", "root"),
        ("wazo/master", "root"),
        ("wazo/t1/ann-uuid", "admin ann api root"),
        ("wazo/t1/bob-uuid", "admin api bob root"),
        ("wazo/t1/admin-uuid", "admin api root"),
        ("wazo/t2/ann-uuid", "root"),
        ("wazo/t2/eve-uuid", "eve root"),
        ("wazo/t1/nobody", "admin api root"),
    ] {
        let mut bus = crowd();
        bus.feed(&format!(r#"{address} {{"name":"n","required_acl":null}}"#));
        assert_eq!(receivers(&mut bus), expected, "{address}");
        // Addressing opens nothing that the list does not.
        bus.feed(&format!(r#"{address} {{"name":"n","required_acl":"nobody.but.root"}}"#));
        let but_ann: Vec<&str> = expected.split(' ').filter(|name| *name != "ann").collect();
        assert_eq!(receivers(&mut bus), but_ann.join(" "), "{address}");
    }
}

/// Delivers an event as a broker's feed would: what its headers say, and its body.
fn deliver(bus: &mut Bus, required_acl: RequiredAcl<'_>, scope: Scope<'_>, body: &str) {
    let mut draft = Draft::default();
    let published = Parser::default().parse(body.as_bytes(), |event| {
        let name = wazo::name(event).unwrap();
        Addressed { name, required_acl, scope: Some(scope) }.publish(event, &mut draft)
    });
    published.unwrap().unwrap();
    bus.shard.deliver(&Arc::new(draft.finish(Now::default())), bus.now);
    bus.flush();
}

#[test]
fn headers_say_whose_an_event_is() {
    let body = r#"{"name":"n","required_acl":"unheard of"}"#;
    for (tenant, everyone, users, expected) in [
        (Some("t1"), true, &[][..], "admin ann api bob root"),
        (Some("t1"), false, &["ann-uuid", "bob-uuid"][..], "admin ann api bob root"),
        (Some("t1"), false, &["bob-uuid", "eve-uuid"][..], "admin api bob root"),
        (Some("t1"), false, &[][..], "admin api root"),
        (Some("t1"), true, &["ann-uuid"][..], "admin ann api bob root"),
        (None, true, &["ann-uuid"][..], "root"),
        (Some(""), true, &[""][..], "root"),
    ] {
        let mut bus = crowd();
        deliver(&mut bus, RequiredAcl::Nothing, Scope { tenant, everyone, users }, body);
        assert_eq!(receivers(&mut bus), expected, "{tenant:?} {everyone} {users:?}");
        deliver(&mut bus, RequiredAcl::Missing, Scope { tenant, everyone, users }, body);
        assert_eq!(receivers(&mut bus), "");
    }
}

#[test]
fn users_without_a_uuid_are_not_those_of_an_event_without_one() {
    let mut bus = Bus::with("[[token]]\ntoken = 'ann'\nacl = ['#']\ntenant_uuid = 't1'\n");
    bus.talk(&format!("< {INIT}\n> {{\"op\":\"start\"}}\n< {START}"));
    bus.say("", r#"{"op":"subscribe","data":{"event_name":"*"}}"#);
    let body = r#"{"name":"n"}"#;
    deliver(
        &mut bus,
        RequiredAcl::Nothing,
        Scope { tenant: Some("t1"), everyone: false, users: &[""] },
        body,
    );
    assert_eq!(bus.heard("").len(), 0);
    deliver(
        &mut bus,
        RequiredAcl::Nothing,
        Scope { tenant: Some("t1"), everyone: true, users: &[] },
        body,
    );
    assert_eq!(bus.heard("").len(), 1);
}

#[test]
fn an_event_for_too_many_users_is_refused() {
    let users = vec!["u"; 1001];
    let publish = |users: &[&str]| {
        let scope = Scope { tenant: Some("t1"), everyone: false, users };
        Parser::default()
            .parse(b"{}", |event| {
                Addressed { name: "n", required_acl: RequiredAcl::Nothing, scope: Some(scope) }
                    .publish(event, &mut Draft::default())
            })
            .unwrap()
    };
    assert!(publish(&users[1..]).is_ok());
    assert!(publish(&users).unwrap_err().to_string().contains("more than 1000 users"));
}
