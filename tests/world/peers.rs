//! Where clients are: how many connections an address may have, and what proxies say of the clients behind them. The
//! proxies are a real nginx and a real HAProxy.

use crate::harness::{
    Authority, Client, Daemon, Haproxy, Nginx, PATH, Setup, event, eventually, head, placed, shown,
};
use std::net::{Ipv4Addr, SocketAddr};

const LIMITED: &str = "handshakes_total{outcome=\"limit\"}";
const APPENDS: &str = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";

/// An address of loopback that is no proxy's.
fn own(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// The status of a handshake from an address, with more lines of the head; the client, so that it stays.
fn come(from: Ipv4Addr, to: SocketAddr, lines: &str) -> (u16, Client) {
    let mut client = Client::raw_from(from, to);
    client.bytes(head(PATH).replace("\r\n\r\n", &format!("\r\n{lines}\r\n")).as_bytes());
    (client.answer(), client)
}

fn limited(connections: usize) -> Setup {
    Setup::new()
        .set("threads", 2)
        .set("limits.connections_per_address_max", connections)
        .set("trusted_proxies", r#"["127.0.0.1"]"#)
}

/// The log's only line about an address with too many connections.
fn told_full(daemon: &Daemon) -> String {
    daemon.await_log("limits.connections_per_address_max", 1);
    daemon.logged("limits.connections_per_address_max").remove(0)
}

#[test]
fn an_address_may_have_so_many_connections_and_another_when_one_has_ended() {
    let daemon = limited(2).start();
    let mut here: Vec<Client> = (0..2).map(|_| Client::raw_from(own(5), daemon.address)).collect();
    daemon.await_metric("connections", 2);
    let (status, text) = {
        let mut third = Client::raw_from(own(5), daemon.address);
        third.response()
    };
    assert!(status == 429 && text.contains("Retry-After: "), "{status} {text}");
    assert_eq!(daemon.metric(LIMITED), 1);
    assert!(told_full(&daemon).contains("127.0.0.5 has 2 already"));
    assert_eq!(come(own(6), daemon.address, "").0, 101, "another address");
    drop(here.pop());
    eventually("there is room for another", || come(own(5), daemon.address, "").0 == 101);
    daemon.assert_works();
}

#[test]
fn a_limit_that_a_reload_brings_counts_the_connections_that_are_here() {
    let setup = Setup::new();
    let daemon = setup.start();
    let _here: Vec<Client> = (0..3).map(|_| come(own(5), daemon.address, "").1).collect();
    let file = daemon.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[limits]\nconnections_per_address_max = 3\n")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    eventually("the fourth is refused", || come(own(5), daemon.address, "").0 == 429);
    assert_eq!(come(own(6), daemon.address, "").0, 101);
}

#[test]
fn who_is_no_trusted_proxy_is_not_believed() {
    let daemon = limited(1).start();
    let _first = come(own(5), daemon.address, "X-Forwarded-For: 192.0.2.1\r\n");
    let forged = "X-Forwarded-For: 192.0.2.2\r\nForwarded: for=192.0.2.2\r\n";
    assert_eq!(come(own(5), daemon.address, forged).0, 429);
    assert!(told_full(&daemon).contains("127.0.0.5 has 1 already"));
}

#[test]
fn behind_nginx_each_client_has_its_own_limit_whatever_it_says_of_itself() {
    let daemon = limited(1).start();
    let Some(nginx) = Nginx::before(daemon.address, APPENDS) else { return };
    let (first, _here) = come(own(5), nginx.address, "");
    assert_eq!(first, 101);
    assert_eq!(come(own(5), nginx.address, "X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n").0, 429);
    assert!(
        told_full(&daemon).contains("refused: 127.0.0.5: address_limit (127.0.0.5 has 1 already")
    );
    let (other, _there) = come(own(6), nginx.address, "X-Forwarded-For: 127.0.0.5\r\n");
    assert_eq!(other, 101);
    assert_eq!(daemon.metric(LIMITED), 1);
}

#[test]
fn a_forwarded_header_that_nginx_lets_through_is_not_believed_against_its_own() {
    let daemon = limited(1).start();
    let Some(nginx) = Nginx::before(daemon.address, APPENDS) else { return };
    let (status, _client) = come(own(5), nginx.address, "Forwarded: for=192.0.2.1\r\n");
    assert_eq!(status, 101);
    daemon.await_log(
        "X-Forwarded-For and Forwarded of a request from 127.0.0.1 name different clients",
        1,
    );
    assert_eq!(daemon.metric("log_events_total{line=\"proxy_contradicted\"}"), 1);
    let (status, _other) = come(own(5), nginx.address, "Forwarded: for=127.0.0.5\r\n");
    assert_eq!(status, 101, "the two agree");
}

#[test]
fn forwarded_alone_is_read_too() {
    let daemon = limited(1).start();
    let Some(nginx) =
        Nginx::before(daemon.address, "proxy_set_header Forwarded \"for=$remote_addr\";")
    else {
        return;
    };
    let (status, _here) = come(own(5), nginx.address, "Forwarded: for=192.0.2.1\r\n");
    assert_eq!(status, 101);
    assert_eq!(come(own(5), nginx.address, "").0, 429);
    assert!(
        told_full(&daemon).contains("refused: 127.0.0.5: address_limit (127.0.0.5 has 1 already")
    );
}

#[test]
fn haproxy_tells_the_client_in_both_versions_of_the_proxy_protocol() {
    for words in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let daemon = limited(1).set("listen.0.proxy_protocol", true).start();
        let Some(haproxy) = Haproxy::before(daemon.address, "tcp", words) else { return };
        let (status, mut here) = come(own(5), haproxy.address, "");
        assert_eq!(status, 101, "{words}");
        assert_eq!(
            come(own(5), haproxy.address, "X-Forwarded-For: 192.0.2.1\r\n").0,
            429,
            "{words}"
        );
        let line = told_full(&daemon);
        assert!(line.contains("refused: 127.0.0.5:") && line.contains("127.0.0.5 has 1"), "{line}");
        assert_eq!(come(own(6), haproxy.address, "").0, 101, "{words}");
        here.follow();
        daemon.publisher().send(event("works", "through"));
        assert!(here.text().contains("through"));
    }
}

#[test]
fn the_preamble_comes_before_tls_and_a_refusal_before_its_handshake() {
    let authority = Authority::new();
    let daemon = limited(1).tls(&authority).set("listen.0.proxy_protocol", true).start();
    let Some(haproxy) = Haproxy::before(daemon.address, "tcp", "send-proxy-v2") else { return };
    let client = authority.client();
    let mut here = Client::raw_from(own(5), haproxy.address).encrypted(&client).unwrap();
    here.bytes(head(PATH).as_bytes());
    assert_eq!(here.answer(), 101);
    here.follow();
    assert!(Client::raw_from(own(5), haproxy.address).encrypted(&client).is_err());
    assert!(told_full(&daemon).contains("127.0.0.5 has 1 already"));
    daemon.publisher().send(event("works", "encrypted"));
    assert!(here.text().contains("encrypted"));
}

#[test]
fn haproxy_in_http_mode_adds_to_the_headers_that_the_client_has_sent() {
    let daemon = limited(1).start();
    let words = "\noption forwardfor";
    let Some(haproxy) = Haproxy::before(daemon.address, "http", words) else { return };
    let (status, _here) = come(own(5), haproxy.address, "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(status, 101);
    assert_eq!(come(own(5), haproxy.address, "").0, 429);
    assert!(
        told_full(&daemon).contains("refused: 127.0.0.5: address_limit (127.0.0.5 has 1 already")
    );
}

fn proxied() -> Setup {
    limited(1).set("listen.0.proxy_protocol", true).set("limits.handshake_timeout_s", 1)
}

#[test]
fn a_preamble_may_come_in_single_bytes_and_together_with_the_request() {
    let daemon = proxied().start();
    let mut client = Client::raw(daemon.address);
    for byte in b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n" {
        client.bytes(&[*byte]);
    }
    client.bytes(head(PATH).as_bytes());
    assert_eq!(client.answer(), 101);
    let mut other = Client::raw(daemon.address);
    other.bytes(format!("PROXY TCP6 2001:db8::ffff 2001:db8::2 1 80\r\n{}", head(PATH)).as_bytes());
    assert_eq!(other.answer(), 429, "the same subscriber");
    assert!(
        told_full(&daemon)
            .contains("refused: [2001:db8::ffff]:1: address_limit (2001:db8:: has 1 already")
    );
    let mut own = Client::raw(daemon.address);
    own.bytes(format!("PROXY UNKNOWN\r\n{}", head(PATH)).as_bytes());
    assert_eq!(own.answer(), 101, "the proxy itself");
}

#[test]
fn what_does_not_begin_with_a_preamble_is_refused_at_once_and_silence_in_time() {
    let daemon = proxied().start();
    let mut direct = Client::raw(daemon.address);
    direct.bytes(head(PATH).as_bytes());
    let (status, text) = direct.response();
    assert!(
        status == 400 && text.contains("proxies that speak the PROXY protocol"),
        "{status} {text}"
    );
    daemon.await_log("proxy_header (no PROXY protocol", 1);
    let mut partly = Client::raw(daemon.address);
    partly.bytes(b"PROXY TCP4 192.0.2.1");
    assert_eq!(partly.response().0, 408);
    let mut silent = Client::raw(daemon.address);
    assert_eq!(silent.response().0, 408);
    daemon.await_metric("connections", 0);
}

#[test]
fn a_listener_for_proxies_takes_nobody_else() {
    let daemon = proxied().start();
    let (status, _) = come(own(5), daemon.address, "");
    assert_eq!(status, 400);
    daemon.await_log("trusted_proxies does not have 127.0.0.5", 1);
    assert_eq!(daemon.metric("refusals_total{reason=\"proxy_untrusted\"}"), 1);
}

#[test]
fn the_nginx_of_the_manual_tells_who_the_client_is_whatever_that_says_itself() {
    let daemon = limited(1).start();
    let [location, _] = &shown("proxies", "nginx")[..] else { panic!("the page has two") };
    let location =
        placed(location, &[("http://127.0.0.1:8080", format!("http://{}", daemon.address))]);
    let Some(nginx) = Nginx::of(&format!("server {{\nlisten 8081;\n{location}}}\n")) else {
        return;
    };
    let forged = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n";
    let (status, mut here) = come(own(5), nginx.address, forged);
    assert_eq!(status, 101);
    assert_eq!(come(own(5), nginx.address, forged).0, 429);
    assert!(told_full(&daemon).contains("127.0.0.5 has 1 already"));
    assert_eq!(come(own(6), nginx.address, forged).0, 101);
    here.follow();
    daemon.publisher().send(event("works", "through"));
    assert!(here.text().contains("through"));
}

#[test]
fn the_upstreams_of_the_manuals_nginx_leave_out_a_daemon_that_takes_nobody() {
    let daemon = Setup::new().start();
    let [_, upstream] = &shown("proxies", "nginx")[..] else { panic!("the page has two") };
    // Nobody listens at the first.
    let places = [
        ("10.0.0.1:8080", "127.0.0.1:1".to_owned()),
        ("10.0.0.2:8080", daemon.address.to_string()),
    ];
    let Some(nginx) = Nginx::of(&placed(upstream, &places)) else { return };
    let clients: Vec<(u16, Client)> = (0..4).map(|_| come(own(5), nginx.address, "")).collect();
    assert!(clients.iter().all(|(status, _)| *status == 101));
}

#[test]
fn the_haproxy_of_the_manual_tells_the_client_and_leaves_tls_to_the_daemon() {
    let authority = Authority::new();
    let daemon = limited(1).tls(&authority).set("listen.0.proxy_protocol", true).start();
    let [passing, _] = &shown("proxies", "haproxy")[..] else { panic!("the page has two") };
    let places = [("10.0.0.2:8443", daemon.address.to_string())];
    let Some(haproxy) = Haproxy::of(&placed(passing, &places)) else { return };
    let client = authority.client();
    let mut here = Client::raw_from(own(5), haproxy.address).encrypted(&client).unwrap();
    here.bytes(head(PATH).as_bytes());
    assert_eq!(here.answer(), 101);
    assert!(Client::raw_from(own(5), haproxy.address).encrypted(&client).is_err());
    assert!(told_full(&daemon).contains("127.0.0.5 has 1 already"));
    here.follow();
    daemon.publisher().send(event("works", "encrypted"));
    assert!(here.text().contains("encrypted"));
}
