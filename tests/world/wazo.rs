//! Wazo's websocketd over real sockets, alone on a listener and beside the event bus.

use crate::harness::{
    Client, DEADLINE, Daemon, SECRET, Setup, command, head, http, pypi, skip, succeed, tools,
};
use fanfare::dialect::client::ClientWish;
use fanfare::token::{Algorithm, mint};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

const EVENT: &str = r#"{"name":"n","required_acl":"events.n"}"#;

pub(crate) fn setup(dialects: &str) -> Setup {
    let setup = Setup::new();
    let secret = setup.path("jwt.secret");
    setup
        .set("listen.0.dialects", dialects)
        .set("wazo.token.jwt.algorithms", "[\"HS256\"]")
        .set("wazo.token.jwt.secret_file", secret.display())
}

pub(crate) fn token(expires_in_s: u64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({
        "acl": ["websocketd", "events.#"],
        "sub": "ann",
        "tenant_uuid": "tenant",
        "session_uuid": "session",
        "exp": now_s + expires_in_s,
    });
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

/// A client that follows everything.
pub(crate) fn follower(daemon: &Daemon, token: &str) -> Client {
    follower_at(daemon.address, token)
}

/// The same at another listener.
pub(crate) fn follower_at(address: SocketAddr, token: &str) -> Client {
    let (token, names) = (Some(token.to_owned()), vec!["*".to_owned()]);
    Client::following(address, "wazo", "/", ClientWish { token, names, ..ClientWish::default() })
}

#[test]
fn websocket_client_of_pypi_does_what_the_example_page_does() {
    let python = tools().join("python/bin/python");
    if !python.exists() {
        return skip("websocket-client with Wazo", "it is not installed; tests/run does it");
    }
    let daemon = setup(r#"["wazo"]"#).set("threads", 2).start();
    let url = format!("ws://{}/", daemon.address);
    succeed(pypi("wazo.py").arg(url).arg(daemon.socket()).arg(token(3600)));
    daemon.await_metric("connections", 0);
}

#[test]
fn a_plain_request_gets_a_page_or_is_told_to_upgrade() {
    let daemon = setup(r#"["wazo", "personium-event"]"#).start();
    let plain =
        |line: &str| http(daemon.address, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    for (line, status, expected) in [
        ("GET /", 200, "WebSocket endpoint"),
        ("GET /?token=x", 200, "WebSocket endpoint"),
        ("GET /x", 426, "Upgrade: websocket\r\n"),
        ("HEAD /", 200, "Content-Length: "),
        ("HEAD /x", 426, "Upgrade: websocket\r\n"),
        ("POST /", 426, "Upgrade: websocket\r\n"),
        ("GET /demo/__event", 405, "Allow: GET\r\n"),
    ] {
        let (found, rest) = plain(line);
        assert_eq!(found, status, "{line}: {rest}");
        assert!(
            rest.contains(expected) && rest.contains("Connection: close\r\n"),
            "{line}: {rest}"
        );
    }
    daemon.await_metric("connections", 0);
    daemon.assert_works();
}

#[test]
fn it_is_asked_last_whatever_the_order_of_the_listener() {
    let daemon = setup(r#"["wazo", "personium-event"]"#).start();
    let mut bus = daemon.subscriber();
    let mut wazo = follower(&daemon, &token(3600));
    let mut publisher = daemon.publisher();
    publisher.send(format!("wazo {EVENT}\nwazo/tenant/ann {EVENT}\nwazo/tenant/bob {EVENT}\n"));
    publisher.send(format!("wazo {}\n", EVENT.replace("events.n", "secret")));
    publisher.send("event/demo {\"Type\":\"t\",\"Object\":\"o\"}\n");
    assert_eq!(publisher.receipt(), (5, 0));
    assert_eq!([wazo.text(), wazo.text()], [EVENT, EVENT]);
    assert_eq!(bus.text(), "{\"Type\":\"t\",\"Object\":\"o\"}");
    daemon.await_metric("deliveries_total{dialect=\"wazo\"}", 2);
    assert_eq!(daemon.metric("acl_denied_total{dialect=\"wazo\"}"), 1);
    publisher.send("wazo {\"name\":\"auth_session_deleted\",\"data\":{\"uuid\":\"session\"}}\n");
    assert_eq!(wazo.close_code(), 4003);
    wazo.frame(0x88, b"\x0f\xa3");
    assert!(wazo.ends_within(DEADLINE));
    daemon.await_metric("subscriptions", 1);
    assert_eq!(daemon.metric("session_ends_total{reason=\"revoked\"}"), 1);
    daemon.assert_works();
}

#[test]
fn nothing_is_kept_of_a_request_for_no_websocket() {
    let daemon = setup(r#"["wazo"]"#).start();
    let request = format!("GET /?token={} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(15 * 1024));
    let round = || {
        (0..500).for_each(|_| assert_eq!(http(daemon.address, request.as_bytes()).0, 200));
        daemon.memory_bytes()
    };
    let (before, after) = (round(), round());
    assert!(after < before + (1 << 20), "{before} bytes, then {after}");
}

#[test]
fn an_idle_session_ends_with_its_token() {
    let daemon = setup(r#"["wazo"]"#).start();
    let mut brief = follower(&daemon, &token(2));
    assert_eq!(brief.close_code(), 4003);
}

#[test]
fn a_reload_takes_new_keys_and_sessions_stay() {
    let daemon = setup(r#"["wazo"]"#).start();
    let mut client = follower(&daemon, &token(3600));
    std::fs::write(daemon.path("jwt.secret"), "another secret, which is as long as it has to be")
        .unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    daemon.publisher().send(format!("wazo {EVENT}\n"));
    assert_eq!(client.text(), EVENT);
    client.say(&format!(r#"{{"op":"token","data":{{"token":"{}"}}}}"#, token(3600)));
    assert_eq!(client.close_code(), 4002);
}

#[test]
fn subscribe_follows_names_and_says_why_it_cannot() {
    let daemon = setup(r#"["wazo"]"#).start();
    let url = format!("ws://{}/", daemon.address);
    let good = token(3600);
    for (arguments, status, reason) in [
        (&["--event", "n"][..], 1, "code 4001"),
        (&["--event", "n", "--token", "nonsense"], 1, "without \"websocketd\""),
        (&["--event", "n", "--token", &good, "--type", "t"], 2, "--type is for the event bus"),
        (&["--event", "n", "--token", &good, "--send", "nonsense"], 1, "code 4004"),
    ] {
        let mut subscribe = command(&[&["subscribe", &url], arguments].concat());
        let output = subscribe.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(status) && said.contains(reason),
            "{}: {said}",
            output.status
        );
        assert!(!said.contains(&good));
    }
    let arguments =
        ["subscribe", &url, "--event", "n", "--event", "m", "--token", &good, "--count", "2"];
    let follow = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.await_metric("subscriptions", 3);
    daemon.await_metric("messages_total{dialect=\"wazo\"}", 3 + 3);
    let mut publisher = daemon.publisher();
    let other = EVENT.replace("\"n\"", "\"m\"");
    publisher
        .send(format!("wazo {}\nwazo {EVENT}\nwazo {other}\n", EVENT.replace("\"n\"", "\"o\"")));
    let output = follow.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{EVENT}\n{other}\n"));
}

#[test]
fn no_log_line_and_no_metric_holds_a_token() {
    let mut daemon = setup(r#"["wazo"]"#).set("log.level", "debug").start();
    let good = token(3600);
    let bad = "garbage-token-0123456789";
    for token in [&good, bad] {
        for path in [format!("/?token={token}"), format!("/{token}?token={token}&version=3")] {
            let mut client = Client::raw(daemon.address);
            client.bytes(head(&path).as_bytes());
            assert_eq!(client.answer(), 101);
            client.say(&format!(r#"{{"op":"token","data":{{"token":"{token}"}}}}"#));
            client.say(&format!(r#"{{"op":"{token}"}}"#));
            while client.next().is_some_and(|frame| frame.first != 0x88) {}
        }
        let header = format!("Host: x\r\nX-Auth-Token: {token}");
        let mut client = Client::raw(daemon.address);
        client.bytes(head("/").replace("Host: localhost", &header).as_bytes());
        assert_eq!(client.answer(), 101);
        assert_eq!(client.next().unwrap().first == 0x81, token == good);
        assert_eq!(
            http(
                daemon.address,
                format!("GET /?token={token} HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()
            )
            .0,
            200
        );
        daemon.publisher().send(format!(
            "wazo {{\"name\":\"auth_session_deleted\",\"data\":{{\"uuid\":\"{token}\"}}}}\n"
        ));
    }
    let seen = daemon.page("/metrics").1;
    daemon.signal(Signal::TERM);
    daemon.wait();
    let seen = seen + &daemon.log().join("\n");
    assert!(seen.contains("DEBUG"), "nothing is logged at debug level");
    for secret in [&good[..], bad, good.rsplit('.').next().unwrap(), SECRET] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}
