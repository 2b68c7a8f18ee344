//! Presence channels, byte for byte; `storm` holds them against a model.

use crate::conversation::Bus;
use crate::{bus, come, publish, sign, subscription, told, webhook};

const CHANNEL: &str = "presence-r";
const TARO: &str = r#"{"user_id":7,"user_info":{"name":"Taro"}}"#;
const JIRO: &str = r#"{"user_id":"8","user_info":{"name":"Jiro"}}"#;
const NAMELESS: &str = r#"{"user_id":"9"}"#;

fn join(bus: &mut Bus, name: &str, data: &str) -> Vec<String> {
    let socket = come(bus, name);
    bus.say(name, &subscription(&socket, CHANNEL, Some(data)));
    bus.heard(name)
}

fn leave(bus: &mut Bus, name: &str) {
    bus.say(name, r#"{"event":"pusher:unsubscribe","data":{"channel":"presence-r"}}"#);
}

fn lose(bus: &mut Bus, name: &str) {
    let id = bus.clients[name].id;
    bus.shard.lost(id, bus.now);
    bus.flush();
    assert_eq!(bus.heard(name), ["gone"]);
}

fn list(presence: &str) -> String {
    let data = serde_json::json!(format!(r#"{{"presence":{presence}}}"#));
    format!(r#"{{"event":"pusher_internal:subscription_succeeded","channel":"presence-r","data":{data}}}"#)
}

fn added(data: &str) -> String {
    let data = serde_json::json!(data);
    format!(r#"{{"event":"pusher_internal:member_added","channel":"presence-r","data":{data}}}"#)
}

fn removed(user: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:member_removed","channel":"presence-r","data":"{{\"user_id\":\"{user}\"}}"}}"#
    )
}

#[test]
fn members_know_each_other() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    let taro = r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-r","data":"{\"presence\":{\"count\":1,\"ids\":[\"7\"],\"hash\":{\"7\":{\"name\":\"Taro\"}}}}"}"#;
    assert_eq!(join(&mut bus, "taro", TARO), [taro]);
    let both = list(r#"{"count":2,"ids":["7","8"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"}}}"#);
    assert_eq!(join(&mut bus, "jiro", JIRO), [both]);
    let jiro = r#"{"event":"pusher_internal:member_added","channel":"presence-r","data":"{\"user_id\":\"8\",\"user_info\":{\"name\":\"Jiro\"}}"}"#;
    assert_eq!(bus.heard("taro"), [jiro]);
    let three =
        r#"{"count":3,"ids":["7","8","9"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"},"9":null}}"#;
    assert_eq!(join(&mut bus, "nameless", NAMELESS), [list(three)]);
    let nameless = added(r#"{"user_id":"9","user_info":null}"#);
    assert_eq!((bus.heard("taro"), bus.heard("jiro")), (vec![nameless.clone()], vec![nameless]));
    leave(&mut bus, "nameless");
    assert_eq!((bus.heard("taro"), bus.heard("jiro")), (vec![removed("9")], vec![removed("9")]));
    lose(&mut bus, "jiro");
    assert_eq!(bus.heard("taro"), [removed("8")]);
    assert!(bus.heard("nameless").is_empty());
    publish(&mut bus, CHANNEL, "one");
    assert_eq!((bus.heard("taro"), bus.heard("nameless")), (vec!["one".into()], vec![]));
    lose(&mut bus, "taro");
    let member =
        |name: &str, user: &str| format!(r#"{{"name":"{name}","channel":"presence-r","user_id":"{user}"}}"#);
    let channel = |name: &str| format!(r#"{{"name":"{name}","channel":"presence-r"}}"#);
    assert_eq!(
        told(&mut bus),
        [
            channel("channel_occupied"),
            member("member_added", "7"),
            member("member_added", "8"),
            member("member_added", "9"),
            member("member_removed", "9"),
            member("member_removed", "8"),
            member("member_removed", "7"),
            channel("channel_vacated"),
        ]
    );
}

#[test]
fn a_user_with_several_tabs_is_one_member() {
    let mut bus = bus(|_| {});
    join(&mut bus, "jiro", JIRO);
    join(&mut bus, "one", TARO);
    bus.heard("jiro");
    let other = r#"{"user_id":"7","user_info":{"name":"Another"}}"#;
    let both = list(r#"{"count":2,"ids":["7","8"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"}}}"#);
    assert_eq!(join(&mut bus, "two", other), [&*both], "the first data stand");
    let socket = "0.3";
    bus.say("two", &subscription(socket, CHANNEL, Some(NAMELESS)));
    assert_eq!(bus.heard("two"), [both], "the first identity stands");
    lose(&mut bus, "one");
    assert!(bus.heard("jiro").is_empty() && bus.heard("two").is_empty());
    lose(&mut bus, "two");
    assert_eq!(bus.heard("jiro"), [removed("7")]);
}

#[test]
fn a_full_channel_takes_only_those_who_are_members_already() {
    let mut bus = bus(|app| app.presence_members_max = 2);
    join(&mut bus, "taro", TARO);
    join(&mut bus, "jiro", JIRO);
    bus.heard("taro");
    let full = r#"{"event":"pusher:subscription_error","channel":"presence-r","data":{"type":"LimitReached","error":"The channel has too many members.","status":429}}"#;
    assert_eq!(join(&mut bus, "nameless", NAMELESS), [full]);
    publish(&mut bus, CHANNEL, "one");
    assert_eq!((bus.heard("taro"), bus.heard("nameless")), (vec!["one".into()], vec![]));
    assert!(join(&mut bus, "tab", JIRO)[0].contains("succeeded"), "another tab of a member fits");
    lose(&mut bus, "taro");
    bus.say("nameless", &subscription("0.3", CHANNEL, Some(NAMELESS)));
    assert!(bus.heard("nameless")[0].contains(r#"\"count\":2,\"ids\":[\"8\",\"9\"]"#));
}

#[test]
fn whoever_has_signed_in_needs_no_channel_data() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    let user_data = r#"{"id":"7","user_info":{"name":"Taro"},"watchlist":["8"]}"#;
    let auth = sign(&format!("{socket}::user::{user_data}"));
    let data = serde_json::json!({"auth": auth, "user_data": user_data});
    bus.say("a", &serde_json::json!({"event": "pusher:signin", "data": data}).to_string());
    assert!(bus.heard("a")[0].contains("signin_success"));
    bus.say("a", &subscription(&socket, CHANNEL, None));
    assert_eq!(bus.heard("a"), [list(r#"{"count":1,"ids":["7"],"hash":{"7":{"name":"Taro"}}}"#)]);
}

#[test]
fn ids_and_what_is_shown_travel_as_they_are() {
    let mut bus = bus(|_| {});
    let strange = r#"{"user_id":"a\"\\\u00e9\n","user_info":{"quote":"\"","n":12345678901234567890123}}"#;
    let heard = join(&mut bus, "a", strange);
    let frame: serde_json::Value = serde_json::from_str(&heard[0]).unwrap();
    let data = frame["data"].as_str().unwrap();
    assert!(data.contains(r#"{"quote":"\"","n":12345678901234567890123}"#), "{data}");
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["presence"]["ids"][0], "a\"\\é\n");
}
