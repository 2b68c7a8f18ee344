//! Health and readiness beside whatever else comes to the admin listener, and for each dialect.

use crate::harness::{Client, Daemon, Haproxy, PATH, Setup, eventually, head, placed, shown};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whether health is told at once. The machine may be busy with other tests, so it is asked a few times.
fn is_prompt(mut ask: impl FnMut()) -> bool {
    (0..10).any(|_| {
        let start = Instant::now();
        ask();
        start.elapsed() < Duration::from_millis(100)
    })
}

#[test]
fn health_is_told_at_once_beside_any_number_of_requests_that_are_never_finished() {
    let daemon = Setup::new().set("log.level", "debug").start();
    let mut idle = Vec::new();
    let mut slowest = Duration::ZERO;
    for place in 0..300 {
        let mut client = Client::raw(daemon.admin);
        client.bytes(if place % 2 == 0 { b"GET /healthz HTTP/1.1\r\nHost: x\r\n" } else { b"" });
        idle.push(client);
        if place >= 60 && place % 20 == 0 {
            let start = Instant::now();
            assert_eq!(daemon.page("/healthz").0, 200);
            slowest = slowest.max(start.elapsed());
        }
    }
    // Not 4.7 s, whatever the machine does.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(is_prompt(|| assert_eq!(daemon.page("/healthz").0, 200)));
    assert!(daemon.metric("admin_displaced_total") >= 200);
    // The newest are still served, and those who say nothing more are told so.
    let mut newest = idle.pop().unwrap();
    newest.bytes(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(newest.response().0, 200);
    assert_eq!(idle.pop().unwrap().response().0, 408);
}

#[test]
fn health_is_told_at_once_beside_many_who_ask_for_metrics() {
    let daemon = Setup::new().start();
    let mut clients: Vec<Client> = (0..50).map(|_| Client::raw(daemon.admin)).collect();
    for client in &mut clients {
        client.bytes(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert!(is_prompt(|| assert_eq!(daemon.page("/healthz").0, 200)));
    for client in &mut clients {
        let (status, page) = client.response();
        assert!(status == 200 && page.contains("fanfare_connections "));
    }
}

#[test]
fn health_is_told_while_clients_have_all_connections_and_descriptors() {
    let limited = ["sh", "-c", "ulimit -n 200 && exec \"$@\"", "sh"];
    let daemon = Setup::new().by(&limited).start();
    let clients: Vec<Client> = (0..250).map(|_| Client::raw(daemon.address)).collect();
    eventually("some are turned away", || daemon.metric("handshakes_total{outcome=\"shed\"}") > 0);
    let admin: Vec<Client> = (0..100).map(|_| Client::raw(daemon.admin)).collect();
    assert!(is_prompt(|| assert_eq!(daemon.page("/healthz").0, 200)));
    assert_eq!(daemon.metric("accept_errors_total"), 0);
    drop((clients, admin));
}

/// Of two dialects, with a feed of one of them that is away.
fn half_fed() -> Daemon {
    let setup = Setup::new();
    let fed = "dialects = [\"personium-event\", \"channel\"]";
    let text = std::fs::read_to_string(setup.path("fanfare.toml")).unwrap();
    let secret = setup.path("jwt.secret").display().to_string();
    let text = text.replace("dialects = [\"personium-event\"]", fed)
        + &format!("[channel.token.jwt]\nalgorithms = [\"HS256\"]\nsecret_file = {secret:?}\n");
    std::fs::write(setup.path("fanfare.toml"), text).unwrap();
    // Nobody listens there.
    setup.set("feed.redis.url", "redis://127.0.0.1:1").start()
}

#[test]
fn a_feed_that_is_away_concerns_the_dialects_that_it_feeds() {
    let daemon = half_fed();
    let (status, page) = daemon.page("/readyz");
    assert!(
        status == 200 && page.contains("ready\nbut not channel: no events from Redis"),
        "{status} {page}"
    );
    assert_eq!(daemon.page("/readyz?dialect=personium-event").0, 200);
    let (status, page) = daemon.page("/readyz?dialect=channel");
    assert!(status == 503 && page.contains("no events from Redis"), "{status} {page}");
    assert_eq!(daemon.page("/readyz?dialect=personium-event&dialect=channel").0, 503);
    let (status, page) = daemon.page("/readyz?dialect=wazo");
    assert!(status == 404 && page.contains("personium-event, channel"), "{status} {page}");
    assert_eq!(daemon.page("/healthz").0, 200);
}

#[test]
fn haproxy_takes_out_the_dialect_that_is_not_ready_and_leaves_the_other() {
    let daemon = half_fed();
    let [_, checked] = &shown("proxies", "haproxy")[..] else { panic!("the page has two") };
    let configuration = placed(
        checked,
        &[
            ("10.0.0.1:8080", daemon.address.to_string()),
            ("10.0.0.2:8080", daemon.address.to_string()),
            (
                "port 9500 inter 2s fall 2",
                format!("port {} inter 100ms fall 1", daemon.admin.port()),
            ),
        ],
    );
    let Some(haproxy) = Haproxy::of(&configuration) else { return };
    let [channel, personium] = haproxy.addresses[..] else { panic!("it has two frontends") };
    let come = |address: SocketAddr| {
        let mut client = Client::raw(address);
        client.bytes(head(PATH).as_bytes());
        client.answer()
    };
    // Nobody is there to be asked for channel, whatever the request; for the other there is.
    eventually("the one is out", || come(channel) == 503);
    eventually("the other is in", || come(personium) == 101);
}
