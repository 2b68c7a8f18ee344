//! Presence channels, byte for byte; `storm` holds them against a model.

use crate::conversation::Bus;
use crate::{bus, come, publish, sign, subscription, told, webhook};
use fanfare::message::Received;
use fanfare::service::presence::PresenceAnswer;
use fanfare::service::{Answer, ConnectionRef};
use fanfare::shard::Limits;
use std::sync::Arc;

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
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"presence-r","data":{data}}}"#
    )
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
    let both =
        list(r#"{"count":2,"ids":["7","8"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"}}}"#);
    assert_eq!(join(&mut bus, "jiro", JIRO), [both]);
    let jiro = r#"{"event":"pusher_internal:member_added","channel":"presence-r","data":"{\"user_id\":\"8\",\"user_info\":{\"name\":\"Jiro\"}}"}"#;
    assert_eq!(bus.heard("taro"), [jiro]);
    let three = r#"{"count":3,"ids":["7","8","9"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"},"9":null}}"#;
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
    let member = |name: &str, user: &str| {
        format!(r#"{{"name":"{name}","channel":"presence-r","user_id":"{user}"}}"#)
    };
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
    let both =
        list(r#"{"count":2,"ids":["7","8"],"hash":{"7":{"name":"Taro"},"8":{"name":"Jiro"}}}"#);
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
fn a_list_that_is_too_long_to_be_sent_is_refused_and_nobody_is_told() {
    let mut bus = bus(|app| (app.presence_members_max, app.webhook) = (0, vec![webhook()]));
    let limits = Limits { outbox_bytes_max: 4096, ..Limits::default() };
    let settings = Arc::clone(bus.shard.settings());
    bus.shard.configure(settings, limits, bus.now);
    let show =
        |user: usize| format!(r#"{{"user_id":{user},"user_info":"{}"}}"#, "\\\"".repeat(100));
    let mut members = 0;
    let refused = loop {
        let heard = join(&mut bus, &format!("m{members}"), &show(members));
        if !heard[0].contains("succeeded") {
            break heard;
        }
        assert!(heard.len() == 1 && heard[0].len() <= 4096, "{}", heard[0].len());
        members += 1;
    };
    // What each shows is 200 bytes, 402 where it stands in the list.
    assert_eq!(members, 8);
    let error = r#"{"event":"pusher:subscription_error","channel":"presence-r","data":{"type":"LimitReached","error":"The list of the channel's members is too long.","status":429}}"#;
    assert_eq!(refused, [error]);
    let added = bus.heard("m0").iter().filter(|frame| frame.contains("member_added")).count();
    assert_eq!(added, 7, "and of the one who was refused nobody heard");
    assert_eq!(told(&mut bus).iter().filter(|json| json.contains("member_added")).count(), 8);
    assert!(
        join(&mut bus, "tab", &show(3))[0].contains("succeeded"),
        "another tab of a member fits"
    );
    // After a reload that makes it too long for anybody, whoever is in stays.
    let settings = Arc::clone(bus.shard.settings());
    bus.shard.configure(settings, Limits { outbox_bytes_max: 2000, ..Limits::default() }, bus.now);
    assert_eq!(join(&mut bus, "late", &show(3)), [error]);
    bus.heard("tab");
    publish(&mut bus, CHANNEL, "one");
    assert_eq!((bus.heard("tab"), bus.heard("late")), (vec!["one".into()], vec![]));
}

#[test]
fn a_page_that_comes_to_many_channels_at_once_gets_the_lists_of_all() {
    let mut bus = bus(|_| {});
    let limits = Limits { outbox_bytes_max: 4096, ..Limits::default() };
    let settings = Arc::clone(bus.shard.settings());
    bus.shard.configure(settings, limits, bus.now);
    let channels: Vec<String> = (0..8).map(|number| format!("presence-{number}")).collect();
    for user in 0..4 {
        let name = format!("m{user}");
        let socket = come(&mut bus, &name);
        let data = format!(r#"{{"user_id":{user},"user_info":"{}"}}"#, "x".repeat(300));
        channels
            .iter()
            .for_each(|channel| bus.say(&name, &subscription(&socket, channel, Some(&data))));
    }
    let socket = come(&mut bus, "page");
    let id = bus.clients["page"].id;
    for channel in &channels {
        let wish = subscription(&socket, channel, Some(r#"{"user_id":"9"}"#));
        bus.shard.receive(id, Received::Text(&wish), bus.now);
    }
    bus.flush();
    let heard = bus.heard("page");
    assert_eq!(
        heard.iter().filter(|frame| frame.contains("subscription_succeeded")).count(),
        8,
        "{heard:?}"
    );
    assert!(
        !heard.iter().any(|frame| frame.starts_with("close")) && heard.concat().len() > 2 * 4096
    );
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
    let strange =
        r#"{"user_id":"a\"\\\u00e9\n","user_info":{"quote":"\"","n":12345678901234567890123}}"#;
    let heard = join(&mut bus, "a", strange);
    let frame: serde_json::Value = serde_json::from_str(&heard[0]).unwrap();
    let data = frame["data"].as_str().unwrap();
    assert!(data.contains(r#"{"quote":"\"","n":12345678901234567890123}"#), "{data}");
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["presence"]["ids"][0], "a\"\\é\n");
}

#[test]
fn a_member_whose_channel_no_node_answers_for_is_to_connect_again() {
    let mut bus = bus(|_| {});
    join(&mut bus, "taro", TARO);
    let taro = ConnectionRef { shard: 0, id: bus.clients["taro"].id, serial: 1 };
    bus.shard.answer(taro, Answer::Presence(PresenceAnswer::Away(CHANNEL.into())), bus.now);
    bus.flush();
    let text = "Presence is unavailable.";
    let error = format!(r#"{{"event":"pusher:error","data":{{"code":4200,"message":"{text}"}}}}"#);
    assert_eq!(bus.heard("taro"), [error, format!("close 4200 {text}")]);
    let alone = list(r#"{"count":1,"ids":["8"],"hash":{"8":{"name":"Jiro"}}}"#);
    assert_eq!(join(&mut bus, "jiro", JIRO), [alone], "the channel is left like any other");
}
