//! Subscriptions to channels without members: byte for byte, refused, repeated, taken back, counted.

use crate::conversation::Bus;
use crate::{
    app_settings, bus, come, publication, publish, settings, sign, subscription, told, webhook,
};
use fanfare::dialect::echo::{App, AppSettings, EchoReach, SocketId};
use fanfare::dialect::{DialectTally, Kind, Settings};
use fanfare::setting::Secret;
use fanfare::shard::Limits;
use serde_json::json;
use std::sync::Arc;

/// Both broadcasts of the seed, as one of its pages sees them.
#[test]
fn the_worked_examples_are_as_they_are_written() {
    let bus = bus(|_| {});
    let mut bus = Bus { shard: bus.shard.drawing(Box::new(|| 1234 << 32 | 1234)), ..bus };
    bus.talk(
        r#"< {"event":"pusher:connection_established","data":"{\"socket_id\":\"1234.1234\",\"activity_timeout\":30}"}
           > {"event":"pusher:subscribe","data":{"auth":"app-key:138cad1ae9a9977bb38b9b4df13c4bc69aeea8db94776e47190df96767284dda","channel":"private-Chat.1"}}
           < {"event":"pusher_internal:subscription_succeeded","channel":"private-Chat.1","data":"{}"}
           > {"event":"pusher:subscribe","data":{"auth":"app-key:79eb89dc183d5839679ef1b0409f8e23ad77f2bda9da4b221aef4705f47cbbec","channel":"private-TestChannel.3"}}
           < {"event":"pusher_internal:subscription_succeeded","channel":"private-TestChannel.3","data":"{}"}"#
            .lines().map(str::trim).filter(|line| line.starts_with(['<', '>'])).collect::<Vec<_>>().join("\n").as_str(),
    );
    for (channel, event) in [
        (
            "private-Chat.1",
            r#"{"event":"App\\Events\\ChatMessageSent","channel":"private-Chat.1","data":"{\"message\":\"hi\",\"user\":{\"id\":1,\"name\":\"Ann\"}}"}"#,
        ),
        (
            "private-TestChannel.3",
            r#"{"event":"App\\Events\\MessageSent","channel":"private-TestChannel.3","data":"{\"message\":\"m\",\"id\":3}"}"#,
        ),
    ] {
        publish(&mut bus, channel, event);
        assert_eq!(bus.heard(""), [event]);
        let to_others =
            publication(channel, event, EchoReach::AllBut(SocketId(1234 << 32 | 1234)), 0, bus.now);
        bus.shard.deliver(&to_others, bus.now);
        bus.flush();
        assert!(bus.heard("").is_empty(), "toOthers() leaves the sender out");
    }
}

fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}

/// The error frame of a channel, without its text.
fn refused(heard: &[String], channel: &str) -> (String, u64) {
    let [error] = heard else { panic!("{heard:?}") };
    let frame: serde_json::Value = serde_json::from_str(error).unwrap();
    assert_eq!(frame["event"], "pusher:subscription_error");
    assert_eq!(frame["channel"], channel);
    let (kind, status) =
        (frame["data"]["type"].as_str().unwrap(), frame["data"]["status"].as_u64().unwrap());
    let text = frame["data"]["error"].as_str().unwrap();
    let written = format!(
        r#"{{"event":"pusher:subscription_error","channel":{},"data":{{"type":"{kind}","error":"{text}","status":{status}}}}}"#,
        json!(channel)
    );
    assert_eq!(*error, written, "the keys are in order");
    (kind.to_owned(), status)
}

#[test]
fn public_and_signed_channels_are_had_and_nothing_comes_before_the_answer_or_after_the_leave() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    for (channel, message) in [
        ("room", r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"room"}}"#.to_owned()),
        (
            "a-Z0_=@,.;",
            r#"{"event":"pusher:subscribe","data":{"channel":"a-Z0_=@,.;"}}"#.to_owned(),
        ),
        ("private-x", subscription(&socket, "private-x", None)),
        ("private-encrypted-x", subscription(&socket, "private-encrypted-x", None)),
        ("private-y", subscription(&socket, "private-y", Some("anything"))),
    ] {
        publish(&mut bus, channel, "too early");
        bus.say("a", &message);
        publish(&mut bus, channel, "one");
        bus.say("a", &message);
        publish(&mut bus, channel, "two");
        let answer = succeeded(channel);
        assert_eq!(
            bus.heard("a"),
            [&answer, "one", &answer, "two"],
            "twice answered, once delivered"
        );
        bus.say(
            "a",
            &format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#),
        );
        publish(&mut bus, channel, "too late");
        assert!(bus.heard("a").is_empty());
    }
    bus.say("a", r#"{"event":"pusher:unsubscribe","data":"{\"channel\":\"nowhere\"}"}"#);
    assert!(bus.heard("a").is_empty());
    bus.shard.tick(bus.now);
    assert_eq!(bus.metrics.subscriptions.get(), 0);
}

#[test]
fn a_name_outside_the_rules_is_refused() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    let long = "x".repeat(165);
    for channel in ["", "a b", "a/b", "é", "#x", "#server-to-user-", "a\"b", &long] {
        bus.say(
            "a",
            &json!({"event": "pusher:subscribe", "data": {"channel": channel}}).to_string(),
        );
        assert_eq!(refused(&bus.heard("a"), channel), ("InvalidChannel".into(), 400));
    }
    assert_eq!(bus.metrics.tallies[Kind::Echo as usize][DialectTally::BadName as usize].get(), 8);
}

#[test]
fn without_a_good_signature_a_channel_is_refused_and_the_connection_kept() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    let data = r#"{"user_id":"7"}"#;
    let signed = |text: &str| sign(&format!("{socket}:{text}"));
    let good = signed("private-x");
    let member = signed(&format!("presence-x:{data}"));
    for (channel, auth, data) in [
        ("private-x", json!(null), json!(null)),
        ("private-x", json!(""), json!(null)),
        ("private-x", json!(&good[8..]), json!(null)),
        ("private-x", json!(good.to_uppercase()), json!(null)),
        ("private-x", json!(good.replace("app-key", "app-kex")), json!(null)),
        ("private-x", json!(signed("private-y")), json!(null)),
        ("private-x", json!(sign("9.9:private-x")), json!(null)),
        ("private-x", json!(good), json!("more than was signed")),
        ("private-encrypted-x", json!(good), json!(null)),
        ("private-cache-x", json!(good), json!(null)),
        ("presence-x", json!(signed("presence-x")), json!(null)),
        ("presence-x", json!(member), json!(null)),
        ("presence-x", json!(member), json!({"user_id": "7"})),
        ("presence-x", json!(member), json!(r#"{"user_id":"8"}"#)),
        ("presence-x", json!(signed("presence-x:{}")), json!("{}")),
        ("presence-x", json!(signed("presence-x:[]")), json!("[]")),
        ("presence-x", json!(signed("presence-x:")), json!("")),
        ("#server-to-user-7", json!(signed("#server-to-user-7")), json!(null)),
    ] {
        let data = json!({"channel": channel, "auth": auth, "channel_data": data});
        bus.say("a", &json!({"event": "pusher:subscribe", "data": data}).to_string());
        assert_eq!(refused(&bus.heard("a"), channel), ("AuthError".into(), 401), "{data}");
        publish(&mut bus, channel, "secret");
        assert!(bus.heard("a").is_empty());
    }
    assert_eq!(
        bus.metrics.tallies[Kind::Echo as usize][DialectTally::Unauthorized as usize].get(),
        18
    );
    let wrong_type = r#"{"event":"pusher:subscribe","data":{"channel":"private-x","auth":7}}"#;
    bus.say("a", wrong_type);
    assert!(bus.heard("a")[0].contains("4300"));
    bus.say("a", &subscription(&socket, "private-x", None));
    assert_eq!(bus.heard("a"), [succeeded("private-x")]);
}

#[test]
fn channels_beyond_the_limit_and_data_that_are_too_large_are_refused() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    let subscribe = |number: usize| json!({"event": "pusher:subscribe", "data": {"channel": format!("c{number}")}});
    for number in 0..100 {
        bus.say("a", &subscribe(number).to_string());
        assert_eq!(bus.heard("a"), [succeeded(&format!("c{number}"))]);
    }
    bus.say("a", &subscribe(100).to_string());
    assert_eq!(refused(&bus.heard("a"), "c100"), ("LimitReached".into(), 429));
    bus.say("a", &subscription(&socket, "presence-x", Some(r#"{"user_id":"7"}"#)));
    assert_eq!(refused(&bus.heard("a"), "presence-x"), ("LimitReached".into(), 429));
    bus.say("a", &subscribe(7).to_string());
    assert_eq!(bus.heard("a"), [succeeded("c7")], "one that it has fits");
    bus.say("a", r#"{"event":"pusher:unsubscribe","data":{"channel":"c7"}}"#);
    let large = format!(r#"{{"user_id":"7","user_info":"{}"}}"#, "x".repeat(994));
    assert_eq!(large.len(), 1024);
    for (data, is_over) in [(large.clone() + " ", true), ("x".repeat(20_000), true), (large, false)]
    {
        bus.say("a", &subscription(&socket, "presence-x", Some(&data)));
        let heard = bus.heard("a");
        if is_over {
            assert_eq!(refused(&heard, "presence-x"), ("LimitReached".into(), 413));
        } else {
            assert!(heard[0].contains("succeeded"));
        }
    }
    assert_eq!(bus.metrics.tallies[Kind::Echo as usize][DialectTally::OverLimit as usize].get(), 4);
}

#[test]
fn a_limit_of_nothing_is_none() {
    let mut bus = bus(|app| {
        (app.subscriptions_max, app.member_bytes_max, app.presence_members_max) = (0, 0, 0);
        (app.user_id_chars_max, app.client_events_per_s_max) = (0, 0);
    });
    let socket = come(&mut bus, "a");
    for number in 0..300 {
        let data =
            format!(r#"{{"user_id":"{}","user_info":"{}"}}"#, "7".repeat(500), "x".repeat(5000));
        bus.say("a", &subscription(&socket, &format!("presence-{number}"), Some(&data)));
        assert!(bus.heard("a")[0].contains("succeeded"));
    }
    for _ in 0..300 {
        bus.say("a", r#"{"event":"client-x","channel":"presence-1"}"#);
    }
    assert!(bus.heard("a").is_empty());
}

#[test]
fn a_new_secret_holds_for_later_signatures() {
    let mut bus = bus(|_| {});
    let socket = come(&mut bus, "a");
    bus.say("a", &subscription(&socket, "private-x", None));
    let mut after = settings(app_settings());
    after.echo.apps = vec![Arc::new(App::new(app_settings(), Secret("another".into())))];
    bus.shard.configure(Arc::new(after), Limits::default(), bus.now);
    bus.say("a", &subscription(&socket, "private-y", None));
    publish(&mut bus, "private-x", "still here");
    let heard = bus.heard("a");
    assert_eq!(heard[0], succeeded("private-x"));
    assert_eq!(refused(&heard[1..2], "private-y").0, "AuthError");
    assert_eq!(heard[2], "still here");
}

#[test]
fn subscribers_are_told_how_many_they_are() {
    let mut bus = bus(|app| (app.subscription_count, app.webhook) = (true, vec![webhook()]));
    let count = |count: u32| {
        format!(
            r#"{{"event":"pusher_internal:subscription_count","channel":"room","data":"{{\"subscription_count\":{count}}}"}}"#
        )
    };
    let subscribe = r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#;
    come(&mut bus, "a");
    come(&mut bus, "b");
    bus.say("a", subscribe);
    assert_eq!(bus.heard("a"), [succeeded("room"), count(1)]);
    bus.say("b", subscribe);
    assert_eq!(
        (bus.heard("a"), bus.heard("b")),
        (vec![count(2)], vec![succeeded("room"), count(2)])
    );
    bus.say("b", subscribe);
    assert_eq!((bus.heard("a"), bus.heard("b")), (vec![], vec![succeeded("room")]));
    bus.say("a", r#"{"event":"pusher:unsubscribe","data":{"channel":"room"}}"#);
    assert_eq!((bus.heard("a"), bus.heard("b")), (vec![], vec![count(1)]));
    let id = bus.clients["b"].id;
    bus.shard.lost(id, bus.now);
    bus.flush();
    assert_eq!(bus.heard("b"), ["gone"]);
    let told = told(&mut bus);
    assert_eq!(
        told,
        [
            r#"{"name":"channel_occupied","channel":"room"}"#,
            r#"{"name":"subscription_count","channel":"room","subscription_count":1}"#,
            r#"{"name":"subscription_count","channel":"room","subscription_count":2}"#,
            r#"{"name":"subscription_count","channel":"room","subscription_count":1}"#,
            r#"{"name":"channel_vacated","channel":"room"}"#,
        ]
    );
}

#[test]
fn a_large_channel_is_counted_every_five_seconds() {
    let mut bus = bus(|app| app.subscription_count = true);
    let subscribe = r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#;
    for number in 0..102 {
        let name = number.to_string();
        come(&mut bus, &name);
        bus.say(&name, subscribe);
    }
    assert_eq!(bus.heard("0").len(), 101, "the answer and a hundred counts");
    bus.wait(4);
    assert!(bus.heard("0").is_empty());
    bus.wait(2);
    let heard = bus.heard("0");
    assert!(heard.len() == 1 && heard[0].contains(r#"{\"subscription_count\":102}"#), "{heard:?}");
}

#[test]
fn apps_never_see_each_other() {
    let mut settings = settings(app_settings());
    let other = AppSettings { id: "app-id2".into(), key: "other".into(), ..AppSettings::default() };
    settings.echo.apps.push(Arc::new(App::new(other, Secret("app-secret".into()))));
    let mut bus = Bus::of(Settings { ..settings });
    come(&mut bus, "a");
    bus.connect("b", "/app/other", crate::HOST);
    bus.heard("b");
    for name in ["a", "b"] {
        bus.say(name, r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#);
        assert_eq!(bus.heard(name), [succeeded("room")]);
    }
    publish(&mut bus, "room", "one");
    assert_eq!((bus.heard("a"), bus.heard("b")), (vec!["one".into()], vec![]));
}

#[test]
fn a_daemon_without_room_for_subscriptions_leaves_no_count_behind() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    come(&mut bus, "a");
    come(&mut bus, "b");
    let limits = Limits { subscriptions_max: 1, ..Limits::default() };
    let all = AppSettings { webhook: vec![webhook()], ..app_settings() };
    bus.shard.configure(Arc::new(settings(all)), limits, bus.now);
    bus.say("a", r#"{"event":"pusher:subscribe","data":{"channel":"one"}}"#);
    bus.say("b", r#"{"event":"pusher:subscribe","data":{"channel":"two"}}"#);
    assert_eq!(bus.heard("a"), [succeeded("one")]);
    assert_eq!(bus.heard("b"), ["close 1013 too many subscriptions"]);
    let occupied =
        |channel: &str| format!(r#"{{"name":"channel_occupied","channel":"{channel}"}}"#);
    let vacated = r#"{"name":"channel_vacated","channel":"two"}"#.to_owned();
    assert_eq!(told(&mut bus), [occupied("one"), occupied("two"), vacated]);
}
