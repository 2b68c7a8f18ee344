//! Cache channels: the last event is for whoever comes later.

use crate::conversation::Bus;
use crate::{app_settings, bus, come, publication, publish, settings, subscription, told, webhook};
use fanfare::dialect::Settings;
use fanfare::dialect::echo::{AppSettings, EchoReach, SocketId};
use fanfare::shard::Limits;
use std::sync::Arc;

fn subscribe(bus: &mut Bus, name: &str, channel: &str) -> Vec<String> {
    bus.say(name, &format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#));
    bus.heard(name)
}

fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}

fn keep(bus: &mut Bus, channel: &str, data: &str, reach: EchoReach) {
    let publication = publication(channel, data, reach, 1800, bus.now);
    bus.shard.deliver(&publication, bus.now);
    bus.flush();
}

#[test]
fn the_last_event_follows_the_answer_for_as_long_as_it_is_kept() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    let socket = come(&mut bus, "a");
    let miss = r#"{"event":"pusher:cache_miss","channel":"cache-c"}"#;
    assert_eq!(subscribe(&mut bus, "a", "cache-c"), [&succeeded("cache-c"), miss]);
    assert_eq!(
        told(&mut bus),
        [
            r#"{"name":"channel_occupied","channel":"cache-c"}"#,
            r#"{"name":"cache_miss","channel":"cache-c"}"#
        ]
    );
    keep(&mut bus, "cache-c", "one", EchoReach::All);
    keep(&mut bus, "cache-c", "two", EchoReach::All);
    publish(&mut bus, "cache-c", "not kept");
    assert_eq!(bus.heard("a"), ["one", "two", "not kept"]);
    come(&mut bus, "b");
    assert_eq!(subscribe(&mut bus, "b", "cache-c"), [&succeeded("cache-c"), "two"]);
    assert_eq!(
        subscribe(&mut bus, "a", "cache-c"),
        [&succeeded("cache-c"), "two"],
        "whoever asks again"
    );
    keep(&mut bus, "private-cache-c", "three", EchoReach::All);
    bus.say("a", &subscription(&socket, "private-cache-c", None));
    assert_eq!(
        bus.heard("a"),
        [&succeeded("private-cache-c"), "three"],
        "also while it was vacant"
    );
    keep(&mut bus, "presence-cache-c", "four", EchoReach::All);
    bus.say("a", &subscription(&socket, "presence-cache-c", Some(r#"{"user_id":"7"}"#)));
    let heard = bus.heard("a");
    assert!(heard.len() == 2 && heard[0].contains("succeeded") && heard[1] == "four", "{heard:?}");
    bus.now.monotonic_ns += 1_800_000_000_000;
    assert_eq!(subscribe(&mut bus, "b", "cache-c"), [&succeeded("cache-c"), miss]);
}

#[test]
fn webhooks_are_told_once_of_a_channel_that_has_nothing_until_it_is_filled() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    // Misses are forgotten with the process: told again rather than never.
    bus.hands_over = false;
    let missed =
        |bus: &mut Bus| told(bus).iter().filter(|json| json.contains("cache_miss")).count();
    for name in ["a", "b", "c"] {
        let socket = come(&mut bus, name);
        assert!(
            subscribe(&mut bus, name, "cache-c")[1].contains("cache_miss"),
            "each client is told"
        );
        bus.say(name, &subscription(&socket, "presence-cache-c", Some(r#"{"user_id":"7"}"#)));
        assert!(bus.heard(name)[1].contains("cache_miss"));
    }
    assert_eq!(missed(&mut bus), 2, "once of each channel");
    for name in ["a", "b", "c"] {
        bus.say(name, r#"{"event":"pusher:unsubscribe","data":{"channel":"cache-c"}}"#);
    }
    subscribe(&mut bus, "a", "cache-c");
    assert_eq!(missed(&mut bus), 0, "also when all have gone and somebody comes again");
    keep(&mut bus, "cache-c", "one", EchoReach::All);
    bus.heard("a");
    assert_eq!(subscribe(&mut bus, "a", "cache-c")[1], "one");
    assert_eq!(missed(&mut bus), 0);
    bus.now.monotonic_ns += 1_800_000_000_000;
    for name in ["a", "b"] {
        assert!(subscribe(&mut bus, name, "cache-c")[1].contains("cache_miss"));
    }
    assert_eq!(missed(&mut bus), 1, "its time is over, and it wants to be filled again");
}

#[test]
fn a_sender_that_is_left_out_does_not_keep_its_event_out() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    come(&mut bus, "b");
    subscribe(&mut bus, "a", "cache-c");
    keep(&mut bus, "cache-c", "one", EchoReach::AllBut(SocketId(1)));
    assert!(bus.heard("a").is_empty());
    assert_eq!(subscribe(&mut bus, "b", "cache-c"), [&succeeded("cache-c"), "one"]);
}

#[test]
fn client_events_and_changes_of_members_are_not_kept() {
    let mut bus = bus(|_| {});
    for (name, user) in [("a", r#"{"user_id":"7"}"#), ("b", r#"{"user_id":"8"}"#)] {
        let socket = come(&mut bus, name);
        bus.say(name, &subscription(&socket, "presence-cache-c", Some(user)));
        bus.say(name, r#"{"event":"client-x","channel":"presence-cache-c"}"#);
        assert!(bus.heard(name)[1].contains("pusher:cache_miss"));
    }
}

#[test]
fn an_app_keeps_as_many_as_it_may_and_the_oldest_go_first() {
    let mut bus = bus(|app| app.cache_entries_max = 2);
    ["cache-1", "cache-2", "cache-3"]
        .iter()
        .for_each(|channel| keep(&mut bus, channel, "x", EchoReach::All));
    come(&mut bus, "a");
    for (channel, is_kept) in [("cache-1", false), ("cache-2", true), ("cache-3", true)] {
        assert_eq!(subscribe(&mut bus, "a", channel)[1] == "x", is_kept, "{channel}");
    }
}

#[test]
fn a_reload_holds_for_what_was_kept_before_it() {
    let mut bus = bus(|_| {});
    let reload = |bus: &mut Bus, settings| {
        bus.shard.configure(Arc::new(settings), Limits::default(), bus.now);
        bus.flush();
    };
    ["cache-1", "cache-2", "cache-3"]
        .iter()
        .for_each(|channel| keep(&mut bus, channel, "x", EchoReach::All));
    come(&mut bus, "a");
    reload(&mut bus, settings(AppSettings { cache_entries_max: 1, ..app_settings() }));
    for (channel, is_kept) in [("cache-1", false), ("cache-2", false), ("cache-3", true)] {
        assert_eq!(subscribe(&mut bus, "a", channel)[1] == "x", is_kept, "{channel}");
    }
    reload(&mut bus, Settings::default());
    keep(&mut bus, "cache-1", "late", EchoReach::All);
    reload(&mut bus, settings(app_settings()));
    come(&mut bus, "b");
    for channel in ["cache-1", "cache-3"] {
        assert!(subscribe(&mut bus, "b", channel)[1].contains("cache_miss"), "{channel}");
    }
}
