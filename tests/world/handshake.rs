//! Requests: right ones in every shape, and wrong ones with the status that each deserves.

use crate::harness::{Client, PATH, Setup, head, http};
use std::time::Duration;

/// The correct request with one header line replaced, or left out when it is to be nothing.
fn with(line: &str, other: &str) -> Vec<u8> {
    let head = head(PATH);
    assert!(head.contains(line));
    let other = if other.is_empty() { String::new() } else { format!("{other}\r\n") };
    head.replace(&format!("{line}\r\n"), &other).into_bytes()
}

#[test]
fn a_malformed_request_is_refused_with_its_status() {
    const VERSION: &str = "Sec-WebSocket-Version: 13";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const GET: &str = "GET /demo/__event HTTP/1.1";
    let daemon = Setup::new().start();
    for (what, request, status) in [
        ("no upgrade", with("Upgrade: websocket", ""), 426),
        ("another upgrade", with("Upgrade: websocket", "Upgrade: h2c"), 426),
        ("no handshake", format!("{GET}\r\nHost: x\r\n\r\n").into_bytes(), 405),
        ("no connection", with("Connection: Upgrade", ""), 400),
        ("another connection", with("Connection: Upgrade", "Connection: keep-alive"), 400),
        ("no version", with(VERSION, ""), 426),
        ("an old version", with(VERSION, "Sec-WebSocket-Version: 8"), 426),
        ("a version that is no number", with(VERSION, "Sec-WebSocket-Version: 13, 8"), 426),
        ("no key", with(KEY, ""), 400),
        ("an empty key", with(KEY, "Sec-WebSocket-Key:"), 400),
        ("a short key", with(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="), 400),
        ("a key that is no base64", with(KEY, "Sec-WebSocket-Key: ?GhlIHNhbXBsZSBub25jZQ=="), 400),
        ("two versions", with(VERSION, &format!("{VERSION}\r\n{VERSION}")), 426),
        ("two keys", with(KEY, &format!("{KEY}\r\n{KEY}")), 400),
        ("no host", with("Host: localhost", ""), 400),
        ("two hosts", with("Host: localhost", "Host: demo.unit.example\r\nHost: localhost"), 400),
        ("the same host twice", with("Host: localhost", "Host: localhost\r\nHost: localhost"), 400),
        ("a host that is none", with("Host: localhost", "Host: a b"), 400),
        ("a body", with(VERSION, &format!("{VERSION}\r\nContent-Length: 6")), 400),
        ("a length that is none", with(VERSION, &format!("{VERSION}\r\nContent-Length: -1")), 400),
        (
            "two lengths",
            with(VERSION, &format!("{VERSION}\r\nContent-Length: 0\r\nContent-Length: 0")),
            400,
        ),
        ("chunks", with(VERSION, &format!("{VERSION}\r\nTransfer-Encoding: chunked")), 400),
        ("POST", with(GET, "POST /demo/__event HTTP/1.1"), 405),
        ("HTTP/1.0", with(GET, "GET /demo/__event HTTP/1.0"), 426),
        ("an unknown path", with(GET, "GET /demo/__events HTTP/1.1"), 404),
        ("an unknown path without an upgrade", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 404),
        ("no HTTP", b"\x17\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("an empty line", b"\r\n\r\n".to_vec(), 400),
        ("folded headers", with(VERSION, "Sec-WebSocket-Version:\r\n 13"), 400),
    ] {
        let (found, rest) = http(daemon.address, &request);
        assert_eq!(found, status, "{what}: {rest}");
        assert!(rest.contains("Connection: close"), "{what}: {rest}");
        if status == 426 {
            assert!(rest.contains("Sec-WebSocket-Version: 13\r\n"), "{what}: {rest}");
        }
        if status == 405 {
            assert!(rest.contains("Allow: GET\r\n"), "{what}: {rest}");
        }
    }
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("handshakes_total{outcome=\"accepted\"}"), 0);
    assert_eq!(daemon.metric("handshakes_total{outcome=\"not_found\"}"), 2);
    daemon.assert_works();
}

/// Headers that are lists are one list (RFC 9110 section 5.3).
#[test]
fn a_list_may_take_several_lines() {
    let daemon = Setup::new().start();
    for (line, lines) in [
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Connection: Upgrade", "Connection: Upgrade\r\nConnection: keep-alive"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
        ("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
    ] {
        let mut client = Client::raw(daemon.address);
        client.bytes(&with(line, lines));
        assert_eq!(client.answer(), 101, "{lines}");
        client.follow();
    }
}

/// nginx speaks HTTP/1.0 to what is behind it, and leaves out `Upgrade` and `Connection`, unless it is told otherwise.
#[test]
fn a_handshake_that_a_proxy_has_not_passed_on_is_told_what_the_proxy_needs() {
    const HTTP: &str = "proxy_http_version 1.1";
    let daemon = Setup::new().start();
    let old =
        |request: Vec<u8>| String::from_utf8(request).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let without = String::from_utf8(with("Upgrade: websocket", "")).unwrap();
    for (request, status, named) in [
        (old(without.replace("Connection: Upgrade", "Connection: close").into()), 426, HTTP),
        (old(with("Connection: Upgrade", "Connection: close")), 426, HTTP),
        (without.replace("Connection: Upgrade\r\n", ""), 426, "proxy_set_header Upgrade"),
        (
            String::from_utf8(with("Connection: Upgrade", "Connection: close")).unwrap(),
            400,
            "proxy_set_header Connection",
        ),
    ] {
        let (found, rest) = http(daemon.address, request.as_bytes());
        assert!(found == status && rest.contains(named), "{request}: {found} {rest}");
    }
}

#[test]
fn a_huge_head_and_too_many_headers_are_refused() {
    let daemon = Setup::new().start();
    let padded = |size: usize| {
        with("Host: localhost", &format!("Host: localhost\r\nX: {}", "x".repeat(size)))
    };
    let room = 16 * 1024 - padded(0).len();
    let mut client = Client::raw(daemon.address);
    client.bytes(&padded(room));
    assert_eq!(client.answer(), 101);
    assert_eq!(http(daemon.address, &padded(room + 1)).0, 431);
    let mut endless = Client::raw(daemon.address);
    while endless.try_bytes(&[b'x'; 4096]) {}
    let headers = |count: usize| {
        let more: String = (0..count).map(|n| format!("\r\nX-{n}: y")).collect();
        with("Host: localhost", &format!("Host: localhost{more}"))
    };
    let mut client = Client::raw(daemon.address);
    client.bytes(&headers(95));
    assert_eq!(client.answer(), 101);
    assert_eq!(http(daemon.address, &headers(96)).0, 431);
    assert_eq!(daemon.metric("handshakes_total{outcome=\"limit\"}"), 3);
    daemon.assert_works();
}

#[test]
fn a_slow_head_is_given_up_after_the_configured_time() {
    let daemon = Setup::new().set("limits.handshake_timeout_s", 1).start();
    let mut silent = Client::raw(daemon.address);
    let mut slow = Client::raw(daemon.address);
    slow.bytes(b"GET /demo/__event HTTP/1.1\r\nHost: ");
    assert_eq!(slow.response().0, 408);
    assert_eq!(silent.response().0, 408);
    daemon.await_metric("connections", 0);
    daemon.assert_works();
}

#[test]
fn a_head_may_come_in_any_pieces() {
    let daemon = Setup::new().start();
    let head = head(PATH);
    let mut client = Client::raw(daemon.address);
    for byte in head.bytes() {
        client.bytes(&[byte]);
    }
    assert_eq!(client.answer(), 101);
    client.follow();
    let mut clients: Vec<Client> = Vec::new();
    for split in 1..head.len() {
        let mut client = Client::raw(daemon.address);
        client.bytes(&head.as_bytes()[..split]);
        clients.push(client);
    }
    daemon.await_metric("connections", head.len() as u64);
    for (split, client) in (1..head.len()).zip(&mut clients) {
        client.bytes(&head.as_bytes()[split..]);
        assert_eq!(client.answer(), 101, "split at {split}");
    }
}

#[test]
fn what_follows_the_head_in_the_same_packet_is_read_as_frames() {
    let daemon = Setup::new().start();
    let mut good = Client::raw(daemon.address);
    let mut bytes = head(PATH).into_bytes();
    bytes.extend_from_slice(b"\x89\x80\x00\x00\x00\x00");
    good.bytes(&bytes);
    assert_eq!(good.answer(), 101);
    assert_eq!(good.next().unwrap().first, 0x8a);
    let mut garbage = Client::raw(daemon.address);
    garbage.bytes(format!("{}GET / HTTP/1.1\r\n\r\n", head(PATH)).as_bytes());
    assert_eq!(garbage.answer(), 101);
    assert_eq!(garbage.close_code(), 1002);
    assert!(garbage.ends_within(Duration::from_secs(3)));
    let mut refused = Client::raw(daemon.address);
    refused.bytes(format!("{}{}", head("/nothing"), head(PATH)).as_bytes());
    let (status, rest) = refused.response();
    assert_eq!((status, rest.matches("HTTP/1.1").count()), (404, 0), "a second answer: {rest}");
}

#[test]
fn strange_headers_are_ignored_and_change_nothing() {
    let daemon = Setup::new().start();
    let long = format!("Sec-WebSocket-Protocol: {}", "a,".repeat(6000));
    let spaces = format!("Sec-WebSocket-Protocol: {}", " ".repeat(12_000));
    for line in [
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Extensions: constructor, __proto__; hasOwnProperty=1",
        "Sec-WebSocket-Extensions: ;;;,,,=\"\\",
        "Sec-WebSocket-Protocol: wamp, \"mqtt\"",
        "Origin: https://elsewhere.example",
        "Upgrade: h2c",
        "Content-Length: 0",
        "Cookie: a=b; c=\"d",
        &long,
        &spaces,
    ] {
        let mut client = Client::raw(daemon.address);
        client.bytes(&with(
            "Connection: Upgrade",
            &format!("Connection: keep-alive, upgrade\r\n{line}"),
        ));
        let (status, answer) = client.accepted();
        assert_eq!(status, 101, "{line:.80}");
        assert!(
            !answer.contains("Extensions") && !answer.contains("Protocol:"),
            "{line:.80}: {answer}"
        );
        client.follow();
    }
    for name in ["X-Name", "Sec-WebSocket-Protocol", "Origin", "Cookie"] {
        let mut bytes = with("Connection: Upgrade", &format!("Connection: Upgrade\r\n{name}: @@@"));
        let at = bytes.windows(3).position(|window| window == b"@@@").unwrap();
        bytes.splice(at..at + 3, [0xff, 0xfe, 0xe9]);
        let mut client = Client::raw(daemon.address);
        client.bytes(&bytes);
        assert_eq!(client.answer(), 101, "{name}");
    }
}

#[test]
fn a_cell_is_found_in_the_path_or_in_the_host() {
    let daemon = Setup::new().start();
    let request = |path: &str, host: &str| {
        head(path).replace("Host: localhost", &format!("Host: {host}")).into_bytes()
    };
    for (path, host, status) in [
        ("/demo/__event", "unit.example", 101),
        ("/demo/__event/", "unit.example", 101),
        ("/demo/__event?x=y", "unit.example", 101),
        ("/__event", "demo.unit.example", 101),
        ("/__event/?x=y", "demo.unit.example:8080", 101),
        ("/__event", "unit", 404),
        ("/__event", "127.0.0.1", 404),
        ("/a/b/__event", "unit.example", 404),
        ("//__event", "unit.example", 404),
        ("/demo/__event//", "unit.example", 404),
    ] {
        let mut client = Client::raw(daemon.address);
        client.bytes(&request(path, host));
        assert_eq!(client.answer(), status, "{path} at {host}");
        if status == 101 {
            client.follow();
        }
    }
}

#[test]
fn a_host_that_is_longer_than_any_name_is_refused() {
    let daemon = Setup::new().start();
    for (length, status) in [(259, 101), (260, 400)] {
        let mut client = Client::raw(daemon.address);
        client.bytes(head(PATH).replace("localhost", &"h".repeat(length)).as_bytes());
        assert_eq!(client.answer(), status, "{length}");
    }
}

#[test]
fn tls_where_none_is_spoken_is_told_so_at_once() {
    let daemon = Setup::new().start();
    for _ in 0..7 {
        let mut client = Client::raw(daemon.address);
        client.bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        assert_eq!(client.exactly(7), [0x15, 3, 3, 0, 2, 2, 40], "a fatal alert");
    }
    daemon.await_metric("handshakes_total{outcome=\"tls\"}", 7);
    // The rest is counted.
    daemon.await_log("a client speaks TLS", 5);
    assert_eq!(daemon.logged("a client speaks TLS").len(), 5, "{:?}", daemon.log());
    daemon.assert_works();
}
