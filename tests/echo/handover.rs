//! What another process takes over: who is in which channel, what is kept, and what becomes of those who do not come
//! along.

use super::*;
use fanfare::handover::NotAdopted;
use fanfare::metrics::Metrics;
use fanfare::shard::{Limits, Shard};
use std::sync::atomic::Ordering::Relaxed;

const CHANNEL: &str = "presence-r";

fn join(bus: &mut Bus, name: &str, user: &str) {
    let socket = come(bus, name);
    let member = format!(r#"{{"user_id":"{user}"}}"#);
    bus.say(name, &subscription(&socket, CHANNEL, Some(&member)));
    assert!(bus.heard(name)[0].contains("subscription_succeeded"));
}

fn enter(bus: &mut Bus, name: &str, channel: &str) -> Vec<String> {
    let data = serde_json::json!({"event": "pusher:subscribe", "data": {"channel": channel}});
    bus.say(name, &data.to_string());
    bus.heard(name)
}

fn connections(bus: &Bus) -> usize {
    bus.shard.settings().echo.apps[0].connections.load(Relaxed)
}

#[test]
fn no_one_leaves_and_no_one_comes_when_all_are_passed() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    for (name, user) in [("ann", "1"), ("bob", "2"), ("tab", "2")] {
        join(&mut bus, name, user);
        enter(&mut bus, name, "room");
    }
    ["ann", "bob", "tab"].iter().for_each(|name| drop(bus.heard(name)));
    told(&mut bus);
    assert!(bus.hand_over() && bus.hand_over());
    bus.flush();
    bus.nothing_is_left("a word");
    assert!(told(&mut bus).is_empty());
    assert_eq!(connections(&bus), 3);

    // The list of members is the same, with their data, for one who comes now.
    join(&mut bus, "cat", "3");
    assert_eq!(bus.heard("ann").len(), 1, "cat is added");
    publish(&mut bus, "room", "one");
    assert_eq!(bus.heard("ann"), ["one"]);
}

#[test]
fn those_who_are_left_behind_leave_their_channels() {
    let mut bus = bus(|app| (app.webhook, app.subscription_count) = (vec![webhook()], true));
    for (name, user) in [("ann", "1"), ("bob", "2"), ("tab", "2"), ("cat", "3")] {
        join(&mut bus, name, user);
    }
    enter(&mut bus, "ann", "room");
    enter(&mut bus, "cat", "room");
    enter(&mut bus, "cat", "alone");
    ["ann", "bob", "tab", "cat"].iter().for_each(|name| drop(bus.heard(name)));
    told(&mut bus);

    assert!(bus.hand_over_but(&["bob", "cat"]));
    bus.flush();
    let heard = bus.heard("ann");
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        heard.iter().any(|text| text.contains(r#"member_removed"#) && text.contains(r#"\"3\""#))
    );
    assert!(heard.iter().any(|text| text.contains(r#"{\"subscription_count\":1}"#)));
    let told = told(&mut bus);
    let has = |part: &str| told.iter().filter(|json| json.contains(part)).count();
    assert_eq!((told.len(), has("member_removed"), has("channel_vacated")), (3, 1, 1), "{told:?}");
    assert!(has(r#""channel":"alone""#) == 1 && has(r#""subscription_count":1"#) == 1, "{told:?}");

    // The user has another connection, and is gone with that.
    assert!(bus.hand_over_but(&["tab"]));
    bus.flush();
    assert!(bus.heard("ann")[0].contains(r#"\"2\""#));
    assert!(bus.hand_over_but(&["ann"]));
    assert!(bus.shard.is_idle(), "nothing is kept of channels without connections");
    assert_eq!(connections(&bus), 0);
}

#[test]
fn a_cache_channel_keeps_its_event_for_as_long_as_it_would_have_been_kept() {
    let mut bus = bus(|app| app.webhook = vec![webhook()]);
    let kept = publication("cache-c", "kept", EchoReach::All, 30, bus.now);
    bus.shard.deliver(&kept, bus.now);
    come(&mut bus, "a");
    bus.wait(20);
    bus.heard("a");
    assert!(bus.hand_over());
    assert_eq!(enter(&mut bus, "a", "cache-c")[1], "kept");
    bus.wait(10);
    bus.heard("a");
    come(&mut bus, "b");
    assert!(enter(&mut bus, "b", "cache-c")[1].contains("cache_miss"));
}

#[test]
fn limits_count_those_who_were_passed_and_hold_only_for_those_who_come() {
    let mut bus = bus(|app| app.max_connections = 2);
    come(&mut bus, "a");
    come(&mut bus, "b");
    assert!(bus.hand_over());
    bus.connect("c", PATH, HOST);
    assert!(bus.heard("c").iter().any(|text| text.starts_with("close 4004")));
}

#[test]
fn the_sessions_of_an_app_that_is_served_no_more_are_not_taken_over() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    let frozen = || bus.shard.freeze(bus.clients["a"].id).unwrap();
    let (first, second, third) = (frozen(), frozen(), frozen());
    let adopted = |settings: Settings, limits: Limits, frozen| {
        let metrics = Arc::new(Metrics::default());
        let mut shard = Shard::new(Arc::new(settings), limits, Arc::clone(&metrics), bus.now);
        let adopted = shard.adopt(frozen, bus.now).map(|_| ());
        let left = (shard.len(), metrics.connections.get(), metrics.sessions[KIND as usize].get());
        assert_eq!(left, if adopted.is_ok() { (1, 1, 1) } else { (0, 0, 0) });
        assert!(adopted.is_ok() || !shard.has_questions() && shard.take_new_refs().is_empty());
        adopted
    };
    let disabled = AppSettings { enabled: false, ..app_settings() };
    assert_eq!(adopted(settings(disabled), Limits::default(), first), Err(NotAdopted::Unusable));
    assert_eq!(adopted(Settings::default(), Limits::default(), second), Err(NotAdopted::Unusable));
    assert_eq!(adopted(settings(app_settings()), Limits::default(), third), Ok(()));
}

#[test]
fn a_session_without_room_for_its_subscriptions_leaves_nothing_behind() {
    let mut bus = bus(|_| {});
    come(&mut bus, "a");
    enter(&mut bus, "a", "one");
    enter(&mut bus, "a", "two");
    let frozen = bus.shard.freeze(bus.clients["a"].id).unwrap();
    let after = Arc::new(settings(app_settings()));
    let limits = Limits { subscriptions_max: 1, ..Limits::default() };
    let metrics = Arc::new(Metrics::default());
    let mut shard = Shard::new(Arc::clone(&after), limits, Arc::clone(&metrics), bus.now);
    assert_eq!(shard.adopt(frozen, bus.now), Err(NotAdopted::Full));
    shard.tick(Now { monotonic_ns: bus.now.monotonic_ns + 1_000_000_000, ..bus.now });
    assert!(shard.is_idle() && shard.is_settled());
    assert_eq!((metrics.subscriptions.get(), after.echo.apps[0].connections.load(Relaxed)), (0, 0));
}
