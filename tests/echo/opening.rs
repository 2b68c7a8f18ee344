//! Who is let in, what the others are told, and how many may come.

use crate::conversation::Bus;
use crate::{HOST, PATH, SECRET, app_settings, bus, settings};
use fanfare::dialect::echo::{App, AppSettings, EchoSettings};
use fanfare::dialect::{Kind, Settings};
use fanfare::setting::Secret;
use fanfare::shard::Limits;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a client hears that comes at a path.
fn heard(bus: &mut Bus, path: &str) -> Vec<String> {
    bus.connect("visitor", path, HOST);
    bus.heard("visitor")
}

/// What a client hears that is sent away.
fn sent_away(code: u16, message: &str) -> Vec<String> {
    let error =
        format!(r#"{{"event":"pusher:error","data":{{"code":{code},"message":"{message}"}}}}"#);
    vec!["101".into(), error, format!("close {code} {message}")]
}

fn is_let_in(heard: &[String]) -> bool {
    heard.len() == 2 && heard[1].starts_with(r#"{"event":"pusher:connection_established","data":""#)
}

#[test]
fn whoever_comes_is_told_its_socket_id_first() {
    let bus = bus(|_| {});
    let mut bus =
        Bus { shard: bus.shard.drawing(Box::new(|| 1394211398 << 32 | 659967799)), ..bus };
    let established = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1394211398.659967799\",\"activity_timeout\":30}"}"#;
    assert_eq!(heard(&mut bus, PATH), ["101", established]);
}

#[test]
fn versions_five_to_seven_and_none_are_served() {
    for query in
        ["", "?protocol=7", "?protocol=6", "?client=js&protocol=5", "?x=%00&protocol=7&protocol=9"]
    {
        assert!(is_let_in(&heard(&mut bus(|_| {}), &format!("/app/app-key{query}"))), "{query}");
    }
    for version in ["4", "8", "", "07", "7.0", "x"] {
        let path = format!("/app/app-key?protocol={version}");
        let expected = sent_away(4007, "Unsupported protocol version.");
        assert_eq!(heard(&mut bus(|_| {}), &path), expected, "{version}");
    }
}

#[test]
fn an_unknown_app_and_a_disabled_one_are_told_twice() {
    let expected = sent_away(4001, "App key other does not exist.");
    assert_eq!(heard(&mut bus(|_| {}), "/app/other?protocol=9"), expected);
    let mut strange = bus(|_| {});
    let heard_of_it = heard(&mut strange, "/app/a\"b");
    assert_eq!(
        heard_of_it[1],
        r#"{"event":"pusher:error","data":{"code":4001,"message":"App key a\"b does not exist."}}"#
    );
    assert_eq!(heard_of_it[2], "close 4001 App key a\"b does not exist.");
    let long = heard(&mut strange, &format!("/app/{}", "é".repeat(500)));
    assert_eq!(long[2].len(), "close 4001 ".len() + 122, "as much of it as a close frame holds");
    let disabled = &mut bus(|app| app.enabled = false);
    assert_eq!(heard(disabled, PATH), sent_away(4003, "The app is not enabled."));
}

#[test]
fn other_paths_are_not_this_dialects() {
    for path in [
        "/",
        "/app",
        "/app/",
        "/app/app-key/",
        "/app/app-key/x",
        "/apps/app-key",
        "/ws/app/app-key",
    ] {
        assert_eq!(heard(&mut bus(|_| {}), path), ["gone"], "{path}");
    }
    let mut settings = settings(app_settings());
    settings.echo.path = "/ws".into();
    let mut bus = Bus::of(settings);
    assert!(is_let_in(&heard(&mut bus, "/ws/app/app-key")));
    assert_eq!(heard(&mut bus, "/app/app-key"), ["gone"]);
    assert_eq!(Kind::Echo.plain("GET", "/app/app-key"), 426);
}

#[test]
fn pages_of_other_origins_are_sent_away() {
    let mut bus =
        bus(|app| app.allowed_origins = vec!["example.com".into(), "*.example.org".into()]);
    for (origin, expected) in [
        (Some("https://example.com".as_bytes()), true),
        (Some(b"http://example.com:8080"), true),
        (Some(b"https://a.example.org"), true),
        (Some(b"https://example.net"), false),
        (Some(b"https://example.com\xff"), false),
        (Some(b"null"), false),
        (Some(b""), false),
        (None, false),
    ] {
        bus.origin = origin;
        let heard = heard(&mut bus, PATH);
        assert_eq!(is_let_in(&heard), expected, "{origin:?}");
        assert!(expected || heard == sent_away(4009, "Origin not allowed."));
    }
}

#[test]
fn the_connections_of_an_app_are_limited_and_a_place_is_free_again() {
    let mut bus = bus(|app| app.max_connections = 2);
    bus.connect("a", PATH, HOST);
    bus.connect("b", PATH, HOST);
    assert_eq!(heard(&mut bus, PATH), sent_away(4004, "Over connection limit."));
    assert_eq!(heard(&mut bus, "/app/other").len(), 3, "who is sent away takes no place");
    let id = bus.clients["a"].id;
    bus.shard.lost(id, bus.now);
    bus.flush();
    bus.clients.remove("a");
    assert!(is_let_in(&heard(&mut bus, PATH)));
    assert_eq!(heard(&mut bus, PATH), sent_away(4004, "Over connection limit."));
}

#[test]
fn after_a_reload_each_stays_whose_app_is_still_served() {
    let other = |app: AppSettings| Arc::new(App::new(app, Secret(SECRET.into())));
    let named =
        |id: &str| AppSettings { id: id.into(), key: format!("{id}-key"), ..app_settings() };
    let all = |apps: Vec<Arc<App>>| {
        let echo = EchoSettings { apps, ..EchoSettings::default() };
        Arc::new(Settings { echo, ..Settings::default() })
    };
    let before = all(["stays", "disabled", "removed"].map(|id| other(named(id))).into());
    let mut bus = Bus::of(Settings::default());
    bus.shard.configure(Arc::clone(&before), Limits::default(), bus.now);
    for id in ["stays", "disabled", "removed"] {
        bus.connect(id, &format!("/app/{id}-key"), HOST);
        assert!(is_let_in(&bus.heard(id)));
    }
    let after = all(vec![
        other(named("stays")),
        other(AppSettings { enabled: false, ..named("disabled") }),
    ]);
    bus.shard.configure(Arc::clone(&after), Limits::default(), bus.now);
    bus.flush();
    for id in ["disabled", "removed"] {
        assert_eq!(bus.heard(id), sent_away(4003, "The app is not enabled.")[1..]);
    }
    let count = |settings: &Settings| -> Vec<usize> {
        settings.echo.apps.iter().map(|app| app.connections.load(Relaxed)).collect()
    };
    assert_eq!((count(&before), count(&after)), (vec![0, 0, 0], vec![1, 0]));
    bus.say("stays", r#"{"event":"pusher:ping"}"#);
    assert_eq!(bus.heard("stays"), [r#"{"event":"pusher:pong","data":"{}"}"#]);
}
