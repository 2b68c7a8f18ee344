//! Signing in, events for a user, and the end of all of a user's connections.

use crate::conversation::Bus;
use crate::{bus, come, publication, publish, sign};
use fanfare::dialect::echo::EchoReach;
use serde_json::json;

fn sign_in(bus: &mut Bus, name: &str, socket: &str, user_data: &str) -> Vec<String> {
    let auth = sign(&format!("{socket}::user::{user_data}"));
    let data = json!({"auth": auth, "user_data": user_data});
    bus.say(name, &json!({"event": "pusher:signin", "data": data}).to_string());
    bus.heard(name)
}

fn is_refused(heard: &[String]) -> bool {
    heard.len() == 1
        && heard[0].starts_with(r#"{"event":"pusher:error","data":{"code":4009,"message":""#)
}

#[test]
fn events_for_a_user_reach_each_of_its_connections_once() {
    let mut bus = bus(|_| {});
    let success =
        r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"7\\\"}\"}"}"#;
    for name in ["a", "b"] {
        let socket = come(&mut bus, name);
        assert_eq!(sign_in(&mut bus, name, &socket, r#"{"id":"7"}"#), [success]);
    }
    let socket = come(&mut bus, "c");
    sign_in(&mut bus, "c", &socket, r#"{"id":"8"}"#);
    let subscribe =
        r##"{"event":"pusher:subscribe","data":{"auth":"","channel":"#server-to-user-7"}}"##;
    bus.say("a", subscribe);
    let answer = r##"{"event":"pusher_internal:subscription_succeeded","channel":"#server-to-user-7","data":"{}"}"##;
    assert_eq!(bus.heard("a"), [answer]);
    bus.say("c", subscribe);
    assert!(bus.heard("c")[0].contains("AuthError"));
    publish(&mut bus, "#server-to-user-7", "one");
    for (name, expected) in [("a", vec!["one"]), ("b", vec!["one"]), ("c", vec![])] {
        assert_eq!(bus.heard(name), expected);
    }
    assert_eq!(sign_in(&mut bus, "a", "0.1", r#"{"id":"7"}"#), [success], "again");
    publish(&mut bus, "#server-to-user-7", "two");
    assert_eq!(bus.heard("a"), ["two"]);
}

#[test]
fn a_sign_in_that_is_not_good_changes_nothing() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    for bad in
        ["", "{}", "[]", "7", r#"{"id":true}"#, r#"{"id":""}"#, r#"{"id":null}"#, r#"{"id":["7"]}"#]
    {
        assert!(is_refused(&sign_in(&mut bus, "a", &socket, bad)), "{bad}");
    }
    assert!(
        is_refused(&sign_in(&mut bus, "a", "9.9", r#"{"id":"7"}"#)),
        "signed for another connection"
    );
    for data in [
        r#"{}"#,
        r#"{"auth":"app-key:00","user_data":"{\"id\":\"7\"}"}"#,
        r#"{"auth":7,"user_data":{}}"#,
    ] {
        bus.say("a", &format!(r#"{{"event":"pusher:signin","data":{data}}}"#));
        assert!(is_refused(&bus.heard("a")), "{data}");
    }
    publish(&mut bus, "#server-to-user-7", "one");
    assert!(bus.heard("a").is_empty());
    assert_eq!(sign_in(&mut bus, "a", &socket, r#"{"id":"7"}"#).len(), 1);
    assert!(
        is_refused(&sign_in(&mut bus, "a", &socket, r#"{"id":"8"}"#)),
        "a second, different user"
    );
    publish(&mut bus, "#server-to-user-8", "two");
    publish(&mut bus, "#server-to-user-7", "three");
    assert_eq!(bus.heard("a"), ["three"]);
    let id = bus.clients["a"].id;
    bus.shard.lost(id, bus.now);
    bus.shard.tick(bus.now);
    assert_eq!(bus.metrics.subscriptions.get(), 0, "nothing is left");
}

#[test]
fn a_user_whose_id_is_a_number_is_the_user_of_its_text() {
    let mut bus = bus(|_| {});
    for (name, user_data) in [("a", r#"{"id":7}"#), ("b", r#"{"id":"7"}"#)] {
        let socket = come(&mut bus, name);
        let data = json!(json!({"user_data": user_data}).to_string());
        let success = format!(r#"{{"event":"pusher:signin_success","data":{data}}}"#);
        assert_eq!(sign_in(&mut bus, name, &socket, user_data), [success]);
    }
    publish(&mut bus, "#server-to-user-7", "one");
    assert_eq!((bus.heard("a"), bus.heard("b")), (vec!["one".into()], vec!["one".into()]));
}

#[test]
fn an_app_may_end_all_connections_of_a_user() {
    let mut bus = bus(|_| {});
    for (name, user) in [("a", r#"{"id":"7"}"#), ("b", r#"{"id":"7"}"#), ("c", r#"{"id":"8"}"#)] {
        let socket = come(&mut bus, name);
        sign_in(&mut bus, name, &socket, user);
    }
    let error = r#"{"event":"pusher:error","data":{"code":4009,"message":"Connection terminated by the app."}}"#;
    let end = publication("#server-to-user-7", error, EchoReach::Last, 0, bus.now);
    bus.shard.deliver(&end, bus.now);
    bus.flush();
    for name in ["a", "b"] {
        assert_eq!(bus.heard(name), [error, "close 4009 Connection terminated by the app."]);
    }
    assert!(bus.heard("c").is_empty());
}
