//! What the back end and other nodes say to a channel, and what they are told.

use super::*;
use fanfare::dialect::Kind;
use fanfare::service::webhook::Webhook;

use fanfare::dialect::channel::Relay;
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::service::webhook::CallbackSettings;
use std::sync::Arc;

/// The broadcast of what the back end says.
fn of_system(data: &str) -> String {
    format!(r#"{{"type":"message","sender":{{"name":"System","id":0}},"data":{data}}}"#)
}

#[test]
fn the_back_end_speaks_as_the_system_to_a_channel() {
    let mut bus = with(&["ann", "bob", "tweets"]);
    bus.feed(r#"channel {"channel":"chat:1","data":{"name":"A","message":"hi","x":1}}"#);
    for name in ["ann", "bob"] {
        assert_eq!(bus.heard(name), [of_system(r#"{"message":"hi","name":"A"}"#)]);
    }
    // For one user, and with keys that mean nothing; of those that are written twice the last counts.
    bus.feed(r#"channel {"type":"x","sender":{"id":9},"channel":"no","channel":"chat:1","data":{"message":1},"data":{"message":2,"target_user_id":2}}"#);
    assert_eq!(bus.heard("bob"), [of_system(r#"{"message":2}"#)]);
    bus.feed(r#"channel {"channel":"nobody is here","data":{}}"#);
    bus.nothing_is_left("the end");
    bus.feed("");
    assert_eq!(bus.replies, "{\"accepted\":3,\"rejected\":0}\n");
}

#[test]
fn what_cannot_be_told_to_a_channel_is_rejected_with_the_reason() {
    let deep =
        format!(r#"{{"channel":"c","data":{{"a":{}{}}}}}"#, "[".repeat(127), "]".repeat(127));
    for (json, reason) in [
        ("null", "not an object"),
        ("[]", "not an object"),
        ("{", "not valid JSON"),
        ("{}", "\\\"channel\\\" must be"),
        (r#"{"data":{}}"#, "\\\"channel\\\" must be"),
        (r#"{"channel":"","data":{}}"#, "\\\"channel\\\" must be"),
        (r#"{"channel":null,"data":{}}"#, "\\\"channel\\\" must be"),
        (r#"{"channel":1,"data":{}}"#, "\\\"channel\\\" must be"),
        (r#"{"channel":"a\u0000b","data":{}}"#, "\\\"channel\\\" must be"),
        (r#"{"channel":"chat:1"}"#, "\\\"data\\\" must be"),
        (r#"{"channel":"chat:1","data":null}"#, "\\\"data\\\" must be"),
        (r#"{"channel":"chat:1","data":[]}"#, "\\\"data\\\" must be"),
        (r#"{"channel":"chat:1","data":"{}"}"#, "\\\"data\\\" must be"),
        (&deep, "nested deeper than 128"),
    ] {
        let mut bus = with(&["ann"]);
        bus.feed(&format!("channel {json}"));
        assert!(
            bus.replies.contains(reason) && bus.replies.contains("\"line\":1"),
            "{json:.60}: {}",
            bus.replies
        );
        bus.nothing_is_left(json);
    }
    let mut bus = with(&["ann"]);
    bus.feed(r#"channel/chat:1 {"channel":"chat:1","data":{}}"#);
    assert!(bus.replies.contains("write channel alone"), "{}", bus.replies);
    let long = format!(r#"{{"channel":"c","data":{{"a":"{}"}}}}"#, "x".repeat(1024 * 1024));
    let refused = intake(|_| ()).take("channel", long.as_bytes(), bus.now, &mut drop).unwrap_err();
    assert!(refused.to_string().contains("at most 1048576 bytes"), "{refused}");
}

#[test]
fn data_may_be_nested_128_levels_deep() {
    let of_depth = |depth: usize| {
        let arrays = depth - 2;
        format!(
            r#"{{"channel":"progress:7","sender":{{}},"data":{{"info":{}{}}}}}"#,
            "[".repeat(arrays),
            "]".repeat(arrays)
        )
    };
    let mut intake = intake(|_| ());
    let now = fanfare::wheel::Now::default();
    for (depth, good) in [(127, true), (128, true), (129, false)] {
        assert_eq!(
            intake.take("channel", of_depth(depth).as_bytes(), now, &mut drop).is_ok(),
            good,
            "{depth} fed"
        );
        assert_eq!(
            intake.take_relay(Kind::Channel, of_depth(depth).as_bytes(), now).is_ok(),
            good,
            "{depth} relayed"
        );
    }
}

/// A channel's name is of any length and kind to the back end, for a token's are too.
#[test]
fn a_channel_that_nobody_can_have_is_no_mistake() {
    let mut bus = with(&["ann"]);
    bus.feed(&format!(r#"channel {{"channel":"{}","data":{{}}}}"#, "x".repeat(100_000)));
    assert_eq!(bus.replies, "");
}

fn intake(change: impl FnOnce(&mut channel::ChannelSettings)) -> Intake {
    let mut settings = Settings::default();
    change(&mut settings.channel);
    Intake::new(vec![Kind::Channel], Arc::new(settings))
}

fn relayed(json: &str) -> Result<Option<Publication>, String> {
    let taken =
        intake(|_| ()).take_relay(Kind::Channel, json.as_bytes(), fanfare::wheel::Now::default());
    taken.map_err(|rejection| rejection.to_string())
}

#[test]
fn what_clients_say_is_told_to_other_nodes_which_shape_and_deliver_it() {
    let mut here = bus(|channel| channel.relay = Relay::Redis);
    join(&mut here, "ann", "ann");
    here.say(
        "ann",
        r#"{"data":{"name":"A", "message":12345678901234567890123 ,"target_user_id":2}}"#,
    );
    here.say("ann", "{}");
    here.feed(r#"channel {"channel":"chat:1","data":{}}"#);
    let relays = std::mem::take(&mut here.relays);
    let expected = r#"{"channel":"chat:1","sender":{"name":"Ann","id":1},"data":{"name":"A", "message":12345678901234567890123 ,"target_user_id":2}}"#;
    assert_eq!(relays, [Box::<str>::from(expected)]);
    // The other node adds and removes the name of the node at the beginning.
    for text in [&*relays[0], &relays[0].replacen('{', r#"{"node":"5f0c","#, 1)] {
        let mut there = with(&["ann", "bob"]);
        let publication =
            there.intake.take_relay(Kind::Channel, text.as_bytes(), there.now).unwrap().unwrap();
        there.shard.deliver(&Arc::new(publication), there.now);
        there.flush();
        assert_eq!(
            there.heard("bob"),
            [of_ann(r#"{"message":12345678901234567890123,"name":"A"}"#)]
        );
        assert!(there.heard("ann").is_empty() && there.relays.is_empty());
    }
}

#[test]
fn nothing_is_relayed_unless_it_is_asked_for() {
    let mut bus = with(&["ann"]);
    bus.say("ann", r#"{"data":{}}"#);
    assert!(bus.relays.is_empty() && bus.webhooks.is_empty());
    assert!(intake(|_| ()).take_relay(Kind::Channel, b"{", bus.now).is_err());
    let no_listener = Intake::new(vec![], Arc::default()).take_relay(
        Kind::Channel,
        br#"{"channel":"c","sender":{},"data":{}}"#,
        bus.now,
    );
    assert!(no_listener.unwrap().is_none());
}

#[test]
fn what_no_node_has_relayed_is_refused() {
    assert!(relayed(r#"{"channel":"c","sender":{},"data":{}}"#).unwrap().is_some());
    let deep = format!(
        r#"{{"channel":"c","sender":{{}},"data":{{"a":{}{}}}}}"#,
        "[".repeat(127),
        "]".repeat(127)
    );
    for (json, reason) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "\"channel\" must be"),
        (r#"{"channel":"c","data":{}}"#, "\"sender\" must be"),
        (r#"{"channel":"c","sender":null,"data":{}}"#, "\"sender\" must be"),
        (r#"{"channel":"c","sender":[],"data":{}}"#, "\"sender\" must be"),
        (r#"{"channel":"c","sender":{},"data":1}"#, "\"data\" must be"),
        (r#"{"channel":"","sender":{},"data":{}}"#, "\"channel\" must be"),
        (&deep, "nested deeper than 128"),
    ] {
        let refused = relayed(json).unwrap_err();
        assert!(refused.contains(reason), "{json:.60}: {refused}");
    }
    let long =
        format!(r#"{{"channel":"c","sender":{{}},"data":{{"a":"{}"}}}}"#, "x".repeat(1_200_000));
    assert!(relayed(&long).unwrap_err().contains("at most 1114112 bytes"));
    let bytes = intake(|_| ()).take_relay(
        Kind::Channel,
        b"{\"channel\":\"\xFF\"}",
        fanfare::wheel::Now::default(),
    );
    assert!(bytes.unwrap_err().to_string().contains("not UTF-8"));
}

/// A callback for these kinds.
fn callback(kinds: &[&str]) -> CallbackSettings {
    toml::from_str(&format!("url = 'http://127.0.0.1/api/chat'\nkinds = {kinds:?}")).unwrap()
}

#[test]
fn the_callback_is_told_what_clients_say_with_their_token_and_before_shaping() {
    let mut bus = bus(|channel| channel.callback = Some(callback(&["chat"])));
    for name in ["ann", "bob", "tweets"] {
        join(&mut bus, name, name);
    }
    bus.say("ann", r#"{"data":{"message":"hi","name":"Ann","target_user_id":2}}"#);
    bus.say("tweets", r#"{"data":{"tweet":{}}}"#);
    bus.say("ann", "{}");
    bus.feed(r#"channel {"channel":"chat:1","data":{}}"#);
    bus.say("bob", r#"{"data":{ "a" : 1e999 }}"#);
    let told: Vec<_> = std::mem::take(&mut bus.webhooks)
        .into_iter()
        .map(|webhook| match webhook {
            Webhook::Callback(callback) => callback,
            other => panic!("what is {other:?}?"),
        })
        .collect();
    let told: Vec<_> =
        told.iter().map(|call| (&*call.channel, &*call.token, &*call.body)).collect();
    assert_eq!(
        told,
        [
            (
                "chat:1",
                "ann",
                r#"{"channel":"chat:1","sender":{"name":"Ann","id":1},"data":{"message":"hi","name":"Ann","target_user_id":2}}"#
            ),
            (
                "chat:1",
                "bob",
                r#"{"channel":"chat:1","sender":{"name":"Bob","id":2},"data":{ "a" : 1e999 }}"#
            ),
        ]
    );
    // The broadcast did not wait.
    assert_eq!(bus.heard("bob").len(), 4);
}

#[test]
fn a_token_is_kept_for_the_callback_only() {
    let token = "t".repeat(10_000);
    let list = format!("[[token]]\ntoken = {token:?}\nchannel = \"tweet:\"\n");
    let mut bus = bus(|channel| {
        channel.verifier = Some(verifier(&list));
        channel.callback = Some(callback(&["chat"]));
    });
    join(&mut bus, "a", &token);
    // A reload after which the kind is wanted has no token to send.
    let callback = Some(callback(&["tweet"]));
    let settings = channel::ChannelSettings {
        verifier: Some(verifier(&list)),
        callback,
        ..Default::default()
    };
    let settings = Settings { channel: settings, ..Settings::default() };
    bus.shard.configure(Arc::new(settings), fanfare::shard::Limits::default(), bus.now);
    bus.say("a", r#"{"data":{}}"#);
    assert_eq!((bus.heard("a").len(), bus.webhooks.len()), (2, 0));
    join(&mut bus, "b", &token);
    bus.say("b", r#"{"data":{}}"#);
    assert_eq!(bus.webhooks.len(), 1);
    assert!(!format!("{:?}", bus.webhooks).contains("ttt"));
}

#[test]
fn a_reload_changes_shapes_for_what_is_said_and_fed_from_then_on() {
    let mut bus = with(&["ann"]);
    let shape = [("chat".to_owned(), vec!["text".to_owned()])].into();
    let settings =
        channel::ChannelSettings { verifier: Some(verifier(TOKENS)), shape, ..Default::default() };
    let settings = Arc::new(Settings { channel: settings, ..Settings::default() });
    bus.shard.configure(Arc::clone(&settings), fanfare::shard::Limits::default(), bus.now);
    bus.intake.configure(&settings);
    bus.say("ann", r#"{"data":{"text":1,"message":2}}"#);
    bus.feed(r#"channel {"channel":"chat:1","data":{"text":1,"message":2}}"#);
    assert_eq!(
        bus.heard("ann"),
        [OK.to_owned(), of_ann(r#"{"text":1}"#), of_system(r#"{"text":1}"#)]
    );
}
