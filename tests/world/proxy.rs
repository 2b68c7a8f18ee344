//! A real nginx or HAProxy in front, which cuts a connection that has carried nothing for a while.

use crate::harness::{Client, Daemon, Haproxy, Nginx, Setup, head, http, placed, shown, token};
use std::net::SocketAddr;

/// A daemon that speaks what proxies have cut, with pings as long before an nginx's patience of 3 s as the defaults are
/// before its default of 60, or nearer.
fn setup(interval_s: u32) -> Setup {
    Setup::new()
        .set("listen.0.dialects", r#"["personium-event", "personium-topic", "echo", "wazo"]"#)
        .set("personium.ping_interval_s", interval_s)
        .set("wazo.ping_interval_s", interval_s)
        .set("wazo.anonymous", true)
        .set("echo.app.0.id", "7")
        .set("echo.app.0.key", "app-key")
        .set("echo.app.0.secret", "app-secret")
        .set("echo.app.0.activity_timeout_s", interval_s)
}

const PATIENCE: &str = "proxy_read_timeout 3s;";

/// Sessions of each kind that say nothing are still there after two pings.
fn assert_stays(daemon: &Daemon, proxy: SocketAddr) {
    let mut clients: Vec<(&str, Client)> = [
        ("waits for its token", "/demo/__event"),
        ("follows events", "/demo/__event"),
        ("follows a topic", "/demo/__topic/box/stream.topic.name"),
        ("is in an app", "/app/app-key"),
        ("is on the bus", "/?token=any"),
    ]
    .map(|(who, path)| (who, Client::upgraded(proxy, path)))
    .into();
    clients[1].1.follow_with(&token());
    // Two signs of life after another are further apart than the proxy would wait for a first.
    for _ in 0..2 {
        for (who, client) in &mut clients {
            loop {
                let frame = client.next().unwrap_or_else(|| panic!("who {who} was cut"));
                match frame.first {
                    0x89 => {
                        client.frame(0x8A, &frame.payload);
                        break;
                    }
                    0x81 if frame.payload.starts_with(br#"{"event":"pusher:ping""#) => {
                        client.say(r#"{"event":"pusher:pong"}"#);
                        break;
                    }
                    0x81 => {}
                    _ => panic!("who {who} got {frame:?}"),
                }
            }
        }
    }
    assert_eq!(daemon.metric("connections"), clients.len() as u64);
}

#[test]
fn idle_sessions_stay_through_an_nginx_that_cuts_silent_ones() {
    let daemon = setup(2).start();
    let Some(nginx) = Nginx::before(daemon.address, PATIENCE) else { return };
    assert_stays(&daemon, nginx.address);
}

/// With pings as long before the end of its tunnel, and other patience that no ping would be in time for.
#[test]
fn idle_sessions_stay_through_the_haproxy_of_the_manual() {
    let daemon = setup(2).start();
    let [_, checked] = &shown("proxies", "haproxy")[..] else { panic!("the page has two") };
    let places = [
        ("10.0.0.1:8080", daemon.address.to_string()),
        ("10.0.0.2:8080", daemon.address.to_string()),
        ("port 9500", format!("port {}", daemon.admin.port())),
        ("timeout client 1m", "timeout client 1s".to_owned()),
        ("timeout server 1m", "timeout server 1s".to_owned()),
        ("timeout tunnel 1h", "timeout tunnel 3s".to_owned()),
    ];
    let Some(haproxy) = Haproxy::of(&placed(checked, &places)) else { return };
    // The other frontend is for a dialect that is not spoken here.
    assert_stays(&daemon, haproxy.addresses[1]);
}

#[test]
fn without_a_ping_in_time_the_same_nginx_cuts() {
    let daemon = setup(3600).start();
    let Some(nginx) = Nginx::before(daemon.address, PATIENCE) else { return };
    let mut client = Client::upgraded(nginx.address, "/demo/__event");
    assert_eq!(client.next(), None);
}

#[test]
fn an_nginx_that_passes_no_upgrade_on_is_told_what_it_needs() {
    let daemon = setup(60).start();
    for (lines, needs) in [
        ("proxy_http_version 1.0;", "proxy_http_version 1.1"),
        ("proxy_http_version 1.1;", "Upgrade $http_upgrade"),
    ] {
        let Some(nginx) = Nginx::with(daemon.address, lines) else { return };
        for path in ["/demo/__event", "/app/app-key", "/?token=any"] {
            let request = head(path).replace("Connection: Upgrade", "Connection: Upgrade, close");
            let (status, text) = http(nginx.address, request.as_bytes());
            assert!(status == 426 && text.contains(needs), "{lines} {path}: {status} {text}");
        }
    }
}
