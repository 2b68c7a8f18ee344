//! Client events: to whom they go, as what, and which are refused.

use crate::conversation::Bus;
use crate::{bus, come, subscription, told, webhook};
use fanfare::dialect::{DialectTally, Kind};

/// Two clients in a private and a presence channel, and one in the private channel alone.
fn three(bus: &mut Bus) {
    for (name, user) in [("a", r#"{"user_id":7}"#), ("b", r#"{"user_id":8}"#)] {
        let socket = come(bus, name);
        bus.say(name, &subscription(&socket, "private-r", None));
        bus.say(name, &subscription(&socket, "presence-r", Some(user)));
        bus.say(name, r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#);
    }
    let socket = come(bus, "c");
    bus.say("c", &subscription(&socket, "private-r", None));
    ["a", "b", "c"].iter().for_each(|name| drop(bus.heard(name)));
    told(bus);
}

/// The code of an error that answers.
fn code(bus: &mut Bus, message: &str) -> u64 {
    bus.say("a", message);
    let heard = bus.heard("a");
    let [error] = &heard[..] else { panic!("{message}: {heard:?}") };
    assert!(error.starts_with(r#"{"event":"pusher:error","channel":""#), "{error}");
    assert!(bus.heard("b").is_empty());
    let error: serde_json::Value = serde_json::from_str(error).unwrap();
    let message: serde_json::Value = serde_json::from_str(message).unwrap();
    assert_eq!(error["channel"], message["channel"], "which it was for");
    error["data"]["code"].as_u64().unwrap()
}

#[test]
fn a_whisper_goes_to_the_others_as_it_was_written() {
    let mut bus = bus(|_| {});
    three(&mut bus);
    bus.say("a", r#"{"event":"client-typing","data":{"name":"Taro"},"channel":"private-r"}"#);
    let whisper = r#"{"event":"client-typing","channel":"private-r","data":{"name":"Taro"}}"#;
    for (name, expected) in
        [("a", vec![]), ("b", vec![whisper.to_owned()]), ("c", vec![whisper.to_owned()])]
    {
        assert_eq!(bus.heard(name), expected);
    }
    bus.say("a", r#"{"event":"client-typing","channel":"presence-r","data": { "a": "\u00e9", "n":1.50 } ,"user_id":"9"}"#);
    let whisper = r#"{"event":"client-typing","channel":"presence-r","data":{ "a": "\u00e9", "n":1.50 },"user_id":"7"}"#;
    assert_eq!((bus.heard("b"), bus.heard("c")), (vec![whisper.into()], vec![]));
    bus.say("b", r#"{"event":"client-x","channel":"presence-r"}"#);
    let whisper = r#"{"event":"client-x","channel":"presence-r","data":null,"user_id":"8"}"#;
    assert_eq!((bus.heard("a"), bus.heard("b")), (vec![whisper.into()], vec![]));
}

#[test]
fn a_whisper_is_refused_where_it_has_no_place() {
    let mut bus = bus(|_| {});
    three(&mut bus);
    for channel in
        ["room", "private-other", "presence-other", "#server-to-user-7", "no channel", ""]
    {
        let message = format!(r#"{{"event":"client-x","channel":"{channel}","data":{{}}}}"#);
        assert_eq!(code(&mut bus, &message), 4009, "{channel}");
    }
    let long_name = format!(r#"{{"event":"client-{}","channel":"private-r"}}"#, "x".repeat(194));
    assert_eq!(code(&mut bus, &long_name), 4301);
    let data = |length: usize| {
        format!(
            r#"{{"event":"client-x","channel":"private-r","data":"{}"}}"#,
            "\\u0041".repeat(length)
        )
    };
    assert_eq!(code(&mut bus, &data(10_241)), 4301);
    let longest_name = format!(r#"{{"event":"client-{}","channel":"private-r"}}"#, "é".repeat(193));
    bus.say("a", &longest_name);
    bus.say("a", &data(10_240));
    assert!(bus.heard("a").is_empty());
    assert_eq!(bus.heard("b").len(), 2, "the limits are of characters, and of decoded bytes");
    assert_eq!(
        bus.metrics.tallies[Kind::Echo as usize][DialectTally::ClientEvent as usize].get(),
        8
    );
    bus.say("a", r#"{"event":"client-x","channel":7}"#);
    assert!(bus.heard("a")[0].contains("4300"));
}

#[test]
fn the_eleventh_within_a_second_is_refused() {
    let mut bus = bus(|_| {});
    three(&mut bus);
    let whisper = r#"{"event":"client-x","channel":"private-r"}"#;
    (0..5).for_each(|_| bus.say("a", whisper));
    bus.now.monotonic_ns += 900_000_000;
    (0..5).for_each(|_| bus.say("a", whisper));
    assert!(bus.heard("a").is_empty());
    assert_eq!(bus.heard("b").len(), 10);
    assert_eq!(code(&mut bus, whisper), 4301);
    bus.now.monotonic_ns += 100_000_000;
    (0..5).for_each(|_| bus.say("a", whisper));
    assert!(bus.heard("a").is_empty(), "the first five are a second old");
    assert_eq!(bus.heard("b").len(), 5);
    assert_eq!(code(&mut bus, whisper), 4301);
    bus.say("b", whisper);
    assert!(bus.heard("b").is_empty(), "each has a count of its own");
}

#[test]
fn an_app_may_disallow_whispers() {
    let mut bus = bus(|app| app.client_events = false);
    three(&mut bus);
    assert_eq!(code(&mut bus, r#"{"event":"client-x","channel":"private-r"}"#), 4301);
}

#[test]
fn a_refused_whisper_names_its_channel() {
    let mut bus = bus(|app| app.client_events = false);
    three(&mut bus);
    bus.say("a", r#"{"event":"client-x","channel":"private-r"}"#);
    let error = r#"{"event":"pusher:error","channel":"private-r","data":{"code":4301,"message":"The app does not allow client events."}}"#;
    assert_eq!(bus.heard("a"), [error]);
}

#[test]
fn an_app_may_allow_whispers_on_public_channels() {
    let mut bus = bus(|app| app.public_client_events = true);
    three(&mut bus);
    bus.say("a", r#"{"event":"client-x","channel":"room","data":1}"#);
    let whisper = r#"{"event":"client-x","channel":"room","data":1}"#;
    for (name, expected) in [("a", vec![]), ("b", vec![whisper.to_owned()]), ("c", vec![])] {
        assert_eq!(bus.heard(name), expected);
    }
    for channel in ["other", "#server-to-user-7", "no channel"] {
        let message = format!(r#"{{"event":"client-x","channel":"{channel}"}}"#);
        assert_eq!(code(&mut bus, &message), 4009, "{channel}: only those who are in it");
    }
}

#[test]
fn webhooks_are_told_of_whispers() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    three(&mut bus);
    bus.say("a", r#"{"event":"client-x","channel":"presence-r","data":{"b": 1}}"#);
    bus.say("b", r#"{"event":"client-y","channel":"private-r","data":"z"}"#);
    bus.say("b", r#"{"event":"client-y","channel":"room","data":"z"}"#);
    assert_eq!(
        told(&mut bus),
        [
            r#"{"name":"client_event","channel":"presence-r","event":"client-x","data":{"b": 1},"socket_id":"0.1","user_id":"7"}"#,
            r#"{"name":"client_event","channel":"private-r","event":"client-y","data":"z","socket_id":"0.2"}"#,
        ]
    );
}
